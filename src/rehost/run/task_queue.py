"""The links that this worker has leased: some wait for their visit, drawn fairly; all must be renewed."""

from __future__ import annotations

from collections import Counter, deque

from rehost.attempt import Postponed
from rehost.hosts.limiter import HostLimiter
from rehost.model import Task
from rehost.ports import Ledger
from rehost.run.limits import Limits


class TaskQueue:
    """Leases in batches, host by host; hands out one at a time, host after host (promise: nobody is held up)."""

    def __init__(self, ledger: Ledger, source: str, politeness: HostLimiter, limits: Limits) -> None:
        """Take the ledger of a source, and how much may be leased ahead, and set aside."""
        self._ledger = ledger
        self._source = source
        self._politeness = politeness
        self._limits = limits
        self._hosts: deque[str] = deque()  # in turn; those that may have due links
        self._waiting: dict[str, deque[Task]] = {}
        self._aside: deque[tuple[Task, Postponed]] = deque()  # visits that are gone on with last
        self._first: dict[int, str] = {}  # entries whose first attempt may be still to come, and their hosts
        self._visiting: Counter[str] = Counter()
        self.open: dict[int, Task] = {}  # everything leased here and not given back or recorded

    async def look(self) -> bool:
        """Look anew which hosts have due links; return whether one may be asked now."""
        hosts = await self._ledger.hosts(self._source)
        self._hosts = deque(hosts)
        return any(not self._politeness.pause_seconds(host) for host in hosts)

    async def resting(self) -> dict[str, float]:
        """Return the hosts that have due links and are paused, with the seconds that are left of their pauses."""
        hosts = await self._ledger.hosts(self._source)
        return {host: seconds for host in hosts if (seconds := self._politeness.pause_seconds(host)) > 0}

    async def fill(self) -> None:
        """Lease more, of hosts that have nothing waiting here, up to the amount that is kept ahead."""
        for host in list(self._hosts):
            ahead = sum(map(len, self._waiting.values()))
            if ahead >= self._limits.ahead:
                break
            if self._waiting.get(host) or self._politeness.pause_seconds(host):
                continue
            batch = min(self._limits.batch, max(2, self._limits.ahead // len(self._hosts)))
            tasks = await self._ledger.lease(self._source, host, batch)
            if not tasks:
                self._hosts.remove(host)
                continue
            self._waiting[host] = deque(tasks)
            self.open.update((task.entry, task) for task in tasks)

    def draw(self, most_per_host: int) -> tuple[Task, Postponed | None] | None:
        """Return the next task to visit: of the next host in turn that has one and is not at its limit here.

        Where there is none, one that was set aside, with what it was set aside with: while first attempts are still to
        come only of hosts that have none of their own, and for one request in ten, as each may hang for all its time.
        """
        for _ in range(len(self._hosts)):
            host = self._hosts[0]
            self._hosts.rotate(-1)
            waiting = self._waiting.get(host)
            if waiting and self._visiting[host] < most_per_host:
                self._visiting[host] += 1
                task = waiting.popleft()
                self._first[task.entry] = host
                return task, None
        if self._first and self._visiting.total() - len(self._first) >= max(1, self._limits.requests // 10):
            return None
        too_early = {*self._hosts, *self._first.values()} if self._first else set()
        for _ in range(len(self._aside)):
            task, aside = self._aside.popleft()
            if self._visiting[task.host] < most_per_host and task.host not in too_early:
                self._visiting[task.host] += 1
                return task, aside
            self._aside.append((task, aside))
        return None

    def may_set_aside(self) -> bool:
        """Return whether there is room for one more that is to come after all others."""
        return len(self._aside) < self._limits.aside

    def set_aside(self, task: Task, aside: Postponed) -> None:
        """Keep a task until there is no other."""
        self._aside.append((task, aside))

    def visited(self, task: Task) -> None:
        """Count the task's visit as over; its lease stays until it is recorded."""
        self._visiting[task.host] -= 1
        self._first.pop(task.entry, None)

    def close(self, tasks: list[Task]) -> None:
        """Forget leases that are recorded or given back; not those that were taken of the same links since."""
        for task in tasks:
            if (lease := self.open.get(task.entry)) is not None and lease.fence == task.fence:
                del self.open[task.entry]

    async def give_back(self, tasks: list[Task]) -> None:
        """Release these leases, unvisited."""
        if tasks:
            await self._ledger.release(tasks)
            self.close(tasks)

    async def give_back_waiting(self, host: str | None = None) -> None:
        """Release all that wait for their visit or for its rest, of one host or of all."""
        hosts = list(self._waiting) if host is None else [host]
        tasks = [task for name in hosts for task in self._waiting.pop(name, ())]
        tasks += [task for task, _ in self._aside if host in {None, task.host}]
        self._aside = deque(each for each in self._aside if host not in {None, each[0].host})
        await self.give_back(tasks)
