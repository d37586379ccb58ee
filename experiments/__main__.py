"""The command line: ``python -m experiments WORD [options]``, also installed as ``regionwise``.

A user's mistake ends in one or two plain lines and status 2; an unexpected error shows its traceback and ends with status 1.
What is printed needs no reader: a command whose pipe closes early finishes its work and has the status of that.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from experiments.runtime.allocation import keep_freed_memory
from experiments.runtime.environment import own_environment
from experiments.runtime.provenance import provenance
from experiments.runtime.terminal import prepare_streams
from experiments.study.arguments import command_parser, own_options
from lightning_modules.errors import ModelError
from regions.errors import UserError, nearest

WORDS = {
    "demo": "phantom cohort, all runs, comparison: see the whole tool at work",
    "phantoms": "write a synthetic cohort with a known effect",
    "adopt": "a public MS dataset as a cohort, or several cohorts as one",
    "prepare": "raw BIDS scans with skull to a cohort in MNI152 space",
    "check": "before training: quality of the scans, exclusions, balance, duplicates, precision, cost",
    "core": "the part of each region that is that region in every scan, as an atlas",
    "fold": "train one run: --roi gray_matter --fold 3",
    "sweep": "train every run of the study that is missing",
    "baselines": "what age, sex, volumes and mean intensities alone can do, on the same folds",
    "compare": "the comparison of the inputs, from the runs' files",
    "controls": "what else could explain the result: permuted labels, mask only, header only, ...",
    "explain": "where the networks looked, held against networks with permuted labels",
    "external": "score an external cohort with the study's frozen models",
    "bundle": "one input's models as a folder that needs neither study, cohort nor network",
    "predict": "what the study's networks say of new scans, without labels",
    "site": "score a hospital's own cohort with a bundle, give back counts alone, and put sites together",
    "report": "the study's comparison again, and its report.html, figures/ and tables/",
    "work": "take missing runs one after another (started by sweep)",
    "sync": "upload the study's offline W&B runs, and look whether they arrived",
    "dashboard": "the study's W&B workspace, as JSON without a key, saved with one",
    "leet": "the study in W&B's terminal dashboard",
    "submit": "train every missing run on a Slurm cluster, as one array",
    "status": "the study's state, from its files, with the Slurm state beside it",
    "cancel": "take the study's array out of the queue",
    "plan": "list the commands of the missing runs, for any scheduler",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        gc.set_threshold(100_000, 10, 10)  # `fold --help`: 5.6 s of processor time instead of 6.3, median of 7 turns
        keep_freed_memory()
        prepare_streams()
    try:
        with own_environment():
            status = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return complain("interrupted; the same command goes on where it stopped", 130)
    except (UserError, ModelError) as error:
        return complain(str(error), error.status)
    except OSError as error:
        return complain(describe(error))
    return status


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] in ("-V", "--version"):
        print(versions())
        return 0
    if words[0] not in WORDS:
        near = nearest(words[0], WORDS)
        hint = f"did you mean {near}?" if near else f"commands are {', '.join(WORDS)}"
        return complain(f"{words[0]!r} is not a command; {hint}")
    if words[1:] and words[1] in ("-h", "--help"):
        return help_of(words[0])
    if any(word.split("=")[0] == "--channels" for word in words):
        words = importlib.import_module("experiments.study.channels").with_channels(words)
    own = own_options(words[0])
    if own is not None:
        from experiments.study.early import check_early

        check_early(own, words[1:])
    status: int = importlib.import_module(f"experiments.commands.{words[0]}").main(words[1:])
    return status


def describe(error: OSError) -> str:
    """A file error in plain words."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def complain(message: str, status: int = 2) -> int:
    """Print one plain message and return the status."""
    print(f"regionwise: {message}", file=sys.stderr)
    return status


def versions() -> str:
    """The version and commit of this program, and the versions of the libraries that decide its numbers."""
    facts: Any = provenance()
    ours = f"regionwise {facts['versions']['regionwise']}" + (f", commit {facts['git_commit']}" if facts["git_commit"] else "")
    others = [f"{name} {number}" for name, number in facts["versions"].items() if name != "regionwise"]
    return f"{ours}\n{', '.join(others)}"


def usage() -> str:
    """The list of commands."""
    width = max(map(len, WORDS))
    lines = [f"  {word:<{width}}  {meaning}" for word, meaning in WORDS.items()]
    more = "regionwise fold --help lists every setting, regionwise --version the versions."
    return "\n".join(["usage: regionwise WORD [options]", "", *lines, "", more])


def help_of(word: str) -> int:
    """Help of one command: what it does, its options, and every setting where it takes them."""
    module = importlib.import_module(f"experiments.commands.{word}")
    print((module.__doc__ or "").strip(), "\n")
    command_parser(module.Options, described=True).print_help()
    if module.Options.takes_settings:
        from experiments.study.parser import settings_help

        print(f"\n{word} takes every setting of a training too:\n")
        print(settings_help())
    return 0


if __name__ == "__main__":
    sys.exit(main())
