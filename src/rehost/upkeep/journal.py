"""The run under which upkeep records what it changes, so that `rehost undo` can take it back."""

from __future__ import annotations

from collections.abc import Mapping

from rehost.events import RunEnded
from rehost.ledger.history import Runs


class Journal:
    """One run over all sources, which begins with the first change: what changes nothing leaves no run."""

    def __init__(self, runs: Runs, verb: str) -> None:
        """Record under the runs of this worker, as runs of this verb."""
        self.runs = runs
        self._verb = verb
        self._parts: dict[str, int] = {}  # source -> number of its part; that of the first source is the run's

    @property
    def run(self) -> int | None:
        """Return the number of the run that `rehost undo` takes; None if nothing has changed."""
        return next(iter(self._parts.values()), None)

    async def begin(self, source: str) -> int:
        """Return the number of the run, after beginning its part over a source if it has none yet."""
        if source not in self._parts:
            self._parts[source] = await self.runs.begin(source, self.run, self._verb)
        assert self.run is not None
        return self.run

    async def end(self, ends: Mapping[str, RunEnded]) -> None:
        """Record how the run ended, by source; a source that is left out has changed no picture."""
        for source, number in self._parts.items():
            await self.runs.end(number, ends.get(source, RunEnded(source, held=0, unchanged=0, adopted=0)))
