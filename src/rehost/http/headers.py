"""Header fields: those of an answer, and a request made of some. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class Fields(Mapping[str, str]):
    """Names, whatever their case, and values: of a name that came more than once, the first one.

    obs-text (RFC 9110, section 5.5) is read as UTF-8 with surrogate escapes.
    """

    def __init__(self) -> None:
        self._values: dict[bytes, list[bytes]] = {}

    def add(self, name: bytes, value: bytes) -> None:
        """Take a field as it came; it is read when somebody asks for it."""
        self._values.setdefault(name.lower(), []).append(value)

    def all(self, name: str) -> Sequence[str]:
        """Return each value that came under a name."""
        return [_text(value) for value in self._values.get(name.lower().encode(), ())]

    def listed(self, name: str) -> str:
        """Return the value of a field that is a list, all its lines in one (RFC 9110, section 5.3)."""
        return ", ".join(self.all(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower().encode() in self._values

    def __getitem__(self, name: str) -> str:
        return _text(self._values[name.lower().encode()][0])

    def __iter__(self) -> Iterator[str]:
        return map(_text, self._values)

    def __len__(self) -> int:
        return len(self._values)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape").strip(" \t")


def request(method: str, target: str, fields: Mapping[str, str]) -> bytes:
    """Return a request of HTTP/1.1 without a body (RFC 9112, section 2.1).

    Raises:
        ValueError: there is a line break in one of its parts, which would make it say something else.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    text = "\r\n".join((*lines, "", ""))
    if text.count("\r") != len(lines) + 1 or text.count("\n") != len(lines) + 1:
        raise ValueError("a line break within a line of a request")
    return text.encode("utf-8", "surrogateescape")
