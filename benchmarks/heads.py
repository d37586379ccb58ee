"""How often ``prepare`` puts a FLAIR on its T1w wherever the head lay: random shifts and turns of real and phantom pairs.

The FLAIR's header is moved by a random rigid transform (to 60 mm, to 40 degrees about the brain's middle); every fourth FLAIR
also loses the top or the bottom fifth of its field of view. The error is the mean distance over the brain's voxels to where the
same registration puts the FLAIR that was not moved. A pair more than 2 mm off must be held back in a cohort of one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.table import publish
from datamodules.files.volumes import Volume, read_volume
from datamodules.intake.raw import read_raw
from datamodules.phantoms.patients import PhantomOptions
from datamodules.phantoms.write import write_phantom_cohort
from datamodules.preparation.bias import correct_bias
from datamodules.preparation.brain import BrainMask, extract_brain
from datamodules.preparation.options import PrepareOptions
from datamodules.preparation.registration import moved_mm
from datamodules.preparation.scan import Registered, measured_pair, on_grid, rigid_to_t1w, to_template
from datamodules.quality.limits import judge_scans

MOST_MM, MOST_DEGREES, RIGHT_MM = 60.0, 40.0, 2.0
CUT_SHARE = 0.2
PHANTOMS = 7


@dataclass(frozen=True)
class Pair:
    """A T1w without bias, its brain, its FLAIR, and where the FLAIR lies when it was not moved, (4, 4)."""

    kind: str
    t1w: Volume
    flair: Volume
    brain: BrainMask
    reference: NDArray[np.float64]

    @property
    def points(self) -> NDArray[np.float64]:
        """Every hundredth voxel of the brain, (N, 3) in mm."""
        return moved_mm(self.t1w.affine, np.argwhere(self.brain.mask)[::100].astype(float))


def main(arguments: Sequence[str]) -> int:
    """Command line of ``heads``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks heads", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--raw", type=Path, action="append", default=[], help="folder of a raw BIDS dataset")
    parser.add_argument("--offsets", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="nothing is kept")
    options = parser.parse_args(arguments)
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        pairs = [*real_pairs(options.raw), *phantom_pairs(Path(folder))]
        kinds = [[pair for pair in pairs if pair.kind == kind] for kind in dict.fromkeys(pair.kind for pair in pairs)]
        for number in range(options.offsets):
            of_kind = kinds[number % len(kinds)]
            trials.append(trial(of_kind[number // len(kinds) % len(of_kind)], number, Path(folder)))
            print(number, trials[-1], flush=True)
    title = f"{len(trials)} random offsets between T1w and FLAIR, to {MOST_MM:g} mm and {MOST_DEGREES:g} degrees"
    notes = (
        f"right: within {RIGHT_MM:g} mm of where the same FLAIR comes to lie unmoved, on average over the brain",
        "flagged: of those that are not, held back by the limits on one scan; cut: a fifth of the FLAIR is missing",
    )
    publish("heads", title, summary(trials), notes, save=not options.quick, offsets=options.offsets)
    return 0


def real_pairs(folders: Sequence[Path]) -> Iterator[Pair]:
    """Every session of raw datasets."""
    for folder in folders:
        for session in read_raw(folder).sessions:
            yield pair_of("real", read_volume(session.t1w), read_volume(session.images["flair"]))


def phantom_pairs(folder: Path) -> Iterator[Pair]:
    """Phantoms of 2 mm, brains without skull."""
    write_phantom_cohort(folder / "phantoms", PhantomOptions(patients=PHANTOMS, scans=PHANTOMS, spacing_mm=2.0, seed=3))
    for path in sorted((folder / "phantoms").rglob("*_T1w.nii.gz")):
        yield pair_of("phantom", read_volume(path), read_volume(path.with_name(path.name.replace("T1w", "FLAIR"))))


def pair_of(kind: str, t1w: Volume, flair: Volume) -> Pair:
    """A pair whose FLAIR was not moved."""
    brain = extract_brain(t1w)
    t1w = Volume(t1w.path, correct_bias(t1w.array, t1w.affine, brain.mask)[0], t1w.affine)
    with tempfile.TemporaryDirectory() as work:
        return Pair(kind, t1w, flair, brain, rigid_to_t1w(t1w, flair, brain, Path(work)))


def trial(pair: Pair, number: int, work: Path) -> dict[str, Any]:
    """Move the FLAIR, register it, and see how far it lies beside its place; the same number gives the same offset."""
    rng = np.random.default_rng([19, number])
    offset = random_offset(rng, moved_mm(pair.reference, pair.points).mean(axis=0))
    is_cut = number % 4 >= 2 and number % 8 < 4
    flair = moved_flair(pair.flair, offset, rng.choice([-1, 1]) if is_cut else 0)
    began = time.process_time()
    matrix = rigid_to_t1w(pair.t1w, flair, pair.brain, work)
    seconds = time.process_time() - began
    error = np.linalg.norm(moved_mm(matrix, pair.points) - moved_mm(offset @ pair.reference, pair.points), axis=1).mean()
    flagged = error > RIGHT_MM and is_flagged(pair, flair, matrix, work)
    field = "cut" if is_cut else "whole"
    return {"kind": pair.kind, "field": field, "error_mm": float(error), "flagged": bool(flagged), "seconds": seconds}


def random_offset(rng: np.random.Generator, middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """A turn about a point, and a shift, each of uniform size in a random direction, (4, 4)."""
    directions = rng.normal(size=(2, 3))
    shift, axis = directions / np.linalg.norm(directions, axis=1, keepdims=True) * rng.uniform(size=(2, 1))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(MOST_DEGREES) * axis).as_matrix()
    matrix[:3, 3] = middle + MOST_MM * shift - matrix[:3, :3] @ middle
    return matrix


def moved_flair(flair: Volume, offset: NDArray[np.float64], end: int) -> Volume:
    """A FLAIR whose header says that it lies elsewhere, without its last (1), its first (-1) or no (0) slices."""
    axis = int(np.argmax(np.abs(flair.affine[2, :3])))
    count = round(CUT_SHARE * flair.array.shape[axis]) if end else 0
    first = count if end < 0 else 0
    kept = np.take(flair.array, range(first, flair.array.shape[axis] - count + first), axis)
    corner = np.eye(4)
    corner[axis, 3] = first
    return replace(flair, array=kept, affine=offset @ flair.affine @ corner)


def is_flagged(pair: Pair, flair: Volume, matrix: NDArray[np.float64], work: Path) -> bool:
    """Whether the limits hold a pair back that lies so, in a cohort of one."""
    to_t1w = to_template(pair.t1w, pair.brain, PrepareOptions(), work)
    images = on_grid(Registered(pair.t1w, {"flair": flair}, pair.brain, to_t1w, {"flair": matrix}, {}), work)
    return judge_scans([measured_pair(images, None)])[0].verdict == "held"


def summary(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per kind of head and field of view, and one for all."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {("all", "all"): list(trials)}
    for row in trials:
        groups.setdefault((row["kind"], row["field"]), []).append(row)
    rows = []
    for (kind, field), members in sorted(groups.items(), key=lambda item: (item[0][0] == "all", item[0])):
        errors = np.array([row["error_mm"] for row in members])
        wrong = [row for row in members if row["error_mm"] > RIGHT_MM]
        rows.append(
            {
                "head": kind, "field": field, "offsets": len(members), "share_right": float((errors <= RIGHT_MM).mean()),
                "median_mm": float(np.median(errors)), "worst_mm": float(errors.max()), "wrong": len(wrong),
                "flagged": sum(row["flagged"] for row in wrong), "cpu_s": float(np.median([row["seconds"] for row in members])),
            }
        )  # fmt: skip
    return rows
