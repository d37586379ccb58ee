"""Hospitals score their own scans with a bundle: counts alone give the pooled numbers, and tell of no patient."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundled import train

from datamodules.cohort.flagged_scans import HELD
from datamodules.cohort.read import read_cohort
from datamodules.cohort.records import Cohort, Exclusion
from datamodules.cohort.target import Target
from datamodules.files.atomic import file_sha256
from datamodules.files.sealed import read_sealed, write_sealed
from datamodules.files.tables import read_rows
from datamodules.phantoms.write import PhantomOptions, write_phantom_cohort
from experiments.bundles.errors import BundleError
from experiments.bundles.read import read_bundle
from experiments.bundles.site import excluded_of
from experiments.bundles.site_files import touched_site
from experiments.commands import bundle, external, site
from experiments.externals.log import events, note
from experiments.statistics.aggregates import CELLS, cells_of
from experiments.statistics.predictions import Predictions
from experiments.statistics.scores import point_values
from experiments.study.runs import PlanError
from experiments.study.study import cohort_table

SITES = {"north": slice(0, 12), "south": slice(12, 20), "west": slice(20, None)}


@pytest.fixture(scope="module")
def home(phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with bundle/, the cohort of all sites whole/, its parts as tables <site>.tsv, and store/."""
    folder = tmp_path_factory.mktemp("home")
    train(folder, phantom_cohort)
    words = ["--study", "mine", "--studies", str(folder / "studies"), "--input", "global", "--out", str(folder / "bundle")]
    assert bundle.main(words) == 0
    write_phantom_cohort(folder / "whole", PhantomOptions(patients=40, scans=44, spacing_mm=6.0, seed=5, external=True))
    cohort = read_cohort(folder / "whole", Target())
    for name, rows in SITES.items():
        part = set(cohort.patients[rows])
        scans = tuple(scan for scan in cohort.scans if scan.patient in part)
        (folder / f"{name}.tsv").write_text(cohort_table(replace(cohort, scans=scans)))
    return folder


def call(home: Path, name: str, out: Path, *more: str) -> list[str]:
    words = ["--bundle", str(home / "bundle"), "--cohort", str(home / f"{name}.tsv"), "--out", str(out / name)]
    return [*words, "--store", str(home / "store"), "--draws", "100", "--accelerator", "cpu", *more]


@pytest.fixture(scope="module")
def scored(home: Path) -> dict[int, Path]:
    """Least patients -> folder with the counts of every site."""
    for least in (1, 5):
        for name in SITES:
            assert site.main(call(home, name, home / f"least-{least}", "--least", str(least))) == 0
    return {least: home / f"least-{least}" for least in (1, 5)}


@pytest.fixture(scope="module")
def truth(home: Path) -> dict[str, float]:
    """The pooled external test of the study itself on all scans, its AUC on the scores' four digits."""
    words = ["--study", "mine", "--studies", str(home / "studies"), "--store", str(home / "store"), "--draws", "100"]
    assert external.main([*words, "--inputs", "global", "--cohort", str(home / "whole")]) == 0
    folder = home / "studies" / "mine" / "external" / "whole"
    rows = read_rows(folder / "predictions.tsv")
    y, p, decision = (np.array([float(row[name]) for row in rows]) for name in ("y", "p", "decision"))
    patient = np.array([row["patient"] for row in rows])
    whole = Predictions(patient, np.zeros(len(y), int), y.astype(int), cells_of(p) / CELLS, decision.astype(int))
    result = json.loads((folder / "external.json").read_text())["inputs"][0]
    values = {name: float(result["ensemble"][name]["value"]) for name in ("balanced_accuracy", "sensitivity", "specificity")}
    assert abs(point_values(whole)["auc"] - result["ensemble"]["auc"]["value"]) < 0.01
    return values | {"auc": point_values(whole)["auc"], "brier": float(result["calibration"]["brier"]["value"])}


def merge(folder: Path, out: Path) -> dict[str, Any]:
    assert site.main(["--merge", ",".join(str(folder / name) for name in SITES), "--out", str(out)]) == 0
    return read_sealed(out / "sites.json", "")


def test_counts_of_sites_give_the_pooled_external_test(
    scored: dict[int, Path], truth: dict[str, float], tmp_path: Path
) -> None:
    together = merge(scored[1], tmp_path)["pooled"]
    for name, value in truth.items():
        assert together[name]["value"] == pytest.approx(value, abs=1e-9), name


def test_what_is_withheld_leaves_a_range_that_holds_it(
    scored: dict[int, Path], truth: dict[str, float], tmp_path: Path
) -> None:
    content = merge(scored[5], tmp_path)
    for name, value in truth.items():
        assert content["pooled"][name]["low"] - 1e-9 <= value <= content["pooled"][name]["high"] + 1e-9, name
    assert any(content["pooled"][name]["value"] is None for name in truth)
    assert content["withheld"]


@pytest.mark.parametrize("kind", [["regression", "--label.column", "age"], ["ordinal", "--label.cuts", "[2,4]"]])
def test_sums_of_sites_give_the_pooled_external_test_of_numbers(
    home: Path, phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: list[str]
) -> None:
    train(tmp_path, phantom_cohort, "--label.kind", *kind)
    words = ["--study", "mine", "--studies", str(tmp_path / "studies")]
    assert bundle.main([*words, "--input", "global", "--out", str(tmp_path / "bundle")]) == 0
    for name in SITES:
        told = call(home, name, tmp_path / "given", "--least", "1")
        told[told.index("--bundle") + 1] = str(tmp_path / "bundle")
        assert site.main(told) == 0
    together = merge(tmp_path / "given", tmp_path / "all")["pooled"]
    assert "all scans" in capsys.readouterr().out
    words += ["--store", str(home / "store"), "--draws", "100", "--inputs", "global", "--cohort", str(home / "whole")]
    assert external.main(words) == 0
    result = json.loads((tmp_path / "studies" / "mine" / "external" / "whole" / "external.json").read_text())["inputs"][0]
    for name, value in together.items():
        assert value["value"] == pytest.approx(result["ensemble"][name]["value"], abs=1e-9), name
    assert [row["site"] for row in read_rows(tmp_path / "all" / "sites.tsv")] == [*SITES, "all scans"]


def test_the_forest_table_has_a_row_for_each_site_and_one_for_all(
    scored: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merge(scored[1], tmp_path)
    shown = capsys.readouterr().out
    rows = read_rows(tmp_path / "sites.tsv")
    assert [row["site"] for row in rows] == [*SITES, "all scans"]
    assert all(row["site"] in shown for row in rows)
    known = [row for row in rows[:-1] if row["auc_low"]]
    assert f"AUC over {len(known)} sites" in shown
    for row in known:
        assert float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"])


def test_no_file_of_a_site_tells_of_a_patient(home: Path, scored: dict[int, Path]) -> None:
    cohort = read_cohort(home / "whole", Target())
    for folder in scored.values():
        for path in (path for path in folder.rglob("*") if path.is_file()):
            text = path.read_text()
            assert not re.search(r"sub-|ses-|/tmp|\.nii|participants", text), path
            assert not any(f'"{scan.patient}"' in text or scan.session in text for scan in cohort.scans)


def test_what_quality_control_said_by_hand_stays_at_the_site() -> None:
    reasons = [f"{HELD}Olsen moved on 2021-03-04", f"{HELD}noise", "no EDSS"]
    exclusions = tuple(Exclusion(f"P{row}", "", reasons[row % 3], "") for row in range(9))
    told = excluded_of(Cohort(Path(), Target(), (), exclusions), 5)
    assert told == [{"reason": "held back by QC", "scans": 6}, {"reason": "no EDSS", "scans": None}]


def test_the_log_has_the_order_of_things_and_every_change_is_named(home: Path, scored: dict[int, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scored[5] / "north", tmp_path / "north"))
    assert [entry["event"] for entry in events(folder)] == ["bundle", "labels read", "predicted", "scored"]
    assert site.main(["--verify", str(folder)]) == 0
    text = (folder / "site.json").read_text()
    (folder / "site.json").write_text(text.replace('"draws": 100', '"draws": 900'))
    assert touched_site(folder) == [f"{folder / 'site.json'} was changed"]
    assert site.main(["--verify", str(folder)]) == 1
    with pytest.raises(BundleError, match=r"site\.json was changed"):
        site.main(["--merge", f"{folder},{scored[5] / 'south'}"])
    (folder / "site.json").write_text(text)
    log = (folder / "events.jsonl").read_text()
    (folder / "events.jsonl").write_text(log.replace("labels read", "labels seen"))
    assert "line 3 was changed, removed or added" in touched_site(folder)[0]


def test_a_bundle_that_is_not_there_leaves_nothing(home: Path, tmp_path: Path) -> None:
    words = ["--bundle", str(tmp_path / "none"), "--cohort", str(home / "whole"), "--out", str(tmp_path / "out")]
    with pytest.raises(BundleError, match=r"^there is no bundle .*none; make one with"):
        site.main(words)
    assert not (tmp_path / "out").exists()


def test_a_site_cohort_or_bundle_is_not_counted_twice(home: Path, scored: dict[int, Path], tmp_path: Path) -> None:
    north, south = scored[5] / "north", scored[5] / "south"
    with pytest.raises(BundleError, match="are of one site; keep one of them"):
        site.main(["--merge", f"{north},{scored[1] / 'north'}"])
    with pytest.raises(BundleError, match=r"site\.json exists already; give another --out"):
        site.main(call(home, "north", scored[5]))
    assert site.main(call(home, "north", tmp_path, "--name", "other")) == 0
    with pytest.raises(BundleError, match="are of one cohort; keep one of them"):
        site.main(["--merge", f"{north},{tmp_path / 'north'}"])
    with pytest.raises(BundleError, match="holds no counts of a site"):
        site.main(["--merge", f"{south},{home / 'bundle'}"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(site="=cmd()"), "is no name of a site"),
        (lambda c: c.update(site="[/red]"), "is no name of a site"),
        (lambda c: c["metrics"].update(auc={"value": "x"}), "auc holds no numbers"),
        (lambda c: c["metrics"].update(auc={"value": 1}), "auc has value"),
        (lambda c: c["counts"]["positive"].update(right_high=10**6), "cannot be right"),
        (lambda c: c["bundle"].update(sha256="0" * 64), "tells of another bundle"),
        (lambda c: c.pop("labels"), "'labels'"),
    ],
)
def test_a_site_that_writes_what_cannot_be_is_refused(
    scored: dict[int, Path], tmp_path: Path, change: Any, message: str
) -> None:
    content = read_sealed(scored[5] / "north" / "site.json", "")
    change(content)
    folder = tmp_path / "north"
    for event in events(scored[5] / "north")[:3]:
        note(folder, event["event"], **{name: event[name] for name in event if name not in ("event", "time", "previous")})
    write_sealed(folder / "site.json", content)
    note(folder, "scored", sha256=file_sha256(folder / "site.json"))
    with pytest.raises(BundleError, match=message):
        site.main(["--merge", f"{folder},{scored[5] / 'south'}"])


def test_a_name_that_no_table_can_hold_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"a site cannot be called '=x\(\)'; give a --name of letters"):
        site.main(call(home, "north", tmp_path, "--name", "=x()"))


@pytest.mark.parametrize(("option", "number", "lowest"), [("draws", "99", 100), ("least", "0", 1), ("workers", "0", 1)])
def test_a_number_that_is_too_small_is_refused_before_anything_is_read(option: str, number: str, lowest: int) -> None:
    words = ["--bundle", "x", "--cohort", "y", "--out", "z", f"--{option}", number]
    with pytest.raises(PlanError, match=f"--{option} is {number}; give {lowest} or more"):
        site.main(words)


def test_a_scan_of_the_training_cohort_is_named(home: Path, phantom_cohort: Path, tmp_path: Path) -> None:
    words = call(home, "north", tmp_path)
    words[words.index("--cohort") + 1] = str(phantom_cohort)
    with pytest.raises(BundleError, match=r"has the same voxels as a scan of the training cohort \(correlation 1\.00\)"):
        site.main(words)
    assert not (tmp_path / "north" / "site.json").exists()
    assert [entry["event"] for entry in events(tmp_path / "north")] == ["bundle", "labels read"]


def test_a_bundle_that_was_touched_is_not_used(home: Path, tmp_path: Path) -> None:
    touched = Path(shutil.copytree(home / "bundle", tmp_path / "bundle"))
    (touched / "bundle.json").write_text((touched / "bundle.json").read_text().replace('"threshold"', '"threshold" '))
    words = call(home, "north", tmp_path)
    words[words.index("--bundle") + 1] = str(touched)
    with pytest.raises(BundleError, match=r"bundle\.json was changed"):
        site.main(words)
    assert not (tmp_path / "north" / "events.jsonl").exists()


def test_scans_of_other_voxels_are_refused(home: Path, tmp_path: Path) -> None:
    write_phantom_cohort(tmp_path / "coarse", PhantomOptions(patients=4, scans=4, spacing_mm=8.0, seed=2, external=True))
    words = call(home, "north", tmp_path)
    words[words.index("--cohort") + 1] = str(tmp_path / "coarse")
    with pytest.raises(BundleError, match="the scans have voxels of 8 x 8 x 8 mm, the bundle's models know 6 x 6 x 6 mm"):
        site.main(words)


def test_the_signatures_of_a_bundle_are_there(home: Path) -> None:
    kept = read_bundle(home / "bundle").training_scans
    assert {name: len(values) for name, values in kept["signatures"].items()} == {"t1w": 25, "flair": 25}
