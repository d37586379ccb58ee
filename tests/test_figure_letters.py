"""Letters that the report's font lacks, in names of sites and columns: no noise, and no empty boxes where a font has them."""

from __future__ import annotations

import warnings

import pytest

from experiments.reporting.look import Canvas, Chart, Drawing, other_fonts, render

SCRIPT_A = "\N{MATHEMATICAL SCRIPT CAPITAL A}"
"""In no face of DejaVu Sans, but in fonts that come with matplotlib."""


def drawn(name: str) -> Drawing:
    def draw(canvas: Canvas) -> None:
        axes = canvas.single(2.0, 1.0)
        axes.set_yticks([0, 1], [name, "Graz"])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return render(Chart("sites", "alt", "caption", draw))


@pytest.mark.parametrize("name", ["\u5317\u4eac", "\u6771\u4eac & <1>", "\U0010fffd"])
def test_a_name_without_letters_in_the_font_warns_nobody_and_stays_text(name: str) -> None:
    svg = drawn(name).svg.decode()
    assert name[:2] in svg
    assert "font-family: 'DejaVu Sans'" in svg
    assert svg.count("font-family") == svg.count(", sans-serif;") > 0


def test_a_font_that_has_the_letters_is_taken() -> None:
    (font,) = other_fonts(f"Graz {SCRIPT_A}")
    assert font.encode() in drawn(SCRIPT_A).svg
    assert drawn(SCRIPT_A).png != drawn("\U0010fffd").png


def test_usual_letters_keep_their_font() -> None:
    assert other_fonts("Köln, Łódź, Αθήνα, Москва 0 \N{MINUS SIGN} 1\n") == []
    assert b"DejaVu Math" not in drawn("Köln").svg
