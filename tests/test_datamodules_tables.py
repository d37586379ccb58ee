"""Tables as people keep them, and what is said about those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.cohort.table import read_table
from datamodules.files.tables import CohortError, parse_days, read_rows, require_columns, tsv_text


def table(tmp_path: Path, content: str | bytes, name: str = "cohort.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", "a,b\n1,x y\n2,\n"),
        ("byte order mark.csv", b"\xef\xbb\xbfa,b\n1,x y\n2,\n"),
        ("windows.csv", "a,b\r\n1,x y\r\n2,\r\n"),
        ("old_mac.csv", "a,b\r1,x y\r2,\r"),
        ("semicolon.csv", "a;b\n1;x y\n2;\n"),
        ("tab.csv", "a\tb\n1\tx y\n2\t\n"),
        ("table.tsv", "a\tb\n1\tx y\n2\t\n"),
        ("table.TSV", "a\tb\n1\tx y\n2\t\n"),
        ("quoted.csv", 'a,b\n"1","x y"\n2,""\n'),
        ("spaces.csv", " a , b \n 1 , x y \n 2 , \n"),
        ("no end of line.csv", "a,b\n1,x y\n2,"),
    ],
)
def test_dialects_read_alike(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read_rows(table(tmp_path, content, name)) == [{"#": "2", "a": "1", "b": "x y"}, {"#": "3", "a": "2", "b": ""}]


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;", "Sep=; "])
@pytest.mark.parametrize("name", ["cohort.csv", "cohort.tsv"])
def test_a_declared_delimiter_is_heeded(tmp_path: Path, start: str, end: str, line: str, name: str) -> None:
    path = table(tmp_path, start + end.join([line, 'a;"b,c,d,e"', "1;3,5", '"2;2";', ""]), name)
    rows = [{"#": "3", "a": "1", "b,c,d,e": "3,5"}, {"#": "4", "a": "2;2", "b,c,d,e": ""}]
    assert read_rows(path) == rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", ":"])
def test_any_delimiter_can_be_declared_and_lines_are_counted_in_the_file(tmp_path: Path, delimiter: str) -> None:
    lines = [f"sep={delimiter}", delimiter.join("ab"), delimiter.join("12"), "3"]
    with pytest.raises(CohortError, match=r"cohort\.csv line 4: 1 cells where the header has 2"):
        read_rows(table(tmp_path, "\n".join(lines)))
    assert read_rows(table(tmp_path, "\n".join(lines[:3]))) == [{"#": "3", "a": "1", "b": "2"}]


@pytest.mark.parametrize("content", ["sep=;", "sep=;\n", "\ufeffsep=;\r\n\r\n"])
def test_a_declared_delimiter_alone_is_an_empty_table(tmp_path: Path, content: str) -> None:
    with pytest.raises(CohortError, match="is empty"):
        read_rows(table(tmp_path, content))


@pytest.mark.parametrize("first", ["sep", "sep=", "sep=a", "separator="])
def test_a_column_that_looks_alike_stays_a_column(tmp_path: Path, first: str) -> None:
    assert set(read_rows(table(tmp_path, f"{first};b\n1;2\n"))[0]) == {first, "b", "#"}


def test_blank_rows_are_skipped_and_lines_still_counted(tmp_path: Path) -> None:
    rows = read_rows(table(tmp_path, "a,b\n\n1,2\n,\n   \n3,4\n"))
    assert [(row["#"], row["a"]) for row in rows] == [("3", "1"), ("6", "3")]


def test_decimal_commas_live_in_a_semicolon_table(tmp_path: Path) -> None:
    assert read_rows(table(tmp_path, "patient;edss\n1;3,5\n"))[0]["edss"] == "3,5"


def test_own_column_called_number_sign_does_not_hide_the_line(tmp_path: Path) -> None:
    assert read_rows(table(tmp_path, "#,a\n77,1\n"))[0]["#"] == "2"


def test_unnamed_empty_columns_of_a_spreadsheet_are_ignored(tmp_path: Path) -> None:
    assert read_rows(table(tmp_path, "a,b,,\n1,2,,\n")) == [{"#": "2", "a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", r"cohort\.csv is empty; its first line must name the columns"),
        ("\n , ,\n", r"is empty; its first line must name the columns"),
        ("a,b,a\n1,2,3\n", r"names column 'a' twice; rename or remove one"),
        ("a,b\n1,2\n3\n", r"line 3: 1 cells where the header has 2"),
        ("a,b\n1,2,3\n", r"line 2: 3 cells where the header has 2"),
        (b"a,b\n1,\xe9\n", r"not UTF-8 text \(.* at byte 6\); save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), r"not UTF-8 text"),
        (b"PK\x03\x04\xff\xfe", r"not UTF-8 text"),
        ('a,b\n1,"2\n3,4\n', r"line 3: unexpected end of data; check the quotation marks"),
        ('a,b\n1,"2\n3"\n', r"column 'b': '2\\n3' holds a tab, line break or quotation mark"),
        ('a,b\n1,"say ""x"""\n', r"line 2, column 'b': 'say \"x\"' holds a tab, line break or quotation mark"),
        ("a,b,\n1,2,3\n", r"line 2: '3' is in a column without a name"),
    ],
)
def test_unreadable_table_is_told_plainly(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(CohortError, match=told) as caught:
        read_rows(table(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_missing_column_names_the_likeliest_and_those_present(tmp_path: Path) -> None:
    path = table(tmp_path, "pateint,T1W,flair,edss\na,b,c,1\n")
    with pytest.raises(
        CohortError, match=r"no column 'patient' \(did you mean 'pateint'\?\); it has: pateint, T1W, flair, edss"
    ):
        read_table(path)
    with pytest.raises(CohortError, match=r"no column 't1w' \(did you mean 'T1W'\?\)"):
        require_columns(path, read_rows(path), ("t1w",))
    with pytest.raises(CohortError, match=r"no column 'zzz'; it has"):
        require_columns(path, read_rows(path), ("zzz",))


def test_header_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"has no rows below its header"):
        read_table(table(tmp_path, "patient,t1w,flair,edss\n"))


def test_row_becomes_candidate(tmp_path: Path) -> None:
    header = "patient;session;t1w;flair;mask;labels;dialect;edss;days;label;age;site"
    row = "p 1;n/a;my scans/t1.nii;/abs/f.nii;-;seg.nii;ids.tsv;3,5;12.0;0;44;N/A"
    (one,) = read_table(table(tmp_path, f"{header}\n{row}\n"))
    assert (one.patient, one.session, one.where) == ("p 1", "", "cohort.csv line 2")
    assert one.images == {"t1w": tmp_path / "my scans/t1.nii", "flair": Path("/abs/f.nii")}
    assert (one.mask, one.labels, one.dialect) == (None, tmp_path / "seg.nii", str(tmp_path / "ids.tsv"))
    assert one.score is not None
    assert (one.score.value, one.score.days) == ("3,5", 12)
    assert one.covariates == {"age": "44"}


@pytest.mark.parametrize("dialect", ["", "n/a", "FreeSurfer"])
def test_dialect_defaults_to_freesurfer_in_any_case(tmp_path: Path, dialect: str) -> None:
    (one,) = read_table(table(tmp_path, f"patient,t1w,flair,edss,dialect\na,b,c,1,{dialect}\n"))
    assert one.dialect == "freesurfer"


def test_row_without_patient_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"cohort\.csv line 3: no patient; each row needs one"):
        read_table(table(tmp_path, "patient,t1w,flair,edss\na,b,c,1\nn/a,b,c,1\n"))


@pytest.mark.parametrize(
    ("text", "days"), [("12", 12), ("12.0", 12), ("-3", -3), ("+7", 7), ("0", 0), ("", None), ("N/A", None)]
)
def test_days(text: str, days: int | None) -> None:
    assert parse_days(text, "here") == days


@pytest.mark.parametrize("text", ["1.5", "1_0", "2020-01-01", "soon", "1e3", "٣", "9999999", "inf"])
def test_days_that_are_none(text: str) -> None:
    with pytest.raises(
        CohortError, match=r"here: days is .*; give a whole number of days from scan to EDSS, or leave it empty"
    ):
        parse_days(text, "here")


FORMULAS = (
    "=1+1", "=cmd|' /C calc'!A0", "+HYPERLINK(1)", "-cmd|A0", "@SUM(A1)", "-1+cmd|A0", "+4917612345x", "-1 +cmd|A0", "'=1+1",
    "''-x", "=-0.5", "-0.5=1", "-_",
)  # fmt: skip
HARMLESS = (
    "-0.5", "+0.04", "-1e-05", "-12 %", "-inf", "+0.04 [-0.06, +0.14]", "-0.1 (-0.2, 0.3)", "-", "n/a", "'quoted", "a=b",
    "sub-1", "", "0", "-3",
)  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_a_spreadsheet_would_run_is_guarded_and_read_back_equal(text: str, tmp_path: Path) -> None:
    written = tsv_text(["patient", "site"], [[text, 1], ["b", text]])
    assert [line.split("\t") for line in written.splitlines()[1:]] == [[f"'{text}", "1"], ["b", f"'{text}"]]
    (tmp_path / "t.tsv").write_text(written)
    rows = read_rows(tmp_path / "t.tsv")
    assert [(row["patient"], row["site"]) for row in rows] == [(text, "1"), ("b", text)]
    again = tsv_text(["patient", "site"], [[row["patient"], row["site"]] for row in rows])
    assert again == written


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_plain_texts_stay_as_they_are(text: str, tmp_path: Path) -> None:
    written = tsv_text(["patient", "site"], [[text, "x"]])
    assert written.splitlines()[1] == f"{text}\tx"
    (tmp_path / "t.tsv").write_text(written)
    assert read_rows(tmp_path / "t.tsv")[0]["patient"] == text


def test_numbers_are_written_as_they_are_and_none_as_an_empty_cell() -> None:
    assert tsv_text(["a", "b", "c", "d"], [[-0.5, None, np.float64(-1e-5), -3]]).splitlines()[1] == "-0.5\t\t-1e-05\t-3"
