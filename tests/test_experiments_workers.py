"""Which workers a sweep starts, how often a worker tries a run, and memory that stays with the process."""

from __future__ import annotations

import platform
from typing import Any

import pytest
import torch

from datamodules.batches.loading import RUNS_PER_GPU
from experiments.runtime.allocation import keep_freed_memory
from experiments.study.runs import Run
from experiments.training import worker
from experiments.training.sweep import SweepError, visible_gpus, worker_devices


def test_each_gpu_gets_as_many_workers_as_asked_for_one_round_after_the_other() -> None:
    found = [one["CUDA_VISIBLE_DEVICES"] for one in worker_devices("0,3", "", "2")]
    assert found == ["0", "3", "0", "3"]


def test_one_worker_a_gpu_without_asking() -> None:
    assert [one["CUDA_VISIBLE_DEVICES"] for one in worker_devices("1", "")] == ["1"]


def test_workers_of_a_gpu_know_how_many_they_are() -> None:
    found = worker_devices("0,0,1", "", threads=3)
    assert [one[RUNS_PER_GPU] for one in found] == ["2", "2", "1"]


@pytest.mark.parametrize("jobs", ["", "1", "2", "5"])
@pytest.mark.parametrize("threads", [1, 3, 64])
def test_a_run_computes_with_the_study_s_threads_however_many_workers_there_are(jobs: str, threads: int) -> None:
    found = worker_devices("", jobs, threads=threads)
    assert {one["OMP_NUM_THREADS"] for one in found} == {str(threads)}
    assert len(found) == int(jobs) if jobs else 1 <= len(found) <= 4


@pytest.mark.parametrize(("chosen", "expected"), [("", ["0", "1"]), ("2,3", ["2", "3"]), ("MIG-a, MIG-b", ["MIG-a", "MIG-b"])])
def test_gpus_that_were_chosen_already_stay_chosen(chosen: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus(2) == expected
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus(3) == ["0", "1", "2"]


@pytest.mark.parametrize("text", ["0", "two", "-1"])
def test_a_number_of_workers_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SweepError, match=f"PER_DEVICE={text} is not a number from 1"):
        worker_devices("0", "", text)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_workers_per_device_without_a_device_are_refused() -> None:
    with pytest.raises(SweepError, match="PER_DEVICE=2 is for GPUs, and there is none here; JOBS=2 sets the CPU workers"):
        worker_devices("", "", "2")


def sweep_of(monkeypatch: pytest.MonkeyPatch, kills: int) -> tuple[int, list[str]]:
    """Work on two isolated runs; the processes of the first are killed so many times. Returns status and the runs tried."""
    first, second = Run("global", 0), Run("brainstem", 0)
    state, tried = {first: "missing", second: "missing"}, []

    def apart(run: Run, arguments: Any) -> bool:
        assert arguments == ["--preset", "demo"]
        tried.append(run.input)
        killed = run == first and tried.count(run.input) <= kills
        state[run] = "interrupted" if killed else "complete"
        return not killed

    monkeypatch.setenv("REGIONWISE_SWEEP", "test")
    monkeypatch.setattr(worker, "_train_apart", apart)
    monkeypatch.setattr(worker, "_state", lambda settings, study, run: state[run])
    nothing: Any = None
    return worker.work(nothing, nothing, [first, second], ["--preset", "demo"]), tried


def test_a_run_whose_process_is_killed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweep_of(monkeypatch, 2) == (0, ["global", "brainstem", "global", "global"])


def test_a_run_whose_process_is_always_killed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweep_of(monkeypatch, 99) == (1, ["global", "brainstem", "global", "global"])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_c_library_takes_the_settings_that_keep_freed_memory() -> None:
    assert keep_freed_memory()
