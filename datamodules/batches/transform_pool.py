"""Apply TorchIO transforms in processes of their own, ahead of the training step.

TorchIO draws from, and seeds, the random state of its whole process. In another process it cannot touch the training's random
numbers, whatever the threads of the training do meanwhile.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from datamodules.batches.transform_task import PROCESSES, Arrays, TransformTask
from regions.errors import UserError


class TransformPool:
    """Processes that change scans; they start when the first scan is asked for and end with this object or its process."""

    def __init__(self, task: TransformTask) -> None:
        self._task = task
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, rows: Sequence[int], epoch: int) -> list[Arrays]:
        """Change some scans side by side.

        Args:
            rows: Their rows in the cohort.
            epoch: Epoch of the training; with the seed and the row it decides all random numbers.

        Returns:
            Of each scan ``image`` (C, *box.shape) float32 and, if asked for, ``labels`` box.shape uint8.

        Raises:
            UserError: if a transform fails or changes the shape.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                min(PROCESSES, os.cpu_count() or 1), multiprocessing.get_context("spawn"), _begin, (self._task,)
            )
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        coming = [self._pool.submit(_changed, row, epoch) for row in rows]
        try:
            return [scan.result() for scan in coming]
        except BrokenProcessPool as error:
            raise UserError(f"data.transforms: a process that applies them ended ({error}); is there enough memory?") from error


_task: TransformTask | None = None


def _begin(task: TransformTask) -> None:
    """Start a process of the pool; it ends when the training's process is gone, however that ended."""
    import torch

    global _task
    _task = task
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _changed(row: int, epoch: int) -> Arrays:
    from datamodules.batches.transforms import changed_scan

    assert _task is not None
    return changed_scan(_task, row, epoch)
