"""What is computed network by network, and where each part is kept until the explanation is put together.

::

    studies/<name>/explain/parts/<kind>/<input>/fold-<k>/network-<n>/  part.json  maps.npy  (permuted: weights.pt, weights.json)

A part is complete when its ``part.json`` is there, which is written last and names the SHA-256 of its maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from datamodules.files.atomic import file_sha256
from datamodules.files.sealed import DamagedError, read_sealed
from experiments.explaining.setup import VERSION, Explained
from experiments.study.covariates import covariates_hash
from experiments.study.record import ShownRegion
from experiments.study.run_folder import BEST, RunFolder
from experiments.study.runs import Run

Kind = Literal["trained", "permuted", "untrained"]
KINDS: tuple[Kind, ...] = ("trained", "permuted", "untrained")


@dataclass(frozen=True, order=True)
class Job:
    """One network and the scans it is looked at with: the internal test scans of its fold.

    ``number`` is the seed of a trained run; networks with permuted labels, and with random weights, are counted.
    """

    kind: Kind
    input: str
    fold: int
    number: int

    @property
    def name(self) -> str:
        """``kind/input/fold-k/network-n``."""
        return f"{self.kind}/{self.input}/fold-{self.fold}/network-{self.number}"

    def folder(self, study: Path) -> Path:
        """Where its part lies."""
        return study / "explain" / "parts" / self.name

    @property
    def run(self) -> Run:
        """The run of a trained network."""
        return Run(self.input, self.fold, self.number)


def jobs_of(explained: Explained, name: str) -> list[Job]:
    """All networks of an input: its runs, as many with permuted labels as asked for, as many with random weights."""
    trained = [Job("trained", name, run.fold, run.seed) for run in explained.runs[name]]
    folds = sorted({run.fold for run in explained.runs[name]})
    counted = [(folds[number % len(folds)], number) for number in range(explained.networks)]
    kinds: tuple[Kind, ...] = ("permuted", "untrained")
    return trained + [Job(kind, name, fold, number) for kind in kinds for fold, number in counted]


def training_print(explained: Explained, job: Job) -> dict[str, Any]:
    """What the weights of a network depend on."""
    if job.kind == "trained":
        return {"checkpoint": RunFolder(job.run.folder(explained.folder)).facts()["files"][BEST]}
    settings, study = explained.settings, explained.study
    shown = ShownRegion.of(explained.region(job.input), settings.study_options().mask).plain()
    given = covariates_hash(settings.covariates(), study.cohort.scans)
    code = settings.network_code()
    return {
        **({"covariates": given} if given else {}),
        **({"code": code} if code else {}),
        "settings": settings.hash(),
        "split": study.splits.hash,
        "cohort": study.cohort_hash,
        "region": shown,
        "seed": explained.method.seed,
    }


def fingerprint(explained: Explained, job: Job) -> dict[str, Any]:
    """What a part depends on."""
    method = asdict(replace(explained.method, networks=0))
    data = {"version": VERSION, "data": explained.study.prepared.hash, "pieces": explained.pieces(job.input).digest}
    return {**data, **method, "network": training_print(explained, job)}


def read_part(explained: Explained, job: Job) -> dict[str, Any] | None:
    """A part as it was kept; None where it is missing, damaged, or was made with other networks, data or settings."""
    folder = job.folder(explained.folder)
    try:
        content = read_sealed(folder / "part.json", "explain again")
        whole = "maps_sha256" not in content or file_sha256(folder / "maps.npy") == content["maps_sha256"]
    except (FileNotFoundError, DamagedError):
        return None
    return content if whole and content.get("fingerprint") == fingerprint(explained, job) else None


def missing(explained: Explained, jobs: Sequence[Job]) -> list[Job]:
    """The jobs whose part is not there."""
    return [job for job in jobs if read_part(explained, job) is None]
