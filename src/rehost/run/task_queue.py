"""The links that this worker has leased: their order is fair to all hosts, and their leases have to be renewed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

from rehost.attempt import Postponed
from rehost.hosts.limiter import HostLimiter, is_folder
from rehost.http.url import domain_of, host_of, read_folder
from rehost.ledger import Ledger
from rehost.model import Reason, Task
from rehost.run.limits import Limits

MOST_LEASES = 20
"""Statements that lease links before visits begin."""


class TaskQueue:
    """Leases links in batches, host by host, and returns one at a time, alternating between domains and their hosts.

    No host waits until another one, slower or with more links, has finished; nor does a domain for one with more hosts.
    """

    def __init__(self, ledger: Ledger, source: str, limiter: HostLimiter, limits: Limits) -> None:
        """Take the parts; `limits` bounds what is leased ahead, and what is postponed."""
        self._ledger = ledger
        self._source = source
        self._limiter = limiter
        self._limits = limits
        self._hosts: dict[str, deque[str]] = {}  # by domain, both in turn; those that may have due links
        self._has_many_hosts = False
        self._waiting: dict[str, dict[str, deque[Task]]] = {}  # by domain and host, both in turn
        self._postponed: deque[tuple[Task, Postponed]] = deque()
        self._first: dict[int, str] = {}  # entry -> host, where the first attempt may not have been made yet
        self._visiting: Counter[str] = Counter()  # by host
        self._domain_visits: Counter[str] = Counter()
        self._paused: dict[str, list[Task]] = {}  # by origin: leased, and met while the origin was paused
        self._sole_origins: dict[
            str, str
        ] = {}  # host -> the origin or folder of all its due links, when that was paused
        self._suspects: set[int] = set()  # entries; while there are any, nothing else is leased
        self.open: dict[int, Task] = {}  # entry -> task: every lease that is neither recorded nor given back

    async def refresh(self) -> bool:
        """Read which hosts have due links; return whether one of them may be sent a request now.

        Call it when nothing is in flight.
        """
        hosts = await self._ledger.leases.hosts(self._source, again=True)
        self._has_many_hosts = len(hosts) > 1
        self._hosts = {}
        for host in hosts:
            self._hosts.setdefault(self._domain(host), deque()).append(host)
        return any(not self._pause_seconds(host) for host in hosts)

    async def paused_hosts(self) -> dict[str, float]:
        """Return the hosts that have due links and are paused, with the remaining seconds of their pauses."""
        hosts = await self._ledger.leases.hosts(self._source, with_suspects=True, again=True)
        return {host: seconds for host in hosts if (seconds := self._pause_seconds(host)) > 0}

    async def has_due(self, *, again: bool) -> bool:
        """Return whether any link is due, suspects too; `again` as in `LeaseManager.hosts`."""
        return bool(await self._ledger.leases.hosts(self._source, with_suspects=True, again=again))

    def cause(self, host: str) -> tuple[Reason, str]:
        """Return why this host is paused, with the evidence."""
        return self._limiter.cause(self._paused_name(host))

    async def lease_more(self) -> None:
        """Lease links of hosts that have none waiting here, up to the number that is kept ahead.

        One host of each domain in turn, and of no more than MOST_LEASES hosts: visits need not wait for the rest.
        """
        left = MOST_LEASES
        domains = [] if self._suspects else list(self._hosts)
        share = max(2, self._limits.ahead // max(1, len(domains)))
        while domains and left > 0 and sum(map(self._ahead, self._waiting)) < self._limits.ahead:
            domain = domains.pop(0)
            if self._ahead(domain) < share and await self._lease_host(domain, share):
                domains.append(domain)
                left -= 1

    async def _lease_host(self, domain: str, share: int) -> bool:
        """Lease links of the next host of a domain that has none waiting here; return whether there is such a host."""
        hosts = self._hosts.pop(domain, deque())
        self._hosts |= {domain: hosts} if hosts else {}  # its turn is over
        batch = min(self._limits.batch, max(2, share // max(1, len(hosts))))
        for host in list(hosts):
            hosts.rotate(-1)
            if host in self._waiting.get(domain, {}) or self._pause_seconds(host):
                continue
            tasks = await self._ledger.leases.lease(self._source, host, batch)
            if not tasks:
                hosts.remove(host)
            self._add(tasks)
            return True
        return False

    async def lease_suspects(self) -> bool:
        """Lease links of which an earlier worker may have died; return whether there were any.

        Call it when nothing is in flight: nothing else is leased until these have their outcomes.
        """
        tasks = await self._ledger.leases.lease_suspects(self._source)
        self._add(tasks)
        self._suspects = {task.entry for task in tasks}
        return bool(tasks)

    @property
    def has_suspects(self) -> bool:
        """Return whether suspects are leased here and have no recorded outcome yet."""
        return bool(self._suspects)

    def next(self, most_per_host: int) -> tuple[Task, Postponed | None] | None:
        """Return the next task to visit: of the domain with the fewest visits, of its next host in turn.

        A host at its limit here has no turn, nor has a domain with half of all visits where there are others.

        If there is none, return a postponed one and its Postponed. While first attempts are still to be made, that is
        only one of a host without any, and only one request in ten, as each may hang until its timeout.
        """
        while (host := self._next_host(most_per_host)) is not None:
            task = self._pop(host)
            if not self.hold_if_paused(task):
                self._first[task.entry] = host
                self._count(task, 1)
                return task, None
        if self._first and self._visiting.total() - len(self._first) >= max(1, self._limits.requests // 10):
            return None
        too_early = {*chain(*self._hosts.values()), *self._first.values()} if self._first else set()
        ready = [
            number
            for number, (task, _) in enumerate(self._postponed)
            if self._visiting[task.host] < most_per_host and task.host not in too_early
        ]
        if not ready:
            return None
        number = min(ready, key=lambda number: self._domain_visits[self._domain(self._postponed[number][0].host)])
        task, postponed = self._postponed[number]
        del self._postponed[number]
        self._count(task, 1)
        return task, postponed

    def hold_if_paused(self, task: Task) -> bool:
        """Keep a task aside, for `defer_paused`, if its origin or folder is paused; return whether it is."""
        name = task.origin
        if name and host_of(name) != task.host:  # the ledger has not read the host of this link yet
            name = self._limiter.longest_pause(name)
        if name and not self._limiter.pause_seconds(name) and self._limiter.has_failing_folders():
            name = read_folder(task.link.url, task.link.page_url)
        if not self._limiter.pause_seconds(name):
            return False
        self._paused.setdefault(name, []).append(task)
        return True

    def longest_pause(self) -> float:
        """Return for how many seconds an origin or folder, whose tasks are kept aside, is paused at most."""
        return max(map(self._limiter.pause_seconds, self._paused), default=0.0)

    async def defer_paused(self) -> list[tuple[str, int, float]]:
        """Defer the links of paused origins that were met, so that those of their hosts' other origins can be leased.

        A host that has none of another origin counts as paused here, and nothing is written for it.

        Returns:
            the origins or folders, the numbers of links that were deferred, and for how many seconds.
        """
        deferred = []
        while self._paused:
            name, tasks = self._paused.popitem()
            tasks += self._take(partial(_is_of, name))
            await self.give_back(tasks)
            seconds, cause = self._limiter.pause_seconds(name), self._limiter.cause(name)
            to = self._ledger.deferrals
            links = await (to.defer_folder if is_folder(name) else to.defer_origin)(tasks, *cause, seconds)
            if links is None:
                self._sole_origins[tasks[0].host] = name
            else:
                deferred.append((name, links, seconds))
        return deferred

    def may_postpone(self) -> bool:
        """Return whether there is room for one more postponed task."""
        return len(self._postponed) < self._limits.postponed

    def postpone(self, task: Task, postponed: Postponed) -> None:
        """Keep a task until no other one is left."""
        self._postponed.append((task, postponed))

    def visited(self, task: Task) -> None:
        """Count the task's visit as over; its lease stays open until the outcome is recorded."""
        self._count(task, -1)
        self._first.pop(task.entry, None)

    def close(self, tasks: Sequence[Task]) -> None:
        """Forget leases that are recorded or given back; a later lease of the same link stays."""
        for task in tasks:
            if (lease := self.open.get(task.entry)) is not None and lease.fence == task.fence:
                del self.open[task.entry]
                self._suspects.discard(task.entry)

    def drop(self, lost: Sequence[Task]) -> None:
        """Forget leases that are no longer ours; their links are another worker's to visit."""
        gone = {(task.entry, task.fence) for task in lost}
        self._take(lambda task: (task.entry, task.fence) in gone)
        self._postponed = deque(each for each in self._postponed if (each[0].entry, each[0].fence) not in gone)
        self.close(lost)

    async def give_back(self, tasks: Sequence[Task]) -> None:
        """Release these leases, unvisited."""
        if tasks:
            await self._ledger.leases.release(tasks)
            self.close(tasks)

    async def give_back_waiting(self, host: str | None = None) -> None:
        """Release all waiting and postponed tasks, of one host or of all."""
        tasks = self._take(lambda task: host in {None, task.host})
        tasks += [task for task, _ in self._postponed if host in {None, task.host}]
        self._postponed = deque(each for each in self._postponed if host not in {None, each[0].host})
        await self.give_back(tasks)

    def _domain(self, host: str) -> str:
        """Return whose host this is; an only host has no need for the list of suffixes."""
        return domain_of(host) if self._has_many_hosts else host

    def _ahead(self, domain: str) -> int:
        return sum(map(len, self._waiting.get(domain, {}).values()))

    def _add(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._waiting.setdefault(self._domain(task.host), {}).setdefault(task.host, deque()).append(task)
            self.open[task.entry] = task

    def _take(self, is_wanted: Callable[[Task], bool]) -> list[Task]:
        """Take the waiting tasks of which this is true."""
        tasks = [task for hosts in self._waiting.values() for waiting in hosts.values() for task in waiting]
        self._waiting = {}
        self._add([task for task in tasks if not is_wanted(task)])
        return [task for task in tasks if is_wanted(task)]

    def _next_host(self, most_per_host: int) -> str | None:
        """Return the next host that has a task waiting and is below its limit."""
        has_others = len(self._hosts) > 1 or len(self._waiting) > 1
        fewest = max(most_per_host, self._limits.visits // 2) if has_others else self._limits.visits
        found: str | None = None
        for domain, hosts in self._waiting.items():
            if (visits := self._domain_visits[domain]) < fewest:
                host = next((each for each in hosts if self._visiting[each] < most_per_host), None)
                found, fewest = (found, fewest) if host is None else (host, visits)
        return found

    def _pop(self, host: str) -> Task:
        """Take the first waiting task of a host, and end the turn of the host and of its domain."""
        domain = self._domain(host)
        hosts = self._waiting.pop(domain)
        tasks = hosts.pop(host)
        task = tasks.popleft()
        if tasks:
            hosts[host] = tasks
        if hosts:
            self._waiting[domain] = hosts
        return task

    def _count(self, task: Task, visits: int) -> None:
        self._visiting[task.host] += visits
        self._domain_visits[self._domain(task.host)] += visits

    def _paused_name(self, host: str) -> str:
        """Return the host, or the origin of all its due links if that is paused for longer."""
        return max(host, self._sole_origins.get(host, host), key=self._limiter.pause_seconds)

    def _pause_seconds(self, host: str) -> float:
        return self._limiter.pause_seconds(self._paused_name(host))


def _is_of(name: str, task: Task) -> bool:
    """Return whether a task's link is of an origin, or of a folder."""
    if not is_folder(name):
        return task.origin == name
    return name.startswith(f"{task.origin}/") and read_folder(task.link.url, task.link.page_url) == name
