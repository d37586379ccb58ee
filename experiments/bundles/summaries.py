"""What a bundle keeps of the scans that its models were made with, as plain JSON without names.

=================  =====================================================================================================
``conformal``      scores of the tuning parts: ``ConformalScores``, or ``NumberScores`` where a number is predicted
``quality``        ``QualityReference`` of the scans on their own voxels
``features``       ``{"folds": [{"fold": 0, ...}, ...]}``, each a ``FeatureReference`` of what enters the head of its network;
                   empty where the network has no linear layer
``training_scans`` ``KnownScans``
=================  =====================================================================================================

Each is read by the ``of`` of the class that is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodules.batches.loading import moved
from datamodules.mri import BrainMRIDataModule
from experiments.bundles.errors import BundleError
from experiments.runtime.interruption import stop_if_interrupted
from experiments.statistics.conformal import Part, conformal_scores
from experiments.statistics.conformal_numbers import number_scores
from experiments.statistics.feature_distance import feature_reference
from experiments.statistics.predictions import FloatArray
from experiments.study.run_folder import RunFolder
from lightning_modules.errors import ModelError
from lightning_modules.head_inputs import head_input

Parts = Mapping[str, Any]


def conformal_summary(study: Path, models: Sequence[Mapping[str, Any]], is_number: bool) -> dict[str, Any]:
    """Scores of an input's tuning parts, with the coverage of its internal test parts.

    Args:
        study: The study's folder.
        models: The models as the freeze has them.
        is_number: Whether a number is predicted.
    """
    rows = {model["fold"]: RunFolder(study / model["run"]).result()[0] for model in models}
    tuning, test = (
        {fold: Part(part.patient.tolist(), part.session.tolist(), part.y, part.p) for fold, part in parts.items()}
        for parts in ({fold: each.of(name) for fold, each in rows.items()} for name in ("tuning", "internal_test"))
    )
    scores: Any = number_scores(tuning, test) if is_number else conformal_scores(tuning, test)
    return asdict(scores)


def feature_summary(
    networks: Mapping[int, nn.Module],
    data: BrainMRIDataModule,
    parts: Mapping[int, Parts],
    on_model: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """How the features of each fold's training part are spread.

    Args:
        networks: Fold -> its network.
        data: All scans of the study, from ``experiments.bundles.running.scans_data``.
        parts: Fold -> partition -> rows.
        on_model: Called with (done, to do).

    Raises:
        BundleError: if a fold's features are not finite.
        Interrupted: if a signal came.
    """
    folds = []
    for done, (fold, network) in enumerate(networks.items(), start=1):
        stop_if_interrupted()
        try:
            features = features_of(network, data)
        except ModelError:  # it has no linear layer
            return {}
        unseen = np.concatenate([parts[fold]["tuning"], parts[fold]["internal_test"]])
        if not np.isfinite(features).all():
            raise BundleError(f"fold {fold}: the features of a scan are not finite; train the run again with --restart")
        folds.append({"fold": fold, **asdict(feature_reference(features[parts[fold]["train"]], features[unseen]))})
        if on_model:
            on_model(done, len(networks))
    return {"folds": folds}


@torch.no_grad()
def features_of(network: nn.Module, data: BrainMRIDataModule) -> FloatArray:
    """What enters the head of a network, (scans, F) float64, without covariates.

    Raises:
        ModelError: if the network has no linear layer.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).eval()
    found = {row: feature for rows, batch in _batches(network, data, device) for row, feature in zip(rows, batch, strict=True)}
    return np.stack([found[row] for row in range(len(found))])


def _batches(network: nn.Module, data: BrainMRIDataModule, device: torch.device) -> Iterator[tuple[list[int], FloatArray]]:
    for batch in data.test_dataloader():
        seen = data.finish(moved(batch, device), None)
        yield seen["index"].tolist(), head_input(network, seen["image"]).double().numpy()
