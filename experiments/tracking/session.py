"""How a W&B run is opened and ended in this process: offline or online, what W&B may look at, how long it may block.

Together with `wandb_runs` and `workspace` the only files that import wandb; importing this one is free.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from experiments.tracking.environment import forget_identities, without_server
from experiments.tracking.options import TrackingError, TrackingOptions
from experiments.tracking.tables import unstage_tables

_log = logging.getLogger("regionwise")


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


def start_run(options: TrackingOptions, folder: Path, config: Mapping[str, object], **about: Any) -> Any:
    """Open a W&B run; online falls back to offline with one warning.

    Args:
        options: mode, project and privacy.
        folder: `wandb/` is made in it.
        config: settings to show beside the curves.
        about: further arguments of `wandb.init`.

    Raises:
        TrackingError: if the folder cannot be written.
    """
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


def finish_run(run: Any, completed: bool) -> None:
    """End a W&B run, with what became of it in its summary."""
    run.summary["completed"] = completed
    try:
        run.finish(exit_code=0 if completed else 1)
    finally:
        unstage_tables()


def logs_here() -> bool:
    """Whether this is the process of a distributed job that logs."""
    from pytorch_lightning.utilities import rank_zero_only

    return bool(cast(Any, rank_zero_only).rank == 0)
