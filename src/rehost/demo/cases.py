"""The cases of the demonstration, and what is planned to come of each link. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from random import Random

from rehost.demo.hosts import HOSTS, Host, Manner
from rehost.demo.words import BRANDS, CAMPAIGNS, CITIES, KINDS, Bilingual, Brand
from rehost.model import Format, Reason, State

SEED = 20200628
FIRST_CASE = 297_001
WITHOUT_PICTURE = 3  # cases whose cell is empty: nothing to do, and nothing said

_FORMATS = (
    (Format.JPEG, 58),
    (Format.PNG, 26),
    (Format.WEBP, 12),
    (Format.GIF, 4),
)
_SPOILT_TITLES = {
    7: Bilingual('<script>alert("a title is text")</script>', "标题只是文字 <b>&amp;</b>"),
    31: Bilingual("Fish & “Chips” <to go>", "鱼 & 薯条 <外带>"),
}


class Fault(StrEnum):
    """What is wrong with one link, whatever its host's manner."""

    DEAD = "dead"  # 404
    REMOVED = "removed"  # 410
    CUT = "cut"  # the file ends too early at the origin itself, with a Content-Length that matches
    NO_URL = "no-url"  # the cell holds words


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to come of a link; a picture is held byte for byte."""

    state: State
    reason: Reason | None = None


HELD = Plan(State.HELD)
_PLANS = {
    Fault.DEAD: Plan(State.REFUSED, Reason.GONE),
    Fault.REMOVED: Plan(State.REFUSED, Reason.GONE),
    Fault.CUT: Plan(State.DEFERRED, Reason.TRUNCATED),
    Fault.NO_URL: Plan(State.REFUSED, Reason.NOT_A_URL),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One row: an advertising case that nobody made."""

    case_id: int
    title: Bilingual
    brand: Brand
    city: Bilingual
    kind: Bilingual
    published: date
    score: int
    host: Host | None  # None: the cell is empty, or holds no URL
    format: Format
    fault: Fault | None = None
    link: str | None = None

    @property
    def page(self) -> str:
        """Return the page that shows the case."""
        site = self.host.site if self.host else "permissive.example"
        return f"http://www.{site}/case/{self.case_id}"

    @property
    def path(self) -> str:
        """Return the path of the picture at its host."""
        assert self.link is not None
        return "/" + self.link.split("/", 3)[3]

    @property
    def plan(self) -> Plan | None:
        """Return what is to come of the link; None where there is none."""
        if self.link is None:
            return None
        if self.fault is not None:
            return _PLANS[self.fault]
        lapsed = self.host is not None and self.host.manner is Manner.LAPSED
        return Plan(State.REFUSED, Reason.DECOY) if lapsed else HELD


def cases() -> tuple[Case, ...]:
    """Return all cases, in the order of their ids; the same ones every time."""
    random = Random(SEED)
    hosts: list[Host | None] = [host for host in HOSTS for _ in range(host.cases)]
    hosts += [None] * (WITHOUT_PICTURE + 1)  # one more: the cell that holds words
    random.shuffle(hosts)
    faults = _faults(hosts)
    return tuple(_case(index, host, faults.get(index), random) for index, host in enumerate(hosts))


def _faults(hosts: list[Host | None]) -> dict[int, Fault]:
    """Return which links are at fault: some of those that are treated well otherwise."""
    well = [index for index, host in enumerate(hosts) if host is not None and host.manner is Manner.OPEN]
    own = [index for index, host in enumerate(hosts) if host is not None and host.manner is Manner.OWN_SITE]
    no_url = next(index for index, host in enumerate(hosts) if host is None)
    return {
        well[4]: Fault.DEAD,
        well[11]: Fault.DEAD,
        well[19]: Fault.REMOVED,
        well[26]: Fault.CUT,
        own[9]: Fault.DEAD,
        own[21]: Fault.DEAD,
        own[33]: Fault.REMOVED,
        no_url: Fault.NO_URL,
    }


def _case(index: int, host: Host | None, fault: Fault | None, random: Random) -> Case:
    case_id = FIRST_CASE + index
    brand = BRANDS[index % len(BRANDS)]
    campaign = CAMPAIGNS[(index * 7 + index // len(BRANDS) * 3) % len(CAMPAIGNS)]
    picture_format = random.choices([each for each, _ in _FORMATS], [weight for _, weight in _FORMATS])[0]
    published = date(2020, 1, 6) + timedelta(days=index * 11)
    return Case(
        case_id=case_id,
        title=_SPOILT_TITLES.get(index, campaign),
        brand=brand,
        city=random.choice(CITIES),
        kind=random.choice(KINDS),
        published=published,
        score=random.randint(60, 99),
        host=host,
        format=picture_format,
        fault=fault,
        link=_link(host, fault, published, picture_format, random),
    )


def _link(host: Host | None, fault: Fault | None, published: date, form: Format, random: Random) -> str | None:
    if host is None:
        return "暂无图片" if fault is Fault.NO_URL else None
    ending = random.choices([form.value, "jpg", ""], [90, 7, 3])[0]  # as in the wild: some endings lie, some lack
    name = f"{random.getrandbits(96):024x}" + (f".{ending}" if ending else "")
    return f"http://{host.name}/upload/{published:%Y%m%d}/{name}"
