import subprocess
import sys
import tracemalloc
from collections import Counter
from math import ceil
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.fakes import FakeClock

from rehost.errors import HostUnavailable, Permanent, SlowToAnswer, Transient
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import (
    FIRST_PAUSE,
    GROWTH_ROUNDS,
    HOST_REST,
    LONGEST_PAUSE,
    Allowance,
    HostPolicy,
    HostSignal,
    Pause,
    signal_of,
)
from rehost.hosts.shares import Share
from rehost.model import Reason

TIMED_OUT = Transient(Reason.TIMED_OUT, "30 s")
THROTTLED = Transient(Reason.THROTTLED, "status 429")
GONE = Permanent(Reason.GONE, "status 404")
ERROR = Transient(Reason.ORIGIN_ERROR, "status 500")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def limiter(clock):
    return HostLimiter(clock, Random(1), concurrency=8, first_slots=8)


def share(limiter, host="a.test", slots=8, allowance=8, **more):
    limiter.apply({host: Share(slots, allowance, **({"proven": True} | more))})


def next_host(limiter, waiting):
    """Let requests wait for exactly these hosts; return the next one."""
    for host in set(limiter.waiting) - set(waiting):
        limiter.remove_waiting(host)
    for host in waiting:
        limiter.add_waiting(host)
    return limiter.next_host()


def start_all(limiter, *hosts):
    """Start requests until no host may be asked; return their hosts in order."""
    went = []
    while (host := next_host(limiter, set(hosts))) is not None:
        limiter.started(host)
        went.append(host)
    return went


def ask(limiter, error=None, host="a.test"):
    """Send one request that ends at once."""
    assert next_host(limiter, {host}) == host
    limiter.started(host)
    return limiter.finished(host, error)


def test_answer_given_up_as_slow_says_nothing_about_the_host(limiter):
    share(limiter)
    ask(limiter, TIMED_OUT)
    ask(limiter, TIMED_OUT)

    assert ask(limiter, SlowToAnswer(Reason.TIMED_OUT, "1 s")) is None
    assert limiter.pause_seconds("a.test") == 0
    assert limiter.in_flight() == {}


# fairness


def test_hosts_are_asked_in_turn(limiter):
    went = start_all(limiter, "a.test", "b.test", "c.test")

    assert len(went) == 24
    assert [set(went[n : n + 3]) for n in range(0, 24, 3)] == [{"a.test", "b.test", "c.test"}] * 8


def test_host_with_fewest_requests_in_flight_is_next(limiter):
    start_all(limiter, "slow.test")
    limiter.started("busy.test")

    assert next_host(limiter, {"slow.test", "busy.test"}) == "busy.test"
    assert next_host(limiter, {"slow.test", "busy.test", "new.test"}) == "new.test"


def test_host_served_longest_ago_is_next_even_if_another_is_quicker(limiter):
    waiting = {"quick.test", "patient.test", "third.test"}
    went = []
    for _ in range(30):
        host = next_host(limiter, waiting)
        limiter.started(host)
        next_host(limiter, waiting - {host})  # its queue is empty for a moment
        limiter.finished(host, None)
        went.append(host)

    assert {went.count(host) for host in waiting} == {10}


@given(hosts=st.lists(st.integers(1, 30), min_size=1, max_size=6), slots=st.integers(1, 40))
def test_a_domain_with_any_number_of_hosts_gets_no_more_than_its_part_of_the_requests(hosts, slots):
    limiter = HostLimiter(FakeClock(), Random(1), concurrency=slots, first_slots=slots)
    names = [f"{number}.domain{domain}.test" for domain, count in enumerate(hosts) for number in range(count)]
    for host in names:
        limiter.add_waiting(host)

    went = []
    while len(went) < slots:
        went.append(limiter.next_host())
        limiter.started(went[-1])

    domains = Counter(host.partition(".")[2] for host in went)
    assert max(domains.values()) <= ceil(slots / len(hosts))


def test_a_domain_gets_all_requests_while_it_waits_alone(limiter):
    assert len(start_all(limiter, "1.a.test", "2.a.test")) == 16


def test_requests_that_end_go_to_the_domain_that_has_fewest(limiter):
    evil = {f"{number}.evil.test" for number in range(200)}
    for host in sorted(evil)[:8]:
        limiter.started(host)
    went = []
    for host in sorted(evil)[:4]:
        limiter.finished(host, TIMED_OUT)
        went.append(next_host(limiter, evil | {"good.test"}))
        limiter.started(went[-1])

    assert went == ["good.test"] * 4


def test_last_slot_is_kept_for_other_domains_while_one_is_in_use(limiter, clock):
    limiter.started("good.test")
    evil = start_all(limiter, "1.evil.test", "2.evil.test")
    assert limiter.next_host(is_last_slot=True) is None  # no slot at any host of it
    limiter.add_waiting("3.evil.test")
    assert limiter.next_host(is_last_slot=True) == "3.evil.test"

    limiter.finished("good.test", None)
    assert limiter.next_host(is_last_slot=True) is None
    assert limiter.next_host() == "3.evil.test"

    clock.advance(11)
    assert limiter.next_host(is_last_slot=True) == "3.evil.test"
    assert len(evil) == 16


def test_hosts_of_a_domain_take_turns(limiter):
    went = start_all(limiter, *(f"{number}.a.test" for number in range(3)))

    assert [set(went[n : n + 3]) for n in range(0, 24, 3)] == [{"0.a.test", "1.a.test", "2.a.test"}] * 8


def test_an_only_host_needs_no_list_of_public_suffixes():
    code = """
import sys
from random import Random
from rehost.clock import Clock
from rehost.hosts.limiter import HostLimiter
limiter = HostLimiter(Clock(), Random(1), concurrency=8)
limiter.add_waiting("http://www.a.test")
limiter.started("http://www.a.test")
assert "tldextract" not in sys.modules
limiter.add_waiting("http://b.test")
limiter.add_waiting("http://images.a.test")
assert limiter.next_host() == "b.test"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_only_a_waiting_host_is_next(limiter):
    next_host(limiter, {"a.test", "b.test"})

    assert next_host(limiter, {"b.test"}) == "b.test"
    assert next_host(limiter, set()) is None


def test_host_without_a_share_has_the_first_slots(clock):
    limiter = HostLimiter(clock, Random(1), concurrency=8, first_slots=0)
    assert next_host(limiter, {"a.test"}) is None
    assert limiter.wanted() == {"a.test": 8}

    share(limiter, slots=1, proven=False)
    assert start_all(limiter, "a.test") == ["a.test"]

    limiter.finished("a.test", None)
    limiter.apply({})
    assert next_host(limiter, {"a.test"}) is None


def test_no_request_begins_once_the_shares_have_ended(clock, limiter):
    limiter.apply({"a.test": Share(8, 8, proven=True)}, clock.monotonic() + 60.0)
    clock.advance(59.9)
    assert next_host(limiter, {"a.test"}) == "a.test"

    clock.advance(0.1)
    assert next_host(limiter, {"a.test"}) is None

    limiter.apply({"a.test": Share(8, 8, proven=True)}, clock.monotonic() + 60.0)
    assert next_host(limiter, {"a.test"}) == "a.test"


def test_worker_wants_no_more_slots_than_it_may_have_requests_in_flight():
    limiter = HostLimiter(FakeClock(), Random(1), concurrency=8, requests=3, first_slots=0)

    next_host(limiter, {"a.example"})

    assert limiter.wanted() == {"a.example": 3}


def test_a_share_is_never_exceeded(limiter):
    share(limiter, slots=3)
    assert start_all(limiter, "a.test") == ["a.test"] * 3

    share(limiter, slots=2)
    limiter.finished("a.test", None)
    assert next_host(limiter, {"a.test"}) is None
    limiter.finished("a.test", None)
    assert next_host(limiter, {"a.test"}) == "a.test"


def test_nothing_is_learned_from_a_request_that_was_never_sent(limiter):
    share(limiter, slots=1)
    limiter.started("a.test")
    limiter.abandoned("a.test")

    assert limiter.in_flight() == {}
    assert next_host(limiter, {"a.test"}) == "a.test"


def test_recently_used_hosts_are_wanted_and_in_flight_counts_open_requests(limiter, clock):
    limiter.started("flying.test")
    limiter.started("done.test")
    limiter.finished("done.test", None)
    assert limiter.wanted() == {"flying.test": 8, "done.test": 8}
    assert limiter.in_flight() == {"flying.test": 1}

    clock.advance(60)
    assert limiter.wanted() == {"flying.test": 8}


# concurrency


@pytest.mark.parametrize(
    ("error", "signal"),
    [
        (None, HostSignal.GOOD),
        (GONE, HostSignal.GOOD),
        (Permanent(Reason.HOTLINK_REFUSED), HostSignal.GOOD),
        (THROTTLED, HostSignal.THROTTLED),
        (Transient(Reason.ORIGIN_ERROR, retry_after=5.0), HostSignal.THROTTLED),
        (ERROR, HostSignal.STRAINED),
        (TIMED_OUT, HostSignal.TIMED_OUT),
        (Transient(Reason.UNREACHABLE), HostSignal.UNREACHABLE),
        (Transient(Reason.UNRESOLVED), HostSignal.UNRESOLVED),
        (Permanent(Reason.TLS_FAILED), HostSignal.UNREACHABLE),
        (Permanent(Reason.ADDRESS_REFUSED), HostSignal.NONE),
        (Permanent(Reason.NOT_A_URL), HostSignal.NONE),
    ],
)
def test_signal_of_each_end_of_a_request(error, signal):
    assert signal_of(error) is signal


@pytest.mark.parametrize("error", [THROTTLED, TIMED_OUT])
def test_limit_halves_once_for_requests_that_were_in_flight_together(limiter, clock, error):
    share(limiter)
    start_all(limiter, "a.test")
    changes = [limiter.finished("a.test", error) for _ in range(2)]
    assert Allowance("a.test", 4, proven=True) in changes

    for _ in range(6):
        limiter.finished("a.test", None)
    clock.advance(60)
    assert len(start_all(limiter, "a.test")) == 4


def test_limit_halves_at_the_second_500_in_a_row(limiter):
    share(limiter)
    assert ask(limiter, ERROR) is None
    assert ask(limiter) is None

    assert ask(limiter, ERROR) is None
    assert ask(limiter, ERROR) == Allowance("a.test", 4, proven=True)


def test_limit_grows_slowly_and_never_above_the_setting(limiter, clock):
    share(limiter)
    ask(limiter, THROTTLED)
    clock.advance(60)
    limits = [change.slots for _ in range(1000) if (change := ask(limiter)) is not None]
    assert limits == [5, 6, 7, 8]
    assert len(start_all(limiter, "a.test")) == 8

    limiter = HostLimiter(clock, Random(1), concurrency=8, first_slots=8)
    share(limiter, allowance=4)
    for _ in range(GROWTH_ROUNDS * 4 - 1):
        assert ask(limiter) is None
    assert ask(limiter) == Allowance("a.test", 5, proven=True)


def test_limit_that_another_worker_found_holds_here_too(limiter):
    share(limiter, slots=8, allowance=2)

    assert len(start_all(limiter, "a.test")) == 2


def test_own_limit_is_not_replaced_by_an_older_one_from_the_ledger(limiter, clock):
    share(limiter)
    ask(limiter, THROTTLED)  # its limit is reported, or about to be
    share(limiter, allowance=8)
    clock.advance(60)

    assert len(start_all(limiter, "a.test")) == 4


# pauses


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.ORIGIN_ERROR])
def test_retry_after_pauses_the_host_and_no_other(limiter, clock, reason):
    change = ask(limiter, Transient(reason, "status 503", retry_after=120.0))

    assert isinstance(change, Pause)
    assert (change.host, change.reason, change.evidence) == ("a.test", reason, "status 503")
    assert 120 <= change.seconds <= 121
    assert limiter.pause_seconds("a.test") == pytest.approx(change.seconds)
    assert limiter.cause("a.test") == (reason, "status 503")
    assert next_host(limiter, {"a.test", "b.test"}) == "b.test"

    clock.advance(119.9)
    assert next_host(limiter, {"a.test"}) is None
    assert limiter.next_time() == pytest.approx(clock.monotonic() + limiter.pause_seconds("a.test"))
    clock.advance(2)
    assert next_host(limiter, {"a.test"}) == "a.test"


def test_pauses_grow_longer_than_retry_after_when_the_host_keeps_throttling(limiter, clock):
    pauses = []
    for _ in range(9):
        ask(limiter, Transient(Reason.THROTTLED, "status 429", retry_after=7.0))
        pauses.append(limiter.pause_seconds("a.test"))
        clock.advance(pauses[-1])

    assert all(7 <= pause <= 8 for pause in pauses[:5])
    assert pauses[5] > 20
    assert pauses[5:] == sorted(pauses[5:])
    assert pauses[-1] <= LONGEST_PAUSE * 1.25

    ask(limiter)
    ask(limiter, Transient(Reason.THROTTLED, "status 429", retry_after=7.0))
    assert 7 <= limiter.pause_seconds("a.test") <= 8


def test_throttling_of_requests_in_flight_together_counts_once(limiter):
    share(limiter)
    start_all(limiter, "a.test")
    for _ in range(8):
        limiter.finished("a.test", Transient(Reason.THROTTLED, "status 429", retry_after=7.0))

    assert 7 <= limiter.pause_seconds("a.test") <= 8


WEEK = 7 * 86400.0


def ask_folder(limiter, folder, error=None):
    limiter.started("http://a.test")
    return limiter.finished(f"http://a.test{folder}picture.jpg", error)


@pytest.mark.parametrize(
    ("error", "times"),
    [(Transient(Reason.THROTTLED, "status 429", retry_after=WEEK), 1), (ERROR, 10), (TIMED_OUT, 3)],
)
def test_a_folder_that_never_answered_well_pauses_itself_and_not_its_host(limiter, error, times):
    share(limiter)
    news = [ask_folder(limiter, "/api/", error) for _ in range(times)][-1]

    assert isinstance(news, Pause)
    assert news.host == "http://a.test/api/"
    assert limiter.pause_seconds("http://a.test/api/") == pytest.approx(news.seconds)
    assert news.seconds >= 10
    assert limiter.pause_seconds("a.test") <= HOST_REST
    assert limiter.pause_seconds("http://a.test/pics/") == 0
    with pytest.raises(HostUnavailable):
        limiter.check_not_paused("http://a.test/api/another.jpg?x")


def test_folders_that_fail_in_a_row_pause_their_host(limiter):
    share(limiter)
    throttled = Transient(Reason.THROTTLED, "status 429", retry_after=3600.0)

    hosts = [ask_folder(limiter, f"/{number}/", throttled).host for number in range(3)]

    assert hosts == ["http://a.test/0/", "http://a.test/1/", "a.test"]
    assert limiter.pause_seconds("a.test") >= 3600


def test_a_good_answer_of_another_folder_clears_the_host(limiter):
    share(limiter)
    for number in range(9):
        ask_folder(limiter, f"/{number}/", TIMED_OUT)
        ask_folder(limiter, f"/{number}/", TIMED_OUT)
        ask_folder(limiter, "/pics/")

    assert limiter.pause_seconds("a.test") == 0


def test_a_folder_that_answered_well_speaks_for_its_host(limiter):
    share(limiter)
    ask_folder(limiter, "/pics/")

    news = ask_folder(limiter, "/pics/", Transient(Reason.THROTTLED, "status 429", retry_after=3600.0))

    assert news.host == "a.test"
    assert limiter.pause_seconds("a.test") >= 3600


def test_throttling_without_retry_after_pauses_longer_each_time_up_to_a_minute(limiter, clock):
    pauses = []
    for _ in range(12):
        ask(limiter, THROTTLED)
        pauses.append(limiter.pause_seconds("a.test"))
        clock.advance(61)

    assert all(0.5 * 2 ** (n + 1) <= pauses[n] <= 2 ** (n + 1) for n in range(5))
    assert all(30 <= pause <= 60 for pause in pauses[6:])


def test_breaker_opens_after_failures_in_a_row_and_one_request_decides(limiter, clock):
    share(limiter)
    ask(limiter, TIMED_OUT)
    ask(limiter, TIMED_OUT)
    change = ask(limiter, TIMED_OUT)
    assert isinstance(change, Pause)
    assert change.reason is Reason.TIMED_OUT
    assert change.evidence == "3 failures in a row (last: 30 s)"
    assert FIRST_PAUSE * 0.75 <= change.seconds <= FIRST_PAUSE * 1.25

    clock.advance(change.seconds)
    assert start_all(limiter, "a.test") == ["a.test"]
    longer = limiter.finished("a.test", TIMED_OUT)
    assert FIRST_PAUSE * 3 <= longer.seconds <= FIRST_PAUSE * 5

    clock.advance(longer.seconds)
    assert start_all(limiter, "a.test") == ["a.test"]
    limiter.finished("a.test", None)
    assert len(start_all(limiter, "a.test")) >= 1
    assert limiter.pause_seconds("a.test") == 0


def test_a_good_answer_between_failures_keeps_the_breaker_closed(limiter):
    for _ in range(20):
        assert not isinstance(ask(limiter, Transient(Reason.UNREACHABLE)), Pause)
        assert not isinstance(ask(limiter, Transient(Reason.UNREACHABLE)), Pause)
        assert not isinstance(ask(limiter, GONE), Pause)


def test_dead_host_is_asked_fewer_than_25_times_in_eight_hours(limiter, clock):
    asked = 0
    for _ in range(8 * 60):  # eight hours, minute by minute
        for _ in start_all(limiter, "dead.test"):
            asked += 1
            clock.advance(30)
            limiter.finished("dead.test", TIMED_OUT)
        clock.advance(60)

    assert asked < 25
    assert limiter.pause_seconds("dead.test") <= LONGEST_PAUSE * 1.25


def test_failures_that_end_during_a_pause_do_not_lengthen_it(limiter, clock):
    share(limiter)
    start_all(limiter, "a.test")
    changes = [limiter.finished("a.test", TIMED_OUT) for _ in range(8)]

    assert sum(isinstance(change, Pause) for change in changes) == 1
    assert limiter.pause_seconds("a.test") <= FIRST_PAUSE * 1.25


def test_host_that_only_answers_500_is_paused_after_ten(limiter):
    changes = [ask(limiter, ERROR) for _ in range(10)]

    assert [isinstance(change, Pause) for change in changes] == [False] * 9 + [True]


def test_pause_of_another_worker_is_kept_and_never_shortened(limiter, clock):
    limiter.pause(Pause("a.test", 100.0, "it refuses everything", Reason.HOTLINK_REFUSED))
    limiter.pause(Pause("a.test", 10.0, "shorter"))
    share(limiter, slots=0, pause_seconds=101.0)
    assert limiter.pause_seconds("a.test") == pytest.approx(100)
    assert limiter.cause("a.test") == (Reason.HOTLINK_REFUSED, "it refuses everything")

    share(limiter, slots=0, pause_seconds=500.0)
    assert limiter.pause_seconds("a.test") == pytest.approx(500)
    assert next_host(limiter, {"a.test"}) is None


# requests without a slot, delays, budgets


def test_a_pause_of_another_worker_comes_with_its_evidence(limiter):
    share(limiter, slots=0, pause_seconds=60.0, evidence="paused by the operator")

    assert limiter.cause("a.test") == (Reason.THROTTLED, "paused by the operator")


def test_request_without_a_slot_is_refused_while_the_host_is_paused(limiter, clock):
    limiter.check_not_paused("http://a.test")
    change = limiter.finished_unscheduled("a.test", Transient(Reason.THROTTLED, "status 429", retry_after=120.0))

    assert isinstance(change, Pause)
    with pytest.raises(HostUnavailable, match="throttled: status 429") as caught:
        limiter.check_not_paused("http://a.test")
    assert caught.value.retry_after == limiter.pause_seconds("a.test")
    clock.advance(122)
    limiter.check_not_paused("http://a.test")
    assert limiter.in_flight() == {}


def test_requests_under_way_before_a_pause_do_not_lengthen_it(limiter, clock):
    throttled = Transient(Reason.THROTTLED, "status 429", retry_after=7.0)
    for _ in range(5):
        changes = [
            limiter.finished_unscheduled("a.test", throttled) for _ in range(8)
        ]  # all of them were under way at once
        assert changes[1:] == [None] * 7
        assert 7 <= limiter.pause_seconds("a.test") <= 8
        clock.advance(8)


def test_minimum_delay_is_kept_between_requests(clock):
    limiter = HostLimiter(clock, Random(1), concurrency=8, first_slots=8, policy_for=lambda _: HostPolicy(2.0))
    share(limiter)
    assert start_all(limiter, "a.test") == ["a.test"]
    assert limiter.next_time() == clock.monotonic() + 2

    clock.advance(1.9)
    assert next_host(limiter, {"a.test"}) is None
    clock.advance(0.1)
    assert start_all(limiter, "a.test") == ["a.test"]


def test_minimum_delay_holds_over_all_workers_together(clock):
    limiter = HostLimiter(clock, Random(1), concurrency=8, first_slots=8, policy_for=lambda _: HostPolicy(2.0))
    share(limiter, slots=2, allowance=8)
    start_all(limiter, "a.test")

    assert limiter.next_time() == clock.monotonic() + 8


def test_daily_budget_is_the_operators_for_each_host(clock):
    limiter = HostLimiter(clock, Random(1), concurrency=8, policy_for=lambda host: HostPolicy(0.0, len(host)))

    assert limiter.daily_budget("a.test") == 6
    limiter.started("long.test")
    assert limiter.daily_budget("long.test") == 9


# bounds


def test_hosts_with_nothing_to_remember_are_dropped(limiter, clock):
    for n in range(1000):
        ask(limiter, host=f"{n}.test")
    clock.advance(60)
    next_host(limiter, {"a.test"})
    limiter.wanted()
    next_host(limiter, {"a.test"})
    limiter.wanted()

    assert len(limiter) <= 1


def test_next_of_ten_thousand_waiting_hosts_is_found_in_fifty_checks(clock):
    class CountedHost(str):
        """A host that counts how often it is looked up."""

        __slots__ = ()
        lookups = 0

        def __hash__(self):
            CountedHost.lookups += 1
            return super().__hash__()

    limiter = HostLimiter(clock, Random(1), concurrency=8, first_slots=1)
    for number in range(10_000):
        limiter.add_waiting(CountedHost(f"{number}.test"))
    CountedHost.lookups = 0
    went = []
    for _ in range(10_000):
        went.append(limiter.next_host())
        limiter.started(went[-1])

    assert CountedHost.lookups <= 10_000 * 50
    assert len(set(went)) == 10_000


def test_memory_does_not_grow_with_the_number_of_requests(clock):
    limiter = HostLimiter(clock, Random(1), concurrency=8, first_slots=8)
    limiter.add_waiting("idle.test")  # always first, so the entries of the others never reach the top
    limiter.add_waiting("busy.test")

    def send(requests):
        for _ in range(requests):
            limiter.started("busy.test")
            limiter.started("busy.test")
            limiter.finished("busy.test", None)
            limiter.finished("busy.test", None)
            assert limiter.next_host() == "idle.test"

    send(500)
    tracemalloc.start()
    send(2000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert grown < 100_000


def test_new_host_is_not_starved_by_thousands_of_quick_ones(limiter):
    waiting = dict.fromkeys(f"{n}.test" for n in range(2000))
    next_host(limiter, waiting)
    waiting["new.test"] = None
    went = []
    while "new.test" not in went:
        went.append(next_host(limiter, waiting))
        limiter.started(went[-1])
        limiter.finished(went[-1], None)

    assert len(went) <= 2000 + 2000 / 32 + 1


HOSTS = ["a.test", "b.test", "c.test", "d.test"]
SIGNS = st.sampled_from(
    [
        None,
        GONE,
        THROTTLED,
        TIMED_OUT,
        ERROR,
        Permanent(Reason.NOT_A_URL),
        Transient(Reason.THROTTLED, retry_after=40.0),
    ]
)


class HostLimiterMachine(RuleBasedStateMachine):
    """No host gets more than its share, none is asked while paused, and none that may be asked is passed over."""

    @initialize(first=st.integers(0, 2))
    def begin(self, first):
        self.clock = FakeClock()
        self.limiter = HostLimiter(
            self.clock,
            Random(5),
            concurrency=6,
            first_slots=first,
            policy_for=lambda host: HostPolicy(3.0 * (host == "d.test")),
        )
        self.first = first
        self.slots = {}
        self.flying = dict.fromkeys(HOSTS, 0)
        self.ready_at = {}

    @rule(waiting=st.sets(st.sampled_from(HOSTS)))
    def open_turn(self, waiting):
        host = next_host(self.limiter, waiting)
        if host is None:
            assert not [other for other in waiting if self.may_be_asked(other)]
            return
        assert host in waiting
        assert self.may_be_asked(host)
        assert all(self.flying[host] <= self.flying[other] for other in waiting if self.may_be_asked(other))
        self.limiter.started(host)
        self.flying[host] += 1
        if host == "d.test":  # a worker with one of six slots waits for the other five, too
            self.ready_at[host] = self.clock.monotonic() + 3.0 * self.limiter.pacing(host).delay_factor()

    def may_be_asked(self, host):
        room = min(self.slots.get(host, self.first), self.limiter.pacing(host).room())
        waits = self.limiter.pause_seconds(host) > 0 or self.clock.monotonic() < self.ready_at.get(host, 0.0)
        return self.flying[host] < room and not waits

    @rule(host=st.sampled_from(HOSTS), error=SIGNS)
    def end_request(self, host, error):
        if self.flying[host]:
            before = self.limiter.pause_seconds(host)
            change = self.limiter.finished(host, error)
            self.flying[host] -= 1
            assert self.limiter.pause_seconds(host) >= before
            if isinstance(change, Pause):
                assert change.seconds == pytest.approx(self.limiter.pause_seconds(host))
            elif change:
                assert 1 <= change.slots <= 6

    @rule(host=st.sampled_from(HOSTS), error=SIGNS)
    def pass_by(self, host, error):
        before = self.limiter.pause_seconds(host)
        if before:
            with pytest.raises(HostUnavailable):
                self.limiter.check_not_paused(f"http://{host}")
        else:
            self.limiter.check_not_paused(f"http://{host}")
        self.limiter.finished_unscheduled(host, error)
        assert self.limiter.pause_seconds(host) >= before

    @rule(host=st.sampled_from(HOSTS))
    def abandon(self, host):
        if self.flying[host]:
            self.limiter.abandoned(host)
            self.flying[host] -= 1

    @rule(
        slots=st.dictionaries(st.sampled_from(HOSTS), st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.0, 30.0])))
    )
    def share(self, slots):
        shares = {host: Share(number, 6, pause, proven=True) for host, (number, pause) in slots.items()}
        self.limiter.apply(shares)
        self.slots = {host: each.slots for host, each in shares.items()}

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0, 4000.0]))
    def wait(self, seconds):
        self.clock.advance(seconds)
        self.limiter.wanted()

    @precondition(lambda self: self.limiter.next_time() is not None)
    @rule()
    def wait_for_the_next(self):
        self.clock.advance(max(0.0, self.limiter.next_time() - self.clock.monotonic()))

    @invariant()
    def counts_agree(self):
        if hasattr(self, "flying"):
            assert self.limiter.in_flight() == {host: number for host, number in self.flying.items() if number}


TestHostLimiterMachine = HostLimiterMachine.TestCase
