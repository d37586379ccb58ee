"""Sentences of the report that must hold for the study at hand: its inputs, images, settings and files; nothing is trained."""

from __future__ import annotations

import html
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_report import write_controls, write_reportable
from made_study import Made

from experiments.reporting.build import lead
from experiments.reporting.chapter import Chapter
from experiments.reporting.checklist_chapter import ENTRIES
from experiments.reporting.curves import draw_decision
from experiments.reporting.data_chapter import sample_size
from experiments.reporting.doubt_chapters import controls, subgroups
from experiments.reporting.look import Chart, render
from experiments.reporting.method_chapters import methods
from experiments.reporting.results_chapters import differences, summary
from experiments.reporting.run_chapters import run_card
from experiments.reporting.sources import Sources, read_content, read_sources
from experiments.reporting.table_one import acquisition_blocks
from experiments.statistics.numeric_pairs import TOO_FEW as TOO_FEW_NUMBERS
from experiments.statistics.paired import TOO_FEW


def text_of(chapter: Chapter) -> str:
    """A chapter's words, without figures."""
    return html.unescape(re.sub(r"<[^>]+>", " ", " ".join(block for block in chapter.blocks if isinstance(block, str))))


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A study of two regions without the whole brain."""
    made = Made(inputs=("white_matter", "ventricles"))
    return read_sources(write_reportable(tmp_path_factory.mktemp("studies") / "regions", made, draws=100))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A study of the whole brain alone, with baselines."""
    made = Made(inputs=("global",), baselines=("prevalence", "age_sex"))
    return read_sources(write_reportable(tmp_path_factory.mktemp("studies") / "alone", made, draws=100))


def test_without_a_partner_the_differences_say_why_and_show_what_else_was_compared(regions: Sources, alone: Sources) -> None:
    told = text_of(differences(regions))
    assert "No input is compared with the whole brain: global is none of the inputs." in told
    assert "white matter minus ventricles" in told
    told = text_of(differences(alone))
    assert "No input is compared with the whole brain: the study holds one input only." in told
    assert "Baseline minus global" in told
    assert [sheet.name for sheet in differences(alone).sheets] == ["differences"]


@pytest.mark.parametrize("kind", [TOO_FEW, TOO_FEW_NUMBERS])
def test_too_few_patients_are_no_property_of_an_input(kind: str) -> None:
    pairs = [{"first": name, "verdict": kind} for name in ("ventricles", "brainstem")]
    assert summary(pairs) == f"Nothing is said of ventricles and brainstem and the whole brain ({kind})."


def answers(sources: Sources) -> dict[str, str | None]:
    """Subject of the checklists -> its answer."""
    return {entry.subject: entry.answer(sources) for entry in ENTRIES}


def test_the_checklists_claim_nothing_that_no_file_shows(regions: Sources, tmp_path: Path) -> None:
    assert answers(regions)["Image preparation, with versions"] is None
    assert answers(regions)["Measures of performance, their uncertainty, tests"] == (
        "Patient-cluster bootstrap, paired permutation tests, Holm."
    )
    lone = replace(regions, comparison={**regions.comparison, "paired_all": [], "paired_baselines": []})
    assert answers(lone)["Measures of performance, their uncertainty, tests"] == "Patient-cluster bootstrap."
    (tmp_path / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "prepare", "Version": "1"}]}')
    row = {"t1w": "", "flair": str(tmp_path / "flair.nii.gz")}
    prepared = replace(regions, cohort=[row])
    assert answers(prepared)["Image preparation, with versions"] == "Described; versions in the methods and in the run card."
    assert "prepared by prepare 1" in text_of(methods(prepared))


def test_robustness_and_subgroups_are_claimed_as_far_as_they_go(regions: Sources) -> None:
    subject = "Robustness, subgroups, fairness"
    said = answers(regions)[subject]
    assert said == "Subgroups with numbers and intervals; robustness to other EDSS thresholds and subsets of the scans."
    optional = {**regions.optional, "robustness": {**regions.optional["robustness"], "edss": []}}
    said = answers(replace(regions, optional=optional))[subject]
    assert said == "Subgroups with numbers and intervals; robustness to subsets of the scans."
    nothing = {"subgroups": {"groups": []}, "robustness": {"edss": [], "subsets": [{"name": "all scans"}]}}
    assert answers(replace(regions, optional=nothing))[subject] is None


def test_a_variable_of_one_level_is_not_said_to_have_no_values(regions: Sources) -> None:
    assert "No values in this cohort" not in text_of(subgroups(regions))
    assert "Not divided by scanner, lesion volume (ml): no values, none that differ, or the target itself." in text_of(
        subgroups(regions)
    )


def test_the_methods_say_nothing_that_was_not_done(regions: Sources, alone: Sources) -> None:
    told = text_of(methods(alone))
    assert "The input was global (" in told
    for words in ("were compared", "Regions were cut out", "was the same for all inputs", "was compared with", "permutation"):
        assert words not in told, words
    assert str(lead(alone)).startswith("1 input, 7 folds, 1 seed: a network on global, ")
    assert "A paired difference" not in sample_size(alone)
    told = text_of(methods(regions))
    assert "2 inputs were compared: white matter (" in told
    assert "Regions were cut out after all other steps, with the region of the MNI152 template" in told
    assert "All pairs of inputs were compared by" in told
    assert "the same network on each" in lead(regions)
    assert "Wilson's (rates) or Newcombe's (AUC) where patients of a fold hardly differ" in told


def with_settings(sources: Sources, group: str, **values: Any) -> str:
    """The methods of a study with other settings."""
    return text_of(methods(replace(sources, config={**sources.config, group: {**sources.config[group], **values}})))


def test_the_methods_name_what_changes_a_training(regions: Sources) -> None:
    options = {"class_path": "lightning_modules.networks.ResidualCNN", "init_args": {"width": 8, "pooling": "max+mean"}}
    told = with_settings(regions, "network", **options)
    assert "the largest value and the mean of each channel before the classifier" in told
    assert "global max-pool" not in told
    assert "global max-pool" in text_of(methods(regions))
    assert "decay 0.99 per epoch, betas" in text_of(methods(regions))
    told = with_settings(regions, "model", schedule="cosine", warmup_epochs=5, class_weights=[1.0, 2.5])
    assert "learning rate 0.001, cosine schedule after 5 epochs of warm-up, betas" in told
    assert "cross-entropy weighted by class (1 and 2.5) with adamw" in told
    bias = {"class_path": "torchio.RandomBiasField", "init_args": {"coefficients": 0.3}}
    told = with_settings(regions, "data", transforms=[bias], augmentation={"flip": 0.0})
    assert "Augmentation of training scans: RandomBiasField (TorchIO)." in told


def test_inputs_of_other_images_are_named_with_them(regions: Sources) -> None:
    images = {"white_matter": [], "ventricles": ["flair"]}
    shown = [
        replace(
            record,
            facts={**record.facts, "fingerprint": {"region": {"labels": [1], "images": images[record.run.input]}}},
        )
        for record in regions.records
    ]
    told = text_of(methods(replace(regions, records=shown)))
    assert "; FLAIR alone)" in told
    assert "network but for the images that it takes." in told


def test_controls_of_which_none_could_be_run_are_listed_without_a_figure(regions: Sources) -> None:
    write_controls(regions.folder, ["ventricles"])
    content = read_content(regions.folder / "controls.json")
    rows = [row | {"state": "not run", "reason": "its network is dead", "estimates": None} for row in content["controls"]]
    chapter = controls(replace(regions, optional={"controls": {**content, "controls": rows}}))
    assert not [block for block in chapter.blocks if isinstance(block, Chart)]
    assert "the image itself: not run, its network is dead" in text_of(chapter)
    whole = controls(replace(regions, optional={"controls": content}))
    assert [block.name for block in whole.blocks if isinstance(block, Chart)] == ["controls"]
    assert "header only: not run, nothing differs" in text_of(whole)


def test_a_rare_class_that_nothing_finds_has_a_decision_curve() -> None:
    utility = {"thresholds": [0.1, 0.5], "treat_all": [-0.08, -0.94], "inputs": {"global": [-0.01, 0.0]}}
    chart = Chart("decision", "alt", "caption", lambda canvas: draw_decision(canvas, utility, ["global"], []))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert render(chart).svg


def test_the_run_card_names_the_devices_of_each_kind_and_writes_no_exponent(regions: Sources) -> None:
    gpu, cpu = (
        replace(record, facts={**record.facts, "device": kind, "device_name": name, "peak_memory_mb": 137_200.0})
        for record, kind, name in zip(regions.records, ("cuda", "cpu"), ("H200", "EPYC"), strict=False)
    )
    long = replace(gpu, facts={**gpu.facts, "seconds": {**gpu.facts["seconds"], "training": 4.44e6}})
    told = text_of(run_card(replace(regions, records=[long, cpu, *regions.records[2:]])))
    assert "cpu (EPYC) and cuda (H200)" in told
    for words in ("1,230 h of one device", "140 GB per run", "490 kWh"):
        assert words in told


def test_more_than_ten_steps_stand_below_their_own_headings(regions: Sources) -> None:
    steps = tuple(float(cut) for cut in range(1, 12))
    config = {**regions.config, "label": {"column": "score", "kind": "ordinal", "cuts": steps}}
    cohort = [{"site": "A", "label": str(step)} for step in range(12) for _ in range(step + 1)]
    (sheet,) = acquisition_blocks(replace(regions, config=config, cohort=cohort))[1]
    assert sheet.rows == [["A", *range(1, 13)]]
