"""``predict``: what a study's networks say of new scans that nobody has assessed; research use only, not a medical device.

Prepared scans (a folder or a table, without labels) or a raw BIDS dataset, which is prepared first. Also in the form of a BIDS
App: ``regionwise predict bids_dir out_dir participant --study mine --participant_label 01 02``. A scan unlike those that the
networks were trained on is refused by name. An interrupted prediction goes on with the same command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.predicting.options import PredictOptions
from experiments.runtime.console import plain_console
from experiments.runtime.interruption import RESUME, Interrupted, install_handlers
from experiments.study.arguments import CommandOptions, read, require
from experiments.study.runs import PlanError

LABELS = "--participant_label"
LABEL_SPELLINGS = (LABELS, "--participant-label")


@dataclass(frozen=True)
class Options(CommandOptions, PredictOptions):
    """Which scans, which networks, and how the answer is given."""


def run(options: Options) -> int:
    """Predict the scans; 1 when all of them were refused."""
    install_handlers()
    if options.prevalence is not None and not 0 < options.prevalence < 1:
        raise PlanError(f"--prevalence {options.prevalence:g}: give a share between 0 and 1, for example 0.2")
    if options.workers < 1:
        raise PlanError(f"--workers {options.workers}: 1 or more scans are read at a time")
    if options.out.exists() and not options.out.is_dir():
        raise PlanError(f"--out {options.out} is a file; give a folder")

    from experiments.predicting.predict import predict

    console = plain_console()
    try:
        outcomes = predict(options, console)
    except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning answers TERM with SystemExit(0)
        console.print("interrupted; the same command goes on with the next scans")
        return RESUME
    return int(all(outcome.verdict == "refused" for outcome in outcomes) and not options.insist)


def main(arguments: Sequence[str]) -> int:
    """Command line of ``predict``."""
    words = from_bids_app(arguments)
    options = read(Options, words)
    require(words, ("scans", "out"), "for example: make predict STUDY=mine SCANS=new/scans OUT=new/predictions")
    return run(options)


def from_bids_app(arguments: Sequence[str]) -> list[str]:
    """The words of a BIDS App as options: the two folders and the level come first, labels are separated by blanks.

    Raises:
        PlanError: if the level is not ``participant``, or a folder is missing.
    """
    words = list(arguments)
    if words and not words[0].startswith("-"):
        positional = words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]
        if len(positional) != 3 or positional[2] != "participant":
            given = " ".join(positional)
            raise PlanError(
                f"predict {given}: give bids_dir out_dir participant, or --scans and --out; there is no other level"
            )
        words = ["--scans", positional[0], "--out", positional[1], *words[3:]]
    at = next((at for at, word in enumerate(words) if word in LABEL_SPELLINGS), None)
    if at is None:
        return words
    end = next((place for place in range(at + 1, len(words)) if words[place].startswith("-")), len(words))
    return [*words[:at], LABELS, ",".join(words[at + 1 : end]), *words[end:]]
