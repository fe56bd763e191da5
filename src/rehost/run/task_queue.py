"""The links that this worker has leased: their order is fair to all hosts, and their leases have to be renewed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from rehost.attempt import Postponed
from rehost.hosts.limiter import HostLimiter
from rehost.ledger import Ledger
from rehost.model import Task
from rehost.run.limits import Limits


class TaskQueue:
    """Leases links in batches, host by host, and returns one at a time, alternating between hosts.

    No host waits until another one, slower or with more links, has finished.
    """

    def __init__(self, ledger: Ledger, source: str, limiter: HostLimiter, limits: Limits) -> None:
        """Take the parts; `limits` bounds what is leased ahead, and what is postponed."""
        self._ledger = ledger
        self._source = source
        self._limiter = limiter
        self._limits = limits
        self._hosts: deque[str] = deque()  # in turn; those that may have due links
        self._waiting: dict[str, deque[Task]] = {}
        self._postponed: deque[tuple[Task, Postponed]] = deque()
        self._first: dict[int, str] = {}  # entry -> host, where the first attempt may not have been made yet
        self._visiting: Counter[str] = Counter()
        self._suspects: set[int] = set()  # entries; while there are any, nothing else is leased
        self.open: dict[int, Task] = {}  # entry -> task: every lease that is neither recorded nor given back

    async def refresh(self) -> bool:
        """Read which hosts have due links; return whether one of them may be sent a request now."""
        hosts = await self._ledger.due.hosts(self._source)
        self._hosts = deque(hosts)
        return any(not self._limiter.pause_seconds(host) for host in hosts)

    async def paused_hosts(self) -> dict[str, float]:
        """Return the hosts that have due links and are paused, with the remaining seconds of their pauses."""
        hosts = await self._ledger.due.hosts(self._source, with_suspects=True)
        return {host: seconds for host in hosts if (seconds := self._limiter.pause_seconds(host)) > 0}

    async def lease_more(self) -> None:
        """Lease links of hosts that have none waiting here, up to the number that is kept ahead."""
        for host in [] if self._suspects else list(self._hosts):
            ahead = sum(map(len, self._waiting.values()))
            if ahead >= self._limits.ahead:
                break
            if self._waiting.get(host) or self._limiter.pause_seconds(host):
                continue
            batch = min(self._limits.batch, max(2, self._limits.ahead // len(self._hosts)))
            tasks = await self._ledger.leases.lease(self._source, host, batch)
            if not tasks:
                self._hosts.remove(host)
                continue
            self._waiting[host] = deque(tasks)
            self.open.update((task.entry, task) for task in tasks)

    async def lease_suspects(self) -> bool:
        """Lease links of which an earlier worker may have died; return whether there were any.

        Call it when nothing is in flight: nothing else is leased until these have their outcomes.
        """
        tasks = await self._ledger.leases.lease_suspects(self._source)
        for task in tasks:
            self._waiting.setdefault(task.host, deque()).append(task)
        if tasks:
            self._hosts = deque(self._waiting)
        self.open.update((task.entry, task) for task in tasks)
        self._suspects = {task.entry for task in tasks}
        return bool(tasks)

    @property
    def has_suspects(self) -> bool:
        """Return whether suspects are leased here and have no recorded outcome yet."""
        return bool(self._suspects)

    def next(self, most_per_host: int) -> tuple[Task, Postponed | None] | None:
        """Return the next task to visit, of the next host in turn that has one and is below its limit here.

        If there is none, return a postponed one and its Postponed. While first attempts are still to be made, that is
        only one of a host without any, and only one request in ten, as each may hang until its timeout.
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
        for _ in range(len(self._postponed)):
            task, postponed = self._postponed.popleft()
            if self._visiting[task.host] < most_per_host and task.host not in too_early:
                self._visiting[task.host] += 1
                return task, postponed
            self._postponed.append((task, postponed))
        return None

    def may_postpone(self) -> bool:
        """Return whether there is room for one more postponed task."""
        return len(self._postponed) < self._limits.postponed

    def postpone(self, task: Task, postponed: Postponed) -> None:
        """Keep a task until no other one is left."""
        self._postponed.append((task, postponed))

    def visited(self, task: Task) -> None:
        """Count the task's visit as over; its lease stays open until the outcome is recorded."""
        self._visiting[task.host] -= 1
        self._first.pop(task.entry, None)

    def close(self, tasks: Sequence[Task]) -> None:
        """Forget leases that are recorded or given back; a later lease of the same link stays."""
        for task in tasks:
            if (lease := self.open.get(task.entry)) is not None and lease.fence == task.fence:
                del self.open[task.entry]
                self._suspects.discard(task.entry)

    async def give_back(self, tasks: Sequence[Task]) -> None:
        """Release these leases, unvisited."""
        if tasks:
            await self._ledger.leases.release(tasks)
            self.close(tasks)

    async def give_back_waiting(self, host: str | None = None) -> None:
        """Release all waiting and postponed tasks, of one host or of all."""
        hosts = list(self._waiting) if host is None else [host]
        tasks = [task for name in hosts for task in self._waiting.pop(name, ())]
        tasks += [task for task, _ in self._postponed if host in {None, task.host}]
        self._postponed = deque(each for each in self._postponed if host not in {None, each[0].host})
        await self.give_back(tasks)
