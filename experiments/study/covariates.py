"""Covariates that a network is given beside the image: standardised on the training part of a fold, gaps filled there.

A number is one value in SDs of the training part; a text of two values is one such value, one of three to five is one for each.
What is missing takes the training part's median (numbers) or commonest value (texts), and is counted. What was fitted stands in
run.json, so that an external cohort meets the numbers of the training part, never its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort.covariates import text_of
from datamodules.cohort.images import indicator
from datamodules.cohort.records import Cohort, Scan
from datamodules.files.atomic import content_sha256
from experiments.runtime.words import rounded
from experiments.study.trainer_options import SettingsError
from lightning_modules.covariates import SLOTS, covariate_names

OPTION = "--network.covariates"
LARGEST = 1e30
"""A number of this size or more is taken as a typing error, as ``inf`` is: standardised, it can be infinite in float32."""
Parts = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Covariate:
    """How one covariate becomes numbers; fitted on the training part of a fold.

    Attributes:
        name: Of its column.
        levels: Values of a text in alphabetical order; empty for a number.
        fill: What a scan without it gets: the median, or the place in `levels` of the commonest value.
        means: Of its numbers in the training part: one, or one for each of three levels or more.
        sds: Their standard deviations; 0 where no scan of the training part lacks an image, which then is not told.
        missing: Part -> scans without it, or with a value that the training part has not.
    """

    name: str
    levels: tuple[str, ...]
    fill: float
    means: tuple[float, ...]
    sds: tuple[float, ...]
    missing: Mapping[str, int]

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Covariate:
        """From run.json."""
        content: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()}
        return cls(**content)

    def plain(self) -> dict[str, Any]:
        """As it stands in run.json."""
        return asdict(self)

    def values(self, scans: Sequence[Scan]) -> npt.NDArray[np.float64]:
        """(n,) numbers, or places in `levels`; NaN where it is missing or unknown to the training part.

        What did not vary there is taken as it was there, since no network knows another value.
        """
        if self.sds and not any(self.sds):
            return np.full(len(scans), self.fill)
        texts = [text_of(scan.covariates, self.name) for scan in scans]
        if not self.levels:
            return np.array([_number(text) for text in texts])
        return np.array([self.levels.index(text) if text in self.levels else np.nan for text in texts])

    def columns(self, scans: Sequence[Scan]) -> npt.NDArray[np.float64]:
        """(n, SLOTS) standardised; the places that it does not need are 0."""
        seen = self.spread(scans)
        out = np.zeros((len(scans), SLOTS))
        np.divide(seen - self.means, self.sds, out=out[:, : seen.shape[1]], where=np.array(self.sds) > 0)
        return out

    def spread(self, scans: Sequence[Scan]) -> npt.NDArray[np.float64]:
        """(n, k) without gaps: a number or one of two values as it is, one of more as 0 and 1 for each."""
        values = self.values(scans)
        values = np.where(np.isnan(values), self.fill, values)[:, None]
        return values if len(self.levels) < 3 else (values == np.arange(len(self.levels))).astype(np.float64)

    @property
    def given(self) -> str:
        """What a scan without it gets, as people read it."""
        return self.levels[int(self.fill)] if self.levels else rounded(self.fill, 6)

    def filled(self, part: str, scans: Sequence[Scan]) -> str:
        """How many of other scans lack it and what they get; empty where none does."""
        return replace(self, missing={part: int(np.isnan(self.values(scans)).sum())}).message

    @property
    def message(self) -> str:
        """How many scans lack it and what they get; empty where none does."""
        counts = ", ".join(f"{count} {part.replace('_', ' ')}" for part, count in self.missing.items() if count)
        return f"{self.name} is missing or new in {counts} scans, which get the training part's {self.given}" if counts else ""


def fit_covariates(names: str, cohort: Cohort, parts: Parts, fold: int) -> list[Covariate]:
    """Fit the covariates of a network on the training part of a fold.

    Args:
        names: Separated by commas.
        cohort: The scans, and what is told from them.
        parts: Part -> rows of the cohort.
        fold: Which fold, for messages.

    Raises:
        SettingsError: if one is not a column, has one value only, holds a number that is not finite, is a text of more than
            ``SLOTS`` values, or is the label.
    """
    return [_fitted(name, cohort, parts, fold) for name in covariate_names(names)]


def table_of(covariates: Sequence[Covariate], scans: Sequence[Scan]) -> npt.NDArray[np.float32] | None:
    """(n, covariates * SLOTS) as a network takes them; None without covariates."""
    if not covariates:
        return None
    return np.concatenate([covariate.columns(scans) for covariate in covariates], axis=1, dtype=np.float32)


def covariates_hash(names: str, scans: Sequence[Scan]) -> str:
    """SHA-256 of what scans have of covariates, separated by commas; empty without any.

    Whether an image is there is left out: the images themselves tell it.
    """
    told = {indicator(image) for image in scans[0].names}
    values = {name: [text_of(scan.covariates, name) for scan in scans] for name in covariate_names(names) if name not in told}
    return content_sha256(values) if values else ""


def _fitted(name: str, cohort: Cohort, parts: Parts, fold: int) -> Covariate:
    scans, target = cohort.scans, cohort.rule
    known = sorted({text for scan in scans if (text := text_of(scan.covariates, name))})
    if name.lower() == "label" or target.owns(name):
        raise SettingsError(f"{OPTION} {name}: that is the label itself; leave it out")
    if not known:
        columns = ", ".join(sorted({column for scan in scans for column in scan.covariates})) or "none"
        raise SettingsError(f"{OPTION} {name}: the cohort has no such column, or no value in it; its covariates are {columns}")
    _refuse_infinite(name, known)
    levels: tuple[str, ...] = ()
    train = [scans[row] for row in parts["train"]]
    if any(np.isnan(_number(text)) for text in known):
        if len(known) > SLOTS:
            given = f"{known[0]!r}, {known[1]!r} and {len(known) - 2} more"
            raise SettingsError(f"{OPTION} {name}: a text of {len(known)} values ({given}); give a number, or {SLOTS} at most")
        levels = tuple(sorted({text_of(scan.covariates, name) for scan in train} - {""}))
    bare = Covariate(name, levels, 0.0, (), (), {})
    values = bare.values(train)
    values = values[~np.isnan(values)]
    if np.unique(values).size < 2 and name not in map(indicator, cohort.scans[0].names):
        raise SettingsError(f"{OPTION} {name}: one value only in the training part of fold {fold}; leave it out")
    _refuse_label(name, bare.values(scans), cohort)
    bare = replace(bare, fill=float(Counter(values.tolist()).most_common(1)[0][0] if levels else np.median(values)))
    seen = bare.spread(train)
    missing = {part: int(np.isnan(bare.values([scans[row] for row in rows])).sum()) for part, rows in parts.items()}
    return replace(bare, means=tuple(seen.mean(axis=0).tolist()), sds=tuple(seen.std(axis=0).tolist()), missing=missing)


def _refuse_infinite(name: str, texts: Sequence[str]) -> None:
    """Refuse a column of numbers one of which is infinite, or as good as that."""
    numbers = [value for text in texts if (value := _read(text)) is not None]
    odd = [text for text in texts if np.isnan(_number(text))]
    if odd and len(numbers) == len(texts):
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise SettingsError(
            f"{OPTION} {name}: {odd[0]!r}{more} in a column of numbers; give finite ones below 1e30, or leave the cells empty"
        )


def _refuse_label(name: str, values: npt.NDArray[np.float64], cohort: Cohort) -> None:
    """Refuse a column that is the score, or whose few values each stand in one class only."""
    score = np.array([scan.value for scan in cohort.scans], dtype=np.float64)
    label = score if cohort.rule.kind == "regression" else np.array([scan.label for scan in cohort.scans], dtype=np.float64)
    seen = ~np.isnan(values)
    few = np.unique(values[seen])
    divides = few.size <= SLOTS and all(np.ptp(label[values == value]) == 0 for value in few)
    if divides or np.array_equal(values[seen], score[seen]):
        raise SettingsError(f"{OPTION} {name}: it says the label of every scan; leave it out")


def _number(text: str) -> float:
    """NaN where a text is no number that a network can be given."""
    value = _read(text)
    return value if value is not None and abs(value) < LARGEST else float("nan")


def _read(text: str) -> float | None:
    """What a text says as a number, infinite or not a number among them; None where it is a word."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None
