"""Which candidates become scans, and why the others do not.

An EDSS score counts if it is on the scale and was assessed within the label window. Contradictions, such as a duplicate scan or
a patient under two spellings, are errors and not exclusions: they could put a patient into two parts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.cohort.covariates import split_capped_ages
from datamodules.cohort.identity import AlikeIds, Written, identity, refuse_alike
from datamodules.cohort.images import DEFAULT_IMAGES, title
from datamodules.cohort.records import (
    NO_SCAN,
    UNDATED,
    Candidate,
    Cohort,
    Exclusion,
    LabelRule,
    Scan,
    Score,
    counted_reasons,
)
from datamodules.files.tables import MISSING, CohortError

EDSS_SCALE = (0.0, *(half / 2 for half in range(2, 21)))
"""The 20 valid steps of the EDSS: 0, 1.0, 1.5, ... 10 (Kurtzke, Neurology 1983;33:1444)."""

BETWEEN_STEPS = 0.5
"""Not on the scale, yet often written; its class is certain whenever the threshold lies above 1."""


def select_scans(
    source: Path,
    candidates: Sequence[Candidate],
    rule: LabelRule,
    remarks: Sequence[str] = (),
    alike_ids: AlikeIds = "refuse",
    known: Sequence[Written] = (),
    images: Sequence[str] = DEFAULT_IMAGES,
) -> Cohort:
    """Turn candidates into scans and exclusions; the order is by patient, then session.

    Args:
        source: Where they come from.
        candidates: All scans of the source.
        rule: How scores become labels.
        remarks: Remarks from reading the source; further ones are added.
        alike_ids: What happens to ids that differ in writing alone.
        known: Patients of another cohort, see ``identity.refuse_alike``.
        images: What each scan must have.

    Raises:
        CohortError: if a patient's session occurs twice, a patient has two spellings, EDSS of several sources would be mixed,
            or no scan is left.
    """
    refuse_repeated(candidates, alike_ids)
    refuse_alike(map(written, candidates), alike_ids, known)
    _refuse_mixed_sources(candidates, rule)
    ages: list[str] = []
    outcomes: list[Scan | Exclusion] = []
    for candidate in sorted(candidates, key=lambda c: (c.patient, c.session)):
        covariates, capped = split_capped_ages(candidate.covariates)
        outcomes.append(_scan_or_exclusion(replace(candidate, covariates=covariates), rule, images))
        ages += capped[:1] if isinstance(outcomes[-1], Scan) else []
    scans = tuple(outcome for outcome in outcomes if isinstance(outcome, Scan))
    exclusions = tuple(outcome for outcome in outcomes if isinstance(outcome, Exclusion))
    if not scans:
        reasons = counted_reasons(exclusions) or "it has no rows"
        raise CohortError(f"no usable scan in the {len(exclusions)} rows of {source}: {reasons}")
    odd = [scan.name for scan in scans if scan.edss == BETWEEN_STEPS]
    notes = [f"EDSS 0.5 is not on the scale, its class is certain: kept {', '.join(odd)}"] if odd else []
    if ages:
        listed = ", ".join(sorted(set(ages)))
        notes.append(f"age capped for {len(ages)} of {len(scans)} scans ({listed}): the number given is taken as the age")
    used = {(scan.patient, scan.session) for scan in scans}
    scores = [candidate.score for candidate in candidates if (candidate.patient, candidate.session) in used]
    notes += _provenance([score for score in scores if score], rule)
    return Cohort(source, rule, scans, exclusions, (*remarks, *notes))


def _provenance(scores: Sequence[Score], rule: LabelRule) -> list[str]:
    """Remarks on the sources of the scores that are used and on relapses before them; none if no table has this."""
    remarks = []
    sources = Counter(score.source or "unknown" for score in scores)
    if set(sources) != {"unknown"}:
        remarks.append("EDSS by source: " + ", ".join(f"{name} {count}" for name, count in sorted(sources.items())))
    known = [score.since_relapse for score in scores if score.since_relapse is not None]
    if known or rule.relapse_days:
        near = f", the shortest {min(known)} days" if known else ""
        remarks.append(f"relapses before the EDSS: known for {len(known)} of {len(scores)} scans, unknown for the others{near}")
    return remarks


def _refuse_mixed_sources(candidates: Sequence[Candidate], rule: LabelRule) -> None:
    sources = Counter(candidate.score.source for candidate in candidates if candidate.score and candidate.score.source)
    if rule.source in ("", *sources, "any") and (rule.source or len(sources) < 2):
        return
    listed = ", ".join(f"{name} {count}" for name, count in sorted(sources.items())) or "none"
    if rule.source:
        raise CohortError(f"label.source is {rule.source!r}; the EDSS have these sources: {listed}")
    raise CohortError(
        f"EDSS of several sources ({listed}); choose one with --label.source {sorted(sources)[0]}, or mix them with any"
    )


def written(candidate: Candidate) -> Written:
    """The ids of a candidate, and where they stand."""
    return Written(candidate.patient, candidate.session, candidate.where)


def refuse_repeated(candidates: Sequence[Candidate], alike_ids: AlikeIds) -> None:
    """Refuse a scan that is given twice.

    Raises:
        CohortError: naming both rows.
    """
    seen: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        session = candidate.session if alike_ids == "apart" else identity(candidate.session)
        earlier = seen.setdefault((candidate.patient, session), candidate)
        if earlier is not candidate:
            both = f"{earlier.where} and {candidate.where}; keep one, or give repeated scans a session each"
            if earlier.session != candidate.session:
                both += f" ({earlier.session!r} and {candidate.session!r} are one, unless --alike_ids is apart)"
            raise CohortError(f"{candidate.name} occurs twice: {both}")


def _scan_or_exclusion(candidate: Candidate, rule: LabelRule, images: Sequence[str]) -> Scan | Exclusion:
    fault = _file_at_fault(candidate, images) or _score_at_fault(candidate, rule)
    if fault:
        reason, detail = fault
        label = _label(candidate, rule) if images[0] in candidate.images else None
        return Exclusion(candidate.patient, candidate.session, reason, detail or candidate.where, label)
    assert candidate.score is not None
    edss = parse_edss(candidate.score.edss)
    assert edss is not None
    return Scan(
        candidate.patient,
        candidate.session,
        {name: candidate.images[name] for name in images},
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
    if candidate.score is None or _score_at_fault(candidate, rule):
        return None
    edss = parse_edss(candidate.score.edss)
    return None if edss is None else rule.positive(edss)


def _file_at_fault(candidate: Candidate, images: Sequence[str]) -> tuple[str, str] | None:
    """Reason and detail where a file is not given or not there."""
    if not any(name in candidate.images for name in images):
        return NO_SCAN.replace("T1w", title(images[0])), ""
    missing = [title(name) for name in images if name not in candidate.images]
    if missing:
        return f"no {missing[0]}", ""
    table = Path(candidate.dialect) if candidate.labels and candidate.dialect.endswith(".tsv") else None
    asked = {title(name): candidate.images[name] for name in images}
    beside = {"mask": candidate.mask, "label map": candidate.labels, "label table": table}
    for kind, path in (asked | beside).items():
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
        return UNDATED, ""
    if days is not None and days < rule.min_days:
        return f"EDSS before day {rule.min_days}", f"{days} days, {candidate.where}"
    if days is not None and days > rule.max_days:
        return f"EDSS after day {rule.max_days}", f"{days} days, {candidate.where}"
    if rule.after_relapse(candidate.score.since_relapse):
        detail = f"{candidate.score.since_relapse} days after its onset, {candidate.where}"
        return f"EDSS within {rule.relapse_days} days after a relapse", detail
    return None


def parse_edss(text: str) -> float | None:
    """An EDSS score from a text with decimal point or comma; None off the scale (0.5 passes, see ``BETWEEN_STEPS``)."""
    if not re.fullmatch(r"[0-9]{1,2}([.,][0-9]*)?", text.strip()):
        return None
    value = float(text.strip().replace(",", "."))
    return value if value in EDSS_SCALE or value == BETWEEN_STEPS else None
