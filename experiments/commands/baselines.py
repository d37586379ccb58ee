"""``baselines``: what age, sex, volumes and mean intensities alone can do, on the same folds as the networks.

Prevalence; age and sex; age, sex and regional volumes (with brain and lesion volume); mean intensity of each region. Each is a
logistic regression fitted on the training part, its penalty from the tuning part, its threshold by the study's rule. ``make
compare`` puts them into the same table and tests each against global on the same patients. Linear readers of each input, ridge
regressions on its voxels, on the features of its untrained network and on its tissue shares, are tested against the network of
that input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from experiments.analysis.baseline_files import READERS
from experiments.analysis.baselines import make_baselines
from experiments.analysis.reader_inputs import ENCODERS
from experiments.analysis.readers import make_readers
from experiments.runtime.console import plain_console, print_note
from experiments.study.arguments import CommandOptions, split
from experiments.study.demo_cohort import ensure_demo_cohort
from experiments.study.opening import open_with_progress
from experiments.study.settings import parse_settings
from regions.errors import UserError


@dataclass(frozen=True)
class Options(CommandOptions):
    """Which encoders are read."""

    takes_settings: ClassVar[bool] = True

    encoders: str = "untrained"
    """Encoders whose features a linear reader is fitted on, separated by commas: untrained, hd-bet, deepbet."""


def run(options: Options, settings_args: list[str]) -> int:
    """Fit every baseline on every fold and say what each is made of."""
    console = plain_console()
    encoders = listed_encoders(options.encoders)
    settings = parse_settings(settings_args)
    ensure_demo_cohort(settings.values.cohort, console)
    study = open_with_progress(settings, console)
    made = make_baselines(study, settings.values.workers, console)
    for name, facts in made["baselines"].items():
        lacking = ", ".join(f"{feature} of {count} scans" for feature, count in facts["missing"].items())
        console.print(f"{name}: {facts['about']}{f'; missing {lacking}' if lacking else ''}")
    how = "ridge" if study.cohort.rule.is_number else "logistic ridge"
    readers = make_readers(study, settings, encoders, console)
    for name, of_inputs in readers["readers"].items():
        console.print(f"{name}: linear reader ({how} regression) of {READERS[name]}, for {', '.join(of_inputs)}")
    for note in [*made["notes"], *readers["notes"]]:
        print_note(console, note)
    console.print(f"baselines of {study.splits.folds} folds: {study.folder / 'baselines'}; next: make compare")
    return 0


def listed_encoders(text: str) -> list[str]:
    """Names of encoders, separated by commas.

    Raises:
        UserError: naming the first that does not exist.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in ENCODERS]
    if unknown:
        raise UserError(f"--encoders {unknown[0]} does not exist; encoders are {', '.join(ENCODERS)}")
    return names


def main(arguments: Sequence[str]) -> int:
    """Command line of ``baselines``."""
    return run(*split(Options, arguments))
