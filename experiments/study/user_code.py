"""The code of a network that the user wrote: known by the SHA-256 of the file that its class stands in."""

from __future__ import annotations

import importlib
import inspect
import sysconfig
from pathlib import Path

from datamodules.files.atomic import file_sha256

OURS = ("datamodules", "experiments", "lightning_modules", "regions")
INSTALLED = ("site-packages", "dist-packages")


def source_sha256(class_path: str) -> str:
    """SHA-256 of the source file of a class; empty where it comes with this project, an installed package or Python.

    Such classes are told by versions. Other files that the class imports are not looked at.

    Args:
        class_path: Its import path, such as ``mymodule.MyNet``.
    """
    module, _, name = class_path.rpartition(".")
    if _is_ours(module):
        return ""  # without importing torch
    try:
        kind = getattr(importlib.import_module(module), name)
        path = Path(inspect.getsourcefile(kind) or "").resolve()
    except (ImportError, AttributeError, TypeError, ValueError):
        return ""
    return "" if _is_ours(kind.__module__) or not path.is_file() or _is_installed(path) else file_sha256(path)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in OURS


def _is_installed(path: Path) -> bool:
    python = Path(sysconfig.get_paths()["stdlib"]).resolve()
    return path.is_relative_to(python) or any(part in INSTALLED for part in path.parts)
