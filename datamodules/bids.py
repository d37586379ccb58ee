"""Candidates from a BIDS-like folder with derivatives in MNI152 space.

Read are::

    participants.tsv                            participant_id, then covariates (age, sex, site, ...)
    sub-X/sub-X_sessions.tsv                    session_id, acq_time
    phenotype/edss.tsv                          participant_id, edss, edss_date or days_since_scan, session_id
    derivatives/<one>/sub-X/[ses-Y/]anat/       sub-X[_ses-Y]_space-MNI152*_T1w.nii.gz, _FLAIR.nii.gz, _dseg.nii.gz, _mask.nii.gz

A score belongs to a scan by date, not by session name: the assessment nearest to the scan among those in the label window wins,
the earlier of two equally near. Only where there are no dates does the session's name decide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

from datamodules.cohort import MISSING, Candidate, CohortError, LabelRule, Score
from datamodules.tables import parse_days, read_rows, require_columns

ENTITIES = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?_")
SIDECAR_COVARIATES = {"MagneticFieldStrength": "field_strength", "Manufacturer": "vendor"}


def bids_candidates(folder: Path, rule: LabelRule) -> list[Candidate]:
    """All T1w images in MNI152 space under a folder, each with its FLAIR, masks, label map, score and covariates.

    Raises:
        CohortError: if images are missing or in several derivatives, or a table contradicts itself.
    """
    images = _derivative(folder)
    root = folder if (folder / "participants.tsv").is_file() else _bids_root(folder)
    participants = _participants(root)
    scores = _scores(root)
    return [_candidate(t1w, root, participants, scores, rule) for t1w in sorted(images)]


def _derivative(folder: Path) -> list[Path]:
    direct = sorted(folder.glob("sub-*/**/*_space-MNI152*_T1w.nii*"))
    if direct:
        return direct
    found = {d: sorted(d.glob("sub-*/**/*_space-MNI152*_T1w.nii*")) for d in sorted(folder.glob("derivatives/*")) if d.is_dir()}
    found = {d: images for d, images in found.items() if images}
    if not found:
        raise CohortError(f"{folder} holds no sub-*/**/*_space-MNI152*_T1w.nii.gz, also not under derivatives/; prepare the scans first")
    if len(found) > 1:
        names = ", ".join(str(d.relative_to(folder)) for d in found)
        raise CohortError(f"{folder} has scans in several derivatives ({names}); give the folder of one of them as the cohort")
    return next(iter(found.values()))


def _bids_root(folder: Path) -> Path:
    for parent in folder.resolve().parents[:2]:
        if (parent / "participants.tsv").is_file():
            return parent
    raise CohortError(f"no participants.tsv in {folder} or the two folders above it")


def _participants(root: Path) -> dict[str, dict[str, str]]:
    path = root / "participants.tsv"
    rows = read_rows(path)
    require_columns(path, rows, ("participant_id",))
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        patient = _patient(row["participant_id"])
        if patient in table:
            raise CohortError(f"{path} line {row['#']}: patient {patient} occurs twice; keep one row for each patient")
        table[patient] = {n: v for n, v in row.items() if n not in ("participant_id", "#") and v.lower() not in MISSING}
    return table


def _patient(text: str) -> str:
    return text if text.startswith("sub-") else f"sub-{text}"


def _scores(root: Path) -> dict[str, list[dict[str, str]]]:
    path = root / "phenotype" / "edss.tsv"
    if not path.is_file():
        raise CohortError(f"{path} is missing; it needs participant_id, edss and edss_date or days_since_scan")
    rows = read_rows(path)
    require_columns(path, rows, ("participant_id", "edss"))
    scores: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        scores.setdefault(_patient(row["participant_id"]), []).append(row | {"where": f"{path.name} line {row['#']}"})
    return scores


def _candidate(
    t1w: Path, root: Path, participants: Mapping[str, dict[str, str]], scores: Mapping[str, list[dict[str, str]]], rule: LabelRule
) -> Candidate:
    match = ENTITIES.match(t1w.name)
    if match is None:
        raise CohortError(f"{t1w} does not start with sub-X_ or sub-X_ses-Y_")
    patient, session = match[1], match[2] or ""
    if patient not in participants:
        raise CohortError(f"{t1w.name}: {patient} has no row in {root / 'participants.tsv'}")
    score, where = _score_of(scores.get(patient, []), session, _scan_date(root, patient, session), rule)
    dseg, dialect = _label_map(t1w)
    return Candidate(
        patient=patient,
        session=session,
        t1w=t1w,
        flair=_sibling(t1w, "FLAIR"),
        score=score,
        where=where or t1w.name,
        mask=_brain_mask(t1w),
        labels=dseg,
        dialect=dialect,
        covariates=participants[patient] | _sidecar(t1w),
    )


def _sibling(t1w: Path, suffix: str) -> Path | None:
    path = t1w.with_name(t1w.name.replace("_T1w.nii", f"_{suffix}.nii"))
    return path if path.is_file() else None


def _stem(t1w: Path) -> str:
    match = re.match(r".*_space-[A-Za-z0-9]+", t1w.name)
    assert match is not None  # the glob asked for it
    return match[0]


def _brain_mask(t1w: Path) -> Path | None:
    return _only(t1w.parent.glob(f"{_stem(t1w)}*_desc-brain_mask.nii*"), "brain masks")


def _label_map(t1w: Path) -> tuple[Path | None, str]:
    path = _only(t1w.parent.glob(f"{_stem(t1w)}*_dseg.nii*"), "label maps")
    if path is None:
        return None, "freesurfer"
    table = path.with_name(path.name.split(".nii")[0] + ".tsv")
    if table.is_file():
        return path, str(table)
    match = re.search(r"_seg-([A-Za-z0-9]+)", path.name)
    return path, match[1].lower() if match else "bids-generic"


def _only(paths: Iterable[Path], what: str) -> Path | None:
    found = sorted(paths)
    if len(found) > 1:
        raise CohortError(f"{found[0].parent} has {len(found)} {what} for one scan: {', '.join(p.name for p in found)}; keep one")
    return found[0] if found else None


def _sidecar(t1w: Path) -> dict[str, str]:
    path = t1w.with_name(t1w.name.split(".nii")[0] + ".json")
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CohortError(f"{path} is not JSON: {error}") from None
    return {ours: str(content[key]) for key, ours in SIDECAR_COVARIATES.items() if key in content}


def _scan_date(root: Path, patient: str, session: str) -> date | None:
    path = root / patient / f"{patient}_sessions.tsv"
    if not session or not path.is_file():
        return None
    rows = read_rows(path)
    require_columns(path, rows, ("session_id", "acq_time"))
    for row in rows:
        if row["session_id"] in (session, session.removeprefix("ses-")):
            return parse_date(row["acq_time"], f"{path.name} line {row['#']}")
    return None


def parse_date(text: str, where: str) -> date | None:
    """A date from ISO 8601 text, or None where it is missing.

    Raises:
        CohortError: if the text is something else.
    """
    if text.lower() in MISSING:
        return None
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        raise CohortError(f"{where}: {text!r} is not a date; write YYYY-MM-DD") from None


def _score_of(
    rows: Sequence[Mapping[str, str]], session: str, scanned: date | None, rule: LabelRule
) -> tuple[Score | None, str]:
    """The assessment that belongs to a scan, and where it stands: in the window before outside of it, then the nearest."""
    dated: list[tuple[bool, int, int, Mapping[str, str]]] = []
    for row in rows:
        same_session = row.get("session_id", "") in (session, session.removeprefix("ses-"))
        days = parse_days(row.get("days_since_scan", ""), row["where"]) if same_session or not session else None
        assessed = parse_date(row.get("edss_date", ""), row["where"])
        if days is None and assessed is not None and scanned is not None:
            days = (assessed - scanned).days
        if days is not None and row["edss"].lower() not in MISSING:
            dated.append((not rule.min_days <= days <= rule.max_days, abs(days), days, row))
    if dated:
        _, _, days, row = min(dated, key=lambda one: one[:3])
        return Score(row["edss"], days), row["where"]
    same = [row for row in rows if row.get("session_id", "") in (session, session.removeprefix("ses-"), "")]
    if len(same) > 1:
        raise CohortError(f"{same[0]['where']} and {same[1]['where']}: two undated scores for one session; add edss_date")
    return (Score(same[0]["edss"], None), same[0]["where"]) if same else (None, "")
