"""What a command prints to: any terminal, a pipe that closes early, or nothing at all; none of them ends the command's work."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import unicodedata
from typing import Any

GONE = (errno.EPIPE, errno.EIO)
"""The reader of a pipe has left (`| head -1`), or the terminal was closed."""
SIMPLE = str.maketrans("\u2018\u2019\u201c\u201d\u2010\u2013\u2014\u2212\u2500\u2501\u2502\u00d7", "''\"\"------|x")


class Printed(io.TextIOWrapper):
    """A stream that replaces what its encoding lacks, and that goes silent when nobody reads any more."""

    def write(self, text: str) -> int:
        """Write, or drop the text when nobody reads."""
        return self._or_silence(super().write, text) or len(text)

    def flush(self) -> None:
        """Flush, or drop what is left when nobody reads."""
        if not self.closed:
            self._or_silence(super().flush)

    def _or_silence(self, call: Any, *arguments: str) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, self.fileno())
            os.close(silence)
            if error.errno not in GONE:
                raise
            return call(*arguments)


def simpler(error: UnicodeError) -> tuple[str, int]:
    """Characters that an encoding lacks, in ASCII: without accents, signs as words or plain signs, else a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    text = unicodedata.normalize("NFKD", error.object[error.start : error.end].translate(SIMPLE).replace("\u00b1", "+/-"))
    plain = (char if char.isascii() else "" if unicodedata.combining(char) else "?" for char in text)
    return "".join(plain), error.end


def prepare_streams() -> None:
    """Make standard output and error of this process fit to print to; a stream that was closed becomes one that drops all."""
    codecs.register_error("simpler", simpler)
    for number in range(3):  # a closed one would be given to the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name) or os.fdopen(number, "w", encoding="utf-8")
        lines, through = old.line_buffering, old.write_through
        new = Printed(old.detach(), old.encoding, "simpler", line_buffering=lines, write_through=through)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
