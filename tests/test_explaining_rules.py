"""What may be said of an explanation: every rule, and that nothing is said where it is not known."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.explaining.rules import input_verdict, is_beyond, is_needed, may_look, no_map, region_words
from experiments.statistics.chance import WORDS

AGREE, DISAGREE, UNKNOWN = {"p": 0.01}, {"p": 0.4}, {"p": None}


def region(name: str, p_holm: float | None, above: float = 1.0, needed: bool = False) -> dict[str, Any]:
    beyond = is_beyond(p_holm, above)
    return {"name": name, "p_holm": p_holm, "beyond": beyond, "relevant": beyond and needed}


def test_only_an_input_above_chance_is_looked_at() -> None:
    assert [may_look(words) for words in WORDS] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("chance", "expected"),
    [
        (WORDS[1], "no map: its AUC is below chance"),
        (WORDS[2], "no map: its AUC is not shown to be above chance"),
        (WORDS[3], "no map: no ranking to judge"),
        (WORDS[4], "no map: too few patients to judge"),
    ],
)
def test_an_input_that_is_not_looked_at_says_why(chance: str, expected: str) -> None:
    assert (no_map(chance).state, no_map(chance).words) == ("no map", expected)


@pytest.mark.parametrize(
    ("p_holm", "above", "expected"),
    [(0.049, 0.75, True), (0.05, 1.0, False), (0.001, 0.74, False), (None, 1.0, False)],
)
def test_a_region_is_looked_at_beyond_the_band_in_most_networks(p_holm: float | None, above: float, expected: bool) -> None:
    assert is_beyond(p_holm, above) is expected


@pytest.mark.parametrize(
    ("verdict", "value", "expected"),
    [
        ("different", 0.1, True),
        ("different (secondary)", 0.1, True),
        ("different", -0.1, False),
        ("not distinguishable", 0.3, False),
        ("no ranking to compare", 0.3, False),
    ],
)
def test_a_region_is_needed_where_the_auc_falls_without_it(verdict: str, value: float, expected: bool) -> None:
    assert is_needed({"verdict": verdict, "difference": {"value": value}}) is expected
    assert not is_needed(None)


def test_the_words_of_a_region() -> None:
    assert region_words(True, True, True) == "relevant"
    assert region_words(True, False, True) == "looked at, not shown to be needed"
    assert region_words(False, True, True) == "needed, but within the permuted band"
    assert region_words(False, False, True) == "not shown to be relevant"
    assert region_words(False, False, False) == "permuted band not known"
    assert region_words(True, None, True) == "looked at more than the rest of the input"
    assert region_words(False, None, True) == "not shown to be looked at more than the rest"
    assert region_words(False, True, False) == "needed; permuted band not known"


def test_of_several_regions_a_map_is_shown_where_one_is_looked_at() -> None:
    regions = [region("brainstem", 0.01, needed=True), region("ventricles", 0.02), region("white_matter", 0.6, needed=True)]
    shown = input_verdict(regions, DISAGREE, several=True)
    assert (shown.state, shown.words) == ("shown", "relevant: brainstem; looked at, not shown to be needed: ventricles")
    assert input_verdict(regions[1:], DISAGREE, several=True).words == "looked at, not shown to be needed: ventricles"


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ([region("a", 0.2), region("b", 0.6)], "no region is beyond the band"),
        ([region("a", 0.01, 0.6), region("b", 0.6)], "the folds disagree on a"),
        ([region("a", None), region("b", None)], "too few networks with permuted labels"),
    ],
)
def test_of_several_regions_none_of_which_is_looked_at_no_map_is_shown(regions: list[Any], words: str) -> None:
    found = input_verdict(regions, AGREE, several=True)
    assert found.state == "not interpretable"
    assert words in found.words


def test_of_one_region_the_folds_must_agree_more_than_permuted_networks() -> None:
    assert input_verdict([], AGREE, several=False).state == "shown"
    assert "agree no more" in input_verdict([], DISAGREE, several=False).words
    assert "too few" in input_verdict([region("a", 0.01)], UNKNOWN, several=False).words
