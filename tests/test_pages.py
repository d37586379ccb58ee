"""The pages as a reader meets them: what is in reach on a desk and on a phone, what is said where there is little to say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from browser import Browser, find_browser

from datamodules.cohort.flagged_scans import read_verdicts, write_verdicts
from datamodules.cohort.target import Target
from datamodules.quality.limits import judge_scans
from experiments.checking.check import one_verdict
from experiments.checking.quality import ScanQuality, plain_beside, write_pictures
from experiments.checking.quality_page import write_quality_page
from experiments.rendering.page import table
from experiments.reporting.method_chapters import _preparation, outcome
from experiments.reporting.sources import Sources
from experiments.reporting.table_one import _in_both
from regions.atlas import template_on
from regions.grid import Grid

in_browser = pytest.mark.skipif(find_browser() is None, reason="needs Chromium")
NUMBERS = ("template_overlap", "t1w_flair_agreement", "noise_t1w", "noise_flair", *(f"volume_{n}" for n in range(14)))


def qualities(folder: Path, count: int) -> list[ScanQuality]:
    grid = Grid.of((50, 61, 47), np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]]))
    brain = template_on(grid) > 0
    write_pictures(folder / "overlay.png", {"t1w": brain * 1.0, "flair": brain * 1.0}, brain, grid, None)
    rng = np.random.default_rng(0)
    numbers = [
        {name: float(value) for name, value in zip(NUMBERS, rng.random(len(NUMBERS)), strict=True)} for _ in range(count)
    ]
    return [ScanQuality(f"sub-{row:02}", "ses-1", numbers[row], folder / "overlay.png") for row in range(count)]


@pytest.fixture(scope="module")
def quality_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    write_quality_page(folder / "qc", qualities(folder, 12), True)
    return folder / "qc" / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@in_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_every_number_is_reached_beside_its_scan_and_verdict(browser: Browser, quality_page: Path, width: int) -> None:
    browser.open(quality_page, width)
    box = "document.querySelector('.tall')"
    assert browser.ask(f"{box}.clientHeight") <= browser.ask("innerHeight")
    assert browser.ask(f"{box}.scrollWidth > {box}.clientWidth")
    browser.ask(f"{box}.scrollIntoView()")
    browser.ask(f"{box}.scrollTop = 900")
    browser.ask(f"{box}.scrollLeft = {box}.scrollWidth")
    head = "document.querySelector('.tall thead th:last-child').getBoundingClientRect()"
    assert browser.ask(f"{head}.right") <= width + 1
    assert browser.ask(f"{head}.top - {box}.getBoundingClientRect().top") == pytest.approx(0, abs=2)
    name = "document.querySelector('.tall tbody tr:nth-child(5) th')"
    assert 0 <= browser.ask(f"{name}.getBoundingClientRect().left") < 390
    assert browser.ask(f"{name}.getBoundingClientRect().right") <= 390 + (width - 390)
    assert browser.ask(f"{name}.textContent").endswith(("ok", "look at", "held back"))
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []


@in_browser
def test_outlines_can_be_taken_off_the_pictures(browser: Browser, quality_page: Path) -> None:
    browser.open(quality_page, 1280)
    shown = "['.lined', '.plain'].map((kind) => getComputedStyle(document.querySelector(kind)).display !== 'none')"
    assert browser.ask(shown) == [True, False]
    browser.ask("document.getElementById('outlines').click()")
    assert browser.ask(shown) == [False, True]
    files = browser.ask("[...document.querySelectorAll('.plain img')].map((one) => one.getAttribute('src'))")
    assert all((quality_page.parent / name).is_file() for name in files)
    assert len(set(files)) == 12


def test_a_picture_without_outlines_has_no_colour(tmp_path: Path) -> None:
    from PIL import Image

    picture = qualities(tmp_path, 1)[0].picture
    colourful = [np.ptp(np.asarray(Image.open(path).convert("RGB")), axis=2).max() for path in (picture, plain_beside(picture))]
    assert colourful[0] > 100
    assert colourful[1] < 20  # the white of the words is a little blue


def test_one_scan_is_one_scan(tmp_path: Path) -> None:
    write_quality_page(tmp_path / "qc", qualities(tmp_path, 1), False)
    text = (tmp_path / "qc" / "index.html").read_text()
    assert "1 scan: " in text
    assert "1 scans" not in text


def test_a_scan_has_the_verdict_that_was_recorded_of_it(tmp_path: Path) -> None:
    scans = qualities(tmp_path, 12)
    judged = judge_scans([scan.numbers for scan in scans])
    other = [*judge_scans([dict(scan.numbers, template_overlap=9.0) for scan in scans][:11]), judged[11]]
    keys = [(scan.patient, scan.session) for scan in scans]
    write_verdicts(tmp_path, keys[:8], judged[:8], [scan.numbers for scan in scans[:8]])
    both = one_verdict(other, scans, read_verdicts(tmp_path))
    assert [verdict.verdict for verdict in both] == [verdict.verdict for verdict in (*judged[:8], *other[8:])]
    assert [verdict.reason for verdict in both[:8]] == [verdict.reason for verdict in judged[:8]]


def test_an_empty_table_is_left_out() -> None:
    assert table(["reason", "scans"], [], caption="Exclusions") == ""


@dataclass
class Study:
    """What the methods read of a study."""

    target: Target = Target()
    cohort: list[dict[str, str]] = field(default_factory=list)
    images: tuple[str, ...] = ("t1w", "flair")


def test_the_outcome_is_that_of_the_label_rule() -> None:
    expected = {
        "an EDSS of 4 or above, -30 to 365 days after the scan": Target(threshold=4.0, min_days=-30, max_days=365),
        "the sex M rather than F": Target("sex", positive="M", negative="F"),
        "the sdmt below 40": Target("sdmt", threshold=40, direction="below"),
    }
    for words, target in expected.items():
        assert outcome(cast(Sources, Study(target))) == words


def test_the_methods_name_what_the_scans_were_prepared_with(tmp_path: Path) -> None:
    t1w = tmp_path / "derivatives" / "regionwise" / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    study = cast(Sources, Study(cohort=[{"t1w": str(t1w)}]))
    assert "not recorded" in _preparation(study)
    t1w.parent.mkdir(parents=True)
    made = {
        "Name": "regionwise prepare", "Version": "1.2", "Versions": {"antspyx": "0.6", "deepbet": "1.0", "scipy": "1.1"},
        "Parameters": {"brain": "deepbet", "nonlinear": True, "space": "MNI152NLin2009aSym"},
    }  # fmt: skip
    (tmp_path / "derivatives/regionwise/dataset_description.json").write_text(json.dumps({"GeneratedBy": [made]}))
    assert _preparation(study) == (
        "Scans were prepared by regionwise prepare 1.2: brain extraction by deepbet, N4, rigid registration of FLAIR to T1w, "
        "affine and nonlinear (SyN) registration to MNI152NLin2009aSym (antspyx 0.6 and deepbet 1.0)."
    )
    made["Parameters"] = {"space": "MNI152NLin2009aSym", "images": ["t1w"]}
    (tmp_path / "derivatives/regionwise/dataset_description.json").write_text(json.dumps({"GeneratedBy": [made]}))
    assert "N4, affine registration to" in _preparation(study)


def test_table_1_says_why_its_classes_do_not_add_up() -> None:
    groups = [{"id": name, "patients": count} for name, count in (("all", 20), ("negative", 15), ("positive", 6))]
    assert _in_both({"groups": groups}) == " 1 patient with scans of both classes counted in both columns."
    groups[2]["patients"] = 5
    assert _in_both({"groups": groups}) == ""
