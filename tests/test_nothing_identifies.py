"""Names planted in every place that a machine can tell, and every byte that a server gets searched for them, however coded."""

from __future__ import annotations

import base64
import binascii
import gzip
import os
import re
import shutil
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_stub import WandbStub

pytest_plugins = ["tracking_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")

PLACES = ("cohort", "studies", "store", "home", "tmp", "user", "host")
SECRETS = {place: f"zq{place}planted" for place in PLACES}
TINY = ["--preset", "demo", "--trainer.max_epochs", "1", "--network.init_args.width", "2", "--network.init_args.stages", "3"]
OPENED = ("report.html", "figures/*", "tables/*", "comparison.*", "subgroups.json", "robustness.json", "table1.*", "check.json",
          "acquisition.tsv", "flow.svg", "**/*.wandb", "**/wandb/data/artifacts/**/*")  # fmt: skip
"""Files of a study that are for others, and what W&B keeps for the upload."""


def readings(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """The bytes, and what they hold when long runs are read as base64, and gzip or zlib streams are opened."""
    yield data
    if not depth:
        return
    for run in re.findall(rb"[A-Za-z0-9+/_-]{16,}={0,2}", data):
        text = run.translate(bytes.maketrans(b"-_", b"+/"))
        for start in range(4):
            part = text[start:].rstrip(b"=")
            try:
                yield from readings(base64.b64decode(part + b"=" * (-len(part) % 4)), depth - 1)
            except binascii.Error:
                continue
    for match in re.finditer(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]", data):
        try:
            yield from readings(zlib.decompressobj(47).decompress(data[match.start() :]), depth - 1)
        except zlib.error:
            continue


def told(data: bytes, secrets: dict[str, str]) -> set[str]:
    """The places that bytes tell."""
    patterns = {place: re.compile(re.escape(secret.encode()), re.IGNORECASE) for place, secret in secrets.items()}
    return {place for part in readings(data) for place, pattern in patterns.items() if pattern.search(part)}


@pytest.mark.parametrize(
    "coded",
    [lambda b: b, base64.b64encode, lambda b: base64.b64encode(b"x" + b), lambda b: base64.b64encode(b"xy" + b), gzip.compress,
     zlib.compress, lambda b: base64.b64encode(gzip.compress(b)), lambda b: b"{" + gzip.compress(base64.b64encode(b)) + b"}"],
)  # fmt: skip
def test_the_search_sees_through_codings(coded) -> None:
    assert told(b"before " + coded(b"/data/ZQhomePlanted/file") + b" after", SECRETS) == {"home"}
    assert told(b"before " + coded(b"/data/nothing/file") + b" after", SECRETS) == set()


@pytest.fixture
def planted(phantom_cohort: Path, tmp_path: Path) -> tuple[dict[str, str], list[str], Path]:
    """Environment, options and folder of a study whose every place bears a name that must not leave."""
    folders = {place: tmp_path / SECRETS[place] for place in PLACES}
    shutil.copytree(phantom_cohort, folders["cohort"])
    for place in ("home", "tmp", "host"):
        folders[place].mkdir()
    hook = f"import platform, socket\nsocket.gethostname = platform.node = lambda: {SECRETS['host']!r}\n"
    (folders["host"] / "sitecustomize.py").write_text(hook)
    variables = {"HOME": str(folders["home"]), "TMPDIR": str(folders["tmp"]), "HOSTNAME": SECRETS["host"],
                 "PYTHONPATH": f"{folders['host']}:{Path(__file__).parents[1]}"}  # fmt: skip
    variables |= dict.fromkeys(("USER", "LOGNAME", "USERNAME", "SUDO_USER", "WANDB_USERNAME", "WANDB_HOST"), SECRETS["user"])
    places = ["--cohort", str(folders["cohort"]), "--store", str(folders["store"]), "--studies", str(folders["studies"])]
    return variables, [*places, "--study", "s"], folders["studies"] / "s"


def command(variables: dict[str, str], word: str, *options: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ("WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR")}
    words = [sys.executable, "-m", "experiments", word, *options]
    done = subprocess.run(words, env=plain | variables, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, f"{word}: {done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [pytest.param("offline", marks=pytest.mark.long), "online"])
def test_no_name_of_a_place_a_person_or_a_machine_reaches_the_server(mode: str, planted, stub: WandbStub) -> None:
    variables, options, study = planted
    variables |= {"WANDB_MODE": mode}
    secrets = SECRETS | ({"machine": socket.gethostname()} if len(socket.gethostname()) > 5 else {})
    assert told(str(options).encode(), secrets) == {"cohort", "store", "studies"}, "the search finds what is there"
    for roi in ("global", "brainstem"):
        command(variables, "fold", "--roi", roi, "--fold", "0", "--quiet", *TINY, *options)
    command(variables, "check", *TINY, *options)
    studies = options[-4:]
    command(variables, "compare", *studies, "--inputs", "global,brainstem", "--partial", "--draws", "100")
    command(variables, "report", *studies)
    assert len(stub.requests) > 50 or mode == "offline"
    command(variables, "sync", *studies)
    assert {"s-global-f0-s0", "s-brainstem-f0-s0", "s-compare"} <= stub.runs.keys()
    assert len([name for name in stub.uploads if name.endswith("manifest.json")]) >= 5, "tables were sent"
    for method, path, body in stub.requests:
        assert told(path.encode() + b"\n" + body, secrets) == set(), f"{method} {path}"
    opened = [path for pattern in OPENED for path in study.glob(pattern) if path.is_file()]
    assert len(opened) > 30
    assert {path.relative_to(study) for path in opened if told(path.read_bytes(), secrets)} == set()
