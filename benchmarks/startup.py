"""From the command ``make fold`` to the first training step, with a store that is built; and how long 400 scans take to open.

The 400 scans are drawn at 8 mm, since opening reads headers and stamps, never voxels; the 12 at 1 mm show what large volumes
add.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scans import RULE, SCANS, SCRATCH, cohort_folder, ensure_cohort, store_folder
from benchmarks.table import BenchError, publish, spread

MANY = 400
HOOK = Path(__file__).with_name("first_step")


@dataclass(frozen=True)
class Case:
    """A cohort and the run that is started on it."""

    name: str
    folder: Path
    scans: int
    spacing: float
    folds: int


CASES = (
    Case("400 scans at 8 mm", Path("cohorts/benchmarks/400"), MANY, 8.0, 7),
    Case("12 scans at 1 mm", cohort_folder(1.0), SCANS, 1.0, 3),
)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``startup``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--scans", type=int, default=0, help="another number of scans for the first case, to try things out")
    parser.add_argument("--quick", action="store_true", help="one repetition, 40 scans at 8 mm; nothing is kept")
    options = parser.parse_args(arguments)
    cases: tuple[Case, ...] = CASES
    if options.quick or options.scans:
        many = options.scans or 40
        cases = (Case(f"{many} scans at 8 mm", Path(f"cohorts/benchmarks/{many}"), many, 8.0, 3),)
        options.repetitions = 1 if options.quick else options.repetitions
    rows = [row for case in cases for row in measure(case, options.repetitions)]
    notes = (
        "make fold: seconds from the start of make to the first training step of brainstem",
        "opening: in a process that has everything imported",
    )
    publish("startup", "Starting", rows, notes, save=len(cases) > 1, options=vars(options))
    return 0


def measure(case: Case, repetitions: int) -> list[dict[str, Any]]:
    """Rows of one case: the first training step, opening the store, opening the whole study."""
    ensure_cohort(case.folder, case.scans, case.spacing)
    first_step(case)  # builds the store and makes the study
    steps = [first_step(case) for _ in range(repetitions)]
    opened = [opening(case) for _ in range(repetitions)]
    return [
        {"cohort": case.name, "what": "make fold to first step", **_seconds(steps)},
        {"cohort": case.name, "what": "open the store", **_seconds([seconds[0] for seconds in opened])},
        {"cohort": case.name, "what": "open the study (cohort, store, split)", **_seconds([seconds[1] for seconds in opened])},
    ]


def _seconds(values: Sequence[float]) -> dict[str, float]:
    middle, low, high = spread(values)
    return {"seconds": middle, "low": low, "high": high}


def first_step(case: Case) -> float:
    """Seconds from starting ``make fold`` to the first training step.

    Raises:
        BenchError: if the command failed.
    """
    study = SCRATCH / "startup" / str(case.scans)
    shutil.rmtree(study / "brainstem", ignore_errors=True)
    note = (SCRATCH / "first_step").resolve()
    note.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    words = f"--studies {study.parent} --store {store_folder()} --label.threshold {RULE.threshold} --folds {case.folds}"
    command = [
        "make", "-s", "fold", "FOLD=0", "ROI=brainstem", f"COHORT={case.folder}", f"STUDY={study.name}",
        f"ARGS={words} --trainer.max_epochs 1 --trainer.limit_train_batches 1 --trainer.precision 32-true",
    ]  # fmt: skip
    path = os.pathsep.join([str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.time()
    environment = os.environ | {"PYTHONPATH": path, "REGIONWISE_FIRST_STEP": str(note)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not note.is_file():
        raise BenchError(f"make fold failed on {case.folder}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return float(note.read_text(encoding="utf-8")) - began


def opening(case: Case) -> tuple[float, float]:
    """Seconds to open the store and to open the study, in a fresh process."""
    study = SCRATCH / "startup" / str(case.scans)
    code = f"""
import time
from pathlib import Path
from datamodules.cohort.target import Target
from datamodules.cohort.read import read_cohort
from datamodules.store.store import open_store
from experiments.study.study import StudyOptions, open_study
scans = read_cohort(Path({str(case.folder)!r}), Target({RULE.threshold})).scans
store = Path({str(store_folder())!r})
open_store(scans[:1], store)
began = time.perf_counter()
open_store(scans, store)
middle = time.perf_counter()
cohort, rule = Path({str(case.folder)!r}), Target({RULE.threshold})
open_study(StudyOptions(cohort, Path({str(study)!r}), store, rule, folds={case.folds}))
print(middle - began, time.perf_counter() - middle)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"opening {case.folder} failed: {done.stderr.strip().splitlines()[-1:]}")
    store, whole = map(float, done.stdout.split())
    return store, whole
