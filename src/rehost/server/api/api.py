"""The API's questions: what programs, and the page, are told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rehost.errors import CatalogueError
from rehost.ledger.standings import Change, HostReport, LinkFilter, LinkReport, RunReport, SourceReport, Twin, Visit
from rehost.model import Reason, State
from rehost.server.api import origins
from rehost.server.api.asking import POSITION, Choice, Whole, Words
from rehost.server.api.operation import NothingThereError, Operation
from rehost.server.lazy import Lazy, Resources

logger = logging.getLogger(__name__)

MOST_ENTRY = 2**63 - 1

SOURCE = Words("source", "Name of a source; without it the first one, or all of them where links are listed.", 100)
KEY = Words("key", "Key of the row.")
STATE = Choice("state", "Only links in this state.", State)
REASON = Choice("reason", "Only links whose last visit ended so.", Reason)
HOST = Words("host", "Only links of this host.", 255)
ORIGIN = Words("origin", "Only links of this origin: scheme://host, and :port where it is not the scheme's own.", 300)
TEXT = Words("text", "Part of a key, a link or a title, upper or lower case.", 200)
AFTER = Whole("after", "Where the page begins: `next` of the page before.", 0, MOST_ENTRY, 0)
LIMIT = Whole("limit", "How many at most.", 1, 1000, 50)
BEFORE = Whole("before", "Only runs with a smaller number than this.", 1, MOST_ENTRY, MOST_ENTRY)


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the copies lie, in bytes."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What the copies take, and what is to come; bytes."""

    copies: int
    held_size: int
    total_size: int  # of the file system
    free_size: int
    expected_size: int  # of what is not held yet, were it all like what is
    daily_size: int  # what came a day, over the last week
    days_left: float | None  # until the disk is full at that pace; None while nothing comes


@dataclass(frozen=True, slots=True)
class TitledLink:
    """A link with its row's title."""

    title: str | None
    link: LinkReport


@dataclass(frozen=True, slots=True)
class Links:
    """A page of links."""

    links: Sequence[TitledLink]
    next: int | None  # to be given as `after`; null at the end


@dataclass(frozen=True, slots=True)
class LinkDetail:
    """One link with its history; of visits and of what was written into its row, the latest first."""

    title: str | None
    link: LinkReport
    visits: Sequence[Visit]  # the last 50 of them; those in a row that ended alike are one
    history: Sequence[Change]
    alike: Sequence[Twin]  # other links that hold the very same bytes, some of them


@dataclass(frozen=True, slots=True)
class Health:
    """That all is well."""

    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Api:
    """Answers questions."""

    office: Lazy[Resources]
    disk: Callable[[int], Disk]  # of the store, which should hold so many copies at least
    sources: tuple[str, ...]  # those that the settings name

    def operations(self) -> tuple[Operation, ...]:
        """Return all questions."""
        listed = (SOURCE, STATE, REASON, ORIGIN, HOST, TEXT, AFTER, LIMIT)
        return (
            Operation("GET", "/health", "The server lives.", self.health, Health),
            Operation("GET", "/ready", "The database and the store can be used.", self.ready, Health),
            Operation("GET", "/api/sources", "All sources.", self.all_sources, Sequence[str]),
            Operation("GET", "/api/standing", "Where a source stands.", self.standing, SourceReport, (SOURCE,)),
            Operation("GET", "/api/links", "Links, page by page.", self.links, Links, listed),
            Operation("GET", "/api/link", "One link with its history.", self.link, LinkDetail, (SOURCE, KEY, POSITION)),
            Operation("GET", "/api/hosts", "The hosts of a source.", self.hosts, Sequence[HostReport], (SOURCE, LIMIT)),
            Operation(
                "GET",
                "/api/origins",
                "Origins, what was learned of them included.",
                self.origins,
                origins.Origins,
                (SOURCE,),
            ),
            Operation(
                "GET", "/api/runs", "Runs, the latest first.", self.runs, Sequence[RunReport], (SOURCE, BEFORE, LIMIT)
            ),
            Operation("GET", "/api/usage", "What the copies take on the disk.", self.usage, Usage),
        )

    async def health(self, _query: Mapping[str, str]) -> Health:
        """Tell that we live."""
        return Health()

    async def ready(self, _query: Mapping[str, str]) -> Health:
        """Tell that the database and the store answer."""
        queries = (await self.office.get()).queries
        await queries.look()
        self.disk(len((await queries.links(LinkFilter(state=State.HELD), limit=1)).links))
        return Health()

    async def all_sources(self, _query: Mapping[str, str]) -> Sequence[str]:
        """Return those that the settings name, then those that the ledger remembers besides."""
        noted = await (await self.office.get()).queries.sources()
        return list(dict.fromkeys((*self.sources, *noted)))

    async def standing(self, query: Mapping[str, str]) -> SourceReport:
        """Return where one stands."""
        return await (await self.office.get()).queries.standing(self.source(query))

    async def links(self, query: Mapping[str, str]) -> Links:
        """Return a page of links."""
        wanted = LinkFilter(
            SOURCE.read(query), STATE.read(query), REASON.read(query), HOST.read(query), text=TEXT.read(query)
        )
        after, limit, origin = AFTER.read(query), LIMIT.read(query), ORIGIN.read(query)
        desk = await self.office.get()
        if origin is not None:
            sources = await self.all_sources({}) if wanted.source is None else [wanted.source]
            wanted = replace(
                wanted, roots=[each for name in sources for each in await origins.roots(desk.queries, name, origin)]
            )
        if wanted.text:
            wanted = replace(wanted, keys=await self._found(desk, wanted.text, wanted.source))
        page = await desk.queries.links(wanted, after, limit)
        titles = await _titles(desk, page.links)
        return Links([TitledLink(titles.get((each.source, each.row_key)), each) for each in page.links], page.next)

    async def link(self, query: Mapping[str, str]) -> LinkDetail:
        """Return one link."""
        source, key, position = self.source(query), KEY.need(query), POSITION.read(query)
        desk = await self.office.get()
        found = await desk.queries.link(source, key, position)
        if found is None:
            raise NothingThereError(f"The ledger has no link of the row {key} in {source}.")
        titles = await _titles(desk, [found])
        history = await desk.queries.history(source, key, position)
        visits, alike = await desk.queries.visits(found.entry), await desk.queries.alike(found)
        return LinkDetail(titles.get((source, key)), found, visits, history, alike)

    async def hosts(self, query: Mapping[str, str]) -> Sequence[HostReport]:
        """Return the hosts with most links."""
        source, limit = self.source(query), LIMIT.read(query)
        return await (await self.office.get()).queries.hosts(source, limit)

    async def origins(self, query: Mapping[str, str]) -> origins.Origins:
        """Return where the origins of a source stand, and what was learned of any."""
        source = self.source(query)
        return await origins.look((await self.office.get()).queries, source)

    async def runs(self, query: Mapping[str, str]) -> Sequence[RunReport]:
        """Return the last runs."""
        source, limit, before = SOURCE.read(query), LIMIT.read(query), BEFORE.read(query)
        return await (await self.office.get()).queries.runs(source, limit, before)

    async def usage(self, _query: Mapping[str, str]) -> Usage:
        """Return what the copies take, over all sources."""
        queries = (await self.office.get()).queries
        standings = [await queries.standing(source) for source in await self.all_sources({})]
        copies = sum(each.states[State.HELD] for each in standings)
        size = sum(each.size for each in standings)
        to_come = (State.WANTED, State.LEASED, State.DEFERRED)
        open_ = sum(each.states[state] for each in standings for state in to_come)
        daily = await queries.growth() // 7
        disk = self.disk(copies)
        return Usage(
            copies,
            size,
            disk.total,
            disk.free,
            expected_size=open_ * size // copies if copies else 0,
            daily_size=daily,
            days_left=disk.free / daily if daily else None,
        )

    def source(self, query: Mapping[str, str]) -> str:
        """Return the source that is asked about: the first one where none is named."""
        return SOURCE.read(query) or self.sources[0]

    async def _found(self, desk: Resources, text: str, source: str | None) -> Sequence[str]:
        """Return the keys of rows with such a title; none where the table cannot be read."""
        chosen = self.sources if source is None else (source,)
        try:
            return [key for name in chosen if name in desk.titles for key in await desk.titles[name].matching(text)]
        except CatalogueError as error:
            logger.warning("titles not searched error=%r", str(error))
            return []


async def _titles(desk: Resources, links: Sequence[LinkReport]) -> Mapping[tuple[str, str], str]:
    """Return titles by source and key; none where the table cannot be read."""
    found: dict[tuple[str, str], str] = {}
    for source in {link.source for link in links} & set(desk.titles):
        keys = [link.row_key for link in links if link.source == source]
        try:
            titles = await desk.titles[source].of(keys)
        except CatalogueError as error:
            logger.warning("titles not read source=%s error=%r", source, str(error))
            continue
        found |= {(source, key): title for key, title in titles.items()}
    return found
