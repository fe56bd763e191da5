"""The demonstration's catalogue: 200 invented cases, the hosts that they link to, and the SQLite table of both.

Host names end in .example, which no name server answers for (RFC 2606, section 2).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum, StrEnum
from importlib import resources
from pathlib import Path
from random import Random
from typing import NamedTuple

from rehost.model import Format, Reason, State

SEED = 20200628
FIRST_CASE = 297_001
EMPTY_CELLS = 3  # cases without a link
FORMATS = {Format.JPEG: 58, Format.PNG: 26, Format.WEBP: 12, Format.GIF: 4}  # per cent


class Bilingual(NamedTuple):
    """The same words in both languages."""

    english: str
    chinese: str


SPECIAL_TITLES = {
    7: Bilingual('<script>alert("a title is text")</script>', "标题只是文字 <b>&amp;</b>"),
    31: Bilingual("Fish & “Chips” <to go>", "鱼 & 薯条 <外带>"),
}


class Behaviour(StrEnum):
    """How a host treats requests; the open web has hosts of each kind."""

    OPEN = "open"  # answers every request
    NO_FOREIGN = "no-foreign"  # 403 for a foreign Referer; a request without Referer is answered
    OWN_SITE = "own-site"  # 403 unless the Referer is a page of its own site
    PAGE_WALL = "page-wall"  # 200 with an HTML page unless the Referer is its own www site
    DECOY_WALL = "decoy-wall"  # 200 with a placeholder unless the Referer is its own site
    REDIRECT = "redirect"  # 302 to a placeholder unless the Referer is its own site
    LAPSED = "lapsed"  # a placeholder for every request
    SLOW = "slow"  # sends its pictures slowly
    BUSY = "busy"  # 429 with Retry-After to the first request
    FLAKY = "flaky"  # 503 to the first request for some of its pictures


class Host(NamedTuple):
    """One invented host."""

    name: str
    behaviour: Behaviour
    links: int

    @property
    def site(self) -> str:
        """Return the registrable domain."""
        return self.name.partition(".")[2]


HOSTS = (
    Host("oss.ownsite.example", Behaviour.OWN_SITE, 46),
    Host("wx3.nostrangers.example", Behaviour.NO_FOREIGN, 38),
    Host("file.pagewall.example", Behaviour.PAGE_WALL, 18),
    Host("mmbiz.noticeboard.example", Behaviour.DECOY_WALL, 16),
    Host("cdn.detour.example", Behaviour.REDIRECT, 12),
    Host("img.permissive.example", Behaviour.OPEN, 42),
    Host("pic.rushhour.example", Behaviour.BUSY, 10),
    Host("s2.sometimes.example", Behaviour.FLAKY, 7),
    Host("media.longshot.example", Behaviour.SLOW, 3),
    Host("photo.lapsed.example", Behaviour.LAPSED, 4),
)


class Result(NamedTuple):
    """The state of a link after the run, expected or found."""

    state: State
    reason: Reason | None = None

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else str(self.state)


HELD = Result(State.HELD)


class Fault(Enum):
    """What is wrong with a link: the status that its host answers, if any, and the expected result."""

    DEAD = (404, Result(State.REFUSED, Reason.GONE))
    REMOVED = (410, Result(State.REFUSED, Reason.GONE))
    DAMAGED = (None, HELD)  # the file is damaged outside its pixels, which are whole
    CUT = (None, Result(State.DEFERRED, Reason.TRUNCATED))  # the file ends too early; Content-Length matches it
    NO_URL = (None, Result(State.REFUSED, Reason.NOT_A_URL))  # the cell holds text that is no URL

    def __init__(self, status: int | None, result: Result) -> None:
        self.status = status
        self.result = result


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: an invented advertising case."""

    case_id: int
    title: Bilingual
    brand: Bilingual
    industry: Bilingual
    host: Host | None  # None: the cell is empty, or holds no URL
    format: Format
    fault: Fault | None
    link: str | None  # None: the cell is empty

    @property
    def path(self) -> str:
        """Return the path of the picture at its host."""
        assert self.link is not None
        return "/" + self.link.split("/", 3)[3]

    @property
    def expected(self) -> Result | None:
        """Return the state that the run must reach; None for an empty cell."""
        if self.link is None:
            return None
        if self.fault is not None:
            return self.fault.result
        is_lapsed = self.host is not None and self.host.behaviour is Behaviour.LAPSED
        return Result(State.REFUSED, Reason.DECOY) if is_lapsed else HELD


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of the demonstration from words.json; pairs are English and Chinese."""

    brands: list[list[str]]  # a name's pair, then its industry's
    campaigns: list[list[str]]
    page: dict[str, list[str]]
    behaviours: dict[str, list[str]]  # by Behaviour

    @classmethod
    def load(cls) -> Words:
        """Read the texts."""
        return cls(**json.loads(resources.files("rehost.demo").joinpath("words.json").read_text("utf-8")))


def make_cases() -> tuple[Case, ...]:
    """Return all cases in the order of their ids; the same ones every time."""
    random = Random(SEED)
    hosts: list[Host | None] = [host for host in HOSTS for _ in range(host.links)]
    hosts += [None] * (EMPTY_CELLS + 1)  # one more: the cell that holds no URL
    random.shuffle(hosts)
    faults = _faults(hosts)
    words = Words.load()
    cases = []
    for index, host in enumerate(hosts):
        lap, turn = divmod(index, len(words.brands))
        brand = words.brands[turn]
        campaign = Bilingual(*words.campaigns[(index * 7 + lap * 3) % len(words.campaigns)])
        picture_format = random.choices([*FORMATS], [*FORMATS.values()])[0]
        fault = faults.get(index)
        cases.append(
            Case(
                case_id=FIRST_CASE + index,
                title=SPECIAL_TITLES.get(index, campaign),
                brand=Bilingual(*brand[:2]),
                industry=Bilingual(*brand[2:]),
                host=host,
                format=picture_format,
                fault=fault,
                link=_link(host, picture_format, random) if host else "暂无图片" if fault else None,
            )
        )
    return tuple(cases)


def _faults(hosts: Sequence[Host | None]) -> dict[int, Fault]:
    """Return the faulty links by their index."""
    open_ones = [index for index, host in enumerate(hosts) if host and host.behaviour is Behaviour.OPEN]
    own_site = [index for index, host in enumerate(hosts) if host and host.behaviour is Behaviour.OWN_SITE]
    return {
        **dict.fromkeys((open_ones[4], open_ones[11], own_site[9], own_site[21]), Fault.DEAD),
        **dict.fromkeys((open_ones[19], own_site[33]), Fault.REMOVED),
        open_ones[26]: Fault.CUT,
        **dict.fromkeys((open_ones[8], open_ones[12]), Fault.DAMAGED),  # a PNG and a progressive JPEG
        hosts.index(None): Fault.NO_URL,
    }


def _link(host: Host, picture_format: Format, random: Random) -> str:
    # real links have a wrong extension at times, or none
    extension = random.choices((f".{picture_format.value}", ".jpg", ""), (90, 7, 3))[0]
    return f"http://{host.name}/upload/{random.getrandbits(96):024x}{extension}"


def create_table(file: Path, cases: Sequence[Case]) -> None:
    """Create the SQLite database with these cases in the table ad_cases; the file must not exist."""
    rows = []
    for case in cases:
        page = f"http://www.{case.host.site if case.host else 'permissive.example'}/case/{case.case_id}"
        title, brand = f"{case.title.chinese} {case.title.english}", f"{case.brand.chinese} {case.brand.english}"
        rows.append((case.case_id, page, title, brand, case.link))
    file.touch(0o600)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(
            "CREATE TABLE ad_cases (id INTEGER PRIMARY KEY, case_id INTEGER UNIQUE NOT NULL, source_url TEXT NOT NULL,"
            " title TEXT NOT NULL, brand_name TEXT, main_image TEXT, main_image_local TEXT)"
        )
        database.executemany(
            "INSERT INTO ad_cases (case_id, source_url, title, brand_name, main_image) VALUES (?, ?, ?, ?, ?)", rows
        )


def local_urls(file: Path) -> dict[int, str | None]:
    """Return the local URL of every case that has a link."""
    with closing(sqlite3.connect(file)) as database:
        return dict(database.execute("SELECT case_id, main_image_local FROM ad_cases WHERE main_image IS NOT NULL"))
