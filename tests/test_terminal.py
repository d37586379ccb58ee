"""Commands print to ASCII and Latin-1 terminals, to pipes that close early, to full disks and to nothing at all."""

from __future__ import annotations

import codecs
import io
import os
import subprocess
import sys

import pytest

from experiments.runtime.terminal import Printed, simpler

WORK = """
import os, sys
from pathlib import Path
from experiments import __main__ as command
class Word:
    @staticmethod
    def main(words):
        for line in range(20000):
            print("Zürich \\u2500\\u2013 5 \\u00b1 1 \\u2502 \\u4e2d", line)
        Path(words[-1]).write_text("done")
        return 3
command.importlib.import_module = lambda name: Word
sys.argv[1:] = ["plan", "--studies", sys.argv[1]]
sys.exit(command.main())
"""
"""A command that prints much before it writes its file, and ends with a status of its own."""


def started(shell: str, tmp_path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    script = tmp_path / "work.py"
    script.write_text(WORK, encoding="utf-8")
    command = shell.format(work=f"{sys.executable} {script} {tmp_path / 'file'}")
    return subprocess.run(["bash", "-c", command], env=os.environ | variables, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"Zurich -- 5 +/- 1 | ? 0"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, b"Zurich -- 5 +/- 1 | ? 0"),
        ({"PYTHONIOENCODING": "latin-1"}, b"Z\xfcrich -- 5 \xb1 1 | ? 0"),
        ({"PYTHONIOENCODING": "utf-8"}, "Zürich \u2500\u2013 5 \u00b1 1 \u2502 \u4e2d 0".encode()),
    ],
)
def test_what_a_terminal_cannot_show_is_replaced(variables, line, tmp_path) -> None:
    done = started("{work}", tmp_path, **variables)
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout.splitlines()[0] == line
    assert len(done.stdout.splitlines()) == 20000


@pytest.mark.parametrize(
    ("shell", "first"),
    [
        ("{work} | head -1; exit ${{PIPESTATUS[0]}}", b"Z"),
        ("{work} | true; exit ${{PIPESTATUS[0]}}", b""),
        ("{work} >&-", b""),
        ("{work} >&- 2>&- <&-", b""),
    ],
)
def test_a_command_that_nobody_reads_finishes_its_work(shell, first, tmp_path) -> None:
    done = started(shell, tmp_path)
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout[:1] == first
    assert (tmp_path / "file").read_text() == "done"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_is_one_line_and_status_two(tmp_path) -> None:
    done = started("{work} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (2, b"regionwise: No space left on device\n")


def test_help_into_nothing(tmp_path) -> None:
    command = f"{sys.executable} -m experiments help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_stream_s_number_is_given_to_no_file(tmp_path) -> None:
    code = (
        "import os\nfrom experiments.runtime.terminal import prepare_streams\nprepare_streams()\n"
        f"file = open({str(tmp_path / 'data')!r}, 'w')\nprint('lost'); os.write(1, b'lost')\nfile.write('kept')"
    )
    subprocess.run(["bash", "-c", f'{sys.executable} -c "$0" >&-', code], check=True)
    assert (tmp_path / "data").read_text() == "kept"


def test_a_file_name_that_is_no_text_can_be_printed() -> None:
    buffer = io.BytesIO()
    codecs.register_error("simpler", simpler)
    with Printed(buffer, "utf-8", "simpler") as stream:
        stream.write("a\udcffb")
        stream.flush()
        assert buffer.getvalue() == b"a?b"
