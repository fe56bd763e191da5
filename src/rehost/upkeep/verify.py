"""Verifies what is held: every copy's file, the row that points at it, and what lies in the store beside the copies.

A pass goes through the held copies in the order of their entries, in groups, and remembers how far it came: the next
call goes on there. At its end it compares rows and files with the ledger once more, the other way round. What is wrong
becomes a finding in the ledger, and with `repairs` it is mended at once (repair.py).

A worker may replace a copy while it is read. So a copy counts as faulty only if the ledger still holds the same one
after its file was read: files change before the ledger does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from rehost.clock import Clock
from rehost.events import RunEnded
from rehost.ledger.copies import Copies, KnownCopy, Pass, Place, RowOfNoCopy, Selection
from rehost.ledger.findings import FILE_FAULTS, Fault, Finding, Findings, Mend
from rehost.run.planner import FEW_LOST
from rehost.upkeep.inspection import Inspector, Pace, Seen
from rehost.upkeep.journal import Journal
from rehost.upkeep.repair import Repair, is_ours
from rehost.upkeep.served import ServedCopies

BATCH = 64  # files that are read at a time
MOST_EXAMPLES = 1000
"""Findings of one call that its report lists; the ledger has all."""

_ROW_FAULTS = frozenset({Fault.OTHER_URL, Fault.CLEARED_ROW})
_LOSSES = frozenset({Fault.MISSING, Fault.UNREADABLE, Fault.NOT_A_FILE})


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to verify, for how long, and how."""

    sources: Sequence[str] = ()  # none: all
    repairs: bool = False
    is_quick: bool = False  # size and time of modification only
    sample: float | None = None  # the share of the copies whose bytes are read, chosen at random
    seconds: float | None = None  # how long it may take
    older_seconds: float | None = None
    bytes_per_second: float | None = None
    row_key: str | None = None
    most: int | None = None  # copies


@dataclass(slots=True)
class VerifyReport:
    """What a call has done, and found."""

    total: int = 0  # held copies that were to be verified
    copies: int = 0  # verified in this call
    size: int = 0  # bytes read
    is_complete: bool = False  # the pass came to its end
    interrupted: bool = False
    other_files: int = 0  # in the store, at no place of a copy; left alone
    found: dict[Fault, int] = field(default_factory=dict)
    mended: dict[Mend, int] = field(default_factory=dict)
    left: dict[Fault, int] = field(default_factory=dict)  # found, and not mended
    findings: list[Finding] = field(default_factory=list)  # the first of them
    exposed: str = ""  # the URL at which anybody can read what lies in the store beside the copies
    run: int | None = None  # under which rows and files were changed
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        """Return whether nothing is wrong any more."""
        return not self.left and not self.exposed

    @property
    def faults(self) -> int:
        """Return how many there were, of all kinds."""
        return sum(self.found.values())

    def add(self, finding: Finding) -> None:
        """Count a finding, mended or not."""
        self.found[finding.kind] = self.found.get(finding.kind, 0) + 1
        if finding.mended_by is None:
            self.left[finding.kind] = self.left.get(finding.kind, 0) + 1
        else:
            self.mended[finding.mended_by] = self.mended.get(finding.mended_by, 0) + 1
        if len(self.findings) < MOST_EXAMPLES:
            self.findings.append(finding)


@dataclass(frozen=True, slots=True)
class VerifiedSource:
    """The parts for one source."""

    inspector: Inspector
    repair: Repair

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self.repair.catalogue.name


class Verification:
    """One call over one or several sources."""

    def __init__(  # noqa: PLR0913 - one for each part
        self,
        sources: Sequence[VerifiedSource],
        options: VerifyOptions,
        clock: Clock,
        random: Random,
        *,
        stop: asyncio.Event,
        journal: Journal,
        served: ServedCopies | None = None,
        exposed: str = "",
        tell: Callable[[VerifyReport], None] = lambda _report: None,
    ) -> None:
        """Take the parts; `exposed` goes into the report, and `tell` is called with it after each batch."""
        ledger = sources[0].repair.parts.ledger
        self._sources = {each.name: each for each in sources}
        self._options = options
        self._clock = clock
        self._random = random
        self._stop = stop
        self._journal = journal
        self._served = served
        self._tell = tell
        self._copies = Copies(ledger.database)
        self._findings = Findings(ledger.database)
        self._pace = Pace(options.bytes_per_second, clock, stop)
        self._started = clock.monotonic()
        self._report = VerifyReport(exposed=exposed)
        self._cleared: set[str] = set()  # sources whose whole column was cleared: a run copies everything again
        self._lost = 0
        self._is_loss_accepted = False
        self._mended: dict[str, Counter[Mend]] = {name: Counter() for name in self._sources}
        self._again: set[int] = set()  # entries that were found faulty before, and were examined first
        self._has_open = False

    async def verify(self) -> VerifyReport:
        """Verify until the end of the pass or of the time, or a stop; return what was done and found.

        Raises:
            OperatorError: the database or the store cannot be used, or too much is lost at once to be repaired.
        """
        report, options = self._report, self._options
        try:
            await self._take_in()
            if options.repairs:
                await self._go_back()
            await self._walk()
            if report.is_complete:
                await self._compare_the_rest()
        finally:
            report.run = self._journal.run
            report.interrupted = self._stop.is_set()
            await self._journal.end({name: self._ended(name) for name in self._sources})
        report.seconds = self._clock.monotonic() - self._started
        return report

    def _ended(self, name: str) -> RunEnded:
        """Return how the run ended under which a source was repaired."""
        mended = self._mended[name]
        rows = mended[Mend.ROW] + mended[Mend.CLEARED]
        held = mended.total() - rows - mended[Mend.OTHERWISE]
        seconds, is_cut = self._clock.monotonic() - self._started, self._report.interrupted
        return RunEnded(name, held, unchanged=0, adopted=0, mended=rows, seconds=seconds, interrupted=is_cut)

    async def _take_in(self) -> None:
        """Bring the ledger's links up to date with the rows."""
        row_key = self._options.row_key
        for name, source in self._sources.items():
            parts, catalogue = source.repair.parts, source.repair.catalogue
            if row_key is not None:
                await parts.ledger.sync.take_in_row(name, row_key, catalogue.row(row_key))
            elif (await parts.ledger.sync.take_in(name, catalogue.links())).redo:
                self._cleared.add(name)
        self._has_open = await self._findings.is_any_open(self._sources)

    async def _go_back(self) -> None:
        """Examine again what earlier calls have found and left, to mend it."""
        last, row_key = 0, self._options.row_key
        while group := await self._findings.open_ones(self._sources, FILE_FAULTS | _ROW_FAULTS, row_key, last):
            last = group[-1][0]
            places = [(each.source, each.row_key, each.position, each.key) for _, each in group]
            copies = await self._copies.at(places)
            await self._examine(copies, is_read=True)
            self._again |= {each.entry for each in copies}
            if self._is_over():
                break

    async def _walk(self) -> None:
        """Go on with the pass until its end, the end of the time, or a stop."""
        options = self._options
        chosen = Selection(list(self._sources), options.older_seconds, options.row_key)
        is_whole = options.row_key is None and (options.sample is None or options.is_quick)
        going = await self._copies.resume(self._name()) if is_whole else None
        cursor = going.cursor if going is not None else 0
        self._report.total = await self._copies.count(chosen, cursor)
        while not self._is_over():
            group = await self._copies.group(chosen, cursor)
            if not group:
                self._report.is_complete = True
                await self._copies.save(going, [], ended=True)
                break
            cursor = await self._examine_group(group, going)

    def _name(self) -> str:
        """Return the name of the pass: each kind, and each choice of sources, has a cursor of its own."""
        words = ["verify", "--quick"] if self._options.is_quick else ["verify"]
        if self._options.older_seconds is not None:
            words.append("--older-than")
        return " ".join([*words, *sorted(self._options.sources)])

    async def _examine_group(self, group: Sequence[KnownCopy], going: Pass | None) -> int:
        """Examine a group and remember how far that came; return the last entry that was done."""
        options, cursor = self._options, group[0].entry - 1
        right: list[KnownCopy] = []
        before = self._report.copies, self._report.size, self._report.faults
        share = options.sample or (0.0 if options.is_quick else 1.0)  # of the copies, that is read
        step = BATCH if self._served is not None else min(len(group), int(BATCH / share) if share else len(group))
        for start in range(0, len(group), step):
            if self._is_over():
                break
            batch = group[start : start + step][: self._room()]
            cursor = batch[-1].entry
            batch = [each for each in batch if each.entry not in self._again]
            read = [each for each in batch if self._is_in_sample()]
            right += await self._examine(read, is_read=not options.is_quick or options.sample is not None)
            if options.is_quick and options.sample is not None:
                chosen = {each.entry for each in read}
                right += await self._examine([each for each in batch if each.entry not in chosen], is_read=False)
            self._tell(self._report)
        if going is not None:
            going.cursor = cursor
            going.copies += self._report.copies - before[0]
            going.size += self._report.size - before[1]
            going.found += self._report.faults - before[2]
        await self._copies.save(going, right)
        return cursor

    def _is_in_sample(self) -> bool:
        return self._options.sample is None or self._random.random() < self._options.sample

    def _room(self) -> int:
        """Return how many copies may still be verified."""
        most = self._options.most
        return BATCH**3 if most is None else max(1, most - self._report.copies)

    def _is_over(self) -> bool:
        options = self._options
        is_late = options.seconds is not None and self._clock.monotonic() - self._started >= options.seconds
        is_enough = options.most is not None and self._report.copies >= options.most
        return self._stop.is_set() or is_late or is_enough

    # --- copies

    async def _examine(self, batch: Sequence[KnownCopy], *, is_read: bool) -> list[KnownCopy]:
        """Examine copies with their rows; report and mend what is wrong. Return those whose bytes were right."""
        if not batch:
            return []
        seen = await self._inspect(batch, is_read=is_read)
        self._report.copies += len(batch)
        self._report.size += sum(each.size for each in seen.values())
        faulty = [each for each in batch if seen[each.entry].fault is not None]
        whole = [each for each in batch if seen[each.entry].fault is None]
        if faulty:
            still = await self._copies.again([each.entry for each in faulty])
            faulty = [each for each in faulty if _is_same(still.get(each.entry), each)]
            self._lost += sum(seen[each.entry].fault in _LOSSES for each in faulty)
            if faulty:
                await next(iter(self._sources.values())).repair.parts.ledger.check_store()
            await self._settle_files(faulty, seen)
        right = await self._settle_rows(whole)
        if self._served is not None:
            await self._settle_served(whole)
        if self._has_open and right:
            kinds = (FILE_FAULTS if is_read else {Fault.MISSING, Fault.NOT_A_FILE}) | _ROW_FAULTS
            await self._findings.close_at([each.place for each in right], kinds)
        return [each for each in whole if seen[each.entry].size]

    async def _inspect(self, batch: Sequence[KnownCopy], *, is_read: bool) -> dict[int, Seen]:
        """Return what the files of a batch are, by entry; files that are to be read are read at the same time."""

        async def read(known: KnownCopy) -> Seen:
            await self._pace.take(known.copy.size)
            return await self._sources[known.link.source].inspector.inspect(known)

        if is_read:
            return dict(zip([each.entry for each in batch], await asyncio.gather(*map(read, batch)), strict=True))
        seen: dict[int, Seen] = {}
        for name, source in self._sources.items():
            theirs = [each for each in batch if each.link.source == name]
            found = await source.inspector.inspect_all(theirs, is_read=False)
            seen |= zip([each.entry for each in theirs], found, strict=True)
        return seen

    async def _settle_files(self, faulty: Sequence[KnownCopy], seen: Mapping[int, Seen]) -> None:
        """Report faulty files, and mend them."""
        found = {}
        for each in faulty:
            fault, evidence = seen[each.entry].fault, seen[each.entry].evidence
            if fault is not None:
                found[each.entry] = _finding(each, fault, evidence)
        if not found:
            return
        await self._findings.report(list(found.values()))
        self._has_open = True
        mended: dict[int, Mend] = {}
        if self._options.repairs:
            await self._check_loss()
            for name, source in self._sources.items():
                if theirs := [each for each in faulty if each.link.source == name]:
                    mended |= await source.repair.files(theirs)
        await self._close(found, mended)

    async def _settle_rows(self, whole: Sequence[KnownCopy]) -> list[KnownCopy]:
        """Report rows that do not point at their copies, and point those at them that are ours; return the others."""
        right: list[KnownCopy] = []
        for name, source in self._sources.items():
            repair = source.repair
            theirs = [each for each in whole if each.link.source == name]
            holds = await repair.catalogue.local_urls([each.link for each in theirs])
            found: dict[int, Finding] = {}
            stale: list[tuple[KnownCopy, str | None]] = []
            for each in theirs:
                url = repair.layout.url(each.copy.key, each.copy.digest)
                value = holds.get(each.link, url)  # a row that has just changed is for the next call
                if value == url or (name in self._cleared and not (value or "").strip(" ")):
                    right.append(each)
                    continue
                is_own = is_ours(value, each, repair.layout)
                found[each.entry] = _row_finding(each, value, url, is_own=is_own)
                stale += [(each, value)] if is_own else []
            await self._findings.report(list(found.values()))
            self._has_open = self._has_open or bool(found)
            is_mending = self._options.repairs and stale
            written = await repair.rows(stale) if is_mending else set()
            await self._close(found, dict.fromkeys(written, Mend.ROW))
        return right

    async def _settle_served(self, whole: Sequence[KnownCopy]) -> None:
        """Report copies that the served URL gives differently."""
        assert self._served is not None
        words = await self._served.differences(whole)
        found = {each.entry: _finding(each, Fault.SERVED, words[each.entry]) for each in whole if each.entry in words}
        await self._findings.report(list(found.values()))
        await self._close(found, {})
        if self._has_open:
            right = [each.place for each in whole if each.entry not in words]
            await self._findings.close_at(right, {Fault.SERVED})

    async def _close(self, found: Mapping[int, Finding], mended: Mapping[int, Mend]) -> None:
        """Count findings, and close those that were mended; by entry."""
        closed = [replace(found[entry], mended_by=how) for entry, how in mended.items() if entry in found]
        await self._findings.mend(closed, self._journal.run)
        for entry, finding in found.items():
            self._report.add(replace(finding, mended_by=mended.get(entry)))
        for each in closed:
            if each.mended_by is not None:
                self._mended[each.source][each.mended_by] += 1

    async def _check_loss(self) -> None:
        """Stop if so much is lost at once that the store may not be all there; all copies are counted then.

        Raises:
            StoreError: it is not there, or too much is lost. Nothing that was found in this group is changed.
        """
        first = next(iter(self._sources.values())).repair.parts
        await first.store.identity()
        if self._is_loss_accepted or self._lost <= FEW_LOST or self._lost * 10 <= self._report.copies:
            return
        chosen, cursor, lost, held = Selection(list(self._sources)), 0, 0, 0
        while group := await self._copies.group(chosen, cursor):
            cursor, held = group[-1].entry, held + len(group)
            looks = [self._sources[each.link.source].inspector.is_there(each) for each in group]
            lost += (await asyncio.gather(*looks)).count(False)
        first.planner.check_loss(lost, held)
        self._is_loss_accepted = True

    # --- the other way round

    async def _compare_the_rest(self) -> None:
        """Find rows without copies and, for whole tables, copies without rows and files that are no copies."""
        since = await self._findings.time()
        row_key = self._options.row_key
        kinds = {Fault.ROW_WITHOUT_COPY}
        for name, source in self._sources.items():
            catalogue = source.repair.catalogue
            rows = catalogue.links() if row_key is None else catalogue.row(row_key)
            async for group in self._copies.rows_without_copy(name, rows):
                await self._settle_rows_without_copy(source, group)
                if self._stop.is_set():
                    return
        if row_key is None:
            kinds |= {Fault.COPY_WITHOUT_ROW, Fault.STRAY}
            await self._find_copies_without_rows()
            await self._find_strays()
            if not self._stop.is_set():
                await self._findings.close_older(since, kinds, self._sources)

    async def _settle_rows_without_copy(self, source: VerifiedSource, group: Sequence[RowOfNoCopy]) -> None:
        repair = source.repair
        found: dict[int, Finding] = {}
        own: list[RowOfNoCopy] = []
        for each in group:
            link = each.link
            key = repair.layout.key_of_url(link.local_url or "")
            if key is None or await repair.parts.store.states([key]):
                continue
            evidence = f"the row holds {link.local_url!r}; there is no such file"
            place = repair.layout.parse(key)
            if (place and place[:2] == (link.row_key, link.position)) or link.local_url == each.known_url:
                own.append(each)
            else:
                evidence += ", and rehost did not write this"
            found[each.entry] = Finding(Fault.ROW_WITHOUT_COPY, link.source, link.row_key, link.position, key, evidence)
        await self._findings.report(list(found.values()))
        cleared = await repair.clear(own) if self._options.repairs and own else set()
        await self._close(found, dict.fromkeys(cleared, Mend.CLEARED))

    async def _find_copies_without_rows(self) -> None:
        cursor = 0
        while (group := await self._copies.without_rows(self._sources, cursor)) and not self._stop.is_set():
            cursor = group[-1].entry
            kind = Fault.COPY_WITHOUT_ROW
            found = {each.entry: _finding(each, kind, "its row is gone, or has no link any more") for each in group}
            await self._findings.report(list(found.values()))
            await self._close(found, {})

    async def _find_strays(self) -> None:
        """Find files at places of copies that are no copies. A worker may just have replaced or placed such a file."""
        store = next(iter(self._sources.values())).repair.parts.store
        async for keys in store.keys():
            places = {key: self._places(key) for key in keys}
            self._report.other_files += sum(not each for each in places.values())
            strays = await self._copies.strays([each for found in places.values() for each in found])
            there = await store.file_ids(strays) if strays else {}
            strays = await self._copies.strays([each for key in there for each in places[key]]) if there else set()
            found = {
                number: Finding(Fault.STRAY, *places[key][0], "no row and no copy has this file")
                for number, key in enumerate(sorted(strays))
            }
            await self._findings.report(list(found.values()))
            await self._close(found, {})
            self._tell(self._report)
            if self._stop.is_set():
                break

    def _places(self, key: str) -> list[Place]:
        """Return the cells of which the file with this key could be the copy."""
        parsed = ((name, source.repair.layout.parse(key)) for name, source in self._sources.items())
        return [(name, found[0], found[1], key) for name, found in parsed if found is not None]


def _is_same(now: KnownCopy | None, then: KnownCopy) -> bool:
    return now is not None and now.copy == then.copy


def _finding(known: KnownCopy, fault: Fault, evidence: str) -> Finding:
    return Finding(fault, *known.place, evidence)


def _row_finding(known: KnownCopy, value: str | None, url: str, *, is_own: bool) -> Finding:
    if not (value or "").strip(" "):
        return _finding(known, Fault.CLEARED_ROW, f"the row holds no local URL, not {url!r}")
    whose = "" if is_own else ", which rehost did not write"
    return _finding(known, Fault.OTHER_URL, f"the row holds {value!r}{whose}, not {url!r}")
