"""Limits and verdicts: what is held back, why, and how a user takes a scan back in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.cohort.flagged_scans import ACCEPTED, HELD, VERDICTS, quality_folder, read_flagged, write_verdicts
from datamodules.cohort.read import read_cohort
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError
from datamodules.quality.limits import HOLD_Z, LEAST_SCANS, LIMITS, LOOK_Z, judge_scans, limit_of, robust_z


def test_robust_z_of_iglewicz_and_hoaglin() -> None:
    """Their modified z-score is 0.6745 (x - median) / MAD, with 3.5 as the limit; 1 / 1.4826 is 0.6745."""
    values = np.array([2.1, 2.6, 2.4, 2.5, 2.3, 2.1, 2.3, 2.6, 8.2, 8.3])
    mad = np.median(np.abs(values - np.median(values)))
    np.testing.assert_allclose(robust_z(values), 0.6745 * (values - np.median(values)) / mad, rtol=1e-4)
    assert (np.flatnonzero(np.abs(robust_z(values)) > LOOK_Z) == [8, 9]).all()


def test_too_few_scans_or_no_spread_say_nothing() -> None:
    assert np.isnan(robust_z(np.arange(LEAST_SCANS - 1.0))).all()
    assert np.isnan(robust_z(np.ones(20))).all()
    assert np.isfinite(robust_z(np.ones(20), least=0.1)).all()
    assert np.isnan(robust_z(np.array([np.nan, *range(20)]))[0])


def test_a_fixed_limit_holds_back_whatever_the_others_are() -> None:
    (one,) = judge_scans([{"template_dice": 0.76, "contrast_order": 0.5}])
    assert (one.verdict, one.reason) == ("held", "brain and template overlap too little")
    assert one.detail == "0.76, at least 0.85 is allowed"
    assert one.worst == 1000
    assert judge_scans([{"template_dice": 0.95, "determinant": 1.4, "cut_brainstem": 0.088}])[0].verdict == "ok"
    assert judge_scans([{"contrast_order": -0.4}])[0].reason == "T1w and FLAIR look swapped"
    assert judge_scans([{"cut_brainstem": 0.2}])[0].reason == "brainstem is partly outside the field of view"
    assert judge_scans([{"left_right_known": 0.0}])[0].verdict == "held"
    assert judge_scans([{"template_dice": float("nan")}])[0].verdict == "ok"


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        ("brain_ml", 2500.4, "2500.4, at most 2500 is allowed"),
        ("brain_ml", 12345.0, "12300, at most 2500 is allowed"),
        ("brain_ml", 699.7, "699.7, at least 700 is allowed"),
        ("template_dice", 0.8499, "0.8499, at least 0.85 is allowed"),
        ("template_dice", 0.0, "0, at least 0.85 is allowed"),
        ("cut_brainstem", 1 / 3, "0.333, at most 0.1 is allowed"),
        ("pair_correlation", np.nextafter(0.95, 1), "0.9500000000000001, at most 0.95 is allowed"),
    ],
)
def test_a_value_is_told_from_its_limit(name: str, value: float, detail: str) -> None:
    assert judge_scans([{name: value}])[0].detail == detail


def test_the_cohort_decides_where_no_fixed_limit_can() -> None:
    rng = np.random.default_rng(1)
    scans = [{"ml_brainstem": float(np.exp(rng.normal(3, 0.1))), "noise_t1w": 0.1} for _ in range(60)]
    scans[7] = {"ml_brainstem": float(np.exp(np.log(25) + 0.08 * (LOOK_Z + HOLD_Z) / 2) - 5), "noise_t1w": 0.1}
    scans[9] = {"ml_brainstem": 2.0, "noise_t1w": 0.1}
    judged = judge_scans(scans)
    assert [row for row, one in enumerate(judged) if one.verdict == "look"] == [7]
    assert [row for row, one in enumerate(judged) if one.verdict == "held"] == [9]
    assert judged[9].reason == "volume of brainstem is far from the others'"
    assert judged[9].worst > judged[7].worst


def test_sound_scans_are_seldom_marked_and_never_held() -> None:
    rng = np.random.default_rng(0)
    names = ["template_dice", "template_nmi", "pair_nmi", "noise_t1w", "noise_flair", *(f"ml_{i}" for i in range(5))]
    centre = {"template_dice": 0.97, "template_nmi": 1.1, "pair_nmi": 1.1}
    scans = [{name: centre.get(name, 1.0) * float(np.exp(rng.normal(0, 0.01))) for name in names} for _ in range(400)]
    verdicts = [one.verdict for one in judge_scans(scans)]
    assert verdicts.count("held") == 0
    assert verdicts.count("look") <= 8


def test_every_limit_says_why() -> None:
    assert all(len(limit.reason) > 20 and limit.tails in ("", "low", "high", "both") for limit in LIMITS)
    assert limit_of("cut_gray_matter") is limit_of("cut_brainstem") is not None
    assert limit_of("brain_native_ml") is None


@pytest.fixture
def held(phantom_copy: Path) -> Path:
    """A cohort in whose qc.tsv one scan is held back."""
    scans = read_cohort(phantom_copy, Target()).scans
    keys = [(scan.patient, scan.session) for scan in scans]
    numbers = [{"template_dice": 0.7 if row == 2 else 0.97, "ml_x": float("nan")} for row in range(len(scans))]
    write_verdicts(phantom_copy, keys, judge_scans(numbers), numbers)
    return phantom_copy


def test_a_held_scan_is_excluded_and_counted(held: Path) -> None:
    cohort = read_cohort(held, Target())
    whole = read_cohort(held, Target(), with_flagged=True)
    (out,) = cohort.flow()["excluded"]  # type: ignore[misc]
    assert out["reason"] == f"{HELD}brain and template overlap too little"
    assert out["who"] == [
        {"patient": whole.scans[2].patient, "session": whole.scans[2].session, "detail": "0.7, at least 0.85 is allowed"}
    ]
    assert out["positive_scans"] == whole.scans[2].label
    assert len(cohort.scans) == len(whole.scans) - 1
    assert cohort.flow()["found"] == whole.flow()["found"]


def test_a_verdict_that_was_written_by_hand_counts_or_is_refused(held: Path) -> None:
    path, ((patient, session),) = held / VERDICTS, read_flagged(held)
    written = path.read_text()
    path.write_text(written.replace("\theld\t", "\tHeld\t"))
    assert [scan.name for scan in read_cohort(held, Target()).exclusions] == [f"{patient}/{session}"]
    for word in ("hold", ""):
        path.write_text(written.replace("\theld\t", f"\t{word}\t"))
        with pytest.raises(CohortError, match=rf"qc.tsv line 4: verdict '{word}' is none; it can be held, look or ok$"):
            read_cohort(held, Target())


@pytest.mark.parametrize("bare", [False, True])
def test_an_accepted_scan_is_used_and_named(held: Path, bare: bool) -> None:
    ((patient, session),) = read_flagged(held)
    names = (patient.removeprefix("sub-"), session.removeprefix("ses-")) if bare else (patient, session)
    (held / ACCEPTED).write_text("patient\tsession\treason\n" + "\t".join([*names, "looked at"]) + "\n")
    cohort = read_cohort(held, Target())
    assert cohort.flow()["excluded"] == []
    assert f"accepted in {ACCEPTED} although beyond a limit: {patient}/{session}" in cohort.remarks


def test_an_acceptance_without_reason_or_object_is_named(held: Path) -> None:
    (held / ACCEPTED).write_text("patient\tsession\treason\nsub-0001\tses-01\t\n")
    with pytest.raises(CohortError, match=r"qc_accept\.tsv line 2: each row needs a patient and a reason"):
        read_cohort(held, Target())
    (held / ACCEPTED).write_text("patient\tsession\treason\nsub-none\tses-01\tfine\n")
    told = f"{ACCEPTED} names scans that are not held back: sub-none/ses-01"
    assert told in read_cohort(held, Target()).remarks
    (held / ACCEPTED).write_text("patient\tsession\treason\n")
    assert len(read_cohort(held, Target()).exclusions) == 1


def test_a_cohort_of_held_scans_only_is_an_error(held: Path) -> None:
    path = held / VERDICTS
    path.write_text(path.read_text().replace("\tok\t", "\theld\t"))
    with pytest.raises(CohortError, match=r"qc\.tsv holds back every usable scan; look at them, then accept them"):
        read_cohort(held, Target())


def test_the_files_stand_beside_participants_or_the_table(held: Path, tmp_path: Path) -> None:
    assert quality_folder(held) == held
    assert quality_folder(held / "derivatives" / "phantom").resolve() == held.resolve()
    assert quality_folder(tmp_path / "cohort.tsv") == tmp_path
