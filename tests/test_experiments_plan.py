from pathlib import Path

import pytest

from experiments.study.parser import preset_arguments
from experiments.study.record import known_regions
from experiments.study.runs import PlanError, Run, grid, named_like, parse_run, study_name
from regions.catalog import REGIONS, UnknownRegionError


def test_the_grid_holds_every_input_fold_and_seed_once() -> None:
    runs = grid(list(REGIONS), [0, 5])
    assert len(runs) == len(set(runs)) == 6 * 7 * 2
    assert [run.fold for run in runs[:6]] == [0] * 6


def test_a_run_names_its_folder(tmp_path) -> None:
    assert Run("gray_matter", 3, 0).folder(tmp_path) == tmp_path / "gray_matter" / "fold-3" / "seed-0"


def test_seed_zero_and_no_seed_are_the_same() -> None:
    assert parse_run("global", "0", None) == parse_run("global", "0", "0") == Run("global", 0, 0)


@pytest.mark.parametrize("fold", ["7", "-1", "3.0", "three"])
def test_a_fold_that_does_not_exist_is_named_with_what_is_allowed(fold) -> None:
    with pytest.raises(PlanError, match=rf"FOLD={fold} does not exist; folds are 0 to 6; for example"):
        parse_run("global", fold, None)


def test_a_missing_fold_is_asked_for() -> None:
    with pytest.raises(PlanError, match="FOLD is missing; it is a number from 0 to 6"):
        parse_run("global", "", None)


def test_a_missing_input_is_asked_for_with_all_names() -> None:
    with pytest.raises(PlanError, match=f"ROI is missing; it is one of {', '.join(REGIONS)}"):
        parse_run(None, "3", None)


def test_a_misspelt_input_gets_a_suggestion() -> None:
    with pytest.raises(UnknownRegionError, match=r"grey_matter.*gray_matter"):
        parse_run("grey_matter", "3", None)


def test_a_wrong_seed_is_named() -> None:
    with pytest.raises(PlanError, match="SEED=x is not a whole number"):
        parse_run("global", "3", "x")


def test_own_regions_can_be_named(tmp_path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("thalamus:\n  labels: [10, 49]\n  description: both thalami\n")
    assert parse_run("thalamus", "1", None, known_regions(own)) == Run("thalamus", 1, 0)


@pytest.mark.parametrize("name", ["a/b", "", "..", "x" * 65, "a b"])
def test_a_study_name_must_be_a_folder_name(name) -> None:
    with pytest.raises(PlanError, match=r"^STUDY='.*' cannot be a folder's name; use up to 64 letters"):
        study_name(name)


@pytest.mark.parametrize("option", ["STUDY", "--name"])
def test_a_cohort_whose_name_no_folder_can_have_asks_for_one(tmp_path: Path, option: str) -> None:
    assert named_like("", tmp_path / "MS-2024.tsv", option) == "MS-2024"
    assert named_like("mine", tmp_path / "MS, 2024", option) == "mine"
    with pytest.raises(
        PlanError, match=rf"^the cohort's name 'MS, 2024' cannot be a folder's name; give {option}, up to 64 le"
    ):
        named_like("", tmp_path / "MS, 2024", option)
    with pytest.raises(PlanError, match=rf"^{option}='a b' cannot be a folder's name; use up to 64 letters"):
        named_like("a b", tmp_path / "cohort", option)


@pytest.mark.parametrize(
    ("words", "preset"),
    [
        ([], "demo"),
        (["--cohort", "cohorts/demo"], "demo"),
        (["--cohort=cohorts/demo/"], "demo"),
        (["--cohort", str(Path("cohorts/demo").resolve())], "demo"),
        (["--cohort", "cohorts/demo2"], "default"),
        (["--cohort", "cohorts/demo", "--cohort=cohorts/mine"], "default"),
        (["--cohort", "cohorts/mine", "--preset", "coll_like"], "coll_like"),
    ],
)
def test_the_demo_s_cohort_has_its_preset_however_it_is_named(words: list[str], preset: str) -> None:
    assert Path(preset_arguments(words)[1]).stem == preset
