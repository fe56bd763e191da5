"""What a run has come to so far, counted visit by visit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rehost.events import Recorded, RunEnded, Visited
from rehost.model import Deferred, Reason, Refused, Stored, Unchanged


@dataclass(slots=True)
class RunStats:
    """What a run has come to so far."""

    held: int = 0
    unchanged: int = 0
    adopted: int = 0
    overtaken: int = 0
    mended: int = 0
    unveiled: int = 0
    size: int = 0
    failed: Counter[Reason] = field(default_factory=Counter)

    def add(self, visited: Visited) -> None:
        """Count a visit."""
        self.size += visited.size
        match visited.outcome:
            case Stored(final_url=None):
                self.adopted += 1
            case Unchanged():
                self.unchanged += 1
            case Deferred(reason=reason) | Refused(reason=reason):
                self.failed[reason] += 1

    def record(self, recorded: Recorded) -> None:
        """Count what became of a group of outcomes."""
        self.held += recorded.held
        self.overtaken += recorded.overtaken
        if recorded.bugs:
            self.failed[Reason.BUG] += recorded.bugs

    def unveil(self, copies: int) -> None:
        """Count held copies that turned out to be decoys."""
        self.unveiled += copies

    def ended(self, source: str, seconds: float) -> RunEnded:
        """Return what the run over a source came to, after so many seconds."""
        return RunEnded(
            source,
            held=self.held,
            unchanged=self.unchanged,
            adopted=self.adopted,
            failed=dict(self.failed),
            overtaken=self.overtaken,
            mended=self.mended,
            unveiled=self.unveiled,
            size=self.size,
            seconds=seconds,
        )
