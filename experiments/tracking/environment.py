"""Which of W&B's variables count: those that say how its server is reached, never those that say what a run is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "WANDB_"
OF_THE_MACHINE = ("CACHE_DIR", "CONFIG_DIR", "ARTIFACT_DIR", "ERROR_REPORTING", "SERVICE")
"""What counts offline too."""
OF_THE_SERVER = re.compile(
    r"MODE|DISABLED|PROJECT|ENTITY|API_KEY|BASE_URL|APP_URL|IDENTITY_TOKEN_FILE|CREDENTIALS_FILE|INSECURE_DISABLE_SSL"
    r"|HTTPS?_PROXY|SILENT|QUIET|DEBUG|SHOW_.*|(X_|_)?(PROXIES|EXTRA_HTTP_HEADERS|SERVICE_WAIT)|(X_)?DISABLE_(?!CACHE).*|.*_(TIMEOUT|RETRY)(_.*)?"
)
"""Destination, key, network, patience, and what W&B keeps quiet about."""
OF_AN_AGENT = ("SWEEP_ID", "RUN_ID", "SWEEP_PARAM_PATH")
"""What an agent of a W&B sweep says to the process that it starts."""


def started_by_agent() -> bool:
    """Whether an agent of a W&B sweep started this process: it names the run and the file of its parameters."""
    sweep, run, file = (os.environ.get(PREFIX + name, "") for name in OF_AN_AGENT)
    return bool(sweep and run) and Path(file).name == f"config-{run}.yaml" and Path(file).is_file()


def is_disabled() -> bool:
    """Whether WANDB_DISABLED says that W&B is not wanted."""
    return os.environ.get("WANDB_DISABLED", "").strip().lower() in ("1", "true", "yes", "on", "y", "t")


def forget_identities() -> None:
    """Take W&B's other variables out of this process, and empty ones: run ids, names, groups, notes, tags, folders, ..."""
    kept = (*OF_THE_MACHINE, *(OF_AN_AGENT if started_by_agent() else ()))
    for name, value in list(os.environ.items()):
        known = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and not (value and (known in kept or OF_THE_SERVER.fullmatch(known))):
            del os.environ[name]


@contextmanager
def without_server() -> Iterator[None]:
    """Hide what concerns the server alone: a value that W&B refuses must not stop a run that stays here."""
    machine = {PREFIX + name for name in (*OF_THE_MACHINE, *OF_AN_AGENT)}
    hidden = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and name not in machine}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
