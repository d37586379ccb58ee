"""What a killed command left half written goes when the next one writes there; a living one's stays."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datamodules.files import atomic
from datamodules.files.atomic import filled_folder, temporary_beside, write_text
from experiments.tracking.privacy import load_or_make_key

HALF = """
import sys, time
from pathlib import Path
from datamodules.files.atomic import filled_folder, write_atomically
folder = Path(sys.argv[2])
def half(file):
    file.write(b"half"); file.flush(); print("ready", flush=True); time.sleep(60)
if sys.argv[1] == "file":
    write_atomically(folder / "table.tsv", half)
else:
    with filled_folder(folder / "cohort") as partial:
        with (partial / "half").open("wb") as file:
            half(file)
"""


@pytest.fixture(autouse=True)
def _new_command() -> None:
    atomic._sweep.cache_clear()


def writing(kind: str, folder: Path) -> subprocess.Popen[str]:
    """A process in the midst of writing."""
    process = subprocess.Popen([sys.executable, "-c", HALF, kind, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("next_write", ["text", "folder", "key"])
def test_it_is_removed_by_the_next_command_and_not_while_it_is_written(kind: str, next_write: str, tmp_path: Path) -> None:
    process = writing(kind, tmp_path)
    (partial,) = names(tmp_path)
    write_text(tmp_path / "first", "x")
    assert names(tmp_path) == [partial, "first"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    atomic._sweep.cache_clear()
    if next_write == "text":
        write_text(tmp_path / "second", "x")
    elif next_write == "key":
        load_or_make_key(tmp_path / "second")
    else:
        with filled_folder(tmp_path / "second"):
            pass
    assert names(tmp_path) == ["first", "second"]


def test_other_files_stay_and_so_do_those_of_another_machine_for_a_day(tmp_path: Path) -> None:
    mine = temporary_beside(tmp_path / "a.json").name
    other = mine.replace(atomic._MACHINE, "0" * 8)
    gone = multiprocessing.get_context("spawn").Process()
    gone.start()
    gone.join()
    dead = mine.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    for name in (mine, other, dead, "a.partial", ".a.partial", ".last.ckpt.12.partial"):
        (tmp_path / name).write_text("half")
    new_command_writes(tmp_path)
    assert set(names(tmp_path)) == {mine, other, "a.partial", ".a.partial", ".last.ckpt.12.partial", "b"}
    os.utime(tmp_path / other, (time.time() - 2 * atomic.DAY_SECONDS,) * 2)
    new_command_writes(tmp_path)
    assert other not in names(tmp_path)


def new_command_writes(folder: Path) -> None:
    atomic._sweep.cache_clear()
    write_text(folder / "b", "x")


def test_a_temporary_file_names_no_machine(tmp_path: Path) -> None:
    import platform

    assert platform.node() not in temporary_beside(tmp_path / "q").name.split(".")[2].split("-")
