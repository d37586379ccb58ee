"""How runs are tracked, and what a tracked run is called: options, names and ids, without W&B itself."""

import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Literal, cast

from experiments.tracking.environment import is_disabled, started_by_agent
from regions.errors import UserError

Mode = Literal["offline", "online", "disabled"]
_MODES = {"offline": "offline", "dryrun": "offline", "online": "online", "run": "online", "disabled": "disabled"}
_MAX_ID = 64


class TrackingError(UserError):
    """A tracking option or folder that cannot be used."""


def _default_mode() -> Mode:
    """Offline, unless the user asked for another mode or a W&B sweep agent started this process (a sweep needs its server)."""
    if is_disabled():
        return "disabled"
    asked = os.environ.get("WANDB_MODE") or ("online" if started_by_agent() else "offline")
    return cast(Mode, _MODES.get(asked, asked))


@dataclass(frozen=True)
class TrackingOptions:
    """Where runs are tracked, and how much W&B may learn about the machine."""

    mode: Mode = field(default_factory=_default_mode)
    """offline: on disk only. online: to the server, falling back to offline. disabled: no W&B at all. Default: the
    environment's WANDB_DISABLED or WANDB_MODE where the user set one, online inside a W&B sweep agent, otherwise offline."""
    project: str = field(default_factory=lambda: os.environ.get("WANDB_PROJECT") or "regionwise")
    """W&B project. Default: the environment's WANDB_PROJECT, otherwise regionwise."""
    entity: str | None = field(default_factory=lambda: os.environ.get("WANDB_ENTITY") or None)
    """W&B team or user. Default: the environment's WANDB_ENTITY, otherwise the one that the API key belongs to."""
    privacy: Literal["strict", "relaxed"] = "strict"
    """strict: metrics, settings, pseudonyms and load of the machine. relaxed: also what W&B collects by itself: host
    name, command line, git remote and commit, console output, installed packages. Source code is never sent."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TrackingError: naming the option, its value and what is allowed.
        """
        if self.mode not in ("offline", "online", "disabled"):
            raise TrackingError(f"tracking mode {self.mode!r}: allowed are offline, online, disabled; see WANDB_MODE")
        if self.privacy not in ("strict", "relaxed"):
            raise TrackingError(f"privacy {self.privacy!r}: allowed are strict, relaxed")
        if not re.fullmatch(r"[^/\\#?%:]{1,128}", self.project):
            raise TrackingError(f"project {self.project!r}: 1 to 128 characters without / \\ # ? % :")


@dataclass(frozen=True)
class RunIdentity:
    """Which run of which study: gives the run the same W&B id each time, so that an interrupted run goes on."""

    study: str
    """Name of the study; W&B groups the runs by it."""
    input: str
    """Input region, e.g. gray_matter."""
    fold: int
    """Fold, 0 ... folds - 1."""
    seed: int
    """Seed of the training."""
    folds: int = 7
    """Number of folds of the split."""

    @property
    def run_id(self) -> str:
        """`study-input-f3-s0`: letters, digits, `_` and `-`, at most 64; a hash replaces what had to go."""
        return safe_id(self.study, f"{self.input}-f{self.fold}-s{self.seed}")

    @property
    def name(self) -> str:
        """`input/fold-3`, with the seed added where it is not 0."""
        return f"{self.input}/fold-{self.fold}" + (f"/seed-{self.seed}" if self.seed else "")


def safe_id(study: str, rest: str) -> str:
    """Join a study's name and the rest of a run id into an id that W&B accepts: at most 64 of A-Za-z0-9_-."""
    rest = re.sub(r"[^A-Za-z0-9_-]", "-", rest)
    clean = re.sub(r"[^A-Za-z0-9_-]", "-", study)
    if clean != study or len(clean) + 1 + len(rest) > _MAX_ID:
        mark = hashlib.sha256(study.encode()).hexdigest()[:8]
        clean = f"{clean[: max(0, _MAX_ID - len(rest) - len(mark) - 2)]}-{mark}".lstrip("-")
    return f"{clean}-{rest}"
