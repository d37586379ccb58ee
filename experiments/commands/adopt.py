"""``adopt``: a public MS dataset as a cohort, or several cohorts as one; nothing is downloaded, no image is copied.

make adopt DATASET=msleseg FROM=/data/MSLesSeg OUT=cohorts/msleseg
make adopt FROM=cohorts/a,cohorts/b OUT=cohorts/both
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.cohort.records import Candidate, LabelRule
from datamodules.files.tables import CohortError
from datamodules.intake.adopt import adopt, combine
from datamodules.intake.dataset import PublicDataset
from datamodules.intake.public import find_dataset, public_datasets
from datamodules.preparation.derivative import usual_out
from experiments.study.arguments import PlainParser


def main(arguments: Sequence[str]) -> int:
    """Command line of ``adopt``: --dataset (msleseg, muslim, ljubljana; none to join cohorts), --from, --out."""
    parser = PlainParser(prog="regionwise adopt", add_help=False, allow_abbrev=False)
    parser.add_argument("--dataset", default="")
    parser.add_argument("--from", dest="source", default="")
    parser.add_argument("--out", default="")
    known = parser.parse_args(arguments)
    if not known.source or not known.out:
        datasets = ", ".join(public_datasets())
        raise CohortError(
            f"adopt needs --from (the unpacked folder) and --out (the new cohort); --dataset is one of {datasets}"
        )
    out = Path(known.out)
    if known.dataset:
        dataset = find_dataset(known.dataset)
        print("\n".join(describe(dataset, adopt(dataset, Path(known.source), out), out)))
        return 0
    sources = [Path(name) for name in known.source.split(",") if name]
    found = combine(sources, out, LabelRule(undated="keep"))
    print("\n".join([f"{counted(found)} of {len(sources)} cohorts in {out}", f"next: make check COHORT={out}"]))
    return 0


def counted(found: Sequence[Candidate]) -> str:
    """How many scans and patients there are, and what they lack."""
    scans = [one for one in found if one.t1w or one.flair]
    whole = [one for one in scans if one.t1w and one.flair]
    scored = [one for one in whole if one.score and one.score.edss]
    lost = f"; rows without a scan: {len(found) - len(scans)}" if len(found) > len(scans) else ""
    patients = len({one.patient for one in scans})
    return (
        f"{len(scans)} scans of {patients} patients, {len(whole)} with T1w and FLAIR, {len(scored)} of these with a score{lost}"
    )


def describe(dataset: PublicDataset, found: Sequence[Candidate], out: Path) -> list[str]:
    """What was found, whose it is, and what to do next."""
    keep = '''ARGS="--label.undated keep"'''
    if dataset.prepared:
        steps = [f"next: make check COHORT={out} {keep}"]
    else:
        steps = [f"next: make prepare BIDS={out}", f"then: make check COHORT={usual_out(out)} {keep}"]
    return [
        f"{dataset.title}: {counted(found)}",
        f"licence: {dataset.licence}",
        f"cite: {dataset.citation}",
        dataset.note,
        *steps,
    ]
