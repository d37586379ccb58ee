"""The Lightning logger of one run: W&B's own, minus everything that could carry a path or a patient id."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only


class RunLogger(WandbLogger):
    """Sends metrics only. The configuration is set once, filtered, when the run is opened; checkpoints stay local."""

    def __init__(self, run: Any, *, project: str, run_id: str, name: str, folder: Path) -> None:
        """Wrap an open run, or None in the processes of a distributed job that do not log."""
        super().__init__(experiment=run, project=project, id=run_id, name=name, save_dir=folder, log_model=False)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Ignore the module's hyperparameters: they may hold paths, and the run has its own configuration."""

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Keep checkpoints on this machine: a Lightning checkpoint stores absolute paths."""
