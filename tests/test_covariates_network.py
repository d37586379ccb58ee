"""Covariates that a network is given beside the image: fitted on the training part, frozen in run.json, refused by one line."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from datamodules.cohort.records import Cohort, Scan
from datamodules.cohort.target import Target
from datamodules.files.tables import read_rows
from experiments.__main__ import main
from experiments.commands import bundle, external, site
from experiments.reporting.method_chapters import methods
from experiments.reporting.sources import read_sources
from experiments.study.covariates import Covariate, fit_covariates, table_of
from experiments.study.opening import fingerprint_of
from experiments.study.run_folder import ResultsError, RunFolder, require_complete
from experiments.study.runs import Run
from experiments.study.settings import parse_settings
from experiments.study.study import open_study
from experiments.study.trainer_options import SettingsError
from experiments.training.run import fold
from lightning_modules.covariates import SLOTS, covariate_names
from lightning_modules.liveness import depends_on_scan
from lightning_modules.networks import ResidualCNN, smallest_side
from regions.grid import Box

AGES = ["40", "50", "", "70", "20", "61", "33", "", "44"]
SEXES = ["F", "M", "F", "", "F", "F", "M", "M", "F"]
SCANNERS = ["b", "a", "c", "a", "", "c", "c", "d", "c"]
PARTS = {"train": np.arange(6), "tuning": np.array([6]), "internal_test": np.array([7, 8])}


def scans(**columns: list[str]) -> list[Scan]:
    path = Path("x.nii.gz")
    rows = [{name: cells[row] for name, cells in columns.items()} for row in range(9)]
    return [
        Scan(f"p{row}", "", {"t1w": path}, float(row % 3), 0, row % 2, covariates={n: v for n, v in cells.items() if v})
        for row, cells in enumerate(rows)
    ]


def told(scans: list[Scan], target: Target = Target()) -> Cohort:
    return Cohort(Path("cohort"), target, tuple(scans))


def test_names_are_separated_by_commas() -> None:
    assert covariate_names(" age, sex,age,") == ["age", "sex"]
    assert covariate_names("") == []


def test_numbers_are_standardised_and_filled_as_scikit_learn_does() -> None:
    cohort = scans(age=AGES)
    (age,) = fit_covariates("age", told(cohort), PARTS, 0)
    seen = np.array([[float(cell or "nan")] for cell in AGES])
    wanted = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(seen[:6]).transform(seen)
    np.testing.assert_allclose(table_of([age], cohort), np.hstack([wanted, np.zeros((9, SLOTS - 1))]), rtol=1e-6)
    assert (age.fill, age.missing) == (50.0, {"train": 1, "tuning": 0, "internal_test": 1})
    assert age.message == "age is missing or new in 1 train, 1 internal test scans, which get the training part's 50"


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", "1e400", "-nan", "3e38"])
def test_a_number_that_is_not_finite_is_refused_and_missing_in_new_scans(cell: str) -> None:
    with pytest.raises(SettingsError, match=rf"covariates load: '{cell}' in a column of numbers; give finite ones"):
        fit_covariates("load", told(scans(load=[*AGES[:8], cell])), PARTS, 0)
    (load,) = fit_covariates("load", told(scans(load=AGES)), PARTS, 0)
    new = scans(load=[*AGES[:8], cell])
    assert np.isnan(load.values(new)[8])
    table = table_of([load], new)
    assert table is not None
    assert table[8, 0] == table[7, 0]
    assert np.isfinite(table).all()


def test_a_word_that_float_reads_stays_a_word_among_words() -> None:
    (load,) = fit_covariates("load", told(scans(load=["inf", "inf", "sup"] * 3)), PARTS, 0)
    assert load.levels == ("inf", "sup")


def test_two_values_are_one_number_and_more_are_one_each() -> None:
    cohort = scans(sex=SEXES, scanner=SCANNERS)
    sex, scanner = fit_covariates("sex,scanner", told(cohort), PARTS, 0)
    male = np.array([[float(cell == "M")] for cell in SEXES])
    np.testing.assert_allclose(sex.columns(cohort)[:, :1], StandardScaler().fit(male[:6]).transform(male))
    assert not sex.columns(cohort)[:, 1:].any()
    filled = np.array([[cell if cell in "abc" and cell else "a"] for cell in SCANNERS])
    wanted = make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler()).fit(filled[:6]).transform(filled)
    np.testing.assert_allclose(scanner.columns(cohort)[:, :3], wanted, atol=1e-12)
    assert scanner.levels == ("a", "b", "c")
    assert scanner.missing == {"train": 1, "tuning": 0, "internal_test": 1}  # d is new to the training part
    table = table_of([sex, scanner], cohort)
    assert table is not None
    assert (table.shape, table.dtype) == ((9, 2 * SLOTS), np.float32)
    assert table_of([], cohort) is None


def test_test_scans_do_not_move_what_was_fitted() -> None:
    first, second = scans(age=AGES), scans(age=[*AGES[:6], "99", "98", "97"])
    moved = fit_covariates("age", told(second), PARTS, 0)[0]
    assert replace(moved, missing={}) == replace(fit_covariates("age", told(first), PARTS, 0)[0], missing={})


def test_what_was_fitted_reads_back() -> None:
    for covariate in fit_covariates("age,sex,scanner", told(scans(age=AGES, sex=SEXES, scanner=SCANNERS)), PARTS, 0):
        assert Covariate.of({n: list(v) if isinstance(v, tuple) else v for n, v in covariate.plain().items()}) == covariate


@pytest.mark.parametrize(
    ("name", "cells", "words"),
    [
        ("height", AGES, "height: the cohort has no such column, or no value in it; its covariates are given"),
        ("given", [""] * 9, "given: the cohort has no such column, or no value in it; its covariates are none"),
        ("given", ["3"] * 9, "given: one value only in the training part of fold 2; leave it out"),
        ("given", ["a"] * 6 + ["b"] * 3, "given: one value only in the training part of fold 2; leave it out"),
        ("given", list("abcdefabc"), "given: a text of 6 values ('a', 'b' and 4 more); give a number, or 5 at most"),
        ("edss", AGES, "edss: that is the label itself; leave it out"),
        ("given", ["no", "yes"] * 4 + [""], "given: it says the label of every scan; leave it out"),
        ("given", ["a", "b", "c", "d"] * 2 + ["a"], "given: it says the label of every scan; leave it out"),
        ("given", ["0", "1", "2"] * 3, "given: it says the label of every scan; leave it out"),
    ],
)
def test_a_covariate_that_cannot_be_used_is_refused_in_one_line(name: str, cells: list[str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        fit_covariates(name, told(scans(given=cells)), PARTS, 2)
    assert str(caught.value) == f"--network.covariates {words}"


def test_the_default_network_draws_the_same_weights_and_has_the_same_hash(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = ResidualCNN(width=2, stages=2)
    torch.manual_seed(0)
    given = ResidualCNN(width=2, stages=2, covariates="age,sex")
    for name, value in plain.stages.state_dict().items():
        assert torch.equal(value, given.stages.state_dict()[name])
    assert plain.head[0].in_features == 4
    assert given.head[0].in_features == 4 + 2 * SLOTS
    assert smallest_side(given) == smallest_side(plain)
    words = ["--preset", "demo", "--cohort", str(tmp_path)]
    settings, with_age = parse_settings(words), parse_settings([*words, "--network.covariates", "age, sex"])
    assert "covariates" not in settings.result_settings()["network"]["init_args"]
    assert settings.hash() != with_age.hash()
    assert (settings.covariates(), with_age.covariates()) == ("", "age,sex")


def test_a_network_joins_covariates_after_pooling_in_all_its_forms() -> None:
    torch.manual_seed(0)
    network = ResidualCNN(width=2, stages=2, covariates="age,sex", pooling="max+mean", hidden=(3,)).eval()
    image, given = torch.randn(4, 2, 8, 8, 8), torch.randn(4, 2 * SLOTS)
    logits = network(image, given)
    torch.testing.assert_close(network.as_plain()(image, given), logits)
    torch.testing.assert_close(network(image), network(image, torch.zeros(4, 2 * SLOTS)))
    joined = torch.cat([network.features(image), given], dim=1)
    torch.testing.assert_close(network.head(joined), logits)
    assert not torch.equal(network(image, -given), logits)
    again = ResidualCNN(width=2, stages=2, covariates="age,sex", pooling="max+mean", hidden=(3,), checkpointing=True)
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.eval()(image, given), logits)


def test_a_network_that_sees_covariates_and_no_image_is_dead() -> None:
    network = ResidualCNN(width=2, stages=2, covariates="age")
    images = [torch.randn(3, 2, 8, 8, 8)]
    assert depends_on_scan(network, images, starting=False)
    with torch.no_grad():
        network.head[0].weight[:, :4] = 0
    assert not torch.equal(network(images[0], torch.randn(3, SLOTS))[0], network(images[0], torch.randn(3, SLOTS))[0])
    assert not depends_on_scan(network, images, starting=False)


def words_for(cohort: Path, home: Path, covariates: str) -> list[str]:
    words = ["--cohort", str(cohort), "--study", "mine", "--studies", str(home / "studies"), "--preset", "demo", "--folds", "3"]
    words += ["--store", str(home / "store"), "--network.stages", "2", "--network.width", "2", "--trainer.max_epochs", "1"]
    return [*words, "--tracking.mode", "disabled", "--network.covariates", covariates]


@pytest.fixture(scope="module")
def home(phantom_cohort: Path, external_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """studies/mine (3 folds of global, one epoch) with age and sex, two ages missing; and external results."""
    folder = tmp_path_factory.mktemp("covariates")
    cohort = Path(shutil.copytree(phantom_cohort, folder / "internal"))
    rewrite(cohort, {1: "n/a", 2: "n/a"})
    settings = parse_settings(words_for(cohort, folder, "age,sex"))
    study = open_study(settings.study_options())
    with (folder / "said.txt").open("w") as said:
        for number in range(3):
            assert fold(settings, study, Run("global", number, 0), Console(file=said, width=200)) == 0
    rewrite(Path(shutil.copytree(external_cohort, folder / "cohort")), {1: "n/a"})
    assert external.main(external_words(folder, "cohort")) == 0
    return folder


def external_words(home: Path, cohort: str) -> list[str]:
    words = ["--study", "mine", "--studies", str(home / "studies"), "--store", str(home / "store"), "--draws", "200"]
    return [*words, "--inputs", "global", "--cohort", str(home / cohort)]


def rewrite(cohort: Path, ages: dict[int, str]) -> None:
    """Other ages in some lines of participants.tsv; line 0 names the columns."""
    path = cohort / "participants.tsv"
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    column = lines[0].index("age")
    for number, age in ages.items():
        lines[number][column] = age
    path.write_text("".join("\t".join(line) + "\n" for line in lines))


def test_a_run_says_what_it_filled_and_keeps_what_it_fitted(home: Path) -> None:
    recorded = [
        RunFolder(home / "studies" / "mine" / "global" / f"fold-{k}" / "seed-0").facts()["covariates"] for k in range(3)
    ]
    for age, sex in recorded:
        assert (age["name"], sex["name"], sex["levels"]) == ("age", "sex", ["F", "M"])
        assert sum(age["missing"].values()) >= 2
    assert len({age["means"][0] for age, _ in recorded}) == 3
    said = (home / "said.txt").read_text()
    assert "global/fold-0/seed-0: age is missing or new in" in said
    assert f"scans, which get the training part's {recorded[0][0]['fill']:g}" in said


def test_the_methods_name_them(home: Path) -> None:
    words = ["compare", "--study", "mine", "--studies", str(home / "studies"), "--inputs", "global", "--draws", "100"]
    assert main([*words, "--tracking.mode", "disabled"]) == 0
    text = "".join(str(block) for block in methods(read_sources(home / "studies" / "mine")).blocks)
    assert "The classifier was also given age and sex, standardised on the training part of each fold; missing values" in text
    assert "(age in " in text


def test_an_external_cohort_meets_the_frozen_scale(home: Path) -> None:
    study = home / "studies" / "mine"
    rows = read_rows(study / "external" / "cohort" / "predictions.tsv")
    settings = parse_settings(["--config", str(study / "global" / "fold-1" / "seed-0" / "config.yaml")])
    seen = open_study(replace(settings.study_options(), cohort=home / "cohort", folder=home / "seen"))
    folder = RunFolder(study / "global" / "fold-1" / "seed-0")
    covariates = [Covariate.of(recorded) for recorded in folder.facts()["covariates"]]
    table = table_of(covariates, seen.cohort.scans)
    assert table is not None
    assert table[:, 0].min() < 0 < table[:, 0].max()
    network = settings.instantiated().network
    weights = torch.load(folder.best, weights_only=True)["state_dict"]
    network.load_state_dict({n.removeprefix("network."): v for n, v in weights.items() if n.startswith("network.")})
    content = json.loads((study / "external" / "cohort" / "parts" / "global" / "fold-1.json").read_text())["p"]
    box = Box(**{name: tuple(corner) for name, corner in folder.facts()["box"].items()})
    images = torch.from_numpy(np.stack([seen.prepared.crop(row, box, "image") for row in range(3)])).float()
    with torch.no_grad():
        p, without = (
            torch.softmax(network.eval()(images, given).double(), dim=1)[:, 1].numpy()
            for given in (torch.from_numpy(table[:3]), None)
        )
    assert p == pytest.approx(content[:3], abs=1e-4)
    assert np.abs(without - p).max() > 0.01
    assert len(rows) == len(seen.cohort.scans)


def test_an_external_cohort_without_the_column_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(shutil.copytree(home / "cohort", home / "ageless"))
    rewrite(other, dict.fromkeys(range(1, 11), "n/a"))
    assert main(["external", *external_words(home, "ageless")]) == 2
    assert "no external scan has a known age, which the networks are given; add the column" in capsys.readouterr().err


def test_a_site_is_told_what_was_filled(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--study", "mine", "--studies", str(home / "studies"), "--input", "global", "--out", str(tmp_path / "bundle")]
    assert bundle.main(words) == 0
    words = ["--bundle", str(tmp_path / "bundle"), "--cohort", str(home / "cohort"), "--out", str(tmp_path / "oslo")]
    assert site.main([*words, "--store", str(home / "store"), "--draws", "100", "--accelerator", "cpu"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"global: age is missing or new in \d+ of the site's scans, which get the training part's \d", said)


def test_runs_of_other_covariates_are_stale_and_never_compared(home: Path, tmp_path: Path) -> None:
    cohort = Path(shutil.copytree(home / "internal", tmp_path / "internal"))
    studies, store = Path(shutil.copytree(home / "studies", tmp_path / "studies")), ["--store", str(tmp_path / "store")]
    settings = parse_settings([*words_for(cohort, tmp_path, "age,sex"), *store])
    folder = RunFolder(studies / "mine" / "global" / "fold-0" / "seed-0")
    before = fingerprint_of(settings, open_study(settings.study_options()))
    assert folder.state(before) == "complete"
    rewrite(cohort, {3: "77"})
    now = fingerprint_of(settings, open_study(settings.study_options()))
    assert (folder.state(now), now.differences(folder.facts())) == ("stale", ["table of covariates"])
    facts = folder.facts()
    folder.write_facts(facts | {"fingerprint": facts["fingerprint"] | now.hashes()})
    with pytest.raises(ResultsError, match=r"was made with another table of covariates than global/fold-0/seed-0"):
        require_complete(studies / "mine", [Run("global", number, 0) for number in range(3)])


def test_a_sweep_refuses_before_anything_is_trained(
    home: Path, phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words_for(phantom_cohort, home, "age,height"), "--studies", str(tmp_path / "studies")]
    assert main(["sweep", *words, "--inputs", "global"]) == 2
    assert "--network.covariates height: the cohort has no such column" in capsys.readouterr().err
    assert list((tmp_path / "studies").rglob("run.json")) == []
