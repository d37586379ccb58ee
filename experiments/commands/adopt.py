"""``adopt``: a public MS dataset as a cohort, or several cohorts as one; nothing is downloaded, no image is copied.

make adopt DATASET=msleseg FROM=/data/MSLesSeg OUT=cohorts/msleseg
make adopt FROM=cohorts/a,cohorts/b OUT=cohorts/both
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.cohort.identity import AlikeIds
from datamodules.cohort.images import DEFAULT_IMAGES, titles
from datamodules.cohort.records import Candidate
from datamodules.cohort.target import Target
from datamodules.files.tables import CohortError
from datamodules.intake.adopt import adopt, combine, left_out
from datamodules.intake.dataset import PublicDataset
from datamodules.intake.public import find_dataset, public_datasets
from datamodules.preparation.derivative import usual_out
from experiments.runtime.words import plural
from experiments.study.arguments import CommandOptions, named, read


@dataclass(frozen=True)
class Options(CommandOptions):
    """What becomes a cohort, and where."""

    dataset: str = ""
    """Public dataset: msleseg, muslim or ljubljana; empty: cohorts are joined."""
    source: str = named("from", "")
    """The dataset's unpacked folder, or cohorts separated by commas."""
    out: str = ""
    """Folder of the new cohort."""
    alike_ids: AlikeIds = "refuse"
    """Patients whose ids differ in writing alone (0009 and 9): refuse them, or keep them apart as different people."""


def run(options: Options) -> int:
    """Write the cohort, and say what is in it and what comes next."""
    if not options.source or not options.out:
        datasets = ", ".join(public_datasets())
        raise CohortError(
            f"adopt needs --from (the unpacked folder) and --out (the new cohort); --dataset is one of {datasets}"
        )
    out = Path(options.out)
    if options.dataset:
        dataset = find_dataset(options.dataset)
        print("\n".join(describe(dataset, adopt(dataset, Path(options.source), out, options.alike_ids), out)))
        return 0
    sources = [Path(name.strip()) for name in options.source.split(",") if name.strip()]
    candidates = combine(sources, out, Target(undated="keep"), options.alike_ids)
    images = titles(dict.fromkeys(name for candidate in candidates for name in candidate.images))
    joined = f"{counted(candidates)}; {len(sources)} cohorts in {out}, images: {images}"
    lost = [f"not joined: {', '.join(names)} of {source}; add what you need to {out}/cohort.tsv, a value for each scan"
            for source in sources if (names := left_out(source))]  # fmt: skip
    print("\n".join([joined, *lost, f"next: make check COHORT={out}"]))
    return 0


def counted(candidates: Sequence[Candidate]) -> str:
    """How many scans and patients there are, and what they lack."""
    scans = [scan for scan in candidates if scan.images]
    whole = [scan for scan in scans if all(name in scan.images for name in DEFAULT_IMAGES)]
    scored = [scan for scan in whole if scan.score and scan.score.value]
    lost = f"; rows without a scan: {len(candidates) - len(scans)}" if len(candidates) > len(scans) else ""
    patients = len({scan.patient for scan in scans})
    there = f"{plural(len(scans), 'scan')} of {plural(patients, 'patient')}, {len(whole)} with {titles(DEFAULT_IMAGES)}"
    return f"{there}, {len(scored)} of these with a score{lost}"


def describe(dataset: PublicDataset, candidates: Sequence[Candidate], out: Path) -> list[str]:
    """What there is, whose it is, and what to do next."""
    keep = '''ARGS="--label.undated keep"'''
    if dataset.prepared:
        steps = [f"next: make check COHORT={out} {keep}"]
    else:
        steps = [f"next: make prepare BIDS={out}", f"then: make check COHORT={usual_out(out)} {keep}"]
    return [
        f"{dataset.title}: {counted(candidates)}",
        f"licence: {dataset.licence}",
        f"cite: {dataset.citation}",
        dataset.note,
        *steps,
    ]


def main(arguments: Sequence[str]) -> int:
    """Command line of ``adopt``."""
    return run(read(Options, arguments))
