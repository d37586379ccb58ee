"""The benchmark of explanations: how kept cells become the table, and, by hand, that planted truths are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import explain
from benchmarks.explain import explained_cohort, measure, options_of, summary

REGIONS = ("white_matter", "gray_matter", "subcortical_gray_matter", "ventricles", "brainstem")


DESIGN = {"patients": "140", "voxel_mm": "6", "settings": ""}


def cohort(preset: str, seed: int, auc: float, high: str, called: str = "", explained: int = 1) -> list[dict[str, str]]:
    """The five rows of a cohort; one region is first by all measures, one is called."""
    values = {name: "3.5" if name == high else "0.9" for name in REGIONS}
    columns = ("density", "gradient", "auc_loss")
    head = DESIGN | {
        "preset": preset,
        "cohort": str(seed),
        "AUC": str(auc),
        "explained": str(explained),
        "shown": str(int(bool(called))),
    }
    return [
        head
        | {"region": name, **dict.fromkeys(("beyond", "needed", "relevant"), str(int(name == called)))}
        | {"p": str(1 / (1 + float(values[name]))), **dict.fromkeys(columns, values[name])}
        for name in REGIONS
    ]


def test_a_planted_region_counts_where_the_network_learned_enough() -> None:
    cells = [
        *cohort("single_region:ventricles", 0, 0.95, "ventricles", "ventricles"),
        *cohort("single_region:ventricles", 1, 0.90, "brainstem", "brainstem"),
        *cohort("single_region:ventricles", 2, 0.70, "ventricles"),
        *cohort("null", 0, 0.50, "brainstem", "brainstem", explained=0),
        *cohort("null", 1, 0.55, "brainstem", explained=0),
    ]
    larger = [row | {"patients": "320"} for row in cohort("single_region:brainstem", 0, 0.9, "brainstem")]
    table = summary([*cells, *larger])
    assert [(row["patients"], row["planted"]) for row in table] == [
        ("140", "ventricles"),
        ("140", "nothing"),
        ("320", "brainstem"),
    ]
    rows = {row["planted"]: row for row in table}
    found = rows["ventricles"]
    assert (found["cohorts"], found["with_AUC_above_0.8"]) == (3, 2)
    assert [found[f"first_by_{word}"] for word in ("SmoothGrad", "gradient", "band", "occlusion")] == [1, 1, 1, 1]
    assert (found["planted_beyond"], found["planted_relevant"], found["others_relevant"], found["others"]) == (1, 1, 1, 8)
    assert (rows["brainstem"]["cohorts"], rows["brainstem"]["first_by_SmoothGrad"]) == (1, 1)
    nothing = rows["nothing"]
    assert (nothing["cohorts"], nothing["others_beyond"], nothing["others"], nothing["maps"]) == (2, 1, 10, 0)


def test_cells_are_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "CELLS", tmp_path / "cells.tsv")
    assert explain.read_cells() == []
    rows: list[dict[str, Any]] = [{"AUC": 0.123456789, "region": name, "p": None, "relevant": 1} for name in REGIONS]
    design = explain.design_of(options_of(["--patients", "320", "--spacing", "4", "--settings", " --trainer.max_epochs  30"]))
    explain.keep(design, "null", 3, rows)
    explain.keep(design, "null", 4, rows)
    found = explain.read_cells()
    assert len(found) == 10
    assert tuple(found[0][name] for name in explain.DESIGN) == ("320", "4", "--trainer.max_epochs 30")
    values = {name: value for name, value in found[0].items() if name not in explain.DESIGN}
    assert values == {"preset": "null", "cohort": "3", "AUC": "0.12346", "region": "white_matter", "p": "", "relevant": "1"}


@pytest.mark.long
@pytest.mark.parametrize("planted", ["brainstem", "ventricles"])
def test_a_planted_region_is_first_and_is_called(planted: str, tmp_path: Path) -> None:
    rows = list(measure(explained_cohort(tmp_path, f"single_region:{planted}", 0, options_of([]))))
    if rows[0]["AUC"] <= explain.LEAST_AUC:
        pytest.skip(f"the network reached an AUC of {rows[0]['AUC']:.2f}, too little to look anywhere")
    assert max(rows, key=lambda row: row["density"])["region"] == planted
    assert max(rows, key=lambda row: row["auc_loss"])["region"] == planted
    assert [row["region"] for row in rows if row["relevant"]] == [planted]


@pytest.mark.long
def test_where_nothing_was_planted_no_map_is_shown(tmp_path: Path) -> None:
    rows = list(measure(explained_cohort(tmp_path, "null", 0, options_of([]))))
    assert not rows[0]["explained"] or not any(row["relevant"] for row in rows)
