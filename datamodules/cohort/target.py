"""What is to be told from the images: a column of the cohort's tables, and how its cells become labels.

Rules belong to the target. EDSS, the default, brings its scale, a threshold of 3.0, a window of six months after the scan (Coll
et al. 2024), and what its source and a relapse before it mean. Any other column brings no rule but those that are given.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Literal

from datamodules.cohort.covariates import COLUMNS, OLDEST, decimal_points, uncapped_age, usual_spelling
from datamodules.files.tables import MISSING, CohortError

Kind = Literal["binary", "ordinal", "regression"]
EDSS = "edss"
EDSS_SCALE = (0.0, *(half / 2 for half in range(2, 21)))
"""The 20 valid steps of the EDSS: 0, 1.0, 1.5, ... 10 (Kurtzke, Neurology 1983;33:1444)."""
BETWEEN_STEPS = 0.5
"""Not on the EDSS, yet often written; its class is certain whenever the threshold, or every cut, lies above 1."""
EDSS_THRESHOLD = 3.0
EDSS_RULES = {"threshold": EDSS_THRESHOLD, "min_days": 0, "max_days": 183, "undated": "exclude"}
"""What EDSS brings where nothing else is asked for."""
NUMBER = re.compile(r"[-+]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][-+]?[0-9]{1,2})?")


@dataclass(frozen=True)
class Target:
    """Which column holds the label of a scan, how its cells become one, and how a probability becomes a decision for one."""

    column: str = EDSS
    """The column that holds it: in the cohort's table, a phenotype table, sessions.tsv or participants.tsv."""
    kind: Literal["binary", "ordinal", "regression"] = "binary"
    """binary: two classes; ordinal: steps in an order, cut at ``cuts``; regression: the number itself."""
    threshold: float | None = None
    """binary, of numbers: positive is a value of at least this; 3.0 where the column is edss."""
    direction: Literal["at_least", "below"] = "at_least"
    """binary, of numbers: which side of the threshold is positive."""
    positive: tuple[str, ...] | str = ()
    """binary, of names: values of the positive class, a comma between them; values of neither class are excluded."""
    negative: tuple[str, ...] | str = ()
    """binary, of names: the values of the negative class."""
    cuts: tuple[float, ...] = ()
    """ordinal: a scan's step is the number of these that its value reaches; ascending."""
    units: str = ""
    """Unit of the values, for tables and figures."""
    low: float | None = None
    """Lowest possible value; a scan below it is excluded."""
    high: float | None = None
    """Highest possible value; a scan above it is excluded."""
    min_days: int | None = None
    """Earliest assessment, in days after the scan, of the EDSS 0; negative allows one before the scan."""
    max_days: int | None = None
    """Latest assessment, in days after the scan, of the EDSS 183."""
    undated: Literal["exclude", "keep"] | None = None
    """What happens to a scan whose time to the assessment is unknown; unset: excluded where there is a window."""
    source: str = ""
    """Which source counts, for example clinician; 'any' allows several in one study, empty refuses a mixture."""
    relapse_days: int = 0
    """A score within so many days after the onset of a relapse does not count; 0: relapses are not looked at."""
    decision: Literal["midpoint", "balanced_accuracy", "prior"] = "midpoint"
    """Where a fold's threshold lies: midpoint of the classes' mean log odds or highest balanced accuracy on the tuning part; or
    the training part's share of positive scans."""

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, ("binary", "ordinal", "regression"))
        _one_of("direction", self.direction, ("at_least", "below"))
        _one_of("undated", self.undated, ("exclude", "keep", None))
        _one_of("decision", self.decision, ("midpoint", "balanced_accuracy", "prior"))
        for name in ("positive", "negative"):
            given = getattr(self, name)
            names = given.split(",") if isinstance(given, str) else given
            self._set(name, tuple(" ".join(str(value).split()) for value in names if str(value).strip()))
        self._set("column", self.column.strip())
        self._set("source", self.source.strip().casefold())
        self._set("cuts", tuple(float(cut) for cut in self.cuts))
        if self.is_edss:
            unset = {name: value for name, value in EDSS_RULES.items() if getattr(self, name) is None}
            for name, value in unset.items():
                if name != "threshold" or self.kind == "binary":
                    self._set(name, value)
        if self.covariate == "age" and not self.is_named:
            self._set("low", 0.0 if self.low is None else self.low)
            self._set("high", float(OLDEST) if self.high is None else self.high)
        if self.undated is None:
            self._set("undated", "exclude" if self.has_window else "keep")
        self._check_column()
        self._check_kind()
        if self.min_days is not None and self.max_days is not None and self.min_days > self.max_days:
            raise CohortError(f"label.min_days {self.min_days} is later than label.max_days {self.max_days}")
        if self.relapse_days < 0:
            raise CohortError(f"label.relapse_days is {self.relapse_days}; give a number of days, or 0 for no such rule")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_column(self) -> None:
        if not re.fullmatch(r"[^\W_][\w .\-/()%]*", self.column) or self.column.lower() in RESERVED:
            raise CohortError(f"label.column is {self.column!r}; give the name of a column that holds a score or a class")
        if not self.is_edss and self.relapse_days:
            raise CohortError(f"label.relapse_days {self.relapse_days} goes with edss, not with {self.column}; leave it out")

    def _check_kind(self) -> None:
        limits = [("low", self.low), ("high", self.high), *(("cuts", cut) for cut in self.cuts)]
        for name, limit in limits:
            if limit is not None and not math.isfinite(limit):
                raise CohortError(f"label.{name}: {limit} is no finite number; give another, or leave it out")
        given = {
            "direction": self.direction == "below",
            "threshold": self.threshold is not None,
            "positive": bool(self.positive),
            "negative": bool(self.negative),
            "cuts": bool(self.cuts),
            "low": self.low is not None,
            "high": self.high is not None,
        }
        allowed = {
            "binary": ("positive", "negative") if self.is_named else ("threshold", "direction", "low", "high"),
            "ordinal": ("cuts", "low", "high"),
            "regression": ("low", "high"),
        }[self.kind]
        odd = [name for name, is_given in given.items() if is_given and name not in allowed]
        if odd:
            kind = f"{self.kind}, of names" if self.is_named else self.kind
            raise CohortError(f"label.{odd[0]} does not go with label.kind {kind}; leave one of them out")
        if self.is_named:
            self._check_names()
        elif self.kind == "binary":
            self._check_threshold()
        if self.kind == "ordinal" and (not self.cuts or any(not low < high for low, high in pairwise(self.cuts))):
            listed = ", ".join(f"{cut:g}" for cut in self.cuts)
            raise CohortError(f"label.cuts is [{listed}]; an ordinal target needs values in ascending order, as [2, 4, 6]")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise CohortError(f"label.low {self.low:g} is not below label.high {self.high:g}; swap them")

    def _check_names(self) -> None:
        if not self.positive or not self.negative:
            other = "positive" if not self.positive else "negative"
            raise CohortError(f"label.{other} is empty; name the values of both classes, as --label.{other} '[yes]'")
        if unknown := [name for name in (*self.positive, *self.negative) if name.lower() in MISSING]:
            raise CohortError(f"{unknown[0]!r} in a table says that a value is not known; give that class another name")
        both = set(map(self._usual, self.positive)) & set(map(self._usual, self.negative))
        if both:
            raise CohortError(f"{sorted(both)[0]!r} is in label.positive and in label.negative; keep it in one")

    def _check_threshold(self) -> None:
        if self.threshold is None:
            ways = "--label.threshold, or --label.positive and --label.negative, or --label.kind regression or ordinal"
            raise CohortError(f"label.column is {self.column}: say what is positive with {ways}")
        if not math.isfinite(self.threshold):
            raise CohortError(f"label.threshold is {self.threshold}; give a number")
        if self.is_edss and not 0 < self.threshold <= 10:
            raise CohortError(f"label.threshold is {self.threshold}; an EDSS threshold lies in (0, 10], for example 3.0")

    @property
    def is_edss(self) -> bool:
        """Whether the rules of the EDSS hold, which they do in whatever case its column is written."""
        return self.column.casefold() == EDSS

    @property
    def is_named(self) -> bool:
        """Whether the classes are named values rather than numbers."""
        return bool(self.positive or self.negative)

    @property
    def is_number(self) -> bool:
        """Whether a number is predicted, a value or a step, rather than the probability of a class."""
        return self.kind != "binary"

    @property
    def steps(self) -> int:
        """The highest step of an ordinal target; 0 for any other."""
        return len(self.cuts) if self.kind == "ordinal" else 0

    def number_of(self, scan: Any) -> float:
        """What is predicted of a scan, where that is a number: its step, or its value."""
        return float(scan.label if self.steps else scan.value)

    def scores_of(self, scans: Sequence[Any]) -> list[float] | None:
        """What a training learns from beside the classes of scans: numbers, or EDSS scores; None where there is nothing."""
        if self.is_number:
            return [self.number_of(scan) for scan in scans]
        return [scan.value for scan in scans] if self.is_edss else None

    def step_text(self, step: int) -> str:
        """A step of an ordinal target in words: ``EDSS 2 to below 4``."""
        if step == 0:
            return f"{self.name} below {self.cuts[0]:g}"
        low = self.cuts[step - 1]
        return f"{self.name} {low:g} or above" if step == self.steps else f"{self.name} {low:g} to below {self.cuts[step]:g}"

    @property
    def score_unit(self) -> str:
        """In what errors are counted: ``years``, ``steps``; empty where no unit is known."""
        return "steps" if self.steps else self.units

    @property
    def name(self) -> str:
        """How a sentence calls it."""
        return "EDSS" if self.is_edss else self.column.replace("_", " ")

    @property
    def title(self) -> str:
        """How a table or an axis calls it: its name, with the unit."""
        return f"{self.name}, {self.units}" if self.units else self.name

    @property
    def date_column(self) -> str:
        """Column with the day of the assessment."""
        return f"{self.column}_date"

    @property
    def source_column(self) -> str:
        """Column with who assessed it."""
        return f"{self.column}_source"

    @property
    def covariate(self) -> str:
        """The covariate that the target is, under the name that the project knows it by: ``sex`` for a column ``gender``."""
        known = (name for name, columns in COLUMNS.items() if self.column.lower() in columns)
        return next(known, self.column.lower())

    def owns(self, column: str) -> bool:
        """Whether a column of a cohort's tables belongs to the target, under any of its names, and so is no covariate."""
        own = (self.column, self.date_column)
        return column in own or column.lower() in COLUMNS.get(self.covariate, (self.covariate,))

    def plain(self) -> dict[str, Any]:
        """As it stands in a study's files: the rules that every target has, and what is not as by default."""
        default = {field.name: field.default for field in fields(self) if field.name not in ALWAYS}
        given = {name: value for name, value in asdict(self).items() if name not in default or value != default[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    def describe(self) -> str:
        """What is positive, or what is predicted, in words: ``EDSS >= 3 is positive``."""
        unit = f" {self.units}" if self.units else ""
        if self.is_named:
            return f"{self.name} {_listed(self.positive)} is positive, {_listed(self.negative)} negative"
        if self.kind == "binary":
            return f"{self.name} {'<' if self.direction == 'below' else '>='} {self.threshold:g}{unit} is positive"
        return f"{self.name}{' ' if self.kind == 'ordinal' or unit else ', '}{self._scale()}"

    def _scale(self) -> str:
        """On what scale a number is told, in words."""
        unit = f" {self.units}" if self.units else ""
        if self.kind == "ordinal":
            return f"in {len(self.cuts) + 1} steps, cut at {', '.join(f'{cut:g}' for cut in self.cuts)}{unit}"
        return f"in{unit}, the number itself" if unit else "the number itself"

    def sentence(self) -> str:
        """How a value became a label, as a report says it."""
        window = f" assessed {self.window()}" if self.window() else ""
        if self.is_named:
            names = f"{_listed(self.positive)}, and negative when it is {_listed(self.negative)}"
            return f"A scan is positive when the {self.name}{window} is {names}; scans with other values were left out."
        if self.kind == "binary":
            return f"A scan is positive when the {self.name}{window} is {self._limit()}."
        return f"The networks estimate, from the scan, the {self.name}{window}: {self._scale()}."

    def outcome(self) -> str:
        """What is predicted, as part of a sentence."""
        window = f", {self.window()}" if self.window() else ""
        if self.is_named:
            return f"the {self.name} {_listed(self.positive)} rather than {_listed(self.negative)}{window}"
        if self.is_edss and self.kind == "binary":
            return f"an EDSS of {self._limit('g')}{window}"
        return f"the {self.name}{f' {self._limit()}' if self.kind == 'binary' else ''}{window}"

    def short(self) -> str:
        """What is predicted, in the fewest words."""
        if self.is_named or self.kind != "binary":
            text = self.describe()
            return f"{text[0].upper()}{text[1:]}."
        return f"Positive is {self.name} {self._limit()}."

    def _limit(self, form: str = "") -> str:
        """The threshold of numbers, in words."""
        number = f"{self.threshold:{form or ('.1f' if self.is_edss else 'g')}}{f' {self.units}' if self.units else ''}"
        return f"below {number}" if self.direction == "below" else f"{number} or above"

    def window(self) -> str:
        """When an assessment counts, in words; empty without a window."""
        if self.min_days is None and self.max_days is None:
            return ""
        if self.min_days is None:
            return f"at most {self.max_days} days after the scan"
        if self.max_days is None:
            return f"at least {self.min_days} days after the scan"
        return f"{self.min_days} to {self.max_days} days after the scan"

    def pointed(self, rows: Sequence[Mapping[str, str]], where: Sequence[str]) -> list[dict[str, str]]:
        """Rows of a table with decimal points in the target's column; a cell of the EDSS can be one number only.

        Args:
            rows: As they are written.
            where: Where each stands, for the message.

        Raises:
            CohortError: naming a cell that can be two numbers.
        """
        cells = [row[self.column] for row in rows]
        if not self.is_named and not self.is_edss:
            cells = decimal_points(cells, [f"{place}, column {self.column!r}" for place in where])
        return [{**row, self.column: cell} for row, cell in zip(rows, cells, strict=True)]

    def value_of(self, text: str) -> float | None:
        """The value of a cell: the number, or 1 or 0 for a named class; None where it is neither."""
        if self.is_named:
            return self._classes().get(self._usual(text))
        if self.is_edss:
            return parse_edss(text)
        return parse_number(uncapped_age(text) if self.covariate == "age" else text)

    def _classes(self) -> dict[str, float]:
        """Each named value -> 1 or 0; also all names of a class together, as a study's table writes them."""
        of_class = {1.0: self.positive, 0.0: self.negative}
        together = {self._usual(self.text_of(value)): value for value in of_class}
        return together | {self._usual(name): value for value, names in of_class.items() for name in names}

    def _usual(self, text: str) -> str:
        """A named value as values are compared: one spelling of each sex, no case, no surplus blanks."""
        return folded((usual_spelling("sex", text) if self.covariate == "sex" else "") or text)

    def text_of(self, value: float) -> str:
        """A value as a table shows it."""
        if self.is_named:
            return "/".join(self.positive if value else self.negative)
        return f"{value:g}" if self.is_edss else repr(value).removesuffix(".0")

    def fault_of(self, text: str) -> str:
        """Why a cell gives no label, "" where it gives one."""
        if text.strip().lower() in MISSING:
            return f"no {self.name}"
        value = self.value_of(text)
        if self.is_named:
            return f"{self.name} of neither class" if value is None else ""
        if self.is_edss:
            limits = self.cuts if self.kind == "ordinal" else () if self.threshold is None else (self.threshold,)
            if value is None or (value == BETWEEN_STEPS and any(0 < limit <= 1 for limit in limits)):
                return "EDSS not on the scale"
        if value is None:
            return f"{self.name} is no number"
        if self.low is not None and value < self.low:
            return f"{self.name} below {self.low:g}"
        return f"{self.name} above {self.high:g}" if self.high is not None and value > self.high else ""

    def label_of(self, value: float) -> int:
        """The class of a value: 0 or 1 (binary), the number of cuts that it reaches (ordinal), 0 (regression)."""
        if self.is_named:
            return int(value)
        if self.kind == "binary":
            assert self.threshold is not None
            return int(value < self.threshold if self.direction == "below" else value >= self.threshold)
        return sum(value >= cut for cut in self.cuts)

    @property
    def has_window(self) -> bool:
        """Whether the day of an assessment decides if it counts."""
        return self.min_days is not None or self.max_days is not None

    def in_window(self, days: int) -> bool:
        """Whether an assessment so many days after the scan can count."""
        return (self.min_days is None or days >= self.min_days) and (self.max_days is None or days <= self.max_days)

    def takes_source(self, source: str) -> bool:
        """Whether an assessment of this source can count."""
        return self.source in ("", "any", source)

    def after_relapse(self, since: int | None) -> bool:
        """Whether an assessment so many days after the onset of a relapse is too close to it; an unknown time is not."""
        return self.relapse_days > 0 and since is not None and 0 <= since <= self.relapse_days


ALWAYS = ("threshold", "min_days", "max_days", "undated", "source", "relapse_days", "decision")
"""Rules that a study's files name in any case."""
RESERVED = ("patient", "session", "participant_id", "session_id", "days", "label", "mask", "labels", "dialect", "scan_date")
"""Columns with another meaning in a cohort's tables."""


def folded(text: str) -> str:
    """A name as names are compared: without case and surplus blanks, an accent in one way, however it was typed."""
    return unicodedata.normalize("NFKC", " ".join(text.split()).casefold())


def parse_edss(text: str) -> float | None:
    """An EDSS score from a text with decimal point or comma; None off the scale (0.5 passes, see ``BETWEEN_STEPS``)."""
    if not re.fullmatch(r"[0-9]{1,2}([.,][0-9]*)?", text.strip()):
        return None
    value = float(text.strip().replace(",", "."))
    return value if value in EDSS_SCALE or value == BETWEEN_STEPS else None


def parse_number(text: str) -> float | None:
    """A finite number from a text with decimal point or comma; None from any other text."""
    if not NUMBER.fullmatch(text.strip()):
        return None
    value = float(text.strip().replace(",", "."))
    return value if math.isfinite(value) else None


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        listed = [repr(item) for item in allowed if item is not None]
        raise CohortError(f"label.{name} is {value!r}; it can be {', '.join(listed[:-1])} or {listed[-1]}")
