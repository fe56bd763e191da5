"""Our tables, all named rehost_*; `migrations.py` creates them. We touch nothing else in the operator's database.

Times are by the database's clock. `due_at` is when a link may next be leased: now or earlier for a wanted one, the end
of its lease for a leased one, the next visit for a deferred or refused one. So one partial index over what is not held
finds everything due, and a million held links cost nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    cast,
    literal,
)

from rehost.db import Moment
from rehost.model import Reason, State

REASONS = {reason.value: reason for reason in Reason}
STATES = {state.value: state for state in State}
"""The reason for each text of the column `reason`."""

NO_COPY = dict.fromkeys(
    ("key", "digest", "size", "held_url", "final_url", "format", "width", "height", "frames", "damage",
     "etag",
     "last_modified", "held_at", "pending_digest", "pending_url", "suspected_at", "verified_at", "rescued")
)  # fmt: skip
"""Values of `links` for an entry without a copy."""

TAKEN_DOWN = "takedown "
"""What the evidence of a link that was taken down begins with; the takedown's number follows."""


def taken_down_by(number: ColumnElement[int]) -> ColumnElement[str]:
    """Return the evidence of a link that was taken down by the takedown of this number."""
    return literal(TAKEN_DOWN) + cast(number, Text)


metadata = MetaData()

migrations = Table(
    "rehost_migrations",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("name", String),
    Column("applied_at", Moment),
)

links = Table(
    "rehost_links",
    metadata,
    Column("entry", BigInteger, primary_key=True),
    Column("source", String),
    Column("row_key", String),
    Column("position", Integer),
    Column("url", String),
    Column("page_url", String),
    Column("host", String),
    Column("present", Boolean),  # in the catalogue
    Column("state", String),  # model.State
    Column("due_at", Moment),
    Column("fence", BigInteger),  # grows with every lease and every change of the link
    Column("worker", String),  # the one that leased it last
    Column("attempts", Integer),  # visits since it became wanted
    Column("reason", String),  # model.Reason of the last visit, if it brought no picture
    Column("evidence", String),
    Column("noted_at", Moment),
    Column("changed_at", Moment),  # when its URL changed last, if it ever did
    Column("visited_at", Moment),
    Column("found", String),  # key of a file at its place, to be verified
    Column("pending_digest", String),  # of bytes that were about to replace the held copy's, under its key
    Column("pending_url", String),
    # the held copy, of this URL or a former one; the row points at it
    Column("key", String),
    Column("digest", String),
    Column("size", BigInteger),
    Column("held_url", String),  # the link's URL that it came from
    Column("final_url", String),
    Column("local_url", String),  # what we wrote into the row for it
    Column("format", String),
    Column("width", Integer),
    Column("height", Integer),
    Column("frames", Integer),
    Column("damage", String),  # what is wrong in the file, elsewhere than in its pixels
    Column("etag", String),
    Column("last_modified", String),
    Column("held_at", Moment),
    Column("former_key", String),  # of the copy before this one, until its file is known to be removed
    Column("deaths", Integer),  # leases that ended without an outcome since the last one that had one
    Column("suspected_at", Moment),  # when the copy was examined as a possible decoy last
    Column("waits_for", String),  # the host, origin or folder that it waits for: paused, or its daily budget is used up
    Column("verified_at", Moment),  # when the copy's file was read last, and was right
    Column("rescued", String),  # where the copy came from, if not from its link
    Column("sought_at", Moment),  # when the picture of the dead link was last sought elsewhere
)

runs = Table(
    "rehost_runs",
    metadata,
    Column("run", BigInteger, primary_key=True),
    Column("source", String),
    Column("worker", String),
    Column("host", String),
    Column("pid", Integer),
    Column("os_user", String),
    Column("version", String),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("held", Integer),
    Column("unchanged", Integer),
    Column("adopted", Integer),
    Column("failed", Integer),
    Column("overtaken", Integer),
    Column("size", BigInteger),
    Column("seconds", Float),
    Column("interrupted", Boolean),
    Column("reasons", Text),  # JSON: reason -> number of links
    Column("undone_at", Moment),
    Column("crew", BigInteger),  # the run that this is part of: all processes and sources of one command are one run
    Column("mended", Integer),  # rows pointed at their copies again, without a request
    Column("stopped", Text),  # the error that stopped it, in a sentence
    Column("stop_at", Moment),  # when somebody asked for its end through the API
    Column("verb", String),  # of the command; NULL for a run that copies what is due
)

changes = Table(
    "rehost_changes",
    metadata,
    Column("change", BigInteger, primary_key=True),
    Column("run", BigInteger),
    Column("source", String),
    Column("row_key", String),
    Column("position", Integer),
    Column("url", String),
    Column("before_url", String),
    Column("after_url", String),
    Column("changed_at", Moment),
    Column("lost", Boolean),  # cleared, because the file of the copy was missing
    # of the link's own copy: which bytes the row led to before and after; the former ones are in the store's trash
    Column("before_key", String),
    Column("before_digest", String),
    Column("after_digest", String),
)

stores = Table(
    "rehost_stores",
    metadata,
    Column("number", BigInteger, primary_key=True),  # the highest one is the store in use
    Column("store", String),  # the id in the store's marker
    Column("folder", String),  # where it was, on that machine
    Column("machine", String),  # that used it
    Column("since", Moment),  # the copies recorded from then on are in it
)

moves = Table(
    "rehost_moves",
    metadata,
    Column("move", BigInteger, primary_key=True),  # the highest one is under way, or was the last
    Column("from_place", String),  # as IMAGE_STORAGE_DIR names it
    Column("from_store", String),  # the id in the marker there
    Column("to_place", String),
    Column("to_store", String),
    Column("phase", String),  # moves.Phase
    Column("began_at", Moment),
    Column("ended_at", Moment),
    Column("emptied_at", Moment),  # when the copies at the former place were deleted
)

moved = Table(
    "rehost_moved",
    metadata,
    Column("entry", BigInteger, primary_key=True),
    Column("key", String),  # of the copy at the place to which it is moved; NULL if the former place lacks these bytes
    Column("digest", String),
    Column("evidence", String),  # what is wrong at the former place
)

visits = Table(
    "rehost_visits",
    metadata,
    Column("entry", BigInteger, primary_key=True),
    Column("slot", Integer, primary_key=True),  # turn modulo history.KEPT: the newest replaces the oldest
    Column("turn", BigInteger),  # counts a link's visits; consecutive ones that ended alike count once
    Column("run", BigInteger),  # the last one's
    Column("first_at", Moment),
    Column("last_at", Moment),
    Column("times", Integer),  # consecutive visits that ended so
    Column("outcome", String),  # history.End
    Column("reason", String),  # model.Reason
    Column("evidence", String),  # the last one's
    Column("digest", String),
    Column("url", String),  # the link's at that time
)

origins = Table(
    "rehost_origins",
    metadata,
    Column("origin", String, primary_key=True),
    Column("referer", String),
    Column("evidence", String),
    Column("learned_at", Moment),
)

learnings = Table(
    "rehost_learnings",
    metadata,
    Column("origin", String, primary_key=True),
    Column("extra", Integer),  # probe requests since learning began
    Column("fresh_at", Moment),  # from then on they no longer count
    Column("worker", String),  # the one that is learning; the others wait for its result
    Column("busy_until", Moment),
)

decoys = Table(
    "rehost_decoys",
    metadata,
    Column("origin", String, primary_key=True),
    Column("folder", String, primary_key=True),  # where it comes; hotlink/decoys.py describes the forms
    Column("digest", String, primary_key=True),
    Column("evidence", String),
    Column("learned_at", Moment),
    Column("confirmed_at", Moment),  # by a second control, a while later: copies may be cleared
)

hosts = Table(
    "rehost_hosts",
    metadata,
    Column("host", String, primary_key=True),
    Column("allowance", Integer),  # concurrent requests across all workers; 0 if not known
    Column("proven", Boolean),  # it has returned a verified picture
    Column("paused_until", Moment),
    Column("evidence", String),
)

budgets = Table(
    "rehost_budgets",
    metadata,
    Column("host", String, primary_key=True),
    Column("day", Integer),  # since 1970, UTC
    Column("taken", Integer),  # requests of that day that workers have reserved
)

workers = Table(
    "rehost_workers",
    metadata,
    Column("worker", String, primary_key=True),
    Column("alive_until", Moment),
)

shares = Table(
    "rehost_shares",
    metadata,
    Column("worker", String, primary_key=True),
    Column("host", String, primary_key=True),
    Column("wanted", Integer),
    Column("slots", Integer),  # what the worker was granted
    Column("reserved", Integer),  # what it may still have in flight: never less than its slots
)

passes = Table(
    "rehost_passes",
    metadata,
    Column("name", String, primary_key=True),  # the kind of upkeep that goes through all copies
    Column("cursor", BigInteger),  # the last entry that was done
    Column("began_at", Moment),
    Column("ended_at", Moment),  # when it reached the last entry; NULL while it is under way
    Column("copies", BigInteger),  # that this pass examined so far
    Column("size", BigInteger),  # bytes
    Column("found", BigInteger),  # faults
)

findings = Table(
    "rehost_findings",
    metadata,
    Column("finding", BigInteger, primary_key=True),
    Column("kind", String),  # findings.Fault
    Column("source", String),
    Column("row_key", String),
    Column("position", Integer),
    Column("key", String),
    Column("evidence", String),
    Column("found_at", Moment),
    Column("last_at", Moment),  # when it was found again last
    Column("run", BigInteger),  # that mended it
    Column("mended_at", Moment),
    Column("mended_by", String),  # findings.Mend
)

freezes = Table(
    "rehost_freezes",
    metadata,
    Column("origin", String, primary_key=True),
    Column("run", BigInteger),  # the refresh that was frozen
    Column("frozen_at", Moment),
    Column("evidence", String),
    Column("answers", BigInteger),
    Column("bad", BigInteger),
    Column("examples", Text),  # JSON: a few links with what is held and what came
    Column("decision", String),  # of the operator: accept or keep
    Column("decided_at", Moment),
)

answers = Table(
    "rehost_answers",
    metadata,
    Column("origin", String, primary_key=True),  # that is not frozen
    Column("since", Moment),
    Column("answers", BigInteger),  # to refreshes since then
    Column("bad", BigInteger),  # of these: worse than what is held
)

takedowns = Table(
    "rehost_takedowns",
    metadata,
    Column("takedown", BigInteger, primary_key=True),
    Column("what", String),  # as the operator named it: a URL, key, digest or origin
    Column("legal", Boolean),  # 451 is served, not 410
    Column("os_user", String),
    Column("began_at", Moment),
    Column("ended_at", Moment),  # when everything was removed
    Column("allowed_at", Moment),  # when the operator took it back
    Column("receipt", Text),  # JSON: what was removed where
)

tombstones = Table(
    "rehost_tombstones",
    metadata,
    Column("kind", String, primary_key=True),  # model.Mark
    Column("value", String, primary_key=True),
    Column("takedown", BigInteger, primary_key=True),
    Column("named", Boolean),  # by the operator; the others are of the copies that were found by these
)
