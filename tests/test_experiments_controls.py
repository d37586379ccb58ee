"""The controls: what each shows the network, how it is judged, and that one command makes, resumes and writes them all."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.cohort.records import Scan
from datamodules.cohort.splits import Splits
from datamodules.cohort.target import Target
from experiments.commands import controls
from experiments.controls.cases import Case, NotRunError, case_of, high_field_of, permuted, repeated_patients, sex_of
from experiments.controls.control_masks import complement_mask, overlap, random_mask, shown_mask
from experiments.controls.headers import header_columns, header_predictions
from experiments.controls.networks import VoxelMemory
from experiments.controls.plan import TITLES, ControlRun, choose, plan
from experiments.controls.rules import RULES, Verdict, verdict
from experiments.controls.scores import compared_row, permuted_row, ranked
from experiments.statistics.predictions import Predictions
from experiments.statistics.resampling import draw_patient_weights
from experiments.statistics.scores import fold_stratified_auc, pooled_auc
from experiments.statistics.significance import Estimate
from experiments.study.record import Mask, StudyRecord, write_record
from experiments.study.recorded import with_recorded
from experiments.study.run_folder import Rows, RunFolder, write_predictions
from experiments.study.runs import PlanError
from experiments.study.study import Study
from regions.catalog import get_region

ABOVE, CHANCE, UNDEFINED = Estimate(0.7, 0.6, 0.8), Estimate(0.5, 0.4, 0.6), Estimate(None, None, None)
GAIN, NO_GAIN = Estimate(0.2, 0.1, 0.3), Estimate(0.0, -0.1, 0.1)


def case(study: Study, control: str, region: str = "ventricles", mode: str = "template", repeat: int = 0) -> Case:
    return case_of(study, ControlRun(control, region, repeat, 0), get_region(region), mode, 3.0, 0)


def test_permuted_labels_keep_each_parts_counts_and_each_patients_scans_together(study: Study) -> None:
    scans, splits = study.cohort.scans, study.splits
    first, again, other = (
        tuple(scan.label for scan in permuted(scans, splits, np.random.default_rng(seed))) for seed in (1, 1, 2)
    )
    assert first == again != other
    own = {scan.patient: scan.label for scan in scans}
    dealt = {scan.patient: label for scan, label in zip(scans, first, strict=True)}
    assert all(dealt[scan.patient] == label for scan, label in zip(scans, first, strict=True))
    for part in range(splits.folds):
        members = [patient for patient in own if splits.part[patient] == part]
        assert sum(own[name] for name in members) == sum(dealt[name] for name in members)


def test_a_random_region_is_as_large_keeps_away_and_is_repeatable(study: Study) -> None:
    grid = study.prepared.grid
    for name in ("ventricles", "brainstem", "subcortical_gray_matter"):
        region = get_region(name)
        mask, again, other = (random_mask(region, grid, "template", 3.0, np.random.default_rng(s)) for s in (1, 1, 2))
        assert mask.sum() == shown_mask(region, grid, "template", 3.0).sum()
        assert overlap(mask, region, grid, "template", 3.0) == 0
        assert np.array_equal(mask, again)
        assert not np.array_equal(mask, other)


def test_a_random_region_in_place_of_most_of_the_brain_may_overlap_it(study: Study) -> None:
    region, grid = get_region("gray_matter"), study.prepared.grid
    mask = random_mask(region, grid, "template", 3.0, np.random.default_rng(0))
    assert mask.sum() == shown_mask(region, grid, "template", 3.0).sum()
    assert 0 < overlap(mask, region, grid, "template", 3.0) < 1


def test_the_complement_and_the_region_share_the_template_brain(study: Study) -> None:
    region, grid = get_region("brainstem"), study.prepared.grid
    rest, own = complement_mask(region, grid, "template", 3.0), shown_mask(region, grid, "template", 3.0)
    assert not (rest & own).any()
    assert np.array_equal(rest | own, shown_mask(get_region("global"), grid, "template", 3.0))


def test_in_subject_mode_the_complement_is_all_other_labels(study: Study) -> None:
    found = case(study, "complement", "brainstem", "subject")
    assert found.mask is None
    assert set(found.region.labels) | set(get_region("brainstem").labels) == set(range(1, 256))
    assert not set(found.region.labels) & set(get_region("brainstem").labels)


def test_each_control_changes_one_thing(study: Study) -> None:
    image = case(study, "image")
    assert case(study, "mask_only") == replace(image, content="mask")
    assert case(study, "shuffled") == replace(image, content="shuffled")
    assert case(study, "permuted").labels != image.labels
    assert replace(case(study, "permuted"), labels=image.labels, scores=image.scores) == image


def test_the_leaky_split_separates_scans_of_a_patient(study: Study) -> None:
    found = case(study, "leaky")
    parts: dict[str, set[int]] = {}
    for scan, group in zip(found.scans, found.groups, strict=True):
        parts.setdefault(scan.patient, set()).add(found.splits.part[group])
    assert any(len(where) > 1 for where in parts.values())
    assert repeated_patients(found.scans) == 4


def test_both_splits_meet_a_network_that_can_remember_scans(study: Study) -> None:
    leaky, honest = case(study, "leaky"), case(study, "leaky", repeat=1)
    assert leaky.remembers
    assert honest == replace(case(study, "image"), remembers=True)


def test_a_memory_tells_every_training_scan_from_every_other() -> None:
    torch.manual_seed(0)
    image, label = torch.randn(8, 2, 4, 5, 6), torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    network = VoxelMemory(2, (4, 5, 6))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(network(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    assert torch.equal(network(image).argmax(1), label)
    assert torch.equal(network(image + 0.3 * torch.randn(8, 2, 4, 5, 6)).argmax(1), label)


def test_without_repeats_there_is_no_leaky_split(study: Study) -> None:
    first = {scan.patient: scan for scan in study.cohort.scans}
    alone = replace(study, cohort=replace(study.cohort, scans=tuple(first.values())))
    with pytest.raises(NotRunError, match="no patient has several scans"):
        case(alone, "leaky")


@pytest.mark.parametrize(("text", "label"), [("F", 0), ("female", 0), ("m", 1), ("", None), ("3", None)])
def test_sex_is_read_as_people_write_it(study: Study, text: str, label: int | None) -> None:
    assert sex_of(replace(study.cohort.scans[0], covariates={"sex": text})) == label


@pytest.mark.parametrize(("text", "label"), [("3", 1), ("1.5", 0), ("2,9 T", 1), ("1.5T", 0), ("", None), ("high", None)])
def test_field_strength_is_read_as_people_write_it(study: Study, text: str, label: int | None) -> None:
    assert high_field_of(replace(study.cohort.scans[0], covariates={"field_strength": text})) == label


def test_a_positive_control_needs_both_classes_in_every_fold(study: Study) -> None:
    scans = tuple(replace(scan, covariates={"sex": "F"}) for scan in study.cohort.scans)
    with pytest.raises(NotRunError, match="one sex has 0 patients, each of 7 folds needs one"):
        case(replace(study, cohort=replace(study.cohort, scans=scans)), "sex")
    scans = tuple(replace(scan, covariates={}) for scan in scans)
    with pytest.raises(NotRunError, match="sex is known of 0 of 25 scans"):
        case(replace(study, cohort=replace(study.cohort, scans=scans)), "sex")


def told(study: Study, values: dict[int, dict[str, str]]) -> tuple[Scan, ...]:
    return tuple(replace(scan, covariates=values[scan.label]) for scan in study.cohort.scans)


def test_an_acquisition_that_gives_the_label_away_is_found(study: Study) -> None:
    scans = told(study, {0: {"vendor": "A", "field_strength": "1.5"}, 1: {"vendor": "B", "field_strength": "3"}})
    assert header_columns(scans) == ["field_strength", "vendor"]
    assert fold_stratified_auc(header_predictions(scans, study.splits, "midpoint")) == 1.0


def test_the_acquisition_alone_is_decided_by_the_rule_of_the_study(study: Study) -> None:
    scans = told(study, {0: {"vendor": "A"}, 1: {"vendor": "B"}})
    found = header_predictions(scans, study.splits, "prior")
    for fold in range(study.splits.folds):
        train = study.splits.partitions(fold, [scan.patient for scan in scans])["train"]
        rows = found.fold == fold
        prevalence = np.mean([scans[row].label for row in train])
        np.testing.assert_array_equal(found.decision[rows], found.p[rows] >= prevalence)


def test_a_missing_value_of_the_acquisition_is_a_level_of_its_own(study: Study) -> None:
    scans = told(study, {0: {"field_strength": "3"}, 1: {"field_strength": "n/a"}})
    assert fold_stratified_auc(header_predictions(scans, study.splits, "midpoint")) == 1.0


@pytest.mark.parametrize("odd", ["inf", "1e400"])
def test_an_infinite_number_of_the_acquisition_is_a_missing_one(study: Study, odd: str) -> None:
    def found(cell: str) -> np.ndarray:
        scans = told(study, {0: {"echo_time": "3"}, 1: {"echo_time": "4"}})
        scans = (replace(scans[0], covariates={"echo_time": cell}), *scans[1:])
        return header_predictions(scans, study.splits, "midpoint").p

    np.testing.assert_array_equal(found(odd), found("n/a"))


def test_an_acquisition_that_is_the_same_for_all_says_nothing(study: Study) -> None:
    scans = told(study, {0: {"vendor": "A", "age": "3"}, 1: {"vendor": "A", "age": "4"}})
    with pytest.raises(NotRunError, match="no scan has a field strength"):
        header_predictions(scans, study.splits, "midpoint")


@pytest.mark.parametrize(
    ("control", "own", "image", "gain", "flag", "words"),
    [
        ("image", ABOVE, None, None, "info", "predicts the label"),
        ("image", CHANCE, None, None, "info", "not shown to predict"),
        ("image", UNDEFINED, None, None, "info", "undefined"),
        ("permuted", CHANCE, None, None, "ok", "at chance"),
        ("permuted", ABOVE, None, None, "warning", "something leaks"),
        ("permuted", Estimate(0.3, 0.2, 0.4), None, None, "warning", "below chance"),
        ("mask_only", ABOVE, ABOVE, NO_GAIN, "warning", "no evidence of information beyond region size and shape"),
        ("mask_only", ABOVE, ABOVE, GAIN, "info", "the image adds to it"),
        ("mask_only", CHANCE, ABOVE, GAIN, "ok", "does not explain what the image says"),
        ("mask_only", CHANCE, CHANCE, NO_GAIN, "info", "neither the image nor the mask alone"),
        ("shuffled", ABOVE, ABOVE, NO_GAIN, "warning", "beyond region size, shape and the distribution"),
        ("random_region", ABOVE, ABOVE, NO_GAIN, "warning", "no evidence that it says more than a random piece"),
        ("random_region", CHANCE, ABOVE, GAIN, "ok", "says more than a random piece"),
        ("random_region", CHANCE, CHANCE, NO_GAIN, "info", "the region itself"),
        ("complement", CHANCE, ABOVE, GAIN, "ok", "not shown to predict"),
        ("complement", ABOVE, ABOVE, NO_GAIN, "info", "not this region's alone"),
        ("header_only", ABOVE, ABOVE, NO_GAIN, "warning", "no evidence of information beyond it"),
        ("header_only", ABOVE, ABOVE, GAIN, "warning", "the image adds to it"),
        ("header_only", CHANCE, ABOVE, GAIN, "ok", "does not explain"),
        ("sex", ABOVE, None, None, "ok", "the pipeline can learn"),
        ("sex", CHANCE, None, None, "warning", "may be one of the pipeline"),
        ("leaky", ABOVE, None, GAIN, "info", "inflates the AUC by 0.20"),
        ("leaky", ABOVE, None, NO_GAIN, "info", "no inflation seen"),
    ],
)
def test_verdicts_follow_the_rules(
    control: str, own: Estimate, image: Estimate | None, gain: Estimate | None, flag: str, words: str
) -> None:
    said = verdict(control, own, image, gain)
    assert said.flag == flag
    assert words in said.text


@pytest.mark.parametrize("control", ["image", "permuted", "shuffled", "complement", "header_only", "sex", "leaky"])
def test_no_control_is_judged_by_one_probability(control: str) -> None:
    said = verdict(control, CHANCE, ABOVE, GAIN, silent="the network")
    assert said == Verdict("warning", "nothing to judge: the network gave one probability to all scans of most folds")


def test_a_permutation_or_an_image_that_gives_one_probability_is_named() -> None:
    rng = np.random.default_rng(0)
    patient = np.arange(60)
    varied, constant = (
        Predictions(patient, patient % 3, patient % 2, p, patient % 2) for p in (rng.random(60), 0.2 + patient % 3 / 10)
    )
    assert permuted_row("global", [varied, constant], 200, rng).verdict.startswith("nothing to judge: a repetition gave")
    weights = draw_patient_weights(varied, 200, rng)
    for control, flag, words in (
        ("mask_only", "info", "the mask alone gave one probability to all scans of most folds, as a mask that is the same"),
        ("complement", "warning", "nothing to judge: rest of the brain gave one probability to all scans of most folds"),
    ):
        row = compared_row(control, "global", constant, varied, weights)
        assert (row.flag, row.verdict[: len(words)]) == (flag, words)
        assert compared_row(control, "global", varied, constant, weights).verdict.startswith("nothing to judge: the image gave")


def test_every_control_has_a_rule_and_a_title() -> None:
    assert set(RULES) == set(TITLES)


def test_the_plan_leaves_out_what_the_whole_brain_has_not() -> None:
    runs = plan(list(TITLES), ["global", "brainstem"], ["global"], 3, permutations=2)
    counts = {(run.control, run.input): 0 for run in runs}
    for run in runs:
        counts[run.control, run.input] += 1
    assert counts["permuted", "brainstem"] == 6
    assert counts["complement", "brainstem"] == 3
    assert ("complement", "global") not in counts
    assert ("sex", "brainstem") not in counts
    assert "header_only" not in {run.control for run in runs}
    assert len(set(runs)) == len(runs)


def test_the_image_is_always_among_the_controls() -> None:
    assert choose("leaky,mask_only") == ["image", "mask_only", "leaky"]
    assert choose("") == list(TITLES)
    with pytest.raises(PlanError, match="there is no control 'masks'; controls are image, permuted"):
        choose("masks")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--permutations", "0"], "--permutations is '0'; give a number of at least 1"),
        (["--permutations", "1e400"], "--permutations is '1e400'; give a number of at least 1"),
        (["--draws", "1e400"], "--draws is '1e400'; give a number of at least 100"),
        (["--spacing", "1e400"], "--spacing is '1e400'; give a number of at least 0.5"),
        (["--draws", "many"], "--draws is 'many'; give a number of at least 100"),
        (["--spacing", "-3"], "--spacing is '-3'"),
    ],
)
def test_numbers_on_the_command_line_are_checked_before_anything_is_done(words: list[str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        controls.main(words)


def test_permutations_are_averaged_with_draws_of_their_own() -> None:
    rng = np.random.default_rng(0)
    patient = np.arange(60)
    tables = [
        Predictions(patient, patient % 3, rng.permutation(patient % 2), rng.random(60), rng.integers(0, 2, 60))
        for _ in range(4)
    ]
    row = permuted_row("global", tables, 500, rng)
    assert row.estimates is not None
    auc = row.estimates["auc"]
    assert auc.value == pytest.approx(np.mean([fold_stratified_auc(table) for table in tables]))
    assert row.repetitions == 4
    one = permuted_row("global", tables[:1], 500, rng).estimates
    assert one is not None
    assert auc.high - auc.low < 0.75 * (one["auc"].high - one["auc"].low)  # type: ignore[operator]


def test_ranks_within_folds_let_a_split_by_scan_be_compared(tmp_path: Path) -> None:
    runs = [ControlRun("leaky", "global", 0, fold) for fold in range(2)]
    for run, shift in zip(runs, (0.0, 0.5), strict=True):
        names, y = np.array(["a", "b", "c", "d"]), np.array([0, 1, 0, 1])
        rows = Rows(np.full(4, "internal_test"), names, np.full(4, str(run.fold)), np.full(4, ""), y, 0.1 * y + 0.2 + shift)
        write_predictions(run.folder(tmp_path) / "predictions.tsv", rows)
        RunFolder(run.folder(tmp_path)).write_complete({"threshold": 0.25 + shift})
    table = ranked(tmp_path, runs)
    assert table.patients.size == 4
    assert pooled_auc(table) == 1.0
    assert set(table.fold) == {0}
    assert np.array_equal(table.y, table.decision)


@pytest.fixture(scope="module")
def home(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command line of ``controls`` that takes seconds."""
    folder = tmp_path_factory.mktemp("controls")
    words = ["--cohort", str(phantom_cohort), "--study", "mine", "--studies", str(folder), "--store", str(store_folder)]
    words += ["--inputs", "brainstem", "--folds", "3", "--permutations", "1", "--draws", "200"]
    words += ["--trainer.max_epochs", "1", "--network.init_args.stages", "2", "--network.init_args.width", "2"]
    assert controls.main(words) == 0
    return words


def test_one_command_writes_a_verdict_for_every_control(home: list[str]) -> None:
    folder = Path(home[5]) / "mine"
    found = json.loads((folder / "controls.json").read_text())
    rows = {row["control"]: row for row in found["controls"]}
    assert set(rows) == set(TITLES)
    assert found["spacing_mm"] == [6.0, 6.0, 6.0]
    for name, row in rows.items():
        assert row["verdict"]
        if row["state"] == "complete":
            assert row["scans"] == 25 or name in ("sex", "field_strength")
            assert row["estimates"]["auc"]["value"] is not None
        else:
            assert row["reason"]
    assert rows["mask_only"]["difference_of"] == "image minus mask only"
    gap = rows["image"]["estimates"]["auc"]["value"] - rows["mask_only"]["estimates"]["auc"]["value"]
    assert rows["mask_only"]["difference"]["auc"]["value"] == pytest.approx(gap)
    assert rows["random_region"]["details"]["overlap_with_region"] == 0
    assert rows["leaky"]["details"]["repeated_patients"] == 4
    with (folder / "controls.tsv").open() as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert [row["control"] for row in table] == [row["control"] for row in found["controls"]]
    assert float(table[0]["auc"]) == found["controls"][0]["estimates"]["auc"]["value"]


def test_the_same_command_again_trains_nothing_and_says_the_same(home: list[str]) -> None:
    folder = Path(home[5]) / "mine"
    before = (folder / "controls.json").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in folder.glob("controls/**/run.json")}
    assert len(times) == 30
    assert controls.main(home) == 0
    assert (folder / "controls.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in folder.glob("controls/**/run.json")} == times


def test_other_settings_make_the_trainings_anew(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [*home, "--controls", "image", "--trainer.max_epochs", "2"]
    assert controls.main(words) == 0
    assert "3 control trainings were made with other settings" in capsys.readouterr().out
    facts = RunFolder(ControlRun("image", "brainstem", 0, 0).folder(Path(home[5]) / "mine")).facts()
    assert facts["epochs"] == 2


def test_controls_take_over_what_the_study_was_made_with(tmp_path: Path) -> None:
    record = StudyRecord(
        cohort=Path("other/cohort"), store=Path("store"), label=Target(threshold=4.0), broken="refuse", folds=5,
        split_seed=0, split_hash="", cohort_hash="", mask=Mask.of("subject", 3.0), regions={"global": ()},
    )  # fmt: skip
    write_record(tmp_path / "mine", record)
    words = with_recorded(["--study", "mine", "--studies", str(tmp_path), "--folds", "6"])
    assert "--label.threshold=4.0" in words
    assert "--data.mask_mode=subject" in words
    assert "--cohort=other/cohort" in words
    assert not any("batch_size" in word for word in words)
    assert words[-2:] == ["--folds", "6"]


def test_splits_of_a_leaky_case_cannot_be_taken_for_the_studys(study: Study) -> None:
    found = case(study, "leaky")
    assert isinstance(found.splits, Splits)
    assert not set(found.splits.part) <= set(study.splits.part)
