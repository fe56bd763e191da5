"""The Range header: which bytes of a file are asked for (RFC 9110, section 14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_RANGES = 8  # a few per request have a use; hundreds are an attack (RFC 9110, section 17.15)
_PART_OVERHEAD = 160  # bytes of headers and delimiters around each part of a multipart answer, about

_SET = re.compile(r"bytes=([0-9,\- \t]+)", re.IGNORECASE)
_SPEC = re.compile(r"(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file: from `start`, up to but without `end`."""

    start: int
    end: int

    def __len__(self) -> int:
        """Return how many bytes these are."""
        return self.end - self.start


def spans(header: str, size: int) -> tuple[Span, ...] | None:
    """Return the bytes asked for of a file of `size`, in order, without overlaps.

    None means that the header is to be ignored: it is not understood, it asks for too many ranges, or for so much that
    the whole file is less. An empty tuple means that nothing that is asked for exists (416).
    """
    match = _SET.fullmatch(header.strip())
    specs = [spec.strip(" \t") for spec in match[1].split(",")] if match else []
    asked = [_SPEC.fullmatch(spec) for spec in specs if spec]
    if not asked or len(asked) > MOST_RANGES:
        return None
    found = []
    for spec in asked:
        if spec is None or not (spec[1] or spec[2]) or (spec[1] and spec[2] and int(spec[1]) > int(spec[2])):
            return None
        found.append(_span(spec[1], spec[2], size))
    merged = _merged([span for span in found if len(span) > 0])
    if len(merged) > 1 and sum(len(span) + _PART_OVERHEAD for span in merged) >= size:
        return None
    return merged


def _span(first: str, last: str, size: int) -> Span:
    """Return one range; an empty one where it lies behind the end."""
    if not first:
        return Span(max(0, size - int(last)), size)
    start = min(int(first), size)
    return Span(start, min(int(last) + 1, size) if last else size)


def _merged(found: list[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for span in sorted(found, key=lambda span: span.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)
