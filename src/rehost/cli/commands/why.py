"""`rehost why`: the whole story of one picture in the order of time, and what helps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import run_loop
from rehost.cli.options import (
    SettingsCommand,
    base_option,
    json_option,
    read_settings,
    settings_flags,
    source_option,
)
from rehost.cli.output.programs import to_json
from rehost.cli.output.tables import Style, fold, say
from rehost.language import gettext as _
from rehost.language import ngettext
from rehost.telemetry.format import plain, size

if TYPE_CHECKING:
    from rehost.ledger.stories import KnownPicture, StoryEvent
    from rehost.upkeep.story import FileState, Standing, Story

UNKNOWN = 1


@click.command(
    cls=SettingsCommand,
    short_help="Tell the whole story of one picture, and what helps.",
    epilog="""\b
Examples:
  rehost why 297041                                  the picture of the row with this key
  rehost why "https://img.example.com/a.jpg"         every row with this link
  rehost why /static/images/297041/main_image.jpg    the picture that readers see there
  rehost why ./data/images/297041/main_image.jpg     the picture in this file
  rehost why 297041 --json                           for programs

\b
Exit status:
  0  the story was told
  1  no row, link or file is known by that
  2  incorrect usage or invalid settings
  3  the database cannot be read
""",
)
@click.argument("asked", metavar="KEY|URL|FILE")
@source_option
@base_option
@json_option
@settings_flags("storage_dir", "static_url_prefix")
def why(
    *,
    asked: str,
    sources: tuple[str, ...],
    base: Path,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Tell the whole story of one picture: what happened to it and when, what its file is now, and what helps.

    The file is read and verified now. Nothing is requested, and nothing is changed: a database user who may only read
    is enough.
    """
    from rehost.wiring.upkeep import why

    stories = run_loop(why(read_settings(base, settings_given), asked, sources))
    if as_json:
        click.echo(to_json({"pictures": stories}))
    elif stories:
        style = Style.of(sys.stdout)
        click.echo(fold("\n\n".join(story_text(each, style) for each in stories), style.columns))
    else:
        text = _("Nothing is known of {asked}: it is no row's key, no link, and no file in the store.")
        say(text.format(asked=plain(asked)), err=True)
    return 0 if stories else UNKNOWN


def story_text(story: Story, style: Style) -> str:
    """Return a story for a person."""
    picture, lines = story.picture, []
    if picture is not None:
        lines.append(style("strong", _name(picture)))
        lines.append(_line(_("link"), plain(picture.url)))
        if picture.page_url:
            lines.append(_line(_("page"), plain(picture.page_url)))
        lines += ["", *(_event(each) for each in story.events), ""]
    if story.file is not None:
        lines.append(_line(_("file"), plain(story.file.path)))
        lines.append(_line("", _file(story.file)))
    if picture is not None:
        lines.append(_line(_("row"), plain(story.row or "") or _("holds no local URL")))
    if story.served is not None:
        lines.append(_line(_("served"), plain(story.served)))
    if story.same_bytes:
        rows = ", ".join(f"{plain(key)} ({source})" for source, key, _position in story.same_bytes)
        lines.append(_line(_("same bytes"), rows))
    lines += ["", _line(_("status"), status_text(story))]
    lines.append(_line(_("action"), plain(story.action) if story.action else _("none is needed")))
    return "\n".join([*lines, *([_line(_("see"), story.see)] if story.see else [])])


def _name(picture: KnownPicture) -> str:
    position = f"#{picture.position}" if picture.position else ""
    text = _("Row {key} of {source}")
    return text.format(key=plain(picture.row_key) + position, source=picture.source)


def _line(name: str, text: str) -> str:
    from rehost.cli.output.tables import pad

    return f"{pad(name, 10)}  {text}".rstrip()


def _file(file: FileState) -> str:
    if not file.exists:
        return _("there is no such file")
    if file.size is None:
        return _("it cannot be read: {problem}").format(problem=plain(file.proof or ""))
    facts = f"{size(file.size)}, sha256 {(file.digest or '')[:12]}..., {plain(file.proof or '')}"
    if file.is_right is None:
        return facts
    verdict = _("these are the bytes that were stored") if file.is_right else _("these are not the bytes stored")
    return _("{facts}; {verdict}").format(facts=facts, verdict=verdict)


def _event(event: StoryEvent) -> str:
    """Return what happened, in one line that begins with the time."""
    text = _happened(event)
    if event.evidence and "{evidence}" not in text:
        text = _("{what}: {evidence}").format(what=text, evidence=plain(event.evidence))
    if event.times > 1 and event.until is not None:
        text += ngettext(" ({number} time, last on {until})", " ({number} times, last on {until})", event.times).format(
            number=event.times, until=f"{event.until.astimezone():%Y-%m-%d %H:%M}"
        )
    return f"{event.at.astimezone():%Y-%m-%d %H:%M}  {text}"


def _happened(event: StoryEvent) -> str:
    run = _("run {run}").format(run=event.run)
    if event.verb:
        run = _("run {run} ({verb})").format(run=event.run, verb=event.verb)
    words = {
        "noted": _("the link was seen for the first time"),
        "link-changed": _("the row got another link"),
        "undone": _("{run} was undone"),
        "rescued": _("the picture was found elsewhere"),
        "verified": _("the file was read, and was right"),
        "found": _("a fault was found, {word}"),
        "mended": _("the fault {reason} was mended by {word}"),
        "frozen": _("the origin {word} froze in {run}"),
        "decided": _("you decided about the frozen origin: {word}"),
        "taken-down": _("taken down; {word} is served"),
        "allowed": _("the takedown was taken back"),
    }
    if event.what in words:
        return words[event.what].format(run=run, word=event.word, reason=event.reason)
    if event.what == "visited":
        return _visited(event, run)
    after = plain(event.after or "") or _("nothing")
    if event.word == "lost":
        return _("{run} cleared the row, because the file was missing").format(run=run)
    if event.before == event.after:
        return _("{run} replaced the picture, {url} stays").format(run=run, url=after)
    return _("{run} wrote {url} into the row").format(run=run, url=after)


def _visited(event: StoryEvent, run: str) -> str:
    words = {
        "held": _("{run} copied the picture"),
        "adopted": _("{run} took over a file that was in the store"),
        "overtaken": _("{run} got a picture, but the row held another link by then"),
        "unchanged": _("{run} asked again, and the copy stays"),
    }
    text = words.get(event.word or "", _("{run} got no picture")).format(run=run)
    return _("{text}, {reason}").format(text=text, reason=event.reason) if event.reason else text


def status_text(story: Story) -> str:
    """Return where a picture stands, in a sentence."""
    picture = story.picture
    words: dict[Standing | str, str] = {
        "right": _("held: the file is right, and the row points at it"),
        "rescued": _("held, from elsewhere ({rescued}): its link gives it no more"),
        "file-missing": _("the row points at a copy whose file is missing"),
        "file-wrong": _("the file is not what was stored"),
        "row-differs": _("held, but the row does not hold the URL of the copy"),
        "link-changed": _("the row holds another link now, or is gone; the next run takes that in"),
        "row-gone": _("the row is gone from the table, or its link is empty"),
        "origin-frozen": _("held; its origin is frozen until you decide"),
        "taken-down": _("taken down: it is not requested and not served"),
        "due": _("due: the next run visits it"),
        "being-visited": _("a worker is visiting it now"),
        "dead": _("dead: no picture came for a long time ({reason}: {evidence})"),
        "paused": _("waits for {host}, which is paused ({reason}: {evidence})"),
        "failed": _("no picture came at the last visit ({reason}: {evidence}); the next one is on {due}"),
        "stray": _("a file that is no link's copy"),
    }
    text = words[story.status]
    if picture is None:
        return text
    return text.format(
        rescued=plain(picture.rescued or ""),
        reason=picture.reason,
        evidence=plain(picture.evidence or ""),
        host=picture.waits_for or picture.host,
        due=f"{picture.due_at.astimezone():%Y-%m-%d %H:%M}",
    )
