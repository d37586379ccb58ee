"""From stored volumes to batches that are there when they are needed: what is kept where, and what is read ahead.

A part's boxes lie in one of three places:

- ``device``: in the GPU's own memory, where half of what is free there holds them. A batch is then one gather on the GPU.
- ``packed``: side by side in one file of the store, where they are small (``datamodules.store.packing``).
- ``mapped``: in the store's volumes.

Both kinds of files are mapped into memory, and all runs of a machine share one copy of them, the system's page cache. A thread
reads the next batches while the network works on one: a file's first use waits for the disk. On their way to a GPU batches go
through pinned memory and over a stream of their own.
"""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler

from datamodules.batches.transform_pool import TransformPool
from datamodules.store.boxes import crop_to_box, within
from datamodules.store.packing import open_packed
from datamodules.store.prepared import Kind, PreparedCohort
from regions.errors import UserError
from regions.grid import Box

Batch = dict[str, Tensor]
Memory = Literal["auto", "device", "packed", "mapped"]
Place = Literal["device", "packed", "mapped"]

PACKED_BYTES = 512 << 20
"""Most that ``auto`` packs: the brainstem of a thousand scans at 1 mm."""
DEVICE_SHARE = 0.5
"""Share of a GPU's free memory that ``auto`` fills with volumes; the rest is the training's."""
RUNS_PER_GPU = "REGIONWISE_RUNS_PER_GPU"
"""Environment variable: runs that start side by side on one GPU, each of which would find all of it free."""
AHEAD = 2
"""Batches that are read ahead."""
READERS = 4
"""Threads that read for a GPU, which needs more than one can read."""


class EpochBatches(Sampler[list[int]]):
    """Lists of rows: shuffled by (seed, epoch) for training, in order otherwise; batches differ by one scan at most in size.

    Args:
        rows: The scans of a part.
        batch_size: Scans in a batch, over all processes of a distributed training.
        seed: Seed of the order; None keeps it.
        rank: This process; it gets every ``world``-th scan of each batch.
        world: Number of processes.

    Raises:
        UserError: if a batch has fewer scans than there are processes.
    """

    def __init__(self, rows: Sequence[int], batch_size: int, seed: int | None = None, rank: int = 0, world: int = 1) -> None:
        self.rows, self.seed, self.epoch, self.rank, self.world = np.asarray(rows), seed, 0, rank, world
        self.batches = -(-len(self.rows) // batch_size)
        if len(self.rows) // self.batches < world:
            raise UserError(f"data.batch_size {batch_size} leaves batches smaller than the {world} devices; raise it")

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the coming epoch; Lightning calls this, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.rows
        if self.seed is not None:
            rows = np.random.default_rng([self.seed, self.epoch, 1]).permutation(rows)
        for batch in np.array_split(rows, self.batches):
            yield batch[self.rank :: self.world].tolist()


def free_memory(device: torch.device) -> int | None:
    """Bytes that a run may count on, on a GPU: what is free now, its share of the whole at most; None where the device is none.

    What a run before this one has left to the garbage collector and to torch's cache is given back first.
    """
    if device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    free, whole = torch.cuda.mem_get_info(device)
    return min(free, whole // int(os.environ.get(RUNS_PER_GPU, "1")))


def choose_place(memory: Memory, needed: int, free: int | None, packable: bool) -> Place:
    """Decide where the boxes of a run lie.

    Args:
        memory: As asked for; ``auto`` decides by what is needed and free.
        needed: Bytes of the boxes of all parts of the run.
        free: Bytes that are free on the GPU; None without one.
        packable: Whether the store can be written.

    Raises:
        UserError: if the device's memory is asked for and there is no such device, or too little of it is free.
    """
    if memory == "device":
        if free is None:
            raise UserError("data.memory device needs a GPU; use auto, packed or mapped")
        if needed > free:
            raise UserError(f"data.memory device needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there; use auto")
    if memory != "auto":
        return memory
    if free is not None and needed <= DEVICE_SHARE * free:
        return "device"
    return "packed" if packable and needed <= PACKED_BYTES else "mapped"


class BoxDataset:
    """One box of every scan of a part, a batch at a time.

    Args:
        prepared: The store's volumes, in cohort order.
        labels: The class of each scan of the cohort.
        rows: The scans of the part.
        box: What is read of each.
        with_labels: Whether label maps are read too.
        place: Where the boxes lie.
        device: The device of ``device``.
        pack: The box that is packed; ``box`` lies within it.
        transforms: Change each scan before its box is cut out; with ``mapped`` only.
        scores: The score of each scan of the cohort, if batches are to hold them.
        covariates: (scans, V) float32, likewise.
    """

    def __init__(
        self,
        prepared: PreparedCohort,
        labels: Sequence[int],
        rows: Sequence[int],
        box: Box,
        with_labels: bool,
        place: Place,
        device: torch.device,
        pack: Box,
        transforms: TransformPool | None = None,
        scores: Sequence[float] | None = None,
        covariates: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.prepared, self.box, self.transforms = prepared, box, transforms
        self.kinds: tuple[Kind, ...] = ("image", "labels") if with_labels else ("image",)
        self.targets = {"label": torch.as_tensor(list(labels), dtype=torch.int64)}
        if scores is not None:
            self.targets["score"] = torch.as_tensor(list(scores), dtype=torch.float32)
        if covariates is not None:
            self.targets["covariates"] = torch.from_numpy(covariates)
        self.rows = [int(row) for row in rows]
        self._maps: dict[tuple[Kind, int], Sequence[npt.NDArray[Any]]] = {}
        self._place = {row: number for number, row in enumerate(self.rows)}
        self._packed: dict[Kind, list[npt.NDArray[Any]]] = {
            kind: list(map(np.asarray, open_packed(prepared, pack, kind))) for kind in self.kinds if place == "packed"
        }  # plain arrays: a box is cut out of a memmap more slowly
        self._within = within(box, pack) if place == "packed" else box
        self._kept = self._keep(device) if place == "device" else None

    def _map(self, kind: Kind, row: int) -> Sequence[npt.NDArray[Any]]:
        """A scan's files, mapped once: mapping them again costs more than copying a small box."""
        if self._packed:
            return [packed[row] for packed in self._packed[kind]]
        if (kind, row) not in self._maps:
            self._maps[kind, row] = list(map(np.asarray, self.prepared.maps(row, kind)))
        return self._maps[kind, row]

    def _read(self, kind: Kind, rows: Sequence[int], pin: bool = False) -> Tensor:
        channels, number = (len(self.prepared.names), torch.float16) if kind == "image" else (1, torch.uint8)
        out = torch.empty((len(rows), channels, *self.box.shape), dtype=number, pin_memory=pin)
        array = out.numpy()  # torch's own operations would wake threads, which take the cores from the step under way
        array.fill(0)
        for scan, row in zip(array, rows, strict=True):
            for target, volume in zip(scan, self._map(kind, row), strict=True):
                crop_to_box(volume, self._within, target)
        return out if kind == "image" else out[:, 0]

    def _keep(self, device: torch.device) -> Batch:
        first, pin = self.read(self.rows[:1]), device.type == "cuda"
        kept: Batch = {
            kind: torch.empty((len(self.rows), *first[kind].shape[1:]), dtype=first[kind].dtype, device=device)
            for kind in self.kinds
        }
        one_by_one = ([row] for row in self.rows)
        for number, boxes in enumerate(read_ahead(lambda rows: self.read(rows, pin), one_by_one, READERS, READERS)):
            for kind, whole in kept.items():
                whole[number].copy_(boxes[kind][0], non_blocking=True)
        if pin:
            torch.cuda.synchronize(device)
        self._maps.clear()
        return kept

    def read(self, rows: Sequence[int], pin: bool = False) -> Batch:
        """The boxes of some scans from their files; in pinned memory, if asked for: a GPU copies from it while it computes."""
        return {kind: self._read(kind, rows, pin) for kind in self.kinds}

    def _transformed(self, transforms: TransformPool, rows: Sequence[int], epoch: int, pin: bool) -> Batch:
        """The boxes of some scans after their transforms; ``image`` is float32."""
        scans = transforms(rows, epoch)
        boxes = {kind: torch.from_numpy(np.stack([scan[kind] for scan in scans])) for kind in self.kinds}
        return {kind: box.pin_memory() if pin else box for kind, box in boxes.items()}

    def batch(self, rows: list[int], pin: bool = False, epoch: int = 0) -> Batch:
        """The boxes of some scans, with their labels, scores and rows; the epoch matters to transforms only."""
        if self.transforms is not None:
            boxes = self._transformed(self.transforms, rows, epoch, pin)
        elif self._kept is None:
            boxes = self.read(rows, pin)
        else:  # no index is sent to the device: it would have to wait for the step under way
            boxes = {kind: torch.stack([whole[self._place[row]] for row in rows]) for kind, whole in self._kept.items()}
        index = torch.tensor(rows)
        targets = {name: values[index] for name, values in self.targets.items()}
        return boxes | {"index": index} | {name: value.pin_memory() if pin else value for name, value in targets.items()}


class BoxLoader:
    """The batches of a part in the sampler's order; ``waited`` are the seconds that the last pass's user waited for them.

    Args:
        dataset: What is read.
        sampler: Lists of rows; its order is that of the epoch that was set last.
        ahead: Read the next batches in a thread.
        device: A CUDA device to which batches are sent ahead, through pinned memory; None leaves that to the user.
    """

    def __init__(self, dataset: BoxDataset, sampler: EpochBatches, ahead: bool, device: torch.device | None = None) -> None:
        self.dataset, self.sampler, self.ahead, self.device, self.waited = dataset, sampler, ahead, device, 0.0
        self.batch_sampler = None  # Lightning asks for it wherever there is a sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        self.waited = 0.0
        batches = self._batches()
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _batches(self) -> Iterator[Batch]:
        epoch = self.sampler.epoch
        if not self.ahead:
            return (self.dataset.batch(rows) for rows in self.sampler)
        if self.device is None:
            return read_ahead(lambda rows: self.dataset.batch(rows, epoch=epoch), self.sampler)
        coming = read_ahead(lambda rows: self.dataset.batch(rows, pin=True, epoch=epoch), self.sampler, READERS, READERS)
        return sent_ahead(coming, self.device)


def read_ahead(
    read: Callable[[list[int]], Batch], order: Iterable[list[int]], ahead: int = AHEAD, threads: int = 1
) -> Iterator[Batch]:
    """Read batches in threads, a few ahead of the one that is worked on; an error comes where its batch would have come."""
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[Batch]] = deque()
        for rows in order:
            coming.append(pool.submit(read, rows))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device; ``index`` stays: only the host looks at it, and asking a GPU for it would wait for the GPU."""
    return {name: value if name == "index" else value.to(device, non_blocking=True) for name, value in batch.items()}


def sent_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy each batch to a GPU over a stream of its own while the batch before is worked on."""
    stream = torch.cuda.Stream(device)
    coming: deque[tuple[Batch, torch.cuda.Event]] = deque()

    def arrived() -> Batch:
        batch, event = coming.popleft()
        current = torch.cuda.current_stream(device)
        current.wait_event(event)
        for value in batch.values():
            if value.is_cuda:
                value.record_stream(current)
        return batch

    for number, batch in enumerate(batches):
        with torch.cuda.stream(stream):
            sent = moved(batch, device)
            coming.append((sent, stream.record_event()))
        if number != 1:  # the first goes out at once, from the second on one is under way
            yield arrived()
    while coming:
        yield arrived()
