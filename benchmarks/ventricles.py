"""How much of the template's subcortical gray matter is a patient's fluid, and how well the ventricles lie on the template's.

Three ways to the template: affine, SyN on the T1w alone, and SyN on the T1w and maps of the fluid as ``prepare --nonlinear``
goes. Phantoms of the preset ``enlarged_ventricles`` have label maps; in real scans fluid is what a mixture of three normal
distributions finds dark in the T1w, and ventricles are the fluid within 8 mm of the template's and 12 mm below the surface.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from benchmarks.table import publish
from datamodules.files.volumes import read_volume
from datamodules.intake.raw import read_raw
from datamodules.phantoms.patients import PhantomOptions
from datamodules.phantoms.write import write_phantom_cohort
from datamodules.preparation import registration
from datamodules.preparation.bias import correct_bias
from datamodules.preparation.brain import extract_brain
from datamodules.preparation.fluid import fluid_map, template_fluid
from datamodules.preparation.images import PREPARED_GRID
from datamodules.preparation.registration import Image, Transform, resample
from datamodules.preparation.template_brain import template_images
from datamodules.quality.tissue import CSF, FLUID
from regions.atlas import template_on
from regions.catalog import REGIONS, VENTRICLES

NEAR_MM, DEEP_MM = 8, 12
WAYS = ("affine", "SyN, T1w alone", "SyN, T1w and fluid")


@dataclass(frozen=True)
class Head:
    """A brain without skull and what its voxels are: labels of ventricles, fluid and subcortical gray matter at least."""

    kind: str
    name: str
    brain: Image
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]


def main(arguments: Sequence[str]) -> int:
    """Command line of ``ventricles``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ventricles", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--raw", type=Path, action="append", default=[], help="folder of a raw BIDS dataset")
    parser.add_argument("--phantoms", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="nothing is kept")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for head in (*phantoms(work, options.phantoms), *real_heads(options.raw)):
            for way, (transform, seconds) in zip(WAYS, ways(head, work), strict=True):
                rows.append(
                    {"head": head.kind, "scan": head.name, "way": way, **measured(head, transform, work), "cpu_s": seconds}
                )
                print(rows[-1], flush=True)
    notes = (
        "subcortical fluid: share of the template's subcortical gray matter which is the patient's fluid",
        "Dice: of the ventricles",
        "smallest volume: the smallest Jacobian determinant of the warp; folded: share of voxels where it is not positive",
    )
    publish("ventricles", "Ventricles on the template", rows, notes, save=not options.quick)
    return 0


def phantoms(folder: Path, count: int) -> Iterator[Head]:
    """Phantoms of 2 mm whose ventricles differ."""
    options = PhantomOptions("enlarged_ventricles", patients=max(count, 14), scans=max(count, 14), spacing_mm=2.0, seed=0)
    write_phantom_cohort(folder / "phantoms", options)
    for path in sorted((folder / "phantoms").rglob("*_T1w.nii.gz"))[:count]:
        (labels,) = path.parent.glob("*_dseg.nii.gz")
        volume, map_of_labels = read_volume(path), read_volume(labels)
        brain = volume.array, volume.affine
        yield Head("phantom", path.name.partition("_")[0], brain, map_of_labels.array.astype(np.uint8), map_of_labels.affine)


def real_heads(folders: Sequence[Path]) -> Iterator[Head]:
    """Every session of raw datasets; its labels are 1 in the brain and ``CSF`` in fluid."""
    for folder in folders:
        for number, session in enumerate(read_raw(folder).sessions, start=1):
            t1w = read_volume(session.t1w)
            mask = extract_brain(t1w).mask
            brain = np.where(mask, correct_bias(t1w.array, t1w.affine, mask)[0], 0).astype(np.float32), t1w.affine
            labels = np.where(fluid_map(brain, mask)[0] > 0.5, CSF, 1).astype(np.uint8) * mask
            yield Head("real", f"scan {number}", brain, labels, t1w.affine)


def ways(head: Head, work: Path) -> Iterator[tuple[Transform, float]]:
    """Each of ``WAYS``, and its CPU seconds beyond the affine one."""
    array, affine = head.brain
    template, _ = template_images()
    moving = registration.coarse(array, affine)
    inside = registration.coarse(array != 0, affine)[0] > 0.5
    matrix = registration.linear("Affine", template, moving, work)
    yield Transform(matrix), 0.0
    for guided in (False, True):
        began = time.process_time()
        fluid = (template_fluid(), fluid_map(moving, inside)) if guided else None
        yield registration.deformable(template, moving, work, matrix, None, fluid), time.process_time() - began


def measured(head: Head, transform: Transform, work: Path) -> dict[str, Any]:
    """Fluid in the template's subcortical gray matter, Dice of the ventricles, and the warp's smallest volumes."""
    grid = PREPARED_GRID
    labels = resample(head.labels.astype(np.float32), head.affine, transform, grid.shape, grid.matrix, work, "nearestNeighbor")
    template = template_on(grid)
    subcortical = REGIONS["subcortical_gray_matter"].select(template)
    ventricles = np.isin(template, VENTRICLES)
    if head.kind == "real":
        near = binary_dilation(ventricles, iterations=NEAR_MM) & binary_erosion(template > 0, iterations=DEEP_MM)
        own = (labels == CSF) & near
    else:
        own = np.isin(labels, VENTRICLES)
    dice = 2 * float((own & ventricles).sum()) / float(own.sum() + ventricles.sum())
    volumes = jacobian(transform)
    return {
        "subcortical_fluid": float(np.isin(labels, FLUID)[subcortical].mean()), "dice": dice,
        "smallest_volume": float(volumes.min()), "folded": float((volumes <= 0).mean()),
    }  # fmt: skip


def jacobian(transform: Transform) -> NDArray[np.float64]:
    """Jacobian determinant of a warp in each of its voxels; ones without a warp."""
    import ants

    if transform.warp is None:
        return np.ones(1)
    field = ants.image_read(str(transform.warp))
    return np.asarray(ants.create_jacobian_determinant_image(field.split_channels()[0], str(transform.warp)).numpy())
