"""One synthetic scan: deform the template, move the boundaries, add lesions, and measure it with a scanner's faults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from datamodules.phantoms.anatomy import ABOVE, COLUMN_OF, DEEP, FOLIA, PIAL, TISSUES, Anatomy
from datamodules.phantoms.levels import memberships, random_field
from datamodules.phantoms.patients import PhantomPatient, PhantomScan
from datamodules.phantoms.presets import PhantomPreset
from datamodules.phantoms.scanner import measured

CHUNK = 50_000
"""Voxels interpolated at a time."""

LESION = 77
LESION_SIGNAL = {"t1": 66.0, "flair": 140.0}
LESION_MEDIAN_ML = 6.0
LESION_SPREAD = 0.85

SUBCORTICAL = ("thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens")
MEMBERS: Mapping[str, tuple[str, ...]] = {
    "ventricles": ("lateral_ventricle", "third_ventricle", "choroid_plexus"),
    "cortex": ("cortex",),
    "cerebellar_cortex": ("cerebellar_cortex",),
    "subcortical": SUBCORTICAL,
    "brainstem": ("brainstem",),
    "white_matter": ("white_matter",),
}
"""The classes behind each structure of a preset."""

SHIFTS: Mapping[str, tuple[tuple[str, ...], int, float]] = {
    "ventricles": (MEMBERS["ventricles"], ABOVE, 1.0),
    "cortex": (("csf", "outside"), PIAL, 0.35),
    "cerebellar_cortex": (("csf", "outside"), FOLIA, 0.45),
    "subcortical": (SUBCORTICAL, DEEP, -0.5),
    "brainstem": (("brainstem",), DEEP, -0.6),
    "white_matter": (("white_matter",), PIAL, -0.2),
}
"""Structure: the classes whose boundary moves outwards, the weight that limits where, mm per within-class deviation."""

SIGNAL_STEP = 0.03
PATCH_STEP = 0.03
"""Relative change of a tissue's signal per within-class deviation, for an even and for a patchy change."""


@dataclass(frozen=True)
class ScanImages:
    """The four images of a scan, each (I, J, K) on the anatomy's grid.

    Args:
        t1: int16, exactly 0 outside the mask.
        flair: int16, exactly 0 outside the mask.
        mask: bool, the brain.
        labels: uint8, FreeSurfer numbering, 77 for lesions, 0 exactly outside the mask.
    """

    t1: NDArray[np.int16]
    flair: NDArray[np.int16]
    mask: NDArray[np.bool_]
    labels: NDArray[np.uint8]


def render_scan(
    anatomy: Anatomy,
    preset: PhantomPreset,
    patient: PhantomPatient,
    scan: PhantomScan,
    patient_rng: np.random.Generator,
    scan_rng: np.random.Generator,
) -> ScanImages:
    """Draw the images of one scan.

    Args:
        anatomy: the template on the target grid.
        preset: the planted truth.
        patient: gives the sex, and is the same for both scans.
        scan: how far the structures have changed, and the scanner.
        patient_rng: the patient's generator, in the same state for each of the patient's scans.
        scan_rng: the scan's own generator.
    """
    points = _deformed_points(anatomy, preset.deformation_mm, patient.sex, patient_rng, scan_rng)
    share = _tissue_shares(anatomy, points[anatomy.active], scan.shape)
    lesion = _lesions(anatomy, points, scan.shape["lesions"], patient_rng)[anatomy.active] * share[COLUMN_OF["white_matter"]]
    mask, labels = _labelled(anatomy, points, share, lesion)
    pictures = []
    patches = _patches(anatomy) if preset.patchy_signal else None
    for channel, modality in enumerate(("t1", "flair")):
        signal = _signal(share, lesion, modality, scan.signal, patches, patient_rng, scan_rng)
        volume = np.zeros(anatomy.grid.shape, np.float32)
        volume[anatomy.active] = signal
        pictures.append(measured(volume, mask, anatomy, scan.scanner, channel, scan_rng))
    return ScanImages(pictures[0], pictures[1], mask, labels)


def _deformed_points(
    anatomy: Anatomy, rms_mm: float, sex: str, patient_rng: np.random.Generator, scan_rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return where in the template each voxel looks, (I, J, K, 3) in mm."""
    grid = anatomy.grid
    points = np.empty((*grid.shape, 3), np.float32)
    head = 0.004 * (0.3 if sex == "F" else -0.7)  # what is left of head size after a registration to the template
    for axis, centres in enumerate(anatomy.axes):
        scale = 1 + head + patient_rng.normal(0, 0.008) + scan_rng.normal(0, 0.001)
        moved = rms_mm * random_field(anatomy.knots, patient_rng) + 0.1 * rms_mm * random_field(anatomy.knots, scan_rng)
        shape = [1, 1, 1]
        shape[axis] = -1
        points[..., axis] = (centres * scale).astype(np.float32).reshape(shape) + moved
    return points


def _tissue_shares(anatomy: Anatomy, points: NDArray[np.float32], shape: Mapping[str, float]) -> NDArray[np.float32]:
    """Return how much of each voxel is of each class, (classes, N), for points (N, 3) in mm of the template."""
    shares = np.empty((len(TISSUES), len(points)), np.float32)
    for start in range(0, len(points), CHUNK):
        rows = slice(start, start + CHUNK)
        levels = np.ascontiguousarray((_interpolation(anatomy, points[rows]) @ anatomy.levels).T)
        shares[:, rows] = memberships(_shifted(levels, shape), anatomy.width)
    return shares


def _interpolation(anatomy: Anatomy, points: NDArray[np.float32]) -> csr_array:
    """Return linear interpolation at points, (N, voxels) sparse; beyond the grid the outermost voxel counts."""
    grid = anatomy.grid
    index = np.zeros((len(points), 8), np.int32)
    weight = np.ones((len(points), 8), np.float32)
    upper = np.array([[corner >> 2 & 1, corner >> 1 & 1, corner & 1] for corner in range(8)], bool)
    for axis, side in enumerate(grid.shape):
        position = np.clip((points[:, axis] - grid.origin[axis]) / grid.spacing[axis], 0, side - 1.001)
        low = position.astype(np.int32)
        beyond = (position - low).astype(np.float32)
        index *= side
        for corner in range(8):
            high = upper[corner, axis]
            index[:, corner] += low + 1 if high else low
            weight[:, corner] *= beyond if high else 1 - beyond
    ends = np.arange(0, index.size + 1, 8, dtype=np.int32)
    return csr_array((weight.ravel(), index.ravel(), ends), shape=(len(points), len(anatomy.levels)))


def _shifted(levels: NDArray[np.float32], shape: Mapping[str, float]) -> NDArray[np.float32]:
    """Move the boundaries of the structures; two classes compete, so a level moves twice as far as its boundary."""
    moved = levels[: len(TISSUES)]
    for structure, (classes, weight, step_mm) in SHIFTS.items():
        by = np.float32(2 * step_mm * shape[structure])
        for name in classes:
            moved[COLUMN_OF[name]] -= by * levels[weight]
    return moved


def _lesions(
    anatomy: Anatomy, points: NDArray[np.float32], change: float, patient_rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return how much of each voxel is lesion, (I, J, K) from 0 to 1: balls in white matter that add up to the load."""
    usual = LESION_MEDIAN_ML * 1000
    load = usual * math.exp(LESION_SPREAD * min(change, 2.5))
    number = int(patient_rng.integers(25, 45))
    order = np.searchsorted(anatomy.lesion_odds, patient_rng.random(number))
    centres = anatomy.lesion_sites[order]
    sizes = np.exp(patient_rng.normal(0, 0.9, number))
    radii = np.cbrt(sizes / sizes.sum() * load * 1.4 * 0.75 / math.pi)
    grid = anatomy.grid
    field = np.zeros(grid.shape, np.float32)
    soft = 0.25 * max(grid.spacing[0], 1.0)
    for centre, radius in zip(centres, radii, strict=True):
        block = []
        for axis in range(3):
            middle = (centre[axis] - grid.origin[axis]) / grid.spacing[axis]
            reach = (radius + 4 * soft + 6) / grid.spacing[axis]
            block.append(slice(max(int(middle - reach), 0), int(middle + reach) + 2))
        near = tuple(block)
        away = points[near] - centre.astype(np.float32)
        distance = np.sqrt(np.einsum("...c,...c->...", away, away))
        ball = 1 / (1 + np.exp(np.clip((distance - np.float32(radius)) / np.float32(soft), -30, 30)))
        np.maximum(field[near], ball, out=field[near])
    return field


def _labelled(
    anatomy: Anatomy, points: NDArray[np.float32], share: NDArray[np.float32], lesion: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Return the brain mask, and for each voxel in it the class that fills most of it."""
    inside = share[0] < 0.5
    best, most = np.ones(share.shape[1], np.intp), share[1].copy()
    for row in range(2, len(TISSUES)):  # several times faster than argmax along the first axis
        np.copyto(best, row, where=share[row] > most)
        np.maximum(most, share[row], out=most)
    left = np.array([tissue.left for tissue in TISSUES], np.uint8)[best]
    right = np.array([tissue.right for tissue in TISSUES], np.uint8)[best]
    ids = np.where(points[..., 0][anatomy.active] < 0, left, right)
    ids[lesion > 0.5] = LESION
    mask = np.zeros(anatomy.grid.shape, bool)
    labels = np.zeros(anatomy.grid.shape, np.uint8)
    mask[anatomy.active] = inside
    labels[anatomy.active] = np.where(inside, ids, 0)
    return mask, labels


def _patches(anatomy: Anatomy) -> NDArray[np.float32]:
    """Return the pattern of dark and bright patches, the same for all patients, in the active voxels."""
    rng = np.random.default_rng(20)
    return random_field(anatomy.patch_knots, rng)[anatomy.active]


def _signal(
    share: NDArray[np.float32],
    lesion: NDArray[np.float32],
    modality: str,
    change: Mapping[str, float],
    patches: NDArray[np.float32] | None,
    patient_rng: np.random.Generator,
    scan_rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the undisturbed signal in the active voxels: darker T1w, brighter FLAIR where a tissue has changed."""
    base = np.array([tissue.t1 if modality == "t1" else tissue.flair for tissue in TISSUES])
    means = base * (1 + 0.012 * patient_rng.normal(size=len(TISSUES)) + 0.006 * scan_rng.normal(size=len(TISSUES)))
    sign = -1 if modality == "t1" else 1
    pattern = np.zeros(share.shape[1], np.float32)
    for structure, z in change.items():
        rows = [COLUMN_OF[name] for name in MEMBERS[structure]]
        if patches is None:
            means[rows] *= 1 + sign * SIGNAL_STEP * z
            continue
        part = share[rows].sum(axis=0) ** 2  # little where tissues mix, so that neighbours see none of it
        level = float((part * patches).sum() / max(float(part.sum()), 1.0))
        strength = np.float32(sign * PATCH_STEP * z * base[rows].mean())
        pattern += part * (patches - np.float32(level)) * strength
    signal = pattern
    for mean, part in zip(means.astype(np.float32), share, strict=True):
        signal += mean * part
    white = np.float32(means[COLUMN_OF["white_matter"]])
    return signal + lesion * (np.float32(LESION_SIGNAL[modality]) - white)
