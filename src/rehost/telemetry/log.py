"""The log: one canonical line per visit, to stderr and to the file that the operator names."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import TracebackException
from types import TracebackType
from typing import TextIO

from rehost.errors import SettingsError, cause_of
from rehost.events import (
    CopiesSuspected,
    Event,
    HostDeferred,
    Listener,
    OriginChanged,
    OriginLearned,
    OriginPaused,
    Planned,
    RunEnded,
    Visited,
)
from rehost.model import Deferred, Reason, Refused, Stored, Unchanged
from rehost.telemetry.format import field, plain

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"
DATE_FORMAT = "%Y-%m-%dT%H:%M:%S"

_log = logging.getLogger(__name__)


def log_event(event: Event) -> None:
    """Write the log line of an event, if it has one; a listener."""
    match event:
        case Visited():
            _log_visit(event)
        case CopiesSuspected():
            seen = {"source": event.source, "host": event.host, "digest": event.digest}
            _log_fields("copies suspected to be decoys", logging.WARNING, copies=event.copies, **seen)
        case OriginLearned() | OriginChanged():
            word = "origin" if isinstance(event, OriginLearned) else "origin changed"
            _log_fields(word, origin=event.origin, referer=event.referer, evidence=event.evidence)
        case OriginPaused():
            _log_fields("pause", host=event.host, seconds=f"{event.seconds:.1f}", evidence=event.evidence)
        case HostDeferred():
            why: dict[str, str | int] = {"reason": event.reason, "evidence": event.evidence}
            _log_fields("host deferred", host=event.host, links=event.links, **why, wait=round(event.seconds))
        case Planned():
            _log_fields(
                "plan", source=event.source, present=event.present, held=event.held, due=event.due, later=event.later
            )
        case RunEnded():
            _log_run(event)
        case _:
            pass


def _log_run(ended: RunEnded) -> None:
    for each in ended.sources or (ended,):
        failed = sum(each.failed.values())
        counts = {"held": each.held, "unchanged": each.unchanged, "failed": failed, "bytes": each.size}
        state = "interrupted" if each.interrupted else "ended"
        _log_fields("run", source=each.source, **counts, seconds=f"{each.seconds:.1f}", state=state)


def _log_visit(event: Visited) -> None:
    level = logging.INFO
    if isinstance(event.outcome, Deferred | Refused):
        is_bug, is_cleared = event.outcome.reason is Reason.BUG, event.outcome.decoy is not None
        level = logging.ERROR if is_bug else logging.WARNING if is_cleared else logging.INFO
    if _log.isEnabledFor(level):
        _log.log(level, "%s", visit_line(event))


def visit_line(event: Visited) -> str:
    """Return the one line of a visit.

    Such as `visit stored row=297041 origin=oss.adquan.com bytes=400869 ms=212 attempt=1 source=cases`.
    """
    link = event.outcome.task.link
    fields: dict[str, str | int] = {
        "row": f"{link.row_key}#{link.position}" if link.position else link.row_key,
        "origin": event.origin.rpartition("://")[2],
        "bytes": event.size,
        "ms": round(event.seconds * 1000),
        "attempt": event.attempts,
        "source": link.source,
    }
    match event.outcome:
        case Stored():
            word = "stored"
        case Unchanged():
            word = "unchanged"
        case Deferred() | Refused() as outcome:
            word = "deferred" if isinstance(outcome, Deferred) else "refused"
            fields |= {"reason": outcome.reason, "evidence": outcome.evidence, "wait": round(outcome.wait_seconds)}
            fields |= {"decoy_removed": outcome.decoy} if outcome.decoy is not None else {}
    return f"visit {word} {_fields(fields)}"


@contextmanager
def logging_to(stream: TextIO, file: Path | None, *, verbose: bool) -> Iterator[None]:
    """Write rehost's log to a stream (warnings; if `verbose`, every visit) and to a file (every visit).

    Only its owner may read a file that this creates: the log names rows and links.

    Raises:
        SettingsError: the file cannot be written.
    """
    logger = logging.getLogger("rehost")
    handlers: list[logging.Handler] = [_StreamHandler(stream)]
    handlers[0].setLevel(logging.INFO if verbose else logging.WARNING)
    if file is not None:
        try:
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            handlers.append(_FileHandler(file, handlers[0]))
        except OSError as error:
            raise SettingsError(
                "The log file {file} cannot be written ({cause}): choose another.", file=file, cause=cause_of(error)
            ) from error
    formatter = _Formatter(FORMAT, DATE_FORMAT)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO if verbose or file is not None else logging.WARNING)
    logger.propagate = False
    for handler in handlers:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before[0])
        logger.propagate = before[1]
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def together(*listeners: Listener) -> Listener:
    """Return one listener that calls all of these."""

    def listen(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return listen


_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Formatter(logging.Formatter):
    """Writes a record on one line, a traceback below it; nothing within a message, or an exception's, starts a line."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return plain(super().formatMessage(record))

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - as above
        if ei[1] is None:
            return super().formatException(ei)
        found = TracebackException(*ei)
        _escape(found)
        return "\n".join(map(plain, "".join(found.format()).removesuffix("\n").split("\n")))


def _escape(found: TracebackException) -> None:
    """Put the text of an exception, and of those that led to it or are in it, on one line each."""
    setattr(found, "_str", plain(getattr(found, "_str")))  # noqa: B009, B010 - no public name, in Python 3.11 to 3.14
    found.__notes__ = [plain(str(note)) for note in found.__notes__ or ()]
    for other in (found.__cause__, found.__context__, *(found.exceptions or ())):
        if other is not None:
            _escape(other)


class _FileHandler(logging.FileHandler):
    """Says once, on another handler, that the file cannot be written; the run goes on without those lines."""

    def __init__(self, file: Path, other: logging.Handler) -> None:
        super().__init__(file, encoding="utf-8")
        self._other: logging.Handler | None = other

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error, other = sys.exception(), self._other
        if not isinstance(error, OSError):
            super().handleError(record)
        elif other is not None:
            self._other = None
            sentence = f"The log file {self.baseFilename} cannot be written ({cause_of(error)}): it lacks lines."
            other.handle(logging.LogRecord(record.name, logging.WARNING, record.pathname, 0, sentence, (), None))

    def close(self) -> None:
        with suppress(OSError):  # of a last line that cannot be written either
            super().close()


class _StreamHandler(logging.Handler):
    """Writes above the progress bar, if there is one."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=self._stream)
        except (OSError, ValueError):  # closed stream or broken pipe: a log line never stops a run
            self.handleError(record)


def _log_fields(word: str, level: int = logging.INFO, /, **values: str | int) -> None:
    _log.log(level, "%s", f"{word} {_fields(values)}")


def _fields(values: dict[str, str | int]) -> str:
    return " ".join(f"{name}={field(str(value))}" for name, value in values.items())
