"""Thumbnails of copies, made by decoder processes: whoever serves them never decodes a stranger's bytes."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from rehost.images.decoder_main import Bounds
from rehost.images.decoder_pool import Died, Pool
from rehost.images.decoder_protocol import Thumbnail

WALL_SECONDS = 20.0
DECODE_SECONDS = 5.0  # of processor time; what takes longer is shown as it is


class Thumbnailer:
    """Makes thumbnails; an async context manager, no process is started before the first."""

    def __init__(self, *, max_pixels: int, max_frames: int, decode_memory_bytes: int, processes: int) -> None:
        """Take the limits; each of so many processes makes one at a time."""
        bounds = Bounds(decode=True, max_pixels=max_pixels, max_frames=max_frames,
                        memory_bytes=decode_memory_bytes, picture_seconds=DECODE_SECONDS)  # fmt: skip
        self._pool = Pool(bounds, processes, WALL_SECONDS)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, traceback)

    async def make(self, path: Path, side: int) -> bytes | None:
        """Return a WebP of the picture, no longer than `side` either way; None where there is none to be had.

        Raises:
            OperatorError: no decoder process can be started.
        """
        try:
            answer = await self._pool.ask(path, side=side)
        except Died:
            return None
        return answer.content if isinstance(answer, Thumbnail) else None
