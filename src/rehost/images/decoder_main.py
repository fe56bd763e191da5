"""The program of a decoder process: an open file comes in, one line with the answer goes out, until input ends.

verifier.py starts it as `python -m rehost.images.decoder_main BOUNDS`, with a socket as standard input. Before it reads
a picture it limits itself: its memory by RLIMIT_AS, its processor time per picture by a timer whose signal ends the
process even within C code, and what else it can do by sandbox.py. It opens no file, not even to import a module, and
ends with its parent, because the socket is then closed. Answers are JSON: nothing that the process sends is unpickled
or run.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
import signal
import socket
import stat
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO

from rehost.errors import Permanent, Transient, VisitError
from rehost.images.formats import Data, ImageLimits, examine, is_linear
from rehost.images.formats.png import is_still, read_rows
from rehost.model import Format, Image, Reason

MAX_LINE_BYTES = 1 << 18
"""Longest answer; a thumbnail is the longest."""
OUT_OF_MEMORY = 77
"""Exit status of a process that has reached its memory limit: it cannot go on reliably."""
SMALL_BYTES = 1 << 20
"""A file of at most this size is read at once; a larger one is mapped."""
_NO_REGULAR_FILE = "not a regular file"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a decoder process may do; sent as JSON on its command line."""

    decode: bool  # False: only the structure; the decoder is not even imported
    max_pixels: int
    max_frames: int
    max_total_pixels: int
    memory_bytes: int
    picture_seconds: float  # of processor time
    heic: bool = False  # load the plugin: 20 MB and a thread that most runs never need

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


@dataclass(frozen=True, slots=True)
class NeedsHeic:
    """Only a process with the HEIC plugin can decode the picture."""


Answer = Image | Thumbnail | VisitError | Unreadable | NeedsHeic


def to_line(answer: Answer) -> bytes:
    """Return the answer as one line with its line feed."""
    match answer:
        case Image():
            size = answer.width, answer.height, answer.frames
            fields: list[str | int | None] = ["image", answer.format.name, *size, answer.damage]
        case Thumbnail():
            fields = ["thumbnail", b64encode(answer.content).decode("ascii")]
        case VisitError():
            kind = "transient" if isinstance(answer, Transient) else "permanent"
            fields = [kind, answer.reason.name, answer.evidence]
        case Unreadable():
            fields = ["unreadable", answer.cause]
        case NeedsHeic():
            fields = ["heic"]
    return json.dumps(fields).encode() + b"\n"


def from_line(line: bytes) -> Answer:
    """Return the answer that a line contains, such that a database can store it; an attacker may have made the line.

    Raises:
        ValueError, KeyError: `to_line` has not made it.
    """
    match json.loads(line):
        case ["image", str(name), int(width), int(height), int(frames), str() | None as damage]:
            if min(width, height, frames) < 1 or max(width, height, frames) >> 31:
                raise ValueError("no picture has such dimensions")
            return Image(Format[name], width, height, frames, damage and _storable(damage))
        case ["thumbnail", str(content)]:
            return Thumbnail(b64decode(content, validate=True))
        case ["transient", str(name), str(evidence)]:
            return Transient(Reason[name], _storable(evidence))
        case ["permanent", str(name), str(evidence)]:
            return Permanent(Reason[name], _storable(evidence))
        case ["unreadable", str(cause)]:
            return Unreadable(_storable(cause))
        case ["heic"]:
            return NeedsHeic()
        case other:
            raise ValueError(f"not an answer: {other!r:.100}")


def _storable(text: str) -> str:
    """Return the text without what PostgreSQL does not store: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")


def main() -> None:
    """Answer requests until the socket, which is standard input, is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent finishes what is in flight, and may need an answer then
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from rehost.images.sandbox import confine  # noqa: PLC0415 -- the parent, which imports this module, needs it not

    bounds = Bounds(**json.loads(sys.argv[1]))
    output = os.dup(1)
    os.dup2(2, 1)  # what a C library prints must not get between the answers
    for resource_, most in (
        (resource.RLIMIT_AS, bounds.memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(resource_, (most, most))
    heic = has_heic() and bounds.heic  # a confined process cannot look for it
    if bounds.decode:
        from rehost.images.decoder import prepare  # noqa: PLC0415 -- the structure alone needs no Pillow

        prepare(bounds.max_pixels, heic=heic)
    with socket.socket(fileno=0) as channel:
        os.write(output, json.dumps(confine(threads=heic)).encode() + b"\n")
        while received := _receive(channel):
            signal.setitimer(signal.ITIMER_PROF, bounds.picture_seconds)
            try:
                answer = _answer(*received, bounds)
            except MemoryError:
                os._exit(OUT_OF_MEMORY)
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(output, to_line(answer))


def _receive(channel: socket.socket) -> tuple[int, int] | None:
    """Return the next file and the side of its thumbnail (0: verify it); None once the parent has closed the socket."""
    side, files, _, _ = socket.recv_fds(channel, 16, 1)
    return (files[0], int(side)) if files else None


def _answer(file: int, side: int, bounds: Bounds) -> Answer:
    """Return what there is to say about an open file, and close it."""
    try:
        size = os.fstat(file).st_size
        return shrink(file, size, side, bounds) if side else verify(file, size, bounds)
    except VisitError as error:
        return error
    except OSError as error:
        return _unreadable(error)
    finally:
        os.close(file)


def verify(file: int, size: int, bounds: Bounds) -> Image | NeedsHeic:
    """Return which picture the open file is.

    Raises:
        VisitError: it is none.
        MemoryError: the picture needs more memory than the process may have.
        OSError: the file cannot be read.
    """
    with _contents(file, size) as data:
        structure = examine(data, bounds.limits)
        image = structure.image
        if image.format is Format.HEIC and _lacks_heic(bounds):
            return NeedsHeic()
        if bounds.decode and structure.is_proven:
            return structure.decoded_image(image.frames)
        if bounds.decode and image.format is Format.PNG and is_still(data):
            read_rows(data, to_end=structure.doubt is not None)
            return structure.decoded_image(1)
    if not bounds.decode:
        return structure.certain_image()
    from rehost.images.decoder import decode  # noqa: PLC0415 -- main has imported it

    with BytesIO(data) if isinstance(data, bytes) else open(file, "rb", closefd=False) as reader:
        frames = decode(reader, structure, bounds.limits)
    return structure.decoded_image(frames)


def walk(path: str, bounds: Bounds) -> Answer | None:
    """Return what `verify` returns without a decoder; None for formats whose walk can take longer than their size."""
    file = open_file(path)
    if not isinstance(file, int):
        return file
    try:
        with _contents(file, os.fstat(file).st_size) as data:
            return examine(data, bounds.limits).certain_image() if is_linear(data) else None
    except VisitError as error:
        return error
    except OSError as error:
        return _unreadable(error)
    finally:
        os.close(file)


def shrink(file: int, size: int, side: int, bounds: Bounds) -> Thumbnail | NeedsHeic:
    """Return a thumbnail of the picture in the open file, which was verified when it was stored.

    Raises:
        VisitError, MemoryError, OSError: as `verify`.
    """
    from rehost.images.decoder import thumbnail  # noqa: PLC0415 -- main has imported it

    with _contents(file, size) as data:
        image = examine(data, bounds.limits).image
    if image.format is Format.HEIC and _lacks_heic(bounds):
        return NeedsHeic()
    with open(file, "rb", closefd=False) as reader:
        content = thumbnail(reader, image, side, bounds.limits)
    if len(content) > MAX_LINE_BYTES // 2:  # base64 makes it a third longer
        raise Permanent(Reason.TOO_LARGE, "a thumbnail with too many bytes")
    return Thumbnail(content)


@cache
def has_heic() -> bool:
    """Return whether the extra `heic` is installed: its wheel bundles GPL code, so it is no part of rehost."""
    return find_spec("pillow_heif") is not None


def _lacks_heic(bounds: Bounds) -> bool:
    """Return whether this process would have to load the plugin.

    Raises:
        Permanent: UNSUPPORTED_FORMAT, with the name of the extra, if there is none.
    """
    if not has_heic():
        raise Permanent(Reason.UNSUPPORTED_FORMAT, "HEIC, which needs an extra: pip install '.[heic]'")
    return bounds.decode and not bounds.heic


def open_file(path: str) -> int | VisitError | Unreadable:
    """Return a descriptor for reading the file at `path`, or why there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # otherwise opening a FIFO would block
    except OSError as error:
        return _unreadable(error)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    return Permanent(Reason.NOT_AN_IMAGE, _NO_REGULAR_FILE)


def _unreadable(error: OSError) -> VisitError | Unreadable:
    """Return what an error of the file system says about a file; raise MemoryError for a lack of memory."""
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
