"""What the processes that apply TorchIO transforms are told; known without importing TorchIO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from datamodules.store.prepared import PreparedCohort
from regions.grid import Box

PROCESSES = 4
"""Most processes that change scans for one run."""
Arrays = dict[str, npt.NDArray[np.generic]]


class SubjectTransform(Protocol):
    """A ``torchio.Transform``, described without importing TorchIO."""

    def __call__(self, data: Any) -> Any:
        """Return the changed subject."""


@dataclass(frozen=True)
class TransformTask:
    """What each process applies."""

    prepared: PreparedCohort
    transforms: tuple[SubjectTransform, ...]
    """Applied one after another."""
    seed: int
    box: Box
    """What is cut out of the changed scan."""
    with_labels: bool
    """Whether the label map is changed and cut out, too."""
