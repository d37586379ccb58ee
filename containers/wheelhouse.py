"""Gather every wheel that regionwise needs, for a machine without a network: ``make wheelhouse``.

Run it where Python, system and processor are those of that machine, for wheels fit them. The folder then holds the wheels,
``requirements.txt`` with the SHA-256 of each, and ``python-version``. Without a network it is installed by::

    python3 -m venv env
    env/bin/pip install --no-index --find-links wheelhouse --require-hashes -r wheelhouse/requirements.txt
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

from datamodules.files.atomic import file_sha256, filled_folder
from datamodules.files.listing import list_folder

ROOT = Path(__file__).parents[1]
EXTRAS = "prepare,pretrained,dashboard"


def requirements(folder: Path) -> str:
    """Lines of a requirements file with hashes, one for each wheel of a folder, sorted by name.

    Raises:
        ValueError: if a file is no wheel, or two wheels are of one package.
    """
    lines: dict[str, str] = {}
    for path in list_folder(folder, "*"):
        name, version, *tags = path.stem.split("-")
        if path.suffix != ".whl" or len(tags) not in (3, 4):
            raise ValueError(f"{path} is no wheel")
        if name.lower() in lines:
            raise ValueError(f"{folder} holds two wheels of {name}")
        lines[name.lower()] = f"{name}=={version} --hash=sha256:{file_sha256(path)}\n"
    return "".join(lines[name] for name in sorted(lines))


def gather(project: str, constraints: Path, out: Path, *options: str) -> None:
    """Fill a folder with a project's wheel and those of all it needs, and with the files that install them.

    Args:
        project: As pip names it: a folder, with extras in brackets.
        constraints: The versions that are taken.
        out: The folder, which must be missing or empty; it appears when it is complete.
        options: More options of ``pip wheel``, for example an index of other builds.

    Raises:
        CalledProcessError: if pip fails; it has told why.
    """
    with filled_folder(out) as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "-c", str(constraints)]
        subprocess.run([*pip, "--wheel-dir", str(folder), project, *options], check=True)
        text = requirements(folder)
        (folder / "requirements.txt").write_text(text, encoding="utf-8")
        (folder / "python-version").write_text(".".join(platform.python_version_tuple()[:2]) + "\n", encoding="utf-8")


def main(options: list[str]) -> int:
    """Gather into ``wheelhouse`` beside the Makefile; the status is pip's."""
    out = ROOT / "wheelhouse"
    if out.exists():
        print(f"{out} is there already; remove it to gather the wheels again", file=sys.stderr)
        return 2
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # an earlier build's files would get into the wheel
    try:
        gather(f"{ROOT}[{EXTRAS}]", ROOT / "constraints.txt", out, *options)
    except subprocess.CalledProcessError as error:
        return error.returncode
    wheels = list(list_folder(out, "*.whl"))
    size = sum(path.stat().st_size for path in wheels) / 1e9
    print(f"{out}: {len(wheels)} wheels, {size:.1f} GB; docs/offline.md says how to go on")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
