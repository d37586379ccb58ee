"""Which control trainings there are, in fixed order, and where each leaves its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.study.runs import PlanError

TITLES = {
    "image": "the image itself",
    "permuted": "labels permuted",
    "mask_only": "mask only",
    "shuffled": "voxels shuffled",
    "random_region": "random region",
    "complement": "rest of the brain",
    "header_only": "header only",
    "sex": "predict sex",
    "field_strength": "predict field strength",
    "leaky": "leaky split",
}
"""Every control and its name in tables; ``image`` is what the others are compared with."""

OF_AN_INPUT = ("image", "permuted", "mask_only", "shuffled", "random_region", "complement")
OF_A_PART = ("random_region", "complement")
"""Controls that the whole brain has not: there is no other region of its size and no rest."""


@dataclass(frozen=True, order=True)
class ControlRun:
    """One training of one control; ``repeat`` counts permutations, and for ``leaky`` 0 is that split and 1 the honest one."""

    control: str
    input: str
    repeat: int
    fold: int

    @property
    def name(self) -> str:
        """``control/input/repeat-r/fold-k``."""
        return f"{self.control}/{self.input}/repeat-{self.repeat}/fold-{self.fold}"

    def folder(self, study: Path) -> Path:
        """The run's folder."""
        return study / "controls" / self.name


def choose(text: str) -> list[str]:
    """Names of controls separated by commas; empty means all. ``image`` is always among them.

    Raises:
        PlanError: if a control does not exist.
    """
    names = [name.strip() for name in text.split(",") if name.strip()] or list(TITLES)
    wrong = [name for name in names if name not in TITLES]
    if wrong:
        raise PlanError(f"there is no control {wrong[0]!r}; controls are {', '.join(TITLES)}")
    return [name for name in TITLES if name in names or name == "image"]


def plan(
    controls: Sequence[str], inputs: Sequence[str], whole: Sequence[str], folds: int, permutations: int
) -> list[ControlRun]:
    """All trainings, control by control.

    Args:
        controls: Names from `TITLES`; ``header_only`` is fitted at once and has no training.
        inputs: Names of the inputs; sex, field strength and the leaky split take the first.
        whole: Those inputs that are the whole brain.
        folds: Number of folds.
        permutations: Repetitions of ``permuted``.
    """
    runs = []
    for control in controls:
        if control == "header_only":
            continue
        for name in inputs if control in OF_AN_INPUT else inputs[:1]:
            if control in OF_A_PART and name in whole:
                continue
            for repeat in range({"permuted": permutations, "leaky": 2}.get(control, 1)):
                runs += [ControlRun(control, name, repeat, fold) for fold in range(folds)]
    return runs
