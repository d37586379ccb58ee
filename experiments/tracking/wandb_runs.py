"""Runs in Weights & Biases: one W&B run per (input, fold, seed), offline and without identifying data by default.

    <run folder>/wandb/offline-run-<time>-<id>/run-<id>.wandb    everything that was logged; `make sync` uploads it
    <run folder>/wandb/data/                                     tables waiting for the upload

W&B is a view of the study, never its source: metrics.json and predictions.tsv are complete without it. wandb is
imported when the first run is opened: importing this file is free.

The x axis of every curve is `epoch`. Lightning writes two rows per epoch, one from tuning and one from training.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from experiments.tracking.options import RunIdentity, TrackingError, TrackingOptions, safe_id
from experiments.tracking.privacy import PSEUDONYM, PrivacyError, plain_config
from experiments.tracking.session import finish_run, logs_here, start_run
from experiments.tracking.tables import stage_tables
from experiments.tracking.values import as_html, defined, finite, roc_points

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

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
    if logs_here():
        run = start_run(options, folder, kept, id=identity.run_id, name=identity.name, group=identity.study,
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
    run = start_run(options, folder, config, id=safe_id(study, name), name=name, group=study, job_type=kind, tags=[tag])
    completed = False
    try:
        yield run
        completed = True
    finally:
        finish_run(run, completed)


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
        finish_run(run, completed)


def _run_of(logger: "Logger | None") -> Any:
    """Return the W&B run behind a logger; None for a disabled logger or a process that does not log."""
    return cast(Any, logger).experiment if logger is not None and logs_here() else None
