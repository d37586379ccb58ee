"""Sentences of the report that must hold for the study at hand: its inputs, images, settings and files; nothing is trained."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from made_report import write_reportable
from made_study import Made

from experiments.reporting.chapter import Chapter
from experiments.reporting.results_chapters import differences, summary
from experiments.reporting.sources import Sources, read_sources
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
