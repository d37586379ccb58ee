"""What a prediction costs: one scan at 1 mm, six inputs and seven folds, on one core; seconds of each step, and memory.

The networks are the default preset's, with random weights: what a weight is changes no time. The limits of the training cohort
are made up as well. A process of its own measures each scan, so that memory is that of one prediction.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save

from benchmarks.table import BenchError, publish, spread
from datamodules.cohort.target import Target
from datamodules.cohort.unlabelled import read_unlabelled
from datamodules.files.atomic import file_sha256
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from datamodules.quality.laterality import SideReference
from datamodules.quality.reference import QualityReference
from datamodules.store.boxes import region_step
from datamodules.store.prepare import study_grid
from datamodules.store.signatures import KnownScans
from experiments.bundles.bundle import Bundle, FoldModel, Running
from experiments.bundles.networks import NetworkSpec
from experiments.predicting.answers import Wanted
from experiments.predicting.asking import Asking, Few, ask
from experiments.predicting.files import Run, write_outcome, write_results
from experiments.predicting.intake import usable_volumes
from experiments.predicting.judging import Judge
from experiments.predicting.result_page import result_page
from experiments.runtime.quiet import quiet_libraries
from experiments.statistics.conformal import Part, conformal_scores
from experiments.statistics.feature_distance import feature_reference
from experiments.study.record import Mask, ShownRegion
from experiments.study.settings import parse_settings
from lightning_modules.classifier import StratificationModule
from lightning_modules.head_inputs import head_input
from regions.atlas import TEMPLATE_PATH
from regions.catalog import REGIONS
from regions.grid import Grid

FOLDS, TRAINED = 7, 60
STEPS = ("read and normalise", "measure", "networks", "draw and write", "page")
LIMIT_SECONDS = 60.0


def main(arguments: Sequence[str]) -> int:
    """Command line of ``predict``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks predict", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one scan at 4 mm; nothing is kept")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(one_scan(options.child)))
        return 0
    spacing, repetitions = (4.0, 1) if options.quick else (1.0, options.repetitions)
    with tempfile.TemporaryDirectory() as folder:
        cohort = write_phantom_cohort(Path(folder) / "cohort", PhantomOptions(patients=1, scans=1, spacing_mm=spacing))
        taken = [_in_child(cohort) for _ in range(repetitions)]
    rows = []
    for step in (*STEPS, "all"):
        middle, low, high = spread([seconds[step] for seconds in taken])
        rows.append({"what": step, "seconds": middle, "low": low, "high": high})
    memory = max(seconds["memory_gb"] for seconds in taken)
    total = next(row["seconds"] for row in rows if row["what"] == "all")
    notes = (
        f"one prepared scan at {spacing:g} mm, {len(REGIONS)} inputs x {FOLDS} folds of the default preset, one core",
        f"largest memory of the process {memory:.2f} GB; the aim is {LIMIT_SECONDS:g} s",
    )
    publish("predict", "Predicting one scan", rows, notes, save=not options.quick, memory_gb=memory, seconds=total)
    return 0


def _in_child(cohort: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks", "predict", "--child", str(cohort)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the prediction failed: {done.stderr[-500:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def one_scan(cohort: Path) -> dict[str, float]:
    """Seconds of each step for the one scan of a cohort, and the memory of this process in GB."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    torch.set_num_threads(1)
    quiet_libraries()
    scans = list(read_unlabelled(cohort).scans)
    grid = study_grid([scan.reference for scan in scans])
    with tempfile.TemporaryDirectory() as folder:
        bundles = [made_bundle(Path(folder) / name, name, grid) for name in REGIONS]
        out, marks = Path(folder) / "out", [time.perf_counter()]
        usable, prepared, _ = usable_volumes(scans, out / "store", grid, 1)
        assert prepared is not None
        marks.append(time.perf_counter())
        judged = [Judge(bundles[0]).outcome(usable[0], prepared, 0)]
        marks.append(time.perf_counter())
        asking = Asking(Wanted(), insist=True, accelerator="cpu")
        outcomes = ask(bundles, Few(usable, prepared, judged), asking)
        marks.append(time.perf_counter())
        write_outcome(out, outcomes[0], prepared, 0, "")
        marks.append(time.perf_counter())
        run = Run(bundles, [""] * len(bundles), asking, 0.0)
        write_results(out, outcomes, run)
        Console(quiet=True).print(len(result_page(out, outcomes, run)))
        marks.append(time.perf_counter())
    seconds = dict(zip(STEPS, np.diff(marks).tolist(), strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {**seconds, "all": marks[-1] - marks[0], "memory_gb": memory}


def made_bundle(folder: Path, name: str, grid: Grid) -> Bundle:
    """A bundle of an input whose networks have random weights and whose training cohort is made up."""
    settings = parse_settings(["--preset", "default"])
    plain = settings.plain()["network"]
    spec = NetworkSpec(plain["class_path"], plain.get("init_args") or {})
    network = settings.instantiated(()).network
    folder.mkdir(parents=True)
    weights = folder / "weights.safetensors"
    weights.write_bytes(save({name: value.contiguous() for name, value in StratificationModule(network).state_dict().items()}))
    digest = file_sha256(weights)
    _, box = region_step(REGIONS[name], grid, "template", 0.0, int(network.multiple_of))
    models = tuple(FoldModel(fold, weights, digest, 1.0, 0.5, 0.5, 0.3, float("nan"), ()) for fold in range(FOLDS))
    return Bundle(
        folder=folder, study="made", input=name, region=ShownRegion.of(REGIONS[name], Mask()), label_map=TEMPLATE_PATH,
        images=("t1w", "flair"), optional=(), grid=grid, scan_grid=grid, voxel_mm=0.0,
        multiple_of=int(network.multiple_of), least_side=1, box=box, target=Target(), network=spec,
        objective="classification", running=Running(1, True, None, 1), models=models, threshold=0.5, prevalence=0.3,
        conformal=asdict(_scores()), quality=asdict(QualityReference({}, SideReference())),
        features=_features(network), training_scans=KnownScans(("t1w", "flair"), {"t1w": (), "flair": ()}, {}, {}).plain(),
        preparation={}, scores={}, provenance={},
    )  # fmt: skip


def _scores() -> Any:
    rng = np.random.default_rng(0)
    tuning = {}
    for fold in range(FOLDS):
        names = [f"{fold}-{row}" for row in range(TRAINED)]
        tuning[fold] = Part(names, [""] * TRAINED, rng.integers(0, 2, TRAINED), rng.uniform(0.05, 0.95, TRAINED))
    return conformal_scores(tuning)


def _features(network: Any) -> dict[str, Any]:
    side = int(network.multiple_of)
    with torch.no_grad():
        size = head_input(network.eval(), torch.zeros(1, 2, side, side, side)).shape[1]
    rows = np.random.default_rng(1).normal(size=(2 * TRAINED, size))
    reference = asdict(feature_reference(rows[:TRAINED], rows[TRAINED:]))
    return {"folds": [{"fold": fold, **reference} for fold in range(FOLDS)]}
