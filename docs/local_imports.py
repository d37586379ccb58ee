"""Imports inside functions: which there are, and what start-up time each saves. Run: python docs/local_imports.py.

Imports stand at the top of a file (ruff PLC0415). The exceptions are listed in local_imports.tsv, beside this file, with the
seconds that importing the module takes once the file itself is imported: the least of three fresh processes. What stands in the
list already is kept; with the word ``all`` everything is measured again, which takes minutes.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = ROOT / "docs" / "local_imports.tsv"
PACKAGES = ("regions", "datamodules", "lightning_modules", "experiments")
SCRIPTS = {"regions/data/build_label_map.py"}
LEAST_SECONDS = 0.05
"""An import that saves less stands at the top of its file."""
MEASURE = """
import importlib, sys, time
importlib.import_module(sys.argv[1])
start = time.perf_counter()
importlib.import_module(sys.argv[2])
print(time.perf_counter() - start)
"""


def in_the_code() -> set[tuple[str, str]]:
    """File and module of every import inside a function or under TYPE_CHECKING."""
    pairs = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if file in SCRIPTS or node in tree.body:
                    continue
                if isinstance(node, ast.ImportFrom):
                    pairs.add((file, str(node.module)))
                elif isinstance(node, ast.Import):
                    pairs |= {(file, alias.name) for alias in node.names}
    return pairs


def in_the_list() -> list[tuple[str, str, str]]:
    """File, module and seconds of every listed import."""
    rows = LIST.read_text(encoding="utf-8").splitlines()[1:]
    return [(file, module, seconds) for file, module, seconds in (row.split("\t") for row in rows)]


def seconds_of(file: str, module: str) -> float:
    """What importing a module adds to importing a file."""
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    command = [sys.executable, "-c", MEASURE, name, module]
    runs = [subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True) for _ in range(3)]
    return min(float(run.stdout.split()[-1]) for run in runs)


def main() -> None:
    """Measure imports inside functions and write the list."""
    known = {} if sys.argv[1:] == ["all"] else {(file, module): seconds for file, module, seconds in in_the_list()}
    rows = [(*pair, known.get(pair) or f"{seconds_of(*pair):.2f}") for pair in sorted(in_the_code())]
    LIST.write_text("\n".join("\t".join(row) for row in [("file", "module", "seconds"), *rows]) + "\n", encoding="utf-8")
    for row in rows:
        print("{:55s} {:40s} {}".format(*row))


if __name__ == "__main__":
    main()
