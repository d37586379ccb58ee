"""What would be trained, before anything is: quality, exclusions, balance, duplicates, precision and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from datamodules.cohort.flagged_scans import VERDICTS, quality_folder, read_accepted, read_verdicts, write_verdicts
from datamodules.cohort.identity import Key, under_names
from datamodules.cohort.records import Scan
from datamodules.files.atomic import write_text
from datamodules.files.listing import list_folder
from datamodules.files.sealed import write_sealed
from datamodules.files.tables import CohortError
from datamodules.quality.limits import Finding, Judged, Verdict, judge_scans
from datamodules.store.checksums import CHECKSUMS, damage, damaged_files
from datamodules.store.prepared import PreparedCohort
from experiments.analysis.table1 import write_table1
from experiments.analysis.tissue import measured_tissue, tissue_facts, write_tissue
from experiments.checking.acquisition import write_acquisition
from experiments.checking.check_page import write_check_page
from experiments.checking.gather import Subject, gather
from experiments.checking.quality import ScanQuality, quality_of_cohort
from experiments.checking.quality_page import write_quality_page
from experiments.checking.view import quality_lines, show
from experiments.runtime.console import bar
from experiments.runtime.words import plural
from experiments.study.settings import Settings
from experiments.study.study import cohort_table, open_cohort


def check(settings: Settings, study: Subject, console: Console, verify: bool = False) -> int:
    """Print what the study would train on, and write it into the study's folder.

    Args:
        settings: All settings.
        study: What is looked at.
        console: Where it is printed.
        verify: Compare all prepared files with their checksums first, and look no further where one does not fit.

    Returns:
        1 where two patients seem to have one scan, or a prepared file is not what was written, else 0.
    """
    console.print(f"cohort {study.cohort.source}, study {study.folder}")
    if verify and not _is_intact(study.prepared, settings.values.workers, console):
        return 1
    quality = with_progress(study.cohort.scans, study.prepared, settings.values.workers, console)
    residence = quality_folder(study.cohort.source)
    holds = (residence / VERDICTS).is_file()
    verdicts = one_verdict(judge_scans([scan.numbers for scan in quality]), quality, read_verdicts(residence))
    judged = write_quality_page(study.folder / "qc", quality, holds, read_accepted(residence), verdicts)
    tissue = _measure_tissue(settings, study, console)
    gathered = gather(settings, study, judged, tissue, console)
    show(study, gathered, quality, judged, console)
    write_table1(study.folder, gathered.table1)
    write_acquisition(study.folder, gathered.acquisition, study.cohort.rule)
    write_sealed(study.folder / "check.json", gathered.facts())
    write_tissue(study.folder, tissue)
    page = write_check_page(study, gathered, quality_lines(quality, judged))
    console.print(f"written: {page}, {study.folder / 'qc' / 'index.html'} (images of patients, for this machine only),")
    console.print("         check.json, tissue.json, table1.tsv, acquisition.tsv, flow.svg beside them")
    return int(any(not pair.same_patient for pair in gathered.duplicates))


def _measure_tissue(settings: Settings, study: Subject, console: Console) -> dict[str, Any]:
    """What the inputs hold of each patient; show a bar while it is measured."""
    options, scans = settings.study_options(), study.cohort.scans
    shown = options.regions, options.mask
    with bar(console, "measuring tissue") as on_scan:
        tissue = measured_tissue(scans, study.prepared, shown, study.folder, options.workers, on_scan)
    return tissue_facts(tissue, scans, options.regions)


def one_verdict(
    judged: Sequence[Judged], scans: Sequence[ScanQuality], recorded: Mapping[Key, tuple[Verdict, str, str]]
) -> list[Judged]:
    """The verdicts of the scans: that of qc.tsv where it has one, so that no page differs from another.

    Args:
        judged: Verdicts of the scans among themselves.
        scans: The scans.
        recorded: Verdict, reason and detail of qc.tsv by patient and session.
    """
    recorded = under_names(recorded, [(scan.patient, scan.session) for scan in scans])
    verdicts = []
    for scan, own in zip(scans, judged, strict=True):
        verdict, reason, detail = recorded.get((scan.patient, scan.session), (own.verdict, "", ""))
        if verdict != own.verdict:
            findings = () if verdict == "ok" else (Finding("", float("nan"), float("nan"), verdict, reason, detail),)
            own = replace(own, verdict=verdict, findings=findings)
        verdicts.append(own)
    return verdicts


def _is_intact(prepared: PreparedCohort, workers: int, console: Console) -> bool:
    """Compare the study's volumes, at every voxel size, and the packed boxes of its store; name what was changed."""
    roots = [prepared.folder, *list_folder(prepared.folder, "averaged-*")]
    volumes = sorted(
        {root / "volumes" / key for root in roots for key in prepared.volumes if (root / "volumes" / key).is_dir()}
    )
    boxes = sorted(path.parent for root in roots for path in list_folder(root, f"boxes/*/{CHECKSUMS}"))
    with bar(console, "reading prepared files") as on_folder:
        damaged = damaged_files([*volumes, *boxes], workers, on_folder)
    for path in damaged:
        console.print(str(damage(path)))
    counts = f"{len(volumes)} prepared volumes and {len(boxes)} packed boxes"
    console.print(f"{counts} were read: {len(damaged) or 'no'} file{'s differ' if len(damaged) != 1 else ' differs'}")
    return not damaged


def unsplit(settings: Settings, reason: str) -> Subject:
    """A cohort that cannot be split, with its table and its flow in the study's folder; its volumes are there already."""
    options = settings.study_options()
    cohort, prepared = open_cohort(options)
    write_sealed(options.folder / "flow.json", cohort.flow())
    write_text(options.folder / "cohort.tsv", cohort_table(cohort))
    return Subject(options.folder, cohort, prepared, None, reason)


def with_progress(scans: Sequence[Scan], prepared: PreparedCohort, workers: int, console: Console) -> list[ScanQuality]:
    """Measure and draw the scans that were not yet; show a bar while it lasts."""
    with bar(console, "measuring scans") as on_scan:
        return quality_of_cohort(scans, prepared, workers, on_scan)


def hold(settings: Settings, console: Console) -> None:
    """Judge all scans of the cohort and write qc.tsv beside it.

    Raises:
        CohortError: if a study was already made with the cohort as it was.
    """
    options = settings.study_options()
    if (options.folder / "splits.tsv").is_file():
        message = f"study {options.folder.name} was made with the cohort as it was"
        raise CohortError(f"{message}; give another STUDY, or remove {options.folder}")
    cohort, prepared = open_cohort(options, with_flagged=True)
    quality = with_progress(cohort.scans, prepared, options.workers, console)
    judged = judge_scans([scan.numbers for scan in quality])
    keys = [(scan.patient, scan.session) for scan in cohort.scans]
    path = write_verdicts(quality_folder(options.cohort), keys, judged, [scan.numbers for scan in quality])
    console.print(f"written: {path}, {plural(sum(scan.verdict == 'held' for scan in judged), 'scan')} held back")
