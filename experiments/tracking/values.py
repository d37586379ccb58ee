"""Results as the plain numbers, tables and pages that the experiment tracker shows; no W&B here."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tracking.options import TrackingError


def finite(value: object) -> object:
    """Return None in place of NaN and infinity: an empty cell."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def defined(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Leave out what is undefined: None, NaN and infinity are never sent, least of all as 0."""
    return {key: float(value) for key, value in metrics.items() if value is not None and math.isfinite(value)}


def roc_points(truth: Sequence[int], p: np.ndarray) -> list[list[float]]:
    """ROC as [1 - specificity, sensitivity], from (0, 0) to (1, 1), one point per distinct probability."""
    order = np.argsort(-np.asarray(p, dtype=float), kind="stable")
    sorted_p, sorted_y = np.asarray(p, dtype=float)[order], np.asarray(truth)[order]
    last = np.append(np.flatnonzero(np.diff(sorted_p)), len(sorted_p) - 1)
    hits, alarms = np.cumsum(sorted_y)[last], np.cumsum(1 - sorted_y)[last]
    points = np.column_stack([alarms / alarms[-1], hits / hits[-1]])
    return [[0.0, 0.0], *points.tolist()]


def as_html(name: str, path: Path) -> str:
    """Embed a figure in a page of its own, so that no image library is needed."""
    kind = path.suffix.lower()
    if kind == ".html":
        return path.read_text(encoding="utf-8")
    types = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
    if kind not in types:
        raise TrackingError(f"figure {path.name}: allowed are .svg, .png, .jpg, .jpeg, .html")
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(name)}" style="max-width:100%" src="data:{types[kind]};base64,{data}">'
