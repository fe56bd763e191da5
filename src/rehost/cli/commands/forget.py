"""`rehost forget`: takes pictures down for good, allows them again, and lists what was taken down."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import run_loop, sigterm_as_interrupt
from rehost.cli.options import SettingsCommand, base_option, json_option, read_settings, settings_flags
from rehost.cli.output.programs import to_json
from rehost.cli.output.tables import Style, say, table
from rehost.clock import Clock
from rehost.language import gettext as _
from rehost.language import ngettext
from rehost.telemetry.format import count, plain, size

if TYPE_CHECKING:
    from rehost.ledger.takedowns import Takedown
    from rehost.model import Tombstone
    from rehost.settings import Settings
    from rehost.upkeep.forget import Survey

MOST_UNASKED = 20
"""Copies that are removed without --yes: a placeholder that many links share is easily named by mistake."""

MOST_SHOWN = 10  # rows and files; --json has all

LEFT = 1
PROGRESS_SECONDS = 2.0

EPILOG = """\b
Examples:
  rehost forget "https://i.example/1.jpg" --dry-run  show what would be removed
  rehost forget "https://i.example/1.jpg"            take this picture down, under all its names
  rehost forget /static/images/4711/a.jpg --legal    answer 451 from now on, not 410
  rehost forget "products:4711"                      the picture of a row: SOURCE:KEY
  rehost forget "https://i.example" --yes            everything that came from an origin
  rehost forget --list                               what was taken down, when and by whom
  rehost forget --allow "https://i.example/1.jpg"    allow it again; the next run fetches it

\b
Exit status:
  0  everything was removed, or allowed, or the report was printed
  1  some rows could not be cleared, or the hook failed; the rest was removed
  2  incorrect usage or invalid settings, or --yes is needed: nothing was changed
  3  the database or the store cannot be used; call it again, it goes on where it was
"""


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Take pictures down for good, or allow them again.")
@click.argument("what", nargs=-1, metavar="WHAT...")
@click.option("--legal", is_flag=True, help="For legal reasons: servers answer 451, not 410.")
@click.option("--allow", is_flag=True, help="Take a takedown back: the next run fetches the pictures again.")
@click.option("--list", "lists", is_flag=True, help="List what was taken down.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Show what would be removed; change nothing.")
@click.option("--yes", "is_sure", is_flag=True, help="Remove more than 20 copies.")
@base_option
@json_option
@settings_flags("storage_dir", "static_url_prefix")
def forget(
    *,
    what: tuple[str, ...],
    legal: bool,
    allow: bool,
    lists: bool,
    is_dry: bool,
    is_sure: bool,
    base: Path,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Take pictures down for good, with all their copies.

    WHAT is a URL, the key of a row (or SOURCE:KEY), the local URL or the key of a copy, a digest, or an origin. This
    removes every copy with the same bytes, under any name and in all tables, also from the trash and the quarantine,
    and clears the rows. No run, no repair, no undo and no request brings the picture back, and new rows with its URL
    are refused (reason taken-down). Servers answer 410 Gone for it.

    It cannot be undone: the files are deleted. --allow only lets the next run fetch them again.
    """
    settings = read_settings(base, settings_given)
    if lists == bool(what) or (lists and (allow or is_dry or legal)) or (allow and (is_dry or legal)):
        raise click.UsageError(_("Name what to forget or to allow, or ask for --list alone."))
    if lists:
        return _print_list(run_loop(_read_list(settings)), as_json=as_json)
    with sigterm_as_interrupt():
        if allow:
            return _print_allowed(*run_loop(_allow(settings, what)), as_json=as_json)
        if is_dry:
            return _print_survey(run_loop(_survey(settings, what)), as_json=as_json)
        return _print_taken_down(run_loop(_forget(settings, what, legal=legal, is_sure=is_sure)), as_json=as_json)


async def _read_list(settings: Settings) -> Sequence[Takedown]:
    from rehost.ledger.takedowns import TakedownRecords
    from rehost.wiring.databases import open_queries

    async with open_queries(settings) as queries:
        return await TakedownRecords(queries.database).read()


async def _survey(settings: Settings, what: Sequence[str]) -> Survey:
    from rehost.wiring.upkeep import open_takedowns

    async with open_takedowns(settings, finishes=False) as (takedowns, targets):
        return await takedowns.survey(await _named(targets, what))


async def _forget(settings: Settings, what: Sequence[str], *, legal: bool, is_sure: bool) -> Takedown:
    """Take down what is named.

    Raises:
        UsageError: that is more than MOST_UNASKED copies, and `is_sure` is false; nothing was changed.
    """
    from rehost.wiring.upkeep import open_takedowns

    async with open_takedowns(settings, _progress(Clock())) as (takedowns, targets):
        named = await _named(targets, what)
        copies = 0 if is_sure else (await takedowns.survey(named)).copies
        if copies > MOST_UNASKED:
            command = shlex.join(["rehost", "forget", *what, *(["--legal"] if legal else []), "--yes"])
            text = _("This removes {number} copies for good; nothing was changed. To go on: {command}")
            raise click.UsageError(text.format(number=count(copies), command=command))
        return await takedowns.take_down(shlex.join(what), named, legal=legal)


async def _allow(settings: Settings, what: Sequence[str]) -> tuple[Sequence[Takedown], int]:
    from rehost.wiring.upkeep import open_takedowns

    async with open_takedowns(settings, finishes=False) as (takedowns, targets):
        found, others = await takedowns.covering(await _named(targets, what))
        if not found and others:
            text = _("{what} was taken down together with others. To allow them all: rehost forget --allow {named}")
            raise click.UsageError(text.format(what=shlex.join(what), named=others[-1].what))
        if not found:
            text = _("{what} was not taken down; `rehost forget --list` lists what was.")
            raise click.UsageError(text.format(what=shlex.join(what)))
        return found, await takedowns.allow(found)


async def _named(targets: Any, what: Collection[str]) -> set[Tombstone]:  # noqa: ANN401 - its module loads what --help needs not
    return set().union(*[await targets.find(each.strip()) for each in what])


def _progress(clock: Clock) -> Callable[[int], None]:
    """Return what prints how many copies were removed, every PROGRESS_SECONDS."""
    printed = [clock.monotonic()]

    def tell(files: int) -> None:
        if clock.monotonic() - printed[0] >= PROGRESS_SECONDS:
            printed[0] = clock.monotonic()
            say(_("{number} copies removed so far").format(number=count(files)), err=True)

    return tell


def _print_survey(survey: Survey, *, as_json: bool) -> int:
    if as_json:
        click.echo(to_json(survey))
        return 0
    number = _("Would remove {files} ({size}), clear their rows, and refuse {links}. Nothing was changed.")
    files = ngettext("{number} copy", "{number} copies", survey.copies).format(number=count(survey.copies))
    links = ngettext("{number} link without a copy", "{number} links without a copy", survey.links)
    links = links.format(number=count(survey.links))
    say(number.format(files=files, size=size(survey.size), links=links))
    say("\n".join(_listed([each["key"] for each in survey.files])))
    return 0


def _print_taken_down(done: Takedown, *, as_json: bool) -> int:
    receipt = done.receipt
    if as_json:
        click.echo(to_json(_members(done)))
        return LEFT if receipt.left or receipt.hook else 0
    say(_("Takedown {number}: {what}").format(number=done.takedown, what=plain(done.what)))
    rows = [f"{each['source']}:{each['key']}" for each in receipt.cleared]
    trash, quarantine = count(len(receipt.trash)), count(len(receipt.quarantine))
    lines = [
        _("copies removed: {number} ({size})").format(number=count(receipt.files), size=size(receipt.size)),
        *_listed([each["key"] for each in receipt.removed]),
        _("rows cleared: {number}").format(number=count(receipt.rows)),
        *_listed(rows),
        _("files removed from the trash: {trash}; from the quarantine: {quarantine}").format(
            trash=trash, quarantine=quarantine
        ),
        _("links without a copy, refused from now on: {number}").format(number=count(receipt.links)),
        _("Servers answer {status}. To allow it again: rehost forget --allow {what}").format(
            status=done.status, what=plain(done.what)
        ),
    ]
    say("\n".join(lines))
    for row in receipt.left:
        status = _("status: row {source}:{key} could not be cleared: {evidence}")
        say(status.format(source=row["source"], key=plain(row["key"]), evidence=plain(row["evidence"])))
    if receipt.left:
        say(
            _(
                "action: let the database write these rows; "
                "the next `rehost run`, `rehost upkeep` or `rehost forget` clears them"
            )
        )
    if receipt.hook:
        say(_("status: the hook failed (IMAGE_AFTER_FORGET): {problem}").format(problem=plain(receipt.hook)))
        say(_("action: correct it; the next `rehost run`, `rehost upkeep` or `rehost forget` calls it again"))
    if is_left := bool(receipt.left or receipt.hook):
        say(_("see: {page}").format(page="docs/howto/keep-right.md#forget"))
    return LEFT if is_left else 0


def _print_allowed(takedowns: Sequence[Takedown], due: int, *, as_json: bool) -> int:
    if as_json:
        click.echo(to_json({"takedowns": [each.takedown for each in takedowns], "due": due}))
        return 0
    for each in takedowns:
        say(_("Allowed again: takedown {number}, {what}").format(number=each.takedown, what=plain(each.what)))
    say(_("Links that are due now: {number}. `rehost run` visits them.").format(number=count(due)))
    return 0


def _print_list(takedowns: Sequence[Takedown], *, as_json: bool) -> int:
    if as_json:
        click.echo(to_json([_members(each) for each in takedowns]))
        return 0
    heads = [_("Takedown"), _("When"), _("By"), _("Copies"), _("Rows"), _("State"), _("What")]
    rows: list[Sequence[str | int]] = [
        (
            *(each.takedown, f"{each.began_at:%Y-%m-%d %H:%M}", each.os_user),
            *(each.receipt.files, each.receipt.rows, _state(each), each.what),
        )
        for each in takedowns
    ]
    say(table(heads, rows, Style.of(sys.stdout)) or _("Nothing was taken down."))
    return 0


def _state(each: Takedown) -> str:
    if each.allowed_at is not None:
        return _("allowed again")
    return str(each.status) if each.ended_at is not None else _("unfinished")


def _members(done: Takedown) -> Mapping[str, object]:
    """Return a takedown for programs: what, when, by whom, and its receipt."""
    members = asdict(done)
    return {name: value for name, value in members.items() if name != "receipt"} | {
        "status": done.status,
        **members["receipt"],
    }


def _listed(names: Sequence[object]) -> list[str]:
    more = len(names) - MOST_SHOWN
    lines = [f"  {plain(str(each))}" for each in names[:MOST_SHOWN]]
    return [*lines, "  " + _("and {number} more (--json lists them)").format(number=count(more))] if more > 0 else lines
