"""The benchmark of cores: how kept cells become the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import core
from benchmarks.core import WeakerOptions, keep, read_cells, summary


def cell(way: str, cohort: int, auc: float, low: float, network: float | None = None) -> dict[str, Any]:
    head = {"planted": "enlarged_ventricles", "voxel_mm": 4.0, "region": "brainstem", "way": way, "cohort": cohort}
    values = {"voxels": 10 + cohort, "AUC": auc, "low": low, "high": 1.0, "own_scale": auc - 0.1}
    trained = {} if network is None else {"network": network, "network_low": network - 0.1, "network_high": 1.0}
    return head | values | dict.fromkeys(("network", "network_low", "network_high")) | trained


def test_the_table_counts_the_intervals_that_reach_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "CELLS", tmp_path / "cells.tsv")
    assert read_cells() == []
    for number, (auc, low) in enumerate(((0.9, 0.8), (0.6, 0.5), (0.7, 0.51))):
        keep([cell("template", number, auc, low, auc - 0.2), cell("core", number, auc, low)])
    template, bare = summary(read_cells())
    assert (template["way"], template["voxels"], template["AUC"]) == ("template", "10 to 12", "0.90 0.60 0.70")
    assert template["mean"] == pytest.approx(0.733, abs=1e-3)
    assert (template["reach_0.5"], template["networks"], template["networks_reach_0.5"]) == (1, "0.70 0.40 0.50", 2)
    assert (bare["networks"], bare["networks_reach_0.5"], bare["own_scale"]) == (None, None, "0.80 0.50 0.60")


def test_a_weaker_cohort_has_a_share_of_each_effect() -> None:
    options = WeakerOptions("single_region:subcortical_gray_matter", share=0.5)
    assert options.truth.shape_effects == {"subcortical": 1.375}
    assert options.truth.intensity_effects == {"subcortical": 1.375}
