"""Prepared volumes on a node's own disk."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal

import pytest
from conftest import volume_of
from rich.console import Console

from experiments.runtime.interruption import Interrupted
from experiments.runtime.staging import stage
from experiments.study.study import Study


class TestStaging:
    @pytest.fixture
    def told(self) -> Console:
        return Console(record=True, width=400)

    def test_volumes_are_copied_once_and_read_equal(self, study: Study, tmp_path, told) -> None:
        staged = stage(study.prepared, tmp_path / "disk", told)
        assert staged.folder == tmp_path / "disk"
        assert staged.hash == study.prepared.hash
        assert (staged.image(3) == study.prepared.image(3)).all()
        again = stage(study.prepared, tmp_path / "disk", told)
        lines = told.export_text().splitlines()
        assert again.folder == staged.folder
        assert lines[0].endswith(", 75 of 75 were copied now")
        assert lines[1].endswith(", 0 of 75 were copied now")

    def test_what_does_not_fit_is_read_from_the_store(self, study: Study, tmp_path, told, monkeypatch) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
        assert stage(study.prepared, tmp_path / "disk", told) is study.prepared
        line = told.export_text()
        assert f"volumes are read from {study.prepared.folder}, not from {tmp_path / 'disk'}: " in line
        assert "MB are needed and 0 MB are free there" in line
        assert list((tmp_path / "disk" / "volumes").iterdir()) == []

    def test_a_disk_that_fills_while_copying_is_one_line_and_leaves_nothing(
        self, study: Study, tmp_path, told, monkeypatch
    ) -> None:
        def full(source: object, target: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

        monkeypatch.setattr("shutil.copyfile", full)
        assert stage(study.prepared, tmp_path / "disk", told) is study.prepared
        (line,) = told.export_text().splitlines()
        assert line.endswith("cannot be written: No space left on device")
        assert list((tmp_path / "disk" / "volumes").iterdir()) == []

    def test_a_copy_without_checksums_is_made_again(self, study: Study, tmp_path, told) -> None:
        staged = stage(study.prepared, tmp_path / "disk", told)
        (volume_of(staged, 2) / "checksums.json").unlink()
        (volume_of(staged, 2) / "image.npy").write_bytes(b"")
        stage(study.prepared, tmp_path / "disk", told)
        assert told.export_text().splitlines()[1].endswith(", 1 of 75 were copied now")
        assert (staged.image(2) == study.prepared.image(2)).all()

    def test_a_folder_that_cannot_be_made_is_told(self, study: Study, tmp_path, told) -> None:
        (tmp_path / "file").touch()
        assert stage(study.prepared, tmp_path / "file" / "disk", told) is study.prepared
        assert "Not a directory" in told.export_text()

    def test_waiting_for_another_process_ends_with_a_signal(self, study: Study, tmp_path, told, monkeypatch) -> None:
        (tmp_path / "disk").mkdir()
        monkeypatch.setattr("experiments.runtime.interruption._received", [])
        with (tmp_path / "disk" / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            monkeypatch.setattr("experiments.runtime.staging.time.sleep", lambda seconds: _signalled())
            with pytest.raises(Interrupted):
                stage(study.prepared, tmp_path / "disk", told)


def _signalled() -> None:
    from experiments.runtime import interruption

    interruption._received.append(signal.SIGUSR1)
