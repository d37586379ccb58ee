"""Covariates as people write them, and plain cohort tables with dates."""

from __future__ import annotations

import math
from pathlib import Path

import openpyxl
import pytest

from datamodules.cohort.covariates import clean_cells, clean_covariates, number_of
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Score
from datamodules.cohort.table import read_table, write_table
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError

PATH = Path("participants.tsv")


def cleaned(**columns: list[str]) -> list[dict[str, str]]:
    count = len(next(iter(columns.values())))
    rows = [{"#": str(n + 2), **{name: cells[n] for name, cells in columns.items()}} for n in range(count)]
    return clean_covariates(PATH, rows, list(columns))


def test_a_number_too_large_to_be_one_is_none() -> None:
    assert [number_of(text) for text in ("3,0", "3 Tesla", "1e3")] == [3, 3, 1000]
    assert math.isnan(number_of("1e400"))


def test_decimal_commas_become_points_and_missing_cells_are_left_out() -> None:
    assert cleaned(age=["41,5", "n/a"], site=["A,B", "C"]) == [{"age": "41.5", "site": "A,B"}, {"site": "C"}]


def test_three_digits_after_a_comma_are_settled_by_the_column() -> None:
    assert cleaned(ml=["1,234", "2,5"]) == [{"ml": "1.234"}, {"ml": "2.5"}]
    assert cleaned(ml=["0,234"]) == [{"ml": "0.234"}]
    for other in ("n/a", "2.5", "7"):
        with pytest.raises(
            CohortError, match=r"participants.tsv line 2, column 'ml': '1,234' can be 1.234 or 1234; write it with"
        ):
            cleaned(ml=["1,234", other])


def test_columns_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(CohortError, match=r"participants.tsv has the columns 'Site' and 'site'; rename or remove one"):
        cleaned(Site=["A"], site=["B"])


@pytest.mark.parametrize(
    ("text", "sex"), [("f", "F"), ("Female", "F"), ("MALE", "M"), ("M", "M"), ("1", "1"), ("other", "other")]
)
def test_sexes(text: str, sex: str) -> None:
    assert cleaned(sex=[text]) == [{"sex": sex}]


@pytest.mark.parametrize("age", ["-1", "121", "041Y", "nan years", "1e2", "40-50", "-0"])
def test_ages_that_cannot_be(age: str) -> None:
    with pytest.raises(CohortError, match=r"participants.tsv line 2, column 'age': .* is not an age in years \(0 to 120\)"):
        cleaned(age=[age])


@pytest.mark.parametrize(
    "text", ["89+", "89 +", ">89", "> 89", ">=89", "≥ 89", "89.0+", "over 89", "89 and over", "89 or older"]
)
@pytest.mark.parametrize("column", ["age", "Age", "age_at_scan"])
def test_capped_ages_are_ages(tmp_path: Path, text: str, column: str) -> None:
    assert number_of(cleaned(**{column: [text]})[0][column]) == 89
    (tmp_path / "x").write_text("x")
    path = tmp_path / "cohort.csv"
    path.write_text(
        f"patient,t1w,flair,edss,days,{column}\na,x,x,2.0,1,{text}\nb,x,x,2.0,1,90+\nc,x,x,2.0,1,40\nd,x,x,,1,90+\n"
    )
    cohort = read_cohort(path, Target())
    assert [float(scan.covariates[column]) for scan in cohort.scans] == [89, 90, 40]
    listed = f"{'89.0+' if text == '89.0+' else '89+'}, 90+"
    assert cohort.remarks == (f"age capped for 2 of 3 scans ({listed}): the number given is taken as the age",)
    write_table(tmp_path / "again.tsv", read_table(path))
    assert read_cohort(tmp_path / "again.tsv", Target()).remarks == cohort.remarks


@pytest.mark.parametrize("age", ["<89", "121+", ">121", "+", ">", "89++", ">89+", "89-", "-89+", "over the hill"])
def test_a_cap_is_a_plausible_age_too(age: str) -> None:
    with pytest.raises(CohortError, match=r"is not an age in years \(0 to 120\); fix it \(a capped one is written 89\+\)"):
        cleaned(age=[age])
    with pytest.raises(CohortError, match="is not an age in years"):
        clean_cells({"age": age}, "row 1")


def test_a_capped_age_of_a_public_dataset() -> None:
    assert clean_cells({"age": "> 89", "site": "89+"}, "row 1") == {"age": "89+", "site": "89+"}


def test_many_odd_ages_are_listed_and_counted() -> None:
    with pytest.raises(CohortError, match=r"line 11, column 'age'.*\n  and 3 more$") as caught:
        cleaned(age=["-5"] * 13)
    assert str(caught.value).count("is not an age") == 10


HEADER = "patient\tt1w\tflair\tedss\tscan_date\tedss_date\tdays\tedss_source\trelapse_date\tage"


def table(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "cohort.tsv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_days_follow_from_dates(tmp_path: Path) -> None:
    row = "p\ta\tb\t2,5\t10.01.2020\t2020-01-20\t\tClinician\t2020-01-15\t41,5"
    (one,) = read_table(table(tmp_path, row))
    assert one.score == Score("2,5", 10, "clinician", 5)
    assert one.covariates == {"edss_source": "Clinician", "age": "41.5", "days_since_relapse": "5"}


def test_days_that_contradict_the_dates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CohortError, match=r"cohort.tsv line 2: days is 9, but 2020-01-20 is 10 days after 2020-01-10; fix one of them"
    ):
        read_table(table(tmp_path, "p\ta\tb\t2\t2020-01-10\t2020-01-20\t9\t\t\t"))


def test_table_survives_writing(tmp_path: Path) -> None:
    found = read_table(
        table(tmp_path, "p\ta.nii\t/b.nii\t2.5\t2020-01-10\t2020-01-20\t\tclinician\t\t41", "q\t\tb\tn/a\t\t\t\t\t\t")
    )
    write_table(tmp_path / "again" / "cohort.tsv", found)
    again = read_table(tmp_path / "again" / "cohort.tsv")
    assert [(a.patient, a.images, a.covariates) for a in again] == [(f.patient, f.images, f.covariates) for f in found]
    assert [one.score for one in again] == [Score("2.5", 10, "clinician"), Score("n/a", None)]


def test_spreadsheet_is_a_table(tmp_path: Path) -> None:
    from datetime import datetime

    for name in ("a.nii", "b.nii"):
        (tmp_path / name).write_text("x")
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["patient", "t1w", "flair", "edss", "scan_date", "edss_date", None])
    sheet.append([7, "a.nii", "b.nii", 3.5, datetime(2020, 1, 10), datetime(2020, 1, 20, 9, 30), None])
    sheet.append([None] * 7)
    book.save(tmp_path / "cohort.xlsx")
    (scan,) = read_cohort(tmp_path / "cohort.xlsx", Target()).scans
    assert (scan.patient, scan.value, scan.days, scan.label) == ("7", 3.5, 10, 1)
