"""Is the region that networks look at the one in which a truth was planted, and is none found where nothing was?

Whole-brain networks on phantom cohorts of which one region differs, and on cohorts of which none does; seven folds, demo
preset. A design is the patients of a cohort, the size of a voxel, and settings beside the preset's; each has rows of its own.
Cells are kept as they come, so that the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.cells import append_cells, kept_cells
from benchmarks.table import RESULTS, BenchError, publish
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.explaining.jobs import jobs_of
from experiments.explaining.rules import may_look
from experiments.explaining.setup import Explained, Method, open_explained
from experiments.explaining.summary import gate, summary_of
from experiments.explaining.work import explain_missing
from experiments.runtime.quiet import quiet_libraries
from experiments.study.grid import planned_runs
from experiments.study.opening import open_with_progress
from experiments.study.settings import parse_settings
from experiments.training.run import fold

PLANTED = ("ventricles", "brainstem", "gray_matter", "subcortical_gray_matter")
NULL = "null"
CELLS = RESULTS / "explain_cells.tsv"
LEAST_AUC = 0.8
"""AUC from which the planted region must be found."""
DRAWS = 2000
Design = tuple[str, str, str]
"""Patients, side of a voxel in mm, settings, as the file has them."""
DESIGN = ("patients", "voxel_mm", "settings")


def design_of(options: argparse.Namespace) -> Design:
    """The design that is asked for."""
    return str(options.patients), f"{options.spacing:g}", " ".join(options.settings.split())


def explained_cohort(folder: Path, preset: str, seed: int, options: argparse.Namespace) -> Explained:
    """A cohort that was drawn and whose whole-brain networks were trained."""
    place, console = folder / f"{preset.replace(':', '-')}-{seed}", Console(quiet=True)
    cohort = place / "cohort"
    phantom = PhantomOptions(preset, patients=options.patients, scans=options.patients, spacing_mm=options.spacing, seed=seed)
    if not cohort.is_dir():
        write_phantom_cohort(cohort, phantom)
    where = {"cohort": cohort, "study": "planted", "studies": place, "store": place / "store", "tracking.mode": "disabled"}
    words = ["--preset", "demo", *(f"--{name}={value}" for name, value in where.items()), *options.settings.split()]
    settings = parse_settings(words)
    study = open_with_progress(settings, console)
    runs = planned_runs(settings, "global")
    for run in runs:
        fold(settings, study, run, console, quiet=True)
    return open_explained(study.folder, {"global": runs}, Method(options.draws, options.sigma, options.networks, seed), console)


def measure(explained: Explained) -> Iterator[dict[str, Any]]:
    """A row for each region, whatever the AUC: what the rules would hide is counted, too."""
    chance = gate(explained, DRAWS)["global"]
    jobs = jobs_of(explained, "global")
    explain_missing(explained, jobs, Console(quiet=True))
    found = summary_of(explained, "global", jobs, DRAWS)
    for region in found["regions"]:
        change = region["occlusion"]
        yield {
            "AUC": chance["auc"]["value"],
            "explained": int(may_look(chance["chance"])),
            "shown": int(found["state"] == "shown"),
            "agreement": found["agreement"]["folds"],
            "agreement_permuted": found["agreement"]["permuted"],
            "agreement_p": found["agreement"]["p"],
            "region": region["name"],
            "density": region["density"],
            "gradient": region["gradient"],
            "permuted": region["permuted"],
            "untrained": region["untrained"],
            "ratio": region["ratio"],
            "p": region["p"],
            "p_holm": region["p_holm"],
            "above": region["above"],
            "beyond": int(region["beyond"]),
            "needed": int(region["needed"]),
            "relevant": int(region["relevant"]),
            "auc_loss": change["difference"]["value"],
            "log_odds_loss": change["log_odds"]["value"],
            "occlusion_p": change["p_holm"],
            "verdict": region["verdict"],
        }


def keep(design: Design, preset: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append the rows of a cohort to the file."""
    head = {**dict(zip(DESIGN, design, strict=True)), "preset": preset, "cohort": seed}
    append_cells(CELLS, [head | dict(row) for row in rows])


def read_cells() -> list[dict[str, str]]:
    """The rows that are kept."""
    return kept_cells(CELLS)


def summary(cells: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """For each design one row for each planted region, and one for the cohorts where nothing was planted."""
    rows = []
    for design in dict.fromkeys(tuple(cell[name] for name in DESIGN) for cell in cells):
        own = [cell for cell in cells if tuple(cell[name] for name in DESIGN) == design]
        presets = {cell["preset"] for cell in own}
        planted = [_planted_row(name, own) for name in PLANTED if f"single_region:{name}" in presets]
        rows += [
            dict(zip(DESIGN, design, strict=True)) | row for row in [*planted, *([_null_row(own)] if NULL in presets else [])]
        ]
    return rows


def _cohorts(preset: str, cells: Sequence[Mapping[str, str]]) -> list[list[Mapping[str, str]]]:
    seeds = dict.fromkeys(row["cohort"] for row in cells if row["preset"] == preset)
    return [[row for row in cells if row["preset"] == preset and row["cohort"] == seed] for seed in seeds]


def _planted_row(name: str, cells: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    cohorts = _cohorts(f"single_region:{name}", cells)
    good = [rows for rows in cohorts if float(rows[0]["AUC"]) > LEAST_AUC]
    firsts = {key: sum(_first(rows, key) == name for rows in good) for key in FIRST}
    other = [row for rows in good for row in rows if row["region"] != name]
    return {
        "planted": name,
        "cohorts": len(cohorts),
        "mean_AUC": _mean([float(rows[0]["AUC"]) for rows in cohorts]),
        "with_AUC_above_0.8": len(good),
        **{f"first_by_{word}": firsts[key] for key, word in FIRST.items()},
        **{
            f"planted_{word}": sum(int(row[word]) for rows in good for row in rows if row["region"] == name)
            for word in ("beyond", "relevant")
        },
        "others": len(other),
        **{f"others_{word}": sum(int(row[word]) for row in other) for word in ("beyond", "relevant")},
        "maps": sum(int(rows[0]["explained"]) and int(rows[0]["shown"]) for rows in cohorts),
    }


def _first(rows: Sequence[Mapping[str, str]], key: str) -> str:
    """The region with the highest value, or the lowest p."""
    return max(rows, key=lambda row: -float(row[key] or 1) if key == "p" else float(row[key]))["region"]


FIRST = {"density": "SmoothGrad", "gradient": "gradient", "p": "band", "auc_loss": "occlusion"}
"""Column -> how it is called."""


def _null_row(cells: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    cohorts = _cohorts(NULL, cells)
    rows = [row for cohort in cohorts for row in cohort]
    return {
        "planted": "nothing",
        "cohorts": len(cohorts),
        "mean_AUC": _mean([float(cohort[0]["AUC"]) for cohort in cohorts]),
        "with_AUC_above_0.8": sum(float(cohort[0]["AUC"]) > LEAST_AUC for cohort in cohorts),
        **{f"first_by_{word}": None for word in FIRST.values()},
        **dict.fromkeys(("planted_beyond", "planted_relevant")),
        "others": len(rows),
        **{f"others_{word}": sum(int(row[word]) for row in rows) for word in ("beyond", "relevant")},
        "maps": sum(int(cohort[0]["explained"]) and int(cohort[0]["shown"]) for cohort in cohorts),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks explain", description=__doc__)
    parser.add_argument("--folder", default=Path("cohorts/benchmarks/explain"), type=Path, help="where cohorts are drawn")
    parser.add_argument("--cohorts", default=3, type=int, help="cohorts of each planted region")
    parser.add_argument("--null", default=8, type=int, help="cohorts of which nothing differs")
    parser.add_argument("--patients", default=140, type=int, help="patients of a cohort")
    parser.add_argument("--spacing", default=6.0, type=float, help="side of a voxel in mm")
    parser.add_argument("--draws", default=6, type=int, help="noisy copies of a scan")
    parser.add_argument("--sigma", default=Method.sigma, type=float, help="noise as a share of the range")
    parser.add_argument("--networks", default=5, type=int, help="networks with permuted labels")
    parser.add_argument("--settings", default="", help="settings beside the preset's, as fold takes them")
    parser.add_argument("--only", default="", help="one preset")
    parser.add_argument("--first", default=0, type=int, help="cohort from which to begin")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure what is missing, then print and keep the table."""
    options = options_of(arguments)
    quiet_libraries()
    rounds = range(max(options.cohorts, options.null))
    wanted = [(f"single_region:{name}", seed) for seed in rounds for name in PLANTED if seed < options.cohorts]
    wanted = sorted([*wanted, *((NULL, seed) for seed in rounds if seed < options.null)], key=lambda key: key[1])
    design, began = design_of(options), time.perf_counter()
    own = [row for row in read_cells() if tuple(row[name] for name in DESIGN) == design]
    kept = {(row["preset"], int(row["cohort"])) for row in own}
    todo = [key for key in wanted if key not in kept and options.only in ("", key[0]) and key[1] >= options.first]
    for done, (preset, seed) in enumerate(todo, 1):
        rows = list(measure(explained_cohort(options.folder, preset, seed, options)))
        keep(design, preset, seed, rows)
        shutil.rmtree(options.folder / f"{preset.replace(':', '-')}-{seed}")
        called = ", ".join(row["region"] for row in rows if row["relevant"]) or "none"
        spent = (time.perf_counter() - began) / 60
        left = spent / done * (len(todo) - done)
        print(f"{done}/{len(todo)} {preset} {seed}: AUC {rows[0]['AUC']:.3f}, called {called}; {left:.0f} min left", flush=True)
    cells = read_cells()
    if not cells:
        raise BenchError(f"{CELLS} has no cell; leave --only out")
    notes = [
        "Whole-brain networks of seven folds, demo preset; settings: beside the preset's. first by: "
        f"cohorts with an AUC above {LEAST_AUC} in which the planted region is first; band: lowest p.",
        "beyond: regions beyond the permuted band (Holm, 5 %); relevant: and needed. Where nothing was planted they are "
        "counted whatever the AUC. maps: cohorts above chance whose map is shown.",
    ]
    publish("explain", "Where planted truths are found", summary(cells), notes, draws=options.draws, sigma=options.sigma)
    return 0
