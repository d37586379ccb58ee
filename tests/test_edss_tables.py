"""The tables of an EDSS study are what they were before a study could have any other target; tests/data/edss keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_study import Made, write_study

from datamodules.files.tables import read_rows
from experiments.__main__ import main

KEPT = Path(__file__).parent / "data" / "edss"


@pytest.fixture(scope="module")
def edss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    write_study(folder / "edss", Made(baselines=("age_sex",), skill={"brainstem": 0.0}))
    words = ["--study", "edss", "--studies", str(folder), "--draws", "500", "--tracking.mode", "disabled"]
    assert main(["compare", *words]) == 0
    return folder / "edss"


@pytest.mark.parametrize("name", ["cohort.tsv", "splits.tsv"])
def test_scans_and_split_are_kept_to_the_byte(edss: Path, name: str) -> None:
    assert (edss / name).read_bytes() == (KEPT / name).read_bytes()


def test_every_cell_of_the_comparison_is_kept(edss: Path) -> None:
    now = {(row["kind"], row["input"]): row for row in read_rows(edss / "comparison.tsv")}
    for row in read_rows(KEPT / "comparison.tsv"):
        cells = now[row["kind"], row["input"]]
        for name in row.keys() - {"#"}:
            assert cells[name] == row[name] or float(cells[name]) == pytest.approx(float(row[name]), rel=1e-9), name
