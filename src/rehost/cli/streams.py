"""Standard streams that survive what happens to them: a reader that is gone, a full disk, a closed descriptor.

A text in characters that a stream's encoding lacks is written with question marks in their place.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rehost.errors import OperatorError, cause_of


class TolerantStream(io.TextIOBase):
    """A text stream that drops what it cannot write, or says so in an OperatorError."""

    def __init__(self, stream: TextIO | None, tolerated: type[OSError]) -> None:
        """Wrap a stream.

        Args:
            stream: None if it was closed when the program started.
            tolerated: errors of this type are ignored; others are raised, as an OperatorError.
        """
        self._stream = stream
        self._tolerated = tolerated

    @property
    def encoding(self) -> str:  # type: ignore[override]  # as the stream has it
        """Return the encoding of the stream."""
        return self._stream.encoding if self._stream else "utf-8"

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Return the file descriptor.

        Raises:
            OSError: there is none.
        """
        return super().fileno() if self._stream is None else self._stream.fileno()

    def write(self, text: str, /) -> int:
        """Write a text, or drop it.

        Raises:
            OperatorError: it was not written, and nobody may ignore that.
        """
        if text == "":  # click tries whether the stream takes text, and ignores how this ends
            return 0
        if self._stream is not None:
            self._tolerate(lambda stream: stream.write(text), self._stream)
        elif not issubclass(OSError, self._tolerated):
            raise _not_written(OSError(errno.EBADF, os.strerror(errno.EBADF)))
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it; raises as `write` does."""
        if self._stream is not None:
            self._tolerate(lambda stream: stream.flush(), self._stream)

    def _tolerate(self, use: Callable[[TextIO], object], stream: TextIO) -> None:
        try:
            use(stream)
        except OSError as error:
            is_tolerated = isinstance(error, self._tolerated)
            if isinstance(error, BrokenPipeError) or not is_tolerated:
                _discard(stream)
            if not is_tolerated:
                raise _not_written(error) from error


def _not_written(error: OSError) -> OperatorError:
    return OperatorError("The output cannot be written: {cause}.", cause=cause_of(error))


def _discard(stream: TextIO) -> None:
    """Send what comes to /dev/null, because Python flushes once more when it exits."""
    with suppress(OSError):  # a stream without a descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@contextmanager
def tolerant_streams() -> Iterator[None]:
    """Ignore every write error on stderr, and broken pipes on stdout.

    A full disk under stdout is an OperatorError, and so is a closed one: the user did not get what they asked for.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # or the next file, a database even, would get a standard stream's number
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper) and stream.errors in {"strict", "surrogateescape"}:
            stream.reconfigure(errors="replace")
    sys.stdout, sys.stderr = TolerantStream(sys.stdout, BrokenPipeError), TolerantStream(sys.stderr, OSError)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
