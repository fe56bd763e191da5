"""What the verbs print about origins: what was learned, a refresh, and what froze with the one decision to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rehost.cli.output.reports import NO_HOST, moment_of, pause_of
from rehost.cli.output.tables import Style, fold, pad, table
from rehost.http.url import host_of
from rehost.language import Message, ngettext, translated
from rehost.language import gettext as _
from rehost.model import Reason
from rehost.telemetry.format import count, duration, plain, share, size

if TYPE_CHECKING:
    from rehost.ledger.freezes import Example, Freeze, Picture
    from rehost.ledger.reports import HostReport
    from rehost.model import Rule
    from rehost.upkeep.refresh import Refreshed

PAGE = "docs/howto/keep-right.md"
KINDS = {
    "smaller": Message("a picture of less than half the bytes or pixels"),
    "same-picture": Message("the same picture for links that had different ones"),
}
"""Why an answer is worse than what is held, beside reasons."""
_MEANINGS = {reason.value: reason.meaning for reason in Reason}


@dataclass(frozen=True, slots=True)
class OriginsReport:
    """What `rehost origins` shows."""

    rules: Sequence[Rule]
    decoys: Mapping[str, int]
    hosts: Sequence[HostReport]
    freezes: Sequence[Freeze] = ()

    def text(self, style: Style) -> str:
        """Return the report for a person."""
        rules = table(
            [_("origin"), "Referer", _("decoys"), _("learned"), _("evidence")],
            [
                (rule.origin, rule.referer, self.decoys.get(rule.origin, 0), moment_of(rule.learned_at), rule.evidence)
                for rule in self.rules
            ],
            style,
        )
        hosts = table(
            [_("host"), _("at once"), _("links"), _("held"), _("failed"), _("due"), _("paused")],
            [
                (h.host or translated(NO_HOST), h.allowance, h.present, h.held, h.failed, h.due, pause_of(h))
                for h in self.hosts
            ],
            style,
        )
        nothing = _("No run has learned anything about a host yet: start one with `rehost run`.")
        known = "\n\n".join(part for part in (rules, hosts) if part) or nothing
        return "\n\n".join([known, *freezes_text(self.freezes, style)])


def refreshed_text(refreshed: Refreshed, style: Style) -> str:
    """Return what a refresh did, for a person."""
    word = _("Interrupted") if refreshed.interrupted else _("Done")
    head = ngettext(
        "{word} in {duration}: {number} link asked, {size} received",
        "{word} in {duration}: {number} links asked, {size} received",
        refreshed.asked,
    ).format(
        word=word,
        duration=duration(refreshed.seconds),
        number=count(refreshed.asked),
        size=size(refreshed.size),
    )
    undo = _("changed at their origin; the former copies lie in the trash (to undo: rehost undo {run})")
    back = _("replaced before their origin froze, and put back")
    froze = _("changed at an origin that froze; the copy stays")
    reasons = [f"  {reason:<19}{count(n):>9}  {_(reason.meaning)}" for reason, n in refreshed.kept.items()]
    shown = [
        *_figure(_("current"), refreshed.current, _("the origin has the same picture")),
        *_figure(_("replaced"), refreshed.replaced, undo.format(run=refreshed.run)),
        *_figure(_("put back"), refreshed.put_back, back),
        *_figure(_("not taken"), refreshed.untaken, froze),
        *_figure(_("kept"), sum(refreshed.kept.values()), _("nothing better came; the copy stays")),
        *reasons,
        *_figure(_("left"), refreshed.left, _("due, and not asked for this time")),
    ]
    text = fold("\n".join([style("strong", head), *([""] if shown else []), *shown]), style.columns)
    return "\n\n".join([text, *freezes_text(refreshed.frozen, style)])


def _figure(name: str, number: int, note: str) -> list[str]:
    return [f"{pad(name, 13)}{count(number):>10}  {note}"] if number else []


def refresh_line(refreshed: Refreshed) -> str:
    """Return one line about what needs the operator's decision; an empty text if nothing does."""
    if not refreshed.frozen:
        return ""
    hosts = ", ".join(dict.fromkeys(each.host for each in refreshed.frozen))
    return _("frozen, and waiting for your decision: {hosts}. To see it: rehost origins").format(hosts=plain(hosts))


def planned_refresh(due: Mapping[str, int], style: Style) -> str:
    """Return how many links of each host a refresh would ask for."""
    number = sum(due.values())
    head = ngettext("{number} link would be asked", "{number} links would be asked", number)
    listed = table([_("host"), _("links")], list(due.items()), style)
    return "\n\n".join(part for part in (style("strong", head.format(number=count(number))), listed) if part)


def freezes_text(freezes: Sequence[Freeze], style: Style, *, examples: int = 5) -> Sequence[str]:
    """Return a part for each frozen origin: status, what is held and what came, and what to do."""
    return [_freeze(each, style, examples) for each in freezes]


def decided_lines(decided: Mapping[str, str]) -> Sequence[str]:
    """Return a sentence for each origin that was decided about."""
    accepted = _("{origin}: what it sends is accepted. Its links are due at once: rehost refresh")
    kept = _("{origin}: the held copies stay. No refresh asks it until: rehost origins --accept {host}")
    return [
        (accepted if decision == "accept" else kept).format(origin=plain(origin), host=plain(host_of(origin)))
        for origin, decision in decided.items()
    ]


def _freeze(freeze: Freeze, style: Style, examples: int) -> str:
    host = plain(freeze.host)
    status = ngettext(
        "{bad} of {answers} answer would make a copy worse ({share}). The copies stay; no refresh asks this origin.",
        "{bad} of {answers} answers would make copies worse ({share}). The copies stay; no refresh asks this origin.",
        freeze.answers,
    ).format(bad=count(freeze.bad), answers=count(freeze.answers), share=share(freeze.bad, freeze.answers))
    kinds = [each.rpartition(" ") for each in freeze.evidence.split(", ")]
    lines = [(_("status"), status), *[("", f"{count(int(n))}: {_kind(kind)}") for kind, _space, n in kinds]]
    if freeze.decision is None:
        accept = _("if what came is right: rehost origins --accept {host}").format(host=host)
        keep = _("if not, to keep what is held: rehost origins --keep {host}").format(host=host)
        lines += [(_("action"), accept), ("", keep)]
    elif freeze.decision == "keep":
        kept = _("you decided to keep what is held; to ask it again: rehost origins --accept {host}")
        lines[0] = (_("status"), kept.format(host=host))
    else:
        lines = [(_("status"), _("you accepted what it sends; the next refresh takes it"))]
    lines.append((_("see"), PAGE))
    head = style("bad" if freeze.is_open else "strong", _("frozen: {origin}").format(origin=plain(freeze.origin)))
    text = fold("\n".join([head, *(f"  {pad(name, 7)}  {words}" for name, words in lines)]), style.columns)
    shown = _examples(freeze.examples[:examples], style) if freeze.decision != "accept" else ""
    return "\n\n".join(part for part in (text, shown) if part)


def _examples(examples: Sequence[Example], style: Style) -> str:
    return table(
        [_("key"), _("held"), _("came"), _("link")],
        [
            (
                f"{each.row_key}#{each.position}" if each.position else each.row_key,
                _picture(each.held),
                _picture(each.came) if each.came else f"{each.kind}: {each.evidence or ''}",
                each.url,
            )
            for each in examples
        ],
        style,
    )


def _picture(picture: Picture) -> str:
    pixels = f"{picture.width}x{picture.height}, " if picture.width else ""
    return f"{pixels}{size(picture.size)}, {picture.digest[:8]}"


def _kind(kind: str) -> str:
    return translated(KINDS[kind]) if kind in KINDS else f"{kind}: {_(_MEANINGS[kind])}"
