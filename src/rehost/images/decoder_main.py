"""The program that a decoder process runs: a path comes in, an answer goes out, one line each, until the input ends.

Started by pool.py as `python -m rehost.images.decoder_main BOUNDS`. It bounds itself before it reads a picture: memory
by RLIMIT_AS, each picture's processor time by a timer whose signal ends the process, even within C code. It writes no
file, opens no socket, and ends with its parent, whose end of the pipe closes then.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar

from rehost.errors import Permanent, Transient, VisitError
from rehost.images import heic
from rehost.images import png_rows as rows
from rehost.images.decoder_protocol import Answer, Thumbnail, Unreadable, to_line
from rehost.images.formats import Data, ImageLimits, examine, is_brief
from rehost.model import Format, Image, Reason

READY = b"ready\n"
LONGEST_LINE = 1 << 18
"""Bytes of an answer: a thumbnail is the longest."""
OUT_OF_MEMORY = 77
"""Exit status of a process that came to its limit of memory: what it has left is nothing to go on with."""
SMALL_BYTES = 1 << 20
"""A file of so many bytes is read at once."""
_IRREGULAR = "not a regular file"
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a decoder process may do; travels as JSON on its command line."""

    decode: bool  # False: structure only, the decoder is not even imported
    max_pixels: int
    max_frames: int
    memory_bytes: int
    picture_seconds: float  # of processor time

    @property
    def ceiling(self) -> ImageLimits:
        """What a picture may announce."""
        return ImageLimits(self.max_pixels, self.max_frames)

    def to_text(self) -> str:
        """Return the bounds as JSON."""
        return json.dumps(asdict(self))


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent drains, and may want an answer while it does
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    bounds = Bounds(**json.loads(sys.argv[1]))
    output = os.dup(1)
    os.dup2(2, 1)  # whatever a C library prints must not end up between the answers
    _confine(bounds.memory_bytes)
    if bounds.decode:
        from rehost.images.decoder import prepare  # noqa: PLC0415 -- structure alone does without Pillow

        prepare(bounds.max_pixels)
    os.write(output, READY)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, bounds.picture_seconds)
        try:
            match json.loads(line):
                case [str(path), int(side)]:
                    answer = shrink(path, side, bounds)
                case path:
                    answer = prove(path, bounds)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(output, to_line(answer))


def _confine(memory_bytes: int) -> None:
    """Bound this process for good."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def prove(path: str, bounds: Bounds) -> Answer:
    """Return what the file at `path` proves to be.

    Raises:
        MemoryError: the picture needs more than there is.
    """
    return _look(path, lambda file, size: _prove_open(file, size, bounds))


def walk(path: str, bounds: Bounds) -> Answer | None:
    """Return what `prove` would without a decoder; None for bytes that can make more work than there are of them."""

    def work(file: int, size: int) -> Image | None:
        with _contents(file, size) as data:
            return examine(data, bounds.ceiling).undoubted() if is_brief(data) else None

    return _look(path, work)


def shrink(path: str, side: int, bounds: Bounds) -> Answer:
    """Return a thumbnail of the picture at `path`, which was proven when it came.

    Raises:
        MemoryError: the picture needs more than there is.
    """

    def work(file: int, size: int) -> Thumbnail:
        from rehost.images.decoder import thumbnail  # noqa: PLC0415 -- imported by main already

        with _contents(file, size) as data:
            image = examine(data, bounds.ceiling).image
        if image.format is Format.HEIC:
            heic.require()
        with open(file, "rb", closefd=False) as reader:
            content = thumbnail(reader, image, side, bounds.ceiling)
        if len(content) > LONGEST_LINE // 2:  # what base64 makes of it has to fit
            raise Permanent(Reason.TOO_LARGE, "a thumbnail of many bytes")
        return Thumbnail(content)

    return _look(path, work)


def _look(path: str, work: Callable[[int, int], _Found]) -> _Found | VisitError | Unreadable:
    """Return what `work` makes of the file's descriptor and its size; nothing is asked of the system that need not."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would never open otherwise
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode):
                return Permanent(Reason.NOT_AN_IMAGE, _IRREGULAR)
            return work(file, state.st_size)
        finally:
            os.close(file)
    except VisitError as verdict:
        return verdict
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        if error.errno == errno.ENXIO:  # a socket cannot even be opened
            return Permanent(Reason.NOT_AN_IMAGE, _IRREGULAR)
        if error.errno == errno.ENOENT:
            return Transient(Reason.EMPTY, "the file is not there any more")
        return Unreadable(error.strerror or str(error))


def _prove_open(file: int, size: int, bounds: Bounds) -> Image:
    with _contents(file, size) as data:
        finding = examine(data, bounds.ceiling)
        if finding.image.format is Format.HEIC:
            heic.require()
        if bounds.decode and finding.image.format is Format.PNG and rows.is_still(data):
            rows.read(data)
            return finding.image
    if bounds.decode:
        from rehost.images.decoder import decode  # noqa: PLC0415 -- imported by main already

        with open(file, "rb", closefd=False) as reader:
            frames = decode(reader, finding, bounds.ceiling)
        return finding.image if finding.doubt is None else _counted(finding.image, frames)
    return finding.undoubted()


@contextmanager
def _contents(file: int, size: int) -> Iterator[Data]:
    """Have a file's bytes at hand."""
    if size <= SMALL_BYTES:  # of nothing there is no mapping
        yield os.pread(file, size, 0)
        return
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
        yield data


def _counted(image: Image, frames: int) -> Image:
    return Image(image.format, image.width, image.height, frames)


if __name__ == "__main__":
    main()
