"""A new scan against a training cohort: a sound one passes, and each fault made to it is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from datamodules.cohort.read import read_cohort
from datamodules.cohort.target import Target
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from datamodules.quality.extent import brain_ends
from datamodules.quality.laterality import SideReference, side_differences, side_reference
from datamodules.quality.reference import MeasuredScan, QualityReference, measure_scan
from datamodules.quality.resolution import evenness
from datamodules.store.reference import measure_stored, reference_of_stored
from datamodules.store.store import open_store
from regions.atlas import template_on
from regions.catalog import REGIONS
from regions.grid import Grid

TRAINED = 32
Volumes = Mapping[str, np.ndarray[Any, Any]]
GRID = Grid.of((50, 61, 47), np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]]))


@dataclass(frozen=True)
class Known:
    """A reference of some scans, and the volumes of others of the same kind."""

    reference: QualityReference
    grid: Grid
    unseen: list[dict[str, np.ndarray[Any, Any]]]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    folder = tmp_path_factory.mktemp("reference")
    write_phantom_cohort(folder / "cohort", PhantomOptions(patients=40, scans=40, spacing_mm=4.0, seed=3))
    scans = read_cohort(folder / "cohort", Target()).scans
    prepared = open_store(scans, folder / "store")
    unseen = [dict(zip(prepared.names, map(np.asarray, prepared.maps(row)), strict=True)) for row in range(TRAINED, len(scans))]
    return Known(reference_of_stored(prepared.of_rows(range(TRAINED))), prepared.grid, unseen)


def test_sound_scans_that_were_not_trained_on_pass(known: Known) -> None:
    verdicts = [known.reference.judge(measure_scan(volumes, known.grid)).verdict for volumes in known.unseen]
    assert "held" not in verdicts
    assert verdicts.count("ok") >= len(verdicts) - 2


def swapped(volumes: Volumes) -> Volumes:
    return {"t1w": volumes["flair"], "flair": volumes["t1w"]}


def inverted(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(image != 0, -image, 0).astype(image.dtype)


def t2w_as_t1w(volumes: Volumes) -> Volumes:
    return {"t1w": inverted(volumes["t1w"]), "flair": volumes["flair"]}


def t2w_as_flair(volumes: Volumes) -> Volumes:
    return {"t1w": volumes["t1w"], "flair": inverted(volumes["t1w"])}


def t1w_twice(volumes: Volumes) -> Volumes:
    return {"t1w": volumes["t1w"], "flair": volumes["t1w"]}


def cut(volumes: Volumes, share: float, top: bool) -> Volumes:
    planes = np.flatnonzero((volumes["t1w"] != 0).any(axis=(0, 1)))
    lost = planes[int(len(planes) * (1 - share)) :] if top else planes[: int(len(planes) * share)]
    return {name: np.where(np.isin(np.arange(image.shape[2]), lost), 0, image) for name, image in volumes.items()}


def without_vertex(volumes: Volumes) -> Volumes:
    return cut(volumes, 0.15, top=True)


def without_base(volumes: Volumes) -> Volumes:
    return cut(volumes, 0.25, top=False)


def thick_slices(volumes: Volumes) -> Volumes:
    smooth = {name: uniform_filter1d(image.astype(np.float32), 3, axis=2) for name, image in volumes.items()}
    return {name: np.where(volumes[name] != 0, image, 0).astype(np.float16) for name, image in smooth.items()}


def noisy(volumes: Volumes) -> Volumes:
    rng = np.random.default_rng(0)
    return {
        name: np.where(image != 0, image + rng.normal(0, 1, image.shape), 0).astype(np.float16)
        for name, image in volumes.items()
    }


def flair_elsewhere(volumes: Volumes) -> Volumes:
    return {"t1w": volumes["t1w"], "flair": np.roll(volumes["flair"], 3, axis=1) * (volumes["t1w"] != 0)}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (swapped, "T1w and FLAIR look swapped"),
        (t2w_as_t1w, "white and gray matter differ otherwise in t1w than in the training cohort"),
        (t2w_as_flair, "FLAIR is not dark where the T1w shows fluid"),
        (t1w_twice, "FLAIR is a copy of the T1w, or another T1w"),
        (without_vertex, "the brain ends early: superior"),
        (without_base, "the brain ends early: inferior"),
        (thick_slices, "t1w is smoother along one axis, as thick slices are"),
        (noisy, "T1w is noisier than the others"),
        (flair_elsewhere, "T1w and FLAIR do not agree"),
    ],
)
def test_each_fault_holds_every_scan_back_by_name(known: Known, fault: Callable[[Volumes], Volumes], message: str) -> None:
    for volumes in known.unseen:
        judged = known.reference.judge(measure_scan(fault(volumes), known.grid))
        assert judged.verdict == "held"
        assert message in [finding.message for finding in judged.findings]


def test_a_label_map_adds_volumes_and_changes_no_other_number(known: Known) -> None:
    plain = measure_scan(known.unseen[0], known.grid)
    mapped = measure_scan(known.unseen[0], known.grid, template_on(known.grid))
    added = set(mapped.numbers) - set(plain.numbers)
    assert added == {f"ml_{name}" for name in REGIONS if name != "global"}
    assert {name: mapped.numbers[name] for name in plain.numbers} == dict(plain.numbers)


def test_a_reference_holds_no_scan_and_goes_through_json(known: Known) -> None:
    content = json.loads(json.dumps(asdict(known.reference)))
    assert QualityReference.of(content) == known.reference
    assert all(set(entry) == {"median", "spread", "scans"} for entry in content["numbers"].values())
    assert {entry["scans"] for entry in content["numbers"].values()} == {TRAINED}


def asymmetric(rng: np.random.Generator, size: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """An image of noise that is brighter on the left front, and its brain."""
    x, y, _ = np.meshgrid(*(GRID.origin[a] + 4 * np.arange(GRID.shape[a]) for a in range(3)), indexing="ij")
    brain = x**2 + y**2 < 60**2
    return np.where(brain, rng.normal(size=GRID.shape) + size * np.exp(-((x + 30) ** 2 + (y - 30) ** 2) / 800), 0), brain


def sides_of(size: float, scans: int) -> tuple[SideReference, list[np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(1)
    differences = [side_differences([image], brain, GRID) for image, brain in (asymmetric(rng, size) for _ in range(scans))]
    return side_reference(np.array(differences[: scans - 10])), differences[scans - 10 :]


def test_a_mirrored_scan_is_told_where_the_cohort_is_asymmetric() -> None:
    sides, unseen = sides_of(1.0, 40)
    assert sides.can_tell
    assert not any(map(sides.is_mirrored, unseen))
    assert all(sides.is_mirrored(-differences) for differences in unseen)
    assert not any(map(sides.is_doubtful, unseen))
    said = {sign: QualityReference({}, sides).judge(MeasuredScan({}, sign * unseen[0])) for sign in (1.0, 0.0, -1.0)}
    assert (said[1.0].verdict, said[1.0].reason) == ("ok", "")
    assert (said[0.0].verdict, said[0.0].reason) == ("look", "left and right cannot be told")
    assert (said[-1.0].verdict, said[-1.0].reason) == ("held", "left and right look exchanged")


def test_a_symmetric_cohort_says_that_it_cannot_tell() -> None:
    sides, unseen = sides_of(0.0, 40)
    assert not sides.can_tell
    assert not any(sides.is_mirrored(sign * differences) for differences in unseen for sign in (1, -1))


def test_few_scans_say_nothing_of_sides() -> None:
    sides, unseen = sides_of(1.0, 25)
    assert sides == SideReference()
    assert np.isnan(sides.score(unseen[0]))


def test_mirroring_an_image_changes_the_sign_of_its_differences() -> None:
    """On a grid whose planes lie alike on both sides of the middle."""
    even = replace(GRID, shape=(50, *GRID.shape[1:]))
    image, brain = asymmetric(np.random.default_rng(0), 1.0)
    there, back = side_differences([image], brain, even), side_differences([image[::-1]], brain[::-1], even)
    assert there == pytest.approx(-back, abs=1e-5)


def test_evenness_of_noise_is_one_and_of_thick_slices_less() -> None:
    rng = np.random.default_rng(0)
    image, brain = rng.normal(size=(40, 41, 42)), np.ones((40, 41, 42), bool)
    assert evenness(image, brain) == pytest.approx(1, abs=0.02)
    assert evenness(7 * image + 3, brain) == pytest.approx(evenness(image, brain))
    assert evenness(np.repeat(image[:, :, ::3], 3, axis=2), brain) == pytest.approx(1 / 3, abs=0.03)
    assert np.isnan(evenness(np.zeros_like(image), brain))


def test_the_ends_of_a_box_are_its_faces() -> None:
    grid = Grid.of((40, 50, 60), np.array([[2.0, 0, 0, -39], [0, 2, 0, -49], [0, 0, 2, -59], [0, 0, 0, 1]]))
    brain = np.zeros(grid.shape, bool)
    brain[5:30, 10:45, 20:60] = True
    ends = brain_ends(brain, grid)
    faces = {"left": 30, "right": 20, "posterior": 30, "anterior": 40, "inferior": 20, "superior": 60}
    for side, face in faces.items():
        assert ends[side] == pytest.approx(face, abs=0.5), side


def test_a_stored_scan_is_measured_as_its_volumes_are(known: Known, tmp_path: Path, phantom_cohort: Path) -> None:
    scans = read_cohort(phantom_cohort, Target()).scans[:1]
    prepared = open_store(scans, tmp_path / "store")
    volumes = dict(zip(prepared.names, map(np.asarray, prepared.maps(0)), strict=True))
    stored, measured = measure_stored(prepared, 0), measure_scan(volumes, prepared.grid, prepared.labels(0))
    assert stored.numbers == pytest.approx(dict(measured.numbers), nan_ok=True)
    assert np.array_equal(stored.differences, measured.differences)
