"""All exceptions that rehost raises on purpose.

A VisitError is about one image: run/visitor.py turns it into an Outcome. An OperatorError is about the environment: it
ends the run with a message that says what to do.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from rehost.language import Message, translated

if TYPE_CHECKING:
    from rehost.model import Partial, Reason


_MOST_EVIDENCE = 500  # characters: strangers decide how long what it quotes is


class RehostError(Exception):
    """The base of all exceptions that rehost raises on purpose."""


class VisitError(RehostError):
    """An image could not be fetched or verified.

    Attributes:
        reason: the one word for the cause.
        evidence: what was observed, for the operator: a status, a type, a size; without query strings, at most
            500 characters.
        partial: what was received, if another attempt can continue from there.
        origin: the origin that failed, if a redirect led to another one than the link's.
        folder: then the folder there.
    """

    def __init__(self, reason: Reason, evidence: str = "") -> None:
        evidence = evidence if len(evidence) <= _MOST_EVIDENCE else f"{evidence[: _MOST_EVIDENCE - 3]}..."
        super().__init__(f"{reason}: {evidence}" if evidence else str(reason))
        self.reason = reason
        self.evidence = evidence
        self.partial: Partial | None = None
        self.origin: str | None = None
        self.folder = ""


class Transient(VisitError):  # noqa: N818 - the kind of cause
    """Another attempt may help.

    Attributes:
        retry_after: seconds that the origin asked us to wait (RFC 9110, section 10.2.3), or None.
    """

    def __init__(self, reason: Reason, evidence: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(reason, evidence)
        self.retry_after = retry_after


class HostUnavailable(Transient):
    """A request was not sent because requests to its host are paused; no host gets the blame."""


class SlowToAnswer(Transient):
    """No response had begun when another link could be visited instead; this says nothing about the host."""


class Permanent(VisitError):  # noqa: N818 - the kind of cause
    """Another attempt cannot help."""


class OperatorError(RehostError):
    """A problem that only the operator can solve; the message says what is wrong, where, and what to do.

    Attributes:
        messages: one or several, a line each; as a string the error is in English.
    """

    exit_status = 3  # of the command

    def __init__(self, *texts: str, **fields: object) -> None:
        """Take texts as a Message has them, `{name}` for each field; without fields, they are taken as they are."""
        self.messages = [Message(text, **fields) for text in texts]
        super().__init__("\n".join(self.messages))

    def translated(self) -> str:
        """Return the messages in the operator's language, a line each."""
        return "\n".join(map(translated, self.messages))

    def add(self, text: str, **fields: object) -> None:
        """Add a text to the messages."""
        self.messages.append(Message(text, **fields))
        self.args = ("\n".join(self.messages),)


class SettingsError(OperatorError):
    """A setting, a settings file or the command line is not valid."""

    exit_status = 2


class CatalogueError(OperatorError):
    """The operator's table cannot be read or written."""


class MissingTableError(CatalogueError):
    """The database has no table of the name that a source gives."""


class LedgerError(OperatorError):
    """Our own tables, or their database, cannot be used."""


class StoreError(OperatorError):
    """The store cannot be used: it is full, read-only, missing or failing."""


_EXTRAS = {"asyncpg": "postgresql", "fastapi": "server", "granian": "server", "obstore": "s3", "starlette": "server"}


def missing_extra(error: ModuleNotFoundError) -> SettingsError | None:
    """Return a SettingsError that says how to install the module's package if an extra of ours has it, else None."""
    package = (error.name or "").partition(".")[0]
    if (extra := _EXTRAS.get(package)) is None:
        return None
    return SettingsError(
        "{package} is not installed: run pip install '.[{extra}]' in the clone of rehost.", package=package, extra=extra
    )


def cause_of(error: BaseException) -> Message:
    """Return what an error says, in the system's words if it comes from the system."""
    return Message(getattr(error, "strerror", None) or str(error))


def shortage(error: BaseException) -> OperatorError | None:
    """Return an OperatorError if the error says that no more files can be opened, otherwise None."""
    if not isinstance(error, OSError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
        return None
    return OperatorError("There are too many open files: raise `ulimit -n`, or lower IMAGE_DOWNLOAD_CONCURRENCY.")
