"""Grids are remembered by content, and a record that says nothing useful costs a second reading, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.files.volumes import ScanError, canonical_grid
from datamodules.store import headers
from datamodules.store.headers import KnownGrids
from datamodules.store.sources import Source


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose headers were read."""
    found: list[Path] = []

    def count(path: Path) -> object:
        found.append(path)
        return canonical_grid(path)

    monkeypatch.setattr(headers, "canonical_grid", count)
    return found


def test_a_header_is_read_once_in_the_life_of_a_store(made_scan, tmp_path: Path, reads: list[Path]) -> None:
    sources = {str(made_scan.t1w): Source((1, 2, 3), "abc")}
    for _ in range(2):
        known = KnownGrids(tmp_path / "grids.json", sources)
        assert known(made_scan.t1w) == known(made_scan.t1w) == canonical_grid(made_scan.t1w)
        known.save()
    assert reads == [made_scan.t1w]


def test_changed_content_is_read_again(made_scan, tmp_path: Path, reads: list[Path]) -> None:
    for digest in ("abc", "abd"):
        known = KnownGrids(tmp_path / "grids.json", {str(made_scan.t1w): Source((1, 2, 3), digest)})
        known(made_scan.t1w)
        known.save()
    assert len(reads) == 2


@pytest.mark.parametrize(
    "content", ["", "[]", '{"version": 0, "grids": {}}', '{"version": 1, "grids": {"abc": {"shape": [1]}}}']
)
def test_a_record_that_cannot_be_used_is_as_good_as_none(made_scan, tmp_path: Path, reads: list[Path], content: str) -> None:
    (tmp_path / "grids.json").write_text(content)
    known = KnownGrids(tmp_path / "grids.json", {str(made_scan.t1w): Source((1, 2, 3), "abc")})
    assert known(made_scan.t1w) == canonical_grid(made_scan.t1w)
    assert len(reads) == 1


def test_a_header_that_cannot_be_used_is_not_remembered(tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    known = KnownGrids(tmp_path / "grids.json", {str(broken): Source((1, 2, 3), "abc")})
    with pytest.raises(ScanError, match=r"broken\.nii\.gz cannot be read"):
        known(broken)
    known.save()
    assert not (tmp_path / "grids.json").exists()
