"""Stand-ins that keep their state in memory; those of classes with a contract in tests/contracts pass it."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from rehost.clock import Clock
from rehost.hosts.shares import Share
from rehost.hotlink.repository import Evidence, KnownGoodLink, Spending
from rehost.model import Rule


class FakeClock(Clock):
    """A clock that stands still until `advance` moves it.

    `advance` wakes the sleepers in the order of their times. With `hurry`, each sleep moves the time on by itself, for
    tests that only need waits to end.
    """

    def __init__(self, *, hurry: bool = False) -> None:
        self.time = 1000.0
        self.epoch = datetime(2026, 1, 1, tzinfo=UTC)
        self.slept: list[float] = []
        self._hurry = hurry
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now(self) -> datetime:
        return self.epoch + timedelta(seconds=self.time)

    def monotonic(self) -> float:
        return self.time

    def processor_time(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self._hurry or seconds <= 0:
            self.time += max(0.0, seconds)
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._numbers), future))
        await future

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self.time = max(self.time, due)
            if not future.done():
                future.set_result(None)
        self.time = end


class FakeOriginRepository:
    """What was learned of each origin where this process is alone (hotlink.repository.OriginRepository)."""

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self.forgotten: list[str] = []  # origins
        self.notices: dict[str, dict[str, dict[str, Evidence]]] = {}  # origin -> digest of a decoy -> folder
        self.spent: dict[str, int] = {}  # extra requests, by origin and by origin with folder
        self.held: dict[str, list[KnownGoodLink]] = {}  # by host
        self.fresh_in: dict[str, float] = {}  # seconds after which extra requests no longer count

    async def rule(self, origin: str) -> Rule | None:
        return self.rules.get(origin)

    async def save_rule(self, rule: Rule) -> None:
        self.rules[rule.origin] = rule

    async def forget_rule(self, origin: str, referer: str) -> bool:
        rule = self.rules.get(origin)
        if rule is None or rule.referer != referer:
            return False
        del self.rules[origin]
        self.refresh(origin)
        self.forgotten.append(origin)
        return True

    async def spend(self, origin: str, folder: str, most: int, most_of_origin: int, believed: str | None) -> Spending:
        rule = self.rules.get(origin)
        if (rule.referer if rule else None) != believed:
            return Spending.ELSEWHERE
        if self.spent.get(origin + folder, 0) >= most:
            return Spending.USED_UP
        if folder and self.spent.get(origin, 0) >= most_of_origin:
            return Spending.CROWDED_OUT
        for name in {origin, origin + folder}:
            self.spent[name] = self.spent.get(name, 0) + 1
        return Spending.GRANTED

    async def end_learning(self, origin: str) -> None:
        pass  # no other worker waits for it

    async def renew_budget(self, origin: str, seconds: float) -> None:
        self.fresh_in[origin] = seconds
        if seconds == 0:
            self.refresh(origin)

    def refresh(self, origin: str) -> None:
        """Let the time pass after which no extra request counts any more."""
        self.spent = {name: spent for name, spent in self.spent.items() if not f"{name}/".startswith(f"{origin}/")}

    async def good_links(self, host: str) -> Sequence[KnownGoodLink]:
        return self.held.get(host, [])

    async def decoys(self, origin: str) -> Mapping[str, frozenset[str]]:
        return {digest: frozenset(folders) for digest, folders in self.notices.get(origin, {}).items()}

    async def add_decoy(self, origin: str, folder: str, digest: str, evidence: str) -> None:
        assert evidence
        self.notices.setdefault(origin, {}).setdefault(digest, {}).setdefault(folder, Evidence.FIRST)

    async def evidence(self, origin: str, folder: str, digest: str) -> Evidence:
        return self.notices.get(origin, {}).get(digest, {}).get(folder, Evidence.NONE)

    async def confirm_decoy(self, origin: str, folder: str, digest: str) -> None:
        self.notices[origin][digest][folder] = Evidence.CONFIRMED


class FakeHostShares:
    """The shares of hosts where this process is alone (hosts.shares.HostShares)."""

    def __init__(self) -> None:
        self.pauses: list[tuple[str, float, str]] = []
        self.allowances: dict[str, int] = {}
        self.proven: set[str] = set()
        self.left = False
        self.paused_now: dict[str, float] = {}  # until a test ends them
        self.valid_seconds = 60.0

    async def take(
        self,
        wanted: Mapping[str, int],
        in_flight: Mapping[str, int],  # noqa: ARG002 - no other worker waits for them to end
    ) -> Mapping[str, Share]:
        return {host: self._share(host, number) for host, number in wanted.items()}

    async def leave(self) -> None:
        self.left = True

    async def pause(self, host: str, seconds: float, evidence: str) -> None:
        self.pauses.append((host, seconds, evidence))
        self.paused_now[host] = seconds

    async def paused(self) -> set[str]:
        return set(self.paused_now)

    async def allow(self, host: str, allowance: int, *, proven: bool = False) -> None:
        self.allowances[host] = allowance
        if proven:
            self.proven.add(host)

    def _share(self, host: str, number: int) -> Share:
        proven = host in self.proven
        allowance = self.allowances.get(host, number) if proven else 1
        return Share(min(number, allowance), allowance, self.paused_now.get(host, 0.0), proven)


class FakeDailyQuota:
    """Requests counted by host, on a day that never ends (hosts.shares.DailyQuota)."""

    def __init__(self, seconds: float = 3600.0) -> None:
        self.taken: Counter[str] = Counter()
        self.seconds = seconds  # until the day ends, as it says

    async def take(self, host: str, budget: int) -> float | None:
        if self.taken[host] >= budget:
            return self.seconds
        self.taken[host] += 1
        return None
