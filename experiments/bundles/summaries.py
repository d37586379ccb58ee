"""What a bundle keeps of the scans that its models were made with, as plain JSON: distributions without names.

``conformal``: scores of the tuning parts, which no model of the same fold was trained on, in ascending order. For classes

    {"kind": "log_odds", "folds": [{"fold": 0, "0": [...], "1": [...]}, ...]}

with the calibrated log odds of the true class of each tuning scan, by class; for numbers

    {"kind": "residual", "folds": [{"fold": 0, "residuals": [...]}, ...]}

with value minus prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.statistics.calibration import clipped_logit
from experiments.study.run_folder import RunFolder


def conformal_scores(study: Path, models: Sequence[Mapping[str, Any]], is_number: bool) -> dict[str, Any]:
    """The conformal scores of an input's tuning parts.

    Args:
        study: The study's folder.
        models: The models as the freeze has them.
        is_number: Whether a number is predicted.
    """
    folds = []
    for model in models:
        rows = RunFolder(study / model["run"]).result()[0].of("tuning")
        if is_number:
            folds.append({"fold": model["fold"], "residuals": np.sort(rows.y - rows.p).tolist()})
            continue
        odds = clipped_logit(rows.p) / model["temperature"]
        of_class = {str(label): np.sort((odds if label else -odds)[rows.y == label]).tolist() for label in (0, 1)}
        folds.append({"fold": model["fold"], **of_class})
    return {"kind": "residual" if is_number else "log_odds", "folds": folds}
