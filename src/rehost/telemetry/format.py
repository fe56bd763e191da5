"""Numbers as a person reads them. Pure."""

from __future__ import annotations

_BYTES = 1000.0  # decimal, as disks are sold and df --si counts
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def count(number: int) -> str:
    """Return a count with its thousands apart: 6,141."""
    return f"{number:,}"


def size(number: int) -> str:
    """Return a number of bytes in three digits or so: 2.46 GB."""
    amount = float(number)
    if amount < _BYTES:
        return f"{number} B"
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= _BYTES
        if amount < _BYTES or unit == "TB":
            break
    return f"{amount:.{2 if amount < 10 else 1 if amount < 100 else 0}f} {unit}"  # noqa: PLR2004 - three digits


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 850 ms, 12.3 s, 4 min 10 s, 3 h 5 min, 13 d 22 h."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < _MINUTE - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, large_name, small, small_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {large_name}" + (f" {rest} {small_name}" if rest else "")
    raise AssertionError(seconds)  # pragma: no cover - a minute or more is always found above


def share(part: int, whole: int) -> str:
    """Return a percentage that never claims more than is true: 100% only for all of it."""
    if whole <= 0:
        return "100%" if part >= whole else "0%"
    tenths = part * 1000 // whole
    return f"{tenths // 10}%" if tenths % 10 == 0 else f"{tenths / 10:.1f}%"
