"""Which link is visited next: first attempts before second ones, and no host waits for one that hangs."""

from collections import Counter, deque
from dataclasses import replace
from zlib import crc32

import pytest

from rehost.attempt import Postponed
from rehost.model import Link, Task
from rehost.run.limits import Limits
from rehost.run.task_queue import TaskQueue

MOST_PER_HOST = 2
LIMITS = Limits(concurrency=10, requests=10, visits=48, ahead=20, batch=8, postponed=20)


class Due:
    """A ledger whose links are due, and a limiter that pauses no host."""

    def __init__(self, **links):
        self.due = self.deferrals = self.leases = self
        self.links = {host: deque(task(host, number) for number in range(count)) for host, count in links.items()}

    async def hosts(self, _source, **_options):
        return [host for host, due in self.links.items() if due]

    async def lease(self, _source, host, count):
        due = self.links[host]
        return [due.popleft() for _ in range(min(count, len(due)))]

    def pause_seconds(self, _host):
        return 0.0


def task(host, number):
    entry = 1000 * crc32(host.encode()) + number
    link = Link("cases", str(entry), 0, f"http://{host}.example/{number}.jpg", None, None)
    return Task(entry, 1, link, host, 1)


@pytest.fixture
async def tasks():
    """One first attempt of `hanging` is under way; five of `busy` were, and are to be made again."""
    due = Due(hanging=1, busy=5)
    tasks = TaskQueue(due, "cases", due, LIMITS)
    await tasks.refresh()
    await tasks.lease_more()
    while drawn := tasks.next(99):
        if drawn[0].host == "busy":
            tasks.visited(drawn[0])
            tasks.postpone(drawn[0], Postponed(0))
    await tasks.lease_more()  # notices that no host has more
    return tasks


async def test_postponed_tasks_get_one_request_in_ten_while_another_host_has_first_attempts(tasks):
    drawn = [tasks.next(MOST_PER_HOST) for _ in range(3)]

    assert [each and each[0].host for each in drawn] == ["busy", None, None]


async def test_postponed_tasks_alternate_between_hosts_once_no_first_attempt_is_left(tasks):
    hanging = tasks.open[min(entry for entry, each in tasks.open.items() if each.host == "hanging")]
    tasks.visited(hanging)
    tasks.postpone(hanging, Postponed(0))

    drawn = [tasks.next(MOST_PER_HOST) for _ in range(4)]

    assert sorted(each[0].host for each in drawn if each) == ["busy", "busy", "hanging"]


async def test_a_postponed_task_comes_after_the_first_attempts_of_its_host():
    due = Due(busy=3)
    tasks = TaskQueue(due, "cases", due, LIMITS)
    await tasks.refresh()
    await tasks.lease_more()
    first, _ = tasks.next(MOST_PER_HOST)
    tasks.visited(first)
    tasks.postpone(first, Postponed(0))

    drawn = [tasks.next(MOST_PER_HOST) for _ in range(3)]

    assert [each and each[1] for each in drawn] == [None, None, None]
    assert [each and each[0].entry != first.entry for each in drawn] == [True, True, None]


async def test_names_below_one_domain_take_no_more_than_half_of_the_leases_and_visits_from_another():
    due = Due(**{f"{number}.evil.example": 1 for number in range(200)} | {"good.example": 60})
    tasks = TaskQueue(due, "cases", due, replace(LIMITS, ahead=100))
    await tasks.refresh()
    for _ in range(10):
        await tasks.lease_more()

    leased = Counter(each.host.partition(".")[2] for each in tasks.open.values())
    drawn = [tasks.next(12)[0].host for _ in range(24)]

    assert leased == {"evil.example": 50, "example": 8}  # a batch of the good host, which may have more
    assert drawn.count("good.example") == 8
    assert drawn[:16:2].count("good.example") in {0, 8}  # in turn


async def test_visits_need_not_wait_until_all_hosts_of_another_domain_are_leased():
    due = Due(**{f"{number}.evil.example": 1 for number in range(200)} | {"good.example": 60})
    tasks = TaskQueue(due, "cases", due, replace(LIMITS, ahead=400))
    await tasks.refresh()
    await tasks.lease_more()

    assert len(tasks.open) < 40
    assert "good.example" in {each.host for each in tasks.open.values()}


async def test_a_domain_has_half_of_the_visits_at_most_while_there_are_others():
    due = Due(**{f"{number}.evil.example": 1 for number in range(40)} | {"good.example": 1})
    tasks = TaskQueue(due, "cases", due, replace(LIMITS, ahead=400))
    await tasks.refresh()
    for _ in range(5):
        await tasks.lease_more()

    drawn = [each[0].host for _ in range(48) if (each := tasks.next(12))]

    assert (len(drawn), drawn.count("good.example")) == (LIMITS.visits // 2 + 1, 1)


async def test_a_domain_has_all_visits_while_there_are_no_others():
    due = Due(**{f"{number}.a.example": 1 for number in range(60)})
    tasks = TaskQueue(due, "cases", due, replace(LIMITS, ahead=400))
    await tasks.refresh()
    for _ in range(5):
        await tasks.lease_more()

    assert len([each for _ in range(60) if (each := tasks.next(12))]) == LIMITS.visits


async def test_postponed_tasks_of_the_domain_with_fewest_visits_come_first():
    due = Due(**{f"{number}.evil.example": 1 for number in range(10)} | {"good.example": 2})
    tasks = TaskQueue(due, "cases", due, replace(LIMITS, ahead=400))
    await tasks.refresh()
    await tasks.lease_more()
    drawn = [tasks.next(12)[0] for _ in range(12)]
    for task in sorted(drawn, key=lambda task: task.host):
        tasks.visited(task)
        tasks.postpone(task, Postponed(0))

    again = [tasks.next(12)[0].host for _ in range(4)]

    assert again.count("good.example") == 2


@pytest.mark.parametrize(("hosts", "each"), [(1, 8), (2, 8), (4, 5), (20, 2)])
async def test_at_most_a_batch_is_leased_of_one_host_and_some_of_each_of_many(hosts, each):
    due = Due(**{f"host{number}": 50 for number in range(hosts)})
    tasks = TaskQueue(due, "cases", due, LIMITS)
    await tasks.refresh()
    await tasks.lease_more()

    leased = [50 - len(links) for links in due.links.values()]

    assert {number for number in leased if number} == {each}
    assert sum(leased) >= min(hosts * each, LIMITS.ahead)


async def test_closing_a_former_lease_leaves_the_present_one_open(tasks):
    entry, old = next(iter(tasks.open.items()))
    new = replace(old, fence=old.fence + 1)
    tasks.open[entry] = new

    tasks.close([old])
    assert tasks.open[entry] == new

    tasks.close([new])
    assert entry not in tasks.open


async def test_lost_leases_are_neither_visited_nor_open(tasks):
    [hanging] = [task for task in tasks.open.values() if task.host == "hanging"]
    busy = [task for task in tasks.open.values() if task.host == "busy"]

    tasks.drop([*busy[:2], replace(busy[2], fence=busy[2].fence - 1)])

    assert set(tasks.open) == {task.entry for task in [hanging, *busy[2:]]}
    tasks.visited(hanging)
    visits = [tasks.next(99)[0] for _ in range(3)]
    assert visits == busy[2:]
    assert tasks.next(99) is None


class Unread(Due):
    """A ledger that has not read the host of a link yet (`db.OTHER_HOST`), while that host is paused."""

    async def release(self, tasks):
        self.links["?"].extend(tasks)

    async def defer_origin(self, *_):
        return None

    def pause_seconds(self, name):
        return 60.0 if name == "busy.example" else 0.0

    def longest_pause(self, _url):
        return "busy.example"

    def has_failing_folders(self):
        return False

    def cause(self, _name):
        return "throttled", "status 429"


async def test_a_link_whose_host_was_not_read_yet_is_not_leased_again_and_again_while_that_is_paused():
    due = Unread(**{"?": 0})
    due.links["?"].append(replace(task("busy", 1), host="?", origin="http://busy.example"))
    tasks = TaskQueue(due, "cases", due, LIMITS)
    await tasks.refresh()
    await tasks.lease_more()

    assert tasks.next(MOST_PER_HOST) is None
    assert await tasks.defer_paused() == []
    assert not await tasks.refresh()
