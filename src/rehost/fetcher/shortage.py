"""No more files can be opened: nothing that an origin did, and so the end of the run, not of a visit."""

from __future__ import annotations

import errno

from rehost.errors import OperatorError


def shortage(error: BaseException) -> OperatorError | None:
    """Return what an error means where it says that too many files are open; None where it says something else."""
    if not isinstance(error, OSError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
        return None
    return OperatorError("There are too many open files: raise `ulimit -n`, or lower IMAGE_DOWNLOAD_CONCURRENCY.")
