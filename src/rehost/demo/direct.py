"""How many pictures would show if a page linked to them directly: asked as a browser on a foreign page would ask."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urljoin, urlsplit

from rehost.demo.cases import Case, Fault
from rehost.demo.origin import ADDRESS
from rehost.demo.posters import Posters

TIMEOUT_SECONDS = 15.0
MOST_HOPS = 5
AT_ONCE = 6  # connections, as a browser has them to one host
ACCEPT = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"


class Sight(StrEnum):
    """What a visitor of the page would see."""

    PICTURE = "picture"
    NOTICE = "notice"  # a picture, but not this one
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Direct:
    """What became of all links when they were asked for directly."""

    sights: dict[int, Sight]  # by case id

    def count(self, sight: Sight) -> int:
        """Return how many links give this sight."""
        return Counter(self.sights.values())[sight]


@dataclass(frozen=True, slots=True)
class Reader:
    """A browser that shows somebody's page; it knows the played hosts by a port on loopback."""

    port: int
    page: str  # where the links stand; the Referer
    posters: Posters

    def look(self, cases: Sequence[Case]) -> Direct:
        """Ask for every link once."""
        linked = [case for case in cases if case.link is not None]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return Direct({case.case_id: sight for case, sight in zip(linked, pool.map(self.see, linked), strict=True)})

    def see(self, case: Case) -> Sight:
        """Ask for one link."""
        assert case.link is not None
        if case.host is None:
            return Sight.BROKEN
        status, body = self._get(case.link)
        if body == self.posters.notice.read_bytes():
            return Sight.NOTICE
        is_whole = body == self.posters.path(case).read_bytes() and case.fault is not Fault.CUT
        return Sight.PICTURE if status == http.client.OK and is_whole else Sight.BROKEN

    def _get(self, url: str) -> tuple[int, bytes]:
        for _ in range(MOST_HOPS):
            parts = urlsplit(url)
            connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=TIMEOUT_SECONDS)
            try:
                connection.request("GET", parts.path, headers=self._headers(parts.netloc))
                response = connection.getresponse()
                body = response.read()
            finally:
                connection.close()
            location = response.getheader("Location")
            if location is None:
                return response.status, body
            url = urljoin(url, location)
        return 0, b""

    def _headers(self, host: str) -> dict[str, str]:
        # A browser tells a foreign origin the origin of the page only (Referrer Policy, section 3.7).
        return {"Host": host, "Referer": self.page, "Accept": ACCEPT, "User-Agent": "Mozilla/5.0 (demonstration)"}
