"""Who is suspected of being a decoy, and what could prove it. Pure; hotlink/learner.py asks the origin.

A decoy is a notice ("this picture is from elsewhere") that an origin sends, with status 200, in place of the picture:
the same bytes for every link. The same bytes alone prove nothing: shops show one logo under many links.
"""

from __future__ import annotations

import re
import string
from collections import OrderedDict
from random import Random
from urllib.parse import urlsplit, urlunsplit

MOST_REMEMBERED = 20_000
"""Digests; at some 500 bytes each, 10 MB."""

# The ending of a picture's name, and whatever follows it (`.jpg!w300`); a number before it belongs to the name.
_ENDING = re.compile(
    r"\.(?:jpe?g?|png|gif|webp|avif|bmp|tiff?|ico|jp2|hei[cf])(?![a-z0-9]).*|\.[a-z][a-z0-9]{0,4}$", re.IGNORECASE
)
_ID = re.compile(r"(?<==)(?=[^&=]*\d)[\w.~-]+(?=&|$)", re.ASCII)  # a value in a query that may name a picture

SHORTEST_NAME = 18
"""Characters; no picture has a name of so many random ones by chance, and as a number it fits in 64 bits."""


class SeenDigests:
    """The digests that came of late, with the first link of each, and those that were found genuine."""

    def __init__(self, random: Random, *, most: int = MOST_REMEMBERED) -> None:
        """Remember at most so many digests; those that came longest ago are forgotten first."""
        self._random = random
        self._most = most
        self._first: OrderedDict[tuple[str, str], tuple[str, str | None]] = OrderedDict()
        self._genuine: OrderedDict[tuple[str, str], None] = OrderedDict()

    def see(self, origin: str, digest: str, url: str, page_url: str | None) -> tuple[str, str | None] | None:
        """Take in that these bytes came under this URL; return another link of the origin that gave them too, if any.

        Bytes that were found genuine are suspect no more. The same URL in several rows is one link.
        """
        key = (origin, digest)
        if key in self._genuine:
            return None
        first = self._first.setdefault(key, (url, page_url))
        self._first.move_to_end(key)
        if len(self._first) > self._most:
            self._first.popitem(last=False)
        return None if first[0] == url else first

    def is_genuine(self, origin: str, digest: str) -> bool:
        """Return whether these bytes were examined and found to be a picture that several links share."""
        return (origin, digest) in self._genuine

    def clear(self, origin: str, digest: str) -> None:
        """Remember that these bytes are a picture that several links share."""
        self._genuine[origin, digest] = None
        if len(self._genuine) > self._most:
            self._genuine.popitem(last=False)

    def doubt(self, origin: str) -> None:
        """Take back what was found genuine for an origin that has changed."""
        for key in [key for key in self._genuine if key[0] == origin]:
            del self._genuine[key]

    def controls(self, url: str) -> list[str]:
        """Return URLs that cannot be this picture; bytes that all of them give are given for anything.

        The first has a random name of the same shape in the same folder, so that it meets the same rules at the origin.
        An origin may ignore the name, though: it is a title for search engines (`/photo/ID/title.jpg`), or a size
        (`/mmbiz_png/ID/640`, qpic.cn), or the picture is named in the query. So where there is anything else that may
        name a picture, a second URL has that replaced too: the longest folder with a digit in it, and what has a digit
        in the query.
        """
        parts = urlsplit(url)
        segments = parts.path.split("/")
        segments[-1] = self._other_name(segments[-1])
        near = (parts.scheme, parts.netloc, "/".join(segments), parts.query, "")
        ids = [index for index, segment in enumerate(segments[:-1]) if re.search(r"\d", segment)]
        if ids:
            longest = max(ids, key=lambda index: len(segments[index]))
            segments[longest] = self._other_name(segments[longest])
        query = _ID.sub(lambda value: self._other_name(value[0]), parts.query)
        far = (parts.scheme, parts.netloc, "/".join(segments), query, "")
        return [urlunsplit(each) for each in dict.fromkeys((near, far))]

    def _other_name(self, name: str) -> str:
        """Return a name of the same kind of characters and the same ending; never a short one."""
        ending = _ENDING.search(name)
        stem = name[: ending.start()] if ending else name
        letters = string.ascii_lowercase + string.digits
        if stem.isdigit():
            letters = string.digits
        elif stem and not set(stem.lower()) - set(string.hexdigits):
            letters = "0123456789abcdef"
        length = max(SHORTEST_NAME, len(stem)) if letters != string.digits else SHORTEST_NAME
        first = self._random.choice(letters[1:])  # a number begins with no 0
        other = first + "".join(self._random.choices(letters, k=length - 1))
        return (other.upper() if stem.isupper() else other) + (ending[0] if ending else "")
