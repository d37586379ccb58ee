"""The default preset, read from its file without the packages that parse settings: a bench of the GPU has few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[1] / "experiments" / "study" / "presets" / "default.yaml"


def default_recipe() -> dict[str, Any]:
    """Arguments of the network, the module and the augmentation; the label alone is learned, made scans have no score."""
    preset = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {
        "network": preset["network"]["init_args"],
        "model": preset["model"] | {"objective": "classification"},
        "augmentation": preset["data"]["augmentation"],
    }
