"""What a parser says of a mistake, as one line that names the option, its value and what is allowed.

jsonargparse, which reads the settings, answers with the Python types that it tried, argparse with the name of a function.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from regions.errors import nearest

SETTINGS = "fold"
"""The word whose help lists the settings."""
NEAR = 0.7
"""Likeness of two names from which one is suggested for the other."""
SOME = 6
"""Parts of a setting that are named."""
LIST = ("a list such as [1, 2]",)
TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "int": ("a whole number",),
        "float": ("a number",),
        "PositiveInt": ("a whole number above 0",),
        "bool": ("true", "false"),
        "str": ("a text",),
        "Path": ("a path",),
        "tuple": LIST,
        "list": LIST,
        "collections.abc.Sequence": ("a list",),
        "NoneType": (),
    }
)
"""Name of a type -> what a user writes for it."""
CLASS_PATH = "give the import path of a class"
EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "network": ", such as lightning_modules.networks.ResidualCNN",
        "data.transforms": ", such as torchio.RandomBiasField",
    }
)
VALUE = re.compile(r"(?:Got value|Given value): (?!NestedArg|Namespace)(.*)|Not of type \w+: (?:.*'(.*)'|(\S+) does not)")
TYPE = re.compile(r"Expected (?:an? )?(?:<class '([\w.]+)'>|typing\.Literal\[([^\]]*)\])|Not of type (\w+):")
ARGUMENT = re.compile(
    r"argument (--[\w.]+): (?:(expected \w+ argument)|invalid (\w+) value: '(.*)'|invalid choice: '(.*?)' \(choose from (.*)\))"
)
NOISE = (
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value type",
    "Given value: N",
    "- Expected a path",
    "- Expected a <class 'N",
)
"""Lines that tell which types were tried."""


def readable(message: str, names: Collection[str] = (), helper: str = SETTINGS) -> str:
    """A parser's message on one line, in a user's words.

    Args:
        message: As jsonargparse or argparse has it.
        names: The options that there are, without their dashes.
        helper: The word whose help lists them; that of ``fold`` lists the settings.
    """
    for read in (_unknown, _argument, _of_class, _value):
        said = read(message, names, helper)
        if said:
            return said
    lines = [line.strip() for line in message.splitlines()]
    kept = " ".join(line.removeprefix("- ") for line in lines if line and not line.startswith(NOISE))
    return re.sub(r'Parser key "([^"]*)":', r"\1:", kept)


def unmade(message: str) -> str:
    """What is said of a class that refuses its arguments: its name first, where the parser was making only one."""
    made = set(re.findall(r"class_path='[\w.]*?(\w+)'", message))
    said = readable(message)
    return f"{made.pop()} cannot be made: {said}" if len(made) == 1 else said


def unknown(option: str, names: Collection[str], helper: str = SETTINGS) -> str:
    """What is said of an option that there is not: the nearest of its group, or of all where there is no such group."""
    name = option.removeprefix("--")
    group = f"{name.rpartition('.')[0]}." if "." in name else "--"
    inside = {known.removeprefix(group): known for known in names if known.startswith(group)}
    wrong, known = (name.removeprefix(group), inside) if inside else (name, {known: known for known in names})
    near = nearest(wrong, known, NEAR)
    hint = f"did you mean {option.removesuffix(name)}{known[near]}?" if near else f"regionwise {helper} --help lists them"
    return f"{option} is not {'a setting' if helper == SETTINGS else 'an option'}; {hint}"


def stray(word: str) -> str:
    """What is said of a word that is no option and no option's value."""
    return f"{word} stands behind no option; write --name value"


def no_group(name: str, value: object, names: Collection[str]) -> str:
    """What is said of one value in the place of several settings."""
    parts = [known for known in names if known.startswith(f"{name}.")]
    if not parts:
        return f"{name} is {value}; {CLASS_PATH}{EXAMPLES.get(name, '')}"
    return f"{name} is {value}; give its parts: {', '.join(parts[:SOME])}{', ...' * (len(parts) > SOME)}"


def either(words: Iterable[str]) -> str:
    """Each of some words once: ``a, b or c``."""
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} or {last}" if most else last


def _unknown(message: str, names: Collection[str], helper: str) -> str:
    """What both parsers say of an option that there is not."""
    found = re.match(r"unrecognized arguments: (.*)", message)
    if found:
        words = found[1].split()
        option = next((word for word in words if word.startswith("--")), "")
        if not option:
            return stray(words[0])
        return unknown(option.partition("=")[0], names, helper)
    found = re.match(r"(?:Group '(?P<group>\w+)' does not accept option|Option) '(?P<name>[\w.]+)'", message)
    return unknown(".".join(part for part in found.groups() if part), names, helper) if found else ""


def _argument(message: str, names: Collection[str], helper: str) -> str:
    """What argparse says of a value."""
    found = ARGUMENT.search(message)
    if not found:
        return ""
    option, none, kind, of_kind, other, choices = found.groups()
    if none:
        return f"{option} has no value; give one behind it"
    allowed = TYPES.get(kind, ("another",)) if kind else [choice.strip("'") for choice in choices.split(", ")]
    return f"{option} is {_shown(of_kind if kind else other)}; give {either(allowed)}"


def _of_class(message: str, names: Collection[str], helper: str) -> str:
    """What jsonargparse says of a class that a setting names."""
    keys = _keys(message)
    path = re.search(r"Problem with given class_path '([\w.]+)'", message)
    wrong = re.search(r"Option '(\w+)' is not accepted", message)
    if path and wrong and keys:
        module, _, kind = path[1].rpartition(".")
        known = list(inspect.signature(getattr(importlib.import_module(module), kind)).parameters)
        near = nearest(wrong[1], known)
        hint = f"did you mean {keys[0]}.{near}?" if near else f"it has {', '.join(known)}"
        return f"{keys[0]}.{wrong[1]} is not an argument of {kind}; {hint}"
    missing = re.search(r"No module named '([\w.]+)'", message)
    if path and missing and keys:
        return f"{keys[0]} is {path[1]}, which needs {missing[1]}; that is not installed here"
    value = re.search(r"Expected a dot import path string: (.*)", message)
    if value and keys:
        return f"{keys[0]} is {value[1]}; {CLASS_PATH}{EXAMPLES.get(keys[0], '')}"
    value = re.search(r"Does not implement protocol \w+. Got value: (.*)", message)
    if value and keys:
        return f"{keys[0]} holds {value[1]}; {CLASS_PATH}{EXAMPLES.get(keys[0], '')}"
    value = re.search(r"(?:Not a valid subclass|has no attribute|not iterable|unhashable)(?:.|\n)*Given value: (.*)", message)
    if value and keys:
        given = re.sub(r"NestedArg\(key='(\w+)', val='?(.*?)'?\)", r"\1 \2", value[1])
        return f"{keys[0]} is {given}; give the import path of a class, or its class_path and its init_args by name"
    text = re.search(r"Unable to load config '(.*)'", message)
    if text and keys:
        return no_group(keys[0], text[1], names)
    return ""


def _value(message: str, names: Collection[str], helper: str) -> str:
    """What jsonargparse says of a value of another type."""
    keys, value, allowed = _keys(message), VALUE.search(message), list(_allowed(message))
    length = re.search(r"Expected a tuple with (\d+) elements", message)
    allowed += [f"a list of {length[1]}"] if length else []
    if not keys or not value or not allowed:
        return ""
    given = next(group for group in value.groups() if group is not None)
    return f"{'.'.join(keys)} is {_shown(given)}; give {either(allowed)}"


def _shown(value: str) -> str:
    """A value as a user wrote it, where Python calls it otherwise."""
    text = value.strip()
    return {"": "empty", "None": "null", "NoneType": "null", "list": "a list"}.get(text, text)


def _keys(message: str) -> Sequence[str]:
    """The setting, and within a class that it names the argument."""
    return list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))


def _allowed(message: str) -> Iterable[str]:
    for kind, words, restricted in TYPE.findall(message):
        if words:
            yield from (word.strip().strip("'\"") for word in words.split(","))
        else:
            yield from TYPES.get(kind or restricted, ())
