"""The networks that are looked at: those of the study, others with permuted labels, others that were never trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodules.cohort.records import Scan
from datamodules.files.atomic import file_sha256, write_atomically
from datamodules.files.sealed import DamagedError, read_sealed, write_sealed
from datamodules.mri import BrainMRIDataModule
from experiments.explaining.jobs import Job, training_print
from experiments.explaining.setup import Explained
from experiments.study.covariates import Covariate, fit_covariates, table_of
from experiments.study.permuted import permuted
from experiments.study.run_folder import BEST, RunFolder
from experiments.training.assemble import redrawn, seed_of
from experiments.training.in_memory import fit_in_memory
from experiments.training.trainer import make_data, make_module
from lightning_modules.classifier import StratificationModule

PERMUTED, RANDOM = 3, 1000
"""Numbers that keep the random states of permutations and of random weights apart from those of trainings."""


@dataclass(frozen=True)
class Looked:
    """A network, and the scans of its fold as it was trained on them."""

    module: StratificationModule
    data: BrainMRIDataModule


def network_of(explained: Explained, job: Job) -> Looked:
    """Load, train or draw the network of a job.

    Raises:
        ResultsError: if the checkpoint of a run is gone or was changed.
        TrainingError: if a network with permuted labels does not train.
    """
    torch.set_num_threads(explained.settings.values.threads)
    if job.kind == "trained":
        return _trained(explained, job)
    return _permuted(explained, job) if job.kind == "permuted" else _untrained(explained, job)


def _trained(explained: Explained, job: Job) -> Looked:
    folder = RunFolder(job.run.folder(explained.folder))
    path, facts = folder.checked(BEST), folder.facts()
    values = explained.settings.instantiated(explained.region(job.input).images)
    module = make_module(explained.settings, values.network)
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    covariates = [Covariate.of(recorded) for recorded in facts.get("covariates", ())]
    return Looked(module, _data(explained, job, values, values.network, covariates))


def _permuted(explained: Explained, job: Job) -> Looked:
    """Trained as the study's runs are, on labels dealt out between the patients of each part; the weights are kept."""
    folder, seed = job.folder(explained.folder), explained.method.seed
    seed_of(seed, job.fold, PERMUTED, job.number)
    images = explained.region(job.input).images
    values = explained.settings.instantiated(images)
    rng = np.random.default_rng([seed, PERMUTED, job.number])
    sources = permuted(explained.study.cohort.scans, explained.study.splits, rng)
    data = _data(explained, job, values, values.network, _covariates(explained, job), sources)
    module = make_module(explained.settings, values.network, data)
    made_for = {"network": training_print(explained, job), "data": explained.study.prepared.hash}
    kept = _kept_weights(folder, made_for)
    if kept is None:
        fit_in_memory(module, data, values, lambda number: redrawn(explained.settings, seed, job.fold, number, images))
        write_atomically(folder / "weights.pt", lambda file: torch.save(module.state_dict(), file))
        write_sealed(folder / "weights.json", made_for | {"weights_sha256": file_sha256(folder / "weights.pt")})
    else:
        module.load_state_dict(kept)
    return Looked(module, data)


def _kept_weights(folder: Any, made_for: dict[str, Any]) -> dict[str, torch.Tensor] | None:
    try:
        content = read_sealed(folder / "weights.json", "explain again")
        same = all(content.get(name) == value for name, value in made_for.items())
        if not same or file_sha256(folder / "weights.pt") != content["weights_sha256"]:
            return None
    except (FileNotFoundError, DamagedError):
        return None
    weights: dict[str, torch.Tensor] = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
    return weights


def _untrained(explained: Explained, job: Job) -> Looked:
    network = redrawn(
        explained.settings, explained.method.seed, job.fold, RANDOM + job.number, explained.region(job.input).images
    )
    values = explained.settings.instantiated(explained.region(job.input).images)
    data = _data(explained, job, values, network, _covariates(explained, job))
    return Looked(make_module(explained.settings, network, data), data)


def _covariates(explained: Explained, job: Job) -> list[Covariate]:
    cohort = explained.study.cohort
    parts = explained.study.splits.partitions(job.fold, [scan.patient for scan in cohort.scans])
    names = explained.settings.covariates(explained.region(job.input).images)
    return fit_covariates(names, cohort, parts, job.fold)


def _data(
    explained: Explained,
    job: Job,
    values: Any,
    network: nn.Module,
    covariates: list[Covariate],
    sources: tuple[Scan, ...] | None = None,
) -> BrainMRIDataModule:
    """The scans of a fold; each with the label and score of its source, itself by default."""
    study, seed = explained.study, job.number if job.kind == "trained" else explained.method.seed
    scans = study.cohort.scans
    given = sources or scans
    options = {"seed": seed, "scores": study.cohort.rule.scores_of(given), "covariates": table_of(covariates, scans)}
    patients, labels = [scan.patient for scan in scans], [scan.label for scan in given]
    return make_data(
        explained.settings, values, study.prepared, patients, labels, study.splits, job.fold,
        explained.region(job.input), network, **options,
    )  # fmt: skip
