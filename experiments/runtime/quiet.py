"""Notices of libraries that do not concern the user."""

from __future__ import annotations

import logging
import warnings

NOTICES = (
    r".*does not have many workers.*",  # loaders read memory-mapped files, workers would only cost
    r".*Checkpoint directory .* exists.*",  # a resumed run writes where it wrote before
    r".*The number of training batches.*",  # small cohorts have few batches
    r".*`srun` command is available.*",  # a run knows no scheduler
    r".*It is recommended to use `self.log\(.*sync_dist=True.*",  # every process sees the whole tuning part
    r".*litlogger.*",
    r".*tensorboardX.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*Grad strides do not match bucket view strides.*",  # of kernels of one voxel, whose strides have no meaning
)
"""Notices of Lightning and PyTorch that do not concern the user."""


def quiet_libraries() -> None:
    """Keep these notices out of the terminal; errors and our own messages stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for message in NOTICES:
        warnings.filterwarnings("ignore", message=message)
