"""Any column of a cohort's tables can be what is told from the images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.cohort.read import read_candidates, read_cohort
from datamodules.cohort.records import Cohort
from datamodules.cohort.target import Target, parse_number
from datamodules.files.tables import CohortError, read_rows
from experiments.__main__ import main
from experiments.study.record import read_record
from experiments.study.recorded import recorded_words
from experiments.study.scan_table import read_scans
from experiments.study.settings import parse_settings
from experiments.study.study import cohort_hash, cohort_table

SEX = Target("sex", positive="M", negative="F")
TINY = ["--preset", "demo", "--trainer.max_epochs", "1", "--network.init_args.width", "2", "--network.init_args.stages", "2"]


def test_the_edss_brings_its_rules_and_any_other_column_none() -> None:
    edss = Target()
    for same in (edss, Target("EDSS"), Target("Edss")):
        assert (same.threshold, same.min_days, same.max_days, same.undated) == (3.0, 0, 183, "exclude")
    sdmt = Target("sdmt", threshold=45, direction="below")
    assert (sdmt.min_days, sdmt.max_days, sdmt.undated) == (None, None, "keep")
    assert Target("sdmt", threshold=45, max_days=90).undated == "exclude"
    assert (Target("age_at_scan", "regression").low, Target("Age", "regression").high) == (0.0, 120.0)


@pytest.mark.parametrize(
    ("target", "text", "value", "label"),
    [
        (Target(), "3,5", 3.5, 1),
        (Target(), "2.5", 2.5, 0),
        (Target("sdmt", threshold=45, direction="below"), "44", 44.0, 1),
        (Target("sdmt", threshold=45, direction="below"), "45", 45.0, 0),
        (Target("sdmt", threshold=-1.5), "-1,5e0", -1.5, 1),
        (SEX, "male", 1.0, 1),
        (SEX, "Weiblich", 0.0, 0),
        (Target("gender", positive="woman", negative="man"), "F", 1.0, 1),
        (Target("diagnosis", positive="RRMS, SPMS", negative="HC"), " spms ", 1.0, 1),
        (Target("diagnosis", positive=("isolated  syndrome",), negative="HC"), "Isolated Syndrome", 1.0, 1),
        (Target("group", positive="2", negative="1"), "2", 1.0, 1),
        (Target("group", positive="j\u00e4h", negative="langsam"), "Ja\u0308h", 1.0, 1),
        (Target("age", positive="young", negative="old"), "old", 0.0, 0),
        (Target("diagnosis", positive="RRMS,SPMS", negative="HC"), "RRMS/SPMS", 1.0, 1),
        (Target("diagnosis", positive="RRMS", negative="HC,OND,HC/OND"), "HC/OND/HC/OND", 0.0, 0),
        (Target(kind="ordinal", cuts=(2, 4, 6)), "4.0", 4.0, 2),
        (Target("age", "regression"), "89+", 89.0, 0),
        (Target("age", "regression"), "41,5", 41.5, 0),
    ],
)  # fmt: skip
def test_a_cell_becomes_a_value_and_a_label(target: Target, text: str, value: float, label: int) -> None:
    assert target.fault_of(text) == ""
    assert target.value_of(text) == value
    assert target.label_of(value) == label


@pytest.mark.parametrize(
    ("target", "text", "fault"),
    [
        (Target(), "n/a", "no EDSS"),
        (Target(), "3.25", "EDSS not on the scale"),
        (Target(threshold=1.0), "0.5", "EDSS not on the scale"),
        (Target(kind="ordinal", cuts=(1, 3)), "0.5", "EDSS not on the scale"),
        (Target(kind="ordinal", cuts=(0.5, 3)), "0,5", "EDSS not on the scale"),
        (Target(kind="ordinal", cuts=(2, 3)), "0.5", ""),
        (Target(kind="regression"), "0.5", ""),
        (SEX, "O", "sex of neither class"),
        (Target("diagnosis", positive="RRMS", negative="HC"), "PPMS", "diagnosis of neither class"),
        (Target("walk_time", threshold=8), "8 s", "walk time is no number"),
        (Target("walk_time", threshold=8), "inf", "walk time is no number"),
        (Target("walk_time", threshold=8), "-", "no walk time"),
        (Target("sdmt", threshold=45, low=0, high=110), "111", "sdmt above 110"),
        (Target("sdmt", threshold=45, low=0, high=110), "-1", "sdmt below 0"),
        (Target("age", "regression"), "200", "age above 120"),
    ],
)
def test_a_cell_without_a_label_says_why(target: Target, text: str, fault: str) -> None:
    assert target.fault_of(text) == fault


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "class"}, r"label.kind is 'class'; it can be 'binary', 'ordinal' or 'regression'"),
        ({"column": "label"}, r"label.column is 'label'; give the name of a column"),
        ({"column": ""}, r"label.column is ''; give"),
        ({"column": "sdmt"}, r"label.column is sdmt: say what is positive with --label.threshold, or --label.positive"),
        ({"column": "sex", "positive": "M"}, r"label.negative is empty; name the values of both classes"),
        ({"column": "sex", "positive": "M", "negative": "F,male"}, r"'m' is in label.positive and in label.negative"),
        ({"column": "sex", "positive": "M", "negative": "F", "threshold": 1}, r"label.threshold does not go with .* of names"),
        ({"column": "sdmt", "kind": "regression", "threshold": 4}, r"label.threshold does not go with label.kind regression"),
        ({"column": "sdmt", "threshold": float("nan")}, r"label.threshold is nan; give a number"),
        ({"column": "sdmt", "threshold": 1, "relapse_days": 30}, r"label.relapse_days 30 goes with edss, not with sdmt"),
        ({"kind": "ordinal"}, r"label.cuts is \[\]; an ordinal target needs values in ascending order"),
        ({"kind": "ordinal", "cuts": (4, 2)}, r"label.cuts is \[4, 2\]; an ordinal"),
        ({"kind": "ordinal", "cuts": (2, 2)}, r"label.cuts is \[2, 2\]; an ordinal"),
        ({"column": "sdmt", "threshold": 4, "low": 9, "high": 3}, r"label.low 9 is not below label.high 3"),
        ({"kind": "ordinal", "cuts": (1, float("nan"))}, r"label.cuts: nan is no finite number; give another"),
        ({"column": "sdmt", "kind": "regression", "low": float("nan")}, r"label.low: nan is no finite number"),
        ({"column": "sdmt", "kind": "regression", "direction": "below"}, r"label.direction does not go with .* regression"),
        (
            {"column": "sex", "positive": "M", "negative": "F", "direction": "below"},
            r"label.direction does not go with .* of names",
        ),
        ({"column": "drug", "positive": "dmt", "negative": "None"}, r"'None' in a table says that a value is not known"),
        ({"threshold": 11}, r"label.threshold is 11; an EDSS threshold lies in \(0, 10\]"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CohortError, match=message):
        Target(**fields)


@pytest.mark.parametrize(
    "target",
    [
        Target(), Target(threshold=4.0, source="Clinician", relapse_days=30), SEX, Target("age", "regression", units="years"),
        Target("diagnosis", positive="RRMS,SPMS", negative="HC"), Target(kind="ordinal", cuts=(2, 4.5)),
        Target("sdmt", threshold=45, direction="below", max_days=90),
    ],
)  # fmt: skip
def test_it_comes_back_from_a_file_and_from_a_command_line(target: Target, study: Any) -> None:
    assert Target(**json.loads(json.dumps(target.plain()))) == target
    words = [word for word in recorded_words(replace(study.record, label=target)) if word.startswith("--label.")]
    if target.kind == "binary":
        assert parse_settings(["--preset", "demo", *words]).label() == target


@pytest.mark.parametrize(
    ("target", "described", "sentence"),
    [
        (Target("walk_time", "regression"), "walk time, the number itself", "the walk time: the number itself."),
        (
            Target("age", "regression", units="years"),
            "age in years, the number itself",
            "the age: in years, the number itself.",
        ),
        (
            Target(kind="ordinal", cuts=(2, 4)),
            "EDSS in 3 steps, cut at 2, 4",
            "the EDSS assessed 0 to 183 days after the scan: in 3 steps, cut at 2, 4.",
        ),
    ],
)
def test_a_number_is_told_on_its_scale(target: Target, described: str, sentence: str) -> None:
    assert target.describe() == described
    assert target.sentence() == f"The networks estimate, from the scan, {sentence}"


def test_of_the_edss_files_say_what_they_said() -> None:
    assert Target().plain() == {
        "threshold": 3.0, "min_days": 0, "max_days": 183, "undated": "exclude", "source": "", "relapse_days": 0,
        "decision": "midpoint",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["1", "-1.5", "+2", ",5", "1.", "1e3", "1,5E-2"])
def test_numbers_are_numbers(text: str) -> None:
    assert parse_number(text) == float(text.replace(",", "."))


@pytest.mark.parametrize("text", ["", "1 2", "1.5.2", "0x10", "1_000", "nan", "infinity", "1e999", "٣", "M"])
def test_other_texts_are_none(text: str) -> None:
    assert parse_number(text) is None


Write = Callable[[Path, dict[str, str]], None]


def participants(root: Path, values: dict[str, str]) -> None:
    rows = [(row["participant_id"], row["age"]) for row in read_rows(root / "participants.tsv")]
    lines = ["participant_id\tage\tsdmt", *(f"{name}\t{age}\t{values[name]}" for name, age in rows)]
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")


def phenotype(name: str) -> Write:
    def write(root: Path, values: dict[str, str]) -> None:
        lines = ["participant_id\tother\tsdmt", *(f"{patient}\t1\t{value}" for patient, value in values.items())]
        (root / "phenotype" / name).write_text("\n".join(lines) + "\n")

    return write


def sessions(root: Path, values: dict[str, str]) -> None:
    for patient, value in values.items():
        folders = sorted(path.name for path in root.glob(f"derivatives/*/{patient}/ses-*"))
        (root / patient).mkdir(exist_ok=True)
        text = "\n".join(["session_id\tsdmt", *(f"{name}\t{value}" for name in folders)])
        (root / patient / f"{patient}_sessions.tsv").write_text(text + "\n")


def all_sessions(root: Path, values: dict[str, str]) -> None:
    scans = [(path.parent.name, path.name) for path in sorted(root.glob("derivatives/*/sub-*/ses-*"))]
    lines = ["participant_id\tsession_id\tsdmt", *(f"{patient}\t{name}\t{values[patient]}" for patient, name in scans)]
    (root / "sessions.tsv").write_text("\n".join(lines) + "\n")


PLACES = {
    "participants.tsv": participants,
    "a phenotype table of its name": phenotype("sdmt.tsv"),
    "any phenotype table": phenotype("cognition.tsv"),
    "sub-X_sessions.tsv": sessions,
    "sessions.tsv": all_sessions,
}


@pytest.mark.parametrize("place", PLACES)
def test_it_stands_in_any_table_of_a_dataset(phantom_copy: Path, place: str) -> None:
    patients = [row["participant_id"] for row in read_rows(phantom_copy / "participants.tsv")]
    values = {patient: str(30 + number) for number, patient in enumerate(patients)}
    PLACES[place](phantom_copy, values)
    cohort = read_cohort(phantom_copy, Target("sdmt", threshold=40, direction="below"))
    assert {scan.patient: scan.value for scan in cohort.scans} == {p: float(v) for p, v in values.items()}
    assert {scan.label for scan in cohort.scans if scan.value < 40} == {1}
    assert not any("sdmt" in scan.covariates for scan in cohort.scans)


def test_two_phenotype_tables_with_it_are_refused(phantom_copy: Path) -> None:
    for name in ("one.tsv", "two.tsv"):
        phenotype(name)(phantom_copy, {"sub-0001": "40"})
    with pytest.raises(CohortError, match=r"has column 'sdmt' in several tables \(one.tsv, two.tsv\); keep it in one"):
        read_cohort(phantom_copy, Target("sdmt", threshold=40))


def test_its_assessment_belongs_to_a_scan_by_date(phantom_copy: Path) -> None:
    rows = read_rows(phantom_copy / "phenotype" / "edss.tsv")
    lines = ["participant_id\tsession_id\tsdmt\tsdmt_date"]
    for row in rows:
        lines += [f"{row['participant_id']}\t{row['session_id']}\t50\t{row['edss_date']}"]
        lines += [f"{row['participant_id']}\t{row['session_id']}\t20\t{int(row['edss_date'][:4]) + 5}-01-01"]
    (phantom_copy / "phenotype" / "sdmt.tsv").write_text("\n".join(lines) + "\n")
    cohort = read_cohort(phantom_copy, Target("sdmt", threshold=40, min_days=-400, max_days=400))
    assert {scan.value for scan in cohort.scans} == {50.0}
    assert all(scan.days is not None for scan in cohort.scans)
    late = read_cohort(phantom_copy, Target("sdmt", threshold=40, min_days=1000))
    assert {scan.value for scan in late.scans} == {20.0}


@pytest.mark.parametrize("edss", ["edss", "EDSS"])
def test_the_days_of_a_table_count_to_the_edss_where_it_has_one(tmp_path: Path, edss: str) -> None:
    def table(header: str, cells: str) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tsv"
        lines = [f"patient\tt1w\tflair\t{header}", *(f"{name}\t{name}.nii\t{name}f.nii\t{cells}" for name in "ab")]
        path.write_text("\n".join(lines) + "\n")
        return path

    def days(path: Path, **window: Any) -> list[int | None]:
        scores = [one.score for one in read_candidates(path, Target("sdmt", threshold=45, **window))[0]]
        return [score.days for score in scores if score]

    assert days(table("sdmt\tdays", "40\t12"), max_days=90) == [12, 12]
    both = table(f"{edss}\tsdmt\tdays", "2\t40\t12")
    assert days(both) == [None, None]
    with pytest.raises(
        CohortError, match="days counts to the EDSS, not to sdmt; a window of days needs scan_date and sdmt_date"
    ):
        days(both, max_days=90)
    dated = table(f"{edss}\tsdmt\tdays\tscan_date\tsdmt_date", "2\t40\t12\t2020-01-01\t2020-01-31")
    assert days(dated, max_days=90) == [30, 30]


def as_table(cohort: Cohort, path: Path, column: str, values: list[str]) -> Path:
    lines = ["\t".join(["patient", "session", "t1w", "flair", "mask", column, "gender", "age"])]
    for number, (scan, value) in enumerate(zip(cohort.scans, values, strict=True)):
        cells = (scan.patient, scan.session, *scan.images.values(), scan.mask, value, "MF"[number % 2], 30 + number)
        lines.append("\t".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_of_a_plain_table_too_and_rows_of_neither_class_are_counted(phantom_cohort: Path, tmp_path: Path) -> None:
    known = read_cohort(phantom_cohort, Target())
    values = [("RRMS", "PPMS", "HC", "")[number % 4] for number in range(len(known.scans))]
    table = as_table(known, tmp_path / "c.tsv", "diagnosis", values)
    cohort = read_cohort(table, Target("diagnosis", positive="RRMS", negative="HC"))
    assert len(cohort.scans) == sum(value in ("RRMS", "HC") for value in values)
    reasons = {row["reason"]: row["scans"] for row in cohort.flow()["excluded"]}  # type: ignore[attr-defined,call-overload]
    assert reasons == {"diagnosis of neither class": values.count("PPMS"), "no diagnosis": values.count("")}
    with pytest.raises(CohortError, match=r"c.tsv has no column 'diagnose' \(did you mean 'diagnosis'\?\)"):
        read_cohort(table, Target("diagnose", positive="RRMS", negative="HC"))


def test_the_target_under_another_name_is_no_covariate(phantom_cohort: Path, tmp_path: Path) -> None:
    known = read_cohort(phantom_cohort, Target())
    table = as_table(known, tmp_path / "c.tsv", "sex", ["MF"[number % 2] for number in range(len(known.scans))])
    assert all(set(scan.covariates) == {"age"} for scan in read_cohort(table, SEX).scans)


def places(cohort: Path, tmp_path: Path) -> list[str]:
    return ["--cohort", str(cohort), "--store", str(tmp_path / "store"), "--studies", str(tmp_path / "studies")]


MISTAKES = {
    "a column that is not there": (
        ["--label.column", "sx", "--label.positive", "M", "--label.negative", "F"],
        r"has a column 'sx' \(did you mean 'sex'\?\); columns are .*age, sex",
    ),
    "a wrong kind": (["--label.kind", "numeric"], r"label.kind.*numeric"),
    "text in a number": (["--label.column", "sex", "--label.threshold", "3"], r"x sex is no number \(as sub-0001.*: '[MF]'"),
    "one class": (["--label.column", "age", "--label.threshold", "119"], r"positive"),
    "a list that is open": (["--label.column", "sex", "--label.positive", "[M"], r"label.negative is empty"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    words, message = MISTAKES[mistake]
    grid = ["--folds", "3", "--study", "s"]
    assert main(["fold", "--fold", "0", "--roi", "brainstem", *places(phantom_cohort, tmp_path), *TINY, *grid, *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]


def test_a_study_of_sex_from_table_to_report(phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = places(phantom_cohort, tmp_path)
    words = ["--label.column", "sex", "--label.positive", "M", "--label.negative", "F", "--folds", "3", "--study", "sex"]
    assert main(["check", *here, *TINY, *words]) == 0
    assert "sex M is positive, F negative" in capsys.readouterr().out
    for roi in ("global", "brainstem"):
        for fold in range(3):
            assert main(["fold", "--roi", roi, "--fold", str(fold), *here[2:], *TINY, "--study", "sex"]) == 0
    folder = tmp_path / "studies" / "sex"
    record = read_record(folder)
    assert record is not None
    assert record.label == SEX
    assert record.folds == 3
    scans = read_scans(folder)
    assert set(scans.columns["sex"].tolist()) == {"M", "F"}
    assert ((scans.columns["sex"] == "M") == (scans.label == 1)).all()
    assert not scans.has("sex")
    config = (folder / "global" / "fold-0" / "seed-0" / "config.yaml").read_text()
    assert "objective: classification" in config
    assert main(["baselines", *here[2:], *TINY, "--study", "sex"]) == 0
    assert "baseline age_sex is without sex, which is the target" in capsys.readouterr().out
    study = ["--study", "sex", "--studies", str(tmp_path / "studies")]
    assert main(["compare", *study, "--inputs", "global,brainstem", "--folds", "3"]) == 0
    assert main(["report", *study]) == 0
    page = re.sub(r"<style.*?</style>", "", (folder / "report.html").read_text(), flags=re.DOTALL)
    assert "A scan is positive when the sex is M, and negative when it is F" in page
    assert "EDSS" not in page
    assert json.loads((folder / "robustness.json").read_text())["edss"] == []


def test_another_target_is_another_study(phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = [
        "fold",
        "--roi",
        "brainstem",
        "--fold",
        "0",
        *places(phantom_cohort, tmp_path),
        *TINY,
        "--folds",
        "3",
        "--study",
        "s",
    ]
    assert main([*run, "--label.column", "sex", "--label.positive", "M", "--label.negative", "F"]) == 0
    capsys.readouterr()
    assert main([*run, "--label.positive", "F", "--label.negative", "M"]) == 2
    assert "use another STUDY" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_of_two_of_three_diagnoses_from_table_to_report(
    phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = read_cohort(phantom_cohort, Target())
    diagnosis = {patient: ("RRMS", "PPMS", "HC")[number % 3] for number, patient in enumerate(known.patients)}
    table = as_table(known, tmp_path / "c.tsv", "diagnosis", [diagnosis[scan.patient] for scan in known.scans])
    kept = {patient for patient, value in diagnosis.items() if value != "PPMS"}
    of_study = ["--study", "ms", "--studies", str(tmp_path / "studies")]
    words = ["--cohort", str(table), "--store", str(tmp_path / "store"), *of_study, *TINY, "--folds", "3"]
    label = ["--label.column", "diagnosis", "--label.positive", "RRMS", "--label.negative", "HC"]
    assert main(["check", *words, *label]) == 0
    printed = capsys.readouterr().out
    assert "diagnosis RRMS is positive, HC negative" in printed
    assert "diagnosis of neither class" in printed
    assert main(["sweep", *words, "--inputs", "global,brainstem"]) == 0
    assert main(["baselines", *words]) == 0
    assert main(["compare", *of_study, "--inputs", "global,brainstem", "--folds", "3", "--draws", "200"]) == 0
    assert main(["report", *of_study]) == 0

    folder = tmp_path / "studies" / "ms"
    scans = read_scans(folder)
    assert set(scans.patient.tolist()) == kept
    assert scans.label.tolist() == [int(diagnosis[patient] == "RRMS") for patient in scans.patient]
    tested = [row for fold in range(3) for row in read_rows(folder / "global" / f"fold-{fold}" / "seed-0" / "predictions.tsv")]
    tested = [row for row in tested if row["partition"] == "internal_test"]
    assert {row["patient"] for row in tested} == kept
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["positives"] == sum(diagnosis[row["patient"]] == "RRMS" for row in tested)
    page = re.sub(r"<style.*?</style>", "", (folder / "report.html").read_text(), flags=re.DOTALL)
    assert "A scan is positive when the diagnosis is RRMS, and negative when it is HC" in page
    assert "EDSS" not in page


def test_a_capped_age_that_is_to_be_told_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("")
    rows = "".join(f"P{number}\ta.nii\t{age}\n" for number, age in enumerate(("89+", "> 89", "45", "n/a")))
    (tmp_path / "own.tsv").write_text(f"patient\tt1w\tage\n{rows}")
    cohort = read_cohort(tmp_path / "own.tsv", Target("age", "regression"), images=("t1w",))
    assert [scan.value for scan in cohort.scans] == [89.0, 89.0, 45.0]
    assert cohort.remarks == ("age capped for 2 of 3 scans (89+, > 89): the number given is taken as the age",)


def test_a_study_of_classes_of_several_names_leaves_a_cohort_that_reads_again(tmp_path: Path) -> None:
    rows = "".join(f"P{number}\ta.nii\ta.nii\t{name}\n" for number, name in enumerate(("RRMS", "SPMS", "HC", "PPMS")))
    (tmp_path / "a.nii").write_text("")
    (tmp_path / "own.tsv").write_text(f"patient\tt1w\tflair\tdiagnosis\n{rows}")
    target = Target("diagnosis", positive="RRMS,SPMS", negative="HC")
    cohort = read_cohort(tmp_path / "own.tsv", target)
    (tmp_path / "cohort.tsv").write_text(cohort_table(cohort))
    again = read_cohort(tmp_path / "cohort.tsv", target)
    assert [(scan.patient, scan.label) for scan in again.scans] == [("P0", 1), ("P1", 1), ("P2", 0)]
    assert cohort_hash(again) == cohort_hash(cohort)


def sizes(folder: Path, *cells: str) -> list[float]:
    """What a table and a BIDS folder with these volumes, of two patients or three, say that they are; both alike."""
    (folder / "a.nii").write_text("")
    (folder / "own.tsv").write_text(
        "patient\tt1w\tvolume\n" + "".join(f"P{n}\ta.nii\t{cell}\n" for n, cell in enumerate(cells))
    )
    people = folder / "bids" / "participants.tsv"
    people.parent.mkdir(exist_ok=True)
    people.write_text("participant_id\tvolume\n" + "".join(f"sub-{n}\t{cell}\n" for n, cell in enumerate(cells)))
    for number in range(len(cells)):
        path = folder / "bids" / f"sub-{number}" / "anat" / f"sub-{number}_space-MNI152_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    target = Target("volume", "regression", units="ml")
    table, bids = (
        [scan.value for scan in read_cohort(path, target, images=("t1w",)).scans]
        for path in (folder / "own.tsv", people.parent)
    )
    assert table == bids
    return table


def test_a_comma_of_a_target_is_read_as_that_of_a_covariate(tmp_path: Path) -> None:
    assert sizes(tmp_path, "1,234", "2,5") == [1.234, 2.5]
    assert sizes(tmp_path, "1.234", "987") == [1.234, 987.0]
    with pytest.raises(
        CohortError, match=r"own.tsv line 2, column 'volume': '1,234' can be 1.234 or 1234; write it with a point"
    ):
        sizes(tmp_path, "1,234", "987", "2,500")
    (tmp_path / "own.tsv").unlink()
    with pytest.raises(CohortError, match=r"participants.tsv line 2, column 'volume': '1,234' can be 1.234 or 1234"):
        read_cohort(tmp_path / "bids", Target("volume", threshold=1000.0), images=("t1w",))
