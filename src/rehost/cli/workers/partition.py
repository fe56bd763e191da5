"""What the command line asks of a run, and what each of its processes is to do of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rehost.settings import Settings


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line asks of a run, besides the settings."""

    source: str | None = None
    retry: str | None = None
    log_file: Path | None = None
    is_quiet: bool = False
    is_verbose: bool = False


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """What one process of a crew is to do."""

    settings: Settings
    wish: RunOptions
    requests: int  # of the command's concurrency


def shares(settings: Settings, wish: RunOptions, workers: int, cores: int) -> list[WorkerShare]:
    """Divide requests and decoders among workers; never more workers than requests."""
    number = min(workers, settings.concurrency)
    decoders = max(1, (settings.decode_processes or cores) // number)
    own = replace(settings, decode_processes=decoders)
    part, rest = divmod(settings.concurrency, number)
    return [WorkerShare(own, wish, part + (index < rest)) for index in range(number)]
