"""Which candidates become scans, and why the others do not.

An EDSS score counts when it stands on the scale and was assessed within the label window. What contradicts itself, such as one
scan twice or one patient under two spellings, is an error and not an exclusion: it could put a patient into two parts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from datamodules.cohort.records import NO_SCAN, Candidate, Cohort, Exclusion, LabelRule, Scan, Score
from datamodules.files.tables import MISSING, CohortError

EDSS_SCALE = (0.0, *(half / 2 for half in range(2, 21)))
"""The 20 valid steps of the EDSS: 0, 1.0, 1.5, ... 10 (Kurtzke, Neurology 1983;33:1444)."""

BETWEEN_STEPS = 0.5
"""Not on the scale, yet often written; its class is certain whenever the threshold lies above 1."""


def judge(source: Path, candidates: Sequence[Candidate], rule: LabelRule, remarks: Sequence[str] = ()) -> Cohort:
    """Turn candidates into scans and exclusions; the order is by patient, then session.

    Args:
        source: Where they come from.
        candidates: All that was found.
        rule: How scores become labels.
        remarks: What reading them has to say; further ones are added.

    Raises:
        CohortError: if a patient's session occurs twice, a patient has two spellings, EDSS of several sources would be mixed,
            or no scan is left.
    """
    _refuse_doubles(candidates)
    _refuse_mixed_sources(candidates, rule)
    verdicts = [_judge_one(candidate, rule) for candidate in sorted(candidates, key=lambda c: (c.patient, c.session))]
    scans = tuple(one for one in verdicts if isinstance(one, Scan))
    exclusions = tuple(one for one in verdicts if isinstance(one, Exclusion))
    if not scans:
        raise CohortError(f"no usable scan in {source}: {_told(exclusions)}")
    odd = [scan.name for scan in scans if scan.edss == BETWEEN_STEPS]
    told = [f"EDSS 0.5 is not on the scale, its class is certain: kept {', '.join(odd)}"] if odd else []
    used = {(scan.patient, scan.session) for scan in scans}
    told += _provenance([one.score for one in candidates if one.score and (one.patient, one.session) in used], rule)
    return Cohort(source, rule, scans, exclusions, (*remarks, *told))


def _provenance(scores: Sequence[Score], rule: LabelRule) -> list[str]:
    """What is known of who gave the scores that are used, and of relapses before them; nothing where no table tells."""
    told = []
    sources = Counter(score.source or "unknown" for score in scores)
    if set(sources) != {"unknown"}:
        told.append("EDSS by source: " + ", ".join(f"{name} {count}" for name, count in sorted(sources.items())))
    known = [score.since_relapse for score in scores if score.since_relapse is not None]
    if known or rule.relapse_days:
        near = f", the shortest {min(known)} days" if known else ""
        told.append(f"relapses before the EDSS: known for {len(known)} of {len(scores)} scans, unknown for the others{near}")
    return told


def _refuse_mixed_sources(candidates: Sequence[Candidate], rule: LabelRule) -> None:
    sources = Counter(one.score.source for one in candidates if one.score and one.score.source)
    if rule.source in ("", *sources, "any") and (rule.source or len(sources) < 2):
        return
    found = ", ".join(f"{name} {count}" for name, count in sorted(sources.items())) or "none"
    if rule.source:
        raise CohortError(f"label.source is {rule.source!r}; the EDSS have these sources: {found}")
    raise CohortError(
        f"EDSS of several sources ({found}); choose one with --label.source {sorted(sources)[0]}, or mix them with any"
    )


def _told(exclusions: Sequence[Exclusion]) -> str:
    first: dict[str, Exclusion] = {}
    for one in exclusions:
        first.setdefault(one.reason, one)
    counts = Counter(one.reason for one in exclusions)
    told = [f"{counts[reason]} x {reason} (as {one.name}: {one.detail})" for reason, one in first.items()]
    return ", ".join(told) or "it has no rows"


def _refuse_doubles(candidates: Sequence[Candidate]) -> None:
    spelling: dict[str, Candidate] = {}
    seen: dict[tuple[str, str], Candidate] = {}
    for one in candidates:
        first = spelling.setdefault(_bare(one.patient, "sub-"), one)
        if first.patient != one.patient:
            both = f"{first.patient!r} ({first.where}) and {one.patient!r} ({one.where})"
            raise CohortError(f"patients {both} look like one; spell the name in one way")
        double = seen.setdefault((one.patient, _bare(one.session, "ses-")), one)
        if double is not one:
            both = f"{double.where} and {one.where}"
            raise CohortError(f"{one.name} occurs twice: {both}; keep one, or give repeated scans a session each")


def _bare(name: str, prefix: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().removeprefix(prefix)


def _judge_one(candidate: Candidate, rule: LabelRule) -> Scan | Exclusion:
    verdict = _file_at_fault(candidate) or _score_at_fault(candidate, rule)
    if verdict:
        reason, detail = verdict
        return Exclusion(candidate.patient, candidate.session, reason, detail or candidate.where, _label(candidate, rule))
    assert candidate.t1w is not None
    assert candidate.flair is not None
    assert candidate.score is not None
    edss = parse_edss(candidate.score.edss)
    assert edss is not None
    return Scan(
        candidate.patient,
        candidate.session,
        candidate.t1w,
        candidate.flair,
        edss,
        candidate.score.days,
        rule.positive(edss),
        candidate.mask,
        candidate.labels,
        candidate.dialect,
        candidate.covariates,
    )


def _label(candidate: Candidate, rule: LabelRule) -> int | None:
    """The class that a candidate's score gives, None without a valid score in the window."""
    if candidate.score is None or candidate.t1w is None or _score_at_fault(candidate, rule):
        return None
    edss = parse_edss(candidate.score.edss)
    return None if edss is None else rule.positive(edss)


def _file_at_fault(candidate: Candidate) -> tuple[str, str] | None:
    """Reason and detail where a file is not given or not there."""
    if candidate.t1w is None:
        return ("no T1w" if candidate.flair else NO_SCAN), ""
    if candidate.flair is None:
        return "no FLAIR", ""
    table = Path(candidate.dialect) if candidate.labels and candidate.dialect.endswith(".tsv") else None
    files = {"T1w": candidate.t1w, "FLAIR": candidate.flair, "mask": candidate.mask, "label map": candidate.labels}
    for kind, path in (files | {"label table": table}).items():
        if path is not None and not path.is_file():
            return f"{kind} file missing", str(path)
    return None


def _score_at_fault(candidate: Candidate, rule: LabelRule) -> tuple[str, str] | None:
    """Reason and detail where the score is missing, impossible or outside the window."""
    if candidate.score is None or candidate.score.edss.strip().lower() in MISSING:
        return "no EDSS", ""
    edss, days = parse_edss(candidate.score.edss), candidate.score.days
    if edss is None or (edss == BETWEEN_STEPS and rule.threshold <= 1):
        return "EDSS not on the scale", f"{candidate.score.edss!r}, {candidate.where}"
    if not rule.takes_source(candidate.score.source):
        return f"EDSS not by {rule.source}", candidate.score.source and f"by {candidate.score.source}, {candidate.where}"
    if days is None and rule.undated == "exclude":
        return "days from scan to EDSS unknown", ""
    if days is not None and days < rule.min_days:
        return f"EDSS before day {rule.min_days}", f"{days} days, {candidate.where}"
    if days is not None and days > rule.max_days:
        return f"EDSS after day {rule.max_days}", f"{days} days, {candidate.where}"
    if rule.after_relapse(candidate.score.since_relapse):
        told = f"{candidate.score.since_relapse} days after its onset, {candidate.where}"
        return f"EDSS within {rule.relapse_days} days after a relapse", told
    return None


def parse_edss(text: str) -> float | None:
    """An EDSS score from a text with decimal point or comma; None where it is not on the scale (0.5 passes, see ``judge``)."""
    if not re.fullmatch(r"[0-9]{1,2}([.,][0-9]*)?", text.strip()):
        return None
    value = float(text.strip().replace(",", "."))
    return value if value in EDSS_SCALE or value == BETWEEN_STEPS else None
