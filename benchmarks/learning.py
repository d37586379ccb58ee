"""What each reader learns of planted truths: our presets, the networks of others, and readers that train no network.

``make bench-learning`` fills a table of cells (cohort, training patients, input, contender, seed) that is kept as it grows, so
that a night can be interrupted and goes on with the same command. No preset's recipe is changed without it: recipes are chosen
on the cohorts ``CHOOSING`` and reported on ``REPORTED``, which no choice has seen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass, fields
from itertools import islice, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from benchmarks.cells import append_cells, kept_cells
from benchmarks.learning_cohort import SIZES, LearningCohort, open_learning_cohort
from benchmarks.learning_figure import draw
from benchmarks.learning_networks import FOREIGN
from benchmarks.learning_readers import DEFAULT, READERS, read
from benchmarks.learning_summary import Key, rejections, summary, threshold_loss
from benchmarks.learning_training import train_ensemble, train_network
from benchmarks.table import RESULTS, BenchError, publish
from experiments.runtime.provenance import provenance
from experiments.runtime.quiet import quiet_libraries
from experiments.study.run_folder import Rows
from regions.catalog import REGIONS

CHOOSING, REPORTED = (100, 101, 102), (0, 1, 2, 3, 4)
"""Seeds of the cohorts on which recipes are chosen, and of those that are reported."""
NULL = "null"
PRESETS = ("coll_like", "literature", "single_region:subcortical_gray_matter", NULL)
OURS: Mapping[str, Sequence[str]] = {
    **{name: ("--preset", name) for name in ("default", "coll_like", "demo")},
    **{f"default, {name}": (*DEFAULT, "--model.objective", name) for name in ("classification", "regression")},
}
"""Our recipes: name -> settings."""
THEIRS: Mapping[str, Sequence[str]] = {name: (*DEFAULT, "--network", path) for name, path in FOREIGN.items()}
"""Networks of others, with the default preset's recipe and epochs."""
ENCODERS: Mapping[str, Sequence[str]] = {
    f"{weights} {tune}": (*DEFAULT, "--network", "PretrainedEncoder", "--network.weights", weights, "--network.tune", tune)
    for weights in ("deepbet", "random-deepbet", "hd-bet", "random-hd-bet")
    for tune in ("last", "all")
    if not (weights.startswith("random") and tune == "last")
}
"""Both pretrained encoders fine-tuned, beside random weights of the same architecture; frozen ones are among the readers."""
RECIPES: Mapping[str, Sequence[str]] = {**OURS, **THEIRS, **ENCODERS}
ENSEMBLES: Mapping[str, int] = {"default, 3 seeds": 3}
"""Networks of the default recipe whose log odds are averaged: name -> their number; seed s takes seeds from s times it on."""
CONTENDERS = (*READERS, *RECIPES, *ENSEMBLES)
CELLS = RESULTS / "learning_cells.tsv"
UNFINISHED = Path("cohorts/benchmarks/unfinished")
"""``<commit>/<cell>/``: the trainings under way. Another commit's are not gone on with."""


@dataclass(frozen=True)
class Cell:
    """One reader of one input of one cohort."""

    preset: str
    cohort: int
    patients: int
    input: str
    contender: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What it reached on the test part."""

    auc: float
    balanced_accuracy: float
    threshold: float
    epochs: int
    seconds: float
    revision: str


def measure(cell: Cell) -> Outcome:
    """Fit or train, and predict the test part."""
    quiet_libraries()
    cohort = open_learning_cohort(cell.preset, cell.cohort, cell.patients)
    revision = str(provenance()["git_commit"] or "")[:10]
    if cell.contender in READERS:
        began, y = time.perf_counter(), cohort.labels[cohort.parts["internal_test"]]
        p, facts = read(cohort, cell.input, cell.contender, cell.seed)
        facts = {**facts, "seconds": time.perf_counter() - began}
    else:
        unfinished = UNFINISHED / revision / "-".join(map(str, astuple(cell)))
        unfinished.mkdir(parents=True, exist_ok=True)
        rows, facts = _trained(cohort, cell, unfinished)
        y, p = rows.of("internal_test").y, rows.of("internal_test").p
        shutil.rmtree(unfinished)
    return Outcome(
        auc=float(roc_auc_score(y, p)),
        balanced_accuracy=float(balanced_accuracy_score(y, p >= facts["threshold"])),
        threshold=facts["threshold"],
        epochs=int(facts.get("epochs", 0)),
        seconds=facts["seconds"],
        revision=revision,
    )


def _trained(cohort: LearningCohort, cell: Cell, unfinished: Path) -> tuple[Rows, dict[str, Any]]:
    if cell.contender not in ENSEMBLES:
        return train_network(cohort, cell.input, RECIPES[cell.contender], cell.seed, unfinished)
    count = ENSEMBLES[cell.contender]
    seeds = range(cell.seed * count, (cell.seed + 1) * count)
    return train_ensemble(cohort, cell.input, OURS["default"], seeds, unfinished)


def planned(options: argparse.Namespace) -> Iterator[Cell]:
    """The cells that were asked for: contender by contender, so that an early end leaves whole comparisons."""
    for contender, preset, size, cohort in product(options.contenders, options.presets, options.sizes, options.cohorts):
        seeds = (0,) if contender in READERS else options.seeds
        for seed, name in product(seeds, options.inputs):
            yield Cell(preset, cohort, size, name, contender, seed)


def read_cells() -> dict[Cell, Outcome]:
    """The cells that are kept."""
    return {_made(Cell, row): _made(Outcome, row) for row in kept_cells(CELLS)}


def _made(kind: type, row: dict[str, str]):  # type: ignore[no-untyped-def]
    casts = {"int": int, "float": float, "str": str}
    return kind(**{field.name: casts[str(field.type)](row[field.name]) for field in fields(kind)})


def in_order(cell: Cell) -> tuple[int, ...]:
    """Where a cell stands in the table, whenever it was measured."""
    places = PRESETS.index(cell.preset), cell.patients, [*REGIONS].index(cell.input), CONTENDERS.index(cell.contender)
    return *places, cell.cohort, cell.seed


def keep(cell: Cell, outcome: Outcome) -> None:
    """Append one cell to the file."""
    append_cells(CELLS, [asdict(cell) | asdict(outcome)])


def fill(cells: Sequence[Cell], processes: int, minutes: float) -> None:
    """Measure cells, two or more at a time, until all are kept or the time is over."""
    began, done = time.perf_counter(), 0
    failed: list[str] = []
    for cell in {(cell.preset, cell.cohort): cell for cell in cells}.values():
        open_learning_cohort(cell.preset, cell.cohort, cell.patients)
    waiting = iter(cells)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(measure, cell): cell for cell in islice(waiting, processes)}
        while running:
            future = next(as_completed(running))
            cell, error = running.pop(future), future.exception()
            if error is None:
                keep(cell, future.result())
                reached = f"AUC {future.result().auc:.3f}, {future.result().seconds:.0f} s"
            else:
                failed.append(reached := f"{type(error).__name__}: {error}".partition("\n")[0])
            done += 1
            spent = (time.perf_counter() - began) / 60
            left = spent / done * (len(cells) - done)
            words = " ".join(map(str, astuple(cell)))
            print(f"{done}/{len(cells)} {words}: {reached}; {left:.0f} min left", flush=True)
            following = next(waiting, None) if spent < minutes else None
            if following is not None:
                running[pool.submit(measure, following)] = following
    if failed:
        raise BenchError(f"{len(failed)} of {len(cells)} cells failed, the others are kept; the first: {failed[0]}")


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning", description=__doc__)
    several = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument("--presets", default=["coll_like"], choices=PRESETS, **several)  # type: ignore[arg-type]
    parser.add_argument("--sizes", default=list(SIZES), type=int, choices=SIZES, **several)  # type: ignore[arg-type]
    parser.add_argument("--inputs", default=list(REGIONS), choices=list(REGIONS), **several)  # type: ignore[arg-type]
    parser.add_argument("--contenders", default=list(CONTENDERS), choices=CONTENDERS, **several)  # type: ignore[arg-type]
    parser.add_argument("--cohorts", default=list(REPORTED), type=int, help="seeds of the cohorts", **several)  # type: ignore[arg-type]
    parser.add_argument("--seeds", default=[0], type=int, help="seeds of each network", **several)  # type: ignore[arg-type]
    parser.add_argument("--processes", default=os.cpu_count() or 1, type=int, help="cells at a time")
    parser.add_argument("--minutes", default=np.inf, type=float, help="begin no cell after this time")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure what is missing, then print and keep the table and the figure of the reported cohorts."""
    options = options_of(arguments)
    kept = read_cells()
    fill([cell for cell in planned(options) if cell not in kept], options.processes, options.minutes)
    cells = sorted(read_cells().items(), key=lambda kept: in_order(kept[0]))
    reported = {astuple(cell): outcome.auc for cell, outcome in cells if cell.cohort in REPORTED}
    if not reported:
        raise BenchError(f"{CELLS} has no cell of the reported cohorts {REPORTED}; leave --cohorts out")
    _publish_learned(reported)
    _publish_lost({astuple(cell): (at.auc, at.balanced_accuracy) for cell, at in cells if cell.cohort not in CHOOSING})
    _publish_null(reported)
    return 0


def _publish_learned(auc: Mapping[Key, float]) -> None:
    notes = [
        "AUC on 300 patients that no reader has seen: mean over cohorts, 95 % interval of the mean (t) over cohorts.",
        "default minus: paired difference over the cohorts that both were measured on, with the same interval.",
    ]
    rows = summary(auc)
    publish("learning", "What each reader learns", rows, notes)
    draw(rows, CONTENDERS)


def _publish_lost(cells: Mapping[Key, tuple[float, float]]) -> None:
    notes = [
        "Balanced accuracy on 300 new patients: at the tuning part's threshold, and at best of normal scores with that AUC.",
        "Cohorts on which no recipe was chosen, all inputs that were measured.",
    ]
    publish("learning_threshold", "What the thresholds lose", threshold_loss(cells), notes)


def _publish_null(auc: Mapping[Key, float]) -> None:
    without = sorted({cell[1] for cell in auc if cell[0] == NULL})
    if without:
        rows = rejections(auc, {cohort: test_classes(NULL, cohort) for cohort in without})
        notes = ["Cells whose AUC differs from 0.5 at 5 % (Mann and Whitney 1947) where no input carries a signal."]
        publish("learning_null", "What each reader finds where there is nothing", rows, notes)


def test_classes(preset: str, cohort: int) -> tuple[int, int]:
    """Negative and positive scans of a cohort's test part."""
    opened = open_learning_cohort(preset, cohort, min(SIZES))
    negative, positive = np.bincount(opened.labels[opened.parts["internal_test"]], minlength=2).tolist()
    return negative, positive
