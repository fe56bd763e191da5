"""Asks origins again for pictures that are held, and takes what has changed; never what would be worse.

A picture that came in place of another one waits in its spool, under the lease of its link, until it is known what the
rest of its origin sends: readers never see what an origin that has turned against us sends.

An origin freezes when more than MOST_BAD of its answers, and at least LEAST_BAD, are worse than what is held: a picture
of less than half the bytes or half the pixels, the same new picture for links that had different ones, or no picture
where the visit before found one. Then nothing more of it is asked for or taken, what this refresh has taken is put
back, and the operator decides.

A failure that passes (a timeout, a 5xx, a pause) counts as no answer; answers to the refreshes of the last weeks count
as well, because each may ask for a few links only. An origin is judged once it has given KNOWN answers, or when the
refresh ends.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cachetools import LRUCache

from rehost.clock import Clock
from rehost.events import Listener, Planned, Visited
from rehost.http.url import has_no_scheme, read_origin
from rehost.ledger.freezes import Example, Former, Freeze, Freezes, Picture, RefreshFilter, Standing
from rehost.model import Copy, Outcome, Reason, Stored, Task, Unchanged
from rehost.run.limits import Limits
from rehost.run.run import Components
from rehost.run.stats import RunStats
from rehost.upkeep.journal import Journal
from rehost.upkeep.putback import PutBack
from rehost.upkeep.visits import HeldVisits, keep_copy

MOST_BAD = 0.05  # of an origin's answers
LEAST_BAD = 3
KNOWN = 60  # answers of an origin after which three bad ones are a twentieth
EXAMPLES = 5  # of an origin
MOST_WAITING = 300  # changed pictures that wait for the judgement of their origins
MOST_WAITING_BYTES = 1 << 30
_REMEMBERED = 20_000  # origins, and digests that came in place of others; those used longest ago are dropped

NO_PICTURE = frozenset({
    *(Reason.GONE, Reason.HOTLINK_REFUSED, Reason.NOT_AN_IMAGE, Reason.DECOY, Reason.EMPTY),
    *(Reason.UNSUPPORTED_FORMAT, Reason.SVG, Reason.CORRUPT, Reason.UNEXPECTED_STATUS),
})  # fmt: skip
"""What an origin answers that has no picture where one was."""


SMALLER, SAME_PICTURE = "smaller", "same-picture"
"""Kinds of answers that are worse than what is held, beside the reasons of NO_PICTURE."""


@dataclass(slots=True)
class OriginAnswers:
    """What one origin answered in this refresh."""

    origin: str
    before: tuple[int, int] = (0, 0)  # answers to earlier refreshes, and how many were worse
    answers: int = 0
    bad: Counter[str] = field(default_factory=Counter)  # by kind
    examples: list[Example] = field(default_factory=list)
    waiting: dict[int, Stored] = field(default_factory=dict)  # by entry
    worse: set[int] = field(default_factory=set)  # entries of `waiting`

    @property
    def is_known(self) -> bool:
        """Return whether there are enough answers to judge the origin before the last one."""
        return self.total[0] >= KNOWN

    @property
    def total(self) -> tuple[int, int]:
        """Return the number of all answers that count, and how many were worse."""
        return self.before[0] + self.answers, self.before[1] + self.bad.total()

    @property
    def is_worse(self) -> bool:
        """Return whether too many answers are worse than what is held."""
        number, bad = self.total
        return bool(self.bad) and bad >= LEAST_BAD and bad > MOST_BAD * number

    @property
    def evidence(self) -> str:
        """Return how many answers of each kind are worse."""
        return ", ".join(f"{kind} {number}" for kind, number in self.bad.most_common())

    def add_worse(self, entry: int, kind: str, example: Example) -> None:
        """Count an answer, which was counted already, as worse than what is held."""
        if example.came is not None:
            self.worse.add(entry)
        self.bad[kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(replace(example, kind=kind))


class Judge:
    """Judges what comes, and lets changed pictures wait until their origins are judged."""

    def __init__(self, freezes: Freezes, standing: Standing) -> None:
        """Take the ledger's freezes, and what was frozen before."""
        self.asked = self.current = self.untaken = 0
        self.kept: Counter[Reason] = Counter()  # nothing better came
        self.froze: set[str] = set()  # origins, in this refresh
        self._freezes = freezes
        self._standing = standing
        self._origins: LRUCache[str, OriginAnswers] = LRUCache(_REMEMBERED)
        self._waiting: dict[int, OriginAnswers] = {}  # by entry, in the order in which they came
        self._waiting_bytes = 0
        self.is_out_of_time = False
        self._begun: dict[int, Task] = {}  # by entry: asked for, and no answer yet
        self._visits: HeldVisits | None = None
        self._run = 0
        # What came first in place of another picture, by origin and digest; None for the link once it counts as worse.
        self._came: LRUCache[tuple[str, str], tuple[int | None, Example]] = LRUCache(_REMEMBERED)

    def begin(self, visits: HeldVisits, run: int) -> None:
        """Judge from now on what comes in these visits, under the number of this run."""
        self._visits, self._run = visits, run

    def ask(self, task: Task) -> Task:
        """Remember that a link is asked for now, and return it."""
        self._begun[task.entry] = task
        return task

    async def judge(self, visited: Visited) -> Outcome | None:
        """Return what to record for a visit; None for a changed picture, which waits."""
        outcome = await keep_copy(visited)
        task, reason = outcome.task, outcome.reason if isinstance(outcome, Unchanged) else None
        self.asked += 1
        self._begun.pop(task.entry, None)
        self.current += isinstance(outcome, Unchanged) and reason is None
        self.kept.update([reason] if reason is not None else [])
        change = outcome if isinstance(outcome, Stored) and task.has_own_copy else None
        is_answer = change is not None or (isinstance(outcome, Unchanged) and (reason is None or reason in NO_PICTURE))
        if not is_answer or task.copy is None:
            return outcome
        answers = await self._answers_of(task.origin)
        if change is None and reason is None:
            answers.answers += 1
        else:
            former = await self._freezes.former(task.entry)
            if task.origin in self._standing.frozen:
                return self._left(outcome)
            self._count(answers, outcome, task.copy, former)
        if change is not None:
            answers.waiting[task.entry], self._waiting[task.entry] = change, answers
            self._waiting_bytes += change.copy.size
        if answers.is_known and answers.is_worse:
            await self._freeze(answers)
        elif self._is_full():
            await self._make_room()
        return None if change is not None else outcome

    async def _answers_of(self, origin: str) -> OriginAnswers:
        if origin not in self._origins:
            before = await self._freezes.answers_before(origin)
            self._origins.setdefault(origin, OriginAnswers(origin, before))
        return self._origins[origin]

    async def remember(self) -> None:
        """Let the answers of origins that are not frozen count in the next refreshes."""
        kept = [each for each in self._origins.values() if each.origin not in self._standing.frozen and each.answers]
        await self._freezes.add_answers([(each.origin, each.answers, each.bad.total()) for each in kept])

    async def judge_all(self) -> None:
        """Judge the origins of all pictures that wait, and those that sent nothing else."""
        for answers in {id(each): each for each in (*self._waiting.values(), *self._origins.values())}.values():
            if answers.origin not in self._standing.frozen:
                await self._decide(answers)
        if self.is_out_of_time:  # or an origin that never answers would be asked first again, and nothing else
            for task in self._begun.values():
                await self._put(Unchanged(task, reason=Reason.TIMED_OUT, evidence="no answer before the refresh ended"))
        self._begun.clear()

    def _count(self, answers: OriginAnswers, outcome: Outcome, held: Copy, former: Former) -> None:
        """Count an answer other than that the copy is current."""
        task, came = outcome.task, outcome if isinstance(outcome, Stored) else None
        picture = _picture(came) if came is not None else None
        evidence = outcome.evidence if isinstance(outcome, Unchanged) else None
        example = Example(
            *(task.link.source, task.link.row_key, task.link.position, task.link.url),
            held=Picture(held.size, held.digest, former.width, former.height),
            came=picture,
            kind=outcome.reason or "" if isinstance(outcome, Unchanged) else "",
            evidence=evidence,
        )
        kind: str | None = example.kind
        if picture is not None:
            kind = SMALLER if _is_smaller(example.held, picture) else self._same_picture(answers, task.entry, example)
        if former.is_rescued or (kind and kind == former.reason):
            return  # that was so before, and says nothing new about the origin
        answers.answers += 1
        if kind and not self._standing.is_accepted(task.origin, former.asked_at):
            answers.add_worse(task.entry, kind, example)

    def _same_picture(self, answers: OriginAnswers, entry: int, example: Example) -> str | None:
        """Return the kind of a picture that came before in place of a different one, which counts then as well."""
        assert example.came is not None
        place = answers.origin, example.came.digest
        first, other = self._came.setdefault(place, (entry, example))
        if other.held.digest == example.held.digest:
            return None
        if first is not None:
            self._came[place] = None, other
            answers.add_worse(first, SAME_PICTURE, other)
        return SAME_PICTURE

    async def _decide(self, answers: OriginAnswers) -> None:
        if answers.is_worse:
            await self._freeze(answers)
        else:
            for outcome in self._taken(answers, with_worse=True):
                await self._put(outcome)

    def _is_full(self) -> bool:
        return len(self._waiting) > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES

    async def _make_room(self) -> None:
        """Judge origins before they have answered enough, those first whose pictures wait for longest."""
        while self._is_full():
            answers = next(iter(self._waiting.values()))
            if answers.is_worse:
                await self._freeze(answers)
                continue
            taken = self._taken(answers, with_worse=False) or self._taken(answers, with_worse=True)
            for outcome in taken:
                await self._put(outcome)

    async def _freeze(self, answers: OriginAnswers) -> None:
        """Take nothing of an origin any more, and ask it for nothing."""
        if answers.origin in self._standing.frozen:
            return
        self._standing.frozen.add(answers.origin)
        self.froze.add(answers.origin)
        freeze = Freeze(answers.origin, self._run, answers.evidence, *answers.total, tuple(answers.examples))
        await self._freezes.add(freeze)
        for outcome in self._taken(answers, with_worse=True):
            await self._put(self._left(outcome))

    def _taken(self, answers: OriginAnswers, *, with_worse: bool) -> Sequence[Stored]:
        """Return the pictures of an origin that wait, perhaps without those that are worse; they wait no more."""
        taken = [entry for entry in answers.waiting if with_worse or entry not in answers.worse]
        outcomes = [answers.waiting.pop(entry) for entry in taken]
        answers.worse.difference_update(taken)
        for outcome in outcomes:
            self._waiting.pop(outcome.task.entry, None)
            self._waiting_bytes -= outcome.copy.size
        return outcomes

    def _left(self, outcome: Outcome) -> Outcome:
        """Return that the copy stays, where a picture came from an origin that has frozen."""
        if not isinstance(outcome, Stored):
            return outcome
        self.untaken += 1
        if outcome.spool is not None:
            outcome.spool.unlink(missing_ok=True)
        return Unchanged(outcome.task, evidence=f"its origin is frozen: {outcome.copy.digest[:12]} was not taken")

    async def _put(self, outcome: Outcome) -> None:
        assert self._visits is not None, "begin comes first"
        await self._visits.put(outcome)


def _is_smaller(held: Picture, came: Picture) -> bool:
    """Return whether a picture has less than half the bytes or half the pixels."""
    pixels = (held.width or 0) * (held.height or 0)
    return 2 * came.size < held.size or 2 * (came.width or 0) * (came.height or 0) < pixels


def _picture(came: Stored) -> Picture:
    return Picture(came.copy.size, came.copy.digest, came.image.width, came.image.height)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did; numbers of links unless said otherwise."""

    run: int | None  # that `rehost undo` takes; None if nothing was due
    asked: int
    current: int  # the origin has the same picture still
    replaced: int  # by changed pictures
    untaken: int  # changed pictures of origins that froze
    kept: Mapping[Reason, int]  # nothing better came, for these reasons
    put_back: int  # that a refresh had replaced before their origin froze
    left: int  # due, and not asked for
    frozen: Sequence[Freeze]  # what waits for the operator's decision
    size: int  # bytes received
    seconds: float
    interrupted: bool


class Refresh:
    """One refresh over one or several sources."""

    def __init__(self, sources: Sequence[Components], limits: Limits, clock: Clock, listen: Listener) -> None:
        """Take the parts of each source; they share ledger and store."""
        self._sources = {each.recorder.catalogue.name: each for each in sources}
        self._limits = limits
        self._clock = clock
        self._listen = listen
        self._stop = asyncio.Event()
        self._is_interrupted = False
        self._runs = sources[0].ledger.runs
        self._freezes = Freezes(sources[0].ledger.database)
        self._journal = Journal(self._runs, "refresh")

    def stop(self) -> None:
        """Ask for nothing more; what is in flight is finished and recorded within seconds."""
        self._is_interrupted = True
        self._stop.set()

    async def execute(
        self, which: RefreshFilter, *, seconds: float | None = None, most: int | None = None
    ) -> Refreshed:
        """Ask again for held pictures, those first that were not asked for longest; return what came of it.

        Args:
            which: the links.
            seconds: after which nothing more is asked for; None for no limit.
            most: links to ask for; None for no limit.

        Raises:
            OperatorError: the database or the store cannot be used. What is recorded stays.
        """
        started = self._clock.monotonic()
        put_back = 0
        for each in await self._freezes.all():
            if each.is_open:  # a kill may have come before this was done
                put_back += await self._put_back(each.run, {each.origin})
        standing = await self._freezes.standing()
        judge, stats = Judge(self._freezes, standing), dict[str, RunStats]()
        due = {name: sum((await self._freezes.count(name, which, standing)).values()) for name in self._sources}
        timer = asyncio.create_task(self._stop_after(seconds, judge))
        try:
            for name, number in due.items():
                planned = number if most is None else min(number, most - judge.asked)
                if planned > 0 and not self._stop.is_set():
                    stats[name] = await self._visit(name, which, judge, standing, planned)
        finally:
            timer.cancel()
            await asyncio.wait({timer})
        await judge.remember()
        await self._freezes.end_accepted()
        if judge.froze and (run := self._journal.run) is not None:
            put_back += await self._put_back(run, judge.froze)
        seconds = self._clock.monotonic() - started
        ends = {
            name: replace(each.ended(name, seconds), interrupted=self._is_interrupted) for name, each in stats.items()
        }
        await self._journal.end(ends)
        return Refreshed(
            run=self._journal.run,
            asked=judge.asked,
            current=judge.current,
            replaced=sum(each.held for each in ends.values()),
            untaken=judge.untaken,
            kept=dict(judge.kept.most_common()),
            put_back=put_back,
            left=max(0, sum(due.values()) - judge.asked),
            frozen=[each for each in await self._freezes.all() if each.is_open],
            size=sum(each.size for each in ends.values()),
            seconds=seconds,
            interrupted=self._is_interrupted,
        )

    async def _stop_after(self, seconds: float | None, judge: Judge) -> None:
        if seconds is not None:
            await self._clock.sleep(seconds)
            judge.is_out_of_time = True
            self._stop.set()

    async def _visit(
        self, source: str, which: RefreshFilter, judge: Judge, standing: Standing, number: int
    ) -> RunStats:
        run = await self._journal.begin(source)
        self._listen(Planned(source, present=number, held=number, due=number, later=0))
        visits = HeldVisits(self._sources[source], self._limits, self._clock, self._listen, self._stop, run)
        judge.begin(visits, run)
        await visits.visit(
            _first(self._freezes.due(source, which, standing), number),
            judge.judge,
            judge.ask,
            skips=lambda task: task.origin in standing.frozen,
            finish=judge.judge_all,
            only_changes=True,
        )
        return visits.stats

    async def _put_back(self, run: int, origins: set[str]) -> int:
        """Put back what a refresh has taken from origins that froze, and return how many; again, it finds nothing."""
        number = 0
        for source, parts in self._sources.items():
            last, put_back = 0, PutBack(parts.recorder, parts.visitor.verifier)
            while changes := await self._runs.changes(run, source, last):
                last = changes[-1].number
                taken = [each for each in changes if each.is_replaced and each.entry is not None]
                theirs = [each for each in taken if any(_is_of(each.url, origin) for origin in origins)]
                number += (await put_back.put_back(run, theirs)).back
        return number


async def _first(groups: AsyncIterator[Sequence[int]], number: int) -> AsyncIterator[Sequence[int]]:
    """Yield the groups up to so many links."""
    async for group in groups:
        yield group[:number]
        number -= len(group)
        if number <= 0:
            return


def _is_of(url: str, origin: str) -> bool:
    """Return whether a link is of an origin; one without a scheme is of both."""
    schemes = ("http:", "https:") if has_no_scheme(url) else ("",)
    return any(read_origin(scheme + url) == origin for scheme in schemes)
