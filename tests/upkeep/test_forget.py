"""Takedowns over two sources, on both databases: everything is removed, and nothing brings it back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.databases import execute, open_database
from tests.origin import Origin
from tests.s3 import BUCKET

from rehost.errors import SettingsError
from rehost.events import Event
from rehost.ledger.takedowns import Takedown, TakedownRecords
from rehost.model import Copy, Format, Image, Mark, Reason, Source, Stored
from rehost.settings import Settings, load
from rehost.store import gone
from rehost.store.base import Cause
from rehost.store.local import LocalStore
from rehost.wiring.run import open_run
from rehost.wiring.upkeep import open_takedowns, open_upkeep, undo

TABLES = (
    "CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url TEXT, main_image TEXT, main_image_local TEXT)",
    "CREATE TABLE products (sku TEXT PRIMARY KEY, photo TEXT, photo_local TEXT)",
)
PRODUCTS = Source("products", "products", "sku", "photo", None, "photo_local", "products/{key}", None)


STEPS = (
    "add",
    "mark_gone",
    "lock",
    "file_ids",
    "remove",
    "forget",
    "delete_quarantined",
    "end",
)  # of TakedownRecords, LocalStore


class Interrupted(Exception):  # noqa: N818 - as KeyboardInterrupt
    """The process ends here."""


@dataclass
class Shop:
    """Two tables, a store and an origin."""

    url: str
    folder: Path
    origin: Origin
    settings: Settings
    events: list[Event] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "images"

    async def sql(self, statement: str) -> list[tuple[object, ...]]:
        async with open_database(self.url) as database:
            return await execute(database, statement)

    def link(self, name: str, behaviour: str = "permissive") -> str:
        return self.origin.url(behaviour, name, host="pics.example")

    async def add(self, case_id: int, link: str) -> None:
        await self.sql(f"INSERT INTO ad_cases VALUES ({case_id}, 'https://www.pages.example/', '{link}', NULL)")

    async def add_product(self, sku: str, link: str) -> None:
        await self.sql(f"INSERT INTO products VALUES ('{sku}', '{link}', NULL)")

    async def run(self, retry: str | None = None):
        async with open_run(self.settings, source=None, listen=self.events.append) as run:
            return await asyncio.wait_for(run.execute(retry=retry), 120)

    async def forget(self, *what: str, legal: bool = False) -> Takedown:
        async with open_takedowns(self.settings) as (takedowns, targets):
            named = set().union(*[await targets.find(each) for each in what])
            return await takedowns.take_down(" ".join(what), named, legal=legal)

    async def allow(self, what: str) -> int:
        async with open_takedowns(self.settings, finishes=False) as (takedowns, targets):
            found, _ = await takedowns.covering(await targets.find(what))
            return await takedowns.allow(found)

    async def find(self, what: str) -> set[tuple[Mark, str]]:
        async with open_takedowns(self.settings) as (_, targets):
            return await targets.find(what)

    async def locals(self) -> dict[str, str]:
        rows = await self.sql("SELECT case_id, main_image_local FROM ad_cases WHERE main_image_local IS NOT NULL")
        rows += await self.sql("SELECT sku, photo_local FROM products WHERE photo_local IS NOT NULL")
        return {str(key): str(local) for key, local in rows}

    async def reasons(self) -> dict[str, str | None]:
        return {str(key): reason for key, reason in await self.sql("SELECT row_key, reason FROM rehost_links")}

    def digest(self, link: str) -> str:
        return hashlib.sha256(self.origin.picture(link)).hexdigest()

    def files_with(self, digest: str) -> list[Path]:
        """Return every file anywhere in the store with these bytes."""
        files = [path for path in self.store.rglob("*") if path.is_file()]
        return [path for path in files if hashlib.sha256(path.read_bytes()).hexdigest() == digest]

    def asked(self, name: str) -> int:
        return sum(request.path.partition("?")[0].endswith(f"/{name}") for request in self.origin.requests)


@asynccontextmanager
async def opened(url, folder, **more):
    """Open a shop with empty tables."""
    with Origin() as origin:
        given = {
            "DATABASE_URL": url,
            "IMAGE_STORAGE_DIR": str(folder / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_DOWNLOAD_TIMEOUT": "5",
            "IMAGE_VERIFY": "structure",
            "IMAGE_CONNECT_TO": origin.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
            **more,
        }
        settings = load(folder, given, {})
        shop = Shop(url, folder, origin, replace(settings, sources=(*settings.sources, PRODUCTS)))
        for statement in TABLES:
            await shop.sql(statement)
        yield shop


@pytest.fixture
async def shop(database_url, tmp_path):
    """On PostgreSQL and on SQLite."""
    async with opened(database_url, tmp_path) as shop:
        yield shop


@pytest.fixture
async def corner(tmp_path):
    """On SQLite: for what does not depend on the database."""
    async with opened(f"sqlite:///{tmp_path}/corner.db", tmp_path) as shop:
        yield shop


async def fill(shop: Shop) -> tuple[str, str]:
    """Hold one picture under five keys in two sources, by two URLs, and another one; return their links."""
    one, same, other = shop.link("1.jpg"), shop.link("1.jpg") + "?again", shop.link("2.jpg")
    assert shop.digest(one) == shop.digest(same)
    for case_id, link in enumerate((one, one, same, other), 1):
        await shop.add(case_id, link)
    for sku, link in (("A", one), ("B", same)):
        await shop.add_product(sku, link)
    ended = await shop.run()
    assert ended.held == 6
    return one, other


async def test_a_takedown_removes_every_copy_from_rows_store_trash_and_quarantine(shop):
    one, other = await fill(shop)
    stray = shop.store / "elsewhere" / "x.jpg"
    quarantined = shop.store / ".rehost" / "quarantine" / "9" / "main_image.jpg"
    for path in (stray, quarantined):
        path.parent.mkdir(parents=True)
        path.write_bytes(shop.origin.picture(one))
    async with open_upkeep(shop.settings) as parts:
        store = parts.sources[0].store
        (shop.store / "old.jpg").write_bytes(shop.origin.picture(one))
        await store.trash(await store.file_ids(["old.jpg"]), Cause.REPLACED)
    assert len(shop.files_with(shop.digest(one))) == 8

    done = await shop.forget(one)

    assert shop.files_with(shop.digest(one)) == []
    assert await shop.locals() == {"4": "/static/images/4/main_image.jpg"}
    assert len(shop.files_with(shop.digest(other))) == 1
    receipt = done.receipt
    cleared = {(row["source"], row["key"]) for row in receipt.cleared}
    assert cleared == {("cases", "1"), ("cases", "2"), ("cases", "3"), ("products", "A"), ("products", "B")}
    keys = {"1/main_image.jpg", "2/main_image.jpg", "3/main_image.jpg", "products/A.jpg", "products/B.jpg"}
    assert {each["key"] for each in receipt.removed} == {*keys, "elsewhere/x.jpg"}
    assert {each["digest"] for each in (*receipt.removed, *receipt.trash, *receipt.quarantine)} == {shop.digest(one)}
    assert (receipt.rows, receipt.files, len(receipt.trash), len(receipt.quarantine)) == (5, 6, 1, 1)
    assert done.ended_at is not None
    assert not receipt.left


async def test_the_hook_gets_the_urls_of_all_copies_once_they_are_gone_and_is_called_again_if_it_fails(shop, tmp_path):
    one, _ = await fill(shop)
    program = (
        "import json, os, sys; event = json.load(sys.stdin);"
        "there = [key for key in event['keys'] if os.path.exists(os.path.join(sys.argv[1], key))];"
        "open(sys.argv[2], 'a').write(json.dumps([event, there]) + '\\n');"
        "sys.exit(not os.path.exists(sys.argv[3]))"
    )
    called, cure = tmp_path / "called", tmp_path / "cure"
    hook = shlex.join([sys.executable, "-c", program, str(shop.store), str(called), str(cure)])
    shop.settings = replace(shop.settings, after_forget=hook)

    done = await shop.forget(one)

    assert (done.receipt.hook, done.ended_at) == ("exit status 1", None)
    cure.touch()
    await shop.run()
    events = [json.loads(line) for line in called.read_text(encoding="utf-8").splitlines()]
    keys = ["1/main_image.jpg", "2/main_image.jpg", "3/main_image.jpg", "products/A.jpg", "products/B.jpg"]
    event = {"event": "after_forget", "takedown": 1, "what": one, "status": 410, "keys": keys}
    assert events == [[{**event, "urls": [f"/static/images/{key}" for key in keys]}, []]] * 2
    async with open_database(shop.url) as database:
        [ended] = await TakedownRecords(database).read()
    assert ended.receipt.hook == ""
    assert ended.ended_at is not None


async def test_no_run_and_no_undo_brings_back_what_was_taken_down(shop):
    one, other = await fill(shop)
    await shop.forget(one)
    asked = shop.asked("1.jpg")
    await shop.add(5, one)  # the same URL
    await shop.add(6, one.replace("http://pics", "http://PICS") + "#top")  # the same, spelled differently
    await shop.add(7, other + "?new")

    ended = await shop.run(retry="all")
    undone = await undo(shop.settings, run=1)
    again = await shop.run(retry="taken-down")

    assert (ended.failed, again.failed) == ({Reason.TAKEN_DOWN: 2}, {})
    assert undone["cases"].restored == 1
    assert set(await shop.locals()) == {"4", "7"}
    assert shop.asked("1.jpg") == asked
    reasons = await shop.reasons()
    assert {key for key, reason in reasons.items() if reason == "taken-down"} == {"1", "2", "3", "5", "6", "A", "B"}
    assert shop.files_with(shop.digest(one)) == []


async def test_the_same_bytes_from_another_url_are_refused_and_not_stored(corner):
    one, _ = await fill(corner)
    await corner.forget(one)
    await corner.add(5, corner.link("1.jpg") + "?elsewhere")
    found = corner.store / "6" / "main_image.jpg"
    found.parent.mkdir()
    found.write_bytes(corner.origin.picture(one))
    await corner.add(6, corner.link("3.jpg"))

    ended = await corner.run()

    assert ended.failed == {Reason.TAKEN_DOWN: 2}
    assert set(await corner.locals()) == {"4"}
    assert [path.relative_to(corner.store).parts[:2] for path in corner.files_with(corner.digest(one))] == [
        (".rehost", "quarantine")
    ]


async def test_what_is_allowed_again_is_fetched_by_the_next_run(corner):
    one, _ = await fill(corner)
    await corner.forget(one)

    due = await corner.allow(one)
    ended = await corner.run()

    assert (due, ended.held) == (5, 5)
    assert len(await corner.locals()) == 6
    assert not [path for path in (corner.store / ".rehost" / "gone").rglob("*") if path.is_file()]


async def test_a_url_an_origin_and_a_digest_can_be_taken_down_before_there_is_a_copy(corner):
    one, two = corner.link("1.jpg"), corner.link("2.jpg")
    elsewhere = corner.origin.url("permissive", "3.jpg", host="other.example")
    origin = elsewhere.rpartition("/permissive")[0]
    await corner.forget(one, origin, corner.digest(two).upper())
    for case_id, link in enumerate((one, two, elsewhere), 1):
        await corner.add(case_id, link)

    ended = await corner.run()

    assert ended.failed == {Reason.TAKEN_DOWN: 3}
    assert [corner.asked(name) for name in ("1.jpg", "2.jpg", "3.jpg")] == [0, 1, 0]
    assert await corner.locals() == {}


async def test_everything_of_an_origin_is_taken_down(corner):
    _, other = await fill(corner)
    await corner.add(5, corner.origin.url("permissive", "3.jpg", host="other.example"))
    await corner.run()

    done = await corner.forget(other.rpartition("/permissive")[0])

    assert (done.receipt.files, done.receipt.rows) == (6, 6)
    assert set(await corner.locals()) == {"5"}


async def test_a_row_whose_link_has_changed_keeps_its_new_picture(shop):
    one, other = await fill(shop)
    await shop.sql(f"UPDATE ad_cases SET main_image = '{other}' WHERE case_id = 1")

    await shop.forget(one)
    before = await shop.reasons()
    ended = await shop.run()

    assert before["1"] is None or before["1"] == "taken-down"
    assert ended.held == 1
    assert set(await shop.locals()) == {"1", "4"}
    assert (shop.store / "1" / "main_image.jpg").read_bytes() == shop.origin.picture(other)


async def test_a_takedown_that_ends_at_any_step_is_completed_by_the_next_run(shop, sample, monkeypatch):
    one, _ = await fill(shop)
    quarantined = shop.store / ".rehost" / "quarantine" / "9" / "main_image.jpg"
    for step in sample(STEPS, 1):
        quarantined.parent.mkdir(parents=True, exist_ok=True)
        quarantined.write_bytes(shop.origin.picture(one))
        async with open_takedowns(shop.settings) as (takedowns, targets):
            named = await targets.find(one)
            part = TakedownRecords if hasattr(TakedownRecords, step) else LocalStore
            with monkeypatch.context() as patched:
                patched.setattr(part, step, _interrupt)
                with pytest.raises(Interrupted):
                    await takedowns.take_down(one, named)
        assert not await _rows_without_files(shop), step

        ended = await shop.run()

        done = (await _takedowns(shop))[-1]
        assert (ended.failed, shop.files_with(shop.digest(one))) == ({}, []), step
        assert set(await shop.locals()) == {"4"}, step
        assert done.ended_at is not None, step
        size = 5 * len(shop.origin.picture(one))
        assert (done.receipt.rows, done.receipt.files, done.receipt.size) == (5, 5, size), step
        await shop.allow(one)
        assert (await shop.run()).held == 5


async def test_a_copy_that_came_back_is_removed_by_the_next_run(corner):
    one, _ = await fill(corner)
    await corner.forget(one)
    await corner.allow(one)
    await corner.run()
    done = await corner.forget(one)
    # a worker that was late by more than a lease, or a ledger from a backup
    await corner.sql(
        "UPDATE rehost_links SET state = 'held', reason = NULL, key = '1/main_image.jpg', held_url = url,"
        f" digest = '{corner.digest(one)}', size = 1 WHERE row_key = '1'"
    )
    await corner.sql("UPDATE ad_cases SET main_image_local = '/static/images/1/main_image.jpg' WHERE case_id = 1")
    (corner.store / "1").mkdir()
    (corner.store / "1" / "main_image.jpg").write_bytes(corner.origin.picture(one))

    await corner.run()

    assert done.ended_at is not None
    assert set(await corner.locals()) == {"4"}
    assert corner.files_with(corner.digest(one)) == []


async def test_the_same_takedown_goes_on_where_it_is_asked_for_again(corner):
    one, _ = await fill(corner)
    first = await corner.forget(one)

    second = await corner.forget(one)
    legal = await corner.forget(one, legal=True)

    assert [each.takedown for each in (first, second, legal)] == [1, 1, 1]
    assert (second.receipt.files, legal.receipt.files) == (5, 5)
    assert [each.status for each in (second, legal)] == [410, 451]
    assert {
        mark.status for key in ("1/main_image.jpg", "products/B.jpg") for mark in gone.read(corner.store, key)[-1:]
    } == {451}
    assert await corner.allow(one) == 5
    assert (await corner.run()).held == 5


async def test_a_run_over_one_source_leaves_the_copies_of_others_to_a_run_over_all(corner, monkeypatch):
    one, _ = await fill(corner)
    with monkeypatch.context() as patched:
        patched.setattr(TakedownRecords, "copies", _interrupt)
        with pytest.raises(Interrupted):
            await corner.forget(one)

    async with open_run(corner.settings, source="cases", listen=corner.events.append) as run:
        await run.execute()
    between = await corner.locals()
    assert not await _rows_without_files(corner)
    await corner.run()

    assert set(between) == {"4", "A", "B"}
    assert set(await corner.locals()) == {"4"}
    assert corner.files_with(corner.digest(one)) == []


async def test_a_ledger_in_a_database_of_its_own_takes_down_too_and_undo_brings_nothing_back(corner):
    corner.settings = replace(corner.settings, ledger_url=f"sqlite:///{corner.folder}/ledger.db")
    one, _ = await fill(corner)

    done = await corner.forget(one)
    [run] = done.receipt.runs
    undone = await undo(corner.settings, run=run)

    assert {name: each.restored for name, each in undone.items()} == {"cases": 0, "products": 0}
    assert (done.receipt.rows, done.receipt.files) == (5, 5)
    assert set(await corner.locals()) == {"4"}
    assert corner.files_with(corner.digest(one)) == []


async def test_a_picture_that_was_replaced_goes_from_the_trash_too(corner):
    one, _ = await fill(corner)
    former = b"what the link gave before"
    trashed = corner.store / ".rehost/trash/replaced" / hashlib.sha256(former).hexdigest()[:2]
    trashed.mkdir(parents=True)
    (trashed / hashlib.sha256(former).hexdigest()).write_bytes(former)
    await corner.sql(
        "INSERT INTO rehost_changes (run, source, row_key, position, url, before_digest, changed_at)"
        f" VALUES (1, 'cases', '1', 0, '{one}', '{hashlib.sha256(former).hexdigest()}', 0)"
    )

    done = await corner.forget(one)

    assert [each["digest"] for each in done.receipt.trash] == [hashlib.sha256(former).hexdigest()]
    assert corner.files_with(hashlib.sha256(former).hexdigest()) == []


async def test_a_picture_that_is_being_fetched_meanwhile_is_not_recorded(corner):
    links = [corner.link("1.jpg"), corner.link("2.jpg")]
    for case_id, link in enumerate(links, 1):
        await corner.add(case_id, link)
    async with open_upkeep(corner.settings) as parts:
        cases, outcomes = parts.sources[0], []
        await cases.planner.plan()
        for number, link in enumerate(links, 1):
            task = await cases.ledger.leases.lease_one("cases", str(number), 0)
            spool = cases.store.spool()
            spool.write_bytes(corner.origin.picture(link))
            copy = Copy(f"{number}/main_image.jpg", corner.digest(link), spool.stat().st_size)
            outcomes.append(Stored(task, copy, Image(Format.JPEG, 4, 3, 1), spool, final_url=link))

        await corner.forget(links[0], corner.digest(links[1]))
        recorded = await cases.recorder.record(1, outcomes)

    assert recorded.held == 0
    assert await corner.locals() == {}
    assert await corner.reasons() == {"1": "taken-down", "2": "taken-down"}
    assert [corner.files_with(corner.digest(link)) for link in links] == [[], []]


async def test_a_survey_changes_nothing_and_counts_what_would_be_removed(corner):
    one, _ = await fill(corner)
    before = await corner.locals()
    async with open_takedowns(corner.settings) as (takedowns, targets):
        survey = await takedowns.survey(await targets.find(one))

    assert (survey.copies, survey.size) == (5, 5 * len(corner.origin.picture(one)))
    assert {row["source"] for row in survey.rows} == {"cases", "products"}
    assert await corner.locals() == before
    assert await _takedowns(corner) == []


async def test_a_row_that_the_database_refuses_to_clear_is_left_and_cleared_later(shop):
    if shop.url.startswith("sqlite"):
        refusing = (
            "CREATE TRIGGER no BEFORE UPDATE ON ad_cases WHEN old.case_id = 1 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        allowing = "DROP TRIGGER no"
    else:
        refusing = (
            "ALTER TABLE ad_cases ADD CONSTRAINT no CHECK (case_id <> 1 OR main_image_local IS NOT NULL) NOT VALID"
        )
        allowing = "ALTER TABLE ad_cases DROP CONSTRAINT no"
    one, _ = await fill(shop)
    await shop.sql(refusing)

    done = await shop.forget(one)
    await shop.sql(allowing)
    again = await shop.forget(one)

    assert [(row["source"], row["key"]) for row in done.receipt.left] == [("cases", "1")]
    assert (done.ended_at, done.receipt.rows) == (None, 4)
    assert (again.receipt.left, again.receipt.rows) == ([], 5)
    assert again.ended_at is not None
    assert set(await shop.locals()) == {"4"}
    assert shop.files_with(shop.digest(one)) == []


# --- what is named


async def test_a_picture_is_named_by_its_url_row_key_copy_or_digest(corner):
    one, _ = await fill(corner)
    url, digest, key = (Mark.URL, one), (Mark.DIGEST, corner.digest(one)), (Mark.KEY, "1/main_image.jpg")

    assert await corner.find(one) == {url}
    assert await corner.find(one.upper().replace("/PERMISSIVE/1.JPG", "/permissive/1.jpg#x")) == {url}
    assert await corner.find("1") == await corner.find("cases:1") == {url, digest, key}
    assert await corner.find("1/main_image.jpg") == {url, digest, key}
    assert await corner.find("/static/images/1/main_image.jpg?v=12345678") == {url, digest, key}
    assert await corner.find("https://www.shop.example/static/images/1/main_image.jpg") == {url, digest, key}
    assert await corner.find("https://www.shop.example/static/images/99/main_image.jpg") == {
        (Mark.URL, "https://www.shop.example/static/images/99/main_image.jpg")
    }
    assert await corner.find(corner.digest(one)) == {digest}
    assert await corner.find("https://pics.example") == {(Mark.ORIGIN, "https://pics.example")}


async def test_a_row_that_no_run_has_taken_in_yet_is_found(corner):
    await corner.add(7, corner.link("7.jpg"))

    assert await corner.find("7") == {(Mark.URL, corner.link("7.jpg"))}


async def test_a_key_of_rows_in_two_sources_is_an_error_that_lists_them(corner):
    await fill(corner)
    await corner.add_product("1", corner.link("3.jpg"))

    with pytest.raises(SettingsError, match="can mean several things: cases:1, products:1"):
        await corner.find("1")


async def test_what_is_not_known_is_an_error(corner):
    for what in ("99", "products:Z", "1/main_image.gif", "nothing", "https://user:pw@a.example/1.jpg"):
        with pytest.raises(SettingsError, match=r"neither a URL|no URL that rehost can request"):
            await corner.find(what)


async def _interrupt(*_arguments: object) -> None:
    raise Interrupted


async def _takedowns(shop: Shop) -> list[Takedown]:
    async with open_database(shop.url) as database:
        return list(await TakedownRecords(database).read())


async def _rows_without_files(shop: Shop) -> list[str]:
    paths = {local: shop.store / local.removeprefix("/static/images/") for local in (await shop.locals()).values()}
    return [local for local, path in paths.items() if not path.is_file()]


async def test_a_takedown_beside_a_run_ends_once_the_last_object_is_gone_from_the_bucket(s3_server, tmp_path):
    prefix = s3_server.fresh_prefix()
    where = {"IMAGE_STORAGE_DIR": f"s3://{BUCKET}/{prefix}", "IMAGE_SPOOL_DIR": str(tmp_path / "spool")}
    async with opened(f"sqlite:///{tmp_path}/corner.db", tmp_path, **where, **s3_server.env()) as shop:
        one, other = shop.link("1.jpg"), shop.link("2.jpg")
        await shop.add(1, one)
        await shop.run()
        await shop.add(2, other)
        await shop.run()
        [copy] = s3_server.objects(BUCKET, f"{prefix}/1/")
        stray = copy.replace("/1/", "/2/")
        leased = "UPDATE rehost_links SET state = 'leased', worker = 'elsewhere', due_at = due_at + 3600"
        await shop.sql(f"{leased} WHERE row_key = '2'")
        s3_server.put(BUCKET, stray, shop.origin.picture(one))

        begun = await shop.forget(one)
        beside = s3_server.objects(BUCKET, f"{prefix}/")
        await shop.sql("UPDATE rehost_links SET state = 'held', worker = NULL WHERE row_key = '2'")
        await shop.run()

        assert (begun.ended_at, stray in beside, copy in beside) == (None, True, False)
        assert stray not in s3_server.objects(BUCKET, f"{prefix}/")
        [(ended_at,)] = await shop.sql("SELECT ended_at FROM rehost_takedowns")
        assert ended_at is not None
