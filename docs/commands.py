"""Write docs/commands.md: the options of every command and the variables of the Makefile. Run: python docs/commands.py."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

from experiments.__main__ import WORDS
from experiments.study.arguments import NO_DEFAULT, CommandOptions, descriptions, option_of

ROOT = Path(__file__).parents[1]
HEAD = """# Commands

`make WORD` calls `python -m experiments WORD`, also installed as `regionwise WORD`. A variable of `make` stands for one option;
its value arrives as it was typed. `ARGS="..."` takes all others, written as in a shell, for example
`make sweep STUDY=mine ARGS="--trainer.max_epochs 5"`. Where a command takes settings, every setting of a training may follow:
`regionwise fold --help` lists them, `--preset NAME` and `--config FILE` read them from files. A mistake ends in one or two
lines and status 2.

The tables are made from the classes `Options` in `experiments/commands/` (`python docs/commands.py` writes this page).
"""


def options_of(word: str) -> type[CommandOptions]:
    """The class of a command's options."""
    options: type[CommandOptions] = importlib.import_module(f"experiments.commands.{word}").Options
    return options


def variables() -> dict[str, dict[str, str]]:
    """For each command the variables of the Makefile that it takes, and the option that each stands for."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    groups = dict(re.findall(r"^([A-Z_]+) = (.*)$", text, re.MULTILINE))
    words: dict[str, dict[str, str]] = {}
    for word, recipe in re.findall(r"@\$\(RUN\) (\w+)(.*)$", text, re.MULTILINE):
        line = recipe
        while any(f"$({name})" in line for name in groups):
            line = re.sub(r"\$\(([A-Z_]+)\)", lambda match: groups.get(match[1], match[0]), line)
        valued = {name: option for option, name in re.findall(r"\$\(call option,([\w.-]+),(\w+)\)", line)}
        flags = dict(re.findall(r"\$\(if \$\(filter-out 0 no false,\$\((\w+)\)\),--([\w.-]+)\)", line))
        words[word] = valued | flags
    return words


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    words_of: dict[tuple[str, str], list[str]] = defaultdict(list)
    for word, pairs in variables().items():
        for variable, option in pairs.items():
            words_of[variable, option].append(word)
    lines += ["## Variables of make", "", "| variable | option | commands |", "|---|---|---|"]
    lines += [f"| {name} | `--{option}` | {', '.join(words)} |" for (name, option), words in sorted(words_of.items())]
    for word, meaning in WORDS.items():
        options = options_of(word)
        lines += ["", f"## {word}", "", meaning[0].upper() + meaning[1:] + "."]
        lines += ["Takes every setting of a training."] if options.takes_settings else []
        texts = descriptions(options)
        if fields(options):
            lines += ["", "| option | default | meaning |", "|---|---|---|"]
        for item in fields(options):
            default = "" if item.default in NO_DEFAULT else str(item.default)
            lines.append(f"| `--{option_of(item)}` | {default} | {texts[item.name].replace('|', '/')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "commands.md").write_text(page(), encoding="utf-8")
