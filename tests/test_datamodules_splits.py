"""The split: each patient tested once, no leak, balanced parts, and a file that is checked on every load."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datamodules.cohort.records import Scan
from datamodules.cohort.splits import PARTITIONS, SplitError, Splits, load_splits, make_splits, write_splits
from datamodules.files.tables import CohortError


def scans_of(patients: int, positive: int, seed: int = 0) -> list[Scan]:
    """Scans of patients with one to three sessions each; the first ones are positive."""
    sessions = np.random.default_rng(seed).integers(1, 4, patients)
    file = Path("x")
    return [
        Scan(f"sub-{n:03d}", f"ses-{s}", {"t1w": file, "flair": file}, 4.0 if n < positive else 1.0, 0, int(n < positive))
        for n in range(patients)
        for s in range(sessions[n])
    ]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[Scan]]:
    """A split file of 20 patients, 8 of them positive, and their scans."""
    scans = scans_of(20, 8)
    write_splits(tmp_path / "splits.tsv", make_splits(scans, seed=3), scans, "cohort")
    return tmp_path / "splits.tsv", scans


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("patients", "positive", "folds"), [(14, 7, 7), (21, 8, 7), (84, 30, 7), (319, 109, 7), (20, 10, 3), (50, 11, 5)]
)
def test_every_patient_is_tested_once_and_no_one_leaks(seed: int, patients: int, positive: int, folds: int) -> None:
    scans = scans_of(patients, positive, seed)
    splits = make_splits(scans, seed, folds)
    names = [scan.patient for scan in scans]
    tested: Counter[str] = Counter()
    tuned: Counter[str] = Counter()
    for fold in range(folds):
        rows = splits.partitions(fold, names)
        assert tuple(rows) == PARTITIONS
        assert sorted(np.concatenate(list(rows.values()))) == list(range(len(scans)))
        who = {name: {names[row] for row in chosen} for name, chosen in rows.items()}
        assert not who["train"] & who["tuning"]
        assert not who["train"] & who["internal_test"]
        assert not who["tuning"] & who["internal_test"]
        tested.update(who["internal_test"])
        tuned.update(who["tuning"])
    assert tested == tuned == dict.fromkeys(names, 1)


@pytest.mark.parametrize("seed", range(8))
def test_parts_are_balanced_by_class_and_scans(seed: int) -> None:
    scans = scans_of(319, 109, seed)
    splits = make_splits(scans, seed)
    per_part = np.zeros((7, 2), int)
    scan_count = np.zeros(7, int)
    for patient, part in splits.part.items():
        per_part[part, int(int(patient[4:]) < 109)] += 1
    for scan in scans:
        scan_count[splits.part[scan.patient]] += 1
    assert (np.ptp(per_part, axis=0) <= 1).all()
    assert np.ptp(per_part.sum(axis=1)) <= 1
    assert np.ptp(scan_count) <= 8


def test_seed_decides_and_order_of_scans_does_not() -> None:
    scans = scans_of(40, 15)
    assert make_splits(scans, 0) == make_splits(scans[::-1], 0)
    assert make_splits(scans, 0).hash == make_splits(scans, 0).hash
    assert len({make_splits(scans, seed).hash for seed in range(10)}) == 10


def test_hash_knows_folds_and_parts() -> None:
    assert Splits({"a": 0}, 7, 0).hash != Splits({"a": 0}, 6, 0).hash
    assert Splits({"a": 0}, 7, 0).hash != Splits({"a": 1}, 7, 0).hash
    assert Splits({"a": 0, "b": 1}, 7, 0).hash == Splits({"b": 1, "a": 0}, 7, 1).hash


def test_patient_who_changes_class_counts_by_the_last_session() -> None:
    file = Path("x")
    changing = [Scan("sub-x", f"ses-{n}", {"t1w": file, "flair": file}, 1.0, 0, int(n == 10)) for n in (2, 9, 10)]
    with pytest.raises(SplitError, match=r"^6 positive patients"):
        make_splits(scans_of(20, 6), 0)
    splits = make_splits([*scans_of(20, 6), *changing], 0)
    assert {splits.part[f"sub-{n:03d}"] for n in range(6)} | {splits.part["sub-x"]} == set(range(7))


@pytest.mark.parametrize(
    ("patients", "positive", "seed", "folds", "told"),
    [
        (
            20,
            6,
            0,
            7,
            r"^6 positive patients cannot fill 7 folds, each needs one; use fewer .* patients: --folds 6 is possible",
        ),
        (8, 6, 0, 7, r"^2 negative and 6 positive patients .*; 7 of each class are needed, or 3 of each with --folds 3"),
        (10, 7, 0, 7, r"3 negative patients cannot fill 7 folds"),
        (20, 10, 0, 2, r"2 folds make no split; 3 or more leave a part each for training, tuning and test"),
        (20, 10, -1, 7, r"split_seed is -1; give 0 or more"),
    ],
)
def test_cohort_that_cannot_be_split(patients: int, positive: int, seed: int, folds: int, told: str) -> None:
    with pytest.raises(SplitError, match=told):
        make_splits(scans_of(patients, positive), seed, folds)


@pytest.mark.parametrize("fold", [-1, 7, 700])
def test_fold_out_of_range(fold: int) -> None:
    with pytest.raises(SplitError, match=rf"fold {fold} does not exist; folds are 0 to 6"):
        make_splits(scans_of(20, 8), 0).partitions(fold, ["sub-001"])


def test_patient_without_a_part() -> None:
    with pytest.raises(SplitError, match=r"patient sub-999 is in no part of the split \(1 such patients\)"):
        make_splits(scans_of(20, 8), 0).partitions(0, ["sub-001", "sub-999"])


def test_written_split_reads_back_equal(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    assert load_splits(path, scans) == make_splits(scans, seed=3)
    assert path.read_text().splitlines()[0] == "patient\tsession\tlabel\tpart"
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts == {"folds": 7, "seed": 3, "cohort_hash": "cohort", "split_hash": make_splits(scans, 3).hash}
    assert sorted(one.name for one in path.parent.iterdir()) == ["splits.json", "splits.tsv"]


def edited(path: Path, change: Callable[[list[list[str]]], object]) -> None:
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")


def move(rows: list[list[str]], row: int, part: str) -> None:
    rows[row][3] = part


def swap(rows: list[list[str]], one: str, two: str) -> None:
    part = {row[0]: row[3] for row in rows}
    for row in rows:
        row[3] = part[{one: two, two: one}.get(row[0], row[0])]


def test_leak_is_refused(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    lines = path.read_text().splitlines()
    repeated = next(n for n in range(1, len(lines) - 1) if lines[n].split("\t")[0] == lines[n + 1].split("\t")[0])
    patient, _, _, part = lines[repeated].split("\t")
    edited(path, lambda rows: move(rows, repeated, str((int(part) + 1) % 7)))
    with pytest.raises(SplitError, match=rf"patient {patient} is in parts \d and \d: a leak; restore the file"):
        load_splits(path, scans)


def test_swapped_patients_change_the_hash(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    part = make_splits(scans, seed=3).part
    other = next(patient for patient in ("sub-001", "sub-002") if part[patient] != part["sub-000"])
    edited(path, lambda rows: swap(rows, "sub-000", other))
    with pytest.raises(SplitError, match=r"is not the split that was made \(hash \w{12}, made \w{12}\); restore it"):
        load_splits(path, scans)


@pytest.mark.parametrize("part", ["7", "-1", "x", "", "1.0", "²"])
def test_part_that_does_not_exist(written: tuple[Path, list[Scan]], part: str) -> None:
    path, scans = written
    edited(path, lambda rows: move(rows, 1, part))
    with pytest.raises(SplitError, match=rf"splits.tsv line 2: part '{part}' does not exist; parts are 0 to 6"):
        load_splits(path, scans)


def test_scan_that_the_table_lacks(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    edited(path, lambda rows: rows.pop(1))
    with pytest.raises(
        SplitError, match=r"scan sub-000/ses-0 is in the cohort but not in .*splits.tsv; the cohort changed: use another"
    ):
        load_splits(path, scans)


def test_scan_foreign_to_the_cohort(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    with pytest.raises(SplitError, match=r"scan sub-000/ses-0 is not in the cohort but in .*splits.tsv \(\d such scans\)"):
        load_splits(path, [scan for scan in scans if scan.patient != "sub-000"][:-1] + scans[-1:])


def test_scan_twice_in_the_table(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    edited(path, lambda rows: rows.append(rows[1]))
    with pytest.raises(SplitError, match=r"scan sub-000/ses-0 is listed twice; restore the file"):
        load_splits(path, scans)


def test_label_that_changed(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    edited(path, lambda rows: rows[1].__setitem__(2, "0"))
    with pytest.raises(SplitError, match=r"scan sub-000/ses-0 has label 0, in the cohort 1; use another STUDY"):
        load_splits(path, scans)


def test_part_with_one_class(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    edited(path, lambda rows: [row.__setitem__(3, "0") for row in rows[1:] if row[2] == "1"])
    with pytest.raises(SplitError, match=r"part 1 holds 1 of the 2 classes of patients; restore the file"):
        load_splits(path, scans)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"splits.json is missing; restore it, or use another STUDY"),
        ("{", r"splits.json is damaged \(.*\); restore it"),
        ("[]", r"splits.json has no valid 'folds'"),
        ('{"folds": "7"}', r"splits.json has no valid 'folds'"),
        ('{"folds": 7, "seed": 0, "cohort_hash": "c"}', r"splits.json has no valid 'split_hash'"),
        (
            '{"folds": 7, "seed": 0, "cohort_hash": "c", "split_hash": "abc"}',
            r"is not the split that was made \(hash \w{12}, made abc\)",
        ),
    ],
)
def test_facts_beside_the_table(written: tuple[Path, list[Scan]], content: str | None, told: str) -> None:
    path, scans = written
    path.with_suffix(".json").unlink()
    if content is not None:
        path.with_suffix(".json").write_text(content)
    with pytest.raises(SplitError, match=told):
        load_splits(path, scans)


def test_table_without_its_columns(written: tuple[Path, list[Scan]]) -> None:
    path, scans = written
    edited(path, lambda rows: move(rows, 0, "Part"))
    with pytest.raises(CohortError, match=r"no column 'part' \(did you mean 'Part'\?\)"):
        load_splits(path, scans)
