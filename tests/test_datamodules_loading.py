"""Where volumes lie, and that batches read ahead are those of a plain loop, in order, errors included."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from datamodules.batches.loading import (
    AHEAD,
    PACKED_BYTES,
    RUNS_PER_GPU,
    BoxLoader,
    EpochBatches,
    Memory,
    choose_place,
    free_memory,
    read_ahead,
)

GB = 10**9


@pytest.mark.parametrize(
    ("memory", "needed", "free", "expected"),
    [
        ("auto", 7 * GB, 80 * GB, "device"),
        ("auto", 7 * GB, 14 * GB, "device"),
        ("auto", 7 * GB, 14 * GB - 1, "mapped"),
        ("auto", 7 * GB, None, "mapped"),
        ("auto", PACKED_BYTES, None, "packed"),
        ("auto", PACKED_BYTES + 1, None, "mapped"),
        ("auto", 10**6, 10**6, "packed"),
        ("packed", 7 * GB, 80 * GB, "packed"),
        ("mapped", 1, 80 * GB, "mapped"),
        ("device", 7 * GB, 7 * GB, "device"),
    ],
)
def test_volumes_lie_where_they_fit(memory: Memory, needed: int, free: int | None, expected: str) -> None:
    assert choose_place(memory, needed, free, packable=True) == expected


@pytest.mark.parametrize(("runs", "expected"), [(None, 30), ("1", 30), ("4", 20)])
def test_runs_that_start_on_one_gpu_count_on_their_share_of_it(
    runs: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30, 80))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    if runs:
        monkeypatch.setenv(RUNS_PER_GPU, runs)
    assert free_memory(torch.device("cuda")) == expected
    assert free_memory(torch.device("cpu")) is None


def test_small_boxes_are_mapped_where_the_store_cannot_be_written() -> None:
    assert choose_place("auto", 1, None, packable=False) == "mapped"


@pytest.mark.parametrize(
    ("needed", "free", "message"),
    [
        (1, None, "data.memory device needs a GPU; use auto, packed or mapped"),
        (7 * GB, 5 * GB, "data.memory device needs 7.0 GB, 5.0 GB are free there; use auto"),
    ],
)
def test_a_device_that_cannot_hold_them_is_refused(needed: int, free: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_place("device", needed, free, packable=True)


def numbered(rows: list[int]) -> dict[str, torch.Tensor]:
    return {"index": torch.tensor(rows)}


def test_batches_that_are_read_ahead_come_in_order_and_no_further_ahead_than_said() -> None:
    asked: list[int] = []

    def order() -> Iterator[list[int]]:
        for number in range(6):
            asked.append(number)
            yield [number]

    found = []
    for batch in read_ahead(numbered, order()):
        found.append(int(batch["index"]))
        assert asked[-1] <= found[-1] + AHEAD
    assert found == list(range(6))


def test_an_error_while_reading_ahead_reaches_the_training() -> None:
    def read(rows: list[int]) -> dict[str, torch.Tensor]:
        if rows == [2]:
            raise OSError("the disk is gone")
        return numbered(rows)

    batches = read_ahead(read, ([number] for number in range(9)))
    assert [int(next(batches)["index"]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


class Slow:
    """A dataset that takes 20 ms a batch."""

    def batch(self, rows: list[int], epoch: int = 0) -> dict[str, torch.Tensor]:
        time.sleep(0.02)
        return numbered(rows)


def test_the_time_waited_is_that_of_reading_unless_it_is_read_ahead() -> None:
    waited = []
    for ahead in (False, True):
        loader = BoxLoader(Slow(), EpochBatches(range(5), 1), ahead)  # type: ignore[arg-type]
        seen = []
        for batch in loader:
            seen.append(int(batch["index"]))
            time.sleep(0.06)
        assert seen == list(range(5))
        waited.append(loader.waited)
    assert waited[0] >= 5 * 0.02
    assert waited[1] < waited[0]
