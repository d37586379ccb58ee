"""The parts of a report: page, look, ROC curves, and how numbers and verdicts are put into words."""

from __future__ import annotations

import io
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from sklearn.metrics import roc_auc_score

import benchmarks.figure
from experiments.checking import quality_page
from experiments.rendering import overlay, palette
from experiments.rendering.page import Html, PageError, Section, figure, page, table
from experiments.reporting import intervals
from experiments.reporting.chapter import interval, joined, keyed, number, p_value
from experiments.reporting.checklist_chapter import CLAIM_ITEMS, ENTRIES, TRIPOD_ITEMS, _runs
from experiments.reporting.external_chapter import draw_sites
from experiments.reporting.failure_chapter import _picture, decade
from experiments.reporting.intervals import Bar, Panel, Row
from experiments.reporting.look import Canvas, Chart, label_of, render
from experiments.reporting.results_chapters import sentence, summary
from experiments.reporting.roc import roc_band
from experiments.runtime.words import plural
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.scores import fold_stratified_auc
from regions.catalog import REGIONS

ROOT = Path(__file__).parents[1]
CSS = palette.style_sheet() + Path(palette.__file__).with_name("page.css").read_text(encoding="utf-8")


def predictions(seed: int = 0, ties: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(42), 2)
    y = np.repeat(rng.permutation(np.repeat([0, 1], 21)), 2)
    p = 1 / (1 + np.exp(-(y + rng.normal(size=84) + 0.5 * (patient % 3))))
    p = np.round(p, 1) if ties else p
    return Predictions(patient=patient, fold=patient % 3, y=y, p=p, decision=(p > 0.5).astype(np.int64))


def area(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_below_the_curve_is_the_auc_within_folds(ties: bool) -> None:
    pred = predictions(3, ties)
    weights = draw_patient_weights(pred, 20, np.random.default_rng(0))
    band = roc_band([pred], weights, points=2001)
    assert area(band.false_positive_rate, band.sensitivity) == pytest.approx(fold_stratified_auc(pred), abs=2e-3)


def test_one_fold_gives_the_usual_roc_curve() -> None:
    pred = predictions(1)
    one = Predictions(pred.patient, np.zeros(84, dtype=np.int64), pred.y, pred.p, pred.decision)
    band = roc_band([one], draw_patient_weights(one, 20, np.random.default_rng(0)), points=2001)
    assert area(band.false_positive_rate, band.sensitivity) == pytest.approx(roc_auc_score(one.y, one.p), abs=2e-3)
    assert (np.diff(band.sensitivity) >= -1e-12).all()
    assert (band.sensitivity[0], band.sensitivity[-1]) == (0, 1)


def test_the_band_holds_the_curve_and_narrows_with_more_patients() -> None:
    pred = predictions(2)
    weights = draw_patient_weights(pred, 400, np.random.default_rng(0))
    band = roc_band([pred], weights)
    assert (band.low <= band.high + 1e-12).all()
    assert np.mean((band.low <= band.sensitivity + 1e-9) & (band.sensitivity <= band.high + 1e-9)) > 0.95
    twice = Predictions(
        np.concatenate([pred.patient, pred.patient + 100]),
        *(np.tile(getattr(pred, n), 2) for n in ("fold", "y", "p", "decision")),
    )
    more = roc_band([twice], draw_patient_weights(twice, 400, np.random.default_rng(0)))
    assert np.mean(more.high - more.low) < 0.85 * np.mean(band.high - band.low)


def test_several_seeds_give_the_mean_curve() -> None:
    pred = predictions(4)
    other = Predictions(pred.patient, pred.fold, pred.y, pred.p[::-1].copy(), pred.decision)
    weights = draw_patient_weights(pred, 10, np.random.default_rng(0))
    both, first, second = (roc_band(own, weights).sensitivity for own in ([pred, other], [pred], [other]))
    assert both == pytest.approx((first + second) / 2)


def test_text_is_escaped_and_html_is_not() -> None:
    made = table(["a<b", "n"], [["<i>", 1], [Html("<i>x</i>"), None]], caption='say "so"')
    assert "&lt;i&gt;" in made
    assert "<i>x</i>" in made
    assert 'aria-label="say &quot;so&quot;"' in made
    assert '<th scope="col">a&lt;b</th><th scope="col" class="number">n</th>' in made


@pytest.mark.parametrize(
    ("cells", "flush"),
    [
        (("0.5 [0.4, 0.6]", "\N{MINUS SIGN}0.5", "< 0.001", None, "undefined"), True),
        ((1, 2.5, "12,000", "29 %", "37 (30 to 43)", "0.6 \N{PLUS-MINUS SIGN} 0.1", "16 x 24 x 8", "30\N{EN DASH}39"), True),
        (("1", "one"), False),
        (("8a, 8b", "12"), False),
        (("14, 15", "9"), False),
        (("2.13.0+cpu", "1.2"), False),
        (("undefined", None), False),
        ((None, ""), False),
    ],
)
def test_a_column_is_flush_right_when_all_its_cells_are_numbers(cells: tuple[Any, ...], flush: bool) -> None:
    made = table(["x", "y"], [["a", cell] for cell in cells])
    assert ('<th scope="col" class="number">y</th>' in made) is flush


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(PageError, match="row 1 of table 'T' has 1 cells, the table has 2 columns"):
        table(["a", "b"], [["1", "2"], ["3"]], caption="T")


@pytest.mark.parametrize("ids", [["a", "a"], ["A"], ["1a"], ["a b"]])
def test_ids_that_cannot_be_anchors_are_refused(ids: list[str]) -> None:
    with pytest.raises(PageError, match="is used twice or holds something else"):
        page("T", "lead", [Section(name, "title", "") for name in ids])


def test_a_figure_must_be_svg_or_png() -> None:
    with pytest.raises(PageError, match="SVG or PNG"):
        figure(b"GIF89a", alt="x", caption="y")
    assert 'src="data:image/png;base64,' in figure(b"\x89PNG...", alt="x", caption="")


def declared(scheme: str) -> dict[str, str]:
    """Variables of a page and their colours, on light or on dark paper."""
    blocks = re.findall(r"(@media screen and \(prefers-color-scheme: dark\) \{\s*)?:root \{([^}]*)\}", CSS)
    pairs = (re.findall(r"(--[a-z-]+): (#[0-9a-f]{6});", text) for dark, text in blocks if bool(dark) == (scheme == "dark"))
    return {variable: color for block in pairs for variable, color in block}


def test_every_variable_of_a_figure_has_a_colour_on_light_and_on_dark_paper() -> None:
    assert {variable: declared("light")[variable] for variable in palette.VARIABLES.values()} == {
        variable: color for color, variable in palette.VARIABLES.items()
    }
    assert {variable: declared("dark")[variable] for variable in palette.VARIABLES.values()} == {
        variable: palette.ON_DARK[color] for color, variable in palette.VARIABLES.items()
    }


@pytest.mark.parametrize("name", REGIONS)
def test_an_input_has_one_colour_everywhere(name: str) -> None:
    color = palette.color_of(name, list(REGIONS))
    assert f"background:var({palette.VARIABLES[color]})" in keyed(name, list(REGIONS))
    assert quality_page.COLOURS[name] == overlay.COLOURS[name] == palette.rgb(palette.ON_DARK[color])
    drawn = render(Chart("c", "alt", "", lambda canvas: draw_rows(canvas, name)))
    assert f"var({palette.VARIABLES[color]})" in drawn.wide.decode()
    assert color in drawn.svg.decode()
    assert color not in {drawn_with for drawn_with, _ in benchmarks.figure.LOOKS.values()}


def draw_rows(canvas: Canvas, name: str) -> None:
    axes = canvas.single(2, 0.5)
    axes.plot([0], [0], color=palette.color_of(name), marker=palette.marker_of(name))


def test_the_colours_are_written_down_once() -> None:
    colors = {*palette.VARIABLES, *palette.ON_DARK.values()}
    files = [
        path
        for folder in ("experiments", "benchmarks", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".css"}
    ]
    assert Path(palette.__file__) in files
    again = {
        path.name: color for path in files if path.name != "palette.py" for color in colors if color in path.read_text().lower()
    }
    assert again == {}


def _luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize(("scheme", "paper"), [("light", "#ffffff"), ("dark", "#14171b")])
def test_text_and_marks_stand_out_from_the_paper(scheme: str, paper: str) -> None:
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for graphics (1.4.11); orange and its like are kept above 2.6."""
    shown = declared(scheme)
    assert shown["--paper"] == paper

    def contrast(name: str) -> float:
        pair = sorted((_luminance(shown[name]), _luminance(paper)))
        return (pair[1] + 0.05) / (pair[0] + 0.05)

    assert min(contrast(name) for name in ("--ink", "--soft", "--accent", "--warn")) >= 4.5
    assert min(contrast(name) for name in shown if name.startswith("--c-")) >= 2.6


VISION = {
    "full": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]),
}
"""Machado et al. 2009, IEEE Trans Vis Comput Graph 15:1291-1298: linear RGB as seen with complete dichromacy."""


def _lab(color: str, vision: str) -> np.ndarray[Any, Any]:
    """CIE L*a*b* (D65) of a colour as seen."""
    values = np.array(palette.rgb(color)) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(VISION[vision] @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("dark", [False, True])
def test_colours_of_the_inputs_differ_for_colour_blind_readers(vision: str, dark: bool) -> None:
    """2.3 is a just noticeable difference (CIE 1976)."""
    colors = [palette.ON_DARK[color] if dark else color for color in palette.INPUT_COLORS.values()]
    seen = [_lab(color, vision) for color in colors]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 10


def test_a_chart_follows_the_page_and_repeats() -> None:
    def draw(canvas: Canvas) -> None:
        axes = canvas.panels(2)[0]
        axes.plot([0, 1], [0, 1], color=palette.BLUE)
        axes.set_title("a title")

    first, second = (render(Chart("c", "alt", "caption", draw)) for _ in range(2))
    assert first == second
    drawn = first.wide.decode()
    assert "var(--c-blue)" in drawn
    assert palette.BLUE in first.svg.decode()
    assert not [color for color in palette.VARIABLES if color in drawn]
    assert "<style" not in drawn
    assert ">a title</text>" in drawn
    shown = figure(first.wide, alt="alt", caption="", narrow=first.narrow)
    ids = re.findall(r'\bid="([^"]+)"', shown)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', shown))
    assert used <= set(ids)


@pytest.mark.parametrize(
    ("site", "shown"),
    [
        ("pays $5 and $6", "pays $5 and $6"),
        (r"$\frac{a}$", r"$\frac{a}$"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("", "unknown"),
        ("A" * 80 + "Z", "AZ"),
    ],
)
def test_a_site_of_any_name_is_drawn(site: str, shown: str) -> None:
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    names = ["global", "white_matter", "brainstem"]
    inputs = [
        {"input": name, "sites": [{"site": site, "auc": score}], "ensemble": {"auc": score}, "internal": {"auc": score}}
        for name in names
    ]
    rows = [Row(site, [Bar(0.5)]), Row("other", [Bar(0.5)])]
    charts = [
        lambda canvas: draw_sites(canvas, inputs, names, "auc", {"ensemble": "all sites", "internal": "internal"}),
        lambda canvas: intervals.draw_rows(canvas, rows, [Panel("AUC", (0.0, 1.0))]),
        lambda canvas: intervals.draw_dots(canvas, rows, [[0.5], [0.5]], Panel("AUC", (0.0, 1.0))),
    ]
    for number_, draw in enumerate(charts):
        drawn = render(Chart("c", "alt", "caption", draw))
        assert all(f"{shown}</text>" in picture.decode() for picture in (drawn.wide, drawn.narrow) if site or not number_)


def test_inputs_differ_in_colour_and_marker() -> None:
    regions = [f"region_{letter}" for letter in "abcdef"]
    names = [*palette.INPUT_COLORS, *regions]
    assert tuple(palette.INPUT_COLORS) == tuple(palette.INPUT_MARKERS) == tuple(REGIONS)
    assert len({palette.color_of(name, names) for name in names}) == 12
    assert len({palette.marker_of(name, names) for name in names}) == 12
    assert [palette.color_of(name, regions) for name in regions] == list(palette.MORE_COLORS)
    many = [f"region_{number}" for number in range(42)]
    assert len({(palette.color_of(name, many), palette.marker_of(name, many)) for name in many}) == 42
    assert label_of("age_sex_volumes") == "age + sex + volumes"


@pytest.mark.parametrize(
    ("value", "told"), [(0.714, "0.71"), (-0.05, "\N{MINUS SIGN}0.05"), (-0.001, "0.00"), (None, "undefined"), (1, "1.00")]
)
def test_numbers(value: float | None, told: str) -> None:
    assert number(value) == told


def test_intervals_counts_and_p_values() -> None:
    assert interval({"value": 0.1, "low": -0.2, "high": 0.4}, sign=True) == "+0.10 [\N{MINUS SIGN}0.20, +0.40]"
    assert interval({"value": 0.1, "low": None, "high": None}) == "0.10 [not estimable]"
    assert interval(None) == interval({}) == "undefined"
    assert [p_value(p) for p in (0.0001, 0.04, 1.0, None)] == ["< 0.001", "0.040", "1.000", "undefined"]
    assert [plural(n, "scan") for n in (1, 0, 1382)] == ["1 scan", "0 scans", "1,382 scans"]
    assert joined(["a", "b", "c"]) == "a, b and c"


def pair(name: str, verdict: str, value: float | None = 0.05) -> dict[str, Any]:
    gap = {"value": value, "low": None if value is None else value - 0.02, "high": None if value is None else value + 0.02}
    return {"first": name, "second": "global", "difference": gap, "p_holm": 0.012, "verdict": verdict}


def test_verdicts_are_told_by_rule() -> None:
    none = [pair("ventricles", "not distinguishable"), pair("brainstem", "not distinguishable")]
    assert summary(none) == "None of the other inputs (2) can be told apart from the whole brain in this study."
    mixed = [pair("ventricles", "different"), pair("brainstem", "equivalent within 5 points")]
    assert (
        summary(mixed)
        == "Ventricles is different from the whole brain; brainstem is equivalent within 5 points with the whole brain."
    )
    assert sentence(pair("gray_matter", "different", -0.05)) == (
        "gray matter: 5 points below global (95 % interval \N{MINUS SIGN}7 to \N{MINUS SIGN}3), Holm p 0.012: different."
    )
    assert sentence(pair("ventricles", "different", 0.01)).startswith("ventricles: 1 point above global")
    assert sentence(pair("ventricles", "not distinguishable", None)) == "ventricles: the difference is undefined."
    assert "best" not in summary(mixed)


def test_an_age_is_told_as_its_decade() -> None:
    assert [decade(age) for age in ("37", "40.5", "n/a", "")] == ["30\N{EN DASH}39", "40\N{EN DASH}49", None, None]


def test_checklists_name_items_that_exist_and_count_the_rest() -> None:
    claim = {item for entry in ENTRIES for item in entry.claim}
    tripod = {int(re.match(r"\d+", item)[0]) for entry in ENTRIES for item in entry.tripod}  # type: ignore[index]
    assert claim <= set(range(1, CLAIM_ITEMS + 1))
    assert tripod <= set(range(1, TRIPOD_ITEMS + 1))
    assert _runs([1, 2, 3, 5, 8, 9]) == "1\N{EN DASH}3, 5, 8\N{EN DASH}9"


@pytest.mark.parametrize("own", [False, True])
def test_slices_of_a_scan_become_a_picture(made_scan: Any, own: bool) -> None:
    row = {name: str(getattr(made_scan, name)) for name in ("t1w", "flair", "mask", "labels")} | {"dialect": "freesurfer"}
    with Image.open(io.BytesIO(_picture(row, ("t1w", "flair"), own))) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] > pixels.shape[0] > 300
    assert (pixels.max(axis=2) - pixels.min(axis=2)).max() > 100
    assert "text" not in image.info


@pytest.mark.parametrize(
    "remark", ["different", "no decision to compare (baseline)", "fewer than 5 patients of a class (baseline)"]
)
def test_the_remarks_of_rows_lie_on_the_figure(remark: str) -> None:
    drawn: list[Canvas] = []

    def draw(canvas: Canvas) -> None:
        rows = [Row(label_of(name), [Bar(0.1, 0.0, 0.2)], remark=remark) for name in REGIONS]
        intervals.draw_rows(canvas, rows, [Panel("difference", (-0.2, 0.2))])
        drawn.append(canvas)

    render(Chart("differences", "Remarks.", "Remarks.", draw))
    wide = next(canvas for canvas in drawn if not canvas.narrow)
    texts = [text for axes in wide.figure.axes for text in axes.texts if text.get_text() == remark]
    assert len(texts) == len(REGIONS)
    renderer = FigureCanvasAgg(wide.figure).get_renderer()
    assert all(text.get_window_extent(renderer).x1 <= wide.figure.bbox.x1 for text in texts)
