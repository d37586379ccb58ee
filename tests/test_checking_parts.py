"""The parts of ``check``: differences, table 1, flow, duplicates, days, acquisition, pictures, costs."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from datamodules.cohort.records import Scan
from datamodules.cohort.target import Target
from datamodules.store.duplicates import find_duplicates, fingerprint, residual_correlation
from datamodules.store.sources import hash_sources
from experiments.analysis.differences import difference_of_classes, difference_of_numbers
from experiments.analysis.table1 import groups_of, table1, table1_lines, variables_of, write_table1
from experiments.checking.acquisition import HEADING, acquisition_rows, write_acquisition
from experiments.checking.costs import Work, estimate, from_runs, measured_step, span
from experiments.checking.days import days_lines, days_of, days_svg
from experiments.checking.flow import flow_svg
from experiments.checking.view import scanner_table
from experiments.rendering.overlay import COLOURS, PANEL, overlay_png
from experiments.runtime.console import plain_console, print_note
from experiments.study.run_folder import RunFolder
from experiments.study.runs import grid
from experiments.study.scan_table import read_scans
from experiments.study.study import Study
from regions.atlas import template_on
from regions.grid import Grid


def repeated(**counts: int) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


def with_moments(mean: float, sd: float, size: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=size)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


class TestDifferences:
    """The Mayo trial of primary biliary cirrhosis by treatment (R, ``survival::pbc``), as R's tableone compares the arms."""

    def test_of_classes(self) -> None:
        assert difference_of_classes(repeated(f=137, m=21), repeated(f=139, m=15)) == pytest.approx(0.111, abs=5e-4)
        arms = repeated(a=83, b=10, c=65), repeated(a=85, b=9, c=60)
        assert difference_of_classes(*arms) == pytest.approx(0.054, abs=5e-4)

    def test_of_numbers(self) -> None:
        age = with_moments(51.42, 11.01, 158), with_moments(48.58, 9.96, 154)
        assert difference_of_numbers(*age) == pytest.approx(0.270, abs=1e-3)

    def test_two_classes_agree_with_the_formula_for_a_share(self) -> None:
        p, q = 0.3, 0.55
        expected = abs(p - q) / np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
        assert difference_of_classes(repeated(x=30, y=70), repeated(x=55, y=45)) == pytest.approx(expected)

    def test_does_not_depend_on_size_or_order(self) -> None:
        one, two = repeated(x=3, y=5, z=2), repeated(x=6, y=1, z=3)
        value = difference_of_classes(one, two)
        assert difference_of_classes(two * 10, one * 3) == pytest.approx(value)

    def test_missing_values_count_in_neither(self) -> None:
        assert difference_of_classes(["a", "", "b"], ["", "a", "b"]) == 0
        assert np.isnan(difference_of_classes(["", ""], ["a"]))
        assert difference_of_classes(["a"], ["b"]) == np.inf
        assert np.isnan(difference_of_numbers(np.array([1.0, np.nan]), np.array([2.0, 3.0])))
        assert difference_of_numbers(np.ones(3), np.ones(4)) == 0


class TestTable1:
    def test_counts_patients_not_scans(self, study: Study) -> None:
        scans = read_scans(study.folder)
        variables, odd = variables_of(scans)
        content = table1(groups_of(scans, study.splits, {"other": scans}), variables)
        groups = {group["id"]: group for group in content["groups"]}
        assert (groups["all"]["patients"], groups["all"]["scans"]) == (21, 25)
        assert sum(groups[f"fold-{fold}"]["patients"] for fold in range(7)) == 21
        assert groups["negative"]["scans"] + groups["positive"]["scans"] == 25
        assert odd == []
        rows = {(row["variable"], row["level"]): row for row in content["rows"]}
        sexes = [rows["sex", level]["cells"]["all"]["n"] for level in ("F", "M")]
        assert sum(sexes) == 21
        assert rows["edss", None]["differences"]["classes"] > 1
        assert rows["age", None]["differences"]["external"]["other"] == 0

    def test_missing_values_are_counted(self, study: Study, tmp_path: Path) -> None:
        lines = (study.folder / "cohort.tsv").read_text().splitlines()
        place = lines[0].split("\t").index("age")
        cells = [line.split("\t") for line in lines]
        for row in cells[1:4]:
            row[place] = "n/a"
        (tmp_path / "cohort.tsv").write_text("\n".join("\t".join(row) for row in cells) + "\n")
        scans = read_scans(tmp_path)
        content = table1(groups_of(scans, study.splits), variables_of(scans)[0])
        (age,) = (row for row in content["rows"] if row["variable"] == "age")
        hidden = len({row[0] for row in cells[1:4]})
        assert 1 <= age["missing"]["all"] <= hidden
        assert age["missing"]["all"] + age["cells"]["all"]["n"] == 21
        write_table1(tmp_path, content)
        assert json.loads((tmp_path / "table1.json").read_text())["groups"] == content["groups"]
        text = (tmp_path / "table1.tsv").read_text()
        assert f"{age['missing']['all']} missing" in text
        widths = {line.count("\t") for line in text.splitlines()}
        assert len(widths) == 1
        assert table1_lines(content)[0][0] == "variable"


FLOW = {
    "found": {"patients": 12, "scans": 15, "positive_scans": 4},
    "excluded": [
        {"reason": "no EDSS <again>", "patients": 1, "scans": 1, "positive_scans": 0},
        {"reason": "held back by QC: a reason that is so long that it does not fit one line of a box", "patients": 2,
         "scans": 2, "positive_scans": 1},
    ],
    "used": {"patients": 10, "scans": 12, "positive_scans": 3},
}  # fmt: skip


def test_the_flow_is_a_drawing_with_every_count() -> None:
    root = ElementTree.fromstring(flow_svg(FLOW, [{"patients": 5, "scans": 6, "positive_scans": 2}] * 2))
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "12 patients, 15 scans, 4 positive" in texts
    assert "1 patient, 1 scan, 0 positive" in texts
    assert "no EDSS <again>" in texts
    assert sum("part " in text and "5 patients, 6 scans" in text for text in texts) == 2
    height = float(root.attrib["height"])
    boxes = [element for element in root.iter("{http://www.w3.org/2000/svg}rect") if element.get("class")]
    edges = [float(box.attrib["y"]) + float(box.attrib["height"]) for box in boxes]
    assert max(edges) < height
    assert all(len(text) <= 90 for text in texts)


class TestDuplicates:
    @pytest.fixture
    def prints(self, study: Study) -> list[np.ndarray]:
        return [fingerprint(np.asarray(study.prepared.image(row)), study.prepared.grid) for row in range(25)]

    @pytest.fixture
    def found(self, study: Study) -> Callable[..., list[tuple[str, str, bool, str]]]:
        sources, _ = hash_sources(study.cohort.scans, study.prepared.folder / "sources.json")

        def run(scans: list[Scan], prints: list[np.ndarray], voxels: list[tuple[str, str]] | None = None):
            marks = voxels or [(f"a{row}", f"b{row}") for row in range(len(scans))]
            return [
                (one.first, one.second, one.same_patient, one.how) for one in find_duplicates(scans, sources, marks, prints)
            ]

        return run

    def test_phantoms_that_share_their_anatomy_raise_no_alarm(self, study: Study, prints, found) -> None:
        assert found(list(study.cohort.scans), prints) == []
        values = residual_correlation(prints)
        patients = np.array([scan.patient for scan in study.cohort.scans])
        other = patients[:, None] != patients[None]
        assert values[other].max() < 0.8

    @pytest.mark.parametrize("change", ["noise", "ramp", "scaled"])
    def test_an_altered_copy_under_another_name_is_found(self, study: Study, prints, found, change: str) -> None:
        image = np.asarray(study.prepared.image(3)).astype(np.float32)
        brain = image != 0
        if change == "noise":
            image = (image + np.random.default_rng(0).normal(0, 0.1, image.shape)) * brain
        elif change == "ramp":
            image = image * np.linspace(0.9, 1.1, image.shape[2])[:, None]
        else:
            image = 1.1 * image
        scans = [*study.cohort.scans, replace(study.cohort.scans[3], patient="sub-copy")]
        copy = fingerprint(image.astype(np.float16), study.prepared.grid)
        marks = [(f"a{row}", f"b{row}") for row in range(26)]
        own = (study.cohort.scans[3].name, f"sub-copy/{scans[3].session}", False)
        fresh = replace(scans[-1], images=scans[0].images)
        names = [one[:3] for one in found([*scans[:-1], fresh], [*prints, copy], marks)]
        assert own in names

    def test_equal_files_and_equal_voxels_are_told_apart(self, study: Study, prints, found) -> None:
        scans = list(study.cohort.scans)
        scans[5] = replace(scans[5], images={**scans[5].images, "flair": scans[4].images["flair"]})
        marks = [(f"a{row}", f"b{row}") for row in range(25)]
        marks[9] = ("a8", "b9")
        how = {(one[0], one[1]): one[3] for one in found(scans, prints, marks)}
        assert how[scans[4].name, scans[5].name] == "the same FLAIR file"
        assert how[scans[8].name, scans[9].name] == "the same T1w voxels in the brain"
        assert len(how) == 2

    def test_too_few_scans_are_not_compared_by_likeness(self, study: Study, prints, found) -> None:
        scans = [study.cohort.scans[0], replace(study.cohort.scans[1], patient="sub-copy")]
        assert found(scans, [prints[0], prints[0]]) == []


def test_days_are_counted_in_bins_of_the_window(study: Study) -> None:
    scans = study.cohort.scans
    days = days_of(scans, Target())
    assert days.known == len(scans) == sum(days.counts)
    assert (days.edges[0], days.edges[-1]) == (0, 183)
    told = days_lines(days)
    assert [int(re.findall(r"\d+", line)[-1]) for line in told] == list(days.counts)
    most = int(np.argmax(days.counts))
    assert told[most].count("█") == 30
    ElementTree.fromstring(days_svg(days))
    unknown = days_of([replace(scans[0], days=None)], Target())
    assert (unknown.known, unknown.unknown, days_lines(unknown)) == (0, 1, [])


def test_acquisition_is_one_row_a_combination(study: Study, tmp_path: Path) -> None:
    rows = acquisition_rows(study.cohort.scans)
    table = [dict(zip(HEADING, row, strict=True)) for row in rows]
    assert {row["image"] for row in table} == {"T1w", "FLAIR"}
    for image in ("T1w", "FLAIR"):
        own = [row for row in table if row["image"] == image]
        assert sum(int(row["scans"]) for row in own) == 25
        assert sum(int(row["positive_scans"]) for row in own) == sum(scan.label for scan in study.cohort.scans)
        assert {row["voxel_mm"] for row in own} == {"6 x 6 x 6"}
        assert {row["MagneticFieldStrength"] for row in own} <= {"1.5", "3"}
    write_acquisition(tmp_path, rows)
    assert (tmp_path / "acquisition.tsv").read_text().splitlines()[0].split("\t") == list(HEADING)


def test_the_picture_shows_outlines_on_the_right_side() -> None:
    import io

    shape, affine = (50, 61, 47), np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]])
    own = Grid.of(shape, affine)
    labels = template_on(own)
    brain = labels > 0
    image = np.where(brain, 1.0, 0.0)
    image[:25][brain[:25]] = 3  # brighter on the left
    png = overlay_png({"T1w": image, "FLAIR": image}, brain, own)
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    assert picture.shape[0] == 2 * PANEL
    axial = picture[:PANEL, : round(50 * 4 * PANEL / 244)]
    gray = axial.mean(axis=2)
    half = axial.shape[1] // 2
    assert gray[:, 5:half].mean() > gray[:, half:].mean() + 20
    for name, colour in COLOURS.items():
        near = np.abs(picture - np.array(colour)).max(axis=2) < 60
        assert near.any(), name
    assert len(overlay_png({"T1w": image, "FLAIR": image}, brain, own, labels)) > len(png)


class TestCosts:
    WORK = Work({"global": 8000, "brainstem": 1000}, 20, 6, 10, 4, grid(["global", "brainstem"], [0]))

    def test_a_step_is_measured_and_scaled(self, tmp_path: Path) -> None:
        network = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
        before = {name: value.clone() for name, value in network.state_dict().items()}
        step = measured_step(network, "brainstem", (10, 10, 10))
        assert all((value == before[name]).all() for name, value in network.state_dict().items())
        assert step.parameters == sum(p.numel() for p in network.parameters())
        assert 4 * 4 <= step.kept_bytes <= 4 * 40
        costs = estimate(self.WORK, step, 12, tmp_path)
        assert costs.seconds_by_input["global"] == pytest.approx(8 * costs.seconds_by_input["brainstem"])
        assert costs.seconds_by_input["brainstem"] == pytest.approx(step.seconds * 1000 * (20 + 2) * 10 * 7)
        assert "brainstem's training step, measured here" in costs.source

    def test_runs_that_are_there_are_better(self, tmp_path: Path) -> None:
        assert from_runs(self.WORK, 12, tmp_path) is None
        run = self.WORK.runs[0]
        RunFolder(run.folder(tmp_path)).write_facts(
            {"state": "complete", "seconds": {"epoch": 2.0}, "peak_memory_mb": 900, "device": "cuda"}
        )
        costs = from_runs(self.WORK, 12, tmp_path)
        assert costs is not None
        assert costs.seconds_by_input == {"global": 140, "brainstem": 17.5}
        assert (costs.memory_mb, costs.source) == (900, "from 1 complete run of this study (cuda)")

    @pytest.mark.parametrize(("seconds", "told"), [(40, "40 s"), (600, "10 min"), (18_000, "5.0 h"), (270_000, "3.1 days")])
    def test_times_are_told_in_words(self, seconds: float, told: str) -> None:
        assert span(seconds) == told


def test_a_column_that_may_name_patients_stays_out_of_table_1(study: Study, tmp_path: Path) -> None:
    lines = (study.folder / "cohort.tsv").read_text().splitlines()
    more = [f"{line}\tname\tbmi\tcourse" if not row else f"{line}\tDOE\t{20 + row}\tRR" for row, line in enumerate(lines)]
    (tmp_path / "cohort.tsv").write_text("\n".join(more) + "\n")
    variables, left_out = variables_of(read_scans(tmp_path))
    assert {"bmi", "course"} <= {one.name for one in variables}
    assert left_out == ["name"]


def test_names_with_brackets_are_printed_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    console = plain_console()
    print_note(console, "columns lesions [ml], relapses [/year]")
    console.print(scanner_table({"ward [/a]": [(2, 1)]}))
    told = capsys.readouterr().out
    assert "note: columns lesions [ml], relapses [/year]\n" in told
    assert "ward [/a]" in told
