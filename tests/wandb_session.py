"""The W&B session of the process that runs the tests."""

from __future__ import annotations

import os
import sys


def end_session() -> None:
    """End the W&B session of this process, if there is one: it would go on with the settings it was started with.

    Nothing may set its variable again later, as ``monkeypatch`` does with what it has removed: others would look for a service
    that is gone.
    """
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
    os.environ.pop("WANDB_SERVICE", None)
