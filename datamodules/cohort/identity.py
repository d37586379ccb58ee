"""Who is the same patient: ids as people write them, compared by one rule; and file names made from ids.

``identity`` is what is left of an id when its writing is taken away:

- width, case, digits of other scripts and invisible characters (``P\uff11``, ``p\u200b1`` and ``P1`` are one id);
- a word before the id: sub, subj, subject, pat, patient, participant, ses, sess, session; a letter follows it only after a
  separator, so that ``sub-el`` is ``el`` and ``patel`` stays;
- zeros before a number, and the ``.0`` that spreadsheets add to one;
- dashes, underscores, dots and blanks. Between two digits they stay, as one separator: ``1.1`` is not ``11``.

Ids are stored and printed as they were written; only comparisons use this.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from datamodules.cohort.records import scan_name
from datamodules.files.tables import CohortError

AlikeIds = Literal["refuse", "apart"]
"""What happens to patients, or sessions of one patient, whose ids differ in writing alone."""

Key = tuple[str, str]
Value = TypeVar("Value")

INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Characters without a shape that Unicode counts neither among the format (Cf) nor among the control characters (Cc)."""
SEPARATORS = "\u00b7\u30fb\u3002\u02d7\u2043\u2212"
"""Dots and dashes outside the categories of dashes (Pd), connectors (Pc) and blanks (Z)."""
WORDS = re.compile(r"(?:sub|subj|subject|pat|patient|participant|ses|sess|session)(?:-+|(?=[0-9]))(?=.)")


class Written(NamedTuple):
    """An id as it is written somewhere; ``where`` names file and line for messages."""

    patient: str
    session: str
    where: str


def identity(text: str) -> str:
    """What identifies a patient or a session: equal for two ids that differ in writing alone (see above)."""
    shown = (sign for sign in text if sign.isspace() or unicodedata.category(sign) not in ("Cf", "Cc"))
    narrow = unicodedata.normalize("NFKC", INVISIBLE.sub("", "".join(shown)))
    folded = unicodedata.normalize("NFKC", narrow.casefold())
    whole = re.sub(r"^((?:sub-)?[0-9]+)\.0+$", r"\1", "".join(map(_digit_or_dash, folded.strip())))
    rest = re.sub(r"[-.]+", "-", whole).strip("-")
    while word := WORDS.match(rest):
        rest = rest[word.end() :]
    numbered = re.sub(r"0*([0-9]+)", r"\1", rest)
    return re.sub(r"(?<![0-9])-|-(?![0-9])", "", numbered) or folded


def _digit_or_dash(sign: str) -> str:
    category = unicodedata.category(sign)
    if category == "Nd":
        return str(unicodedata.decimal(sign))
    if sign == ".":
        return sign
    return "-" if category in ("Pd", "Pc", "Cc") or category[0] == "Z" or sign in SEPARATORS else sign


def refuse_alike(rows: Iterable[Written], alike_ids: AlikeIds, known: Iterable[Written] = ()) -> None:
    """Refuse two spellings of one patient, or of one session of a patient.

    Args:
        rows: Where ids are written.
        alike_ids: ``apart`` lets them pass, as different people.
        known: Patients of another cohort, whose spellings count but are not checked among themselves.

    Raises:
        CohortError: naming both spellings and where they stand.
    """
    if alike_ids == "apart":
        return
    seen: dict[Key, dict[str, str]] = defaultdict(dict)
    for row in known:
        seen[identity(row.patient), ""].setdefault(row.patient, row.where)
    for row in rows:
        _refuse_second(seen[identity(row.patient), ""], row.patient, row.where, "patients")
        if row.session:
            _refuse_second(seen[row.patient, identity(row.session)], row.session, row.where, f"sessions of {row.patient}")


def _refuse_second(spellings: dict[str, str], text: str, where: str, what: str) -> None:
    if spellings and text not in spellings:
        first, place = next(iter(spellings.items()))
        both = f"{what} {first!r} ({place}) and {text!r} ({where})"
        raise CohortError(f"{both} look like one; spell the name in one way, or keep them apart with --alike_ids apart")
    spellings.setdefault(text, where)


def under_names(rows: Mapping[Key, Value], names: Iterable[Key]) -> dict[Key, Value]:
    """Rows of a table by patient and session as a cohort spells them; a row that fits no scan keeps its own spelling.

    Raises:
        CohortError: if a row fits several scans and is spelled like none of them.
    """
    alike: dict[Key, list[Key]] = defaultdict(list)
    for name in dict.fromkeys(names):
        alike[identity(name[0]), identity(name[1])].append(name)
    result = {}
    for key, value in rows.items():
        fitting: Sequence[Key] = alike.get((identity(key[0]), identity(key[1])), [])
        if len(fitting) > 1 and key not in fitting:
            listed = " or ".join(scan_name(*name) for name in fitting)
            raise CohortError(f"{scan_name(*key)} of quality control can be {listed}; write one of these")
        result[key if key in fitting or not fitting else fitting[0]] = value
    return result


def file_stem(patient: str, session: str) -> str:
    """A file name without extension, another for each patient and session, on every file system.

    ``patient`` or ``patient_session`` where both are lower-case letters, digits and dashes, else that with a SHA-256.
    """
    plain = "_".join(filter(None, (patient, session)))
    if all(re.fullmatch(r"[a-z0-9-]+", name) for name in (patient, session or "-")) and len(plain) <= 100:
        return plain
    readable = re.sub(r"[^a-z0-9-]+", "-", plain.casefold())[:40]
    return f"{readable}~{hashlib.sha256(repr((patient, session)).encode()).hexdigest()[:32]}"
