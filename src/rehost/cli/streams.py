"""Standard streams that bear being left: whoever read them may be gone before the work is done (`| tee`, `| head`)."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class TolerantStream(io.TextIOBase):
    """A stream whose faults end nothing: what cannot be written is lost."""

    def __init__(self, stream: TextIO | None, faults: type[OSError]) -> None:
        """Take a stream (None: it was closed when the program began), and what is borne of it."""
        self._stream = stream
        self._faults = faults

    @property
    def encoding(self) -> str:  # type: ignore[override]  # as the stream has it
        """Return the encoding of the stream."""
        return self._stream.encoding if self._stream else "utf-8"

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Return the file descriptor.

        Raises:
            OSError: there is none.
        """
        return super().fileno() if self._stream is None else self._stream.fileno()

    def write(self, text: str, /) -> int:
        """Write a text, or lose it."""
        if self._stream is not None:
            try:
                self._stream.write(text)
            except self._faults as fault:
                self._bear(fault)
        return len(text)

    def flush(self) -> None:
        """Write what is kept back, or lose it."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except self._faults as fault:
                self._bear(fault)

    def _bear(self, fault: OSError) -> None:
        """Where nobody reads, have what is kept back go nowhere: Python flushes once more at its end."""
        if isinstance(fault, BrokenPipeError) and self._stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let nothing end because stderr cannot be written, or because nobody reads stdout any more.

    That stdout's disk is full is a fault all the same: what was asked for is not there.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = TolerantStream(sys.stdout, BrokenPipeError), TolerantStream(sys.stderr, OSError)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
