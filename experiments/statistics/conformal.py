"""Sets of labels that hold the true one with a chosen frequency, from the tuning parts of all folds, each label on its own.

Each patient is tuned on in exactly one fold, so that every network has scores of patients it did not train on. A new scan is
ranked among them: by the network of fold k among the tuning scans of fold k, and the ranks are added over the folds. That is
the cross-conformal p-value; taken for each label among the patients of that label (Mondrian), the rate of error holds in each
class. What a monotone change of a network's probabilities does to all of its scans, such as a temperature, changes nothing.

A patient counts once: each of its n scans of one label weighs 1 / n. The set of a scan at level 1 - a holds the labels whose
p-value exceeds a. At 90 % a label with fewer than 9 patients is never excluded (``least_patients``).

A p-value of one fold is uniform for exchangeable patients. The mean over folds is not: the less the networks agree, the nearer
it is to 1/2, and sets come out too wide. ``calibrated_p`` brings it back to uniform with the distribution of a mean of
equally correlated uniforms (normal copula). The correlation is that of the two networks that a patient was not a training
case of, the one tuned and the one tested on it, and its upper 90 % bound is taken, so that what error there is makes sets
wider. How near to the level that comes is in docs/statistics.md; the tuning part also chose the epoch of its network, and what
that costs is in the coverage measured on the internal test parts (``measured_coverage``).

References:
    Vovk, Cross-conformal predictors, Ann Math Artif Intell 2015;74:9-28, doi 10.1007/s10472-013-9368-4.
    Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, Springer 2005, section 4.5 (Mondrian).
    Lee, Barber, Willett, Distribution-free inference with hierarchical data, 2023, arXiv 2306.06342 (weights 1 / n).
    Linusson et al., On the calibration of aggregated conformal predictors, PMLR 2017;60:154-173 (means over folds are
    conservative where the models differ). The correction is our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, qmc, rankdata

from experiments.statistics.calibration import clipped_logit
from experiments.statistics.predictions import FloatArray, IntArray, PredictionsError

LEVELS = (0.8, 0.9, 0.95)
"""Levels at which coverage is measured, and which can be asked for."""
LABELS = (0, 1)
AGREEMENT_LEVEL = 0.9
"""One-sided level of the upper bound of the networks' correlation."""
POINTS = 2**13
"""Points of the lattice on which the distribution of a mean p-value is computed; it is known to 0.003 then."""
ROUNDING = 1e-9
"""Sums of weights and products with a level are compared with this tolerance."""


@dataclass(frozen=True)
class LabelScores:
    """Scores of one label in the tuning part of one fold, ascending; the higher, the less a scan is like the label.

    ``patients`` counts its patients; ``weights`` sum to it.
    """

    fold: int
    label: int
    patients: int
    scores: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Coverage:
    """How often the sets of internal test scans held the true label, each ranked in the tuning part of its own fold alone.

    Shares are of patients, a patient's scans of the label weighing 1 / n each.

    Attributes:
        level: What was aimed at.
        label: 0 or 1.
        patients: Test patients with the label.
        covered: Share whose set held the label.
        alone: Share whose set held the label and nothing else.
        wrong: Share whose set held the other label alone.
        empty: Share whose set was empty.
        decidable: Share in folds whose tuning part has patients enough to exclude this label.
    """

    level: float
    label: int
    patients: int
    covered: float
    alone: float
    wrong: float
    empty: float
    decidable: float


@dataclass(frozen=True)
class ConformalScores:
    """All that is kept to make sets of new scans, and the coverage that was measured; no scan can be told in it.

    ``agreement`` holds for each label the correlation of the networks' ranks, at its upper bound; 1 where it is unknown.
    """

    folds: tuple[int, ...]
    scores: tuple[LabelScores, ...]
    agreement: tuple[float, float] = (1.0, 1.0)
    coverage: tuple[Coverage, ...] = ()

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> ConformalScores:
        """From plain JSON content, as ``dataclasses.asdict`` gives it."""
        scores = (LabelScores(**{**item, "scores": tuple(item["scores"]), "weights": tuple(item["weights"])})
                  for item in recorded["scores"])  # fmt: skip
        coverage = tuple(Coverage(**item) for item in recorded["coverage"])
        negative, positive = recorded["agreement"]
        return cls(tuple(recorded["folds"]), tuple(scores), (float(negative), float(positive)), coverage)

    def patients(self, label: int) -> int:
        """Patients of a label over all folds."""
        return sum(part.patients for part in self.scores if part.label == label)

    def coverage_at(self, level: float, label: int) -> Coverage | None:
        """The coverage measured at a level, None where no test patient has the label."""
        return next((item for item in self.coverage if item.label == label and abs(item.level - level) < ROUNDING), None)


@dataclass(frozen=True)
class Part:
    """Scans of one part of a fold with the probabilities of the fold's network: columns of equal length."""

    patient: Sequence[str]
    session: Sequence[str]
    y: IntArray
    p: FloatArray

    @property
    def scans(self) -> list[tuple[str, str]]:
        """Patient and session of each scan."""
        return [(str(patient), str(session)) for patient, session in zip(self.patient, self.session, strict=True)]


def least_patients(level: float) -> int:
    """Patients of a label from which on it can be excluded at a level: 9 at 90 %, 19 at 95 %, 4 at 80 %."""
    return ceil(level / (1 - level) - ROUNDING)


def conformal_scores(tuning: Mapping[int, Part], test: Mapping[int, Part] | None = None) -> ConformalScores:
    """Scores of the tuning parts, and the coverage of the internal test parts.

    Args:
        tuning: Fold -> its tuning scans, with the probabilities of that fold's own network.
        test: Fold -> its internal test scans, the same; without them no coverage is measured.

    Raises:
        PredictionsError: if a patient is tuned on in two folds, a label is not 0 or 1, or a probability is unusable.
    """
    _refuse_repeated(tuning)
    scores = tuple(_label_scores(fold, label, tuning[fold]) for fold in sorted(tuning) for label in LABELS)
    bare = ConformalScores(tuple(sorted(tuning)), scores)
    if not test:
        return bare
    agreement = networks_agreement(tuning, test, 0), networks_agreement(tuning, test, 1)
    return ConformalScores(bare.folds, scores, agreement, measured_coverage(bare, test))


def _refuse_repeated(tuning: Mapping[int, Part]) -> None:
    seen: dict[str, int] = {}
    for fold, part in tuning.items():
        if not np.isin(part.y, LABELS).all() or not np.isfinite(part.p).all():
            raise PredictionsError(f"tuning part of fold {fold}: labels must be 0 or 1, probabilities finite")
        for patient in set(map(str, part.patient)):
            if seen.setdefault(patient, fold) != fold:
                raise PredictionsError(f"patient {patient} is tuned on in folds {seen[patient]} and {fold}; in one only")


def _label_scores(fold: int, label: int, part: Part) -> LabelScores:
    rows = part.y == label
    patients = np.asarray(part.patient)[rows]
    scores, weights = nonconformity(part.p[rows], label), patient_weights(patients)
    order = np.argsort(scores, kind="stable")
    count = int(np.unique(patients).size)
    return LabelScores(fold, label, count, tuple(scores[order].tolist()), tuple(weights[order].tolist()))


def patient_weights(patients: npt.NDArray[Any]) -> FloatArray:
    """(n,) 1 / number of scans of the scan's patient."""
    if not len(patients):
        return np.empty(0)
    _, index, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[index])


def nonconformity(p: npt.ArrayLike, label: int) -> FloatArray:
    """How unlike a label scans are, from the probabilities of label 1: the log odds against the label."""
    odds = clipped_logit(p)
    return -odds if label else odds


def p_values(kept: ConformalScores, p: FloatArray) -> FloatArray:
    """Cross-conformal p-values of new scans.

    Args:
        kept: Scores of the tuning parts.
        p: (scans, folds) probabilities of each fold's network, folds in the order of ``kept.folds``.

    Returns:
        (scans, 2) for labels 0 and 1: the share of tuning patients of the label, and the scan itself, that are at least as
        unlike the label as the scan is.
    """
    if p.ndim != 2 or p.shape[1] != len(kept.folds):
        raise PredictionsError(
            f"probabilities have shape {p.shape}; there must be a column for each of {len(kept.folds)} folds"
        )
    values = np.empty((len(p), len(LABELS)))
    for label in LABELS:
        counts = np.zeros(len(p))
        for column, fold in enumerate(kept.folds):
            part = next(part for part in kept.scores if (part.fold, part.label) == (fold, label))
            counts += _weight_from(part, nonconformity(p[:, column], label))
        values[:, label] = (counts + 1) / (kept.patients(label) + 1)
    return values


def _weight_from(part: LabelScores, scores: FloatArray) -> FloatArray:
    """The weight of the tuning scans whose score is at least each of some scores."""
    above = np.concatenate([np.cumsum(np.asarray(part.weights)[::-1])[::-1], [0.0]])
    return np.asarray(above[np.searchsorted(np.asarray(part.scores), scores, side="left")])


def calibrated_p(kept: ConformalScores, p: FloatArray) -> FloatArray:
    """p-values (scans, 2) as ``p_values``, made uniform for what averaging over the folds did to them."""
    values = p_values(kept, p)
    for label in LABELS:
        enough = kept.patients(label) >= 1
        if enough and len(kept.folds) > 1 and kept.agreement[label] < 1:
            values[:, label] = mean_distribution(values[:, label], len(kept.folds), kept.agreement[label])
    return values


def mean_distribution(values: FloatArray, count: int, correlation: float) -> FloatArray:
    """Probability (n,) that the mean of ``count`` uniforms is at most each value, their normal scores being so correlated."""
    points = qmc.Sobol(count + 1, scramble=False).random(POINTS)
    normal = norm.ppf((points * (POINTS - 1) + 0.5) / POINTS)
    uniforms = norm.cdf(np.sqrt(correlation) * normal[:, :1] + np.sqrt(1 - correlation) * normal[:, 1:])
    means = np.sort(uniforms.mean(axis=1))
    return np.asarray(np.interp(values, means, (np.arange(POINTS) + 0.5) / POINTS, left=0.0, right=1.0))


def networks_agreement(tuning: Mapping[int, Part], test: Mapping[int, Part], label: int) -> float:
    """The upper bound of the correlation of two networks' scores of one label, on scans that neither trained on.

    Normal scores of the ranks within each part are compared, a patient's scans weighing 1 / n each. The bound is Fisher's, with
    as many patients as there are, less one for each part.

    Returns:
        0 ... 1; 1 where fewer than ten patients are left to say it.
    """
    first, second = (_normal_scores(parts, label) for parts in (tuning, test))
    shared = sorted(set(first) & set(second))
    if not shared:
        return 1.0
    pairs = np.array([(first[scan], second[scan]) for scan in shared])
    weights = patient_weights(np.array([patient for patient, _ in shared]))
    known = float(weights.sum()) - len(tuning)
    squares = weights @ pairs**2
    if known < 10 or not squares.all():
        return 1.0
    value = float(weights @ (pairs[:, 0] * pairs[:, 1]) / np.sqrt(squares.prod()))
    bound = np.tanh(np.arctanh(np.clip(value, -0.999, 0.999)) + norm.ppf(AGREEMENT_LEVEL) / np.sqrt(known - 3))
    return float(np.clip(bound, 0, 1))


def _normal_scores(parts: Mapping[int, Part], label: int) -> dict[tuple[str, str], float]:
    """Normal scores of the ranks of a label's scans within each part; parts with one such scan say nothing."""
    scores: dict[tuple[str, str], float] = {}
    for part in parts.values():
        rows = np.flatnonzero(part.y == label)
        if len(rows) > 1:
            ranks = (rankdata(nonconformity(part.p[rows], label)) - 0.5) / len(rows)
            scores |= dict(zip((part.scans[row] for row in rows), norm.ppf(ranks).tolist(), strict=True))
    return scores


def prediction_sets(kept: ConformalScores, p: FloatArray, level: float) -> npt.NDArray[np.bool_]:
    """(scans, 2) whether each label is in the set of a scan; a label with too few patients always is.

    Args:
        kept: Scores of the tuning parts.
        p: (scans, folds) probabilities of each fold's network.
        level: Wanted share of scans, in each class, whose set holds the true label.
    """
    few = [kept.patients(label) < least_patients(level) for label in LABELS]
    return label_sets(calibrated_p(kept, p), level) | np.array(few)


def label_sets(values: FloatArray, level: float) -> npt.NDArray[np.bool_]:
    """(scans, 2) whether each label is in the set at a level, from p-values (scans, 2)."""
    return np.asarray(values > 1 - level + ROUNDING)


def set_name(members: Sequence[bool] | npt.NDArray[np.bool_]) -> str:
    """A set in one word: ``negative``, ``positive``, ``undecided`` for both, ``neither`` for a scan that is unlike both."""
    names = {(True, False): "negative", (False, True): "positive", (True, True): "undecided", (False, False): "neither"}
    return names[bool(members[0]), bool(members[1])]


def measured_coverage(kept: ConformalScores, test: Mapping[int, Part]) -> tuple[Coverage, ...]:
    """Coverage on internal test parts: each scan by the network of its fold, ranked in that fold's tuning part alone.

    A test patient is in the training part of the other folds, so that the sum over folds cannot be measured here. With few
    tuning patients in a fold the sets are wider than those of new scans; ``decidable`` says how often that is so.
    """
    folds = [_ranked(kept, fold, part) for fold, part in sorted(test.items())]
    ranked = _Ranked(*(np.concatenate(column) for column in zip(*map(_Ranked.columns, folds), strict=True)))
    return tuple(item for level in LEVELS for label in LABELS if (item := _coverage(level, label, ranked)) is not None)


@dataclass(frozen=True)
class _Ranked:
    """Test scans: p-values (n, 2), labels, weights, and how many tuning patients of each label they were ranked among."""

    values: FloatArray
    y: IntArray
    weights: FloatArray
    ranked_among: IntArray

    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.values, self.y, self.weights, self.ranked_among


def _ranked(kept: ConformalScores, fold: int, part: Part) -> _Ranked:
    alone = ConformalScores((fold,), tuple(item for item in kept.scores if item.fold == fold))
    values = p_values(alone, np.asarray(part.p)[:, None])
    keys = np.array([f"{label}\t{patient}" for label, patient in zip(part.y, part.patient, strict=True)])
    counts = np.tile([alone.patients(label) for label in LABELS], (len(part.y), 1))
    return _Ranked(values, np.asarray(part.y), patient_weights(keys), counts)


def _coverage(level: float, label: int, ranked: _Ranked) -> Coverage | None:
    rows = ranked.y == label
    if not rows.any():
        return None
    members, weight = label_sets(ranked.values[rows], level), ranked.weights[rows]

    def share(flags: npt.NDArray[np.bool_]) -> float:
        return float(weight @ flags / weight.sum())

    right, other = members[:, label], members[:, 1 - label]
    decidable = share(ranked.ranked_among[rows, label] >= least_patients(level))
    patients = round(float(weight.sum()))
    return Coverage(level, label, patients, share(right), share(right & ~other), share(~right & other),
                    share(~right & ~other), decidable)  # fmt: skip
