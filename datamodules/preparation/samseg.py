"""SAMSEG as a separate program: label maps, and lesions, from the raw T1w and FLAIR of a session.

SAMSEG needs a separate environment (numpy below 2): ``python -m venv samseg``, ``samseg/bin/pip install samseg 'numpy<2'``,
for lesions tensorflow as well; then ``prepare --samseg samseg/bin/run_samseg``. It was not run together with ``prepare`` by the
project's tests, only its command is built and its output read there.

References:
    Puonti, Iglesias, Van Leemput 2016, NeuroImage 143:235-249, doi 10.1016/j.neuroimage.2016.09.011 (SAMSEG).
    Cerri et al. 2021, NeuroImage 225:117471, doi 10.1016/j.neuroimage.2020.117471 (lesions).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from datamodules.files.volumes import ScanError


def samseg_command(program: Path, t1w: Path, flair: Path, output: Path, lesion: bool, threads: int = 1) -> list[str]:
    """The command that segments one session; both images lie on the same voxels.

    With ``lesion`` a lesion must be brighter than gray matter in FLAIR, whatever it is in T1w (mask pattern 0 1).
    """
    command = [str(program.absolute()), "--input", str(t1w), str(flair), "--output", str(output), "--threads", str(threads)]
    return [*command, "--lesion", "--lesion-mask-pattern", "0", "1"] if lesion else command


def check_samseg(program: Path) -> None:
    """Refuse a program that is not there.

    Raises:
        ScanError: naming it.
    """
    if not program.is_file() or not os.access(program, os.X_OK):
        raise ScanError(f"--samseg {program} is not a program; give the path of run_samseg in SAMSEG's environment")


def run_samseg(program: Path, t1w: Path, flair: Path, output: Path, lesion: bool, threads: int = 1) -> Path:
    """Segment one session and return the label map.

    Raises:
        ScanError: if the program fails or writes no label map; with its last line.
    """
    done = subprocess.run(
        samseg_command(program, t1w, flair, output, lesion, threads), capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr, sep="\n")
    label_map = output / "seg.mgz"
    if done.returncode or not label_map.is_file():
        last = ([line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no message"])[-1]
        wrote = "a" if label_map.is_file() else "no"
        raise ScanError(f"SAMSEG ended with status {done.returncode} and wrote {wrote} label map ({last[:160]})")
    return label_map
