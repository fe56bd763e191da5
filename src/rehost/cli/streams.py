"""Standard streams that survive a reader that is gone (`| head`, a killed `| tee`): output is dropped, work goes on."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class TolerantStream(io.TextIOBase):
    """A text stream that drops what it cannot write instead of raising."""

    def __init__(self, stream: TextIO | None, tolerated: type[OSError]) -> None:
        """Wrap a stream.

        Args:
            stream: None if it was closed when the program started.
            tolerated: errors of this type are ignored; others are raised.
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
        """Write a text, or drop it."""
        self._tolerate(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        self._tolerate(lambda stream: stream.flush())

    def _tolerate(self, use: Callable[[TextIO], object]) -> None:
        if self._stream is None:
            return
        try:
            use(self._stream)
        except self._tolerated as error:
            if isinstance(error, BrokenPipeError):  # to /dev/null, because Python flushes once more when it exits
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)


@contextmanager
def tolerant_streams() -> Iterator[None]:
    """Ignore every write error on stderr, and broken pipes on stdout.

    A full disk under stdout is still an error: the user did not get the output they asked for.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = TolerantStream(sys.stdout, BrokenPipeError), TolerantStream(sys.stderr, OSError)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
