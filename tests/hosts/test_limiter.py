from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.fakes import FakeClock

from rehost.errors import HostUnavailable, Permanent, SlowToAnswer, Transient
from rehost.hosts.daily_quota import Draw, Drawn
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import (
    FIRST_PAUSE,
    GROWTH_ROUNDS,
    LARGEST_PART,
    LONGEST_PAUSE,
    Allowance,
    HostPolicy,
    HostSignal,
    Pause,
    sign_of,
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
def polite(clock):
    return HostLimiter(clock, Random(1), concurrency=8, first_slots=8)


def share(polite, host="a.test", slots=8, allowance=8, **more):
    polite.apply({host: Share(slots, allowance, **({"proven": True} | more))})


def start_all(polite, *hosts):
    """Start requests until none may be; return to whom they went."""
    went = []
    while (host := polite.next_host(set(hosts))) is not None:
        polite.started(host)
        went.append(host)
    return went


def ask(polite, error=None, host="a.test"):
    """Send one request that ends at once."""
    assert polite.next_host({host}) == host
    polite.started(host)
    return polite.finished(host, error)


def test_an_answer_that_was_not_waited_for_says_nothing_of_the_host(polite):
    share(polite)
    ask(polite, TIMED_OUT)
    ask(polite, TIMED_OUT)

    assert ask(polite, SlowToAnswer(Reason.TIMED_OUT, "1 s")) is None
    assert polite.pause_seconds("a.test") == 0
    assert polite.in_flight() == {}


# fairness


def test_hosts_take_turns(polite):
    went = start_all(polite, "a.test", "b.test", "c.test")

    assert len(went) == 24
    assert [set(went[n : n + 3]) for n in range(0, 24, 3)] == [{"a.test", "b.test", "c.test"}] * 8


def test_whoever_has_fewest_in_flight_is_next(polite):
    start_all(polite, "slow.test")
    polite.started("busy.test")

    assert polite.next_host({"slow.test", "busy.test"}) == "busy.test"
    assert polite.next_host({"slow.test", "busy.test", "new.test"}) == "new.test"


def test_whoever_was_served_longest_ago_is_next_and_a_quick_host_does_not_push_in(polite):
    waiting = {"quick.test", "patient.test", "third.test"}
    went = []
    for _ in range(30):
        host = polite.next_host(waiting)
        polite.started(host)
        polite.next_host(waiting - {host})  # its queue is empty for a moment
        polite.finished(host, None)
        went.append(host)

    assert {went.count(host) for host in waiting} == {10}


def test_nobody_is_asked_who_does_not_wait(polite):
    polite.next_host({"a.test", "b.test"})

    assert polite.next_host({"b.test"}) == "b.test"
    assert polite.next_host(set()) is None


def test_a_host_without_a_share_gets_what_is_given_at_first(clock):
    polite = HostLimiter(clock, Random(1), concurrency=8, first_slots=0)
    assert polite.next_host({"a.test"}) is None
    assert polite.wanted() == {"a.test": 8}

    share(polite, slots=1, proven=False)
    assert start_all(polite, "a.test") == ["a.test"]

    polite.finished("a.test", None)
    polite.apply({})
    assert polite.next_host({"a.test"}) is None


def test_a_worker_wishes_for_no_more_than_it_may_have_in_flight():
    polite = HostLimiter(FakeClock(), Random(1), concurrency=8, requests=3, first_slots=0)

    polite.next_host({"a.example"})

    assert polite.wanted() == {"a.example": 3}


def test_a_share_is_never_exceeded(polite):
    share(polite, slots=3)
    assert start_all(polite, "a.test") == ["a.test"] * 3

    share(polite, slots=2)
    polite.finished("a.test", None)
    assert polite.next_host({"a.test"}) is None
    polite.finished("a.test", None)
    assert polite.next_host({"a.test"}) == "a.test"


def test_what_was_never_sent_teaches_nothing(polite):
    share(polite, slots=1)
    polite.started("a.test")
    polite.abandoned("a.test")

    assert polite.in_flight() == {}
    assert polite.next_host({"a.test"}) == "a.test"


def test_wishes_are_of_late_and_in_flight_counts_what_flies(polite, clock):
    polite.started("flying.test")
    polite.started("done.test")
    polite.finished("done.test", None)
    assert polite.wanted() == {"flying.test": 8, "done.test": 8}
    assert polite.in_flight() == {"flying.test": 1}

    clock.advance(60)
    assert polite.wanted() == {"flying.test": 8}


# concurrency


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (None, HostSignal.GOOD),
        (GONE, HostSignal.GOOD),
        (Permanent(Reason.HOTLINK_REFUSED), HostSignal.GOOD),
        (THROTTLED, HostSignal.THROTTLED),
        (Transient(Reason.ORIGIN_ERROR, retry_after=5.0), HostSignal.THROTTLED),
        (ERROR, HostSignal.STRAINED),
        (TIMED_OUT, HostSignal.TIMED_OUT),
        (Transient(Reason.UNREACHABLE), HostSignal.UNREACHABLE),
        (Transient(Reason.UNRESOLVED), HostSignal.UNREACHABLE),
        (Permanent(Reason.TLS_FAILED), HostSignal.UNREACHABLE),
        (Permanent(Reason.ADDRESS_REFUSED), HostSignal.NONE),
        (Permanent(Reason.NOT_A_URL), HostSignal.NONE),
    ],
)
def test_every_end_of_a_request_is_a_sign(error, sign):
    assert sign_of(error) is sign


@pytest.mark.parametrize("error", [THROTTLED, TIMED_OUT])
def test_concurrency_halves_once_for_what_happened_at_once(polite, clock, error):
    share(polite)
    start_all(polite, "a.test")
    changes = [polite.finished("a.test", error) for _ in range(2)]
    assert Allowance("a.test", 4, proven=True) in changes

    for _ in range(6):
        polite.finished("a.test", None)
    clock.advance(60)
    assert len(start_all(polite, "a.test")) == 4


def test_one_500_is_the_pictures_own_and_a_second_in_a_row_is_the_hosts(polite):
    share(polite)
    assert ask(polite, ERROR) is None
    assert ask(polite) is None

    assert ask(polite, ERROR) is None
    assert ask(polite, ERROR) == Allowance("a.test", 4, proven=True)


def test_concurrency_grows_slowly_again_and_never_above_the_setting(polite, clock):
    share(polite)
    ask(polite, THROTTLED)
    clock.advance(60)
    told = [change.slots for _ in range(1000) if (change := ask(polite)) is not None]
    assert told == [5, 6, 7, 8]
    assert len(start_all(polite, "a.test")) == 8

    polite = HostLimiter(clock, Random(1), concurrency=8, first_slots=8)
    share(polite, allowance=4)
    for _ in range(GROWTH_ROUNDS * 4 - 1):
        assert ask(polite) is None
    assert ask(polite) == Allowance("a.test", 5, proven=True)


def test_what_the_other_workers_found_holds_here_too(polite):
    share(polite, slots=8, allowance=2)

    assert len(start_all(polite, "a.test")) == 2


def test_own_news_is_not_lost_to_an_older_answer_of_the_ledger(polite, clock):
    share(polite)
    ask(polite, THROTTLED)  # told, or about to be told
    share(polite, allowance=8)
    clock.advance(60)

    assert len(start_all(polite, "a.test")) == 4


# pauses


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.ORIGIN_ERROR])
def test_retry_after_pauses_the_host_and_no_other(polite, clock, reason):
    change = ask(polite, Transient(reason, "status 503", retry_after=120.0))

    assert isinstance(change, Pause)
    assert (change.host, change.reason, change.evidence) == ("a.test", reason, "status 503")
    assert 120 <= change.seconds <= 121
    assert polite.pause_seconds("a.test") == pytest.approx(change.seconds)
    assert polite.cause("a.test") == (reason, "status 503")
    assert polite.next_host({"a.test", "b.test"}) == "b.test"

    clock.advance(119.9)
    assert polite.next_host({"a.test"}) is None
    assert polite.next_time() == pytest.approx(clock.monotonic() + polite.pause_seconds("a.test"))
    clock.advance(2)
    assert polite.next_host({"a.test"}) == "a.test"


def test_a_retry_after_that_is_obeyed_again_and_again_in_vain_becomes_longer(polite, clock):
    pauses = []
    for _ in range(9):
        ask(polite, Transient(Reason.THROTTLED, "status 429", retry_after=7.0))
        pauses.append(polite.pause_seconds("a.test"))
        clock.advance(pauses[-1])

    assert all(7 <= pause <= 8 for pause in pauses[:5])
    assert pauses[5] > 20
    assert pauses[5:] == sorted(pauses[5:])
    assert pauses[-1] <= LONGEST_PAUSE * 1.25

    ask(polite)
    ask(polite, Transient(Reason.THROTTLED, "status 429", retry_after=7.0))
    assert 7 <= polite.pause_seconds("a.test") <= 8


def test_throttling_of_what_was_in_flight_at_once_counts_once(polite):
    share(polite)
    start_all(polite, "a.test")
    for _ in range(8):
        polite.finished("a.test", Transient(Reason.THROTTLED, "status 429", retry_after=7.0))

    assert 7 <= polite.pause_seconds("a.test") <= 8


def test_throttling_without_a_time_pauses_longer_each_time_up_to_a_minute(polite, clock):
    pauses = []
    for _ in range(12):
        ask(polite, THROTTLED)
        pauses.append(polite.pause_seconds("a.test"))
        clock.advance(61)

    assert all(0.5 * 2 ** (n + 1) <= pauses[n] <= 2 ** (n + 1) for n in range(5))
    assert all(30 <= pause <= 60 for pause in pauses[6:])


def test_the_breaker_opens_after_failures_in_a_row_and_one_probe_decides(polite, clock):
    share(polite)
    ask(polite, TIMED_OUT)
    ask(polite, TIMED_OUT)
    change = ask(polite, TIMED_OUT)
    assert isinstance(change, Pause)
    assert change.reason is Reason.TIMED_OUT
    assert change.evidence == "3 failures in a row, the last: 30 s"
    assert FIRST_PAUSE * 0.75 <= change.seconds <= FIRST_PAUSE * 1.25

    clock.advance(change.seconds)
    assert start_all(polite, "a.test") == ["a.test"]
    longer = polite.finished("a.test", TIMED_OUT)
    assert FIRST_PAUSE * 3 <= longer.seconds <= FIRST_PAUSE * 5

    clock.advance(longer.seconds)
    assert start_all(polite, "a.test") == ["a.test"]
    polite.finished("a.test", None)
    assert len(start_all(polite, "a.test")) >= 1
    assert polite.pause_seconds("a.test") == 0


def test_a_good_answer_between_failures_keeps_the_breaker_closed(polite):
    for _ in range(20):
        assert not isinstance(ask(polite, Transient(Reason.UNREACHABLE)), Pause)
        assert not isinstance(ask(polite, Transient(Reason.UNREACHABLE)), Pause)
        assert not isinstance(ask(polite, GONE), Pause)


def test_the_seven_hundredth_failure_of_a_dead_origin_does_not_cost_seven_hundred_time_outs(polite, clock):
    asked = 0
    for _ in range(8 * 60):  # eight hours, minute by minute
        for _ in start_all(polite, "dead.test"):
            asked += 1
            clock.advance(30)
            polite.finished("dead.test", TIMED_OUT)
        clock.advance(60)

    assert asked < 25
    assert polite.pause_seconds("dead.test") <= LONGEST_PAUSE * 1.25


def test_failures_that_end_during_a_pause_do_not_lengthen_it(polite, clock):
    share(polite)
    start_all(polite, "a.test")
    changes = [polite.finished("a.test", TIMED_OUT) for _ in range(8)]

    assert sum(isinstance(change, Pause) for change in changes) == 1
    assert polite.pause_seconds("a.test") <= FIRST_PAUSE * 1.25


def test_a_host_that_only_answers_500_is_left_alone_in_the_end(polite):
    changes = [ask(polite, ERROR) for _ in range(10)]

    assert [isinstance(change, Pause) for change in changes] == [False] * 9 + [True]


def test_a_pause_that_somebody_else_found_is_heeded_and_never_shortened(polite, clock):
    polite.heed(Pause("a.test", 100.0, "it refuses everything", Reason.HOTLINK_REFUSED))
    polite.heed(Pause("a.test", 10.0, "shorter"))
    share(polite, slots=0, pause_seconds=101.0)
    assert polite.pause_seconds("a.test") == pytest.approx(100)
    assert polite.cause("a.test") == (Reason.HOTLINK_REFUSED, "it refuses everything")

    share(polite, slots=0, pause_seconds=500.0)
    assert polite.pause_seconds("a.test") == pytest.approx(500)
    assert polite.next_host({"a.test"}) is None


# manners


def test_no_request_passes_to_a_host_that_is_left_alone(polite, clock):
    assert polite.passes("a.test")
    change = polite.passed("a.test", Transient(Reason.THROTTLED, "status 429", retry_after=120.0))

    assert isinstance(change, Pause)
    with pytest.raises(HostUnavailable, match="throttled: status 429") as caught:
        polite.passes("a.test")
    assert caught.value.retry_after == polite.pause_seconds("a.test")
    clock.advance(122)
    assert polite.passes("a.test")
    assert polite.in_flight() == {}


def test_what_passed_before_a_host_was_left_alone_tells_nothing_new(polite, clock):
    throttled = Transient(Reason.THROTTLED, "status 429", retry_after=7.0)
    for _ in range(5):
        changes = [polite.passed("a.test", throttled) for _ in range(8)]  # all of them were under way at once
        assert changes[1:] == [None] * 7
        assert 7 <= polite.pause_seconds("a.test") <= 8
        clock.advance(8)


def test_a_least_delay_is_kept_between_requests(clock):
    polite = HostLimiter(clock, Random(1), concurrency=8, first_slots=8, manners=lambda _: HostPolicy(2.0))
    share(polite)
    assert start_all(polite, "a.test") == ["a.test"]
    assert polite.next_time() == clock.monotonic() + 2

    clock.advance(1.9)
    assert polite.next_host({"a.test"}) is None
    clock.advance(0.1)
    assert start_all(polite, "a.test") == ["a.test"]


def test_a_least_delay_holds_over_all_workers_together(clock):
    polite = HostLimiter(clock, Random(1), concurrency=8, first_slots=8, manners=lambda _: HostPolicy(2.0))
    share(polite, slots=2, allowance=8)
    start_all(polite, "a.test")

    assert polite.next_time() == clock.monotonic() + 8


@pytest.fixture
def thrifty(clock):
    """A worker that may send what it has drawn to a.test, and as much as it likes to others."""

    def manners(host):
        return HostPolicy(0.0, 3 if host == "a.test" else None)

    return HostLimiter(clock, Random(1), concurrency=8, first_slots=8, manners=manners)


def test_of_a_host_with_a_budget_no_more_is_asked_than_was_drawn(thrifty):
    share(thrifty)
    assert thrifty.next_host({"a.test"}) is None
    assert thrifty.draws() == {"a.test": Draw(3, LARGEST_PART)}

    thrifty.fill({"a.test": Drawn(2, 20, 3600.0)})
    assert start_all(thrifty, "a.test", "b.test").count("a.test") == 2
    thrifty.finished("a.test", None)
    assert thrifty.next_host({"a.test"}) is None


def test_who_starts_a_request_says_that_a_part_runs_out(thrifty):
    share(thrifty)
    thrifty.next_host({"a.test"})
    thrifty.fill({"a.test": Drawn(LARGEST_PART, 20, 3600.0)})
    assert thrifty.draws() == {}

    said = [ask_for_part(thrifty) for _ in range(LARGEST_PART)]

    assert said == [False] * (LARGEST_PART - LARGEST_PART // 4 - 1) + [True] * (LARGEST_PART // 4 + 1)
    assert not thrifty.started("b.test")


def ask_for_part(polite, host="a.test"):
    assert polite.next_host({host}) == host
    said = polite.started(host)
    polite.finished(host, None)
    return said


def test_a_budget_that_is_used_up_is_a_pause_until_the_day_ends(thrifty, clock):
    share(thrifty)
    thrifty.next_host({"a.test", "b.test"})
    thrifty.fill({"a.test": Drawn(0, 20, 3600.0)})

    assert thrifty.cause("a.test") == (Reason.THROTTLED, "the day's budget of 3 requests is used up")
    assert thrifty.pause_seconds("a.test") == 3600.0
    assert thrifty.draws() == {}  # it would be in vain
    assert thrifty.next_host({"a.test", "b.test"}) == "b.test"

    clock.advance(3600.0)
    thrifty.next_host({"a.test"})
    assert thrifty.draws() == {"a.test": Draw(3, LARGEST_PART, 20)}
    thrifty.fill({"a.test": Drawn(1, 21, 86400.0)})
    assert start_all(thrifty, "a.test") == ["a.test"]


def test_a_part_ends_with_its_day(thrifty, clock):
    share(thrifty)
    thrifty.next_host({"a.test"})
    thrifty.fill({"a.test": Drawn(3, 20, 60.0)})
    clock.advance(58.0)  # by the ledger's clock the day may be over

    share(thrifty)
    assert thrifty.next_host({"a.test"}) is None
    assert thrifty.draws() == {"a.test": Draw(3, LARGEST_PART, 20)}


def test_a_part_is_given_back_when_a_host_is_idle_and_when_the_worker_leaves(thrifty, clock):
    share(thrifty)
    thrifty.next_host({"a.test"})
    thrifty.fill({"a.test": Drawn(3, 20, 3600.0)})
    ask(thrifty)
    thrifty.next_host(set())
    assert thrifty.draws() == {"a.test": Draw(3, LARGEST_PART - 2, 20)}  # asked of late

    clock.advance(60.0)
    assert thrifty.draws() == {"a.test": Draw(3, -2, 20)}
    assert thrifty.draws(leaving=True) == {}

    thrifty.next_host({"a.test"})
    thrifty.fill({"a.test": Drawn(1, 20, 3600.0)})
    assert thrifty.draws(leaving=True) == {"a.test": Draw(3, -1, 20)}
    assert thrifty.next_host({"a.test"}) is None


def test_without_budgets_nothing_is_drawn(polite):
    ask(polite)
    assert polite.draws() == polite.draws(leaving=True) == {}


# bounds


def test_hosts_without_anything_to_remember_are_forgotten(polite, clock):
    for n in range(1000):
        ask(polite, host=f"{n}.test")
    clock.advance(60)
    polite.next_host({"a.test"})
    polite.wanted()
    polite.next_host({"a.test"})
    polite.wanted()

    assert len(polite._paces) <= 1


def test_with_ten_thousand_waiting_hosts_a_turn_costs_a_look_at_fifty(clock):
    class Counting(dict):
        looked = 0

        def __contains__(self, key):
            self.looked += 1
            return super().__contains__(key)

        def __iter__(self):
            self.looked += len(self)
            return super().__iter__()

    waiting = Counting.fromkeys(f"{n}.test" for n in range(10_000))
    polite = HostLimiter(clock, Random(1), concurrency=8, first_slots=1)
    went = []
    for _ in range(10_000):
        went.append(polite.next_host(waiting))
        polite.started(went[-1])

    assert len(set(went)) == 10_000
    assert waiting.looked <= 10_000 * 50


def test_a_newcomer_is_not_kept_waiting_by_thousands_of_quick_hosts(polite):
    waiting = dict.fromkeys(f"{n}.test" for n in range(2000))
    polite.next_host(waiting)
    waiting["new.test"] = None
    went = []
    while "new.test" not in went:
        went.append(polite.next_host(waiting))
        polite.started(went[-1])
        polite.finished(went[-1], None)

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


class Polite(RuleBasedStateMachine):
    """No host gets more than its share, none is asked in its pause, and none that may be asked is forgotten."""

    @initialize(first=st.integers(0, 2))
    def begin(self, first):
        self.clock = FakeClock()
        self.polite = HostLimiter(
            self.clock,
            Random(5),
            concurrency=6,
            first_slots=first,
            manners=lambda host: HostPolicy(3.0 * (host == "d.test")),
        )
        self.first = first
        self.slots = {}
        self.flying = dict.fromkeys(HOSTS, 0)
        self.ready_at = {}

    @rule(waiting=st.sets(st.sampled_from(HOSTS)))
    def open_turn(self, waiting):
        host = self.polite.next_host(waiting)
        if host is None:
            assert not [other for other in waiting if self.may_be_asked(other)]
            return
        assert host in waiting
        assert self.may_be_asked(host)
        assert all(self.flying[host] <= self.flying[other] for other in waiting if self.may_be_asked(other))
        self.polite.started(host)
        self.flying[host] += 1
        if host == "d.test":  # who has one of six slots waits for the five others, too
            self.ready_at[host] = self.clock.monotonic() + 3.0 * self.polite._paces[host]._workers()

    def may_be_asked(self, host):
        pace = self.polite._paces.get(host)
        room = min(self.slots.get(host, self.first), pace.room(self.clock.monotonic()) if pace else 6)
        waits = self.polite.pause_seconds(host) > 0 or self.clock.monotonic() < self.ready_at.get(host, 0.0)
        return self.flying[host] < room and not waits

    @rule(host=st.sampled_from(HOSTS), error=SIGNS)
    def end_request(self, host, error):
        if self.flying[host]:
            before = self.polite.pause_seconds(host)
            change = self.polite.finished(host, error)
            self.flying[host] -= 1
            assert self.polite.pause_seconds(host) >= before
            if isinstance(change, Pause):
                assert change.seconds == pytest.approx(self.polite.pause_seconds(host))
            elif change:
                assert 1 <= change.slots <= 6

    @rule(host=st.sampled_from(HOSTS), error=SIGNS)
    def pass_by(self, host, error):
        before = self.polite.pause_seconds(host)
        if before:
            with pytest.raises(HostUnavailable):
                self.polite.passes(host)
        else:
            assert self.polite.passes(host)
        self.polite.passed(host, error)
        assert self.polite.pause_seconds(host) >= before

    @rule(host=st.sampled_from(HOSTS))
    def abandon(self, host):
        if self.flying[host]:
            self.polite.abandoned(host)
            self.flying[host] -= 1

    @rule(
        slots=st.dictionaries(st.sampled_from(HOSTS), st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.0, 30.0])))
    )
    def share(self, slots):
        shares = {host: Share(number, 6, pause, proven=True) for host, (number, pause) in slots.items()}
        self.polite.apply(shares)
        self.slots = {host: each.slots for host, each in shares.items()}

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0, 4000.0]))
    def wait(self, seconds):
        self.clock.advance(seconds)
        self.polite.wanted()

    @precondition(lambda self: self.polite.next_time() is not None)
    @rule()
    def wait_for_the_next(self):
        self.clock.advance(max(0.0, self.polite.next_time() - self.clock.monotonic()))

    @invariant()
    def counts_agree(self):
        if hasattr(self, "flying"):
            assert self.polite.in_flight() == {host: number for host, number in self.flying.items() if number}


TestPolite = Polite.TestCase
