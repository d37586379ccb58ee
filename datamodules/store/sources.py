"""The source files of scans: which they are, their SHA-256, and what is wrong with them before any image is read.

``sources.json`` of a store holds size, times and SHA-256 of every file seen, so that only changed files are read again::

    {"<path>": {"stamp": [size, mtime_ns, ctime_ns], "sha256": "..."}}
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.cohort.images import kind_of, title
from datamodules.cohort.records import Exclusion, Scan
from datamodules.files.atomic import file_sha256, locked, write_text
from datamodules.files.volumes import ScanError

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """A file as it was when its SHA-256 was taken; ``stamp`` is size, modification and change time in ns."""

    stamp: Stamp
    sha256: str


def sources_of(scan: Scan) -> dict[str, Path]:
    """The files that a scan's volume is made of."""
    files = {**scan.images, "mask": scan.mask, "labels": scan.labels}
    if scan.labels is not None and scan.dialect.endswith(".tsv"):
        files["dialect"] = Path(scan.dialect)
    return {name: path for name, path in files.items() if path is not None}


def hash_sources(scans: Sequence[Scan], record: Path, workers: int = 1) -> tuple[dict[str, Source], dict[str, str]]:
    """SHA-256 of every source file; a file is read again only when its size or a time stamp changed.

    Args:
        scans: Scans of any cohorts.
        record: ``sources.json``, made or extended where needed.
        workers: Threads that read files.

    Returns:
        Sources by path as given, and for files that cannot be read what is wrong with them.
    """
    known, fresh = _read_record(record), dict[str, Source]()
    sources: dict[str, Source] = {}
    unreadable: dict[str, str] = {}
    unknown: list[tuple[Path, str]] = []
    for path in sorted({path for scan in scans for path in sources_of(scan).values()}):
        resolved = os.path.abspath(path)  # noqa: PTH100 - resolving links would touch every folder above
        try:
            if resolved in known and known[resolved].stamp == _stamp(path):
                sources[str(path)] = known[resolved]
            else:
                unknown.append((path, resolved))
        except OSError as error:
            unreadable[str(path)] = _reason(path, error)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for (path, resolved), result in zip(unknown, pool.map(_hashed, [path for path, _ in unknown]), strict=True):
            if isinstance(result, Source):
                sources[str(path)] = fresh[resolved] = result
            else:
                unreadable[str(path)] = _reason(path, result)
    if fresh:
        with locked(record.with_name("locks") / "sources"):
            merged = _read_record(record) | fresh
            write_text(record, json.dumps({path: asdict(source) for path, source in merged.items()}))
    return sources, unreadable


def _hashed(path: Path) -> Source | OSError:
    try:
        stamp = _stamp(path)
        return Source(stamp, file_sha256(path))
    except OSError as error:
        return error


def _reason(path: Path, error: OSError) -> str:
    return f"{path} cannot be read ({error.strerror or error}); restore the file or take the scan out"


def unusable_sources(scans: Sequence[Scan], sources: Mapping[str, Source], unreadable: Mapping[str, str]) -> list[Exclusion]:
    """Scans with a file that cannot be read, and those that share an image byte for byte: with another, or with themselves.

    Masks and maps may be alike: two patients without lesions have the same mask.
    """
    owners: dict[str, dict[str, Scan]] = defaultdict(dict)
    for scan in scans:
        for path in _contrasts(scan).values():
            if str(path) in sources:
                owners[sources[str(path)].sha256].setdefault(scan.name, scan)
    broken = []
    for scan in scans:
        faults = [unreadable[str(path)] for path in sources_of(scan).values() if str(path) in unreadable]
        for path in _contrasts(scan).values():
            others = owners[sources[str(path)].sha256] if str(path) in sources else {}
            faults += [_shared(path, scan, other) for name, other in others.items() if name != scan.name]
        faults = faults or _same_twice(scan, sources)
        if faults:
            broken.append(Exclusion(scan.patient, scan.session, "image cannot be used", faults[0]))
    return broken


def _contrasts(scan: Scan) -> dict[str, Path]:
    return {name: path for name, path in scan.images.items() if kind_of(name) == "contrast"}


def _same_twice(scan: Scan, sources: Mapping[str, Source]) -> list[str]:
    first: dict[str, str] = {}
    faults = []
    for name, path in _contrasts(scan).items():
        earlier = first.setdefault(sources[str(path)].sha256, name)
        if earlier != name:
            faults.append(f"{path} is byte for byte the {title(earlier)}; give the scan's own {title(name)}")
    return faults


def _shared(path: Path, scan: Scan, other: Scan) -> str:
    problem = f"{path.name} is byte for byte an image of {other.name}"
    if other.patient == scan.patient:
        return f"{problem}; each session needs its own"
    return f"{problem}; one patient under two names would leak into the test"


def refuse_changed(scan: Scan, sources: Mapping[str, Source]) -> None:
    """Refuse a scan of which a file is no longer the one that was hashed.

    Raises:
        ScanError: naming the file.
    """
    for path in sources_of(scan).values():
        if _stamp(path) != sources[str(path)].stamp:
            raise ScanError(f"{path} changed while it was read; run the command again")


def _stamp(path: Path) -> Stamp:
    facts = os.stat(path)  # noqa: PTH116
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _read_record(record: Path) -> dict[str, Source]:
    """The recorded files; empty if the record cannot be understood, the files are then read again."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return {path: Source(tuple(entry["stamp"]), str(entry["sha256"])) for path, entry in content.items()}
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return {}
