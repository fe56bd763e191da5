"""The API's read operations, for the page and for programs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rehost.errors import CatalogueError, StoreError
from rehost.http.url import host_of, read_origin
from rehost.ledger.filters import HostOrder, LinkFilter, LinkOrder
from rehost.ledger.reports import Change, HostReport, LinkReport, RunReport, SourceReport, Twin, Visit
from rehost.model import State
from rehost.server.api.http import (
    MAX_RUN,
    After,
    Before,
    Host,
    HostSort,
    HostText,
    LastReason,
    Limit,
    LinkSort,
    LinkState,
    Listing,
    Origin,
    Position,
    RequiredRowKey,
    Rescued,
    Source,
    Text,
)
from rehost.server.api.origins import Origins, report_origins, roots_of
from rehost.server.api.problems import Problem, ProblemError
from rehost.server.resources import DiskSpace, Lazy, Resources

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the copies take on the disk, and what is still to come; in bytes."""

    copies: int
    held_size: int
    total_size: int | None  # of the file system; null for a bucket, which has no limit that we could know
    free_size: int | None
    expected_size: int  # of links that are not held yet, if their pictures are as large as the held ones on average
    daily_size: int  # added per day, over the last week
    days_left: float | None  # until the disk is full at that rate; None if nothing was added, or it is a bucket


@dataclass(frozen=True, slots=True)
class TitledLink:
    """A link with its row's title."""

    title: str | None
    link: LinkReport


@dataclass(frozen=True, slots=True)
class Links:
    """A page of links."""

    links: Sequence[TitledLink]
    next: int | None  # pass it as `after` to get the next page; null on the last one
    total: int | None  # on all pages together; null where `after` is given, as counting takes time


@dataclass(frozen=True, slots=True)
class LinkDetail:
    """One link with its visits and the changes of its row, the latest first."""

    title: str | None
    link: LinkReport
    visits: Sequence[Visit]  # the last 50; consecutive ones with the same end count as one
    history: Sequence[Change]
    alike: Sequence[Twin]  # some of the other links that hold the very same bytes


@dataclass(frozen=True, slots=True)
class Health:
    """All is well."""

    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Api:
    """The operations that change nothing."""

    resources: Lazy[Resources]
    disk: Callable[..., Awaitable[DiskSpace | None]]  # disk_space or bucket_space in resources.py
    sources: tuple[str, ...]  # those that the settings name

    async def health(self) -> Health:
        """The server is running."""
        return Health()

    async def ready(self) -> Health:
        """The database and the store can be used."""
        resources = await self.resources.get()
        await resources.queries.check()
        held = await resources.queries.links(LinkFilter(state=State.HELD), limit=1)
        try:
            await self.disk(len(held.links), await resources.ledger.stores.known())
        except StoreError as error:
            logger.warning("store not ready error=%r", str(error))
            raise ProblemError(Problem.NO_STORE) from error
        return Health()

    async def all_sources(self) -> Sequence[str]:
        """The sources that the settings name; `rehost status` names others that are in the ledger."""
        return self.sources

    async def standing(self, source: Source = None) -> SourceReport:
        """Where a source stands: links by state and by reason."""
        return await (await self.resources.get()).queries.source_report(await self.source(source))

    async def links(  # noqa: PLR0913, PLR0917 - one for each parameter of the request
        self,
        source: Source = None,
        state: LinkState = None,
        reason: LastReason = None,
        origin: Origin = None,
        host: Host = None,
        text: Text = None,
        order: LinkSort = LinkOrder.ENTRY,
        after: After = 0,
        limit: Limit = 50,
        *,
        rescued: Rescued = False,
    ) -> Links:
        """Links, page by page; if not sorted by entry, links that change meanwhile may come twice or not at all."""
        chosen = await self.source(source) if source else None
        wanted = LinkFilter(chosen, state, reason, host, text=text, is_rescued=rescued)
        resources = await self.resources.get()
        if origin:
            sources = [chosen] if chosen else await resources.queries.sources()
            roots = [each for name in sources for each in await roots_of(resources.queries, name, origin)]
            own_host = host_of(read_origin(origin)) if roots else None  # decides without a look into most URLs
            wanted = replace(wanted, roots=roots, host=host or own_host)
        if text:
            wanted = replace(wanted, keys=await self._keys_by_title(resources, text, chosen))
        page = await resources.queries.links(wanted, after, limit, order)
        total = None if after else await resources.queries.count(wanted)
        titles = await _titles(resources, page.links)
        found = [TitledLink(titles.get((each.source, each.row_key)), each) for each in page.links]
        return Links(found, page.next, total)

    async def link(self, row_key: RequiredRowKey, source: Source = None, position: Position = 0) -> LinkDetail:
        """One link with its history."""
        chosen = await self.source(source)
        resources = await self.resources.get()
        queries = resources.queries
        found = await queries.link(chosen, row_key, position)
        if found is None:
            raise ProblemError(Problem.UNKNOWN_LINK, row_key=row_key, source=chosen)
        titles = await _titles(resources, [found])
        history = await queries.history(chosen, row_key, position)
        visits, alike = await queries.visits(found.entry), await queries.same_bytes(found)
        return LinkDetail(titles.get((chosen, row_key)), found, visits, history, alike)

    async def hosts(
        self,
        source: Source = None,
        text: HostText = None,
        order: HostSort = HostOrder.PRESENT,
        after: After = 0,
        limit: Limit = 50,
    ) -> Listing[HostReport]:
        """The hosts of a source. The next page is after as many as were answered; X-Total-Count says how many exist."""
        queries, chosen = (await self.resources.get()).queries, await self.source(source)
        found = await queries.hosts(chosen, limit, after=after, order=order, text=text)
        return Listing(found, await queries.count_hosts(chosen, text))

    async def origins(
        self,
        source: Source = None,
        text: HostText = None,
        order: HostSort = HostOrder.PRESENT,
        after: After = 0,
        limit: Limit = 1000,
    ) -> Origins:
        """The origins of a source by pages of hosts, and what was learned about any origin."""
        queries, chosen = (await self.resources.get()).queries, await self.source(source)
        hosts = await queries.hosts(chosen, limit, after=after, order=order, text=text)
        return await report_origins(queries, chosen, hosts, await queries.count_hosts(chosen, text), after)

    async def runs(self, source: Source = None, before: Before = MAX_RUN, limit: Limit = 50) -> Listing[RunReport]:
        """Runs, the latest first."""
        queries = (await self.resources.get()).queries
        chosen = await self.source(source) if source else None
        return Listing(await queries.runs(chosen, limit, before), await queries.count_runs(chosen))

    async def usage(self) -> Usage:
        """What the copies of all sources take on the disk."""
        queries = (await self.resources.get()).queries
        standings = [await queries.source_report(source) for source in await queries.sources()]
        copies = sum(each.states[State.HELD] for each in standings)
        size = sum(each.size for each in standings)
        not_held = (State.WANTED, State.LEASED, State.DEFERRED)
        to_come = sum(each.states[state] for each in standings for state in not_held)
        daily = await queries.growth() // 7
        disk = await self.disk(copies)
        return Usage(
            copies,
            size,
            disk.total if disk else None,
            disk.free if disk else None,
            expected_size=to_come * size // copies if copies else 0,
            daily_size=daily,
            days_left=disk.free / daily if disk and daily else None,
        )

    async def source(self, name: str | None) -> str:
        """Return the source of that name, or the first one if there is no name.

        Raises:
            ProblemError: neither the settings nor the ledger know this source.
        """
        chosen = name or self.sources[0]
        if chosen not in self.sources and not await (await self.resources.get()).queries.knows(chosen):
            raise ProblemError(Problem.UNKNOWN_SOURCE, source=chosen)
        return chosen

    async def _keys_by_title(self, resources: Resources, text: str, source: str | None) -> Sequence[str]:
        """Return the keys of rows whose title contains the text; none if the table cannot be read."""
        titles = resources.titles
        try:
            chosen = (source,) if source else self.sources
            return [key for name in chosen if name in titles for key in await titles[name].matching(text)]
        except CatalogueError as error:
            logger.warning("titles not searched error=%r", str(error))
            return []


async def _titles(resources: Resources, links: Sequence[LinkReport]) -> Mapping[tuple[str, str], str]:
    """Return titles by source and key; none if the table cannot be read."""
    found: dict[tuple[str, str], str] = {}
    for source in {link.source for link in links} & set(resources.titles):
        keys = [link.row_key for link in links if link.source == source]
        try:
            titles = await resources.titles[source].of(keys)
        except CatalogueError as error:
            logger.warning("titles not read source=%s error=%r", source, str(error))
            continue
        found |= {(source, key): title for key, title in titles.items()}
    return found
