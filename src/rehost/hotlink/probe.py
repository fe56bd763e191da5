"""One link, asked under one Referer after another: what it gave each time, and the spools that must not be left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from rehost.errors import Permanent, VisitError
from rehost.model import Download, Image, Reason
from rehost.run.visitor import Prove

Proven = tuple[Download, Image]
Answer = Proven | VisitError
"""What a request came to: a picture, or a refusal."""

Sighting = tuple[str, str | None]
"""Where bytes were seen: a link's URL, and the page that it stands on."""

_REFUSALS = frozenset({Reason.HOTLINK_REFUSED, Reason.NOT_AN_IMAGE, Reason.DECOY})
"""What another Referer may cure: 401, 403, 451, a page in place of the picture, a notice; no 404, no time-out."""


@dataclass(slots=True)
class LinkProbe:
    """The asking about one link. Use as a context manager: what is not taken is removed at its end."""

    url: str
    page_url: str | None
    chain: tuple[str, ...]
    header: Callable[[str, str, str | None], str | None]  # rule, URL, page -> Referer
    prove: Prove
    answers: dict[str, Answer] = field(default_factory=dict)
    decoys: set[str] = field(default_factory=set)  # rules under which a decoy came
    is_refused: bool = False  # counted as such, once however often it is gone through
    is_repeated: bool = False
    _spools: list[Download] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for download in self._spools:
            download.spool.unlink(missing_ok=True)

    def take(self, rule: str) -> Proven:
        """Return the picture that came under a rule; its spool is the caller's now."""
        proven = self.answers[rule]
        assert not isinstance(proven, VisitError)
        self._spools.remove(proven[0])
        return proven

    async def ask(self, rule: str, *, extra: bool) -> Answer:
        """Ask for the link under a rule, once only if it is an extra request.

        Raises:
            VisitError: what no other Referer would cure.
        """
        answer = await self.try_under(rule, extra=extra)
        if isinstance(answer, VisitError) and not is_refusal(answer):
            raise answer
        return answer

    async def try_under(self, rule: str, *, extra: bool = True) -> Answer:
        """Ask for the link under a rule; whatever comes is an answer, a picture or a refusal is kept."""
        answer = await self.ask_for(self.url, self.page_url, rule, extra=extra)
        if not isinstance(answer, VisitError) or is_refusal(answer):
            self.answers[rule] = answer
        return answer

    async def ask_for(self, url: str, page_url: str | None, rule: str, *, extra: bool = True) -> Answer:
        """Ask for any URL of the origin, by the same means."""
        try:
            proven = await self.prove(url, self.header(rule, url, page_url), once=extra)
        except VisitError as error:
            return error
        self._spools.append(proven[0])
        return proven

    def failure(self) -> Permanent:
        """Return why the link has no picture, of all the answers the one that says most."""
        refusals = [answer for answer in self.answers.values() if isinstance(answer, VisitError)]
        reasons = {error.reason for error in refusals} | ({Reason.DECOY} if self.decoys else set())
        reason = next(word for word in (Reason.DECOY, Reason.HOTLINK_REFUSED, Reason.NOT_AN_IMAGE) if word in reasons)
        return Permanent(reason, self.evidence())

    def evidence(self) -> str:
        """Return what came under each rule, in a line."""
        return "; ".join(f"{rule}: {self._said(rule, answer)}" for rule, answer in self.answers.items())

    def _said(self, rule: str, answer: Answer) -> str:
        if isinstance(answer, VisitError):
            return answer.evidence or str(answer.reason)
        return f"a decoy ({answer[0].digest[:12]})" if rule in self.decoys else "a picture"


def is_refusal(error: VisitError) -> bool:
    """Return whether another Referer might have been answered otherwise."""
    return error.reason in _REFUSALS
