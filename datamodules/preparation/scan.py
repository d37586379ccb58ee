"""One session from raw to prepared: the order of the steps, and what is recorded of each.

T1w: brain, bias, affine (and SyN) to the template. FLAIR: rigid to T1w, bias. Then every image, the mask and the label map are
read once, at the points that the composed transforms give for the voxels of the prepared grid, and set to 0 outside the brain.
The brain is what the T1w has seen: a FLAIR whose field of view ends inside it, or that lies elsewhere, cuts nothing of the T1w.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.files.atomic import write_text
from datamodules.files.listing import list_folder
from datamodules.files.volumes import ScanError, Volume, load_header, read_volume
from datamodules.intake.raw import RawSession
from datamodules.preparation import derivative, registration
from datamodules.preparation.agreement import placement, refuse_copy, rigid_gap, scaling
from datamodules.preparation.bias import correct_bias
from datamodules.preparation.brain import BrainMask, extract_brain
from datamodules.preparation.deidentify import clean_sidecar
from datamodules.preparation.fluid import fluid_map, template_fluid
from datamodules.preparation.images import PREPARED_GRID, SPACE, check_axes, smoothed
from datamodules.preparation.label_maps import dialect_name, label_table, prepare_labels
from datamodules.preparation.options import PrepareOptions, versions
from datamodules.preparation.registration import Transform, resample
from datamodules.preparation.samseg import run_samseg
from datamodules.preparation.starts import search_start
from datamodules.preparation.template_brain import HEAD_SCALE, template_images, with_rim
from datamodules.quality.header import header_numbers
from datamodules.quality.measure import measure, template_image
from regions.atlas import template_on
from regions.grid import Grid, tight_slices

LEAST_OVERLAP = 0.6
"""Dice of brain and template within the field of view below which the registration has failed; good ones are above 0.9."""


@dataclass(frozen=True)
class Registered:
    """T1w and FLAIR without bias, the brain, and where the grid's voxels lie in each."""

    t1w: Volume
    flair: Volume
    brain: BrainMask
    to_t1w: Transform
    t1w_to_flair: NDArray[np.float64]
    numbers: Mapping[str, float]

    @property
    def to_flair(self) -> Transform:
        """From the grid to the FLAIR, in one step."""
        return self.to_t1w.then(self.t1w_to_flair)


def prepare_session(
    session: RawSession,
    out: Path,
    options: PrepareOptions,
    key: str,
    inputs: Mapping[str, str],
    on_stage: Callable[[str], None] = print,
) -> None:
    """Prepare one session and write its files, the ``_qc.json`` last; files of other inputs or settings are removed first.

    Args:
        session: Where the raw files are.
        out: The new cohort's folder.
        options: The user's choices.
        key: What ``derivative.key_of`` says of inputs and settings.
        inputs: What ``derivative.inputs_of`` says.
        on_stage: Called with what begins.

    Raises:
        ScanError: naming the file and what is wrong with it.
    """
    paths = derivative.output_paths(session, out)
    paths.clear()
    on_stage("reading the images")
    with paths.work_folder() as work:
        registered = register(session, options, work, on_stage)
        on_stage("resampling")
        images = on_grid(registered, work, options.grid)
        labels, dialect = session_labels(session, registered, options, work)
        numbers = quality_numbers(session, registered, images, labels)
        write_outputs(paths, session, images, labels, dialect, options)
        outputs = {path.name: path.stat().st_size for path in list_folder(paths.anat, f"{paths.stem}_space-*")}
        record = {
            "patient": session.patient, "session": session.session, "key": key, "inputs": dict(inputs),
            "brain_method": registered.brain.method, "remarks": [registered.brain.remark] if registered.brain.remark else [],
            "numbers": numbers, "template_to_t1w": registered.to_t1w.matrix, "t1w_to_flair": registered.t1w_to_flair,
            "parameters": options.parameters(), "versions": versions(), "outputs": outputs,
        }  # fmt: skip
        derivative.write_json(paths.qc, record)


def register(session: RawSession, options: PrepareOptions, work: Path, on_stage: Callable[[str], None] = print) -> Registered:
    """Find the brain, the bias fields and the transforms; say which of them is under way.

    Raises:
        ScanError: if a file cannot be used, or no sensible transform is found.
    """
    t1w, flair = read_volume(session.t1w), read_volume(session.flair)
    for volume in (t1w, flair):
        check_axes(volume)
    refuse_copy(t1w, flair)
    on_stage("finding the brain")
    brain = extract_brain(t1w, "registration" if options.brain == "registration" else "deepbet")
    on_stage("bias of the T1w")
    even, t1w_bias = correct_bias(t1w.array, t1w.affine, brain.mask)
    t1w = Volume(t1w.path, even, t1w.affine)
    on_stage("T1w to the template")
    to_t1w = to_template(t1w, brain, options, work)
    on_stage("FLAIR to the T1w, its bias")
    t1w_to_flair = flair_to_t1w(t1w, flair, brain, work)
    there = resample(
        brain.mask,
        t1w.affine,
        Transform(np.asarray(np.linalg.inv(t1w_to_flair), dtype=np.float64)),
        flair.array.shape,
        flair.affine,
        work,
        "linear",
    )
    even, flair_bias = correct_bias(flair.array, flair.affine, there > 0.5)
    middle = registration.moved_mm(t1w.affine, np.argwhere(brain.mask).mean(axis=0, keepdims=True))[0]
    numbers = {
        **scaling(to_t1w.matrix),
        **rigid_gap(t1w_to_flair, middle),
        "brain_native_ml": brain.ml(t1w.affine),
        "bias_range_t1w": t1w_bias["bias_range"],
        "bias_range_flair": flair_bias["bias_range"],
    }
    return Registered(t1w, Volume(flair.path, even, flair.affine), brain, to_t1w, t1w_to_flair, numbers)


def to_template(t1w: Volume, brain: BrainMask, options: PrepareOptions, work: Path) -> Transform:
    """From the template's points to those of the T1w image."""
    template, outline = template_images()
    moving = registration.coarse(np.where(brain.mask, t1w.array, 0), t1w.affine)
    start = search_start(template, moving, with_rim(outline), HEAD_SCALE)
    matrix = registration.linear("Affine", template, moving, work, start)
    if not options.nonlinear:
        return Transform(matrix)
    shape, where = template[0].shape, template[1]
    seen = resample(np.ones_like(t1w.array), t1w.affine, Transform(matrix), shape, where, work, "nearestNeighbor")
    inside = registration.coarse(brain.mask, t1w.affine)[0] > 0.5
    fluid = template_fluid(), fluid_map(moving, inside)
    return registration.deformable(template, moving, work, matrix, seen > 0.5, fluid)


def flair_to_t1w(t1w: Volume, flair: Volume, brain: BrainMask, work: Path) -> NDArray[np.float64]:
    """From the T1w image's points to those of the FLAIR, rigid, (4, 4) in RAS+ mm."""
    fixed = registration.coarse(t1w.array, t1w.affine)
    moving = registration.coarse(flair.array, flair.affine)
    rim = with_rim(registration.coarse(brain.mask, t1w.affine)[0] > 0.5)
    return registration.linear("Rigid", fixed, moving, work, search_start(fixed, moving, rim), rim)


@dataclass(frozen=True)
class Images:
    """What is written, each (I, J, K) on the grid; ``field`` is what both sequences have seen."""

    grid: Grid
    t1w: NDArray[np.float32]
    flair: NDArray[np.float32]
    brain: NDArray[np.bool_]
    field: NDArray[np.bool_]


def on_grid(registered: Registered, work: Path, grid: Grid = PREPARED_GRID) -> Images:
    """Read both images and the mask once each at the grid's voxels.

    The brain is what the T1w has seen of it; where the FLAIR ends inside it, the FLAIR holds its own mean.

    Raises:
        ScanError: if the brain then lies elsewhere than the template's.
    """
    t1w, mask = registered.t1w, registered.brain.mask
    whole = resample(mask, t1w.affine, registered.to_t1w, grid.shape, grid.matrix, work, "linear") > 0.5
    seen = [
        resample(np.ones_like(volume.array), volume.affine, transform, grid.shape, grid.matrix, work, "nearestNeighbor") > 0.5
        for volume, transform in ((t1w, registered.to_t1w), (registered.flair, registered.to_flair))
    ]
    brain = whole & seen[0]
    outline = template_on(grid) > 0
    both = int(brain.sum()) + int((outline & seen[0]).sum())
    overlap = 2 * int((brain & outline).sum()) / both if both else 0.0
    if overlap < LEAST_OVERLAP:
        dice = f"Dice {overlap:.2f}, {LEAST_OVERLAP:g} is needed"
        problem = f"within the field of view its brain overlaps the template's by {dice}"
        raise ScanError(f"{t1w.path}: registration to the template failed ({problem}); look at the image")
    box = tight_slices(brain)
    corner = grid.matrix
    corner[:3, 3] += [side.start * step for side, step in zip(box, grid.spacing, strict=True)]
    pictures = []
    for volume, transform in ((t1w, registered.to_t1w), (registered.flair, registered.to_flair)):
        picture = np.zeros(grid.shape, np.float32)
        array = smoothed(volume.array, volume.affine, grid.spacing[0]) if grid != PREPARED_GRID else volume.array
        picture[box] = resample(array, volume.affine, transform, brain[box].shape, corner, work)
        pictures.append(np.where(brain, picture, np.float32(0)))
    field = seen[0] & seen[1]
    if (brain & field).any():
        pictures[1][brain & ~field] = pictures[1][brain & field].mean(dtype=np.float64)
    return Images(grid, pictures[0], pictures[1], brain, field)


def session_labels(
    session: RawSession, registered: Registered, options: PrepareOptions, work: Path
) -> tuple[NDArray[np.uint8] | None, str]:
    """The session's label map on the grid, and which program it is from; SAMSEG makes one where it was asked for."""
    path, dialect = session.labels, session.dialect
    if options.samseg is not None:
        files = [work / "t1w.nii", work / "flair.nii"]
        t1w = registered.t1w
        to_flair, flair = Transform(registered.t1w_to_flair), registered.flair
        on_t1w = resample(flair.array, flair.affine, to_flair, t1w.array.shape, t1w.affine, work)
        for file, array in zip(files, (t1w.array, on_t1w), strict=True):
            nib.save(nib.Nifti1Image(array, t1w.affine), file)
        path, dialect = run_samseg(options.samseg, files[0], files[1], work / "samseg", options.lesion), "samseg"
    if path is None:
        return None, ""
    brain = Volume(registered.t1w.path, registered.brain.mask.astype(np.float32), registered.t1w.affine)
    return prepare_labels(path, dialect, brain, registered.to_t1w, options.grid, work), dialect


def quality_numbers(
    session: RawSession, registered: Registered, images: Images, labels: NDArray[np.uint8] | None
) -> dict[str, float]:
    """All quality numbers of the scan."""
    heads = [header_numbers(load_header(path)) for path in (session.t1w, session.flair)]
    known = {
        "left_right_known": min(header["left_right_known"] for header in heads),
        "left_right_contradiction": max(header["left_right_contradiction"] for header in heads),
    }
    return measured_pair(images, labels) | dict(registered.numbers) | known


def measured_pair(images: Images, labels: NDArray[np.uint8] | None) -> dict[str, float]:
    """The quality numbers that come from the prepared images."""
    grid = images.grid
    placed = placement(images.t1w, images.flair, template_image(grid), images.brain, images.field, grid)
    return measure({"t1w": images.t1w, "flair": images.flair}, images.brain, grid, labels, images.field) | placed


def write_outputs(
    paths: derivative.OutputPaths,
    session: RawSession,
    images: Images,
    labels: NDArray[np.uint8] | None,
    dialect: str,
    options: PrepareOptions,
) -> None:
    """Write the images, each with its sidecar, the T1w last."""
    made: dict[str, Any] = {
        "SpatialReference": SPACE,
        "Resolution": f"{options.spacing_mm:g} mm",
        "Preparation": options.parameters(),
        "Versions": versions(),
    }
    sources = {"t1w": _uri(session, session.t1w), "flair": _uri(session, session.flair)}
    path = paths.image("desc-brain_mask")
    derivative.write_image(path, images.brain.astype(np.uint8), images.grid)
    derivative.write_json(derivative.json_beside(path), {"Type": "Brain", "Sources": list(sources.values())} | made)
    if labels is not None:
        path = paths.image(f"seg-{dialect_name(dialect).replace('-', '')}_dseg")
        derivative.write_image(path, labels, images.grid)
        derivative.write_json(
            derivative.json_beside(path), {"SourceDialect": dialect_name(dialect), "Sources": [sources["t1w"]]} | made
        )
        write_text(path.with_name(path.name.removesuffix(".nii.gz") + ".tsv"), label_table(labels))
    for kind, suffix, array in (("flair", "FLAIR", images.flair), ("t1w", "T1w", images.t1w)):
        path = paths.image(f"desc-preproc_{suffix}")
        fields = {"SkullStripped": True, "Sources": [sources["t1w"], *([sources["flair"]] if kind == "flair" else [])]}
        derivative.write_json(derivative.json_beside(path), clean_sidecar(session.sidecars.get(kind, {})) | fields | made)
        derivative.write_image(path, array, images.grid)


def _uri(session: RawSession, path: Path) -> str:
    parts = [session.patient, *([session.session] if session.session else []), "anat", path.name]
    return "bids:raw:" + "/".join(parts)
