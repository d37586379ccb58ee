"""Patients are split once, into a file with a hash; every load checks it.

Fold k tests part k, tunes on part (k + 1) mod K and trains on the rest. Parts are balanced by the patient's label and, within
it, by the number of scans. A patient's label, for this purpose, is that of the last session by name (ses-2 before ses-10).
Where a number or a step is predicted, patients in the order of their values are dealt out in groups, one to each part.
Where parts are sites (``datamodules.cohort.site_splits``), fold k tests site k and tunes on a sixth of the others' patients.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from datamodules.cohort.records import Scan, scan_name
from datamodules.cohort.target import Target
from datamodules.files.atomic import write_text
from datamodules.files.tables import read_rows, require_columns
from regions.errors import UserError

FOLDS = 7
LEAST_FOLDS = 3
LEAST_PATIENTS = 3
"""Patients that each part needs where a number is predicted: of two, no order says anything."""
SITE_BLOCKS = 6
"""Blocks of patients of which a fold tunes on one, without those of its test site, where parts are sites."""
PARTITIONS = ("train", "tuning", "internal_test")


class SplitError(UserError):
    """A split that would let a patient leak, or that does not belong to the cohort."""


class TooFewPatientsError(SplitError):
    """A cohort in which a class has fewer patients than there are folds."""


@dataclass(frozen=True)
class SplitRule:
    """What a test part is: a share of the patients, or a site."""

    by: Literal["patient", "site"] = "patient"
    """patient: parts of equal size; site: each site is tested once, by models that saw none of its scans."""
    small: Literal["refuse", "join"] = "refuse"
    """Sites with fewer than two patients of a class: refuse them, or test them together as one part."""


@dataclass(frozen=True)
class Splits:
    """Which part each patient belongs to; where parts are sites, their names, and the block that a patient tunes in."""

    part: dict[str, int]
    folds: int
    seed: int
    sites: tuple[str, ...] = ()
    block: Mapping[str, int] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 of the number of folds and of every patient's part, and of sites and blocks where there are any."""
        text = f"{self.folds}\n" + "".join(f"{patient}\t{part}\n" for patient, part in sorted(self.part.items()))
        if self.sites:
            text += "".join(f"{name}\n" for name in self.sites)
            text += "".join(f"{patient}\t{block}\n" for patient, block in sorted(self.block.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def title(self, part: int) -> str:
        """What a test part is called: its number, and its site where it has one."""
        return f"{part} {self.sites[part]}" if self.sites else str(part)

    def partitions(self, fold: int, patients: Sequence[str]) -> dict[str, np.ndarray]:
        """Rows of the scans of each partition.

        Args:
            fold: The test part, 0 ... folds - 1.
            patients: The patient of each scan, in cohort order.

        Returns:
            Rows (int64, ascending) for ``train``, ``tuning`` and ``internal_test``.

        Raises:
            SplitError: if the fold does not exist, or a patient stands in no part.
        """
        if not 0 <= fold < self.folds:
            raise SplitError(f"fold {fold} does not exist; folds are 0 to {self.folds - 1}")
        strangers = sorted(set(patients) - set(self.part))
        if strangers:
            raise SplitError(f"patient {strangers[0]} is in no part of the split ({len(strangers)} such patients)")
        part = np.array([self.part[patient] for patient in patients])
        test, tuning = part == fold, part == (fold + 1) % self.folds
        if self.sites:
            tuning = ~test & (np.array([self.block[patient] for patient in patients]) == fold % SITE_BLOCKS)
        chosen = {"train": ~test & ~tuning, "tuning": tuning, "internal_test": test}
        return {name: np.flatnonzero(chosen[name]) for name in PARTITIONS}


def test_to_train(folds: int, by_site: bool) -> float:
    """Patients of a test part over those of the training parts, on average; the overlap of training parts depends on it."""
    return SITE_BLOCKS / ((SITE_BLOCKS - 1) * (folds - 1)) if by_site else 1 / (folds - 2)


def make_splits(scans: Sequence[Scan], seed: int, folds: int = FOLDS, target: Target = Target()) -> Splits:
    """Deal patients out to the parts: shuffled by seed, label by label, those with more scans first; numbers by their value.

    Raises:
        TooFewPatientsError: if a class or a step has fewer patients than there are folds, or there are few for a number.
        SplitError: if the number of folds or the seed is not valid.
    """
    if folds < LEAST_FOLDS:
        raise SplitError(f"{folds} folds make no split; {LEAST_FOLDS} or more leave a part each for training, tuning and test")
    if seed < 0:
        raise SplitError(f"split_seed is {seed}; give 0 or more")
    if target.is_number:
        return Splits(_dealt_by_value(scans, seed, folds, target), folds, seed)
    label, count = patient_labels(scans)
    _check_classes(Counter("positive" if value else "negative" for value in label.values()), folds)
    rng = np.random.default_rng(seed)
    order = [sorted(label)[i] for i in rng.permutation(len(label))]
    order.sort(key=lambda patient: (label[patient], -count[patient]))
    shuffled_parts = rng.permutation(folds)
    return Splits({patient: int(shuffled_parts[i % folds]) for i, patient in enumerate(order)}, folds, seed)


def _check_classes(patients: Counter[str], folds: int) -> None:
    short = [f"{patients[name]} {name}" for name in ("negative", "positive") if patients[name] < folds]
    if not short:
        return
    shortage = f"{' and '.join(short)} patients cannot fill {folds} folds, each needs one"
    least = min(patients["negative"], patients["positive"])
    if least < LEAST_FOLDS:
        raise TooFewPatientsError(
            f"{shortage}; {folds} of each class are needed, or {LEAST_FOLDS} of each with --folds {LEAST_FOLDS}"
        )
    raise TooFewPatientsError(f"{shortage}; use fewer --folds or more patients: --folds {least} is possible")


def _dealt_by_value(scans: Sequence[Scan], seed: int, folds: int, target: Target) -> dict[str, int]:
    """Part of each patient: of every ``folds`` patients in the order of their values, ties shuffled, one in each part."""
    value = {scan.patient: target.number_of(scan) for scan in _by_session(scans)}
    _check_values(value, folds, target)
    rng = np.random.default_rng(seed)
    order = [sorted(value)[i] for i in rng.permutation(len(value))]
    order.sort(key=value.__getitem__)
    parts: dict[str, int] = {}
    for start in range(0, len(order), folds):
        parts |= zip(order[start : start + folds], rng.permutation(folds).tolist(), strict=False)
    return parts


def _check_values(value: Mapping[str, float], folds: int, target: Target) -> None:
    if len(set(value.values())) == 1:
        only = next(iter(value.values()))
        what = target.step_text(int(only)) if target.steps else f"{target.name} {only:g}"
        raise SplitError(f"all {len(value)} patients have {what}: there is nothing to tell apart; give another label.column")
    if len(value) < LEAST_PATIENTS * folds:
        most = len(value) // LEAST_PATIENTS
        way = f"--folds {most} is possible" if most >= LEAST_FOLDS else f"at least {LEAST_PATIENTS * LEAST_FOLDS} are needed"
        raise TooFewPatientsError(f"{len(value)} patients cannot fill {folds} folds, each needs {LEAST_PATIENTS}; {way}")
    patients = Counter(value.values())
    short = [step for step in range(target.steps + 1) if target.steps and patients[step] < folds]
    if short:
        counted = " and ".join(f"{patients[step]} with {target.step_text(step)}" for step in short)
        way = f"use fewer label.cuts, or fewer --folds (at least {LEAST_FOLDS})"
        raise TooFewPatientsError(f"patients are too few for {folds} folds, each needs one of each step: {counted}; {way}")


def _by_session(scans: Sequence[Any]) -> list[Any]:
    return sorted(scans, key=lambda s: (s.patient, len(s.session), s.session))


def patient_labels(scans: Sequence[Scan | LabelledScan]) -> tuple[dict[str, int], Counter[str]]:
    """The label of each patient, that of the last session, and the number of scans."""
    latest = {scan.patient: scan.label for scan in _by_session(scans)}
    return latest, Counter(scan.patient for scan in scans)


def write_splits(path: Path, splits: Splits, scans: Sequence[Scan], cohort_hash: str) -> None:
    """Write ``splits.tsv`` (one row per scan) and, beside it, ``splits.json`` (seed, folds, hashes)."""
    blocks = [f"\t{splits.block[scan.patient]}" if splits.sites else "" for scan in scans]
    rows = [
        f"{s.patient}\t{s.session}\t{s.label}\t{splits.part[s.patient]}{block}\n"
        for s, block in zip(scans, blocks, strict=True)
    ]
    facts: dict[str, Any] = {"folds": splits.folds, "seed": splits.seed, "cohort_hash": cohort_hash, "split_hash": splits.hash}
    facts |= {"sites": list(splits.sites)} if splits.sites else {}
    write_text(path.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")
    header = ["patient", "session", "label", "part", *(["block"] if splits.sites else [])]
    write_text(path, "\t".join(header) + "\n" + "".join(rows))


def read_facts(path: Path) -> dict[str, Any]:
    """What stands beside ``splits.tsv``: folds, seed, cohort_hash, split_hash.

    Raises:
        SplitError: if the file is missing or damaged.
    """
    beside = path.with_suffix(".json")
    try:
        facts = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SplitError(f"{beside} is missing; restore it, or use another STUDY") from None
    except ValueError as error:
        raise SplitError(f"{beside} is damaged ({error}); restore it, or use another STUDY") from None
    kinds = {"folds": int, "seed": int, "cohort_hash": str, "split_hash": str}
    wrong = [name for name, kind in kinds.items() if not isinstance(facts, dict) or not isinstance(facts.get(name), kind)]
    if wrong:
        raise SplitError(f"{beside} has no valid {wrong[0]!r}; restore it, or use another STUDY")
    return dict(facts)


class LabelledScan(NamedTuple):
    """What a split must know of a scan."""

    patient: str
    session: str
    label: int


def load_splits(path: Path, scans: Sequence[Scan | LabelledScan], target: Target = Target()) -> Splits:
    """Read a split and check all that must hold.

    Each patient stands in one part only, each scan of the cohort stands in the table with its label and no other does, each
    part holds both classes (or some patients, where a number is predicted), and the hash is the one that was written.

    Raises:
        SplitError: naming the patient, scan or part at fault.
    """
    rows = read_rows(path)
    require_columns(path, rows, ("patient", "session", "label", "part"))
    facts = read_facts(path)
    parts: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        parts[row["patient"]].add(_part(path, row, facts["folds"]))
    for patient, where in parts.items():
        if len(where) > 1:
            listed = " and ".join(map(str, sorted(where)))
            raise SplitError(f"{path}: patient {patient} is in parts {listed}: a leak; restore the file")
    _check_scans(path, rows, scans)
    sites = tuple(map(str, facts.get("sites", ())))
    blocks = _blocks(path, rows) if sites else {}
    splits = Splits({patient: min(where) for patient, where in parts.items()}, facts["folds"], facts["seed"], sites, blocks)
    _check_parts(path, splits, scans, target)
    if splits.hash != facts["split_hash"]:
        hashes = f"hash {splits.hash[:12]}, made {facts['split_hash'][:12]}"
        raise SplitError(f"{path} is not the split that was made ({hashes}); restore it, or use another STUDY")
    return splits


def _part(path: Path, row: Mapping[str, str], folds: int) -> int:
    if not (row["part"].isascii() and row["part"].isdigit() and int(row["part"]) < folds):
        raise SplitError(f"{path} line {row['#']}: part {row['part']!r} does not exist; parts are 0 to {folds - 1}")
    return int(row["part"])


def _blocks(path: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    require_columns(path, rows, ("block",))
    blocks: dict[str, int] = {}
    for row in rows:
        known = row["block"].isascii() and row["block"].isdigit() and int(row["block"]) < SITE_BLOCKS
        if not known or blocks.setdefault(row["patient"], int(row["block"])) != int(row["block"]):
            raise SplitError(f"{path} line {row['#']}: block {row['block']!r} is not that of the patient; restore the file")
    return blocks


def _check_scans(path: Path, rows: Sequence[Mapping[str, str]], scans: Sequence[Scan | LabelledScan]) -> None:
    listed = Counter((row["patient"], row["session"]) for row in rows)
    twice = [key for key, count in listed.items() if count > 1]
    if twice:
        raise SplitError(f"{path}: scan {scan_name(*twice[0])} is listed twice; restore the file")
    ours = {(scan.patient, scan.session): scan.label for scan in scans}
    gone, new = set(listed) - set(ours), set(ours) - set(listed)
    for keys, relation in ((new, "is in the cohort but not in"), (gone, "is not in the cohort but in")):
        if keys:
            count = f" ({len(keys)} such scans)" if len(keys) > 1 else ""
            raise SplitError(f"scan {scan_name(*min(keys))} {relation} {path}{count}; the cohort changed: use another STUDY")
    for row in rows:
        label = ours[row["patient"], row["session"]]
        if row["label"] != str(label):
            name = scan_name(row["patient"], row["session"])
            raise SplitError(f"{path}: scan {name} has label {row['label']}, in the cohort {label}; use another STUDY")


def _check_parts(path: Path, splits: Splits, scans: Sequence[Scan | LabelledScan], target: Target) -> None:
    label, _ = patient_labels(scans)
    for part in range(splits.folds):
        if target.is_number:
            if sum(where == part for where in splits.part.values()) < LEAST_PATIENTS:
                raise SplitError(f"{path}: part {part} holds fewer than {LEAST_PATIENTS} patients; restore the file")
            continue
        classes = {label[patient] for patient, where in splits.part.items() if where == part}
        if classes != {0, 1}:
            raise SplitError(f"{path}: part {part} holds {len(classes)} of the 2 classes of patients; restore the file")
