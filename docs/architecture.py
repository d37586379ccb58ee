"""Write docs/architecture.md: every module with the first sentence of its docstring. Run: python docs/architecture.py."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("regions", "datamodules", "lightning_modules", "experiments", "benchmarks")
HEAD = """# Architecture

Imports go one way: tests -> experiments -> (datamodules -> regions), and experiments -> lightning_modules; benchmarks may
import all of them and nothing imports it. `tests/test_architecture.py` enforces it.

How a batch comes about: `store.py` keeps every scan once, normalised within the brain, as float16 (`transforms.py`).
`mri.py` reads the box of one input from it, `augmentation.py` changes training batches on their device, and the region step
comes last, so that outside the region a batch is exactly zero. Tuning and test batches pass the same way without chance.

One line a file, from the files themselves (`python docs/architecture.py` writes this page).
"""


def told(path: Path) -> str:
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
            lines += [told(start), ""] if start.is_file() and told(start) else []
            lines += [f"- `{path.name}`: {told(path)}" for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "architecture.md").write_text(page(), encoding="utf-8")
