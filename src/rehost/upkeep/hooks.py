"""What the operator has called after a takedown: a command or a URL, for instance to purge a CDN (`[hooks]`)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from rehost.errors import cause_of

log = logging.getLogger(__name__)

HOOK_SECONDS = 60.0
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Hook:
    """A command that gets JSON as its input, or a URL that gets it by POST. What fails in it stops nothing else."""

    target: str = ""  # as in the settings: an http(s) URL, or a command without a shell; empty for none
    seconds: float = HOOK_SECONDS  # after which it is ended

    async def call(self, event: Mapping[str, object]) -> str:
        """Pass an event on; return why that failed, in words, or an empty text."""
        problem, data = "", json.dumps(event).encode()
        try:
            async with asyncio.timeout(self.seconds):
                if self.target.lower().startswith(("http://", "https://")):
                    problem = await asyncio.to_thread(self._post, data)
                elif self.target:
                    problem = await self._run(data)
        except TimeoutError:
            problem = f"no end after {self.seconds:g} s"
        except (OSError, ValueError) as error:
            problem = cause_of(error)
        if problem:
            log.warning("hook failed target=%r error=%r", self.target, problem)
        return problem

    def _post(self, data: bytes) -> str:
        import urllib.request  # noqa: PLC0415 - most runs call no URL
        from http.client import HTTPException  # noqa: PLC0415 - as above

        request = urllib.request.Request(self.target, data, {"Content-Type": "application/json"})  # noqa: S310 - the operator's
        try:
            with urllib.request.urlopen(request, timeout=self.seconds):  # noqa: S310 - as above
                return ""
        except HTTPException as error:  # such as an answer that is no HTTP
            return f"{type(error).__name__}: {error}"

    async def _run(self, data: bytes) -> str:
        """Run the command, and end it with all that it has started if this is cancelled."""
        process = await asyncio.create_subprocess_exec(
            *shlex.split(self.target), stdin=asyncio.subprocess.PIPE, stdout=_STDERR, start_new_session=True
        )
        try:
            await process.communicate(data)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        return f"exit status {process.returncode}" if process.returncode else ""
