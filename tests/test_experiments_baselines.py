"""Baselines: what they are given, that they are fitted honestly, and what they leave."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from datamodules.cohort.images import DEFAULT_IMAGES
from datamodules.files.atomic import file_sha256
from datamodules.files.sealed import write_sealed
from experiments.analysis.baseline_features import features_of, means_of, measured_features
from experiments.analysis.baseline_files import BASELINES, baseline_folder, read_features
from experiments.analysis.baseline_models import PENALTIES, Design, fit_baseline
from experiments.analysis.baselines import design_of, make_baselines
from experiments.analysis.pooling import pool
from experiments.statistics.scores import point_values
from experiments.study.parts import read_parts
from experiments.study.run_folder import RunFolder, read_predictions
from experiments.study.scan_table import read_scans
from experiments.study.study import Study
from regions.atlas import template_on
from regions.catalog import get_region
from regions.measure import region_means, region_volumes


@pytest.fixture(scope="module")
def own(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The session's study in a folder that may be written to."""
    return replace(study, folder=Path(shutil.copytree(study.folder, tmp_path_factory.mktemp("baselines") / "study")))


@pytest.fixture(scope="module")
def made(own: Study) -> dict:
    return make_baselines(own)


def test_features_are_those_of_regions_measure(own: Study, made: dict) -> None:
    scan, grid = own.cohort.scans[3], own.prepared.grid
    found = read_features(own.folder)[scan.patient, scan.session]
    regions = [get_region(name) for name in ("ventricles", "gray_matter")]
    volumes = region_volumes(np.asarray(own.prepared.labels(3)), grid.voxel_mm3, regions)
    means = [region_means(image.astype(np.float32), template_on(grid), regions) for image in own.prepared.image(3)]
    for region in regions:
        assert found[f"{region.name}_ml"] == pytest.approx(volumes[region.name].ml, rel=1e-5)
        assert found[f"{region.name}_t1w"] == pytest.approx(means[0][region.name], rel=1e-4, abs=1e-5)
        assert found[f"{region.name}_flair"] == pytest.approx(means[1][region.name], rel=1e-4, abs=1e-5)
    lesions = np.isin(own.prepared.labels(3), (77, 78, 79, 99, 100, 109)).sum()
    assert found["lesion_ml"] == pytest.approx(lesions * grid.voxel_mm3 / 1000)
    assert found["brain_ml"] > 500


def test_what_was_measured_is_not_measured_again(own: Study, made: dict) -> None:
    path, calls = own.folder / "baselines" / "features.tsv", []
    before = path.stat().st_mtime_ns
    table = measured_features(own.cohort.scans, own.prepared, path, 1, lambda done, total: calls.append(done))
    assert (calls, path.stat().st_mtime_ns) == ([], before)
    assert table.shape == (25, len(features_of(DEFAULT_IMAGES)))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-2]) + "\n")
    write_sealed(path.with_suffix(".json"), {path.name: file_sha256(path)})
    again = measured_features(own.cohort.scans, own.prepared, path, 2, lambda done, total: calls.append(done))
    assert calls == [1, 2]
    np.testing.assert_array_equal(again, table)
    path.write_text(path.read_text().replace("1", "2", 1))
    calls.clear()
    np.testing.assert_array_equal(
        measured_features(own.cohort.scans, own.prepared, path, 2, lambda done, total: calls.append(done)), table
    )
    assert calls == list(range(1, 26))


def test_a_fold_is_fitted_on_its_training_part_alone() -> None:
    """Against the same steps in scikit-learn by hand; other labels in the test part change nothing."""
    rng = np.random.default_rng(0)
    values, y = rng.normal(size=(60, 3)), rng.integers(0, 2, size=60)
    train, tuning = np.arange(40), np.arange(40, 50)
    design = Design(("a", "b", "c"), values)
    found = fit_baseline(design, y, train, tuning, "midpoint")
    scaler = StandardScaler().fit(values[train])
    model = LogisticRegression(C=found.penalty, max_iter=1000).fit(scaler.transform(values[train]), y[train])
    np.testing.assert_allclose(found.p, model.predict_proba(scaler.transform(values))[:, 1], atol=1e-9)
    assert found.penalty in PENALTIES
    other = np.concatenate([y[:50], 1 - y[50:]])
    np.testing.assert_array_equal(fit_baseline(design, other, train, tuning, "midpoint").p, found.p)
    far = Design(design.names, np.concatenate([values[:50], values[50:] + 100]))
    np.testing.assert_array_equal(fit_baseline(far, y, train, tuning, "midpoint").p[:50], found.p[:50])


def test_missing_values_take_those_of_the_training_part_and_are_marked() -> None:
    rng = np.random.default_rng(1)
    values, y = rng.normal(size=(50, 2)), rng.integers(0, 2, size=50)
    values[:, 1] = values[:, 1] > 0
    values[[2, 5, 45], 0], values[[3, 48], 1] = np.nan, np.nan
    design = Design(("age", "male"), values, ("male",))
    assert design.missing() == {"age": 3, "male": 2}
    found = fit_baseline(design, y, np.arange(40), np.arange(40, 45), "midpoint")
    assert set(found.coefficients) == {"age", "male", "missingindicator_age", "missingindicator_male"}
    filled = values.copy()
    for column, strategy in ((0, "median"), (1, "most_frequent")):
        imputer = SimpleImputer(strategy=strategy).fit(values[:40, [column]])
        filled[:, [column]] = imputer.transform(values[:, [column]])
    marked = np.column_stack([filled[:, 0], np.isnan(values[:, 0]), filled[:, 1], np.isnan(values[:, 1])])
    scaler = StandardScaler().fit(marked[:40])
    model = LogisticRegression(C=found.penalty, max_iter=1000).fit(scaler.transform(marked[:40]), y[:40])
    np.testing.assert_allclose(found.p, model.predict_proba(scaler.transform(marked))[:, 1], atol=1e-9)


def test_prevalence_knows_no_scan() -> None:
    y = np.array([0, 0, 0, 1, 0, 1])
    found = fit_baseline(Design((), np.empty((6, 0))), y, [0, 1, 2, 3], [4, 5], "midpoint")
    np.testing.assert_array_equal(found.p, np.full(6, 0.25))
    assert (found.penalty, dict(found.coefficients)) == (None, {})


def test_every_baseline_predicts_the_tuning_and_test_scans_of_every_fold(own: Study, made: dict) -> None:
    assert set(made["baselines"]) == set(BASELINES)
    for name in BASELINES:
        tested = []
        for fold in range(7):
            path = baseline_folder(own.folder, name, fold)
            rows = read_predictions(path / "predictions.tsv")
            parts = own.splits.partitions(fold, [scan.patient for scan in own.cohort.scans])
            assert {p: int((rows.partition == p).sum()) for p in ("train", "tuning", "internal_test")} == {
                "train": 0,
                "tuning": len(parts["tuning"]),
                "internal_test": len(parts["internal_test"]),
            }
            facts = RunFolder(path).facts()
            assert facts["fingerprint"]["split"] == own.splits.hash
            assert facts["threshold"] == made["baselines"][name]["folds"][str(fold)]["threshold"]
            test = rows.of("internal_test")
            tested += list(zip(test.patient, test.session, strict=True))
        assert sorted(tested) == sorted((scan.patient, scan.session) for scan in own.cohort.scans)
    assert json.loads((own.folder / "baselines.json").read_text())["baselines"].keys() == made["baselines"].keys()


def test_prevalence_is_at_chance_within_folds(own: Study, made: dict) -> None:
    pooled = pool({fold: baseline_folder(own.folder, "prevalence", fold) for fold in range(7)}, read_parts(own.folder))
    assert point_values(pooled.test)["auc"] == 0.5


def test_designs_follow_what_the_cohort_has(own: Study, made: dict) -> None:
    scans, features = read_scans(own.folder), np.ones((25, len(features_of(DEFAULT_IMAGES))))
    assert design_of("age_sex", scans, features).names == ("age", "male")  # type: ignore[union-attr]
    assert design_of("region_means", scans, features).names == means_of(DEFAULT_IMAGES)  # type: ignore[union-attr]
    features[:, features_of(DEFAULT_IMAGES).index("lesion_ml")] = 0
    assert "lesion_ml" not in design_of("age_sex_volumes", scans, features).names  # type: ignore[union-attr]
    unlabelled = features.copy()
    unlabelled[:, 1:7] = np.nan
    assert design_of("age_sex_volumes", scans, unlabelled) == "no scan has a label map"
    bare = replace(scans, columns={name: scans.columns[name] for name in ("patient", "session")})
    assert "neither age nor sex" in str(design_of("age_sex", bare, features))
    assert set(made["baselines"]["age_sex"]["missing"]) == set()
