"""Stacked networks in the comparison: fitted on tuning rows alone, compared with global and with the clinical model."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_report import write_reportable
from made_study import Made, write_study
from rich.console import Console
from scipy.special import expit, logit
from simulated_levels import design
from simulated_stacking import Truth, judged
from sklearn.metrics import brier_score_loss

from datamodules.files.sealed import read_sealed, write_sealed
from datamodules.files.tables import read_rows
from experiments.analysis.compare import compared
from experiments.analysis.comparison import (
    StudyComparison,
    read_comparison,
    stacked_sentences,
    write_comparison,
)
from experiments.analysis.pooling import Pooled, pool_inputs
from experiments.analysis.stacking import (
    INPUTS_TOGETHER,
    STACKED_FAMILIES,
    TOGETHER,
    added_sentence,
    beside_clinical,
    parts_of,
    stack,
    stack_notes,
    together_sentence,
)
from experiments.analysis.view import show
from experiments.reporting.sources import read_sources
from experiments.reporting.stacked_chapter import stacked
from experiments.statistics.calibration import brier_losses
from experiments.statistics.paired import Comparison as Paired
from experiments.statistics.paired import compare_family
from experiments.statistics.permutation import patient_contributions
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.significance import Estimate, family_values, mean_draws
from experiments.statistics.stacking import fit_stack
from experiments.study.runs import Run
from regions.catalog import REGIONS

INPUTS = [*REGIONS]
SKILL = {"global": 0.0, "white_matter": 0.0, "gray_matter": 0.0, "ventricles": 2.5, "brainstem": 2.5, "age_sex": 1.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacked") / "made"
    write_study(folder, Made(patients=120, scans=140, seeds=(0, 1), baselines=("prevalence", "age_sex"), skill=SKILL))
    return folder


@pytest.fixture(scope="module")
def found(study: Path) -> tuple[dict[str, list[Pooled]], StudyComparison]:
    return compared(study, INPUTS, [0, 1], draws=400)


def printed(comparison: StudyComparison, folder: Path) -> str:
    stream = io.StringIO()
    show(comparison, folder, Console(file=stream, width=200, highlight=False))
    return " ".join(stream.getvalue().split())


def test_a_fold_is_fitted_on_its_tuning_rows_alone(found: tuple[dict[str, list[Pooled]], StudyComparison]) -> None:
    models = [found[0][name][0] for name in INPUTS[1:]]
    whole = stack(models, "midpoint")
    fold = 3
    y = models[0].tuning[fold][0]
    keys = models[0].tuning_scans[fold]
    p_of = [dict(zip(model.tuning_scans[fold], model.tuning[fold][1], strict=True)) for model in models]
    odds = logit(np.array([[p[key] for key in keys] for p in p_of]))
    share = logit((y.sum() + 1) / (len(y) + 2))
    rows = whole.test.fold == fold
    p = fit_stack(y, odds, share).probabilities(logit([model.test.p[rows] for model in models]), share)
    np.testing.assert_allclose(whole.test.p[rows], p, atol=1e-12)
    assert whole.test.decision[rows].tolist() == (p >= whole.thresholds[fold]).astype(int).tolist()
    turned = [replace(model, test=replace(model.test, y=1 - model.test.y)) for model in models]
    again = stack(turned, "midpoint")
    assert again.thresholds == whole.thresholds
    np.testing.assert_array_equal(again.test.p, whole.test.p)


def test_the_study_s_rule_decides(found: tuple[dict[str, list[Pooled]], StudyComparison]) -> None:
    models = [found[0][name][0] for name in INPUTS[1:]]
    assert stack(models, "prior").thresholds == models[0].thresholds
    assert stack(models, "balanced_accuracy").thresholds != stack(models, "midpoint").thresholds


def test_a_network_that_says_nothing_leaves_the_clinical_model_as_it_is(
    found: tuple[dict[str, list[Pooled]], StudyComparison],
) -> None:
    clinical = found[0]["age_sex"][0]
    dead = replace(
        clinical,
        test=replace(clinical.test, p=np.full(clinical.test.p.size, 0.4)),
        tuning={fold: (y, np.full(y.size, 0.4)) for fold, (y, _) in clinical.tuning.items()},
    )
    together = stack([dead], "midpoint", clinical).test
    for fold in range(7):
        rows = together.fold == fold
        np.testing.assert_allclose(together.p[rows], clinical.test.p[rows], rtol=1e-9)


def test_the_regions_together_are_compared_with_global(found: tuple[dict[str, list[Pooled]], StudyComparison]) -> None:
    comparison = found[1]
    for family, metric in (("paired_stacked", "balanced_accuracy"), ("paired_stacked_auc", "auc")):
        (pair,) = getattr(comparison, family)
        assert (pair.first, pair.second, pair.metric) == (TOGETHER, "global", metric)
        values = [table[name][metric].value for table, name in
                  ((comparison.stacked, TOGETHER), (comparison.estimates, "global"))]  # fmt: skip
        assert pair.difference.value == pytest.approx(values[0] - values[1])
        assert pair.p_holm == pair.p
        assert pair.verdict.startswith("different (stacked")
    assert stacked_sentences(comparison)[0] == "the regions together know more than the network of global reads"
    assert comparison.stacked[TOGETHER]["auc"].value > comparison.estimates["ventricles"]["auc"].value


def test_each_input_is_judged_beside_age_and_sex(found: tuple[dict[str, list[Pooled]], StudyComparison]) -> None:
    tables, comparison = found
    names = [beside_clinical(name) for name in INPUTS]
    assert list(comparison.stacked) == [TOGETHER, *names]
    for family in ("paired_added", "paired_added_brier"):
        pairs = getattr(comparison, family)
        assert [(pair.first, pair.second) for pair in pairs] == [(name, "age_sex") for name in names]
        assert min(pair.p_holm for pair in pairs) == pytest.approx(min(1, 6 * min(pair.p for pair in pairs)))
    words = stacked_sentences(comparison)
    assert "ventricles: adds to age and sex" in words
    assert "brainstem: adds to age and sex" in words
    assert "white_matter: no added value shown over age and sex" in words
    clinical = tables["age_sex"][0]
    losses = [brier_score_loss(test.y, test.p) for test in
              (stack([seed], "midpoint", clinical).test for seed in tables["brainstem"])]  # fmt: skip
    gap = np.mean(losses) - brier_score_loss(clinical.test.y, clinical.test.p)
    assert comparison.paired_added_brier[-1].difference.value == pytest.approx(gap)


def test_the_brier_score_is_tested_by_exchanging_patients() -> None:
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(60), 2)
    y = (patient % 2).astype(int)
    first, second = (
        Predictions(patient, np.zeros(120, dtype=int), y, expit(rng.normal(size=120) + shift * y), np.zeros(120, dtype=int))
        for shift in (2.0, 0.0)
    )
    shares = patient_contributions(first, second, "brier")
    assert shares is not None
    for swap in rng.random((10, 60)) < 0.5:
        rows = swap[patient]
        p, q = np.where(rows, second.p, first.p), np.where(rows, first.p, second.p)
        wanted = brier_score_loss(y, p) - brier_score_loss(y, q)
        assert np.sum(np.where(swap, -shares, shares)) == pytest.approx(wanted, abs=1e-12)
    weights = draw_patient_weights(first, 500, rng)
    inputs = {"a": first, "b": second}
    values = {
        name: {**table, "brier": (float(losses.mean()), mean_draws(first, losses, weights))}
        for name, table in family_values(inputs, weights).items()
        for losses in [brier_losses(inputs[name])]
    }
    (pair,) = compare_family(inputs, weights, rng, reference="b", metric="brier", permutations=500, values=values)
    assert pair.difference.value == pytest.approx(shares.sum())
    assert pair.difference.low < pair.difference.value < pair.difference.high < 0
    assert pair.verdict == "different"


def test_other_numbers_do_not_move(
    study: Path, found: tuple[dict[str, list[Pooled]], StudyComparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.analysis.compare.compare_stacks", lambda *_: {})
    alone = compared(study, INPUTS, [0, 1], draws=400)[1]
    for name in ("estimates", "baselines", "ensembles", "paired", "paired_ensembles", "paired_baselines", "details", "notes"):
        assert getattr(alone, name) == getattr(found[1], name)
    assert alone.stacked == {}
    assert printed(alone, study) == printed(replace(found[1], stacked={}, paired_stacked=(), paired_added=(),
                                                    paired_added_brier=()), study)  # fmt: skip


def test_the_file_keeps_the_stacks_behind_all_other_rows(
    found: tuple[dict[str, list[Pooled]], StudyComparison], tmp_path: Path
) -> None:
    write_comparison(tmp_path, found[1])
    again = read_comparison(tmp_path)
    for name in ("stacked", *STACKED_FAMILIES):
        assert getattr(again, name) == getattr(found[1], name)
    rows = read_rows(tmp_path / "comparison.tsv")
    assert [row["input"] for row in rows if row["kind"] == "stacked"] == list(found[1].stacked)
    assert [row["kind"] for row in rows][-7:] == ["stacked"] * 7
    assert rows[-7]["verdict"] == "different (stacked)"


def test_the_terminal_answers_both_questions(study: Path, found: tuple[dict[str, list[Pooled]], StudyComparison]) -> None:
    text = printed(found[1], study)
    assert "the regions together know more than the network of global reads." in text
    assert re.search(r"adds to age and sex: (\w+, )*ventricles, brainstem\. ", text)
    assert "added value: minus age_sex alone" in text


def test_inputs_of_some_images_are_called_inputs(study: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "made"))
    names = ["global", "ventricles", "brainstem"]
    for path in (folder / "ventricles").rglob("run.json"):
        facts = read_sealed(path, "")
        facts["fingerprint"]["region"] = {**facts["fingerprint"].get("region", {}), "images": ["t1w"]}
        write_sealed(path, facts)
    found = compared(folder, names, [0], draws=100)[1]
    assert INPUTS_TOGETHER in found.stacked
    assert TOGETHER not in found.stacked
    assert f"{INPUTS_TOGETHER} combines ventricles, brainstem, not all of which show all images" in found.notes
    text = printed(found, folder)
    assert "regions" not in "".join(stacked_sentences(found)) + text.partition("log odds of networks stacked")[2]
    assert "inputs" in stacked_sentences(found)[0]


def test_a_region_that_is_missing_or_dead_is_named(study: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "made"))
    notes = compared(folder, ["global", "ventricles", "brainstem"], [0], draws=100)[1].notes
    assert f"{TOGETHER} combines 2 regions, without white_matter, gray_matter, subcortical_gray_matter" in notes
    assert compared(folder, ["global", "ventricles"], [0], draws=100)[1].stacked.keys() == {
        beside_clinical("global"), beside_clinical("ventricles")
    }  # fmt: skip
    alone = compared(folder, ["ventricles", "brainstem"], [0], draws=100)[1]
    assert TOGETHER in alone.stacked
    assert (alone.paired_stacked, len(alone.paired_added)) == ([], 2)
    tables = pool_inputs(folder, {name: [Run(name, fold, 0) for fold in range(7)] for name in INPUTS})
    (alive,) = tables["ventricles"]
    flat = {fold: (y, p if fold != 4 else np.full(p.size, 0.3)) for fold, (y, p) in alive.tuning.items()}
    dead = {**tables, "ventricles": [replace(alive, tuning=flat)]}
    words = f"{TOGETHER}: ventricles tells no tuning scans of fold 4 apart, and has no weight there"
    assert (stack_notes(tables, "global"), stack_notes(dead, "global")) == ([], [words])
    shutil.rmtree(folder / "baselines")
    assert list(compared(folder, INPUTS, [0], draws=100)[1].stacked) == [TOGETHER]


def pair_of(metric: str, value: float, verdict: str) -> Paired:
    name = TOGETHER if metric == "balanced_accuracy" else "global + age_sex"
    return Paired(name, "global", metric, Estimate(value, value - 0.01, value + 0.01), 0.5, 0.5, 0.5, verdict)


@pytest.mark.parametrize(
    ("value", "verdict", "best", "words"),
    [
        (-0.1, "different (stacked)", "different", "global knows more than the regions, together or alone"),
        (-0.1, "different (stacked)", "not distinguishable",
         "global is better than the regions stacked, and not shown to know more than brainstem alone"),
        (0.1, "different (stacked)", "different", "the regions together know more than the network of global reads"),
        (0.01, "equivalent within 5 points (stacked)", "different",
         "global knows no more than the regions together (equivalent within 5 points)"),
        (0.1, "not distinguishable (stacked)", "different",
         "not shown that global knows more than the regions together, nor that it knows less"),
        (0.1, "no decision to compare (stacked)", "different",
         "global and the regions together cannot be compared (no decision to compare)"),
    ],
)  # fmt: skip
def test_the_rule_about_the_parts(value: float, verdict: str, best: str, words: str) -> None:
    regions = [replace(pair_of("balanced_accuracy", -0.2, said), first=name)
               for name, said in (("ventricles", "different"), ("brainstem", best))]  # fmt: skip
    assert together_sentence(pair_of("balanced_accuracy", value, verdict), regions) == words


@pytest.mark.parametrize(
    ("gain", "auc", "loss", "brier", "words"),
    [
        (0.1, "different", -0.02, "different", "adds to age and sex"),
        (0.1, "different", 0.02, "not distinguishable", "adds to age and sex"),
        (0.1, "different", 0.02, "different", "adds to the order that age and sex give, with worse probabilities"),
        (-0.1, "different", 0.02, "different", "orders the scans worse together with age and sex than these alone do"),
        (0.1, "not distinguishable", -0.02, "not distinguishable", "no added value shown over age and sex"),
        (0.1, "not distinguishable", 0.02, "different", "no added value shown over age and sex"),
        (
            0.1,
            "not distinguishable",
            -0.02,
            "different",
            "betters the probabilities that age and sex give, not shown that it orders the scans better",
        ),
        (0.1, "no ranking to compare", -0.02, "different", "cannot be judged beside age and sex (no ranking to compare)"),
    ],
)
def test_the_rule_about_added_value(gain: float, auc: str, loss: float, brier: str, words: str) -> None:
    pairs = pair_of("auc", gain, f"{auc} (added value)"), pair_of("brier", loss, f"{brier} (added value)")
    assert added_sentence(*pairs) == f"global: {words}"


def test_the_report_has_a_chapter_of_it(tmp_path: Path) -> None:
    made = Made(inputs=INPUTS[:3], baselines=("age_sex",), skill={"global": 3.0})
    sources = read_sources(write_reportable(tmp_path / "made", made, draws=100))
    chapter = stacked(sources)
    text = "".join(block for block in chapter.blocks if isinstance(block, str))
    assert "Does the whole brain know more than its parts?" in text
    assert "global + age + sex" in text
    for words in sources.comparison["stacked_sentences"]:
        assert f"{words}." in text
    assert [row[0] for row in chapter.sheets[0].rows] == [row["input"] for row in sources.comparison["stacked"]]
    bare = replace(sources, comparison={n: v for n, v in sources.comparison.items() if "stacked" not in n})
    assert "make baselines STUDY=made" in "".join(map(str, stacked(bare).blocks))


def rates(truth: Truth, studies: int, patients: int = 140) -> tuple[float, np.ndarray, list[str], list[str]]:
    """Share of studies in which any input adds, the same of each input, what is said of the parts, and of chance."""
    plan, rng = design(patients, 0.3), np.random.default_rng(0)
    said = [judged(plan, truth, rng) for _ in range(studies)]
    adds = np.array([["adds to" in words or "betters" in words for words in one["added"]] for one in said])  # type: ignore[attr-defined]
    return (
        float(adds.any(axis=1).mean()), adds.mean(axis=0), [one["together"] for one in said], [one["chance"] for one in said]
    )  # type: ignore[return-value]  # fmt: skip


def test_images_without_information_seldom_add_and_planted_ones_do() -> None:
    assert rates(Truth(), 12)[0] <= 1 / 12
    assert rates(Truth(images=(3.0, 0, 0, 0, 0, 3.0)), 4)[1][[0, 5]].tolist() == [1.0, 1.0]


@pytest.mark.long
@pytest.mark.parametrize("patients", [140, 320])
def test_an_image_that_knows_nothing_beyond_age_adds_in_five_percent_of_the_studies_at_most(patients: int) -> None:
    """200 studies each; a rate of 5 % has a standard error of 1.5 points."""
    for truth in (Truth(), Truth(reads_age=True)):
        assert rates(truth, 200, patients)[0] <= 0.05
    assert rates(Truth(images=(3.0,) * 6), 50, patients)[1].min() >= 0.9


@pytest.mark.long
@pytest.mark.parametrize("patients", [140, 320])
def test_regions_without_information_are_at_chance_and_like_global(patients: int) -> None:
    _, _, together, chance = rates(Truth(clinical=0.0), 200, patients)
    assert np.mean([words == "above chance" for words in chance]) <= 0.05
    assert np.mean(["nor that it knows less" not in words for words in together]) <= 0.08


@pytest.mark.long
@pytest.mark.parametrize("patients", [140, 320])
def test_global_seldom_knows_more_where_one_region_knows_as_much(patients: int) -> None:
    together = rates(Truth(images=(1.5, 0, 0, 0, 0, 1.5)), 200, patients)[2]
    assert np.mean([words.startswith("global knows more") for words in together]) <= 0.05


def test_the_parts_of_a_brain_are_its_regions_and_no_brain_of_other_images() -> None:
    labels = {"global": (), "global_t1w": (), "brainstem": (16,), "ventricles": (4,), "brainstem_t1w": (16,), "left": (7,)}
    assert parts_of(labels, labels) == ["brainstem", "ventricles"]
    assert parts_of(["global", "global_t1w", "brainstem", "brainstem_t1w"], labels) == ["brainstem", "brainstem_t1w"]
    assert parts_of(["global", "global_t1w", "left"], labels) == ["left"]
