"""Converts a record of the file into a row of ad_cases, or says why that is impossible. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date
from functools import partial

LARGEST_INTEGER = 2**31 - 1

# As ISO 8601 and spreadsheets write it: 2020/6/28, 2020年6月28日. A time of day may follow.
_DAY = re.compile(r"\s*([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})(?![0-9])")

Value = str | int | date | None
Row = Mapping[str, Value]


class BadRowError(ValueError):
    """A record is not a case; the message names the column and the problem."""


def row(fields: Mapping[str, object]) -> Row:
    """Return a record's row: the columns that both the record and ad_cases have. An empty value becomes NULL.

    Raises:
        BadRowError: a value does not fit its column, or case_id or title is missing.
    """
    values = {name: _value(name, fields[name]) for name in COLUMNS if name in fields}
    if values.get("case_id") is None:
        raise BadRowError("case_id is missing")
    if values.get("title") is None:
        raise BadRowError("title is missing")
    # The column is NOT NULL, but a catalogue may lack the page of a case.
    return values if values.get("source_url") is not None else {**values, "source_url": ""}


def _value(name: str, value: object) -> Value:
    if value is None or value == "":
        return None
    try:
        return COLUMNS[name](value)
    except ValueError as error:
        raise BadRowError(f"{name} {error}") from error


def _text(value: object, longest: int | None = None) -> str:
    if isinstance(value, list | dict | bool):
        raise ValueError("is not text")  # noqa: TRY004  one type of error for all faults of a value
    text = str(value)
    if "\0" in text:
        raise ValueError("contains a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("is not in UTF-8: save the file in that encoding")
    if longest is not None and len(text) > longest:
        raise ValueError(f"has {len(text)} characters, at most {longest} are allowed")
    return text


def _integer(value: object, least: int = -LARGEST_INTEGER - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is not a number")  # noqa: TRY004  as above
    try:
        number = float(value)
        whole = int(value) if isinstance(value, int) else int(number)
    except (ValueError, OverflowError):
        raise ValueError(f"is not a whole number: {str(value)[:40]}") from None
    if math.isnan(number) or number != whole:
        raise ValueError(f"is not a whole number: {str(value)[:40]}")
    if not least <= whole <= LARGEST_INTEGER:
        raise ValueError(f"must be from {least} to {LARGEST_INTEGER}: {str(value)[:40]}")
    return whole


def _day(value: object) -> date:
    text = str(value)
    if (found := _DAY.match(text)) is not None:
        with suppress(ValueError):  # such as the 30th of February
            return date(*map(int, found.groups()))
    raise ValueError(f"is not a date such as 2020-06-28: {text[:40]}")


def _array(value: object) -> str:
    parsed = value
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            raise ValueError(f"is not JSON: {value[:40]}") from None
    if not isinstance(parsed, list):
        raise ValueError("is not a JSON array")  # noqa: TRY004  as above
    text = json.dumps(parsed, ensure_ascii=False, allow_nan=False)
    if "\\u0000" in text:
        raise ValueError("contains a NUL character")
    return _text(text)


COLUMNS: Mapping[str, Callable[[object], Value]] = {
    "case_id": partial(_integer, least=1),
    "source_url": _text,
    "title": partial(_text, longest=500),
    "description": _text,
    "author": partial(_text, longest=100),
    "publish_time": _day,
    "main_image": _text,
    "images": _array,
    "video_url": _text,
    "brand_name": partial(_text, longest=200),
    "brand_industry": partial(_text, longest=100),
    "activity_type": partial(_text, longest=100),
    "location": partial(_text, longest=100),
    "tags": _array,
    "score": _integer,
    "score_decimal": partial(_text, longest=10),
    "favourite": _integer,
    "company_name": partial(_text, longest=200),
    "company_logo": _text,
    "agency_name": partial(_text, longest=200),
}
"""The columns that a file may fill, each with its conversion. main_image_local is not among them."""
