"""Takedowns: every copy of a picture is removed for good, and nothing brings it back until that is allowed again.

The order, and what a kill after each step leaves behind; `finish` goes on from there:

1. the takedown and what it names are recorded    no run fetches or adopts it any more
2. what is found by that is recorded as well      as 1, by URL and by bytes; the receipt names it
3. the store gets its markers, durably            servers answer 410 or 451 once the files are gone
4. rows are cleared, links refused, in one commit copies of no row, which the ledger still has: found again by digest
5. files are removed                              the same without files
6. the ledger forgets the copies                  strays and the trash are left, which are searched again
7. the trash, the quarantine and strays           all done but for the mark that says so

The last step looks at the place from which copies were moved as well, or to which they are being moved.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from rehost.catalogue.table import Clearing
from rehost.db import Connection
from rehost.errors import CatalogueError, SettingsError
from rehost.http.errors import InvalidUrl
from rehost.http.url import has_no_scheme, host_of, normalise, origin_of, with_scheme_of
from rehost.ledger.takedowns import MOST_LISTED, KnownLink, Takedown
from rehost.model import Copy, Link, Mark, RowRefusal, Tombstone
from rehost.run.limits import tombstones_of
from rehost.run.run import Components
from rehost.run.visitor import digest_of
from rehost.store.base import FileIds, Gone, Store
from rehost.store.layout import is_key
from rehost.upkeep.hooks import Hook
from rehost.upkeep.journal import Journal

VERB = "forget"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


@dataclass(slots=True)
class Survey:
    """What a takedown would remove; the lists name MOST_LISTED at most."""

    links: int = 0  # without a copy
    copies: int = 0
    size: int = 0  # bytes
    rows: list[Mapping[str, str]] = field(default_factory=list)  # source, key
    files: list[Mapping[str, object]] = field(default_factory=list)  # key, digest, size


class Takedowns:
    """Takes pictures down, over all sources."""

    def __init__(
        self,
        sources: Sequence[Components],
        os_user: str,
        others: Collection[str] = (),
        tell: Callable[[int], None] = lambda _files: None,
        elsewhere: Callable[[], AbstractAsyncContextManager[Store | None]] = nullcontext,
        hook: Hook | None = None,
    ) -> None:
        """Take the parts of each source, at least one, who asks for it, and which sources are left for another time.

        `tell` is called now and then with the number of copies that were removed so far. `elsewhere` opens the store
        from which copies were moved, or to which they are being moved. `hook` is called when all is removed.
        """
        self._hook = hook or Hook()
        self._others = others
        self._elsewhere = elsewhere
        self._tell = tell
        self._sources = {each.planner.catalogue.name: each for each in sources}
        self._ledger = sources[0].ledger
        self._records = self._ledger.takedowns
        self._store = sources[0].store
        self._planner = sources[0].planner
        self._os_user = os_user

    async def survey(self, named: Collection[Tombstone]) -> Survey:
        """Return what `take_down` would remove, and change nothing.

        Raises:
            OperatorError: the database cannot be used.
        """
        survey = Survey()
        digests = {value for kind, value in named if kind is Mark.DIGEST}
        async for group in self._records.of_hosts(_hosts(named)):
            digests |= {each.copy.digest for each in group if each.copy and _is_copy_of(each, named)}
            survey.links += sum(each.copy is None and _is_named(each, named) for each in group)
        async for group in self._records.with_digests(digests):
            for each in group:
                assert each.copy is not None
                survey.copies += 1
                survey.size += each.copy.size
                if survey.copies <= MOST_LISTED:
                    survey.rows.append({"source": each.link.source, "key": each.link.row_key})
                    survey.files.append({"key": each.copy.key, "digest": each.copy.digest, "size": each.copy.size})
        return survey

    async def take_down(self, what: str, named: Collection[Tombstone], *, legal: bool = False) -> Takedown:
        """Remove all copies of what is named, and refuse it from now on; return the takedown with its receipt.

        What was taken down already is looked for again: the same takedown goes on, for legal reasons or no longer so.

        Raises:
            OperatorError: the database or the store cannot be used. `finish` completes the takedown.
        """
        known = await self._records.covering(named)
        same = [each for each in known if set(named) <= await self._records.named(each.takedown)]
        begun = same[-1] if same else await self._records.begin(what, named, self._os_user, legal=legal)
        if begun.legal != legal:
            begun = await self._records.set_legal(begun.takedown, legal=legal)
            async for keys in self._records.values(begun.takedown, Mark.KEY):
                await self._store.mark_gone([_gone(begun, key) for key in keys])
        return await self._complete(begun)

    async def finish(self) -> Sequence[Takedown]:
        """Complete the takedowns that were interrupted, and remove what came back; return them.

        Raises:
            OperatorError: the database or the store cannot be used.
        """
        return [await self._complete(each) for each in await self._records.unfinished()]

    async def covering(self, named: Collection[Tombstone]) -> tuple[Sequence[Takedown], Sequence[Takedown]]:
        """Return the takedowns that named some of this, and those that took it down together with what they named."""
        found = await self._records.covering(named)
        own = [each for each in found if not (await self._records.named(each.takedown)).isdisjoint(named)]
        return own, [each for each in found if each not in own]

    async def allow(self, takedowns: Sequence[Takedown]) -> int:
        """Take takedowns back: the next run fetches what they removed; return how many links are due.

        Raises:
            OperatorError: the database or the store cannot be used; call it again then.
        """
        due = 0
        for each in takedowns:
            async for keys in self._records.values(each.takedown, Mark.KEY):
                await self._store.unmark_gone(keys, each.takedown)
            due += await self._records.allow(each.takedown)
        return due

    async def _complete(self, begun: Takedown) -> Takedown:
        number, receipt, last = begun.takedown, begun.receipt, 0
        known = {(each["key"], each["digest"]) for each in receipt.removed}
        work = _Work(begun, Journal(self._ledger.runs, VERB), known, {each["size"] for each in receipt.removed})
        await self._planner.recover()  # of what a killed process had set aside, nothing comes back later
        receipt.links += await self._refuse_named(work, await self._records.named(number))
        await self._clear_left(work)
        await self._mark_named(work)
        while found := await self._records.copies(number, last):
            last = found[-1].entry
            group = [each for each in found if each.link.source not in self._others]
            work.is_all = work.is_all and len(group) == len(found)
            await self._remove(work, group)
            self._tell(receipt.files)
        await self._remove_strays(work)
        await self._delete_remains(work, self._store)
        async with self._elsewhere() as elsewhere:
            if elsewhere is not None:
                await self._remove_elsewhere(work, elsewhere)
                await self._delete_remains(work, elsewhere)
        await self._ledger.check_store()
        await work.journal.end({})
        receipt.rows, receipt.cleared = await self._records.cleared(receipt.runs)
        receipt.hook = await self._call_hook(begun)
        is_over = work.is_all and not receipt.left and not receipt.hook
        await (self._records.end if is_over else self._records.save)(number, receipt)
        return await self._records.of(number)

    async def _call_hook(self, begun: Takedown) -> str:
        """Name the copies to the hook, in groups; return why it failed. Each takedown does so at least once."""
        event = {"event": "after_forget", "takedown": begun.takedown, "what": begun.what, "status": begun.status}
        async for keys in self._records.values(begun.takedown, Mark.KEY):
            urls = [self._planner.layout.url(key) for key in keys]
            if problem := await self._hook.call({**event, "keys": keys, "urls": urls}):
                return problem
        return ""

    async def _mark_named(self, work: _Work) -> None:
        """Mark the keys that were named."""
        named = await self._records.named(work.begun.takedown)
        keys = [value for kind, value in named if kind is Mark.KEY]
        await self._store.mark_gone([_gone(work.begun, key) for key in keys])
        files = [await read_copy(self._store, key) for key in keys]
        work.sizes |= {size for digest, size in filter(None, files) if (Mark.DIGEST, digest) in named}

    async def _refuse_named(self, work: _Work, named: Collection[Tombstone]) -> int:
        """Refuse links to what is named that have no copy of it, and record the digests of the copies; return how many.

        Links with a copy are refused together with its removal.
        """
        refused, number = 0, work.begun.takedown
        async for group in self._records.of_hosts(_hosts(named)):
            copies = {each.entry: each.copy for each in group if each.copy is not None and _is_copy_of(each, named)}
            await self._records.add(number, {(Mark.DIGEST, copy.digest) for copy in copies.values()})
            work.former |= await self._records.former_digests([each.entry for each in group if _is_named(each, named)])
            others = [each.entry for each in group if each.entry not in copies and _is_named(each, named)]

            async def refuse(transaction: Connection, others: Sequence[int] = others) -> int:
                return await self._records.refuse(transaction, number, others)

            refused += await self._ledger.database.transact(refuse) if others else 0
        return refused

    async def _remove(self, work: _Work, group: Sequence[KnownLink]) -> None:
        """Remove a group of copies with all that leads to them."""
        number, copies = work.begun.takedown, [each.copy for each in group if each.copy is not None]
        found = {(Mark.KEY, copy.key) for copy in copies}
        found |= {mark for each in group for mark in tombstones_of(each.held_url or "", each.link.page_url)[:1]}
        by_source: dict[str, list[KnownLink]] = {}
        for each in group:
            by_source.setdefault(each.link.source, []).append(each)
        for source in by_source.keys() & self._sources.keys():
            await work.begin(source)
        is_listed = work.add_files((copy.key, copy.digest, copy.size) for copy in copies)
        await self._records.add(number, found, work.begun.receipt if is_listed else None)
        await self._store.mark_gone([_gone(work.begun, copy.key, copy.digest) for copy in copies])
        named = found | await self._records.named(number)
        work.former |= await self._records.former_digests([each.entry for each in group])
        for of_source in by_source.values():
            refused = [each.entry for each in of_source if _is_named(each, named)]
            await self._store.remove(await self._clear(work, of_source, refused))
        if work.begun.receipt.left:
            await self._records.save(number, work.begun.receipt)
        await self._records.forget(group)

    async def _clear(self, work: _Work, copies: Sequence[KnownLink], refused: Sequence[int]) -> FileIds:
        """Clear the rows of copies of one source, and take these from their links; return what the files are."""
        number, source = work.begun.takedown, copies[0].link.source
        parts = self._sources.get(source)

        async def change(transaction: Connection) -> tuple[FileIds, Mapping[Link, RowRefusal]]:
            locked = await self._records.lock(transaction, copies)
            left: Mapping[Link, RowRefusal] = {}
            if parts is not None:
                layout = parts.planner.layout
                clearings = [Clearing(each.link, layout.url_path(each.copy.key)) for each in locked if each.copy]
                cleared = await parts.planner.catalogue.clear(clearings, transaction)
                left = cleared.refused
                changes = [(link, before, None) for link, before in cleared.before.items()]
                await self._ledger.history.add_changes(transaction, work.run, changes)
            await self._records.detach(transaction, locked)
            await self._records.refuse(transaction, number, refused)
            return await self._store.file_ids({each.copy.key for each in locked if each.copy}), left

        file_ids, left = await self._ledger.database.transact(change)
        for each in copies:
            if parts is None or each.link in left:
                evidence = left[each.link].evidence if each.link in left else "the settings have no such source"
                work.begun.receipt.left.append(_left(each.link, each.copy, evidence))
        return file_ids

    async def _clear_left(self, work: _Work) -> None:
        """Clear the rows that could not be cleared before, where they still lead to what was removed."""
        receipt = work.begun.receipt
        left, receipt.left = receipt.left, []
        for row in left:
            parts = self._sources.get(row["source"])
            if parts is None:
                receipt.left.append(row)
            elif not await self._records.at_key(row["file"]):  # no other copy took its place
                await work.begin(row["source"])
                link = Link(row["source"], row["key"], 0, row["url"], None, None)
                cleared = await parts.planner.catalogue.clear(
                    [Clearing(link, parts.planner.layout.url_path(row["file"]))]
                )
                await self._journal(work, [(each, before, None) for each, before in cleared.before.items()])
                receipt.left += [row | {"evidence": each.evidence} for each in cleared.refused.values()]

    async def _journal(self, work: _Work, changes: Sequence[tuple[Link, str | None, None]]) -> None:
        await self._ledger.database.transact(
            lambda transaction: self._ledger.history.add_changes(transaction, work.run, changes)
        )

    async def _remove_strays(self, work: _Work) -> None:
        """Remove copies with the same bytes that the ledger does not know."""
        if not work.sizes:
            return
        async for keys in self._store.keys():
            known = await self._ledger.reconcile.held_digests(keys)
            strays = [key for key in keys if key not in known]
            file_ids = await self._store.file_ids(strays)
            found = await self._of_takedowns(await self._store.read_copies(strays, work.sizes))
            await self._remove_found(work, self._store, found, file_ids)

    async def _remove_elsewhere(self, work: _Work, store: Store) -> None:
        """Remove all copies with the same bytes from a store that is not the one in use."""
        async for states in store.files():
            keys = [key for key, state in states.items() if state.size in work.sizes]
            file_ids = await store.file_ids(keys)
            found = await self._of_takedowns(await store.read_copies(keys, work.sizes))
            await self._remove_found(work, store, found, file_ids)

    async def _remove_found(self, work: _Work, store: Store, found: Sequence[Copy], file_ids: FileIds) -> None:
        if found:
            work.add_files((each.key, each.digest, each.size) for each in found)
            marks = {(Mark.KEY, each.key) for each in found}
            await self._records.add(work.begun.takedown, marks, work.begun.receipt)
            await store.mark_gone([_gone(work.begun, each.key, each.digest) for each in found])
            await store.remove({each.key: file_ids[each.key] for each in found if each.key in file_ids})
            # In a bucket what stays is at the place of a link that a worker is visiting; `finish` removes it.
            work.is_all = work.is_all and not await store.file_ids([each.key for each in found])

    async def _delete_remains(self, work: _Work, store: Store) -> None:
        """Delete what the trash and the quarantine have of it, and of what the links had before."""
        receipt = work.begun.receipt
        async for trashed in store.trashed():
            gone = await self._ledger.results.taken_down({(Mark.DIGEST, each.digest) for each in trashed})
            deleted = [each for each in trashed if (Mark.DIGEST, each.digest) in gone or each.digest in work.former]
            await store.delete_trashed(deleted)
            receipt.trash += [{"digest": each.digest, "size": each.size} for each in deleted]
        async for quarantined in store.in_quarantine():
            found = await self._of_takedowns(quarantined)
            await store.delete_quarantined(found)
            receipt.quarantine += [{"key": each.key, "digest": each.digest, "size": each.size} for each in found]

    async def _of_takedowns(self, files: Sequence[Copy]) -> Sequence[Copy]:
        """Return those of these files whose bytes were taken down."""
        gone = await self._ledger.results.taken_down({(Mark.DIGEST, each.digest) for each in files})
        return [each for each in files if (Mark.DIGEST, each.digest) in gone]


@dataclass(slots=True)
class _Work:
    """A takedown that is being completed."""

    begun: Takedown
    journal: Journal
    known: set[tuple[str, str]]  # key and digest of the files that the receipt had before
    sizes: set[int]  # of the copies, in bytes
    former: set[str] = field(default_factory=set)  # digests of what the links had before: in the trash, if anywhere
    is_all: bool = True  # all that was found is removed

    @property
    def run(self) -> int:
        """Return the run under which rows are cleared, which has begun."""
        assert self.journal.run is not None
        return self.journal.run

    async def begin(self, source: str) -> None:
        """Have the run begin, if need be, and be in the receipt."""
        run = await self.journal.begin(source)
        if run not in self.begun.receipt.runs:
            self.begun.receipt.runs.append(run)

    def add_files(self, files: Iterable[tuple[str, str, int]]) -> bool:
        """Add files to the receipt; return whether that has names of new ones."""
        before = len(self.begun.receipt.removed)
        for key, digest, size in files:
            self.sizes.add(size)
            if (key, digest) not in self.known:
                self.begun.receipt.add_file(key, digest, size)
        return len(self.begun.receipt.removed) > before


async def read_copy(store: Store, key: str) -> tuple[str, int] | None:
    """Return the SHA-256 and the size in bytes of a copy; None if there is none."""
    try:
        async with store.as_file(key) as path:
            return await asyncio.to_thread(digest_of, path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _hosts(named: Collection[Tombstone]) -> set[str]:
    return {host_of(value) for kind, value in named if kind in {Mark.URL, Mark.ORIGIN}}


def _is_named(each: KnownLink, named: Collection[Tombstone]) -> bool:
    """Return whether a link's URL is among what is named."""
    return not set(named).isdisjoint(tombstones_of(each.link.url, each.link.page_url))


def _is_copy_of(each: KnownLink, named: Collection[Tombstone]) -> bool:
    """Return whether a link's copy came from what is named."""
    marks = {*tombstones_of(each.held_url or each.link.url, each.link.page_url), *tombstones_of(each.final_url or "")}
    return not marks.isdisjoint(named)


def _gone(begun: Takedown, key: str, digest: str = "-") -> Gone:
    """Return the marker of a key; without a digest, it only says what is served where there is no file."""
    return Gone(key, digest, begun.status, begun.takedown)


def _left(link: Link, copy: Copy | None, evidence: str) -> dict[str, str]:
    return {
        "source": link.source,
        "key": link.row_key,
        "url": link.url,
        "file": copy.key if copy else "",
        "evidence": evidence,
    }


class Targets:
    """Finds what an operator names: a URL, an origin, the key of a row or of a copy, or a digest."""

    def __init__(self, sources: Sequence[Components]) -> None:
        """Take the parts of each source, at least one."""
        self._sources = {each.planner.catalogue.name: each for each in sources}
        self._records = sources[0].ledger.takedowns
        self._store = sources[0].store

    async def find(self, text: str) -> set[Tombstone]:
        """Return what a text names. A URL, an origin or a digest need not be known yet.

        Raises:
            SettingsError: it names nothing, or several things.
            OperatorError: the database cannot be used.
        """
        if "://" in text or has_no_scheme(text):
            return await self._of_copy(text) or await self._of_own_url(text) or _of_url(text)
        found = await self._of_rows(text)
        if of_copy := await self._of_copy(text):
            found[text if is_key(text) else text.partition("?")[0]] = of_copy
        if _DIGEST.fullmatch(text):
            found[f"digest {text}"] = {(Mark.DIGEST, text.lower())}
        if len(found) == 1:
            return next(iter(found.values()))
        if not found:
            raise SettingsError(
                "{what!r} is neither a URL, nor the key of a row or of a copy, nor a digest of 64 digits.", what=text
            )
        raise SettingsError(
            "{what!r} can mean several things: {found}. Name a row as SOURCE:KEY, or a picture by its URL.",
            what=text,
            found=", ".join(found),
        )

    async def _of_own_url(self, text: str) -> set[Tombstone]:
        """Return the copy that a URL of the operator's site leads to, unless it is that of a link as well."""
        found = await self._of_copy("/" + text.partition("//")[2].partition("/")[2])
        named = _of_url(text) if found else set()
        async for group in self._records.of_hosts(_hosts(named)):
            if any(_is_named(each, named) or _is_copy_of(each, named) for each in group):
                return set()
        return found

    async def _of_rows(self, text: str) -> dict[str, set[Tombstone]]:
        """Return what rows with this key hold, by source and key."""
        named = [(source, text) for source in self._sources]
        source, colon, row_key = text.partition(":")
        if colon and source in self._sources:
            named.append((source, row_key))
        found = {}
        for source, row_key in named:
            known = [*await self._records.of_row(source, row_key), *await self._in_table(source, row_key)]
            if known:
                found[f"{source}:{row_key}"] = _of_links(known)
        return found

    async def _in_table(self, source: str, row_key: str) -> Sequence[KnownLink]:
        """Return the links that the row holds now: no run may have taken it in yet."""
        rows = self._sources[source].planner.catalogue.row(row_key)
        return [
            KnownLink(0, Link(source, row.row_key, row.position, row.url, row.page_url, None), None, None, None)
            for row in await rows.database.fetch_all(rows.select, error=CatalogueError)
        ]

    async def _of_copy(self, text: str) -> set[Tombstone]:
        """Return what the copy is that has this key, or this local URL; nothing if there is none."""
        keys = [each.planner.layout.key_of_url(text) for each in self._sources.values()]
        for key in dict.fromkeys([*keys, text if is_key(text) else None]):
            if key is None:
                continue
            known = await self._records.at_key(key)
            file = None if known else await read_copy(self._store, key)
            if known or file is not None:
                return {(Mark.KEY, key), *_of_links(known), *({(Mark.DIGEST, file[0])} if file else ())}
            if await self._records.covering({(Mark.KEY, key)}):  # the copy was taken down
                return {(Mark.KEY, key)}
        return set()


def _of_links(known: Collection[KnownLink]) -> set[Tombstone]:
    """Return the URLs of links, and their copies."""
    urls = {mark for each in known for mark in tombstones_of(each.link.url, each.link.page_url)[:1]}
    urls |= {mark for each in known for mark in tombstones_of(each.held_url or "", each.link.page_url)[:1]}
    copies = [each.copy for each in known if each.copy is not None]
    return urls | {(Mark.DIGEST, copy.digest) for copy in copies} | {(Mark.KEY, copy.key) for copy in copies}


def _of_url(text: str) -> set[Tombstone]:
    """Return the URL, or the origin if it has no path."""
    try:
        url = normalise(with_scheme_of(text, None))
    except InvalidUrl as error:
        raise SettingsError("{url} is no URL that rehost can request: {problem}.", url=text, problem=error) from error
    origin = origin_of(url)
    return {(Mark.ORIGIN, origin) if url == f"{origin}/" else (Mark.URL, url)}
