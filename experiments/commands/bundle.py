"""``bundle``: one input's models as a folder that needs neither study, cohort nor network.

It is never written over: a bundle that was given away keeps what it says. It holds no scan and no patient's name; what it does
tell of its training cohort stands in its MODEL_CARD.md. ``--verify`` names every file that is not as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from datamodules.files.atomic import file_sha256
from datamodules.files.listing import list_folder
from experiments.bundles.sums import SUMS, faults_of
from experiments.runtime.console import plain_console
from experiments.runtime.interruption import RESUME, Interrupted, install_handlers
from experiments.study.arguments import CommandOptions, read, study_folder
from experiments.study.runs import PlanError


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which input becomes a bundle, or which bundle is looked at."""

    study: str = ""
    """Name of the study."""
    studies: Path = Path("studies")
    """Folder of all studies."""
    input: str = ""
    """The input, for example global."""
    seed: int = 0
    """Seed of the runs whose models are taken."""
    out: Path | None = None
    """Folder of the bundle; by default studies/<study>/bundles/<input>, of another seed than 0 <input>_seed-<seed> there."""
    exports: str = ""
    """Further forms for other programs, separated by commas: onnx, torch, monai."""
    verify: Path | None = None
    """Only look whether the files of this bundle are as they were written."""


def run(options: Options) -> int:
    """Make a bundle, or look at one."""
    console = plain_console()
    if options.verify is not None:
        return _verify(options.verify, console)
    if not options.study or not options.input:
        raise PlanError("bundle needs a study and an input; for example: make bundle STUDY=mine INPUT=global")

    from experiments.bundles.make import bundle_folder, make_bundle, read_origin

    study = study_folder(options.study, options.studies)
    out = options.out or bundle_folder(study, options.input, options.seed)
    install_handlers()
    try:
        forms = [name.strip() for name in options.exports.split(",") if name.strip()]
        bundle = make_bundle(read_origin(study, options.input, options.seed), out, console, forms)
    except Interrupted:
        console.print("interrupted; nothing was written, the same command begins again")
        return RESUME
    size = sum(path.stat().st_size for path in list_folder(out, "**/*") if path.is_file()) / 1e6
    console.print(f"bundle of {bundle.input}, {len(bundle.models)} models, {size:.1f} MB: {out}")
    console.print(f"SHA-256 of its {SUMS}: {file_sha256(out / SUMS)}")
    return 0


def _verify(folder: Path, console: Console) -> int:
    faults = faults_of(folder)
    for fault in faults:
        console.print(f"{folder}: {fault}")
    if not faults:
        console.print(f"{folder}: every file is as it was written; SHA-256 of its {SUMS}: {file_sha256(folder / SUMS)}")
    return int(bool(faults))


def main(arguments: Sequence[str]) -> int:
    """Command line of ``bundle``."""
    return run(read(Options, arguments))
