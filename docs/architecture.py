"""Write docs/architecture.md: every module with the first sentence of its docstring. Run: python docs/architecture.py."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("regions", "datamodules", "lightning_modules", "experiments", "benchmarks")
HEAD = """# Architecture

Imports go one way: experiments -> datamodules -> regions, and experiments -> lightning_modules; benchmarks and tests may
import all of them. Inside a package they go down the floors that `[tool.importlinter]` in pyproject.toml lists, and no two
folders import each other; `make test` checks it. An import inside a function is an exception: docs/local_imports.tsv has each
of them, with the start-up seconds it saves.

How a batch comes about: `datamodules/store/` keeps every scan once, normalised within the brain, as float16
(`store/prepare.py`). `mri.py` reads the box of one input from it, `batches/augmenter.py` changes training batches on their
device, and the region step comes last, so that outside the region a batch is exactly zero. Tuning and test batches pass the
same way without random changes.

One line a file, from the files themselves (`python docs/architecture.py` writes this page).
"""


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).removesuffix("::").rstrip(" :")


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for package in PACKAGES:
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            start = folder / "__init__.py"
            lines += [f"## {folder.relative_to(ROOT)}/", ""]
            lines += [summary(start), ""] if start.is_file() and summary(start) else []
            lines += [f"- `{path.name}`: {summary(path)}" for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "architecture.md").write_text(page(), encoding="utf-8")
