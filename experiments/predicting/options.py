"""What can be chosen for a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class PredictOptions:
    """Which scans, which networks, and how the answer is given."""

    scans: Path = Path()
    """New scans: a folder or a table of prepared scans, or a raw BIDS dataset, which is prepared first."""
    out: Path = Path()
    """Folder of the results."""
    study: str = ""
    """Name of the study whose networks are asked; its bundles are made where they are missing."""
    studies: Path = Path("studies")
    """Folder of all studies."""
    bundle: str = ""
    """Folders of bundles, separated by commas, in the place of a study."""
    inputs: str = ""
    """Inputs of the study, separated by commas; empty: all."""
    seed: int = 0
    """Seed of the study's runs."""
    participant_label: str = ""
    """Participants, separated by commas, with or without sub-; empty: all."""
    level: Literal["0.8", "0.9", "0.95"] = "0.9"
    """Share of scans, in each class, whose set of labels is to hold the true one."""
    prevalence: float | None = None
    """Prevalence where the scans come from: probabilities are given for it too."""
    insist: bool = False
    """Predict scans outside the training cohort's limits too, marked."""
    accelerator: str = "auto"
    """Where the networks run, as Lightning calls it."""
    workers: int = 2
    """Threads that read scans, and processes that prepare raw ones."""
