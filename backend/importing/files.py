"""Reads a catalogue file record by record, in constant memory.

Formats: CSV with a header line, JSON Lines, a JSON array of objects; plain or compressed with gzip, in UTF-8.
"""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

LARGEST_RECORD = 16 * 1024 * 1024  # characters
_CHUNK = 64 * 1024
_SPACE = " \t\r\n"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # the byte order mark that spreadsheets write
_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, section 2.3.1


class UnreadableFileError(Exception):
    """The file, or the rest of it, cannot be read as a catalogue; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the file; `fields` is None if it cannot be read, for the reason in `fault`."""

    line: int
    fields: dict[str, object] | None
    fault: str = ""


def read(path: Path, progress: Callable[[int], object]) -> Iterator[Record]:
    """Yield the records of a file.

    Args:
        path: of the file; its first bytes decide its format, not its name.
        progress: called now and then with the number of bytes read so far.

    Raises:
        UnreadableFileError: the file, or the rest of it, cannot be read.
    """
    try:
        with path.open("rb") as raw:
            if raw.peek(2).startswith(_UTF_16):
                raise UnreadableFileError(f"{path} is in UTF-16: save it as UTF-8")
            yield from _records(raw, lambda: progress(raw.tell()))
    except EOFError as error:
        raise UnreadableFileError(f"{path} is cut short: its compressed data ends too early") from error
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _records(raw: BufferedReader, tick: Callable[[], object]) -> Iterator[Record]:
    plain = gzip.GzipFile(fileobj=raw) if raw.peek(2).startswith(_GZIP_MAGIC) else raw
    # Bytes that are not UTF-8 become lone surrogates, which invalidate their own record and no other.
    with _text(plain) as text:
        first = _first_character(text)
        text.seek(0)
        forms = {"[": _array_records, "{": _line_records}
        for number, record in enumerate(forms.get(first, _csv_records)(text)):
            if number % 1000 == 0:
                tick()
            yield record
        tick()


def _text(plain: BufferedReader | gzip.GzipFile) -> TextIO:
    return TextIOWrapper(cast("BufferedReader", plain), encoding="utf-8-sig", errors="surrogateescape", newline="")


def _first_character(text: TextIO) -> str:
    return text.read(_CHUNK).lstrip(_SPACE)[:1]


def _csv_records(text: TextIO) -> Iterator[Record]:
    csv.field_size_limit(LARGEST_RECORD)
    rows = csv.reader(text, strict=True)
    names = _names(rows)
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):  # everything after it has become one field
                raise UnreadableFileError(
                    f"Line {line}: a quotation mark is never closed; the rest is not read"
                ) from error
            yield Record(line, None, f"not CSV: {error}")
            continue
        if len(row) == len(names):
            yield Record(line, dict(zip(names, row, strict=True)))
        elif row:
            yield Record(line, None, f"{len(row)} fields, but the first line names {len(names)}")


def _names(rows: Iterator[list[str]]) -> list[str]:
    """Return the names of the columns from the first line."""
    try:
        names = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise UnreadableFileError(f"The first line is not CSV: {error}") from error
    if "case_id" not in names:
        shown = f" but {','.join(names)[:60]!r}" if names else ""
        raise UnreadableFileError(
            f"The first line has no column case_id{shown}: a CSV file starts with the names of its columns, "
            "separated by commas"
        )
    return names


def _line_records(text: TextIO) -> Iterator[Record]:
    for number, line in enumerate(iter(lambda: text.readline(LARGEST_RECORD), ""), 1):
        if line.strip(_SPACE):
            yield _record(number, line)


def _record(line: int, text: str) -> Record:
    try:
        return _checked(line, json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        return Record(line, None, f"not JSON: {error}")


def _checked(line: int, value: object) -> Record:
    return Record(line, value) if isinstance(value, dict) else Record(line, None, "not a JSON object")


def _array_records(text: TextIO) -> Iterator[Record]:
    """Yield the elements of a JSON array; a syntax error ends it, because the rest cannot be read reliably."""
    decoder = json.JSONDecoder()
    window = _Window(text)
    window.skip("[")
    while not window.at("]"):
        line = window.line
        yield _checked(line, window.decode(decoder))
        if not window.at("]"):
            window.skip(",")


class _Window:
    """The part of a text that is being parsed; it reads more as needed."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._piece = ""
        self.line = 1

    def at(self, mark: str) -> bool:
        """Return whether the next character, after white space, is `mark`.

        Raises:
            UnreadableFileError: the text ends here.
        """
        self._drop(len(self._piece) - len(self._piece.lstrip(_SPACE)))
        while not self._piece:
            self._read(_CHUNK)
            self._drop(len(self._piece) - len(self._piece.lstrip(_SPACE)))
        return self._piece.startswith(mark)

    def skip(self, mark: str) -> None:
        """Skip `mark`.

        Raises:
            UnreadableFileError: the next character is another one.
        """
        if not self.at(mark):
            raise UnreadableFileError(f"Line {self.line}: {mark} is missing in the JSON array; the rest is not read")
        self._drop(1)

    def decode(self, decoder: json.JSONDecoder) -> object:
        """Return the value that starts here, and skip it.

        Raises:
            UnreadableFileError: it is not JSON, or longer than a record may be.
        """
        while True:
            try:
                value, end = decoder.raw_decode(self._piece)
            except (json.JSONDecodeError, RecursionError) as error:
                self._read(max(_CHUNK, len(self._piece)), error)
                continue
            self._drop(end)
            return cast("object", value)

    def _drop(self, count: int) -> None:
        self.line += self._piece.count("\n", 0, count)
        self._piece = self._piece[count:]

    def _read(self, count: int, cause: Exception | None = None) -> None:
        more = self._text.read(count) if len(self._piece) < LARGEST_RECORD else ""
        if not more:
            raise UnreadableFileError(
                f"Line {self.line}: {cause or 'the JSON array does not end'}; the rest is not read"
            ) from cause
        self._piece += more
