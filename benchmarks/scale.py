"""How time, memory and disk of each command grow with the cohort: check, plan, a fold, compare, report, status; a process each.

Synthetic scans, at 8 mm if not said otherwise, half as many patients. One run is trained for an epoch; the other 41 get drawn
predictions, since ``compare`` and ``report`` read files alone. With ``--inputs`` and ``--seeds`` a study of that many inputs
and seeds is compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks.scans import SCRATCH
from benchmarks.table import BenchError, publish
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.study.parts import Parts, read_parts
from experiments.study.record import read_record
from experiments.study.run_folder import Rows, RunFolder, write_predictions
from experiments.study.runs import Run, grid
from regions.catalog import REGIONS

SIZES = "1250,2500,5000"
SPACING_MM = 8.0
TRAINED = Run("brainstem", 0)
COPIED = ("config.yaml", "history.tsv")


def main(arguments: Sequence[str]) -> int:
    """Command line of ``scale``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default=SIZES, help="scans of each cohort, separated by commas")
    parser.add_argument("--inputs", type=int, default=len(REGIONS), help="inputs that are compared")
    parser.add_argument("--seeds", type=int, default=1, help="seeds that are compared")
    parser.add_argument("--spacing", type=float, default=SPACING_MM, help="side of a voxel of the scans, in mm")
    parser.add_argument(
        "--voxel_mm", type=float, default=0.0, help="side of a voxel that is trained with; 0: that of the scans"
    )
    parser.add_argument("--quick", action="store_true", help="60 and 120 scans; nothing is kept")
    options = parser.parse_args(arguments)
    sizes = [60, 120] if options.quick else [int(text) for text in options.sizes.split(",")]
    rows = [row for scans in sizes for row in measure(scans, options)]
    notes = (
        "seconds: wall time; processor: seconds of all its cores; memory_gb: largest resident size, at least this process's",
        "disk_mb: store and study after the command; at 1 mm a volume takes about 33 MB",
    )
    usual = all(getattr(options, name) == parser.get_default(name) for name in ("inputs", "seeds", "spacing", "voxel_mm"))
    publish("scale", "Growing cohorts", rows, notes, save=usual and not options.quick, options=vars(options))
    return 0


def measure(scans: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each command on a cohort that is drawn where it is missing."""
    home = SCRATCH / "scale" / f"{scans}-{options.spacing:g}mm"
    cohort, study = home / "cohort", home / "studies" / "study"
    if not cohort.is_dir():
        drawn = PhantomOptions(patients=(scans + 1) // 2, scans=scans, spacing_mm=options.spacing, seed=0)
        write_phantom_cohort(cohort, drawn, processes=2)
    shutil.rmtree(home / "store", ignore_errors=True)
    shutil.rmtree(home / "studies", ignore_errors=True)
    named = ["--study", "study", "--studies", str(study.parent)]
    whole = ["--cohort", str(cohort), "--store", str(home / "store"), *named, "--preset", "demo", "--doubles", "keep"]
    whole += ["--broken", "exclude"]
    if options.voxel_mm:
        whole += ["--voxel_mm", f"{options.voxel_mm:g}", "--data.augmentation.flip", "0"]
    fold = ["--roi", TRAINED.input, "--fold", str(TRAINED.fold), "--trainer.max_epochs", "1", "--tracking.mode", "disabled"]
    steps = {
        "check, with the store": ["check", *whole],
        "check again": ["check", *whole],
        "plan": ["plan", *whole],
        "fold, one epoch": ["fold", *fold, *whole],
    }
    for name, words in steps.items():
        yield timed(scans, name, words, home)
    names = [*REGIONS, *(f"region_{number:02d}" for number in range(options.inputs - len(REGIONS)))][: options.inputs]
    draw_runs(study, names, range(options.seeds))
    compared = ["compare", *named, "--inputs", ",".join(names), "--tracking.mode", "disabled"]
    for name, words in {"status": ["status", *named], "compare": compared, "report": ["report", *named]}.items():
        yield timed(scans, name, words, home)


def timed(scans: int, name: str, words: Sequence[str], home: Path) -> dict[str, Any]:
    """Seconds and memory of one command.

    Raises:
        BenchError: if it failed.
    """
    began = time.perf_counter()
    log = home / "log.txt"
    with log.open("w", encoding="utf-8") as out:
        started = subprocess.Popen([sys.executable, "-m", "experiments", *words], stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(started.pid, 0)
    if status:
        raise BenchError(f"{name} of {scans} scans failed: {log.read_text(encoding='utf-8').strip().splitlines()[-1:]}")
    return {
        "scans": str(scans),
        "command": name,
        "seconds": time.perf_counter() - began,
        "processor": used.ru_utime + used.ru_stime,
        "memory_gb": used.ru_maxrss * 1024 / 1e9,
        "disk_mb": sum(path.stat().st_size for part in ("store", "studies") for path in (home / part).rglob("*")) / 1e6,
    }


def draw_runs(study: Path, inputs: Sequence[str], seeds: Sequence[int]) -> None:
    """Give every run but the trained one drawn predictions, and the settings and the history of that one."""
    trained, parts, rng = RunFolder(TRAINED.folder(study)), read_parts(study), np.random.default_rng(0)
    facts, files = trained.facts(), {name: (trained.path / name).read_bytes() for name in COPIED}
    record, shared = read_record(study), rng.normal(size=len(parts.labels))
    assert record is not None
    for run in grid(inputs, seeds):
        if run == TRAINED:
            continue
        folder = RunFolder(run.folder(study))
        folder.path.mkdir(parents=True)
        for name, content in files.items():
            (folder.path / name).write_bytes(content)
        write_predictions(folder.path / "predictions.tsv", drawn(parts, run.fold, shared, rng))
        region = {"region": record.today(run.input).plain()}
        folder.write_complete(facts | {"fingerprint": facts["fingerprint"] | region})


def drawn(parts: Parts, fold: int, shared: np.ndarray[Any, Any], rng: np.random.Generator) -> Rows:
    """Tuning and test rows of a run that knows a little: an AUC of about 0.75."""
    keys, labels = list(parts.labels), np.array(list(parts.labels.values()))
    chosen = parts.splits.partitions(fold, [patient for patient, _ in keys])
    rows = [(name, row) for name in ("tuning", "internal_test") for row in chosen[name].tolist()]
    at = np.array([row for _, row in rows])
    p = expit(0.95 * (labels[at] - 0.5) + 0.7 * shared[at] + 0.7 * rng.normal(size=at.size))
    partition, who = np.array([name for name, _ in rows]), np.array([keys[row] for row in at])
    return Rows(partition, who[:, 0], who[:, 1], np.full(at.size, ""), labels[at], p)
