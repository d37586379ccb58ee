"""``site``: score a hospital's own labelled cohort with a bundle and give back counts alone; ``--merge`` puts sites together.

``--bundle dir --cohort dir --out dir`` writes ``site.json`` and the log ``events.jsonl``; these two may leave the hospital.
Nothing is told of fewer than ``--least`` patients. ``--merge a,b,c`` gives the numbers of all scans, and their range where
something was withheld; ``--verify dir`` looks whether a site's files are as they were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.cohort.identity import AlikeIds
from datamodules.files.atomic import write_text
from datamodules.files.sealed import write_sealed
from experiments.bundles.merging import merged, show, table_text
from experiments.bundles.site_files import read_sites, touched_site
from experiments.runtime.console import plain_console
from experiments.runtime.interruption import RESUME, Interrupted, install_handlers
from experiments.statistics.aggregates import LEAST_PATIENTS
from experiments.study.arguments import CommandOptions, read
from experiments.study.recorded import STORE
from experiments.study.runs import PlanError


@dataclass(frozen=True)
class Options(CommandOptions):
    """A bundle and a cohort, or the sites that are put together."""

    bundle: Path | None = None
    """Folder of the bundle."""
    cohort: Path | None = None
    """The site's labelled cohort: a BIDS folder or a table."""
    out: Path | None = None
    """Folder that is given back; of --merge: where sites.json and sites.tsv go."""
    name: str = ""
    """What the site is called; empty: the name of the folder --out."""
    least: int = LEAST_PATIENTS
    """Patients of whom something is told, at least; 1 withholds nothing, and tells each scan's score to four digits."""
    store: Path = STORE
    """Folder of prepared volumes."""
    draws: int = 10_000
    """Draws of the bootstrap."""
    broken: Literal["refuse", "exclude"] = "refuse"
    """Scans whose images cannot be used: refuse the cohort, or exclude and count them."""
    workers: int = 2
    """Threads that prepare scans."""
    accelerator: str = "auto"
    """What computes: auto, cpu, gpu."""
    alike_ids: AlikeIds = "refuse"
    """Patients whose ids differ in writing alone (0009 and 9)."""
    merge: str = ""
    """Folders of sites, separated by commas."""
    verify: Path | None = None
    """Only look whether this folder of a site is as it was written."""


def run(options: Options) -> int:
    """Score a cohort, put sites together, or look at one."""
    if options.merge or options.verify is not None:
        return _read(options)
    if options.bundle is None or options.cohort is None or options.out is None:
        raise PlanError("site needs --bundle, --cohort and --out; for example: make site BUNDLE=dir COHORT=dir OUT=dir")
    for option, number, lowest in (("draws", options.draws, 100), ("least", options.least, 1), ("workers", options.workers, 1)):
        if number < lowest:
            raise PlanError(f"--{option} is {number}; give {lowest} or more")
    if not options.cohort.exists():
        raise PlanError(f"cohort {options.cohort} does not exist; give a BIDS folder or a table (.tsv, .csv)")
    return _score(options, options.bundle, options.cohort, options.out)


def _score(options: Options, bundle: Path, cohort: Path, out: Path) -> int:
    from experiments.bundles.site import SiteOptions, score_site

    install_handlers()
    console = plain_console()
    chosen = SiteOptions(
        cohort, options.name or out.resolve().name, options.store, options.least, options.draws, options.broken,
        options.workers, options.accelerator, options.alike_ids,
    )  # fmt: skip
    try:
        content = score_site(bundle, out, chosen, console)
    except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning answers TERM with SystemExit(0)
        console.print("interrupted; the same command begins again")
        return RESUME
    show(merged([content]), console)
    console.print(f"to give back: {out}")
    return 0


def _read(options: Options) -> int:
    console = plain_console()
    if options.verify is not None:
        faults = touched_site(options.verify)
        for line in faults or [f"{options.verify}: as it was written"]:
            console.print(line)
        return int(bool(faults))
    content = merged(read_sites([Path(name.strip()) for name in options.merge.split(",") if name.strip()]))
    show(content, console)
    if options.out is not None:
        write_sealed(options.out / "sites.json", content)
        write_text(options.out / "sites.tsv", table_text(content))
        console.print(f"table: {options.out / 'sites.tsv'}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command line of ``site``."""
    return run(read(Options, arguments))
