"""Runs in Weights & Biases: one W&B run per (input, fold, seed), offline and without identifying data by default.

    <run folder>/wandb/offline-run-<time>-<id>/run-<id>.wandb    everything that was logged; `make sync` uploads it
    <run folder>/wandb/data/                                     tables waiting for the upload

W&B is a view of the study, never its source: metrics.json and predictions.tsv are complete without it. This is the only
file that imports wandb, and it does so when the first run is opened: importing it is free.

The x axis of every curve is `epoch`. Lightning writes two rows per epoch, one from tuning and one from training.
"""

import logging
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from experiments.tracking.environment import forget_identities, without_server
from experiments.tracking.offline_runs import offline_run_folders, online_run_folders
from experiments.tracking.options import RunIdentity, TrackingError, TrackingOptions, safe_id
from experiments.tracking.privacy import PSEUDONYM, PrivacyError, load_or_make_key, plain_config, pseudonym
from experiments.tracking.tables import stage_tables, unstage_tables
from experiments.tracking.values import as_html, defined, finite, roc_points

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

__all__ = [
    "RunIdentity",
    "TrackingError",
    "TrackingOptions",
    "close_run",
    "load_or_make_key",
    "log_comparison",
    "log_evaluation",
    "log_explanation",
    "log_inputs",
    "offline_run_folders",
    "online_run_folders",
    "open_run",
    "pseudonym",
    "server_access",
]

_log = logging.getLogger("regionwise")


def open_run(
    options: TrackingOptions,
    identity: RunIdentity,
    folder: Path,
    config: Mapping[str, object],
    patients: Collection[str] = (),
) -> "Logger | None":
    """Start tracking one training run.

    Args:
        options: mode, project and privacy.
        identity: the run; the same identity continues the same W&B run.
        folder: the run folder; `wandb/` is made in it.
        config: settings to show beside the curves. Paths are left out, patient ids refused (see `plain_config`).
        patients: patient ids that must not occur in `config`.

    Returns:
        The logger for a Lightning Trainer, or None when tracking is disabled. In the processes of a distributed job
        other than rank zero the logger does nothing.

    Raises:
        TrackingError: if the folder cannot be written.
        PrivacyError: if `config` holds a patient id.
    """
    if options.mode == "disabled":
        return None
    from experiments.tracking.logger import RunLogger

    about = {"study": identity.study, "input": identity.input, "fold": identity.fold, "seed": identity.seed}
    kept = plain_config({**config, **about, "folds": identity.folds, "kind": "fold"}, patients)

    run = None
    if _logs_here():
        run = _start(options, folder, kept, id=identity.run_id, name=identity.name, group=identity.study,
                     job_type="fold", tags=[identity.input])  # fmt: skip
        run.define_metric("epoch", hidden=True)
        run.define_metric("*", step_metric="epoch")
    return RunLogger(run, project=options.project, run_id=identity.run_id, name=identity.name, folder=folder)


def log_evaluation(
    logger: "Logger | None",
    *,
    threshold: float | None,
    metrics: Mapping[str, float | None],
    y: "np.ndarray",
    p: "np.ndarray",
    pseudonyms: Sequence[str],
) -> None:
    """Add the result of a finished fold to its run: numbers; of two classes ROC points, confusion matrix, predictions too.

    Where a number is predicted, no table of scans goes out: a true value such as an age says more of a person than a class.

    Args:
        logger: what `open_run` returned.
        threshold: probability from which a scan counts as positive; None where a number is predicted.
        metrics: plain numbers named `best/...` and `test/...`; None and NaN (undefined) are left out, never sent as 0.
        y: (scans,) 0 or 1.
        p: (scans,) probability of class 1.
        pseudonyms: (scans,) from `pseudonym`; never patient ids.

    Raises:
        PrivacyError: if a pseudonym is not one.
        TrackingError: if `y`, `p` and `pseudonyms` differ in length.
    """
    if not len(y) == len(p) == len(pseudonyms):
        raise TrackingError(f"y, p and pseudonyms have {len(y)}, {len(p)}, {len(pseudonyms)} entries; one per scan")
    if any(not PSEUDONYM.fullmatch(name) for name in pseudonyms):
        raise PrivacyError("the predictions table takes pseudonyms (10 hexadecimal characters), not patient ids")
    run = _run_of(logger)
    if run is None:
        return
    if threshold is None:
        run.summary.update(defined(metrics))
        return
    import wandb

    run.summary.update({"threshold": float(threshold), **defined(metrics)})
    truth, decided = [int(value) for value in y], [int(value >= threshold) for value in p]
    rows: list[Any] = [[name, value, float(chance)] for name, value, chance in zip(pseudonyms, truth, p, strict=True)]
    tables: dict[str, Any] = {
        "test/predictions": wandb.Table(columns=["patient", "y", "p"], data=rows),
        "test/confusion": wandb.plot.confusion_matrix(
            y_true=truth, preds=decided, class_names=["negative", "positive"], title="Confusion matrix"
        ),
    }
    if len(set(truth)) == 2:
        points: list[Any] = roc_points(truth, p)
        roc = wandb.Table(columns=["false_positive_rate", "sensitivity"], data=points)
        tables["test/roc"] = wandb.plot.line(roc, "false_positive_rate", "sensitivity", title="ROC")
    try:
        stage_tables(Path(cast(str, cast(Any, logger).save_dir)))
        run.log(tables)
    except (wandb.errors.Error, OSError) as error:  # an online run asks the server before it takes a table
        _log.warning("W&B did not take the tables of this run (%s); its predictions.tsv has them", error)


def log_comparison(
    options: TrackingOptions,
    study: str,
    folder: Path,
    table: Sequence[Mapping[str, object]],
    figures: Mapping[str, Path] | None = None,
) -> None:
    """Write the study's `compare` run: one table row per input, its numbers as scalars, and figures.

    Args:
        options: mode, project and privacy.
        study: name of the study.
        folder: the study folder; `wandb/` is made in it.
        table: one mapping per input with the key `input`; numbers become `compare/<input>/<key>`, undefined ones are
            left out of the scalars and empty in the table.
        figures: name -> SVG, PNG, JPEG or HTML file.

    Raises:
        TrackingError: if the folder cannot be written.
        PrivacyError: if the table holds a patient id.
    """
    if options.mode == "disabled" or not table:
        return
    rows = [plain_config(row) for row in table]
    columns: list[Any] = list(dict.fromkeys(key for row in rows for key in row))
    pages = {name: as_html(name, path) for name, path in (figures or {}).items()}
    data: list[Any] = [[finite(row.get(column)) for column in columns] for row in rows]
    with _summary_run(options, study, folder, "compare", "compare", "compare") as run:
        import wandb

        shown = {f"figures/{name}": wandb.Html(page, inject=False) for name, page in pages.items()}
        stage_tables(folder)
        run.log({"compare/inputs": wandb.Table(columns=columns, data=data, allow_mixed_types=True), **shown})
        for row in rows:
            run.summary.update({f"compare/{row['input']}/{key}": value for key, value in _numbers(row).items()})


def log_inputs(options: TrackingOptions, study: str, folder: Path, table: Sequence[Mapping[str, object]]) -> None:
    """Write one run an input (job type `input`): its folds pooled, as plain scalars `pooled/<key>`.

    Args:
        options: mode, project and privacy.
        study: name of the study.
        folder: the study folder; `wandb/` is made in it.
        table: one mapping per input with the key `input`; undefined numbers are left out.

    Raises:
        TrackingError: if the folder cannot be written.
    """
    if options.mode == "disabled":
        return
    for row in table:
        name = str(row["input"])
        with _summary_run(options, study, folder, "input", f"{name}/pooled", name) as run:
            run.summary.update({f"pooled/{key}": value for key, value in _numbers(row).items()})


def log_explanation(
    options: TrackingOptions, study: str, folder: Path, table: Sequence[Mapping[str, object]], pictures: Mapping[str, Path]
) -> None:
    """Write the study's `explain` run: pictures of the inputs' group maps, and numbers `explain/<input>/<region>/<key>`.

    Args:
        options: mode, project and privacy.
        study: name of the study.
        folder: the study folder; `wandb/` is made in it.
        table: one mapping per input with the key `input`; undefined numbers are left out.
        pictures: input -> PNG of a mean over scans; never that of a single scan.

    Raises:
        TrackingError: if the folder cannot be written.
    """
    if options.mode == "disabled":
        return
    pages = {name: as_html(name, path) for name, path in pictures.items()}
    with _summary_run(options, study, folder, "explain", "explain", "explain") as run:
        import wandb

        if pages:
            run.log({f"explain/{name}": wandb.Html(page, inject=False) for name, page in pages.items()})
        for row in table:
            run.summary.update({f"explain/{row['input']}/{key}": value for key, value in _numbers(row).items()})


@contextmanager
def _summary_run(options: TrackingOptions, study: str, folder: Path, kind: str, name: str, tag: str) -> Iterator[Any]:
    """A run that sums others up; it counts as completed when the block ends without an exception."""
    config = plain_config({"study": study, "kind": kind, "input": tag})
    run = _start(options, folder, config, id=safe_id(study, name), name=name, group=study, job_type=kind, tags=[tag])
    completed = False
    try:
        yield run
        completed = True
    finally:
        _finish(run, completed)


def _numbers(row: Mapping[str, object]) -> dict[str, float]:
    return defined({key: value for key, value in row.items() if isinstance(value, int | float)})


def close_run(logger: "Logger | None", *, completed: bool, failure: str = "") -> None:
    """End the run; call it in `finally`. Returns within about a minute even when the server is gone.

    Args:
        logger: what `open_run` returned.
        completed: True only when the run has done everything; W&B itself calls a run stopped by its scheduler finished.
        failure: Why the training gave no result.
    """
    run = _run_of(logger)
    if run is not None:
        if failure:
            run.summary["failure"] = failure
        _finish(run, completed)


def server_access(folder: Path) -> Any:
    """Return W&B's API client, or None where no API key is configured; never prompts.

    Args:
        folder: where W&B may keep its cache, e.g. the study folder.

    Raises:
        TrackingError: if the key is refused or the server does not answer.
    """
    _prepare_process(folder)
    import wandb

    try:
        _online_session()
        return wandb.Api(timeout=30) if wandb.login(prompt=False) else None
    except (wandb.errors.Error, ValueError) as error:
        raise TrackingError(f"W&B refused: {_reason(error)}; check WANDB_API_KEY, WANDB_BASE_URL and the network") from error


def _start(options: TrackingOptions, folder: Path, config: Mapping[str, object], **about: Any) -> Any:
    """Open a W&B run; online falls back to offline with one warning."""
    _check_writable(folder)
    left: Any = getattr(sys.modules.get("wandb"), "run", None)
    if left is not None:
        _log.warning("W&B run %s was still open in this process; it is closed as not completed", left.id)
        left.finish(exit_code=1)
        unstage_tables()
    _prepare_process(folder)
    import wandb

    common = {"project": options.project, "entity": options.entity, "dir": folder, "config": dict(config),
              "resume": "allow", "settings": wandb.Settings(**_settings(options.privacy)), **about}  # fmt: skip
    if options.privacy == "relaxed":
        _log.warning("privacy=relaxed: W&B records host name, command line, git remote, console output and packages")
    if options.mode == "online":
        try:
            _online_session()
            if not wandb.login(prompt=False, verify=False):
                raise wandb.errors.UsageError("no API key")
            with _launcher_spared():
                return wandb.init(mode="online", **common)
        except (wandb.errors.Error, OSError, ValueError) as error:
            _log.warning("W&B is not reachable (%s): this run is kept offline in %s; upload it later with "
                         "`make sync`", _reason(error), folder / "wandb")  # fmt: skip
            wandb.teardown()  # its service still holds the run's id
    with without_server(), _launcher_spared():
        wandb.setup(settings=wandb.Settings(show_info=False, mode="offline"))
        return wandb.init(mode="offline", **common)


def _online_session() -> None:
    """Set W&B up for its server, with the variables for that: a session that began offline has not read them.

    Raises:
        ValueError: if W&B refuses the value of a variable.
    """
    import wandb

    settings = wandb.Settings(show_info=False)
    settings.update_from_env_vars(
        {name: value for name, value in os.environ.items() if name != "WANDB_API_KEY"}
    )  # login reads it
    settings.mode = "online"
    wandb.setup(settings=settings)


def _reason(error: Exception) -> str:
    """The line of an error that says what is wrong; for a value that a variable cannot have: its setting, and why."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return f"{lines[1]}: {lines[2].partition(' [')[0]}" if isinstance(error, ValueError) and len(lines) > 2 else lines[0]


@contextmanager
def _launcher_spared() -> Iterator[None]:
    """Save a second: W&B asks its job launcher for inputs of each new run, and imports all of it for that.

    In a process that has not imported the launcher there are none.
    """
    from wandb.sdk.wandb_run import Run

    asks = "_detect_and_apply_job_inputs"
    method = getattr(Run, asks, None)
    if method is None or "wandb.sdk.launch" in sys.modules:
        yield
        return
    setattr(Run, asks, lambda run: None)
    try:
        yield
    finally:
        setattr(Run, asks, method)


def _settings(privacy: str) -> dict[str, Any]:
    """W&B settings: what survives a kill, how long it may block, and what it may look at."""
    limits = {
        "x_transaction_log_flush_interval": 1,  # seconds of data lost on kill -9
        "init_timeout": 30,
        "finish_timeout": 60,
    }
    limits = {name: value for name, value in limits.items() if f"WANDB_{name.upper()}" not in os.environ}
    settings: dict[str, Any] = {**limits, "save_code": False, "show_info": False}
    if privacy == "strict":
        settings |= {"x_disable_meta": True, "disable_git": True, "console": "off", "host": "", "program": "train",
                     "x_save_requirements": False, "x_stats_disk_paths": []}  # fmt: skip
    return settings


def _prepare_process(folder: Path) -> None:
    """Set what W&B reads once, before it is imported; the user's own choices win, but for what the run is."""
    forget_identities()
    if "wandb" not in sys.modules:
        os.environ.pop("WANDB_SERVICE", None)  # a parent's W&B process: it would keep this run's id after a kill
    data = str((folder / "wandb" / "data").absolute())
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # otherwise even an offline run calls a telemetry server
    os.environ.setdefault("WANDB_CACHE_DIR", data)
    os.environ.setdefault("WANDB_ARTIFACT_DIR", data)


def _check_writable(folder: Path) -> None:
    """W&B itself would fall back to /tmp with a warning, and lose the run there.

    Raises:
        TrackingError: if nothing can be written in `folder`/wandb.
    """
    probe = folder / "wandb" / f".probe-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrackingError(f"cannot write to {folder / 'wandb'} ({error.strerror}); choose another study folder or "
                            "switch tracking off with mode=disabled") from error  # fmt: skip


def _finish(run: Any, completed: bool) -> None:
    run.summary["completed"] = completed
    try:
        run.finish(exit_code=0 if completed else 1)
    finally:
        unstage_tables()


def _run_of(logger: "Logger | None") -> Any:
    """Return the W&B run behind a logger; None for a disabled logger or a process that does not log."""
    return cast(Any, logger).experiment if logger is not None and _logs_here() else None


def _logs_here() -> bool:
    """Whether this is the process of a distributed job that logs."""
    from pytorch_lightning.utilities import rank_zero_only

    return bool(cast(Any, rank_zero_only).rank == 0)
