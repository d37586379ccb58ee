"""What tables, figures and the report say of predicted numbers, whatever their scale; nothing is trained."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path

import numpy as np
import pytest
from made_numbers import write_numbers
from rich.console import Console

from datamodules.cohort.target import Target
from experiments.__main__ import main
from experiments.analysis.comparison import read_comparison
from experiments.analysis.view import show
from experiments.reporting.data_chapter import MOST_BARS, _bars
from experiments.reporting.intervals import Bar, Row, limits_of
from experiments.statistics.numeric import decimals

SCALE = 1e-6


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = (SCALE * np.random.default_rng(1).normal(1, 0.3, 70)).tolist()
    target = Target(column="volume", kind="regression", units="l")
    folder = write_numbers(tmp_path_factory.mktemp("studies") / "tiny", target, values)
    assert main(["report", "--study", "tiny", "--studies", str(folder.parent)]) == 0
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def words(page: str) -> str:
    """The report's text, without its figures."""
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)))


def test_every_link_of_the_page_leads_somewhere(page: str) -> None:
    ids = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'<a href="#([^"]+)"', page)) <= ids


@pytest.mark.parametrize(("size", "digits"), [(9e8, 2), (7.6, 2), (0.12, 2), (0.098, 3), (1.2e-6, 7), (0.0, 2)])
def test_a_number_is_shown_with_two_of_its_figures(size: float, digits: int) -> None:
    assert decimals(size) == digits


def test_an_error_of_a_millionth_is_not_shown_as_nothing(study: Path, words: str) -> None:
    found = read_comparison(study)
    error = found.estimates["global"]["mae"]
    assert error.value is not None
    assert error.value < SCALE
    shown = io.StringIO()
    show(found, study, Console(file=shown, width=400))
    for text in (shown.getvalue(), words):
        assert f"{error.value:.9f} [{error.low:.9f}, {error.high:.9f}]" in text
        assert f"{found.paired[0].difference.value:+.9f} [" in text
        assert "0.00 [0.00, 0.00]" not in text


def test_a_figure_is_as_wide_as_its_numbers() -> None:
    rows = [Row("a", [Bar(3e-6, 2e-6, 4.2e-6)])]
    low, high = limits_of(rows, 0, (-0.1, 0.1), decimals(3e-6))
    assert -2e-5 < low < 0 < high < 2e-5
    assert limits_of([Row("a", [Bar(0.31, 0.22, 0.43)])], 0, (0.0, 0.0)) == (0.0, 0.45)


def test_many_values_are_put_into_bins_and_few_have_bars_of_their_own() -> None:
    values = [(1e9 + 1e7 * number, False) for number in range(100)]
    bars, width = _bars(values)
    assert len(bars) == MOST_BARS
    assert sum(bars.values()) == 100
    assert width == pytest.approx(99e7 / MOST_BARS)
    assert _bars([(0.0, False), (1.0, False), (1.5, True)]) == ({(0.0, False): 1, (1.0, False): 1, (1.5, True): 1}, 0.4)


def test_nothing_is_said_of_positive_scans(words: str) -> None:
    assert "ositive" not in words
