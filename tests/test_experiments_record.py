"""The record of a study, and runs whose region is no longer what it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from datamodules.cohort.target import Target
from datamodules.files.sealed import sealed, unsealed
from datamodules.files.tables import CohortError
from experiments.__main__ import main
from experiments.study import record as record_module
from experiments.study.record import Mask, ShownRegion, StudyRecord, decision_of, joined, read_record, with_region, write_record
from experiments.study.study import StudyOptions, open_study
from lightning_modules.decision import DECISIONS
from regions.catalog import REGIONS, Region

TINY = ["--preset", "demo", "--trainer.max_epochs", "1", "--network.init_args.width", "2", "--network.init_args.stages", "2"]
PIECE = ShownRegion("piece", (10, 49), Mask())


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    return StudyRecord(
        cohort=tmp_path / "cohort",
        store=tmp_path / "store",
        label=Target(threshold=4.0, max_days=90),
        broken="refuse",
        folds=7,
        split_seed=0,
        split_hash="split",
        cohort_hash="cohort",
        mask=Mask.of("template-dilated", 2.0),
        regions={name: region.labels for name, region in REGIONS.items()},
        regions_file=tmp_path / "own.yaml",
    )


def test_a_record_reads_back_equal(record: StudyRecord, tmp_path: Path) -> None:
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert read_record(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_record_keeps_the_rule_of_the_thresholds(record: StudyRecord, tmp_path: Path, decision: Any) -> None:
    write_record(tmp_path, replace(record, label=replace(record.label, decision=decision)))
    assert decision_of(tmp_path) == decision


def test_a_record_that_names_no_rule_is_of_a_study_with_the_first_one(record: StudyRecord, tmp_path: Path) -> None:
    write_record(tmp_path, record)
    path = tmp_path / "study.yaml"
    content = unsealed(path, yaml.safe_load(path.read_text(encoding="utf-8")), "")
    del content["label"]["decision"]
    path.write_text(yaml.safe_dump(sealed(content)), encoding="utf-8")
    assert decision_of(tmp_path) == decision_of(tmp_path / "elsewhere") == "balanced_accuracy"
    with pytest.raises(CohortError, match=r"--label\.decision 'balanced_accuracy', not 'midpoint'"):
        joined(read_record(tmp_path), record, {"global"}, "mine")


@pytest.mark.parametrize("text", ["", "cohort: [", "cohort: x", "- 1", "label: {threshold: many}"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(CohortError, match=r"study\.yaml is damaged .* another STUDY"):
        read_record(tmp_path)


def test_before_the_first_run_a_record_follows_the_command(record: StudyRecord) -> None:
    other = replace(record, mask=Mask.of("subject", 0.0), label=Target())
    assert joined(record, other, set(), "mine") == other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": Target(threshold=3.0, max_days=90)}, "--label.threshold 4.0, not 3.0"),
        (
            {"label": Target(threshold=4.0, max_days=90, decision="prior")},
            "--label.decision 'midpoint', not 'prior'; use another STUDY",
        ),
        ({"mask": Mask.of("subject", 0.0)}, "--data.mask_mode 'template-dilated', not 'subject'"),
        ({"mask": Mask.of("template-dilated", 3.0)}, "--data.dilate_mm 2.0, not 3.0"),
    ],
)
def test_after_it_label_rule_and_mask_mode_stay(record: StudyRecord, change: dict[str, object], message: str) -> None:
    with pytest.raises(CohortError, match=message):
        joined(record, replace(record, **change), {"global"}, "mine")


def test_a_region_is_added_to_a_begun_study_and_none_is_changed(record: StudyRecord) -> None:
    wanted = replace(record, regions={**record.regions, "brainstem": (1,), "piece": (10, 49)})
    assert joined(record, wanted, {"brainstem"}, "mine").regions == {**record.regions, "piece": (10, 49)}
    assert with_region(record, replace(PIECE, mask=record.mask)).regions["piece"] == (10, 49)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (PIECE, ""),
        (replace(PIECE, labels=(4, 43)), "region 'piece' (labels 10, 49, now 4, 43)"),
        (replace(PIECE, mask=replace(PIECE.mask, label_map="other")), "region 'piece' (the template's label map changed)"),
        (replace(PIECE, mask=replace(PIECE.mask, version=99)), "region 'piece' (the mask code changed)"),
        (replace(PIECE, mask=replace(PIECE.mask, dilate_mm=1.0)), "region 'piece' (dilate_mm changed)"),
        (replace(PIECE, mask=replace(PIECE.mask, mode="subject")), "region 'piece' (the mask mode changed)"),
    ],
)
def test_a_change_is_told_in_words(now: ShownRegion, words: str) -> None:
    assert now.changed_since(json.loads(json.dumps(PIECE.plain()))) == words


def test_a_run_that_recorded_no_region_is_stale() -> None:
    assert PIECE.changed_since(None) == "region 'piece', which it did not record"


def test_the_label_map_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    assert len(Mask().label_map) == 64
    assert read_record(tmp_path) is None


def test_opening_a_study_writes_its_record(study_options: StudyOptions, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    study = open_study(replace(study_options, folder=folder))
    assert read_record(folder) == study.record
    assert study.record.split_hash == study.splits.hash
    content = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    assert content["regions"]["brainstem"] == list(REGIONS["brainstem"].labels)


@pytest.fixture(scope="module")
def trained(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A study in which every run of `piece` and of the whole brain is complete, and the options that lead to it."""
    place = tmp_path_factory.mktemp("record")
    (place / "own.yaml").write_text("piece: {labels: [10, 49]}\n", encoding="utf-8")
    options = [*TINY, "--cohort", str(phantom_cohort), "--store", str(store_folder), "--study", "tiny", "--folds", "3"]
    options += ["--studies", str(place), "--regions", str(place / "own.yaml"), "--tracking.mode", "disabled"]
    for name in ("global", "piece"):
        for fold in ("0", "1", "2"):
            assert main(["fold", "--roi", name, "--fold", fold, "--quiet", *options]) == 0
    return place, options


@pytest.fixture
def again(trained: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of the trained study, with an own.yaml of its own."""
    place, options = trained
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    return tmp_path, [word.replace(str(place), str(tmp_path)) for word in options]


def own_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (place / "own.yaml").write_text("piece: {labels: [4, 43]}\n", encoding="utf-8")
    return "region 'piece' (labels 10, 49, now 4, 43)"


def built_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    whole = Region("global", (2, 3), "less than all", "a test")
    monkeypatch.setattr(record_module, "REGIONS", MappingProxyType({**REGIONS, "global": whole}))
    return "region 'global' (labels all, now 2, 3)"


def label_map(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(record_module, "template_sha256", lambda: "0" * 64)
    return "(the template's label map changed)"


def mask_code(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Mask, "of", classmethod(lambda cls, mode, dilate_mm: Mask(mode, 0.0, version=99)))
    return "(the mask code changed)"


@pytest.mark.slow
@pytest.mark.parametrize("change", [own_file, built_in, label_map, mask_code])
def test_a_run_of_a_changed_region_is_stale_named_and_never_mixed(
    again: tuple[Path, list[str]],
    change: Callable[[Path, pytest.MonkeyPatch], str],
    phantom_cohort: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, options = again
    words = change(place, monkeypatch)
    name = "global" if change is built_in else "piece"
    study = ["--study", "tiny", "--studies", str(place)]
    capsys.readouterr()
    assert main(["fold", "--roi", name, "--fold", "1", "--quiet", *options]) == 2
    told = capsys.readouterr().err
    assert "stale" in told
    assert words in told
    assert main(["compare", "--inputs", f"global,{name}", "--folds", "3", *study]) == 2
    assert words in capsys.readouterr().err
    external = ["--cohort", str(phantom_cohort), "--inputs", name, "--accelerator", "cpu"]
    assert main(["external", *external, *study]) == 2
    assert words in capsys.readouterr().err
    assert not list(place.glob("tiny/external/*/frozen.json"))


@pytest.mark.slow
def test_a_restarted_run_shows_the_region_of_today_and_the_others_stay_stale(
    again: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, options = again
    own_file(place, monkeypatch)
    assert main(["fold", "--roi", "piece", "--fold", "1", "--quiet", "--restart", *options]) == 0
    facts = json.loads((place / "tiny/piece/fold-1/seed-0/run.json").read_text(encoding="utf-8"))
    assert facts["fingerprint"]["region"]["labels"] == [4, 43]
    record = read_record(place / "tiny")
    assert record is not None
    assert record.regions["piece"] == (4, 43)
    capsys.readouterr()
    assert main(["compare", "--inputs", "global,piece", "--folds", "3", "--study", "tiny", "--studies", str(place)]) == 2
    assert "piece/fold-0/seed-0 was made with another region 'piece'" in capsys.readouterr().err
