"""Mistakes of a command line that show without torch: an option that does not exist, a value or a path that cannot be.

Loading torch and Lightning, whose signatures the whole parser reads, takes five seconds; their names are read here from the
sources instead.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from jsonargparse import ArgumentError

from datamodules.cohort.read import require_source
from experiments.study.arguments import SBATCH, class_body, joined
from experiments.study.mistakes import readable, stray, unknown
from experiments.study.parser import option_names, plain_parser, preset_arguments
from experiments.study.record import known_regions
from experiments.study.recorded import DEMO_COHORT, with_recorded
from experiments.study.settings import Settings
from experiments.study.trainer_options import SettingsError
from regions.files import read_yaml

SIGNATURES = {
    "data": ("datamodules/mri.py", "BrainMRIDataModule"),
    "model": ("lightning_modules/classifier.py", "StratificationModule"),
    "trainer": ("pytorch_lightning/trainer/trainer.py", "Trainer"),
}
"""Groups of settings whose names are those of a class's arguments: its file and its name."""
LATER = ("network", "early_stopping", "tracking", "preset", "config", "print_config")
"""Groups that only the whole parser, or nobody, looks at."""


def check_early(own: Collection[str], words: Sequence[str]) -> None:
    """Look for mistakes in the command line of a word that takes settings.

    Args:
        own: Names of the command's own options.
        words: What follows the command.

    Raises:
        UserError: naming option and value.
    """
    if any("help" in text for text in words if text.startswith("-")):
        return
    if words and not words[0].startswith("-"):
        raise SettingsError(stray(words[0]))
    words = with_recorded(words)
    preset_arguments(words)
    plain: list[str] = []
    for option, *values in _options(joined(words, SBATCH)):
        group, _, name = option.removeprefix("--").partition("=")[0].partition(".")
        path = option.partition("=")[2] or next(iter(values), "")
        if group == "config" and path:
            _check_file(Path(path))
        if group == "regions" and path not in ("", "null"):
            known_regions(Path(path))
        if group in SIGNATURES and name:
            _check_name(group, name.split(".")[0].rstrip("+"))
        if group not in (*SIGNATURES, *LATER) and group not in own:
            plain += [option, *values]
    parser = plain_parser()
    try:
        settings = Settings(parser, parser.parse_args(plain))
    except ArgumentError as error:
        raise SettingsError(readable(str(error), [*option_names(parser), *own])) from None
    settings.label(), settings.optional
    if settings.values.cohort != DEMO_COHORT:
        require_source(settings.values.cohort)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise SettingsError(f"--config {path}: there is no such file; give a YAML file with settings")
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise SettingsError(f"--config {path}: {error}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"--config {path} holds no settings; write them as in a run's config.yaml, for example seed: 3")


def _options(words: Sequence[str]) -> Iterator[list[str]]:
    """Each option with its values, as they were written; what stands before the first is none."""
    starts = [row for row, word in enumerate(words) if word.startswith("--")]
    for start, stop in pairwise([*starts, len(words)]):
        yield list(words[start:stop])


def _check_name(group: str, name: str) -> None:
    names = _parameters(group)
    if not any(known.startswith(name) for known in names):
        raise SettingsError(unknown(f"--{group}.{name}", [f"{group}.{known}" for known in names]))


@lru_cache
def _parameters(group: str) -> tuple[str, ...]:
    """Names of the arguments of a class, from its source."""
    file, name = SIGNATURES[group]
    package = find_spec(file.split("/")[0])
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parents[1] / file
    (made,) = (node for node in class_body(path, name) if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return tuple(argument.arg for argument in (*made.args.args, *made.args.kwonlyargs))
