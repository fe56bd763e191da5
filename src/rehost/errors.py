"""What can go wrong, as one tree.

RehostError
├── VisitError(reason)            about one image: becomes an Outcome, in run/visitor.py and nowhere else
│   ├── Transient(retry_after)    a second try may cure it
│   │   ├── Withheld              we did not ask: the operator's word, not the origin's
│   │   └── Unanswered            we did not wait for long: it is asked again last
│   └── Permanent                 a second try cannot cure it
└── OperatorError                 about the environment: ends the run with a sentence that says what to do
    ├── SettingsError             usage or a setting                       exit status 2
    ├── CatalogueError            the operator's table                     exit status 3
    ├── LedgerError               our tables, the database as a whole      exit status 3
    └── StoreError                the disk or bucket that holds the copies exit status 3
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rehost.model import Partial, Reason


class RehostError(Exception):
    """Anything that rehost raises on purpose."""


class VisitError(RehostError):
    """One image could not be had.

    Attributes:
        reason: the one word for the cause.
        evidence: what was seen, for the operator: a status, a type, a size. No query strings.
        partial: what has arrived so far, where a next attempt may go on from it.
        host: whose doing it is, where that is another host than the link's own: a redirect led there.
    """

    def __init__(self, reason: Reason, evidence: str = "", *, partial: Partial | None = None) -> None:
        super().__init__(f"{reason}: {evidence}" if evidence else str(reason))
        self.reason = reason
        self.evidence = evidence
        self.partial = partial
        self.host: str | None = None


class Transient(VisitError):  # noqa: N818 - the kind of cause
    """A second try may cure it.

    Attributes:
        retry_after: seconds that the origin asked us to wait (RFC 9110, section 10.2.3), or None.
    """

    def __init__(
        self,
        reason: Reason,
        evidence: str = "",
        *,
        retry_after: float | None = None,
        partial: Partial | None = None,
    ) -> None:
        super().__init__(reason, evidence, partial=partial)
        self.retry_after = retry_after


class HostUnavailable(Transient):
    """A request on the way to the picture was not sent, for its host is to be left alone; no host is blamed for it."""


class SlowToAnswer(Transient):
    """No answer had begun when another link was to have the turn; nothing is said of the host."""


class Permanent(VisitError):  # noqa: N818 - the kind of cause
    """A second try cannot cure it."""


class OperatorError(RehostError):
    """Something that only the operator can mend; the message says what, which and how."""

    exit_status = 3


class SettingsError(OperatorError):
    """A setting, a file of settings or the command line is not usable."""

    exit_status = 2


class CatalogueError(OperatorError):
    """The operator's table cannot be read or written."""


class LedgerError(OperatorError):
    """Our own tables, or the database that holds them, cannot be used."""


class StoreError(OperatorError):
    """The place of the copies cannot be used: full, read-only, not there, failing."""


def shortage(error: BaseException) -> OperatorError | None:
    """Return what an error means where it says that no more files can be opened; None where it says something else."""
    if not isinstance(error, OSError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
        return None
    return OperatorError("There are too many open files: raise `ulimit -n`, or lower IMAGE_DOWNLOAD_CONCURRENCY.")
