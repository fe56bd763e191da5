"""Who is visited next: first attempts before those that are made again, and nobody waits for a host that hangs."""

from collections import deque
from dataclasses import replace

import pytest

from rehost.attempt import Postponed
from rehost.model import Link, Task
from rehost.run.limits import Limits
from rehost.run.task_queue import TaskQueue

MOST_PER_HOST = 2
LIMITS = Limits(concurrency=10, requests=10, visits=48, ahead=20, batch=8, aside=20)


class Due:
    """A ledger of links that are due, and politeness that pauses nobody."""

    def __init__(self, **links):
        self.links = {host: deque(task(host, number) for number in range(count)) for host, count in links.items()}

    async def hosts(self, _source):
        return [host for host, tasks in self.links.items() if tasks]

    async def lease(self, _source, host, count):
        tasks = self.links[host]
        return [tasks.popleft() for _ in range(min(count, len(tasks)))]

    def pause_seconds(self, _host):
        return 0.0


def task(host, number):
    entry = 1000 * ord(host[0]) + number
    link = Link("cases", str(entry), 0, f"http://{host}.example/{number}.jpg", None, None)
    return Task(entry, 1, link, host, 1)


@pytest.fixture
async def leases():
    """One first attempt of `hanging` is under way; five of `busy` were, and are to be made again."""
    due = Due(hanging=1, busy=5)
    leases = TaskQueue(due, "cases", due, LIMITS)
    await leases.look()
    await leases.fill()
    while drawn := leases.draw(99):
        if drawn[0].host == "busy":
            leases.visited(drawn[0])
            leases.set_aside(drawn[0], Postponed(0))
    await leases.fill()  # notices that no host has more
    return leases


async def test_what_is_asked_again_has_one_request_in_ten_while_another_hosts_first_attempt_is_to_come(leases):
    drawn = [leases.draw(MOST_PER_HOST) for _ in range(3)]

    assert [each and each[0].host for each in drawn] == ["busy", None, None]


async def test_when_no_first_attempt_is_left_each_host_has_its_own_turns(leases):
    hanging = leases.open[min(entry for entry, each in leases.open.items() if each.host == "hanging")]
    leases.visited(hanging)
    leases.set_aside(hanging, Postponed(0))

    drawn = [leases.draw(MOST_PER_HOST) for _ in range(4)]

    assert sorted(each[0].host for each in drawn if each) == ["busy", "busy", "hanging"]


async def test_what_is_asked_again_comes_after_its_own_hosts_first_attempts():
    due = Due(busy=3)
    leases = TaskQueue(due, "cases", due, LIMITS)
    await leases.look()
    await leases.fill()
    first, _ = leases.draw(MOST_PER_HOST)
    leases.visited(first)
    leases.set_aside(first, Postponed(0))

    drawn = [leases.draw(MOST_PER_HOST) for _ in range(3)]

    assert [each and each[1] for each in drawn] == [None, None, None]
    assert [each and each[0].entry != first.entry for each in drawn] == [True, True, None]


@pytest.mark.parametrize(("hosts", "each"), [(1, 8), (2, 8), (4, 5), (20, 2)])
async def test_of_one_host_no_more_is_leased_at_a_time_than_a_batch_and_of_many_some_of_each(hosts, each):
    due = Due(**{f"host{number}": 50 for number in range(hosts)})
    leases = TaskQueue(due, "cases", due, LIMITS)
    await leases.look()
    await leases.fill()

    leased = [50 - len(links) for links in due.links.values()]

    assert {number for number in leased if number} == {each}
    assert sum(leased) >= min(hosts * each, LIMITS.ahead)


async def test_a_late_outcome_does_not_close_the_lease_that_came_after_it(leases):
    entry, old = next(iter(leases.open.items()))
    new = replace(old, fence=old.fence + 1)
    leases.open[entry] = new

    leases.close([old])
    assert leases.open[entry] == new

    leases.close([new])
    assert entry not in leases.open
