"""One person under two ids: found by the images, in the way of a training until it is explained, and one patient afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.cohort.read import read_cohort
from datamodules.cohort.same_person import read_same_person
from datamodules.cohort.splits import make_splits
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError, read_rows
from datamodules.store import duplicates
from datamodules.store.duplicates import near_pairs, residual_correlation
from experiments.__main__ import main
from experiments.study import duplicates as record
from experiments.study.settings import parse_settings

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def doubled(phantom_copy: Path) -> Path:
    """The phantom cohort, whose second patient is the first with noise."""
    root, rng = phantom_copy / "derivatives" / "phantom", np.random.default_rng(0)
    for path in (root / "sub-0001" / "ses-01" / "anat").glob("*.nii.gz"):
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        noisy = values + rng.normal(0, 0.05 * values.std(), values.shape) * (values != 0)
        target = root / "sub-0002" / "ses-01" / "anat" / path.name.replace("sub-0001", "sub-0002")
        nib.save(nib.Nifti1Image((values if values.dtype.kind == "u" else noisy).astype(values.dtype), image.affine), target)
    return phantom_copy


@pytest.fixture
def command(store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(name: str, cohort: Path, *words: str) -> tuple[int, str]:
        places = ["--cohort", str(cohort), "--store", str(store_folder), "--studies", str(tmp_path / "studies")]
        capsys.readouterr()
        status = main([name, *places, "--preset", "demo", "--study", "s", *words])
        printed = capsys.readouterr()
        return status, " ".join((printed.out + printed.err).split())

    return run


@pytest.mark.parametrize(
    "words", [("sweep",), ("submit", "--dry_run"), ("fold", "--roi", "brainstem", "--fold", "0"), ("baselines",)]
)
def test_nothing_is_trained_on_two_patients_who_look_like_one(
    doubled: Path, command: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    status, text = command(words[0], doubled, *words[1:])
    assert status == 2
    assert (
        "two patients look like one person: sub-0001/ses-01 and sub-0002/ses-01: nearly the same brain (correlation 0.9" in text
    )
    assert "name them in same_person.tsv beside the cohort and begin another STUDY" in text
    assert "--doubles keep" in text
    assert not list((tmp_path / "studies" / "s").glob("*/fold-*"))


def test_they_are_kept_once_that_was_said(doubled: Path, command: Command, tmp_path: Path) -> None:
    status, text = command("submit", doubled, "--dry_run", "--doubles", "keep")
    assert status == 0
    assert "two patients who look like one person are kept apart: sub-0001/ses-01 and sub-0002/ses-01" in text
    status, text = command("submit", doubled, "--dry_run")
    assert (status, "look like one person" in text) == (0, False)
    content = json.loads((tmp_path / "studies" / "s" / "duplicates.json").read_text())
    assert content["accepted"]
    assert [pair["first"] for pair in content["pairs"]] == ["sub-0001/ses-01"]


def test_that_they_are_kept_changes_no_result() -> None:
    assert parse_settings(["--doubles", "keep"]).hash() == parse_settings([]).hash()


def test_same_person_makes_them_one_patient(doubled: Path, command: Command, tmp_path: Path) -> None:
    (doubled / "same_person.tsv").write_text("patient\tsame_as\n2\tsub-0001\n")
    status, text = command("submit", doubled, "--dry_run")
    assert status == 0, text
    study = tmp_path / "studies" / "s"
    rows = [row for row in read_rows(study / "splits.tsv") if row["patient"] in ("sub-0001", "sub-0002")]
    assert {row["patient"] for row in rows} == {"sub-0001"}
    assert {"ses-01", "sub-0002_ses-01"} <= {row["session"] for row in rows}
    assert len({row["part"] for row in rows}) == 1
    flow = json.loads((study / "flow.json").read_text())
    assert flow["used"] | {"positive_scans": 0} == {"scans": 25, "patients": 20, "positive_scans": 0}
    assert "same_person.tsv: sub-0002 is sub-0001" in flow["remarks"]


def test_the_images_are_compared_once(phantom_copy: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = duplicates.duplicates_of
    monkeypatch.setattr(record, "duplicates_of", lambda *a, **k: calls.append(1) or original(*a, **k))
    for _ in range(2):
        assert command("submit", phantom_copy, "--dry_run")[0] == 0
    assert len(calls) == 1
    (path,) = (phantom_copy / "derivatives" / "phantom" / "sub-0003" / "ses-01" / "anat").glob("*_T1w.nii.gz")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) // 2, image.affine), path)
    assert command("submit", phantom_copy, "--dry_run")[0] == 0
    assert len(calls) == 2


def read(folder: Path, *rows: str, header: str = "patient\tsame_as") -> dict[str, str]:
    (folder / "same_person.tsv").write_text("\n".join([header, *rows]) + "\n")
    return {key: kept.text for key, kept in read_same_person(folder).items()}


def test_links_are_followed_to_their_end(tmp_path: Path) -> None:
    assert read_same_person(tmp_path) == {}
    assert read(tmp_path, "P3\tP2", "P2\tp-01", "P5\tP4") == {"p3": "p-01", "p2": "p-01", "p5": "P4"}
    assert read(tmp_path) == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["P1\tP2", "P2\tP1"], "is the same as others in a circle; keep one id of each person"),
        (["P1\tsub-P01"], "is the same as others in a circle"),
        (["P1\tP2", "p1\tP3"], "line 3: p1 is the same as two others; write one row for each id"),
        (["P1\t"], "line 2: each row needs two ids of one person, patient and same_as"),
    ],
)
def test_rows_that_name_nobody_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(CohortError, match=message):
        read(tmp_path, *rows)
    with pytest.raises(CohortError, match="same_as"):
        read(tmp_path, "P1\tP2", header="patient\tother")


def table(folder: Path, *scans: tuple[str, str]) -> Path:
    """A cohort table of empty files; labels alternate."""
    rows = ["patient\tsession\tt1w\tflair\tedss\tdays"]
    for number, (patient, session) in enumerate(scans):
        for kind in ("t1", "fl"):
            (folder / f"{number}{kind}.nii").write_text("")
        rows.append(f"{patient}\t{session}\t{number}t1.nii\t{number}fl.nii\t{4 * (number % 2)}\t3")
    path = folder / "cohort.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_quality_control_goes_on_naming_scans_by_their_own_ids(tmp_path: Path) -> None:
    scans = [("P1", "1"), ("P2", "1"), ("P2", "2"), ("P3", "1")]
    path = table(tmp_path, *scans)
    (tmp_path / "qc.tsv").write_text("patient\tsession\tverdict\treason\tdetail\nP2\t1\theld\tcut off\t\n")
    read(tmp_path, "P2\tP1", "P9\tP3")
    cohort = read_cohort(path, Target())
    assert [scan.name for scan in cohort.scans] == ["P1/1", "P1/P2_2", "P3/1"]
    assert [scan.name for scan in cohort.exclusions] == ["P1/P2_1"]
    assert cohort.patients == ("P1", "P3")
    assert "same_person.tsv: P2 is P1" in cohort.remarks
    assert "same_person.tsv names patients who are not in the cohort: p9" in cohort.remarks
    assert [scan.name for scan in read_cohort(path, Target(), with_flagged=True).scans] == ["P1/1", "P2/1", "P2/2", "P3/1"]


def test_a_person_stands_in_one_part_and_a_scan_keeps_a_name_of_its_own(tmp_path: Path) -> None:
    path = table(tmp_path, *((f"P{number}", "") for number in range(1, 13)), ("P1", "P2"))
    read(tmp_path, "P3\tP1", "P4\tP1")
    cohort = read_cohort(path, Target())
    splits = make_splits(cohort.scans, 0, 3)
    assert set(splits.part) == {f"P{number}" for number in range(1, 13)} - {"P3", "P4"}
    read(tmp_path, "P2\tP1")
    with pytest.raises(CohortError, match="makes two scans P1/P2; give one of them another session"):
        read_cohort(path, Target())


def test_ids_of_one_person_that_the_cohort_does_not_have_are_one_id_in_whatever_writing(tmp_path: Path) -> None:
    path = table(tmp_path, ("P1", ""), ("P2", ""), ("P3", ""))
    assert read(tmp_path, "P2\tsub-77", "P3\t077") == {"p2": "sub-77", "p3": "sub-77"}
    assert [scan.name for scan in read_cohort(path, Target()).scans] == ["P1", "sub-77/P2", "sub-77/P3"]


def people(count: int, twice: int, noise: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Scans of so many people around one brain, the first of them twice; noise is that of a session, in people's spread."""
    brain, spread = 5 * rng.normal(size=(2, 800)), rng.normal(size=(count, 2, 800))
    rows = [*range(count), *range(twice)]
    return [(brain + spread[row] + noise * rng.normal(size=(2, 800))).astype(np.float32) for row in rows]


def test_the_correlation_is_that_without_the_mean_of_the_others() -> None:
    prints = people(6, 1, 0.3, np.random.default_rng(1))
    found = residual_correlation(prints)
    for first in range(7):
        for second in set(range(7)) - {first}:
            others = np.mean([prints[row] for row in range(7) if row not in (first, second)], axis=0)
            plain = [np.corrcoef(prints[first][c] - others[c], prints[second][c] - others[c])[0, 1] for c in (0, 1)]
            assert found[first, second] == pytest.approx((max(plain) * 6 - 1) / 5, abs=1e-6)


@pytest.mark.parametrize("count", [4, 5, 8, 20, 60])
@pytest.mark.parametrize("noise", [0.15, 0.35])
def test_sessions_that_resemble_each_other_as_real_ones_do_are_found_in_cohorts_of_any_size(count: int, noise: float) -> None:
    """Correlations of a person's two sessions of 0.98 and 0.89: real ones have 0.88 to 0.975, whatever the number of scans."""
    rng = np.random.default_rng(count)
    for _ in range(5):
        prints = people(count, 1, noise, rng)
        (pair,) = near_pairs(prints)
        assert pair[:2] == (0, count)
        assert pair[2] == pytest.approx(1 / (1 + noise**2), abs=0.05)


def test_unrelated_scans_correlate_by_nothing_on_average_in_small_cohorts_too() -> None:
    rng = np.random.default_rng(3)
    for count in (5, 10, 40):
        values = residual_correlation(people(count, 0, 0.2, rng))
        assert abs(values[np.triu_indices(count, 1)].mean()) < 0.06
