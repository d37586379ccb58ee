"""What may leave the machine: pseudonyms instead of patient ids, plain configuration values instead of paths.

Conventions:
    A pseudonym is the first 10 hexadecimal characters of HMAC-SHA256(key, patient id). The key is a file of 32 random
    bytes that stays in the study folder, readable by its owner only; without it a pseudonym cannot be turned back.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePath

from datamodules.files.atomic import temporary_beside
from regions.errors import UserError

KEY_BYTES = 32
PSEUDONYM = re.compile(r"[0-9a-f]{10}")
_COUNTED = re.compile(r"[1-9]?[0-9]{1,2}")
"""Ids of patients who were merely counted: such numbers stand in every configuration, and say nothing of anybody."""
_BIDS_PATIENT = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]")

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


class PrivacyError(UserError):
    """Something that identifies a patient was about to be sent to the experiment tracker."""


def pseudonym(patient: str, key: bytes) -> str:
    """Return the name under which a patient is known outside the study folder.

    Args:
        patient: the patient id, e.g. `sub-0001`.
        key: the study's secret, see `load_or_make_key`.

    Returns:
        10 lower-case hexadecimal characters, the same for the same patient and key.

    Raises:
        PrivacyError: if the key is shorter than 32 bytes.
    """
    if len(key) < KEY_BYTES:
        raise PrivacyError(f"the pseudonym key has {len(key)} bytes, {KEY_BYTES} are needed; use load_or_make_key()")
    return hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:10]


def load_or_make_key(path: Path) -> bytes:
    """Read the study's pseudonym key, or make one that only its owner can read.

    Several processes may call this at once: all of them get the same key.

    Raises:
        PrivacyError: if the file holds something else than a key.
    """
    if not path.exists():
        draft = temporary_beside(path)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES).hex().encode())
                file.flush()
                os.fsync(file.fileno())
            _publish(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    text = path.read_text(encoding="latin-1")
    if not re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", text):
        raise PrivacyError(f"{path} is not a pseudonym key ({2 * KEY_BYTES} hexadecimal characters); restore or delete it")
    return bytes.fromhex(text)


def _publish(draft: Path, path: Path) -> None:
    """Give the finished file its name unless another process was first; a link never overwrites."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            draft.replace(path)


def plain_config(config: Mapping[str, object], patients: Collection[str] = ()) -> dict[str, Plain]:
    """Keep what describes the experiment, drop what describes the machine, refuse what identifies a patient.

    Args:
        config: nested mappings and sequences of None, bool, int, float and str.
        patients: ids that must not occur, but for numbers below 1000; BIDS ids (`sub-...`) are refused anyway.

    Returns:
        A copy in which every value that is a path (absolute, `~`, `./`, `../`, or present on this disk) is left out.

    Raises:
        PrivacyError: if a key or value holds a patient id.
        TypeError: if a value is not plain.
    """
    telling = [patient for patient in patients if patient and not _COUNTED.fullmatch(patient)]
    known = [re.compile(rf"(?<![A-Za-z0-9]){re.escape(patient)}(?![A-Za-z0-9])") for patient in telling]
    return {str(key): _plain(str(key), value, known) for key, value in _checked(config, known) if not _is_path(value)}


def _checked(config: Mapping[str, object], known: Sequence[re.Pattern[str]]) -> list[tuple[str, object]]:
    for key in config:
        _refuse_patient("the configuration keys", str(key), known)
    return list(config.items())


def _plain(name: str, value: object, known: Sequence[re.Pattern[str]]) -> Plain:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            _refuse_patient(f"configuration value {name!r}", value, known)
            return value
        case Mapping():
            kept = [(key, inner) for key, inner in _checked(value, known) if not _is_path(inner)]
            return {str(key): _plain(f"{name}.{key}", inner, known) for key, inner in kept}
        case list() | tuple() | set() | frozenset():
            return [_plain(name, inner, known) for inner in value if not _is_path(inner)]
    raise TypeError(
        f"configuration value {name!r} is a {type(value).__name__}; only None, bool, int, float, str and nested lists "
        "and mappings of them are tracked"
    )


def _refuse_patient(where: str, text: str, known: Sequence[re.Pattern[str]]) -> None:
    if _BIDS_PATIENT.search(text) or any(pattern.search(text) for pattern in known):
        way = "write it otherwise, or track nothing: --tracking.mode disabled"
        raise PrivacyError(f"{where} ({text}) would send a patient id to the experiment tracker; {way}")


def _is_path(value: object) -> bool:
    if isinstance(value, PurePath):
        return True
    if not isinstance(value, str) or not value:
        return False
    text = value.removeprefix("file://")
    if text.startswith(("/", "~", "./", "../", "\\\\")) or _WINDOWS_PATH.match(text):
        return True
    return ("/" in text or "\\" in text) and len(text) < 1024 and Path(text).exists()
