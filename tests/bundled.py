"""A trained study of the phantom cohort for tests of bundles: three folds, one epoch, small networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.bundles.bundle import FACTS
from experiments.bundles.sums import write_sums
from experiments.study.runs import grid
from experiments.study.settings import parse_settings
from experiments.study.study import open_study
from experiments.training.worker import work


def train(folder: Path, cohort: Path, *words: str, inputs: tuple[str, ...] = ("global",), name: str = "mine") -> Path:
    """The folder of a trained study, in ``folder/studies``; its store is ``folder/store``."""
    options = ["--cohort", str(cohort), "--study", name, "--studies", str(folder / "studies"), "--preset", "demo"]
    options += ["--store", str(folder / "store"), "--folds", "3", "--trainer.max_epochs", "1", "--tracking.mode", "disabled"]
    if "--network" not in words:
        options += ["--network.init_args.stages", "2", "--network.init_args.width", "2"]
    settings = parse_settings([*options, *words])
    assert work(settings, open_study(settings.study_options()), grid(inputs, [0], 3)) == 0
    return folder / "studies" / name


def rewritten(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A bundle whose bundle.json was changed by somebody who also wrote the sums again."""
    content = json.loads((bundle / FACTS).read_text(encoding="utf-8"))
    change(content)
    (bundle / FACTS).write_text(json.dumps(content), encoding="utf-8")
    write_sums(bundle)
    return bundle
