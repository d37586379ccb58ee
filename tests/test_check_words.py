"""What the page of ``check`` says of a study that is not one of EDSS, or is split by site; nothing is measured."""

from __future__ import annotations

import html
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from datamodules.cohort.records import Cohort, Scan
from datamodules.cohort.site_splits import make_site_splits
from datamodules.cohort.splits import Splits, make_splits
from datamodules.cohort.target import Target
from experiments.analysis.tissue import tissue_words
from experiments.checking.check_page import write_check_page
from experiments.checking.costs import Costs
from experiments.checking.days import days_of
from experiments.checking.gather import Findings, Subject, part_counts

FATIGUE = Target("fatigue", threshold=40)


def scans_of() -> list[Scan]:
    images = {name: Path("x") for name in ("t1w", "flair")}
    return [Scan(f"p{n:02d}", "1", images, 50.0 * (n % 2), n, n % 2, covariates={"site": f"site-{n // 14}"}) for n in range(28)]


def page_of(folder: Path, splits: Splits) -> str:
    scans = scans_of()
    cohort = Cohort(Path("cohort"), FATIGUE, tuple(scans))
    study = Subject(folder, cohort, cast(Any, SimpleNamespace(folder=Path("store"))), splits)
    group = {"id": "all", "title": "all", "patients": 28, "scans": 28}
    findings = Findings(
        flow=cohort.flow(), parts=part_counts(study), scanners={}, days=days_of(scans, FATIGUE),
        table1={"groups": [group], "rows": []}, left_out_columns=(), acquisition=(), duplicates=(), inputs=(), precision=None,
        costs=Costs(1.0, {}, 1.0, 1.0, 1.0, 1.0, "here"), transform_seconds=None, quality={},
        tissue={"source": "label maps", "inputs": []}, one_sided="thalamus lies on one side",
    )  # fmt: skip
    return html.unescape(write_check_page(study, findings, "").read_text(encoding="utf-8"))


@pytest.mark.parametrize("by_site", [False, True])
def test_the_page_names_the_target_and_the_split_of_the_study(by_site: bool, tmp_path: Path) -> None:
    page = page_of(tmp_path, make_site_splits(scans_of(), 0) if by_site else make_splits(scans_of(), 0, target=FATIGUE))
    assert "EDSS" not in page
    assert "thalamus lies on one side" in page
    assert "Scan to fatigue" in page
    assert "days from scan to fatigue" in page
    assert ("split by site into 2 parts" in page) == by_site
    assert ("of the patients of the others a sixth tunes, the rest trains" in page) == by_site
    assert ("split by patient into 7 parts" in page) != by_site
    assert ("tunes on part k + 1" in page) != by_site


def test_no_area_is_named_where_there_is_none() -> None:
    share = {"csf": {"auc": {"value": None}}}
    assert "AUC" not in tissue_words({"inputs": [{"shares": share}]})
    assert "AUC of the share alone" in tissue_words({"inputs": [{"shares": {"csf": {"auc": {"value": 0.5}}}}]})
