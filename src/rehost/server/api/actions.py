"""The API's actions: what whoever has the token may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rehost.server.api.api import KEY, REASON, SOURCE, Api
from rehost.server.api.asking import POSITION, AskedWronglyError, Whole, Words
from rehost.server.api.operation import BusyError, Operation
from rehost.server.dashboard.run_control import RunControl

A_MONTH = 31 * 86400

PAUSED_HOST = Words("host", "The host.", 255)
SECONDS = Whole("seconds", "For how long; a pause is never shortened.", 1, A_MONTH, 86400)


@dataclass(frozen=True, slots=True)
class Done:
    """What an action came to."""

    changed: int


@dataclass(frozen=True, slots=True)
class Actions:
    """Takes actions."""

    api: Api
    starter: RunControl

    def operations(self) -> tuple[Operation, ...]:
        """Return all actions."""
        retry = "Make links that failed due now: one (key), those of a reason, or all."
        pause = "Let nobody ask a host for a while."
        return (
            Operation("POST", "/api/retry", retry, self.retry, Done, (SOURCE, KEY, POSITION, REASON)),
            Operation("POST", "/api/pause", pause, self.pause, Done, (PAUSED_HOST, SECONDS)),
            Operation("POST", "/api/resume", "End a host's pause.", self.resume, Done, (PAUSED_HOST,)),
            Operation("POST", "/api/run", "Start a run in this server.", self.run, Done, (SOURCE,), status=202),
        )

    async def retry(self, query: Mapping[str, str]) -> Done:
        """Make failed links due now; the next run visits them."""
        source, key, reason, position = (
            self.api.source(query),
            KEY.read(query),
            REASON.read(query),
            POSITION.read(query),
        )
        ledger = (await self.api.office.get()).ledger
        if key is not None:
            return Done(await ledger.forget_wait(source, key, position))
        return Done(await ledger.forget_waits(source, reason))

    async def pause(self, query: Mapping[str, str]) -> Done:
        """Leave a host alone; workers hear of it within seconds."""
        host, seconds = PAUSED_HOST.need(query).lower(), SECONDS.read(query)
        await (await self.api.office.get()).shares.pause(host, float(seconds), "paused by the operator")
        return Done(1)

    async def resume(self, query: Mapping[str, str]) -> Done:
        """Let a host be asked again; a worker that keeps to the pause already does so until it ends."""
        host = PAUSED_HOST.need(query).lower()
        return Done(int(await (await self.api.office.get()).shares.resume(host)))

    async def run(self, query: Mapping[str, str]) -> Done:
        """Start a run over a source."""
        source = self.api.source(query)
        if source not in self.api.sources:
            raise AskedWronglyError(f"The settings have no source {source}.")
        if not await self.starter.start(source):
            raise BusyError("A run that was started here is going on already.")
        return Done(1)
