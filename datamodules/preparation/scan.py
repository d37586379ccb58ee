"""One session from raw to prepared: the order of the steps, and what is recorded of each.

T1w: brain, bias, affine (and SyN) to the template. FLAIR, or any other image: rigid to T1w, bias. Then every image, the mask
and the label map are read once, at the points that the composed transforms give for the voxels of the prepared grid, and set to
0 outside the brain. The brain is what the T1w has seen: an image that ends inside it, or lies elsewhere, cuts nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.cohort.images import TITLES, title
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
    """The T1w and the other images without bias, the brain, and where the grid's voxels lie in each."""

    t1w: Volume
    others: Mapping[str, Volume]
    brain: BrainMask
    to_t1w: Transform
    from_t1w: Mapping[str, NDArray[np.float64]]
    numbers: Mapping[str, float]

    @property
    def placed(self) -> dict[str, tuple[Volume, Transform]]:
        """All images, the T1w first, each with the way to it from the grid in one step."""
        rigid = {name: (volume, self.to_t1w.then(self.from_t1w[name])) for name, volume in self.others.items()}
        return {"t1w": (self.t1w, self.to_t1w), **rigid}


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
    with paths.work_folder() as folder, registration.plainly_named(folder) as work:
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
            "numbers": numbers, "template_to_t1w": registered.to_t1w.matrix,
            **{f"t1w_to_{name}": matrix for name, matrix in registered.from_t1w.items()},
            "parameters": options.parameters(), "versions": versions(), "outputs": outputs,
        }  # fmt: skip
        derivative.write_json(paths.qc, record)


def register(session: RawSession, options: PrepareOptions, work: Path, on_stage: Callable[[str], None] = print) -> Registered:
    """Find the brain, the bias fields and the transforms; say which of them is under way.

    Raises:
        ScanError: if a file cannot be used, or no sensible transform is found.
    """
    volumes = {name: read_volume(path) for name, path in session.images.items()}
    for volume in volumes.values():
        check_axes(volume)
    t1w = volumes.pop("t1w")
    for name, volume in volumes.items():
        refuse_copy(t1w, volume, name)
    on_stage("finding the brain")
    brain = extract_brain(t1w, "registration" if options.brain == "registration" else "deepbet")
    on_stage("bias of the T1w")
    even, t1w_bias = correct_bias(t1w.array, t1w.affine, brain.mask)
    t1w = Volume(t1w.path, even, t1w.affine)
    on_stage("T1w to the template")
    to_t1w = to_template(t1w, brain, options, work)
    from_t1w, ranges = {}, {"bias_range_t1w": t1w_bias["bias_range"]}
    for name, volume in volumes.items():
        on_stage(f"{title(name)} to the T1w, its bias")
        matrix = from_t1w[name] = rigid_to_t1w(t1w, volume, brain, work)
        back = Transform(np.asarray(np.linalg.inv(matrix), dtype=np.float64))
        there = resample(brain.mask, t1w.affine, back, volume.array.shape, volume.affine, work, "linear")
        even, bias = correct_bias(volume.array, volume.affine, there > 0.5)
        volumes[name], ranges[f"bias_range_{name}"] = Volume(volume.path, even, volume.affine), bias["bias_range"]
    middle = registration.moved_mm(t1w.affine, np.argwhere(brain.mask).mean(axis=0, keepdims=True))[0]
    gaps = {number: value for name, matrix in from_t1w.items() for number, value in rigid_gap(matrix, middle, name).items()}
    numbers = {**scaling(to_t1w.matrix), **gaps, "brain_native_ml": brain.ml(t1w.affine), **ranges}
    return Registered(t1w, volumes, brain, to_t1w, from_t1w, numbers)


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


def rigid_to_t1w(t1w: Volume, other: Volume, brain: BrainMask, work: Path) -> NDArray[np.float64]:
    """From the T1w image's points to those of another image, rigid, (4, 4) in RAS+ mm."""
    fixed = registration.coarse(t1w.array, t1w.affine)
    moving = registration.coarse(other.array, other.affine)
    rim = with_rim(registration.coarse(brain.mask, t1w.affine)[0] > 0.5)
    return registration.linear("Rigid", fixed, moving, work, search_start(fixed, moving, rim), rim)


@dataclass(frozen=True)
class Images:
    """What is written, each (I, J, K) on the grid; ``field`` is what all sequences have seen."""

    grid: Grid
    images: Mapping[str, NDArray[np.float32]]
    brain: NDArray[np.bool_]
    field: NDArray[np.bool_]


def on_grid(registered: Registered, work: Path, grid: Grid = PREPARED_GRID) -> Images:
    """Read all images and the mask once each at the grid's voxels.

    The brain is what the T1w has seen of it; where another image ends inside it, that image holds its own mean.

    Raises:
        ScanError: if the brain then lies elsewhere than the template's.
    """
    t1w, mask = registered.t1w, registered.brain.mask
    whole = resample(mask, t1w.affine, registered.to_t1w, grid.shape, grid.matrix, work, "linear") > 0.5
    seen = [
        resample(np.ones_like(volume.array), volume.affine, transform, grid.shape, grid.matrix, work, "nearestNeighbor") > 0.5
        for volume, transform in registered.placed.values()
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
    pictures: dict[str, NDArray[np.float32]] = {}
    for (name, (volume, transform)), own in zip(registered.placed.items(), seen, strict=True):
        picture = np.zeros(grid.shape, np.float32)
        array = smoothed(volume.array, volume.affine, grid.spacing[0]) if grid != PREPARED_GRID else volume.array
        picture[box] = resample(array, volume.affine, transform, brain[box].shape, corner, work)
        pictures[name] = np.where(brain, picture, np.float32(0))
        if (brain & own).any():
            pictures[name][brain & ~own] = pictures[name][brain & own].mean(dtype=np.float64)
    return Images(grid, pictures, brain, np.logical_and.reduce(seen))


def session_labels(
    session: RawSession, registered: Registered, options: PrepareOptions, work: Path
) -> tuple[NDArray[np.uint8] | None, str]:
    """The session's label map on the grid, and which program it is from; SAMSEG makes one where it was asked for."""
    path, dialect = session.labels, session.dialect
    if options.samseg is not None:
        files = [work / "t1w.nii", work / "flair.nii"]
        t1w = registered.t1w
        to_flair, flair = Transform(registered.from_t1w["flair"]), registered.others["flair"]
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
    heads = [header_numbers(load_header(path)) for path in session.images.values()]
    known = {
        "left_right_known": min(header["left_right_known"] for header in heads),
        "left_right_contradiction": max(header["left_right_contradiction"] for header in heads),
    }
    return measured_pair(images, labels) | dict(registered.numbers) | known


def measured_pair(images: Images, labels: NDArray[np.uint8] | None) -> dict[str, float]:
    """The quality numbers that come from the prepared images."""
    grid = images.grid
    placed = placement(images.images, template_image(grid), images.brain, images.field, grid)
    return measure(images.images, images.brain, grid, labels, images.field) | placed


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
    sources = {name: _uri(session, path) for name, path in session.images.items()}
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
    for kind, array in reversed(list(images.images.items())):
        *entities, suffix = kind.split("_")
        suffix = TITLES.get(suffix, session.images[kind].name.split(".nii")[0].rpartition("_")[2])
        path = paths.image("_".join([*entities, "desc-preproc", suffix]))
        fields = {"SkullStripped": True, "Sources": [sources[name] for name in dict.fromkeys(("t1w", kind))]}
        derivative.write_json(derivative.json_beside(path), clean_sidecar(session.sidecars.get(kind, {})) | fields | made)
        derivative.write_image(path, array, images.grid)


def _uri(session: RawSession, path: Path) -> str:
    parts = [session.patient, *([session.session] if session.session else []), "anat", path.name]
    return "bids:raw:" + "/".join(parts)
