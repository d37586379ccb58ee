"""Tracking without a server: options, names, what is written, what is refused."""

import json
import logging
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from experiments.tracking import wandb_runs as tracking
from experiments.tracking.offline_runs import offline_run_folders
from experiments.tracking.options import RunIdentity, TrackingError, TrackingOptions
from experiments.tracking.privacy import PrivacyError, pseudonym
from experiments.tracking.sync import read_records, read_run
from experiments.tracking.values import as_html, roc_points

pytest_plugins = ["tracking_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")

KEY = bytes(range(32))
OFFLINE = TrackingOptions(mode="offline", project="test")


def records(folder: Path, kind: str) -> list[dict]:
    """All records of one kind in the only offline run below a folder."""
    (run,) = offline_run_folders(folder)
    return [entry[kind] for entry in read_records(run) if entry["type"] == kind]


def summary(folder: Path) -> dict:
    """The last value of everything that was summarised."""
    return {key: value for record in records(folder, "summary") for key, value in record["update"].items()}


def test_opening_a_run_does_not_import_the_job_launcher(tmp_path):
    code = f"""
import sys
from pathlib import Path
from experiments.tracking.options import RunIdentity, TrackingOptions
from experiments.tracking.wandb_runs import close_run, open_run
run = open_run(TrackingOptions(mode="offline"), RunIdentity("s", "global", 0, 0), Path({str(tmp_path)!r}), {{}})
close_run(run, completed=True)
assert "wandb.sdk.launch" not in sys.modules
from wandb.sdk.wandb_run import Run
assert Run._detect_and_apply_job_inputs.__name__ == "_detect_and_apply_job_inputs"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path)["completed"] is True


def test_options_default_to_offline_and_strict():
    options = TrackingOptions()
    assert (options.mode, options.project, options.entity, options.privacy) == ("offline", "regionwise", None, "strict")


AGENT = {"WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": "run", "WANDB_SWEEP_PARAM_PATH": "{}/config-run.yaml"}
"""What an agent of a sweep says."""


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({"WANDB_MODE": "online"}, "online"),
        ({"WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        (AGENT, "online"),
        (AGENT | {"WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_SWEEP_ID": "abc"}, "offline"),
        (AGENT | {"WANDB_RUN_ID": "other"}, "offline"),
        (AGENT | {"WANDB_SWEEP_PARAM_PATH": "config-run.yaml"}, "offline"),
        ({"WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_DISABLED": "1", "WANDB_MODE": "online"}, "disabled"),
        ({"WANDB_DISABLED": "false"}, "offline"),
        ({"WANDB_DISABLED": ""}, "offline"),
        ({"WANDB_API_KEY": "0" * 40}, "offline"),
    ],
)
def test_environment_sets_the_default_mode(monkeypatch, tmp_path, variables, mode):
    (tmp_path / "config-run.yaml").touch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert TrackingOptions().mode == mode


def test_explicit_options_beat_the_environment(monkeypatch):
    for name, value in {"WANDB_MODE": "online", "WANDB_PROJECT": "theirs", "WANDB_ENTITY": "them"}.items():
        monkeypatch.setenv(name, value)
    assert TrackingOptions().project == "theirs"
    assert TrackingOptions(mode="offline", project="mine", entity="me") == TrackingOptions("offline", "mine", "me")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"mode": "onlin"}, "onlin"), ({"privacy": "loose"}, "strict, relaxed"), ({"project": "a/b"}, "a/b")],
)
def test_options_refuse_unknown_values(values, message):
    with pytest.raises(TrackingError, match=message):
        TrackingOptions(**values)


def test_run_id_and_name():
    identity = RunIdentity("demo", "gray_matter", 3, 0)
    assert (identity.run_id, identity.name) == ("demo-gray_matter-f3-s0", "gray_matter/fold-3")
    assert RunIdentity("demo", "gray_matter", 3, 7).name == "gray_matter/fold-3/seed-7"


@pytest.mark.parametrize("study", ["x" * 200, "Étude / 2024: A#1", "a b", ""])
def test_run_ids_of_odd_studies_are_valid_and_different(study):
    ids = {RunIdentity(study + tail, name, fold, 12345).run_id
           for tail in ("", "y") for name in ("global", "subcortical_gray_matter") for fold in range(7)}  # fmt: skip
    assert len(ids) == 28
    assert all(len(one) <= 64 and one.replace("-", "").replace("_", "").isascii() for one in ids)
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for one in ids)


def test_import_and_disabled_mode_do_not_import_wandb(tmp_path):
    code = (
        "import sys; from pathlib import Path; from experiments.tracking.wandb_runs import *\n"
        "logger = open_run(TrackingOptions('disabled'), RunIdentity('s', 'global', 0, 0), Path(sys.argv[1]), {})\n"
        "close_run(logger, completed=True); print(logger, sorted({'wandb', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "None []"
    assert not any(tmp_path.iterdir())


def test_roc_points():
    assert roc_points([0, 0, 1, 1], np.array([0.1, 0.4, 0.35, 0.8])) == [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]]
    assert roc_points([0, 1, 1], np.array([0.5, 0.5, 0.5])) == [[0, 0], [1, 1]]


def test_figures_are_embedded_and_other_files_refused(tmp_path):
    (tmp_path / "a.svg").write_text("<svg/>")
    assert "data:image/svg+xml;base64,PHN2Zy8+" in as_html("<a>", tmp_path / "a.svg")
    assert "<a>" not in as_html("<a>", tmp_path / "a.svg")
    with pytest.raises(TrackingError, match=r"a\.tiff"):
        as_html("a", tmp_path / "a.tiff")


def test_unwritable_folder_is_an_error_and_not_a_run_in_tmp(tmp_path):
    (tmp_path / "wandb").write_text("a file where the folder should be")
    with pytest.raises(TrackingError, match="cannot write"):
        tracking.open_run(OFFLINE, RunIdentity("s", "global", 0, 0), tmp_path, {})


def test_offline_run_holds_identity_settings_and_result(tmp_path, capfd):
    identity = RunIdentity("study", "brainstem", 4, 2)
    logger = tracking.open_run(OFFLINE, identity, tmp_path, {"lr": 0.1, "cohort": "/a/b"})
    names = [pseudonym(f"sub-{number}", KEY) for number in range(4)]
    tracking.log_evaluation(
        logger, threshold=0.5,
        metrics={"test/auroc": 0.75, "test/brier": None, "best/f1": float("nan"), "best/epoch": 3},
        y=np.array([0, 0, 1, 1]), p=np.array([0.1, 0.6, 0.35, 0.8]), pseudonyms=names,
    )  # fmt: skip
    tracking.close_run(logger, completed=True)
    (run,) = records(tmp_path, "run")
    assert (run["run_id"], run["run_group"], run["job_type"]) == ("study-brainstem-f4-s2", "study", "fold")
    assert (run["tags"], run["display_name"]) == (["brainstem"], "brainstem/fold-4/seed-2")
    settings = {key: value for key, value in run["config"]["update"].items() if key != "_wandb"}
    about = {"study": "study", "input": "brainstem", "fold": 4, "seed": 2, "folds": 7, "kind": "fold"}
    assert settings == {"lr": 0.1, **about}
    result = summary(tmp_path)
    numbers = {key: result.get(key) for key in ("threshold", "test/auroc", "best/epoch", "completed")}
    assert numbers == {"threshold": 0.5, "test/auroc": 0.75, "best/epoch": 3, "completed": True}
    assert not {"test/brier", "best/f1"} & set(result)
    files = tmp_path.rglob("*.table.json")
    tables = {path.name.rsplit("_", 2)[0]: json.loads(path.read_text())["data"] for path in files}
    assert tables["predictions"] == [[names[0], 0, 0.1], [names[1], 0, 0.6], [names[2], 1, 0.35], [names[3], 1, 0.8]]
    assert sorted(tables["confusion_table"]) == [["negative", "negative", 1], ["negative", "positive", 1],
                                                 ["positive", "negative", 1], ["positive", "positive", 1]]  # fmt: skip
    assert tables["roc_table"] == [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]]
    assert capfd.readouterr() == ("", "")


def test_evaluation_of_one_class_has_no_roc(tmp_path):
    logger = tracking.open_run(OFFLINE, RunIdentity("s", "global", 0, 0), tmp_path, {})
    tracking.log_evaluation(
        logger, threshold=0.5, metrics={}, y=np.zeros(2), p=np.array([0.2, 0.7]), pseudonyms=["0123456789"] * 2
    )
    tracking.close_run(logger, completed=True)
    assert {path.name.split("_")[0] for path in tmp_path.rglob("*.table.json")} == {"predictions", "confusion"}


@pytest.mark.parametrize("name", ["sub-0001", "Jane Doe", "0123456789ABC", "0123456789\n"])
def test_predictions_table_refuses_patient_ids(name):
    with pytest.raises(PrivacyError, match="pseudonyms"):
        tracking.log_evaluation(None, threshold=0.5, metrics={}, y=np.ones(1), p=np.ones(1), pseudonyms=[name])


def test_predictions_table_refuses_unequal_lengths():
    with pytest.raises(TrackingError, match="2, 1, 1"):
        tracking.log_evaluation(None, threshold=0.5, metrics={}, y=np.ones(2), p=np.ones(1), pseudonyms=["0123456789"])


def test_runs_after_one_another_in_one_process_stay_apart(tmp_path, caplog, capfd):
    for fold in range(3):
        logger = tracking.open_run(OFFLINE, RunIdentity("s", "global", fold, 0), tmp_path / str(fold), {"own": fold})
        logger.log_metrics({"tuning/loss": float(fold), "epoch": 0}, step=0)
        if fold != 1:  # the second run died without being closed
            tracking.close_run(logger, completed=True)
    for fold in range(3):
        (run,) = records(tmp_path / str(fold), "run")
        rows = records(tmp_path / str(fold), "history")
        assert run["run_id"] == f"s-global-f{fold}-s0"
        assert run["config"]["update"]["own"] == fold
        assert [row["item"]["tuning/loss"] for row in rows] == [fold]
        assert summary(tmp_path / str(fold)).get("completed") == (True if fold != 1 else None)
    assert [record.message for record in caplog.records if record.name == "regionwise"] == [
        "W&B run s-global-f1-s0 was still open in this process; it is closed as not completed"
    ]
    assert "Changes to your" not in capfd.readouterr().err


def test_relaxed_privacy_says_so_and_sends_the_host_name(tmp_path, caplog):
    relaxed = TrackingOptions(mode="offline", project="test", privacy="relaxed")
    for name, options in (("strict", OFFLINE), ("relaxed", relaxed)):
        logger = tracking.open_run(options, RunIdentity("s", "global", 0, 0), tmp_path / name, {})
        tracking.close_run(logger, completed=True)
    assert records(tmp_path / "strict", "run")[0].get("host") is None
    assert records(tmp_path / "relaxed", "run")[0]["host"] == socket.gethostname()
    (warning,) = [record.message for record in caplog.records if record.name == "regionwise"]
    assert warning.startswith("privacy=relaxed: W&B records host name")


def test_unusable_home_does_not_stop_tracking(tmp_path, monkeypatch):
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/dev/null")
    logger = tracking.open_run(OFFLINE, RunIdentity("s", "global", 0, 0), tmp_path, {})
    tracking.log_evaluation(
        logger, threshold=0.5, metrics={}, y=np.array([0, 1]), p=np.array([0.2, 0.7]), pseudonyms=["0123456789"] * 2
    )
    tracking.close_run(logger, completed=True)
    assert len(list(tmp_path.rglob("*.table.json"))) == 3
    for name in ("WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR"):  # set once for the process, see tracking
        os.environ.pop(name)


def test_unfinished_run_is_not_completed(tmp_path):
    logger = tracking.open_run(OFFLINE, RunIdentity("s", "global", 0, 0), tmp_path, {})
    tracking.close_run(logger, completed=False)
    assert summary(tmp_path)["completed"] is False
    assert records(tmp_path, "exit") == [{"exit_code": 1}]


def test_comparison_run(tmp_path):
    (tmp_path / "forest.svg").write_text("<svg/>")
    rows = [{"input": "global", "auroc": 0.7, "p": None}, {"input": "ventricles", "auroc": float("nan"), "p": 0.04}]
    tracking.log_comparison(OFFLINE, "study", tmp_path, rows, {"forest": tmp_path / "forest.svg"})
    (run,) = records(tmp_path, "run")
    assert (run["run_id"], run["job_type"], run["run_group"]) == ("study-compare", "compare", "study")
    result = summary(tmp_path)
    numbers = {key: value for key, value in result.items() if key.startswith(("compare/global", "compare/ventricles"))}
    assert numbers == {"compare/global/auroc": 0.7, "compare/ventricles/p": 0.04}
    assert result["completed"] is True
    (table,) = tmp_path.rglob("*.table.json")
    assert json.loads(table.read_text())["data"] == [["global", 0.7, None], ["ventricles", None, 0.04]]
    assert len(list(tmp_path.rglob("files/media/html/figures/*.html"))) == 1


def test_the_explanation_run_holds_pictures_of_means_and_numbers(tmp_path):
    (tmp_path / "global.png").write_bytes(b"\x89PNG of a group map")
    rows = [{"input": "global", "state": "shown", "brainstem/ratio": 3.2, "ventricles/ratio": None}, {"input": "brainstem"}]
    tracking.log_explanation(OFFLINE, "study", tmp_path, rows, {"global": tmp_path / "global.png"})
    (run,) = records(tmp_path, "run")
    assert (run["run_id"], run["job_type"], run["run_group"]) == ("study-explain", "explain", "study")
    found = {key: value for record in records(tmp_path, "summary") for key, value in record.get("update", {}).items()}
    numbers = {key: value for key, value in found.items() if key.startswith("explain/") and isinstance(value, float)}
    assert numbers == {"explain/global/brainstem/ratio": 3.2}
    assert [path.name.partition("_")[0] for path in tmp_path.rglob("files/media/html/explain/*.html")] == ["global"]
    tracking.log_explanation(TrackingOptions(mode="disabled"), "study", tmp_path / "off", rows, {})
    assert not (tmp_path / "off").exists()


def test_input_runs_pool_the_folds(tmp_path):
    rows = [{"input": "global", "balanced_accuracy": 0.7, "auc": None, "verdict": "different"}]
    tracking.log_inputs(OFFLINE, "study", tmp_path, rows)
    (run,) = records(tmp_path, "run")
    assert (run["run_id"], run["job_type"], run["run_group"]) == ("study-global-pooled", "input", "study")
    result = summary(tmp_path)
    assert {key: value for key, value in result.items() if key.startswith("pooled/")} == {"pooled/balanced_accuracy": 0.7}
    assert result["completed"] is True


def test_curves_of_a_real_training_have_epoch_as_axis(tmp_path):
    logger = tracking.open_run(OFFLINE, RunIdentity("s", "global", 0, 0), tmp_path, {})
    train(logger, tmp_path, epochs=3)
    tracking.close_run(logger, completed=True)
    axes = [record["step_metric"] for record in records(tmp_path, "metric") if record.get("glob_name") == "*"]
    assert axes == ["epoch"]
    rows = [record["item"] for record in records(tmp_path, "history")]
    for name in ("train/loss", "tuning/loss", "tuning/auroc"):
        assert [row["epoch"] for row in rows if name in row] == [0, 1, 2]
    config = {key for record in records(tmp_path, "config") for key in record["update"]}
    assert not {key for key in config if not key.startswith("_wandb")}


def test_checkpoints_are_not_tracked(tmp_path):
    logger = tracking.open_run(OFFLINE, RunIdentity("s", "global", 0, 0), tmp_path, {})
    train(logger, tmp_path, epochs=1, checkpoints=True)
    tracking.close_run(logger, completed=True)
    assert list(tmp_path.rglob("*.ckpt"))
    assert records(tmp_path, "artifact") == []


def test_run_folders_are_listed_oldest_first(tmp_path):
    names = ["b/wandb/offline-run-20260102_000000-x", "a/wandb/offline-run-20260103_000000-x",
             "c/wandb/offline-run-20260101_000000-y"]  # fmt: skip
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run-x.wandb").touch()
    (tmp_path / "d/wandb/offline-run-20260101_000000-empty").mkdir(parents=True)
    assert [path.name[-17:] for path in offline_run_folders(tmp_path)] == [
        "20260101_000000-y", "20260102_000000-x", "20260103_000000-x"]  # fmt: skip


def test_tables_wait_in_the_run_folder(tmp_path):
    logger = tracking.open_run(OFFLINE, RunIdentity("s", "global", 0, 0), tmp_path, {})
    tracking.log_evaluation(
        logger, threshold=0.5, metrics={}, y=np.array([0, 1]), p=np.array([0.2, 0.7]), pseudonyms=["0123456789"] * 2
    )
    tracking.close_run(logger, completed=True)
    (folder,) = offline_run_folders(tmp_path)
    run = read_run(folder)
    assert (run.id, run.rows, run.ended, run.synced, run.running) == ("s-global-f0-s0", 1, True, False, False)
    assert len(run.tables) == 3
    assert all(file.is_relative_to(tmp_path / "wandb" / "data") and file.exists() for _, file in run.tables)


def train(logger, folder: Path, epochs: int, checkpoints: bool = False) -> None:
    """Train a line with Lightning; its hyperparameters hold a path that must not be tracked."""
    import pytorch_lightning as pl
    import torch

    class Line(pl.LightningModule):
        def __init__(self, cohort: str = "/data/cohort") -> None:
            super().__init__()
            self.save_hyperparameters()
            self.line = torch.nn.Linear(1, 1)

        def training_step(self, batch, index):
            loss = self.line(batch[0]).square().mean()
            self.log("train/loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch, index):
            self.log_dict({"tuning/loss": 1.0, "tuning/auroc": 0.5})

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(max_epochs=epochs, logger=logger, accelerator="cpu", default_root_dir=folder,
                             enable_progress_bar=False, enable_model_summary=False,
                             enable_checkpointing=checkpoints)  # fmt: skip
        trainer.fit(Line(), data, data)
