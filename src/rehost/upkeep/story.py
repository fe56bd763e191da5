"""Tells the whole story of one picture: what happened, what its file is now, where it stands, and what helps.

Only reads: ledger, table and file. What it says about the file it has read at this moment.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rehost.catalogue.table import TableCatalogue
from rehost.errors import RehostError, VisitError
from rehost.images.verifier import ImageVerifier
from rehost.ledger.stories import KnownPicture, Stories, StoryEvent, What
from rehost.model import Link, Reason, State
from rehost.run.visitor import digest_of
from rehost.store.base import Store
from rehost.store.layout import Layout, is_key


@dataclass(frozen=True, slots=True)
class FileState:
    """What lies in the store under a copy's key now."""

    key: str
    path: str
    exists: bool
    size: int | None = None  # bytes
    digest: str | None = None
    is_right: bool | None = None  # the digest is the ledger's; None if the ledger knows none
    proof: str | None = None  # what it is: format and measures, or why it is no whole picture


class Standing(StrEnum):
    """Where a picture stands."""

    RIGHT = "right"  # held, the file is right, and the row points at it
    RESCUED = "rescued"  # the same, from elsewhere than its link
    FILE_MISSING = "file-missing"
    FILE_WRONG = "file-wrong"
    ROW_DIFFERS = "row-differs"  # held, but the row holds another local URL, or none
    LINK_CHANGED = "link-changed"  # the row holds another link than the ledger knows
    ROW_GONE = "row-gone"
    FROZEN = "origin-frozen"  # held and right; its origin waits for a decision
    TAKEN_DOWN = "taken-down"
    DUE = "due"
    LEASED = "being-visited"
    DEAD = "dead"  # failed for so long that a rescue is due
    PAUSED = "paused"  # waits for a host
    FAILED = "failed"
    STRAY = "stray"  # a file that is no link's copy


_ACTIONS = {
    Standing.FILE_MISSING: "rehost verify --repair --key {key}",
    Standing.FILE_WRONG: "rehost verify --repair --key {key}",
    Standing.ROW_DIFFERS: "rehost run --source {source}",
    Standing.LINK_CHANGED: "rehost run --source {source}",
    Standing.ROW_GONE: "rehost prune",
    Standing.FROZEN: "rehost origins --accept {host}, or --keep {host}",
    Standing.TAKEN_DOWN: "rehost forget --allow {url}",
    Standing.DUE: "rehost run --source {source}",
    Standing.DEAD: "rehost run --rescue --source {source}",
    Standing.PAUSED: "rehost origins --resume {host}",
    Standing.STRAY: "rehost prune",
}
_CURES = {
    Reason.NOT_A_URL: "correct the link in the row",
    Reason.ADDRESS_REFUSED: "IMAGE_ALLOW_NETWORKS",
    Reason.ROBOTS_REFUSED: "IMAGE_ROBOTS",
    Reason.TIMED_OUT: "IMAGE_DOWNLOAD_TIMEOUT",
    Reason.TOO_LARGE: "IMAGE_MAX_BYTES, IMAGE_MAX_PIXELS, IMAGE_MAX_FRAMES, IMAGE_MAX_TOTAL_PIXELS",
    Reason.TOO_MANY_REDIRECTS: "IMAGE_MAX_REDIRECTS",
    Reason.QUOTA_REACHED: "IMAGE_MAX_HOST_BYTES, IMAGE_MAX_SOURCE_BYTES",
    Reason.HOTLINK_REFUSED: "rehost origins --forget {host}; rehost run --retry {reason}",
    Reason.DECOY: "rehost origins --forget {host}; rehost run --retry {reason}",
}
_PAGES = {
    Standing.FILE_MISSING: "docs/howto/keep-right.md",
    Standing.FILE_WRONG: "docs/howto/keep-right.md",
    Standing.ROW_GONE: "docs/howto/keep-right.md",
    Standing.STRAY: "docs/howto/keep-right.md",
    Standing.FROZEN: "docs/howto/keep-right.md",
    Standing.TAKEN_DOWN: "docs/howto/keep-right.md",
    Standing.DEAD: "docs/howto/keep-right.md",
    Standing.PAUSED: "docs/explanation/origins.md",
    Standing.FAILED: "docs/reference/reasons.md",
}


@dataclass(frozen=True, slots=True)
class Story:
    """Everything about one picture."""

    picture: KnownPicture | None  # None for a file that no link has
    events: Sequence[StoryEvent]
    file: FileState | None
    row: str | None  # the local URL that the row holds now; None for none, or if it holds another link
    served: str | None  # the local URL of the copy
    same_bytes: Sequence[tuple[str, str, int]]  # other rows: source, key, position
    status: Standing
    action: str | None  # the command or setting that helps; None if nothing has to be done
    see: str | None  # the page of the docs


class StoryTeller:
    """Finds pictures by what an operator has at hand, and tells their stories."""

    def __init__(
        self,
        stories: Stories,
        catalogues: Sequence[TableCatalogue],
        layouts: Mapping[str, Layout],
        store: Store,
        verifier: ImageVerifier,
    ) -> None:
        """Take the parts: the tables, the layout of each by its name, and the store."""
        self._stories = stories
        self._catalogues = {each.name: each for each in catalogues}
        self._layouts = layouts
        self._store = store
        self._verifier = verifier

    async def tell(self, asked: str) -> Sequence[Story]:
        """Return the stories of the pictures that a row's key, a URL, a local URL or a file means; none if unknown.

        Raises:
            OperatorError: the database cannot be used.
        """
        sources = list(self._catalogues)
        found = await self._stories.of_row(asked, sources) or await self._stories.of_url(asked, sources)
        if found:
            return [await self._story(each) for each in found]
        key = self._key_of(asked)
        if key is None:
            return []
        parsed = [(name, place) for name, layout in self._layouts.items() if (place := layout.parse(key))]
        found = await self._stories.of_file(key, [(name, place[0], place[1]) for name, place in parsed])
        if found:
            return [await self._story(each) for each in found]
        file = await self._file(key, None)
        if not file.exists:
            return []
        action = _ACTIONS[Standing.STRAY] if parsed else None  # no verb touches files with other names
        return [Story(None, [], file, None, None, [], Standing.STRAY, action, _PAGES[Standing.STRAY])]

    def _key_of(self, asked: str) -> str | None:
        """Return the key in the store that a local URL, a path of a file, or a key means."""
        for layout in self._layouts.values():
            if (key := layout.key_of_url(asked)) is not None:
                return key
        where = f"{self._store.where}/"
        for path in (asked, str(Path(asked).absolute())):  # relative to the current directory, as a shell completes it
            if path.startswith(where) and is_key(key := path.removeprefix(where)):
                return key
        return asked if is_key(asked) and "/" in asked else None

    async def _story(self, picture: KnownPicture) -> Story:
        layout = (
            self._layouts[picture.source] if picture.source in self._layouts else next(iter(self._layouts.values()))
        )
        events = await self._stories.events(picture)
        file = await self._file(picture.key, picture.digest) if picture.key else None
        url = layout.url(picture.key, picture.digest or "") if picture.key else None
        holds, row = await self._row(picture)
        status = await self._status(picture, events, file, url, holds=holds, row=row)
        return Story(
            picture,
            events,
            file,
            row,
            url if file is not None and file.exists else None,
            await self._stories.twins(picture),
            status,
            _action(status, picture),
            _PAGES.get(status),
        )

    async def _row(self, picture: KnownPicture) -> tuple[bool, str | None]:
        """Return whether the row holds the link, and its local URL."""
        catalogue = self._catalogues.get(picture.source)
        if catalogue is None:
            return True, picture.local_url
        link = Link(picture.source, picture.row_key, picture.position, picture.url, None, None)
        found = await catalogue.local_urls([link])
        return link in found, found.get(link)

    async def _file(self, key: str, digest: str | None) -> FileState:
        where = f"{self._store.where}/{key}"
        if not await self._store.states([key]):
            return FileState(key, where, exists=False)
        try:
            async with self._store.as_file(key) as path:
                found, size = await asyncio.to_thread(digest_of, path)
                image = await self._verifier.verify(path)
        except VisitError as error:
            proof = str(error)
        except (OSError, RehostError) as error:
            return FileState(key, where, exists=True, is_right=False, proof=str(error))
        else:
            proof = f"{image.format.media_type}, {image.width}x{image.height}"
        return FileState(key, where, exists=True, size=size, digest=found, is_right=_same(found, digest), proof=proof)

    async def _status(
        self,
        picture: KnownPicture,
        events: Sequence[StoryEvent],
        file: FileState | None,
        url: str | None,
        *,
        holds: bool,
        row: str | None,
    ) -> Standing:
        if picture.reason == "taken-down" or _is_taken_down(events):
            return Standing.TAKEN_DOWN
        if not picture.present:
            return Standing.ROW_GONE
        if not holds:
            return Standing.LINK_CHANGED
        if picture.state is State.HELD and file is not None:
            return _standing_of_held(picture, events, file, is_pointed=row == url)
        return await self._standing_of_open(picture)

    async def _standing_of_open(self, picture: KnownPicture) -> Standing:
        if picture.state is State.LEASED:
            return Standing.LEASED
        if picture.state is State.WANTED:
            return Standing.DUE
        if picture.waits_for is not None:
            return Standing.PAUSED
        return Standing.DEAD if await self._stories.is_dead(picture) else Standing.FAILED


def _same(found: str, digest: str | None) -> bool | None:
    return None if digest is None else found == digest


def _is_taken_down(events: Sequence[StoryEvent]) -> bool:
    """Return whether more takedowns were made than taken back."""
    return sum((each.what is What.TAKEN_DOWN) - (each.what is What.ALLOWED) for each in events) > 0


def _standing_of_held(
    picture: KnownPicture, events: Sequence[StoryEvent], file: FileState, *, is_pointed: bool
) -> Standing:
    if not file.exists:
        return Standing.FILE_MISSING
    if not file.is_right:
        return Standing.FILE_WRONG
    if not is_pointed:
        return Standing.ROW_DIFFERS
    last = next((each.what for each in reversed(events) if each.what in {What.FROZEN, What.DECIDED}), None)
    if last is What.FROZEN:
        return Standing.FROZEN
    return Standing.RESCUED if picture.rescued else Standing.RIGHT


def _action(status: Standing, picture: KnownPicture) -> str | None:
    """Return the command or setting that helps."""
    text = _ACTIONS.get(status)
    if status is Standing.FAILED:
        reason = next((each for each in _CURES if each.value == picture.reason), None)
        text = _CURES[reason] if reason is not None else "rehost run --retry {reason}"
    fields = {"key": picture.row_key, "source": picture.source, "host": picture.host, "url": picture.url}
    return text and text.format(**{name: shlex.quote(each) for name, each in fields.items()}, reason=picture.reason)
