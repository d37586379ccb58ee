"""The data, the trainer and the predictions of every training: of a study's runs, its controls and its frozen models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from datamodules.cohort.records import Scan
from datamodules.cohort.splits import Splits
from datamodules.cohort.target import EDSS_SCALE
from datamodules.mri import BrainMRIDataModule
from datamodules.store.prepared import PreparedCohort
from experiments.runtime.precision import best_precision
from experiments.study.run_folder import Rows
from experiments.study.settings import Settings
from experiments.study.trainer_options import SettingsError
from lightning_modules.classifier import StratificationModule
from lightning_modules.networks import multiple_of, smallest_side
from lightning_modules.numbers import NumberModule
from lightning_modules.objectives import ScoreScale
from regions.catalog import Region
from regions.errors import UserError


def make_data(
    settings: Settings,
    values: Any,
    prepared: PreparedCohort,
    patients: Sequence[str],
    labels: Sequence[int],
    splits: Splits,
    fold: int,
    region: Region,
    network: nn.Module,
    **options: Any,
) -> BrainMRIDataModule:
    """The scans of one fold, cut to one input, in boxes that a network takes.

    Args:
        settings: All settings.
        values: The same, instantiated: that makes the network and draws its weights, so it is done once.
        prepared: The volumes.
        patients: The patient of each scan.
        labels: The class of each scan.
        splits: The split of the patients.
        fold: Test part.
        region: The input.
        network: The network.
        options: Arguments of the data module that are not the settings'.
    """
    prepared = prepared.showing(region.images) if region.images else prepared
    least_side = smallest_side(network, len(prepared.names), values.data.batch_size)
    chosen = {**values.data.as_dict(), "augmentation": settings.augmentation(), "least_side": least_side, **options}
    return BrainMRIDataModule(prepared, patients, labels, splits, fold, region, multiple_of(network), **chosen)


def make_module(settings: Settings, network: nn.Module, data: BrainMRIDataModule | None = None) -> StratificationModule:
    """The module of a training, its objective started from the training part; or one that is to get trained weights.

    Args:
        settings: All settings.
        network: The network.
        data: What it is trained on; a target without scores is learned by classification, whatever the study's objective.
            None for a module that gets trained weights.
    """
    options, target = settings.model_options(), settings.label()
    if target.is_number and (data is None or data.scores is not None):
        module = NumberModule(network, target.steps, **options)
        if data is not None and data.scores is not None:
            module.start_from([data.scores[row] for row in data.partitions["train"]])
        return module
    if data is not None and data.scores is None:
        options |= {"objective": "classification", "label_noise": 0.0}
    if data is not None:
        options |= {"decision": target.decision, "prevalence": data.prevalence}
    below = target.direction == "below"
    scale = ScoreScale(target.threshold, EDSS_SCALE, below) if target.is_edss and target.threshold else None
    classifier = StratificationModule(network=network, scale=scale, **options)
    if classifier.objective is not None and data is not None and data.scores is not None:
        classifier.objective.start_from([data.scores[row] for row in data.partitions["train"]])
    return classifier


def make_trainer(
    options: Mapping[str, Any], callbacks: Sequence[pl.Callback] = (), logger: Any = False, plugins: Sequence[Any] = ()
) -> pl.Trainer:
    """A trainer that takes no hint from a scheduler's environment, in the precision that suits the device.

    Args:
        options: As Lightning's Trainer takes them.
        callbacks: Beside Lightning's own.
        logger: Logger, list of loggers, or False.
        plugins: Beside the environment.

    Raises:
        UserError: if it is to train on several machines, or Lightning refuses an option.
    """
    if str(options.get("num_nodes", 1)) != "1":
        raise UserError(
            f"--trainer.num_nodes {options['num_nodes']}: a run trains on one machine; "
            "leave it out, and start make sweep on each machine to share the runs"
        )
    fixed = {"use_distributed_sampler": False, "log_every_n_steps": 1, "num_sanity_val_steps": 0}
    precision = options.get("precision") or best_precision(options.get("accelerator") or "auto")
    try:
        return pl.Trainer(
            **{**options, **fixed, "precision": precision},
            logger=logger,
            callbacks=list(callbacks),
            plugins=[LightningEnvironment(), *plugins],
        )
    except (
        MisconfigurationException,
        TypeError,
        ValueError,
    ) as error:
        raise SettingsError(" ".join(str(error).split())) from None


def probabilities(
    trainer: pl.Trainer, module: pl.LightningModule, data: BrainMRIDataModule
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Cohort rows (n,) of the tuning and internal test scans, and their probabilities, or predicted numbers, (n,)."""
    outputs: Any = trainer.predict(module, datamodule=data, weights_only=True)
    rows = np.concatenate([batch["index"].cpu().numpy() for batch in outputs])
    name = "number" if isinstance(module, NumberModule) else "probability"
    p = np.concatenate([batch[name].cpu().numpy() for batch in outputs])
    return rows, p.astype(np.float64)


def truth_of(module: pl.LightningModule, data: BrainMRIDataModule) -> Sequence[float]:
    """What predictions are compared with, for each scan of the cohort: its class, its step or its value."""
    is_value = isinstance(module, NumberModule) and not module.steps and data.scores is not None
    return data.scores if is_value else data.labels  # type: ignore[return-value]


def scale_of(module: pl.LightningModule) -> dict[str, Any]:
    """What run.json says of how predictions are read: the threshold, or the scale of a number."""
    if isinstance(module, NumberModule):
        return {"scale": {"steps": module.steps, "mean": float(module.mean)}}
    return {"threshold": float(module.threshold)}  # type: ignore[arg-type]


def prediction_rows(
    data: BrainMRIDataModule,
    scans: Sequence[Scan],
    labels: Sequence[float],
    rows: npt.NDArray[np.int64],
    p: npt.NDArray[np.float64],
) -> Rows:
    """Rows of predictions.tsv.

    Args:
        data: Says which scans are tuning scans.
        scans: The cohort.
        labels: The class of each scan of the cohort; the step or value, where that is predicted.
        rows: (n,) the cohort row of each prediction.
        p: (n,) probabilities.
    """
    tuning = set(data.partitions["tuning"].tolist())
    predicted = [scans[row] for row in rows]
    return Rows(
        np.array(["tuning" if row in tuning else "internal_test" for row in rows]),
        np.array([scan.patient for scan in predicted]),
        np.array([scan.session for scan in predicted]),
        np.array([scan.site for scan in predicted]),
        np.array([labels[row] for row in rows]),
        p,
    )
