"""Which scans are used, which are not and why, and the flow that counts them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.cohort.eligibility import select_scans
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import NO_SCAN, Candidate, Cohort, Score
from datamodules.cohort.target import EDSS_SCALE, Target, parse_edss
from datamodules.files.tables import CohortError

Judge = Callable[..., Cohort]


@pytest.fixture
def judged(tmp_path: Path) -> Judge:
    """``judged(*candidates)`` beside one scan that is always good; each candidate is a dictionary of what differs from it."""
    for name in ("t1", "flair", "mask", "seg"):
        (tmp_path / name).write_bytes(b"x")

    def of(good: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
        images = {name: change.get(name, path) for name, path in good["images"].items()}
        others = {name: value for name, value in change.items() if name not in images}
        return good | others | {"images": {name: path for name, path in images.items() if path}}

    def run(*changes: dict[str, Any], rule: Target = Target()) -> Cohort:
        good = {
            "patient": "good",
            "session": "",
            "images": {"t1w": tmp_path / "t1", "flair": tmp_path / "flair"},
            "score": Score("2.0", 10),
            "where": "row",
        }
        return select_scans(tmp_path, [Candidate(**of(good, one)) for one in ({}, *changes)], rule)

    return run


def verdict(cohort: Cohort) -> tuple[str, str]:
    """Reason and detail of the one exclusion."""
    (one,) = cohort.exclusions
    return one.reason, one.detail


@pytest.mark.parametrize("text", [*(f"{value:g}" for value in EDSS_SCALE), "3", "3.", "3.0", "3,0", " 3.0 ", "03.50", "10.00"])
def test_scores_on_the_scale(text: str) -> None:
    assert parse_edss(text) in EDSS_SCALE


@pytest.mark.parametrize(
    "text", ["3.25", "99", "-1", "10.5", "0.25", "1_0", "1e0", "nan", "inf", "٣", "3.0*", "<3", "three", "", "3.0.0"]
)
def test_scores_not_on_the_scale(text: str) -> None:
    assert parse_edss(text) is None


def test_the_scale_has_twenty_steps() -> None:
    assert len(set(EDSS_SCALE)) == 20
    assert not {0.5, 0.25} & set(EDSS_SCALE)


@pytest.mark.parametrize(("edss", "label"), [("0", 0), ("2.5", 0), ("3.0", 1), ("3,5", 1), ("10", 1)])
def test_label_is_positive_from_the_threshold_on(judged: Judge, edss: str, label: int) -> None:
    assert judged({"patient": "p", "score": Score(edss, 0)}).scans[1].label == label


@pytest.mark.parametrize("edss", ["3.25", "99", "-1", "10.5", "unknown"])
def test_score_off_the_scale_is_excluded_with_value_and_row(judged: Judge, edss: str) -> None:
    cohort = judged({"patient": "p", "score": Score(edss, 0), "where": "edss.tsv line 4"})
    assert verdict(cohort) == ("EDSS not on the scale", f"'{edss}', edss.tsv line 4")


@pytest.mark.parametrize("edss", ["", "n/a", "NA", "NaN", " - ", "#N/A"])
def test_missing_score_is_excluded(judged: Judge, edss: str) -> None:
    assert verdict(judged({"patient": "p", "score": Score(edss, 0)})) == ("no EDSS", "row")
    assert verdict(judged({"patient": "p", "score": None})) == ("no EDSS", "row")


def test_half_is_kept_with_a_remark(judged: Judge) -> None:
    cohort = judged({"patient": "p", "session": "ses-1", "score": Score("0.5", 0)})
    assert [(scan.value, scan.label) for scan in cohort.scans] == [(2.0, 0), (0.5, 0)]
    assert cohort.remarks == ("EDSS 0.5 is not on the scale, its class is certain: kept p/ses-1",)
    cohort = judged({"patient": "p", "session": "ses-1", "score": Score("0.5", 0)}, rule=Target(kind="regression"))
    assert cohort.remarks == ("EDSS 0.5 is not on the scale, taken as it stands: kept p/ses-1",)


def test_half_is_excluded_where_its_class_is_not_certain(judged: Judge) -> None:
    cohort = judged({"patient": "p", "score": Score("0.5", 0)}, rule=Target(threshold=1.0))
    assert verdict(cohort)[0] == "EDSS not on the scale"


@pytest.mark.parametrize(
    ("days", "reason"),
    [(-1, "EDSS before day 0"), (184, "EDSS after day 183"), (None, "days from scan to EDSS unknown"), (0, None), (183, None)],
)
def test_label_window(judged: Judge, days: int | None, reason: str | None) -> None:
    cohort = judged({"patient": "p", "score": Score("3.0", days)})
    assert [one.reason for one in cohort.exclusions] == ([reason] if reason else [])


def test_undated_score_is_kept_on_request(judged: Judge) -> None:
    cohort = judged({"patient": "p", "score": Score("3.0", None)}, rule=Target(undated="keep"))
    assert [scan.days for scan in cohort.scans] == [10, None]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"t1w": None}, "no T1w"),
        ({"flair": None}, "no FLAIR"),
        ({"t1w": None, "flair": None}, NO_SCAN),
        ({"t1w": Path("C:\\scans\\t1.nii.gz")}, "T1w file missing"),
        ({"flair": Path("/nowhere/f.nii.gz")}, "FLAIR file missing"),
        ({"mask": Path("/nowhere/m.nii.gz")}, "mask file missing"),
        ({"labels": Path("/nowhere/l.nii.gz")}, "label map file missing"),
        ({"labels": Path("/bin/sh"), "dialect": "/nowhere/ids.tsv"}, "label table file missing"),
    ],
)
def test_scan_without_a_file_is_excluded(judged: Judge, change: dict[str, object], reason: str) -> None:
    told, detail = verdict(judged({"patient": "p", **change}))
    assert told == reason
    missing = [str(value) for value in change.values() if value is not None]
    assert detail == (missing[-1] if missing else "row")


def test_what_is_no_plain_file_is_missing(judged: Judge, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "t1")
    for path in (tmp_path / "pipe", tmp_path / "loop", tmp_path):
        assert verdict(judged({"patient": "p", "t1w": path})) == ("T1w file missing", str(path))
    assert not judged({"patient": "p", "t1w": tmp_path / "link"}).exclusions


@pytest.mark.parametrize("second", ["ses-1", "1", "SES-1"])
def test_session_that_occurs_twice_is_refused(judged: Judge, second: str) -> None:
    one, two = {"patient": "p", "session": "ses-1", "where": "line 2"}, {"patient": "p", "session": second, "where": "line 3"}
    with pytest.raises(
        CohortError, match=r"p/.* occurs twice: line 2 and line 3; keep one, or give repeated scans a session each"
    ):
        judged(one, two)


@pytest.mark.parametrize("second", ["p1", "Sub-P1", "sub-P1", "sub-\uff50\uff11"])
def test_patient_under_two_spellings_is_refused(judged: Judge, second: str) -> None:
    one, two = {"patient": "sub-p1", "where": "line 2"}, {"patient": second, "session": "b", "where": "line 3"}
    with pytest.raises(
        CohortError, match=r"patients 'sub-p1' \(line 2\) and .* \(line 3\) look like one; spell the name in one way"
    ):
        judged(one, two)


def test_order_is_by_patient_then_session(judged: Judge) -> None:
    cohort = judged({"patient": "z"}, {"patient": "a", "session": "2"}, {"patient": "a", "session": "1"})
    assert [scan.name for scan in cohort.scans] == ["a/1", "a/2", "good", "z"]
    assert cohort.patients == ("a", "good", "z")


def test_flow_counts_scans_and_patients_of_each_reason(judged: Judge) -> None:
    cohort = judged(
        {"patient": "a", "session": "1", "score": Score("4.0", 5)},
        {"patient": "a", "session": "2", "score": None},
        {"patient": "b", "session": "1", "score": None},
        {"patient": "b", "session": "2", "score": Score("2.0", 999)},
        {"patient": "c", "t1w": None, "flair": None},
    )
    flow = cohort.flow()
    assert flow["found"] == {"scans": 5, "patients": 4, "positive_scans": 1}
    assert flow["used"] == {"scans": 2, "patients": 2, "positive_scans": 1}
    told = {one["reason"]: (one["scans"], one["patients"]) for one in flow["excluded"]}  # type: ignore[attr-defined]
    assert told == {"no EDSS": (2, 2), "EDSS after day 183": (1, 1), NO_SCAN: (0, 1)}
    assert flow["excluded"][0]["who"][0] == {"patient": "a", "session": "2", "detail": "row"}  # type: ignore[index]


def test_further_exclusions_keep_the_count(judged: Judge) -> None:
    cohort = judged({"patient": "p"})
    fewer = cohort.without([*judged({"patient": "p", "flair": None}).exclusions])
    assert [scan.patient for scan in fewer.scans] == ["good"]
    assert fewer.flow()["found"] == cohort.flow()["found"]


def test_no_usable_scan_tells_reasons_and_an_example(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("patient,t1w,flair,edss\na,C:\\x\\t1.nii,f.nii,2\nb,C:\\y\\t1.nii,f.nii,2\n")
    with pytest.raises(CohortError, match=r"no usable scan in .*c\.csv: 2 x T1w file missing \(as a: .*C:\\x\\t1\.nii\)"):
        read_cohort(path, Target())


def test_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"cohort .*nothing does not exist; give a BIDS folder or a table"):
        read_cohort(tmp_path / "nothing", Target())
    os.mkfifo(tmp_path / "pipe.tsv")
    with pytest.raises(CohortError, match=r"pipe\.tsv is neither a folder nor a file"):
        read_cohort(tmp_path / "pipe.tsv", Target())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threshold": 0.0}, r"label\.threshold is 0\.0; an EDSS threshold lies in \(0, 10\]"),
        ({"threshold": 10.5}, r"label\.threshold is 10\.5"),
        ({"threshold": float("nan")}, r"label\.threshold is nan"),
        ({"min_days": 10, "max_days": 5}, r"label\.min_days 10 is later than label\.max_days 5"),
        ({"decision": "Midpoint"}, r"label\.decision is 'Midpoint'; it can be 'midpoint', 'balanced_accuracy' or 'prior'"),
        ({"undated": "drop"}, r"label\.undated is 'drop'; it can be 'exclude' or 'keep'"),
    ],
)
def test_label_rule_refuses_what_makes_no_label(options: dict[str, object], told: str) -> None:
    with pytest.raises(CohortError, match=told):
        Target(**options)  # type: ignore[arg-type]
