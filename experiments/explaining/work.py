"""Look at every network of the inputs that are explained, one after another; several processes share the work by locks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from datamodules.files.atomic import file_sha256, try_lock, write_atomically
from datamodules.files.sealed import write_sealed
from experiments.explaining.group_maps import SPACE, on_grid, write_nifti
from experiments.explaining.jobs import Job, fingerprint, read_part
from experiments.explaining.maps import MAPS, look
from experiments.explaining.networks import network_of
from experiments.explaining.setup import Explained
from experiments.runtime.console import bar
from experiments.runtime.interruption import Interrupted, stop_if_interrupted
from experiments.runtime.quiet import quiet_libraries
from experiments.runtime.words import plural
from experiments.study.run_folder import ResultsError, RunFolder, read_predictions
from experiments.training.trainer import make_trainer
from lightning_modules.errors import TrainingError
from regions.grid import Box

WAIT_SECONDS = 2.0
TOLERANCE = 0.05
"""By how much a probability may differ from that in predictions.tsv: mixed precision rounds, other weights do not."""


def explain_missing(explained: Explained, jobs: Sequence[Job], console: Console, patients: bool = False) -> None:
    """Make every part that is missing, wait for those that another process has.

    Args:
        explained: The study.
        jobs: Which networks.
        console: Where the bar is shown.
        patients: Write the map of each scan, too.

    Raises:
        Interrupted: if a signal came.
        ResultsError: if a run's network does not say what its predictions.tsv says.
    """
    quiet_libraries()
    device = make_trainer(
        {"accelerator": explained.settings.values.trainer.accelerator, "devices": 1, "enable_progress_bar": False}
    ).strategy.root_device
    left = [job for job in jobs if _is_missing(explained, job, patients)]
    work = {job: _scans(explained, job) * (2 if job.kind == "permuted" else 1) for job in left}
    total, done = sum(work.values()), 0
    with bar(console, f"looking at {plural(len(left), 'network')}") as advance:
        while left:
            for job in list(left):
                stop_if_interrupted()
                on_scan = _moving(advance, done + work[job] - _scans(explained, job), total)
                if _under_lock(explained, job, device, patients, on_scan):
                    left.remove(job)
                    done += work[job]
                    advance(done, total)
                    if not console.is_terminal:
                        console.print(f"explained {job.name}: {len(jobs) - len(left)} of {len(jobs)}")
            if left:
                time.sleep(WAIT_SECONDS)


def _moving(advance: Callable[[int, int], None], done: int, total: int) -> Callable[[], None]:
    """What moves the bar by a scan."""
    seen = [done]

    def step() -> None:
        seen[0] += 1
        advance(seen[0], total)

    return step


def _scans(explained: Explained, job: Job) -> int:
    patients = [scan.patient for scan in explained.study.cohort.scans]
    return len(explained.study.splits.partitions(job.fold, patients)["internal_test"])


def _is_missing(explained: Explained, job: Job, patients: bool) -> bool:
    part = read_part(explained, job)
    wanted = patients and job.kind == "trained"
    return part is None or (
        wanted and not all(path.is_file() for path in _patient_paths(explained, job, part["rows"]).values())
    )


def _under_lock(explained: Explained, job: Job, device: torch.device, patients: bool, on_scan: Callable[[], None]) -> bool:
    """Make a part unless another process has it; True when it is there."""
    with try_lock(job.folder(explained.folder) / ".lock") as ours:
        if not ours:
            return False
        if _is_missing(explained, job, patients):
            try:
                make_part(explained, job, device, patients, on_scan)
            except (KeyboardInterrupt, SystemExit):  # Lightning answers TERM with SystemExit(0)
                raise Interrupted from None
    return True


def make_part(explained: Explained, job: Job, device: torch.device, patients: bool, on_scan: Callable[[], None]) -> None:
    """Look at one network and keep what was seen; of a permuted network that does not train, that it did not."""
    folder, made_for = job.folder(explained.folder), {"fingerprint": fingerprint(explained, job)}
    labels = np.array([scan.label for scan in explained.study.cohort.scans], dtype=np.int64)
    pieces, is_trained = explained.pieces(job.input), job.kind == "trained"
    try:
        looked = network_of(explained, job)
    except TrainingError as error:
        if is_trained:
            raise
        write_sealed(folder / "part.json", made_for | {"failed": str(error), "rows": []})
        return
    box = looked.data.box
    on_map = partial(_write_patient, explained, job, box) if patients and is_trained else None
    seen = look(looked, labels, pieces, explained.method, job.fold, device, is_trained and pieces.several, on_scan, on_map)
    counts = np.bincount(labels[seen.rows], minlength=2)
    maps = seen.maps / np.maximum(np.tile(counts, 2), 1)[:, None, None, None]
    if not is_trained:  # labels are of no use there, and one map is a quarter of four
        maps = (seen.maps[0] + seen.maps[1])[None] / len(seen.rows)
    write_atomically(folder / "maps.npy", lambda file: np.save(file, maps.astype(np.float16), allow_pickle=False))
    scans = explained.study.cohort.scans
    content: dict[str, Any] = {
        "rows": seen.rows,
        "scans": [[scans[row].patient, scans[row].session, scans[row].label] for row in seen.rows],
        "counts": counts.tolist(),
        "smoothgrad": seen.smoothgrad,
        "gradient": seen.gradient,
        "images": seen.images,
        "log_odds": seen.log_odds,
        "box": {"start": box.start, "stop": box.stop},
        "maps": list(MAPS if is_trained else ("absolute",)),
        "maps_sha256": file_sha256(folder / "maps.npy"),
    }
    if content["log_odds"]:
        _check_predictions(explained, job, content)
    write_sealed(folder / "part.json", made_for | content)


def _check_predictions(explained: Explained, job: Job, content: dict[str, Any]) -> None:
    """Look that the network is the one whose predictions were compared."""
    path = RunFolder(job.run.folder(explained.folder)).checked("predictions.tsv")
    rows = read_predictions(path).of("internal_test")
    known = dict(zip(zip(rows.patient.tolist(), rows.session.tolist(), strict=True), rows.p.tolist(), strict=True))
    for (patient, session, _), values in zip(content["scans"], content["log_odds"], strict=True):
        p = 1 / (1 + np.exp(-values[0]))
        if abs(p - known[patient, session]) > TOLERANCE:
            raise ResultsError(
                f"{path}: the network gives a scan {p:.3f}, the file {known[patient, session]:.3f}; "
                "it was trained on other volumes or with other code; train the run again with --restart"
            )


def _patient_paths(explained: Explained, job: Job, rows: Sequence[int]) -> dict[int, Path]:
    folder = explained.folder / "explain" / "patients" / job.input / f"seed-{job.number}"
    names = {row: re.sub(r"[^A-Za-z0-9_-]", "-", explained.study.cohort.scans[row].name) for row in rows}
    return {row: folder / f"{name}_space-{SPACE}_desc-smoothgrad_relevance.nii.gz" for row, name in names.items()}


def _write_patient(explained: Explained, job: Job, box: Box, row: int, relevance: npt.NDArray[np.float32]) -> None:
    """Write one scan's signed map in units of its own mean |relevance|."""
    grid = explained.study.prepared.grid
    write_nifti(_patient_paths(explained, job, [row])[row], on_grid(relevance, box, grid.shape), grid)
