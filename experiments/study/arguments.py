"""The command line of a word, from one frozen dataclass: its fields are the options, the text under a field is its help.

jsonargparse, which reads the settings, does not fit here: a word must take its own options out of a line that holds settings
too (jsonargparse has no ``parse_known_args``), and its flags have no value (there ``--restart true``).
"""

from __future__ import annotations

import argparse
import ast
import inspect
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object

from experiments.study.mistakes import readable
from experiments.study.runs import PlanError, named_like, study_name
from experiments.tracking.options import TrackingOptions

ROOT = Path(__file__).parents[2]
NO_DEFAULT = (None, "", False, Path())
"""Defaults that say only that nothing was given."""
NO_SETTINGS = "takes_settings: ClassVar[bool] = False"
Chosen = TypeVar("Chosen", bound="CommandOptions")


@dataclass(frozen=True)
class CommandOptions:
    """Options of a word; a class with no options of its own takes settings alone, or nothing."""

    takes_settings: ClassVar[bool] = False
    """Whether every setting of ``fold`` may stand on the command line too."""


@dataclass(frozen=True)
class StudyChoice(CommandOptions):
    """The study that a word reads."""

    study: str = ""
    """Name of the study; empty: that of the cohort."""
    studies: Path = Path("studies")
    """Folder of all studies."""
    cohort: Path = Path("cohorts/demo")
    """The study's cohort, which names the study where no name is given."""
    preset: str = ""
    """Has no effect here: a finished study keeps its settings."""

    @property
    def folder(self) -> Path:
        """The study's folder: as named, or named like the cohort.

        Raises:
            PlanError: if there is no such study.
        """
        return study_folder(named_like(self.study, self.cohort), self.studies)


def named(name: str, default: Any) -> Any:
    """A field whose option is written otherwise than the field, such as ``--tracking.mode``."""
    return field(default=default, metadata={"option": name})


@dataclass(frozen=True)
class TrackedStudy(StudyChoice):
    """The study that a word reads, and where its runs are in W&B."""

    project: str = named("tracking.project", "")
    """Project in W&B; empty: that of all studies."""
    entity: str = named("tracking.entity", "")
    """Account or team in W&B; empty: the account's default."""

    def tracking(self) -> TrackingOptions:
        """Where the runs are, as the parts that track take it."""
        usual = TrackingOptions()
        return TrackingOptions(project=self.project or usual.project, entity=self.entity or usual.entity)


def study_folder(study: str, studies: Path) -> Path:
    """The folder of a study.

    Raises:
        PlanError: if there is no such study.
    """
    name = study_name(study)
    folder = studies / name
    if not folder.is_dir():
        raise PlanError(f"there is no study {folder}; start one with: make sweep STUDY={name}")
    return folder


def own_options(word: str) -> set[str] | None:
    """Names of a command's own options, from its source, which imports nothing; None where it takes no settings."""
    names = _fields_in_source(f"experiments.commands.{word}", "Options")
    return names if "takes_settings" in names else None


def _fields_in_source(module: str, name: str) -> set[str]:
    """Names of the fields of a dataclass and of those that it extends, ``takes_settings`` among them where it is True."""
    path = ROOT / (module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    origin = {alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    made = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    names = {
        item.target.id
        for item in made.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and ast.unparse(item) != NO_SETTINGS
    }
    for base in map(ast.unparse, made.bases):
        first, _, last = base.partition(".")
        if origin.get(first):
            names |= _fields_in_source(f"{origin[first]}.{first}" if last else str(origin[first]), last or first)
    return names


def class_body(path: Path, name: str) -> list[ast.stmt]:
    """What stands in a class of a source file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def option_of(item: Field[Any]) -> str:
    """How the option of a field is written, without its dashes."""
    return str(item.metadata.get("option", item.name))


class PlainParser(argparse.ArgumentParser):
    """An argument parser whose complaints are exceptions with one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving.

        Raises:
            PlanError: naming the option, its value and what is allowed.
        """
        names = [option.removeprefix("--") for option in self._option_string_actions]
        raise PlanError(readable(message, names, self.prog.split()[-1]))


def read(options: type[Chosen], arguments: Sequence[str]) -> Chosen:
    """The options of a word that takes no settings.

    Raises:
        PlanError: if an option does not exist, or its value is not allowed.
    """
    return options(**vars(command_parser(options).parse_args(arguments)))


def split(options: type[Chosen], arguments: Sequence[str]) -> tuple[Chosen, list[str]]:
    """The options of a word, and the rest of its command line, which holds settings.

    Raises:
        PlanError: if an option's value is not allowed.
    """
    values, settings_args = command_parser(options).parse_known_args(arguments)
    return options(**vars(values)), settings_args


def command_parser(options: type[CommandOptions], described: bool = False) -> PlainParser:
    """The parser of a word.

    Args:
        options: The dataclass; the last part of its module's name is the word.
        described: Whether the help says what each option means; that is read from the source.
    """
    parser = PlainParser(
        prog=f"regionwise {options.__module__.rpartition('.')[2]}",
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawTextHelpFormatter if described else argparse.HelpFormatter,
    )
    hints = get_type_hints(options)
    meanings = descriptions(options) if described else {}
    for item in fields(options):
        name, text = option_of(item), meanings.get(item.name, "").replace("%", "%%")
        if item.default not in (*NO_DEFAULT, MISSING):
            text += f" (default: {item.default})"
        if hints[item.name] is bool:
            parser.add_argument(f"--{name}", dest=item.name, action="store_true", help=text)
        else:
            value_type, choices = value_of(hints[item.name])
            convert = _path if value_type is Path else value_type
            parser.add_argument(
                f"--{name}", dest=item.name, type=convert, choices=choices, default=item.default, help=text,
                metavar=None if choices else value_type.__name__.upper(),
            )  # fmt: skip
    return parser


def _path(text: str) -> Path:
    """A path; an empty text would be the folder that one stands in.

    Raises:
        ArgumentTypeError: if it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("invalid Path value: ''")
    return Path(text)


def require(words: Sequence[str], names: Sequence[str], example: str) -> None:
    """Look that options without which a word can do nothing are there.

    Raises:
        PlanError: naming the first that is not.
    """
    given = {word.partition("=")[0] for word in words}
    missing = [name for name in names if f"--{name}" not in given]
    if missing:
        raise PlanError(f"--{missing[0]} is missing; {example}")


def value_of(hint: Any) -> tuple[type, tuple[str, ...] | None]:
    """What turns a word into the value of a type, and the words that are allowed; ``None`` in a union is the default alone."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    return (str, get_args(hint)) if get_origin(hint) is Literal else (hint, None)


def descriptions(options: type[CommandOptions]) -> dict[str, str]:
    """The text under each field of a dataclass and of those that it extends, on one line each."""
    texts: dict[str, str] = {}
    for kind in reversed(inspect.getmro(options)):
        if kind is not object:
            texts |= {entry.arg_name: entry.description or "" for entry in parse_from_object(kind).params}
    return {name: " ".join(text.split()) for name, text in texts.items()}


SBATCH = "--sbatch"
"""The option whose value starts with a dash."""


def joined(arguments: Sequence[str], name: str) -> list[str]:
    """The words with ``name value`` made one, for a value that itself starts with a dash."""
    words = list(arguments)
    if name in words[:-1]:
        at = words.index(name)
        words[at : at + 2] = [f"{name}={words[at + 1]}"]
    return words
