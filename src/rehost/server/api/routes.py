"""The API's read operations, for the page and for programs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fastapi import HTTPException

from rehost.errors import CatalogueError
from rehost.ledger.reports import Change, HostReport, LinkFilter, LinkReport, RunReport, SourceReport, Twin, Visit
from rehost.model import State
from rehost.server.api.http import (
    MAX_RUN,
    After,
    Before,
    Host,
    LastReason,
    Limit,
    LinkState,
    Origin,
    Position,
    RequiredKey,
    Source,
    Text,
)
from rehost.server.api.origins import Origins, report_origins, roots_of
from rehost.server.resources import DiskSpace, Lazy, Resources

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the copies take on the disk, and what is still to come; in bytes."""

    copies: int
    held_size: int
    total_size: int  # of the file system
    free_size: int
    expected_size: int  # of links that are not held yet, if their pictures are as large as the held ones on average
    daily_size: int  # added per day, over the last week
    days_left: float | None  # until the disk is full at that rate; None if nothing was added


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
    disk: Callable[[int], DiskSpace]  # of the store, which should hold at least so many copies
    sources: tuple[str, ...]  # those that the settings name

    async def health(self) -> Health:
        """The server is running."""
        return Health()

    async def ready(self) -> Health:
        """The database and the store can be used."""
        queries = (await self.resources.get()).queries
        await queries.check()
        self.disk(len((await queries.links(LinkFilter(state=State.HELD), limit=1)).links))
        return Health()

    async def all_sources(self) -> Sequence[str]:
        """All sources: those that the settings name, then others that the ledger knows."""
        known = await (await self.resources.get()).queries.sources()
        return list(dict.fromkeys((*self.sources, *known)))

    async def standing(self, source: Source = "") -> SourceReport:
        """Where a source stands: links by state and by reason."""
        return await (await self.resources.get()).queries.source_report(self.source(source))

    async def links(
        self,
        source: Source = "",
        state: LinkState = None,
        reason: LastReason = None,
        origin: Origin = "",
        host: Host = "",
        text: Text = "",
        after: After = 0,
        limit: Limit = 50,
    ) -> Links:
        """Links, page by page."""
        wanted = LinkFilter(source or None, state, reason, host or None, text=text or None)
        resources = await self.resources.get()
        if origin:
            sources = [source] if source else await self.all_sources()
            roots = [each for name in sources for each in await roots_of(resources.queries, name, origin)]
            wanted = replace(wanted, roots=roots)
        if text:
            wanted = replace(wanted, keys=await self._keys_by_title(resources, text, source))
        page = await resources.queries.links(wanted, after, limit)
        titles = await _titles(resources, page.links)
        return Links([TitledLink(titles.get((each.source, each.row_key)), each) for each in page.links], page.next)

    async def link(self, key: RequiredKey, source: Source = "", position: Position = 0) -> LinkDetail:
        """One link with its history."""
        chosen = self.source(source)
        resources = await self.resources.get()
        queries = resources.queries
        found = await queries.link(chosen, key, position)
        if found is None:
            raise HTTPException(404, f"The ledger has no link for row {key} of {chosen}.")
        titles = await _titles(resources, [found])
        history = await queries.history(chosen, key, position)
        visits, alike = await queries.visits(found.entry), await queries.same_bytes(found)
        return LinkDetail(titles.get((chosen, key)), found, visits, history, alike)

    async def hosts(self, source: Source = "", limit: Limit = 50) -> Sequence[HostReport]:
        """The hosts of a source, those with the most links first."""
        return await (await self.resources.get()).queries.hosts(self.source(source), limit)

    async def origins(self, source: Source = "") -> Origins:
        """The origins of a source, and what was learned about any origin."""
        return await report_origins((await self.resources.get()).queries, self.source(source))

    async def runs(self, source: Source = "", before: Before = MAX_RUN, limit: Limit = 50) -> Sequence[RunReport]:
        """Runs, the latest first."""
        return await (await self.resources.get()).queries.runs(source or None, limit, before)

    async def usage(self) -> Usage:
        """What the copies of all sources take on the disk."""
        queries = (await self.resources.get()).queries
        standings = [await queries.source_report(source) for source in await self.all_sources()]
        copies = sum(each.states[State.HELD] for each in standings)
        size = sum(each.size for each in standings)
        not_held = (State.WANTED, State.LEASED, State.DEFERRED)
        to_come = sum(each.states[state] for each in standings for state in not_held)
        daily = await queries.growth() // 7
        disk = self.disk(copies)
        return Usage(
            copies,
            size,
            disk.total,
            disk.free,
            expected_size=to_come * size // copies if copies else 0,
            daily_size=daily,
            days_left=disk.free / daily if daily else None,
        )

    def source(self, name: str) -> str:
        """Return the source of that name, or the first one if the name is empty."""
        return name or self.sources[0]

    async def _keys_by_title(self, resources: Resources, text: str, source: str) -> Sequence[str]:
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
