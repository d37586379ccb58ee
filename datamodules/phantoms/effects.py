"""How a planted effect becomes numbers: severity, the EDSS, and changes that differ between the classes by Cohen's d.

Severity s is standard normal. The true EDSS is an ordered cut of s with 30 % at or above 3.0; the recorded EDSS strays
from it as raters do. A change z is s plus noise, in such a mixture that the two recorded classes differ by d; z has
within-class standard deviation 1 and mean 0 over the cohort.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import numpy as np

from datamodules.phantoms.presets import PhantomError, PhantomPreset

CUT = 3.0
PREVALENCE = 0.30

EDSS_SHARES: Mapping[float, float] = {
    0.0: 0.09, 1.0: 0.14, 1.5: 0.16, 2.0: 0.19, 2.5: 0.12,
    3.0: 0.09, 3.5: 0.07, 4.0: 0.05, 4.5: 0.025, 5.0: 0.015, 5.5: 0.012, 6.0: 0.02, 6.5: 0.01, 7.0: 0.005, 7.5: 0.003,
}  # fmt: skip
"""How often each true EDSS occurs: median 2.0, 30 % at or above 3.0."""

RATER_STEPS: Mapping[int, float] = {-2: 0.0125, -1: 0.09, 0: 0.795, 1: 0.09, 2: 0.0125}
"""How many steps of the scale a recorded EDSS lies from the true one, and how often."""

SCALE = np.array(list(EDSS_SHARES))
"""The values of the EDSS that occur; there is no 0.5."""

_UPPER = np.cumsum(list(EDSS_SHARES.values()))


def true_step(severity: float) -> int:
    """Return the index on the EDSS scale (0 for 0, 1 for 1.0, 2 for 1.5, ...) that belongs to a severity."""
    share = 0.5 * math.erfc(-severity / math.sqrt(2))
    return int(np.searchsorted(_UPPER[:-1], share, side="right"))


def severity_class(severity: float) -> int:
    """Return 1 when the true EDSS is 3.0 or more."""
    return int(SCALE[true_step(severity)] >= CUT)


def change(preset: PhantomPreset, effect: float, severity: float, noise: float) -> float:
    """Mix severity and noise so that the recorded classes differ by `effect` within-class standard deviations.

    Args:
        preset: gives the gap between the classes and whether raters err.
        effect: Cohen's d, 0 or more.
        severity: standard normal.
        noise: standard normal, independent of severity.

    Raises:
        PhantomError: the effect is larger than severity itself allows.
    """
    if effect == 0:
        return noise
    apart, inside = class_distance(preset)
    spread = (apart / effect) ** 2 - inside
    if effect < 0 or spread < 0:
        limit = apart / math.sqrt(inside)
        raise PhantomError(f"Preset {preset.name!r}: an effect must lie between 0 and {limit:.2f}, not {effect:g}.")
    centred = severity + preset.class_gap * (severity_class(severity) - PREVALENCE)
    return (centred + math.sqrt(spread) * noise) / math.sqrt(inside + spread)


def class_distance(preset: PhantomPreset) -> tuple[float, float]:
    """Return how far severity differs between the recorded classes: the means' difference and the variance within."""
    both = PREVALENCE * (1 - PREVALENCE)
    cut = 0.5244005127080407  # 70 % of a standard normal lie below
    means = math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi) / both
    total = 1 - both * means**2 + both * (means + preset.class_gap) ** 2
    apart = (means + preset.class_gap) * (_agreement() if preset.rater_noise else 1.0)
    return apart, total - both * apart**2


@cache
def _agreement() -> float:
    """Return P(true class 1 | recorded 1) - P(true class 1 | recorded 0)."""
    shares = np.array(list(EDSS_SHARES.values()))
    recorded = np.zeros((2, 2))
    for step, share in enumerate(shares):
        for stray, chance in RATER_STEPS.items():
            seen = int(np.clip(step + stray, 0, len(SCALE) - 1))
            recorded[int(SCALE[seen] >= CUT), int(SCALE[step] >= CUT)] += share * chance
    return float(recorded[1, 1] / recorded[1].sum() - recorded[0, 1] / recorded[0].sum())


def best_distance(preset: PhantomPreset) -> float:
    """Return the d between the classes that the best linear combination of all planted changes reaches.

    No model can do better, on average, than one that reads this combination: its AUC is Phi(d / sqrt(2)).

    References:
        Mahalanobis 1936, Proc Natl Inst Sci India 2:49-55 (the distance).
    """
    effects = [(d, True) for d in preset.shape_effects.values() if d] + [
        (d, False) for d in preset.intensity_effects.values() if d
    ]
    if not effects:
        return 0.0
    apart, inside = class_distance(preset)
    wanted = np.array([d for d, _ in effects])
    is_shape = np.array([shape for _, shape in effects], float)
    on_severity = wanted / apart
    on_noise = np.sqrt(np.maximum(1 - inside * on_severity**2, 0))
    shared = preset.shared_noise * np.outer(on_noise * is_shape, on_noise * is_shape)
    covariance = inside * np.outer(on_severity, on_severity) + shared
    np.fill_diagonal(covariance, 1.0)
    return float(np.sqrt(wanted @ np.linalg.solve(covariance, wanted)))
