"""What a decoder process says of a picture, as a line of JSON: nothing that it sends is unpickled or run."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass

from rehost.errors import Permanent, Transient, VisitError
from rehost.model import Format, Image, Reason


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The file could not be read; that is no verdict on the picture."""

    what: str


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small WebP of a picture."""

    content: bytes


Answer = Image | Thumbnail | VisitError | Unreadable


def to_line(answer: Answer) -> bytes:
    """Return the answer as one line, its end included."""
    match answer:
        case Image():
            said: list[str | int] = ["image", answer.format.name, answer.width, answer.height, answer.frames]
        case Thumbnail():
            said = ["thumbnail", b64encode(answer.content).decode("ascii")]
        case Transient():
            said = ["transient", answer.reason.name, answer.evidence]
        case VisitError():
            said = ["permanent", answer.reason.name, answer.evidence]
        case Unreadable():
            said = ["unreadable", answer.what]
    return json.dumps(said).encode() + b"\n"


def from_line(line: bytes) -> Answer:
    """Return the answer that a line holds.

    Raises:
        ValueError, KeyError: the line is none of ours.
    """
    match json.loads(line):
        case ["image", str(name), int(width), int(height), int(frames)]:
            return Image(Format[name], width, height, frames)
        case ["thumbnail", str(content)]:
            return Thumbnail(b64decode(content, validate=True))
        case ["transient", str(name), str(evidence)]:
            return Transient(Reason[name], evidence)
        case ["permanent", str(name), str(evidence)]:
            return Permanent(Reason[name], evidence)
        case ["unreadable", str(what)]:
            return Unreadable(what)
        case other:
            raise ValueError(f"no answer: {other!r:.100}")
