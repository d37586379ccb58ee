"""The whole tool on cohorts whose truth is known: what was planted is found where it was planted, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.phantoms import PhantomOptions, write_phantom_cohort
from experiments.compare import StudyComparison, compare
from experiments.plan import grid
from experiments.settings import parse_settings
from experiments.study import open_study
from experiments.work import work

INPUTS = ("global", "ventricles", "brainstem")


def trained(folder: Path, phantom: str) -> StudyComparison:
    """All folds of three inputs on a cohort of 84 patients at 6 mm, compared."""
    cohort = write_phantom_cohort(
        folder / "cohort", PhantomOptions(preset=phantom, patients=84, scans=100, spacing_mm=6.0, seed=3)
    )
    words = [
        "--preset",
        "demo",
        "--cohort",
        str(cohort),
        "--study",
        "planted",
        "--studies",
        str(folder),
        "--store",
        str(folder / "store"),
    ]
    words += [
        "--network.init_args.stages",
        "3",
        "--trainer.max_epochs",
        "12",
        "--early_stopping.patience",
        "12",
        "--tracking.mode",
        "disabled",
    ]
    settings = parse_settings(words)
    study = open_study(settings.study_options())
    assert work(settings, study, grid(INPUTS, [0])) == 0
    return compare(study.folder, INPUTS, draws=2000)


@pytest.fixture(scope="module")
def ventricles(tmp_path_factory: pytest.TempPathFactory) -> StudyComparison:
    return trained(tmp_path_factory.mktemp("ventricles"), "single_region:ventricles")


@pytest.fixture(scope="module")
def null(tmp_path_factory: pytest.TempPathFactory) -> StudyComparison:
    return trained(tmp_path_factory.mktemp("null"), "null")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ventricles", "global"])
@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
def test_an_effect_in_the_ventricles_is_found_by_inputs_that_show_them(ventricles, name, metric) -> None:
    low = ventricles.estimates[name][metric].low
    assert low is not None
    assert low > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
def test_it_is_not_found_by_an_input_that_does_not_show_them(ventricles, metric) -> None:
    estimate = ventricles.estimates["brainstem"][metric]
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 0.5 < estimate.high or abs(estimate.value - 0.5) < 0.1


@pytest.mark.slow
def test_the_brainstem_is_called_different_from_global_there(ventricles) -> None:
    verdicts = {one.first: one.verdict for one in ventricles.paired}
    assert verdicts["brainstem"] == "different"


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
def test_without_an_effect_every_interval_holds_one_half(null, name, metric) -> None:
    estimate = null.estimates[name][metric]
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 0.5 < estimate.high


@pytest.mark.slow
def test_without_an_effect_no_input_is_called_different(null) -> None:
    assert {one.verdict for one in null.paired} == {"not distinguishable"}
