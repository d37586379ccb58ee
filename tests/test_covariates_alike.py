"""A covariate counts the same everywhere, under each name of its column and in each spelling of its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_study import Made, cohort_of, write_study

from datamodules.cohort.covariates import COLUMNS, SEXES
from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.cohort.records import Scan
from datamodules.cohort.splits import make_splits
from datamodules.cohort.target import Target
from datamodules.files.tables import read_rows
from experiments.analysis.baseline_features import features_of
from experiments.analysis.baselines import design_of
from experiments.analysis.subgroups import subgroup_levels
from experiments.analysis.table1 import groups_of, table1, variables_of
from experiments.checking.gather import scanner_of
from experiments.controls.cases import high_field_of, sex_of
from experiments.controls.headers import header_columns, header_predictions
from experiments.reporting.failure_chapter import _facts
from experiments.reporting.table_one import acquisition_blocks
from experiments.study.scan_table import read_scans
from experiments.study.study import cohort_table

Covariates = Mapping[str, str]
Respell = Callable[[Covariates], dict[str, str]]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Scan]:
    """A made study in the usual spelling, with a vendor and without any scanner."""
    made = write_study(tmp_path_factory.mktemp("alike") / "study", Made(inputs=()))
    vendors = {scan.patient: "ABC"[int(scan.patient.removeprefix("sub-")) % 3] for scan in made}
    return [replace(scan, covariates={**scan.covariates, "vendor": vendors[scan.patient]}) for scan in made]


@pytest.fixture(scope="module")
def usual(scans: list[Scan], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return seen(scans, tmp_path_factory.mktemp("usual"))


def seen(scans: Sequence[Scan], folder: Path) -> dict[str, Any]:
    """What every reader of covariates makes of these scans."""
    (folder / "cohort.tsv").write_text(cohort_table(cohort_of(scans)), encoding="utf-8")
    table, splits = read_scans(folder), make_splits(scans, 0)
    variables, left_out = variables_of(table)
    design = design_of("age_sex", table, np.ones((len(scans), len(features_of(DEFAULT_IMAGES)))))
    assert not isinstance(design, str)
    rows = {(row["patient"], row["session"]): row for row in read_rows(folder / "cohort.tsv")}
    sources: Any = SimpleNamespace(acquisition=[], cohort=list(rows.values()), target=Target())
    error = {"y": 1, "p": 0.9, "threshold": 0.5, "fold": 0}
    return {
        "table 1": table1(groups_of(table, splits), variables),
        "left out of table 1": left_out,
        "sex of controls": [sex_of(scan) for scan in scans],
        "field of controls": [high_field_of(scan) for scan in scans],
        "header columns": header_columns(scans),
        "header predictions": header_predictions(scans, splits, "midpoint").p.tolist(),
        "baseline": (design.names, design.values.tolist()),
        "subgroups": [
            (variable, level, rows_in.tolist())
            for variable, level, rows_in in subgroup_levels(table, np.full(len(scans), np.nan), np.arange(len(scans)))
        ],
        "scanners": [scanner_of(scan) for scan in scans],
        "acquisition chapter": acquisition_blocks(sources),
        "sites": [scan.site for scan in scans],
        "failures": [_facts({"patient": p, "session": s, **error}, rows, bytes(32), Target()) for p, s in rows],
    }


def respelt(scans: Sequence[Scan], respell: Respell) -> list[Scan]:
    return [replace(scan, covariates=respell(scan.covariates)) for scan in scans]


def renamed(old: str, new: str, values: Mapping[str, str] | None = None) -> Respell:
    def respell(covariates: Covariates) -> dict[str, str]:
        rest = {name: text for name, text in covariates.items() if name != old}
        return {**rest, new: (values or {}).get(covariates[old], covariates[old])}

    return respell


NAMES = [
    *(("sex", name) for name in ("gender", "Sex", "GENDER")),
    *(("field_strength", name) for name in ("magnetic_field_strength", "MagneticFieldStrength")),
    *(("age", name) for name in ("age_years", "Age")),
    *(("site", name) for name in ("center", "centre", "hospital", "Site")),
    *(("vendor", name) for name in ("manufacturer", "Manufacturer")),
]


@pytest.mark.parametrize(("covariate", "name"), NAMES)
def test_the_name_of_a_column_does_not_matter(
    scans: list[Scan], usual: dict[str, Any], tmp_path: Path, covariate: str, name: str
) -> None:
    assert seen(respelt(scans, renamed(covariate, name)), tmp_path) == usual


@pytest.mark.parametrize("name", ["sex", "gender", "Sex"])
@pytest.mark.parametrize(("female", "male"), [("F", "M"), ("f", "m"), ("female", "male"), ("w", "m"), ("woman", "man")])
def test_the_spelling_of_sexes_does_not_matter(
    scans: list[Scan], usual: dict[str, Any], tmp_path: Path, name: str, female: str, male: str
) -> None:
    assert seen(respelt(scans, renamed("sex", name, {"F": female, "M": male})), tmp_path) == usual


@pytest.mark.parametrize("name", ["field_strength", "magnetic_field_strength", "MagneticFieldStrength"])
@pytest.mark.parametrize("three", ["3", "3.0", "3T", "3 T", "3 Tesla", "3,0"])
def test_the_spelling_of_field_strengths_does_not_matter(
    scans: list[Scan], usual: dict[str, Any], tmp_path: Path, name: str, three: str
) -> None:
    one_and_a_half = "1,5" if "," in three else three.replace("3.0", "3").replace("3", "1.5")
    assert seen(respelt(scans, renamed("field_strength", name, {"3.0": three, "1.5": one_and_a_half})), tmp_path) == usual


@pytest.mark.parametrize(
    ("covariate", "name"), [("sex", "gender"), ("field_strength", "MagneticFieldStrength"), ("site", "centre")]
)
def test_two_columns_of_one_covariate_complete_each_other(
    scans: list[Scan], usual: dict[str, Any], tmp_path: Path, covariate: str, name: str
) -> None:
    other = renamed(covariate, name)
    mixed = [replace(scan, covariates=other(scan.covariates)) if row % 2 else scan for row, scan in enumerate(scans)]
    assert seen(mixed, tmp_path) == usual


def test_the_usual_spelling_is_read_at_all(usual: dict[str, Any]) -> None:
    assert {row["variable"] for row in usual["table 1"]["rows"]} >= {"age", "sex", "site", "vendor", "field_strength"}
    assert usual["header columns"] == ["site", "field_strength", "vendor"]
    assert set(usual["sex of controls"]) == set(usual["field of controls"]) == {0, 1}
    assert {variable for variable, _, _ in usual["subgroups"]} == {"sex", "field_strength", "scanner", "site", "age", "days"}
    assert {"site-0, A, 1.5 T", "site-1, B, 3.0 T"} <= set(usual["scanners"])
    assert usual["baseline"][0] == ("age", "male")


def test_names_and_spellings_are_known_in_lower_case() -> None:
    assert all(name == name.lower() for names in (*COLUMNS.values(), tuple(SEXES)) for name in names)


def test_a_column_without_a_usual_name_is_read_under_its_own(scans: list[Scan], tmp_path: Path) -> None:
    graded = respelt(scans, lambda covariates: {**covariates, "BMI": f"{20 + int(covariates['age']) % 7}"})
    content = seen(graded, tmp_path)["table 1"]
    assert "BMI" in {row["variable"] for row in content["rows"]}
