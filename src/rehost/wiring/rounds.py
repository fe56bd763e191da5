"""Builds the kinds of upkeep that `rehost upkeep` gives turns: verify and repair, refresh, rescue, prune."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from rehost.events import Listener
from rehost.ledger.findings import Fault
from rehost.ledger.freezes import RefreshFilter
from rehost.settings import Settings
from rehost.upkeep.prune import Pruned
from rehost.upkeep.refresh import Refresh
from rehost.upkeep.rescue import DeadLinks
from rehost.upkeep.rounds import Kind, Turn
from rehost.upkeep.verify import VerifyOptions, VerifyReport
from rehost.wiring.upkeep import is_moving, open_pruner, open_upkeep
from rehost.wiring.verification import open_verification

DAY_SECONDS = 86_400.0
VERIFY_SECONDS = 90 * DAY_SECONDS  # a copy is due that was not read for so long
REFRESH_SECONDS = 30 * DAY_SECONDS  # a link is due that was not asked for so long
_FOR_PRUNE = {Fault.STRAY, Fault.COPY_WITHOUT_ROW}
_GRACE_SECONDS = 5.0  # after its share, in which a verification ends by itself


@dataclass(frozen=True, slots=True)
class KindsOfUpkeep:
    """What is due, and how each kind of it is done; every turn opens what it needs, and closes it."""

    settings: Settings
    sources: Collection[str]  # none: all
    listen: Listener
    moves_unneeded: bool = False  # to the trash: files that no row needs
    tell: Callable[[VerifyReport | int], None] = lambda _done: None  # what is verified; how many files prune looked at

    def kinds(self) -> Sequence[Kind]:
        """Return the kinds in the order of their turns."""
        turns = (self.verify, self.refresh, self.rescue, self.prune)
        return [Kind(each.__name__, each) for each in turns]

    async def verify(self, seconds: float | None, stop: asyncio.Event) -> Turn:
        """Read the copies that were not read for long, and repair them."""
        options = VerifyOptions(tuple(self.sources), repairs=True, seconds=seconds, older_seconds=VERIFY_SECONDS)
        async with (
            _ends_after(None if seconds is None else seconds + _GRACE_SECONDS, stop) as own,
            open_verification(self.settings, options, own, tell=self.tell, listen=self.listen) as verification,
        ):
            report = await verification.verify()
        left = sum(number for fault, number in report.left.items() if fault not in _FOR_PRUNE)
        done = {"read": report.copies, "found": report.faults, "repaired": sum(report.mended.values())}
        return Turn(done, {"left": left}, left, not report.is_complete, _runs(report.run))

    async def refresh(self, seconds: float | None, stop: asyncio.Event) -> Turn:
        """Ask for the links that were not asked for long."""
        async with open_upkeep(self.settings, self.sources, self.listen) as parts:
            work = Refresh(parts.sources, parts.limits, parts.clock, parts.listen)
            async with _ends_after(None, stop, work.stop):
                refreshed = await work.execute(RefreshFilter(REFRESH_SECONDS), seconds=seconds)
        frozen = len(refreshed.frozen)
        done = {"asked": refreshed.asked, "replaced": refreshed.replaced}
        return Turn(done, {"frozen": frozen}, frozen, refreshed.left > 0, _runs(refreshed.run))

    async def rescue(self, seconds: float | None, stop: asyncio.Event) -> Turn:
        """Look elsewhere for the pictures of dead links."""
        async with (
            open_upkeep(self.settings, self.sources, self.listen) as parts,
            _ends_after(seconds, stop) as own,
        ):
            done = await DeadLinks(parts.sources, parts.limits, parts.archive, own).rescue()
            is_cut = own.is_set()
        return Turn(
            {"tried": done.tried, "rescued": sum(done.rescued.values())},
            {"dead": done.dead},
            is_cut=is_cut,
            runs=_runs(done.run),
        )

    async def prune(self, seconds: float | None, stop: asyncio.Event) -> Turn:
        """Empty the trash of what is due; count files that no row needs, in all sources, or move them to the trash.

        That waits for another night while a run is in progress, or a move of the copies.
        """
        if await is_moving(self.settings):
            return Turn({}, is_cut=True)
        async with _ends_after(seconds, stop) as own, open_pruner(self.settings, own, self.tell) as pruner:
            emptied = Pruned(dry=False)
            await pruner.empty_trash(emptied)
            deleted = sum(each.files for each in emptied.expired.values())
            if await pruner.leased():
                return Turn({"deleted": deleted}, is_cut=True)
            pruned = await pruner.prune(dry=not self.moves_unneeded)
            is_left = pruned.dry or pruned.stopped
            unneeded = pruned.kept + (pruned.found if is_left else 0)
            done = {"deleted": deleted, "removed": 0 if is_left else pruned.found}
            return Turn(done, {"unneeded": unneeded}, unneeded, own.is_set(), _runs(pruned.run))


def _runs(run: int | None) -> Sequence[int]:
    return [] if run is None else [run]


@asynccontextmanager
async def _ends_after(
    seconds: float | None, stop: asyncio.Event, end: Callable[[], None] = lambda: None
) -> AsyncIterator[asyncio.Event]:
    """Provide an event that is set after so many seconds, or with `stop`; then `end` is called too."""
    own = asyncio.Event()

    async def wait() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
        own.set()
        end()

    waiting = asyncio.create_task(wait())
    try:
        yield own
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})
