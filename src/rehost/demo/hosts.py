"""The hosts that the demonstration plays: how each treats whoever asks it for a picture.

Their names end in .example, which no name server answers for (RFC 2606, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Manner(StrEnum):
    """How a host treats a request; each was met on the open web."""

    OPEN = "open"  # answers whoever asks
    NO_FOREIGN = "no-foreign"  # 403 for a foreign Referer; none at all is fine
    OWN_SITE = "own-site"  # 403 unless the Referer is a page of its own site
    PAGE_WALL = "page-wall"  # an HTML page with status 200 unless the Referer is its own www site
    DECOY_WALL = "decoy-wall"  # a notice picture with status 200 unless the Referer is of its own site
    REDIRECT = "redirect"  # 302 to a notice picture unless the Referer is of its own site
    LAPSED = "lapsed"  # a notice picture for everybody, for ever
    SLOW = "slow"  # takes its time
    BUSY = "busy"  # 429 with Retry-After to its first callers
    FLAKY = "flaky"  # 503 at the first request for a picture now and then


@dataclass(frozen=True, slots=True)
class Host:
    """One made-up host."""

    name: str
    manner: Manner
    cases: int  # how many links lead to it

    @property
    def site(self) -> str:
        """Return the registrable domain."""
        return ".".join(self.name.split(".")[-2:])


HOSTS: tuple[Host, ...] = (
    Host("oss.ownsite.example", Manner.OWN_SITE, 46),
    Host("wx3.nostrangers.example", Manner.NO_FOREIGN, 38),
    Host("file.pagewall.example", Manner.PAGE_WALL, 18),
    Host("mmbiz.noticeboard.example", Manner.DECOY_WALL, 16),
    Host("cdn.detour.example", Manner.REDIRECT, 12),
    Host("img.permissive.example", Manner.OPEN, 42),
    Host("pic.rushhour.example", Manner.BUSY, 10),
    Host("s2.sometimes.example", Manner.FLAKY, 7),
    Host("media.longshot.example", Manner.SLOW, 3),
    Host("photo.lapsed.example", Manner.LAPSED, 4),
)
