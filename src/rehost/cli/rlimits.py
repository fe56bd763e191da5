"""Open files: as many as a run may need are asked of the system before it begins."""

from __future__ import annotations

import os
import resource

from rehost.errors import OperatorError
from rehost.settings import Settings

_ALWAYS = 64  # Python, the event loop, the database, the store
_EACH_REQUEST = 3  # a socket, a spool, a look-up
_EACH_DECODER = 3  # its pipes, while it is started
_EACH_WORKER = 5  # its lines, and what tells that it has ended


def claim_files(settings: Settings, workers: int = 1) -> None:
    """Raise this process's limit of open files to what a run needs, should it be lower; children inherit it.

    Raises:
        OperatorError: the system does not allow that many.
    """
    decoders = settings.decode_processes or os.cpu_count() or 1
    needed = _ALWAYS + _EACH_REQUEST * settings.concurrency + _EACH_DECODER * decoders + _EACH_WORKER * (workers - 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OperatorError(
            f"A run needs up to {needed} open files, and may have {hard}: raise `ulimit -Hn`, or lower "
            "IMAGE_DOWNLOAD_CONCURRENCY."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
