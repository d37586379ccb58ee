"""Which candidates become scans, and why the others do not.

A score counts if it gives a label and was assessed within the window of its target (``datamodules.cohort.target``).
Contradictions, such as a duplicate scan or a patient under two spellings, are errors and not exclusions: they could put a
patient into two parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.cohort.covariates import split_capped_ages, uncapped_age
from datamodules.cohort.identity import AlikeIds, Written, identity, refuse_alike
from datamodules.cohort.images import DEFAULT_IMAGES, indicator, indicators, title
from datamodules.cohort.records import NO_SCAN, UNDATED, Candidate, Cohort, Exclusion, Scan, Score, counted_reasons
from datamodules.cohort.target import BETWEEN_STEPS, Target
from datamodules.files.tables import CohortError


def select_scans(
    source: Path,
    candidates: Sequence[Candidate],
    rule: Target,
    remarks: Sequence[str] = (),
    alike_ids: AlikeIds = "refuse",
    known: Sequence[Written] = (),
    images: Sequence[str] = DEFAULT_IMAGES,
    optional: Collection[str] = (),
) -> Cohort:
    """Turn candidates into scans and exclusions; the order is by patient, then session.

    Args:
        source: Where they come from.
        candidates: All scans of the source.
        rule: How scores become labels.
        remarks: Remarks from reading the source; further ones are added.
        alike_ids: What happens to ids that differ in writing alone.
        known: Patients of another cohort, see ``identity.refuse_alike``.
        images: What is read of each scan.
        optional: Those that a scan may lack, never the first.

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
        outcomes.append(_scan_or_exclusion(replace(candidate, covariates=covariates), rule, images, optional))
        ages += [*capped, *_capped(candidate, rule)][:1] if isinstance(outcomes[-1], Scan) else []
    scans = tuple(outcome for outcome in outcomes if isinstance(outcome, Scan))
    exclusions = tuple(outcome for outcome in outcomes if isinstance(outcome, Exclusion))
    if not scans:
        reasons = counted_reasons(exclusions, rule) or "it has no rows"
        raise CohortError(f"no usable scan in the {len(exclusions)} rows of {source}: {reasons}")
    odd = [scan.name for scan in scans if rule.is_edss and scan.value == BETWEEN_STEPS]
    certain = "taken as it stands" if rule.kind == "regression" else "its class is certain"
    notes = [f"EDSS 0.5 is not on the scale, {certain}: kept {', '.join(odd)}"] if odd else []
    if ages:
        listed = ", ".join(sorted(set(ages)))
        notes.append(f"age capped for {len(ages)} of {len(scans)} scans ({listed}): the number given is taken as the age")
    notes += [note for name in optional if (note := _missing(name, scans, rule))]
    used = {(scan.patient, scan.session) for scan in scans}
    scores = [candidate.score for candidate in candidates if (candidate.patient, candidate.session) in used]
    notes += _provenance([score for score in scores if score], rule)
    return Cohort(source, rule, scans, exclusions, (*remarks, *notes))


def _capped(candidate: Candidate, rule: Target) -> list[str]:
    """The age that is to be told, where it was capped (``89+``)."""
    text = candidate.score.value if candidate.score and rule.covariate == "age" and not rule.is_named else ""
    return [text] if uncapped_age(text) != text else []


def _missing(name: str, scans: Sequence[Scan], rule: Target) -> str:
    """How many scans lack an optional image, of each class; empty where none does."""
    lacking = [scan for scan in scans if name not in scan.images]
    note = f"{title(name)} is missing in {len(lacking)} of {len(scans)} scans, which are used without it"
    if not lacking or rule.is_number:
        return note if lacking else ""
    positive, negative = (
        f"{sum(scan.label == label for scan in lacking)} of {sum(scan.label == label for scan in scans)}" for label in (1, 0)
    )
    return f"{note} ({positive} positive, {negative} negative)"


def _provenance(scores: Sequence[Score], rule: Target) -> list[str]:
    """Remarks on the sources of the scores that are used and on relapses before them; none if no table has this."""
    remarks = []
    sources = Counter(score.source or "unknown" for score in scores)
    if set(sources) != {"unknown"}:
        remarks.append(f"{rule.name} by source: " + ", ".join(f"{name} {count}" for name, count in sorted(sources.items())))
    known = [score.since_relapse for score in scores if score.since_relapse is not None]
    if known or rule.relapse_days:
        near = f", the shortest {min(known)} days" if known else ""
        remarks.append(
            f"relapses before the {rule.name}: known for {len(known)} of {len(scores)} scans, unknown for the others{near}"
        )
    return remarks


def _refuse_mixed_sources(candidates: Sequence[Candidate], rule: Target) -> None:
    sources = Counter(candidate.score.source for candidate in candidates if candidate.score and candidate.score.source)
    if rule.source in ("", *sources, "any") and (rule.source or len(sources) < 2):
        return
    listed = ", ".join(f"{name} {count}" for name, count in sorted(sources.items())) or "none"
    if rule.source:
        raise CohortError(f"label.source is {rule.source!r}; the {rule.name} have these sources: {listed}")
    raise CohortError(
        f"{rule.name} of several sources ({listed}); choose one with --label.source {sorted(sources)[0]}, or mix them with any"
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


def _scan_or_exclusion(
    candidate: Candidate, rule: Target, images: Sequence[str], optional: Collection[str]
) -> Scan | Exclusion:
    fault = file_at_fault(candidate, images, optional) or _score_at_fault(candidate, rule)
    if fault:
        reason, detail = fault
        label = _label(candidate, rule) if images[0] in candidate.images else None
        return Exclusion(candidate.patient, candidate.session, reason, detail or candidate.where, label)
    assert candidate.score is not None
    value = rule.value_of(candidate.score.value)
    assert value is not None
    return scan_of(candidate, images, optional, (value, candidate.score.days, rule.label_of(value)))


def scan_of(
    candidate: Candidate, images: Sequence[str], optional: Collection[str], outcome: tuple[float, int | None, int]
) -> Scan:
    """The scan that a candidate without fault becomes.

    Args:
        candidate: Its files.
        images: What is read of each scan.
        optional: Those that it may lack; covariates tell which it has, and nothing else may be called so.
        outcome: Its value, the days from the scan to the assessment, its label.
    """
    told = {indicator(name) for name in images}
    known = {name: text for name, text in candidate.covariates.items() if name not in told}
    return Scan(
        candidate.patient,
        candidate.session,
        {name: candidate.images[name] for name in images if name in candidate.images},
        *outcome,
        candidate.mask,
        candidate.labels,
        candidate.dialect,
        known | indicators(candidate.images, optional),
        tuple(images),
    )


def _label(candidate: Candidate, rule: Target) -> int | None:
    """The class that a candidate's score gives, None without a valid score in the window."""
    if candidate.score is None or _score_at_fault(candidate, rule):
        return None
    value = rule.value_of(candidate.score.value)
    return None if value is None else rule.label_of(value)


def file_at_fault(candidate: Candidate, images: Sequence[str], optional: Collection[str] = ()) -> tuple[str, str] | None:
    """Reason and detail where a file is not given, unless it is optional, or not there."""
    if not any(name in candidate.images for name in images):
        return NO_SCAN.replace("T1w", title(images[0])), ""
    missing = [title(name) for name in images if name not in candidate.images and name not in optional]
    if missing:
        return f"no {missing[0]}", ""
    table = Path(candidate.dialect) if candidate.labels and candidate.dialect.endswith(".tsv") else None
    asked = {title(name): candidate.images[name] for name in images if name in candidate.images}
    beside = {"mask": candidate.mask, "label map": candidate.labels, "label table": table}
    for kind, path in (asked | beside).items():
        if path is not None and not path.is_file():
            return f"{kind} file missing", str(path)
    return None


def _score_at_fault(candidate: Candidate, rule: Target) -> tuple[str, str] | None:
    """Reason and detail where the score is missing, impossible or outside the window."""
    if candidate.score is None:
        return f"no {rule.name}", ""
    if fault := rule.fault_of(candidate.score.value):
        return fault, "" if fault == f"no {rule.name}" else f"{candidate.score.value!r}, {candidate.where}"
    days = candidate.score.days
    if not rule.takes_source(candidate.score.source):
        return f"{rule.name} not by {rule.source}", candidate.score.source and f"by {candidate.score.source}, {candidate.where}"
    if days is None and rule.undated == "exclude":
        return UNDATED.format(name=rule.name), ""
    if days is not None and rule.min_days is not None and days < rule.min_days:
        return f"{rule.name} before day {rule.min_days}", f"{days} days, {candidate.where}"
    if days is not None and rule.max_days is not None and days > rule.max_days:
        return f"{rule.name} after day {rule.max_days}", f"{days} days, {candidate.where}"
    if rule.after_relapse(candidate.score.since_relapse):
        detail = f"{candidate.score.since_relapse} days after its onset, {candidate.where}"
        return f"{rule.name} within {rule.relapse_days} days after a relapse", detail
    return None
