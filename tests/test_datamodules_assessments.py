"""Which assessment belongs to a scan: places of the scores, their sources, relapses."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from datamodules.cohort.assessments import Assessment, assigned_score, read_assessments
from datamodules.cohort.eligibility import select_scans
from datamodules.cohort.records import Candidate, Cohort, Score
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError

SCANNED = date(2020, 1, 10)


def put(root: Path, name: str, *lines: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def row(edss: str, day: int, source: str = "", session: str = "", relapses: tuple[date, ...] = ()) -> Assessment:
    """An assessment on a day of January 2020."""
    return Assessment("sub-1", session, edss, date(2020, 1, day), None, source, f"edss.tsv day {day}", relapses)


def assigned(rows: list[Assessment], **rule: object) -> Score | None:
    return assigned_score(rows, ("sub-1", ""), SCANNED, True, Target(**rule))[0]  # type: ignore[arg-type]


def test_scores_stand_in_the_first_place_that_has_them(tmp_path: Path) -> None:
    put(tmp_path, "participants.tsv", "participant_id\tedss\tdays_since_scan", "sub-1\t3.0\t4", "2\tn/a\tn/a")
    (only,) = read_assessments(tmp_path).by_patient["sub-1"]
    assert (only.value, only.days, only.where) == ("3.0", 4, "participants.tsv line 2")
    assert read_assessments(tmp_path).count == 1
    put(tmp_path, "sub-1/sub-1_sessions.tsv", "session_id\tacq_time\tedss\tedss_date", "1\t2020-01-10\t2.5\t11.01.2020")
    found = read_assessments(tmp_path)
    assert [(one.session, one.value, one.assessed) for one in found.by_patient["sub-1"]] == [
        ("ses-1", "2.5", date(2020, 1, 11))
    ]
    assert found.remarks == ("participants.tsv has EDSS too; those of sub-*_sessions.tsv are taken",)
    put(tmp_path, "phenotype/edss.tsv", "participant_id\tedss\tedss_date", "sub-1\t1.0\t2020-01-12")
    found = read_assessments(tmp_path)
    assert (found.by_patient["sub-1"][0].value, found.remarks[0][:16]) == ("1.0", "participants.tsv")


def test_the_same_assessment_twice_is_counted_once_and_told(tmp_path: Path) -> None:
    lines = ["1\t2.0\t2020-01-12", "1\t2,0\t12.01.2020", "1\t2.0\tn/a", "1\t2.0\tn/a"]
    put(tmp_path, "phenotype/edss.tsv", "participant_id\tedss\tedss_date", *lines)
    found = read_assessments(tmp_path)
    assert found.count == 3
    assert found.remarks == ("the same assessment twice, counted once: edss.tsv line 2 and edss.tsv line 3",)


def test_wanted_source_goes_before_the_nearer_one() -> None:
    rows = [row("2.0", 11, "patient"), row("3.5", 20, "clinician"), row("4.0", 12)]
    assert assigned(rows) == Score("2.0", 1, "patient")
    assert assigned(rows, source="Clinician") == Score("3.5", 10, "clinician")
    assert assigned(rows, source="any") == Score("2.0", 1, "patient")
    undated = [
        Assessment("sub-1", "", edss, None, None, source, edss) for edss, source in (("2.0", "patient"), ("3.5", "clinician"))
    ]
    assert assigned(undated, source="clinician") == Score("3.5", None, "clinician")


def judged(tmp_path: Path, *scores: Score, **rule: object) -> Cohort:
    for name in ("t1", "flair"):
        (tmp_path / name).write_text("x")
    found = [
        Candidate(f"p{n}", "", {"t1w": tmp_path / "t1", "flair": tmp_path / "flair"}, score, f"line {n}")
        for n, score in enumerate(scores)
    ]
    return select_scans(tmp_path, found, Target(**rule))  # type: ignore[arg-type]


def test_sources_are_never_mixed_silently(tmp_path: Path) -> None:
    scores = (Score("2.0", 1, "clinician"), Score("3.0", 1, "patient"), Score("3.0", 1))
    told = r"EDSS of several sources \(clinician 1, patient 1\); choose one with --label.source clinician, or mix them"
    with pytest.raises(CohortError, match=told):
        judged(tmp_path, *scores)
    mixed = judged(tmp_path, *scores, source="any")
    assert (len(mixed.scans), mixed.remarks) == (3, ("EDSS by source: clinician 1, patient 1, unknown 1",))
    chosen = judged(tmp_path, *scores, source="clinician")
    assert [scan.patient for scan in chosen.scans] == ["p0"]
    assert [(one.reason, one.detail) for one in chosen.exclusions] == [
        ("EDSS not by clinician", "by patient, line 1"),
        ("EDSS not by clinician", "line 2"),
    ]
    with pytest.raises(CohortError, match=r"label.source is 'nurse'; the EDSS have these sources: clinician 1, patient 1"):
        judged(tmp_path, *scores, source="nurse")


def test_one_source_and_unknown_ones_are_told(tmp_path: Path) -> None:
    assert judged(tmp_path, Score("2.0", 1, "clinician"), Score("3.0", 1)).remarks == (
        "EDSS by source: clinician 1, unknown 1",
    )
    assert judged(tmp_path, Score("2.0", 1)).remarks == ()


def test_an_undated_row_of_the_scans_own_session_goes_before_another_session_where_no_window_is_asked() -> None:
    dated = Assessment("sub-1", "ses-2", "60", date(2020, 3, 1), None, "", "line 2")
    own = Assessment("sub-1", "ses-1", "30", None, None, "", "line 3")
    name, scanned, target = ("sub-1", "ses-1"), date(2020, 1, 10), Target("sdmt", threshold=45.0)
    assert assigned_score([dated, own], name, scanned, False, target) == (Score("30", None), "line 3")
    assert assigned_score([dated, replace(own, assessed=date(2019, 1, 1))], name, scanned, False, target)[0] == Score("60", 51)
    assert assigned_score([dated], name, scanned, False, target)[0] == Score("60", 51)
    windowed = Target("sdmt", threshold=45.0, max_days=90)
    assert assigned_score([dated, own], name, scanned, False, windowed)[0] == Score("60", 51)


def test_assessment_after_a_relapse_is_passed_over_only_on_request() -> None:
    onset = (date(2020, 1, 1), date(2019, 6, 1))
    rows = [row("4.0", 15, relapses=onset), row("2.0", 31, relapses=onset)]
    assert assigned(rows) == Score("4.0", 5, since_relapse=14)
    assert assigned(rows, relapse_days=14) == Score("2.0", 21, since_relapse=30)
    assert assigned(rows, relapse_days=30) == Score("4.0", 5, since_relapse=14)
    assert assigned([row("4.0", 15, relapses=(date(2020, 1, 16),))], relapse_days=30) == Score("4.0", 5)


def test_relapses_exclude_with_their_reason_and_unknown_ones_are_counted(tmp_path: Path) -> None:
    scores = (Score("2.0", 1, since_relapse=30), Score("3.0", 1, since_relapse=31), Score("3.0", 1))
    cohort = judged(tmp_path, *scores, relapse_days=30)
    assert [(one.patient, one.reason) for one in cohort.exclusions] == [("p0", "EDSS within 30 days after a relapse")]
    assert cohort.exclusions[0].detail == "30 days after its onset, line 0"
    assert cohort.remarks == ("relapses before the EDSS: known for 1 of 2 scans, unknown for the others, the shortest 31 days",)
    assert len(judged(tmp_path, *scores).scans) == 3
    assert (
        judged(tmp_path, Score("2.0", 1), relapse_days=30).remarks[0].startswith("relapses before the EDSS: known for 0 of 1")
    )


@pytest.mark.parametrize("name", ["phenotype/relapses.tsv", "relapses.tsv"])
def test_relapse_table(tmp_path: Path, name: str) -> None:
    put(
        tmp_path,
        "phenotype/edss.tsv",
        "participant_id\tedss\tedss_date\trelapse_date",
        "1\t2.0\t2020-01-12\t2019-12-30",
        "2\t2\tn/a\t",
    )
    put(tmp_path, name, "participant_id\trelapse_date", "1\t01.01.2020", "1\tn/a", "2\t2018-01-01")
    found = read_assessments(tmp_path)
    (one,) = found.by_patient["sub-1"]
    assert one.relapses == (date(2020, 1, 1), date(2019, 12, 30))
    put(tmp_path, name, "participant_id\trelapse_date", "1\tspring")
    with pytest.raises(CohortError, match=r"relapses.tsv line 2, column 'relapse_date': 'spring' is not a date"):
        read_assessments(tmp_path)


def test_relapse_is_counted_from_the_scan_where_only_days_are_told() -> None:
    one = Assessment("sub-1", "", "2.0", None, 10, "", "line 2", (date(2020, 1, 15),))
    assert assigned([one]) == Score("2.0", 10, since_relapse=5)


def test_negative_relapse_days_are_refused() -> None:
    with pytest.raises(CohortError, match=r"label.relapse_days is -1; give a number of days, or 0 for no such rule"):
        Target(relapse_days=-1)
