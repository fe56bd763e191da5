"""The program of a decoder process: one line with a path comes in, one line with the answer goes out, until input ends.

verifier.py starts it as `python -m rehost.images.decoder_main BOUNDS`. Before it reads a picture it limits itself:
its memory by RLIMIT_AS, its processor time per picture by a timer whose signal ends the process even within C code.
It writes no files, opens no sockets, and ends with its parent, because the pipe is then closed. Answers are JSON:
nothing that the process sends is unpickled or run.
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
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import TypeVar

from rehost.errors import Permanent, Transient, VisitError
from rehost.images.formats import Data, ImageLimits, examine, is_linear
from rehost.images.formats.png import is_still, read_rows
from rehost.model import Format, Image, Reason

READY = b"ready\n"
MAX_LINE_BYTES = 1 << 18
"""Longest answer; a thumbnail is the longest."""
OUT_OF_MEMORY = 77
"""Exit status of a process that has reached its memory limit: it cannot go on reliably."""
SMALL_BYTES = 1 << 20
"""A file of at most this size is read at once; a larger one is mapped."""
_NO_REGULAR_FILE = "not a regular file"
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a decoder process may do; sent as JSON on its command line."""

    decode: bool  # False: only the structure; the decoder is not even imported
    max_pixels: int
    max_frames: int
    max_total_pixels: int
    memory_bytes: int
    picture_seconds: float  # of processor time

    @property
    def limits(self) -> ImageLimits:
        """What a picture may announce."""
        return ImageLimits(self.max_pixels, self.max_frames, self.max_total_pixels)

    def to_text(self) -> str:
        """Return the bounds as JSON, for the command line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The file could not be read, which says nothing about the picture."""

    cause: str


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small WebP of a picture."""

    content: bytes


Answer = Image | Thumbnail | VisitError | Unreadable


def to_line(answer: Answer) -> bytes:
    """Return the answer as one line with its line feed."""
    match answer:
        case Image():
            fields: list[str | int] = ["image", answer.format.name, answer.width, answer.height, answer.frames]
        case Thumbnail():
            fields = ["thumbnail", b64encode(answer.content).decode("ascii")]
        case VisitError():
            kind = "transient" if isinstance(answer, Transient) else "permanent"
            fields = [kind, answer.reason.name, answer.evidence]
        case Unreadable():
            fields = ["unreadable", answer.cause]
    return json.dumps(fields).encode() + b"\n"


def from_line(line: bytes) -> Answer:
    """Return the answer that a line contains; raise ValueError or KeyError if `to_line` has not made the line."""
    match json.loads(line):
        case ["image", str(name), int(width), int(height), int(frames)]:
            return Image(Format[name], width, height, frames)
        case ["thumbnail", str(content)]:
            return Thumbnail(b64decode(content, validate=True))
        case ["transient", str(name), str(evidence)]:
            return Transient(Reason[name], evidence)
        case ["permanent", str(name), str(evidence)]:
            return Permanent(Reason[name], evidence)
        case ["unreadable", str(cause)]:
            return Unreadable(cause)
        case other:
            raise ValueError(f"not an answer: {other!r:.100}")


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent finishes what is in flight, and may need an answer then
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    bounds = Bounds(**json.loads(sys.argv[1]))
    output = os.dup(1)
    os.dup2(2, 1)  # what a C library prints must not get between the answers
    for resource_, most in (
        (resource.RLIMIT_AS, bounds.memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(resource_, (most, most))
    if bounds.decode:
        from rehost.images.decoder import prepare  # noqa: PLC0415 -- the structure alone needs no Pillow

        prepare(bounds.max_pixels)
    os.write(output, READY)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, bounds.picture_seconds)
        try:
            match json.loads(line):
                case [str(path), int(side)]:
                    answer = shrink(path, side, bounds)
                case path:
                    answer = verify(path, bounds)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(output, to_line(answer))


def verify(path: str, bounds: Bounds) -> Answer:
    """Return which picture the file at `path` is, or why it is none.

    Raises:
        MemoryError: the picture needs more memory than the process may have.
    """

    def work(file: int, size: int) -> Image:
        with _contents(file, size) as data:
            structure = examine(data, bounds.limits)
            image = structure.image
            if image.format is Format.HEIC:
                require_heic()
            if bounds.decode and image.format is Format.PNG and is_still(data):
                read_rows(data)
                return image
        if not bounds.decode:
            return structure.certain_image()
        from rehost.images.decoder import decode  # noqa: PLC0415 -- main has imported it

        with open(file, "rb", closefd=False) as reader:
            frames = decode(reader, structure, bounds.limits)
        return image if structure.doubt is None else replace(image, frames=frames)

    return _with_file(path, work)


def walk(path: str, bounds: Bounds) -> Answer | None:
    """Return what `verify` returns without a decoder; None for formats whose walk can take longer than their size."""

    def work(file: int, size: int) -> Image | None:
        with _contents(file, size) as data:
            return examine(data, bounds.limits).certain_image() if is_linear(data) else None

    return _with_file(path, work)


def shrink(path: str, side: int, bounds: Bounds) -> Answer:
    """Return a thumbnail of the picture at `path`, which was verified when it was stored.

    Raises:
        MemoryError: the picture needs more memory than the process may have.
    """

    def work(file: int, size: int) -> Thumbnail:
        from rehost.images.decoder import thumbnail  # noqa: PLC0415 -- main has imported it

        with _contents(file, size) as data:
            image = examine(data, bounds.limits).image
        if image.format is Format.HEIC:
            require_heic()
        with open(file, "rb", closefd=False) as reader:
            content = thumbnail(reader, image, side, bounds.limits)
        if len(content) > MAX_LINE_BYTES // 2:  # base64 makes it a third longer
            raise Permanent(Reason.TOO_LARGE, "a thumbnail with too many bytes")
        return Thumbnail(content)

    return _with_file(path, work)


def require_heic() -> None:
    """Return if the extra `heic` is installed: its wheel bundles GPL code, so it is no part of rehost.

    Raises:
        Permanent: UNSUPPORTED_FORMAT, with the name of the extra.
    """
    if find_spec("pillow_heif") is None:
        raise Permanent(Reason.UNSUPPORTED_FORMAT, "HEIC, which needs the extra rehost[heic]")


def _with_file(path: str, work: Callable[[int, int], _Result]) -> _Result | VisitError | Unreadable:
    """Return what `work` makes of the file's descriptor and its size, with as few system calls as possible."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # otherwise opening a FIFO would block
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode):
                return Permanent(Reason.NOT_AN_IMAGE, _NO_REGULAR_FILE)
            return work(file, state.st_size)
        finally:
            os.close(file)
    except VisitError as error:
        return error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        if error.errno == errno.ENXIO:  # a socket cannot even be opened
            return Permanent(Reason.NOT_AN_IMAGE, _NO_REGULAR_FILE)
        if error.errno == errno.ENOENT:
            return Transient(Reason.EMPTY, "the file no longer exists")
        return Unreadable(error.strerror or str(error))


@contextmanager
def _contents(file: int, size: int) -> Iterator[Data]:
    if size <= SMALL_BYTES:  # an empty file cannot be mapped
        yield os.pread(file, size, 0)
        return
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
        yield data


if __name__ == "__main__":
    main()
