"""The commands on a tiny phantom cohort, from the outside: exit status, what is printed, which files are left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from experiments.__main__ import main
from experiments.study.run_folder import RunFolder, read_predictions
from experiments.study.runs import grid
from regions.catalog import REGIONS

TINY = ["--preset", "demo", "--trainer.max_epochs", "2", "--network.init_args.width", "2", "--network.init_args.stages", "3"]
CONTRACT = {
    "config.yaml",
    "run.json",
    "checkpoints",
    "predictions.tsv",
    "metrics.json",
    "history.tsv",
    "progress.json",
    "wandb",
    ".lock",
}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "experiments", *words]


@pytest.fixture(scope="session")
def options(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    studies = tmp_path_factory.mktemp("studies")
    places = ["--cohort", str(phantom_cohort), "--store", str(store_folder), "--studies", str(studies), "--study", "tiny"]
    return [*TINY, *places]


@pytest.fixture(scope="session")
def swept(options: list[str]) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A study of all 42 runs that a real sweep with two workers made."""
    done = subprocess.run(command("sweep", "--jobs", "2", *options), capture_output=True, text=True, timeout=600, check=False)
    return study_of(options), done


@pytest.fixture
def copied(swept: tuple[Path, object], options: list[str], tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of the swept study to break, and the options that lead to it."""
    shutil.copytree(swept[0], tmp_path / "tiny")
    return tmp_path / "tiny", [*options, "--studies", str(tmp_path)]


def only_study(options: list[str]) -> list[str]:
    """The options that compare and report take."""
    return ["--study", "tiny", "--studies", options[len(options) - 1 - options[::-1].index("--studies") + 1]]


def study_of(options: list[str]) -> Path:
    return Path(options[options.index("--studies") + 1]) / "tiny"


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        status = main(list(words))
        out = capfd.readouterr()
        return status, out.out, out.err

    return run


@pytest.mark.slow
class TestSweep:
    def test_it_trains_every_run_of_the_grid(self, swept) -> None:
        study, done = swept
        assert done.returncode == 0, done.stdout + done.stderr
        states = {run.name: RunFolder(run.folder(study)).facts()["state"] for run in grid(list(REGIONS), [0])}
        assert set(states.values()) == {"complete"}
        assert "all 42 runs of" in done.stdout

    def test_it_says_what_it_does_line_by_line_in_a_log(self, swept) -> None:
        lines = swept[1].stdout.splitlines()
        assert any(line.startswith("42 runs of study tiny: 0 complete, 42 to do, 2 workers") for line in lines)
        assert any(line.startswith("epochs of each run: tail -f ") and "worker-*.log" in line for line in lines)
        assert sum((line.startswith("[") and "left" in line) or "done" in line for line in lines) >= 42

    def test_a_run_folder_holds_the_contract(self, swept) -> None:
        folder = swept[0] / "gray_matter" / "fold-3" / "seed-0"
        assert {path.name for path in folder.iterdir()} == CONTRACT
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {
            *("best.ckpt", "best.ckpt.sha256", "last.ckpt", "last.ckpt.sha256")
        }

    def test_run_json_tells_how_the_result_was_made(self, swept) -> None:
        facts = RunFolder(swept[0] / "brainstem" / "fold-1" / "seed-0").facts()
        assert set(facts["fingerprint"]) == {"config", "split", "cohort", "data", "region"}
        assert facts["fingerprint"]["region"]["labels"] == list(REGIONS["brainstem"].labels)
        assert facts["versions"]["torch"].startswith("2.13")
        assert facts["epochs"] == 2
        assert facts["peak_memory_mb"] > 0
        assert len(facts["store_keys"]) == 2 * 25
        assert 0 <= facts["threshold"] <= 1

    def test_every_patient_is_tested_exactly_once_by_every_input(self, swept, study) -> None:
        for name in REGIONS:
            tables = [read_predictions(swept[0] / name / f"fold-{fold}" / "seed-0" / "predictions.tsv") for fold in range(7)]
            tested = [
                f"{p}/{s}"
                for table in tables
                for p, s in zip(table.of("internal_test").patient, table.of("internal_test").session, strict=True)
            ]
            assert sorted(tested) == sorted(scan.name for scan in study.cohort.scans)
            folds = [set(table.of("internal_test").patient) for table in tables]
            assert sum(map(len, folds)) == len(set.union(*folds)) == 21

    def test_tuning_and_test_patients_are_those_of_the_split(self, swept, study) -> None:
        rows = read_predictions(swept[0] / "global" / "fold-2" / "seed-0" / "predictions.tsv")
        assert {study.splits.part[patient] for patient in rows.of("internal_test").patient} == {2}
        assert {study.splits.part[patient] for patient in rows.of("tuning").patient} == {3}

    def test_metrics_agree_with_the_predictions(self, swept) -> None:
        folder = swept[0] / "white_matter" / "fold-5" / "seed-0"
        metrics = json.loads((folder / "metrics.json").read_text())
        rows = read_predictions(folder / "predictions.tsv").of("internal_test")
        decision = rows.p >= metrics["threshold"]
        assert metrics["internal_test"]["at_threshold"]["sensitivity"] == pytest.approx(decision[rows.y == 1].mean(), abs=1e-12)
        assert metrics["internal_test"]["at_0.5"]["specificity"] == pytest.approx((rows.p < 0.5)[rows.y == 0].mean(), abs=1e-12)

    def test_again_it_does_nothing(self, swept, options) -> None:
        before = {path: path.stat().st_mtime_ns for path in swept[0].rglob("run.json")}
        done = subprocess.run(
            command("sweep", "--jobs", "2", *options), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0
        assert done.stdout.strip() == f"all 42 runs of {swept[0]} are complete"
        assert {path: path.stat().st_mtime_ns for path in swept[0].rglob("run.json")} == before

    def test_stale_runs_are_named_and_never_mixed(self, copied, call) -> None:
        _, options = copied
        status, _, err = call("sweep", *options, "--model.learning_rate", "0.5")
        assert (status, err.count("\n")) == (2, 1)
        assert "42 runs of tiny are stale, made with another config (first: global/fold-0/seed-0)" in err

    def test_nothing_that_names_a_patient_or_a_path_is_in_the_wandb_folder(self, swept, study) -> None:
        blob = b"".join(path.read_bytes() for path in swept[0].rglob("wandb/**/*") if path.is_file())
        assert len(blob) > 10_000
        for secret in (*study.cohort.patients, str(study.cohort.source)):
            assert secret.encode() not in blob


@pytest.mark.slow
class TestFold:
    def test_a_complete_run_is_not_trained_again(self, swept, options, call) -> None:
        status, out, _ = call("fold", "--roi", "ventricles", "--fold", "0", *options)
        assert status == 0
        assert out.startswith("ventricles/fold-0/seed-0: already complete, see ")

    def test_other_settings_are_refused(self, swept, options, call) -> None:
        status, _, err = call("fold", "--roi", "ventricles", "--fold", "0", *options, "--trainer.max_epochs", "3")
        assert (status, err.count("\n")) == (2, 1)
        assert "was made with another config; add --restart" in err

    def test_restart_sets_the_old_run_aside_and_repeats_it_bit_for_bit(self, copied, call) -> None:
        study, options = copied
        folder = study / "ventricles" / "fold-0" / "seed-0"
        before = (folder / "predictions.tsv").read_bytes()
        assert call("fold", "--roi", "ventricles", "--fold", "0", "--restart", *options)[0] == 0
        assert (folder / "predictions.tsv").read_bytes() == before
        assert [path.name.split("-")[0] for path in folder.parent.iterdir() if "aside" in path.name] == ["seed"]

    def test_its_config_runs_it_again_bit_for_bit(self, swept, tmp_path) -> None:
        folder = swept[0] / "brainstem" / "fold-4" / "seed-0"
        words = command("fold", "--config", str(folder / "config.yaml"), "--studies", str(tmp_path))
        environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as the sweep's two workers on two cores
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "tiny/brainstem/fold-4/seed-0/predictions.tsv").read_bytes() == (
            folder / "predictions.tsv"
        ).read_bytes()

    def test_the_seed_matters_and_zero_is_one(self, copied, call) -> None:
        study, options = copied
        assert call("fold", "--roi", "brainstem", "--fold", "4", "--seed", "1", *options)[0] == 0
        first, second = (read_predictions(study / f"brainstem/fold-4/seed-{seed}/predictions.tsv").p for seed in (0, 1))
        assert not np.array_equal(first, second)

    def test_a_run_in_other_hands_is_left_alone(self, copied, call) -> None:
        study, options = copied
        with RunFolder(study / "ventricles" / "fold-0" / "seed-0").lock():
            status, out, _ = call("fold", "--roi", "ventricles", "--fold", "0", *options)
        assert (status, out) == (69, "ventricles/fold-0/seed-0: another process is training this run\n")

    def test_without_a_key_a_terminal_and_a_network_it_trains(self, options, tmp_path) -> None:
        home = tmp_path / "home"
        home.mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {
            "HOME": str(home),
            "WANDB_BASE_URL": "http://127.0.0.1:9",
        }
        words = command("fold", "--roi", "brainstem", "--fold", "0", *options, "--studies", str(tmp_path))
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        assert list((tmp_path / "tiny").rglob("offline-run-*"))


@pytest.mark.slow
class TestCompare:
    def test_it_prints_and_writes_all_six_inputs(self, copied, call) -> None:
        study, options = copied
        status, out, _ = call("compare", *only_study(options), "--draws", "500")
        assert status == 0
        assert all(name in out for name in REGIONS)
        assert "21 patients, 25 scans (" in out
        lines = (study / "comparison.tsv").read_text().splitlines()
        assert [line.split("\t")[0] for line in lines][: len(REGIONS) + 1] == ["input", *REGIONS]

    def test_its_numbers_come_from_the_predictions(self, copied, call) -> None:
        study, options = copied
        call("compare", *only_study(options), "--draws", "500")
        content = json.loads((study / "comparison.json").read_text())
        row = next(row for row in content["inputs"] if row["input"] == "ventricles")
        hits = positives = 0
        for name in content["runs"]["ventricles"]:
            rows = read_predictions(study / name / "predictions.tsv").of("internal_test")
            threshold = RunFolder(study / name).facts()["threshold"]
            hits += int(((rows.p >= threshold) & (rows.y == 1)).sum())
            positives += int(rows.y.sum())
        assert row["sensitivity"] == pytest.approx(hits / positives)
        assert row["sensitivity_low"] <= row["sensitivity"] <= row["sensitivity_high"]

    def test_it_repeats_itself_exactly(self, copied, call) -> None:
        study, options = copied
        call("compare", *only_study(options), "--draws", "300")
        first = (study / "comparison.json").read_bytes()
        call("compare", *only_study(options), "--draws", "300")
        assert (study / "comparison.json").read_bytes() == first

    def test_an_incomplete_grid_is_refused_unless_told_and_then_the_table_says_so(self, copied, call) -> None:
        study, options = copied
        (study / "global" / "fold-6" / "seed-0" / "run.json").unlink()
        status, _, err = call("compare", *only_study(options))
        assert (status, err.count("\n")) == (2, 1)
        assert "1 of 42 runs of tiny are not complete (global/fold-6/seed-0)" in err
        status, out, _ = call("compare", *only_study(options), "--partial", "--draws", "300")
        assert status == 0
        assert "PARTIAL: 6 runs missing" in out

    def test_runs_of_two_splits_are_refused(self, copied, call) -> None:
        study, options = copied
        folder = RunFolder(study / "global" / "fold-6" / "seed-0")
        facts = folder.facts()
        facts["fingerprint"]["split"] = "0" * 64
        folder.write_facts(facts)
        status, _, err = call("compare", *only_study(options))
        assert (status, err.count("\n")) == (2, 1)
        assert "global/fold-6/seed-0 was made with another split" in err

    def test_report_prints_the_same_table_from_the_file(self, copied, call) -> None:
        study, options = copied
        _, table, _ = call("compare", *only_study(options), "--draws", "300")
        status, again, _ = call("report", *only_study(options))
        assert (status, again[: len(table)]) == (0, table)
        assert again[len(table) :].startswith(f"report: {study / 'report.html'}, with ")
        assert (study / "report.html").is_file()

    def test_a_study_that_does_not_exist_says_how_to_start_one(self, tmp_path, call) -> None:
        status, _, err = call("compare", "--study", "none", "--studies", str(tmp_path))
        assert (status, err) == (
            2,
            f"regionwise: there is no study {tmp_path / 'none'}; start one with: make sweep STUDY=none\n",
        )


@pytest.mark.slow
def test_kill_nine_in_the_middle_of_a_sweep_loses_at_most_the_epoch_under_way(options, swept, tmp_path) -> None:
    words = [
        *options,
        "--studies",
        str(tmp_path),
        "--inputs",
        "global",
        "--trainer.max_epochs",
        "400",
        "--early_stopping.patience",
        "400",
    ]
    sweep = subprocess.Popen(command("sweep", "--jobs", "1", *words), stdout=subprocess.DEVNULL, start_new_session=True)
    folder = tmp_path / "tiny" / "global" / "fold-0" / "seed-0"
    wait_for(lambda: (folder / "checkpoints" / "last.ckpt").is_file() and epochs_of(folder) >= 3)
    workers = Path(f"/proc/{sweep.pid}/task/{sweep.pid}/children").read_text().split()
    for process in (sweep.pid, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    sweep.wait()
    done = epochs_of(folder)
    assert RunFolder(folder).facts()["state"] == "running"
    fold = subprocess.Popen(
        command("fold", "--roi", "global", "--fold", "0", *drop(words, "--inputs")), stdout=subprocess.PIPE, text=True
    )
    assert fold.stdout is not None
    first = next(line for line in fold.stdout if "epoch " in line)
    fold.send_signal(signal.SIGTERM)
    fold.communicate()
    assert fold.returncode == 75
    assert int(first.split("epoch ")[1].split("/")[0]) in (done, done + 1, done + 2)
    assert RunFolder(folder).facts()["state"] == "interrupted"


def wait_for(condition: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def epochs_of(folder: Path) -> int:
    path = folder / "progress.json"
    return int(json.loads(path.read_text())["epoch"]) if path.is_file() else 0


def drop(words: list[str], name: str) -> list[str]:
    at = words.index(name)
    return words[:at] + words[at + 2 :]


class TestMistakes:
    """Anything a user can get wrong is one readable line and status 2."""

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["fold", "--fold", "7", "--roi", "gray_matter"], "FOLD=7 does not exist; folds are 0 to 6"),
            (["fold", "--fold", "3", "--roi", "grey_matter"], "gray_matter"),
            (["fold", "--fold", "3", "--roi", ""], "ROI is missing; it is one of global"),
            (["fold", "--fold", "", "--roi", "global"], "FOLD is missing"),
            (["train"], "'train' is not a command"),
            (["fold", "--fold", "3", "--roi", "global", "--preset", "big"], "PRESET=big does not exist; presets are coll_like"),
            (["fold", "--fold", "3", "--roi", "global", "--study", "a/b"], "cannot be a folder's name"),
            (["fold", "--fold", "3", "--roi", "global", "--cohort", "nowhere"], "cohort nowhere does not exist"),
            (["fold", "--fold", "3", "--roi", "global", "--trainer.max_epok", "5"], "max_epok"),
            (["fold", "--fold", "3", "--roi", "global", "--trainer.max_epochs", "many"], "max_epochs"),
            (["fold", "--fold", "3", "--roi", "global", "--label.threshold", "11"], "EDSS threshold lies in"),
            (["fold", "--fold", "3", "--roi", "global", "--data.mask_mode", "atlas"], "mask_mode"),
            (["fold", "--fold", "3", "--roi", "global", "--data.augmentation.flip", "-1"], "augmentation.flip is -1"),
            (["fold", "--fold", "3", "--roi", "global", "--network", "no.such.Network"], "no.such.Network"),
            (["sweep", "--inputs", "gobal"], "global"),
            (["sweep", "--seeds", "a"], "'a' is not a whole number"),
            (["phantoms", "--phantom", "litrature", "--out", "x"], "literature"),
            (["phantoms"], "--out is missing"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_one_line_and_status_two(self, words, told, call, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        status, out, err = call(*words)
        assert status == 2
        assert told in err
        assert err.startswith("regionwise: ")
        assert err.count("\n") == 1, err
        assert "Traceback" not in out + err

    def test_help_lists_every_command(self, call) -> None:
        from experiments.__main__ import WORDS

        status, out, _ = call("--help")
        assert status == 0
        assert all(word in out for word in WORDS)

    def test_help_of_fold_lists_the_trainer_s_options(self, call) -> None:
        status, out, _ = call("fold", "--help")
        assert status == 0
        assert "--trainer.max_epochs" in out
        assert "--data.augmentation.noise" in out

    @pytest.mark.parametrize("preset", ["demo", "default", "coll_like"])
    def test_presets_hold_known_settings_only(self, preset) -> None:
        from experiments.study.parser import PRESETS
        from experiments.study.settings import parse_settings

        settings = parse_settings(["--preset", preset])
        wanted = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
        assert settings.plain()["trainer"]["max_epochs"] == wanted["trainer"]["max_epochs"]

    def test_paths_and_devices_do_not_change_the_settings_hash(self) -> None:
        from experiments.study.settings import parse_settings

        same = parse_settings(["--preset", "demo"]).hash()
        assert (
            parse_settings(
                ["--preset", "demo", "--store", "x", "--tracking.mode", "disabled", "--trainer.accelerator", "cpu"]
            ).hash()
            == same
        )
        assert parse_settings(["--preset", "demo", "--trainer.max_epochs", "3"]).hash() != same
