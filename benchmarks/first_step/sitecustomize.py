"""Note the moment at which a Python process begins its first training step.

Put this folder on PYTHONPATH and a file's path into REGIONWISE_FIRST_STEP: Python imports ``sitecustomize`` by itself, and the
file gets ``time.time()`` of the first ``StratificationModule.training_step``. Nothing is imported earlier than without it.
"""

import importlib.util
import os
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

WATCHED = "lightning_modules.classifier"


class Watch:
    """Wait for the module that holds the training step, and wrap the step when it is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find the watched module as usual; the rest is not ours."""
        if name != WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def then_wrap(module: ModuleType) -> None:
                execute(module)
                wrap(module.StratificationModule)

            spec.loader.exec_module = then_wrap  # type: ignore[method-assign]
        return spec


def wrap(kind: Any) -> None:
    """Note when the step is called for the first time, then take the wrapping off."""
    step = kind.training_step

    def first(self: Any, *args: Any, **named: Any) -> Any:
        kind.training_step = step
        Path(os.environ["REGIONWISE_FIRST_STEP"]).write_text(repr(time.time()), encoding="utf-8")
        return step(self, *args, **named)

    kind.training_step = first


if os.environ.get("REGIONWISE_FIRST_STEP"):
    sys.meta_path.insert(0, Watch())
