"""What is said of a scan: typed here, written as JSON and tables by ``experiments.predicting.files``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from datamodules.cohort.records import scan_name
from experiments.statistics.numeric import decimals

Verdict = Literal["ok", "look", "refused"]
RANK: Mapping[str, int] = {"ok": 0, "look": 1, "refused": 2}
NOTICE = "Research use only, not a medical device. No decision about a patient may rest on it."


@dataclass(frozen=True)
class Reason:
    """Why a scan is not simply ``ok``: what is wrong, and value and limit in words."""

    verdict: Verdict
    message: str
    detail: str = ""

    @property
    def text(self) -> str:
        """Both in one."""
        return f"{self.message} ({self.detail})" if self.detail else self.message


def worst(reasons: tuple[Reason, ...]) -> Verdict:
    """The verdict that reasons give together."""
    return max((reason.verdict for reason in reasons), key=RANK.__getitem__, default="ok")


@dataclass(frozen=True)
class ClassPrediction:
    """The probability of the positive class, and what follows from it.

    Attributes:
        probability: Mean of the folds' calibrated probabilities, the study's primary model, as ``external`` has it.
        probability_log_odds: The same by the mean of their log odds.
        folds: Calibrated probability of each fold's network.
        sd: Standard deviation over the folds.
        threshold: Mean of the folds' thresholds on the calibrated scale.
        decision: ``positive`` from the threshold on.
        label_set: ``negative``, ``positive``, ``undecided`` or ``neither``, at the level asked for.
        p_negative: Conformal p-value of the negative class.
        p_positive: Of the positive class.
        at_prevalence: Probability at the prevalence asked for.
    """

    probability: float
    probability_log_odds: float
    folds: tuple[float, ...]
    sd: float
    threshold: float
    decision: str
    label_set: str
    p_negative: float
    p_positive: float
    at_prevalence: float | None = None


@dataclass(frozen=True)
class NumberPrediction:
    """A predicted number: mean over the folds, their values and SD, and the interval at the level asked for."""

    number: float
    folds: tuple[float, ...]
    sd: float
    low: float
    high: float

    @property
    def digits(self) -> int:
        """Digits after the point that it is shown with: two figures of half its interval, or of the SD without one."""
        half = (self.high - self.low) / 2
        return decimals(half if isfinite(half) else self.sd)

    def shown(self, value: float) -> str:
        """One of its numbers as people read it."""
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class InputOutcome:
    """What one input says of a scan; no prediction where the scan is refused."""

    input: str
    reasons: tuple[Reason, ...] = ()
    feature_distance: float | None = None
    prediction: ClassPrediction | NumberPrediction | None = None

    @property
    def verdict(self) -> Verdict:
        """Of this input alone."""
        return worst(self.reasons)


@dataclass(frozen=True)
class ScanOutcome:
    """What is said of a scan; ``numbers`` are its quality numbers, ``z`` how far they lie from the training cohort's."""

    patient: str
    session: str
    reasons: tuple[Reason, ...]
    inputs: tuple[InputOutcome, ...] = ()
    numbers: Mapping[str, float] | None = None
    z: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        """``patient`` or ``patient/session``."""
        return scan_name(self.patient, self.session)

    @property
    def stem(self) -> str:
        """``patient`` or ``patient_session``, as files are named; with ``sub-`` and ``ses-``."""
        parts = (self.patient.removeprefix("sub-"), self.session.removeprefix("ses-"))
        return "_".join(f"{key}-{value}" for key, value in zip(("sub", "ses"), parts, strict=True) if value)

    @property
    def verdict(self) -> Verdict:
        """Of the scan, whatever single inputs say."""
        return worst(self.reasons)

    def of_input(self, outcome: InputOutcome) -> tuple[Verdict, tuple[Reason, ...]]:
        """Verdict and reasons of a row: the scan's and the input's."""
        reasons = (*self.reasons, *outcome.reasons)
        return worst(reasons), reasons

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> ScanOutcome:
        """From plain JSON content."""
        inputs = tuple(_input(item) for item in content["inputs"])
        return cls(
            content["patient"], content["session"], _reasons(content["reasons"]), inputs, content["numbers"], content["z"]
        )


def _reasons(items: Any) -> tuple[Reason, ...]:
    return tuple(Reason(**item) for item in items)


def _input(content: Mapping[str, Any]) -> InputOutcome:
    given = content["prediction"]
    prediction: ClassPrediction | NumberPrediction | None = None
    if given is not None:
        kind = ClassPrediction if "probability" in given else NumberPrediction
        infinite = {key: float(end) for key, end in (("low", "-inf"), ("high", "inf")) if key in given and given[key] is None}
        prediction = kind(**{**given, **infinite, "folds": tuple(given["folds"])})
    return InputOutcome(content["input"], _reasons(content["reasons"]), content["feature_distance"], prediction)
