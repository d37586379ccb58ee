"""The error that a user can fix; the command line prints it on one line, without a traceback."""

from collections.abc import Collection
from difflib import get_close_matches


class UserError(ValueError):
    """Something that a user gave cannot be used; the message says what, what is allowed and what to do next.

    The base class of all errors of the packages on this one.
    """

    status: int = 2
    """Exit status of the command that it ends."""


def nearest(name: str, known: Collection[str], likeness: float = 0.6) -> str:
    """The known name that is most like a wrong one, whatever its case and with - and spaces for _, or an empty text.

    Args:
        name: What a user wrote.
        known: What there is.
        likeness: From 0 to 1; names that are less alike are not suggested.
    """
    plain = {_plain(other): other for other in known}
    near = get_close_matches(_plain(name), plain, n=1, cutoff=likeness)
    return plain[near[0]] if near else ""


def did_you_mean(name: str, known: Collection[str], likeness: float = 0.6) -> str:
    """`` (did you mean 'x'?)`` with the nearest known name, to stand behind the wrong one, or an empty text."""
    near = nearest(name, known, likeness)
    return f" (did you mean {near!r}?)" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")
