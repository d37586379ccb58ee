"""The report of a study that was never trained: what is written, what is said, what stays secret, how a browser shows it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, find_browser
from made_report import SCRIPT, write_controls, write_external, write_reportable
from made_study import Made
from PIL import Image

from datamodules.files.tables import read_rows
from experiments.__main__ import main
from experiments.reporting.build import as_tsv, chapters, lead
from experiments.reporting.look import Chart, render
from experiments.reporting.sources import read_sources
from experiments.study.run_folder import RunFolder, write_predictions
from experiments.tracking.privacy import load_or_make_key, pseudonym

CHARTS = {
    "scores",
    "differences",
    "roc",
    "folds",
    "thresholds",
    "calibration",
    "decision",
    "external",
    "controls",
    "subgroups",
    "edss_thresholds",
    "flow",
    "labels",
    "learning",
}
SECTIONS = (
    *("scores", "differences", "stacked", "discrimination", "folds", "calibration", "utility", "external", "controls"),
    *("explain", "subgroups", "robustness", "failures", "data", "learning", "run-card", "methods", "model-card", "checklists"),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_reportable(tmp_path_factory.mktemp("studies") / "made", draws=100)
    write_controls(folder, ["global", "ventricles"])
    write_external(folder, ["global", "ventricles"])
    assert main(["report", "--study", "made", "--studies", str(folder.parent)]) == 0
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def bare(study: Path, tmp_path: Path) -> Path:
    """A study with nothing but its runs and comparison."""
    folder = Path(shutil.copytree(study, tmp_path / "made"))
    for name in ("controls.json", "subgroups.json", "robustness.json", "flow.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "external")
    return folder


def report(folder: Path, *more: str) -> int:
    return main(["report", "--study", folder.name, "--studies", str(folder.parent), *more])


def test_every_figure_is_written_for_page_and_paper(study: Path, page: str) -> None:
    assert {path.stem for path in (study / "figures").glob("*.svg")} == CHARTS
    for name in CHARTS:
        with Image.open(study / "figures" / f"{name}.png") as image:
            assert image.width == 2100
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert page.count("<figure>") == len(CHARTS)


def test_every_section_is_there_once_and_in_the_contents(page: str) -> None:
    assert re.findall(r'<section id="([a-z-]+)"', page) == list(SECTIONS)
    assert re.findall(r'<li><a href="#([a-z-]+)">', page) == list(SECTIONS)


def test_the_page_asks_for_nothing_from_outside(page: str) -> None:
    without = page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    assert "http://" not in without
    assert "https://" not in without
    assert "default-src 'none'" in page


def test_ids_are_unique(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_same_files_give_the_same_report(study: Path, page: str) -> None:
    for part in chapters(read_sources(study)):
        assert [block for block in part.blocks if isinstance(block, str) and block not in page] == []
        assert all(as_tsv(one) == (study / "tables" / f"{one.name}.tsv").read_text(encoding="utf-8") for one in part.sheets)
        for chart in part.blocks:
            if isinstance(chart, Chart) and chart.name in ("learning", "external"):
                made = render(chart)
                assert made.svg == (study / "figures" / f"{chart.name}.svg").read_bytes()
                assert made.png == (study / "figures" / f"{chart.name}.png").read_bytes()
                assert made.narrow.decode().count("<path") == made.wide.decode().count("<path")


def test_no_patient_and_no_path_is_in_the_page_or_the_tables(study: Path, page: str) -> None:
    texts = [page, *(path.read_text(encoding="utf-8") for path in (study / "tables").glob("*.tsv"))]
    patients = {row["patient"] for row in read_rows(study / "cohort.tsv")}
    for text in texts:
        assert not [patient for patient in patients if patient in text]
        assert str(study.parent) not in text
        assert "/scans/" not in text
    key = load_or_make_key(study / "pseudonyms.key")
    named = {row["patient"] for row in read_rows(study / "tables" / "failures.tsv")}
    assert named <= {pseudonym(patient, key) for patient in patients}
    assert named


def test_what_a_user_wrote_is_text_and_never_markup(page: str) -> None:
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page


def test_tables_hold_the_numbers_of_the_comparison(study: Path) -> None:
    sheets = ("scores", "stacked")
    scores = {row["input"]: row for name in sheets for row in read_rows(study / "tables" / f"{name}.tsv")}
    written = {row["input"]: row for row in read_rows(study / "comparison.tsv")}
    assert set(scores) == set(written)
    for name, row in scores.items():
        assert row["balanced_accuracy"] == written[name]["balanced_accuracy"]
        assert row["auc_high"] == written[name]["auc_high"]
    folds = [row for row in read_rows(study / "tables" / "folds.tsv") if row["input"] == "global"]
    assert len([row for row in folds if row["metric"] == "auc"]) == 7


def test_a_control_that_warns_and_one_that_was_not_run_are_told(page: str) -> None:
    assert "Warning:</strong> no evidence of information beyond region size and shape" in page
    assert "header only: not run, nothing differs" in page


def test_the_drop_is_told_as_external_minus_internal(page: str) -> None:
    assert "\N{MINUS SIGN}0.09 [\N{MINUS SIGN}0.17, +0.01]" in page
    assert "\N{MINUS SIGN}0.05 [\N{MINUS SIGN}0.14, +0.06]" in page
    assert "AUC, like for like: single networks on both sides" in page
    assert "their ensemble averages 7 networks and has no internal counterpart" in page


def words_of(folder: Path, images: bool = False) -> str:
    """All that a report says, without drawing its charts."""
    parts = chapters(read_sources(folder), images)
    assert [part.id for part in parts] == list(SECTIONS)
    return "".join(block for part in parts for block in part.blocks if isinstance(block, str))


def test_what_is_missing_names_its_command(bare: Path) -> None:
    page = words_of(bare)
    for command in ("make controls STUDY=made", "make external COHORT=dir STUDY=made", "make compare STUDY=made"):
        assert f"<code>{command}</code>" in page


def test_a_result_newer_than_the_comparison_is_told(bare: Path) -> None:
    own = RunFolder(bare / "global" / "fold-3" / "seed-0")
    rows = own.result()[0]
    write_predictions(own.path / "predictions.tsv", replace(rows, p=rows.p * 0.5))
    own.write_complete(own.facts())
    sources = read_sources(bare)
    assert sources.newer == ["global/fold-3/seed-0"]
    assert "global/fold-3/seed-0 is newer than this comparison" in lead(sources)


def test_a_run_that_went_stale_stops_the_report(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = RunFolder(bare / "global" / "fold-0" / "seed-0")
    own.write_facts(own.facts() | {"state": "running"})
    assert report(bare) == 2
    assert "global/fold-0/seed-0, which is not complete any more; make compare STUDY=made" in capsys.readouterr().err


def test_without_a_comparison_the_report_says_how_to_make_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert report(tmp_path / "empty") == 2
    assert "make it with: make compare STUDY=empty" in capsys.readouterr().err


def test_two_inputs_and_two_seeds_make_a_report(tmp_path: Path) -> None:
    folder = write_reportable(tmp_path / "small", Made(inputs=("global", "thalamus"), seeds=(0, 1)), draws=100)
    page = words_of(folder)
    assert lead(read_sources(folder)).startswith("2 inputs, 7 folds, 2 seeds")
    assert "Balanced accuracy over seeds" in page
    assert "Baselines (prevalence, age and sex, volumes) are missing" in page


def test_images_are_named_and_left_out_where_the_files_are_gone(bare: Path, study: Path) -> None:
    shutil.copy(study / "robustness.json", bare)
    page = words_of(bare, images=True)
    assert "6 of 6 scans are not where cohort.tsv says" in page
    assert "data:image/png" not in page


in_browser = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium here; Debian: apt-get install chromium fonts-dejavu-core"
)
OUTSIDE = """[...document.querySelectorAll('body *')].filter((one) => {
    const box = one.getBoundingClientRect();
    const scrolls = one.closest('.scroll, svg, .skip');
    return (!scrolls || scrolls === one) && !one.matches('.skip') && box.width > 0 && box.right > innerWidth + 0.5;
}).map((one) => one.outerHTML.slice(0, 80))"""
SHOWN = """[...document.querySelectorAll('figure')].map((one) => [...one.querySelectorAll(':scope > svg, :scope > img')]
    .filter((picture) => picture.getBoundingClientRect().width > 0)
    .map((picture) => [picture.getBoundingClientRect().width, picture.getBoundingClientRect().height,
                       picture.getAttribute('aria-label') || picture.alt]))"""
CUT = """[...document.querySelectorAll('figure svg')].filter((one) => one.getBoundingClientRect().width > 0).flatMap((one) => {
    const frame = one.getBoundingClientRect();
    return [...one.querySelectorAll('text')].filter((word) => {
        const box = word.getBoundingClientRect();
        return box.left < frame.left - 2 || box.right > frame.right + 2 || box.bottom > frame.bottom + 2;
    }).map((word) => word.textContent);
})"""


SMALLEST = """[...document.querySelectorAll('figure svg.narrow')].map((one) =>
    one.getBoundingClientRect().width / one.viewBox.baseVal.width *
    Math.min(...[...one.querySelectorAll('text')].map((word) => parseFloat(getComputedStyle(word).fontSize))))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@in_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everything_is_laid_out_and_nothing_overflows(browser: Browser, study: Path, width: int, dark: bool) -> None:
    browser.open(study / "report.html", width, dark=dark)
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(OUTSIDE) == []
    figures = browser.ask(SHOWN)
    assert len(figures) == 14
    for pictures in figures:
        assert len(pictures) == 1
        shown, height, told = pictures[0]
        assert min(shown, height) > 60
        assert shown <= width
        assert len(told) > 20
    assert browser.ask(CUT) == []
    paper = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    assert browser.complaints() == []


@in_browser
def test_words_in_figures_are_large_enough_on_a_phone(browser: Browser, study: Path) -> None:
    browser.open(study / "report.html", 390)
    sizes = browser.ask(SMALLEST)
    assert min(sizes) >= 8


@in_browser
def test_a_long_table_scrolls_in_its_own_box(browser: Browser, study: Path) -> None:
    browser.open(study / "report.html", 390)
    boxes = browser.ask(
        "[...document.querySelectorAll('.scroll')].map((one) => [one.scrollWidth, one.clientWidth, one.tabIndex])"
    )
    assert any(inner > outer for inner, outer, _ in boxes)
    assert all(outer <= 390 and tab == 0 for _, outer, tab in boxes)


@in_browser
def test_headings_sort_and_the_skip_link_comes_first(browser: Browser, study: Path) -> None:
    browser.open(study / "report.html", 1280)
    column = "[...document.querySelectorAll('#scores tbody tr')].map((row) => parseFloat(row.cells[1].textContent))"
    browser.ask("document.querySelectorAll('#scores thead button')[1].click()")
    rising = browser.ask(column)
    assert rising == sorted(rising)
    assert browser.ask("document.querySelectorAll('#scores thead th')[1].getAttribute('aria-sort')") == "ascending"
    browser.ask("document.querySelectorAll('#scores thead button')[1].click()")
    assert browser.ask(column) == rising[::-1]
    browser.open(study / "report.html", 1280)
    browser.press("Tab")
    assert browser.ask("document.activeElement.textContent") == "Skip to the content"
    assert browser.ask("document.activeElement.getBoundingClientRect().left") >= 0
    assert browser.complaints() == []


@in_browser
def test_landmarks_headings_and_table_heads_are_marked(browser: Browser, study: Path) -> None:
    browser.open(study / "report.html", 1280)
    assert browser.ask("['header', 'nav', 'main'].map((name) => document.querySelectorAll(name).length)") == [1, 1, 1]
    levels = browser.ask("[...document.querySelectorAll('main h2, main h3')].map((one) => one.tagName)")
    assert levels[0] == "H2"
    assert browser.ask("document.querySelectorAll('h1').length") == 1
    assert browser.ask("[...document.querySelectorAll('th')].filter((one) => !one.scope).length") == 0
    assert (
        browser.ask("[...document.querySelectorAll('main a')].filter((a) => !document.getElementById(a.hash.slice(1))).length")
        == 0
    )


@in_browser
def test_a_printout_is_a_pdf_with_everything_opened(browser: Browser, study: Path) -> None:
    browser.open(study / "report.html", 1280, dark=True)
    assert browser.printed().startswith(b"%PDF")
    assert browser.ask("[...document.querySelectorAll('details')].every((one) => one.open)") is True


@in_browser
def test_the_policy_lets_nothing_in_or_out(browser: Browser, study: Path, tmp_path: Path) -> None:
    changed = (
        (study / "report.html").read_text(encoding="utf-8").replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>')
    )
    (tmp_path / "report.html").write_text(changed, encoding="utf-8")
    browser.open(tmp_path / "report.html", 1280)
    assert any("Content Security Policy" in told for told in browser.complaints())
