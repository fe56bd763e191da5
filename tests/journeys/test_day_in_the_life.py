"""A day in the life of a shop: two tables in PostgreSQL, a cron job, editors, a store that comes and goes."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from tests.journeys.world import World, ended
from tests.origin import Origin

from rehost.cli.main import VERBS
from rehost.language import CHINESE, ENGLISH
from rehost.model import Reason, State

SETTINGS = {"IMAGE_DOWNLOAD_CONCURRENCY": "6"}
LANGUAGES = {
    ENGLISH: {"REHOST_LANG": "", "LANG": "C.UTF-8"},
    CHINESE: {"REHOST_LANG": "", "LANG": "zh_CN.UTF-8"},
}
CONFIGURATION = """
[source.products]
table = "products"
key = "sku"
link = "photo"
local = "photo_local"
path = "products/{key}"

[source.articles]
table = "articles"
key = "id"
link = "picture"
local = "picture_local"
path = "articles/{key}"
"""
TABLES = """
CREATE TABLE products (sku text PRIMARY KEY, photo text, photo_local text);
CREATE TABLE articles (id integer PRIMARY KEY, picture text, picture_local text);
"""
TRIGGER = """
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.sku = 's1' THEN RAISE 'the price list is closed'; END IF;
    IF new.sku = 's2' THEN RETURN NULL; END IF;
    RETURN new;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION guard()
"""
PRODUCTS, ARTICLES = 12, 4

# What is the same in both languages: names of ours and of the shop, units, evidence.
NAMES = [
    *VERBS, *State, *Reason, "rehost", "products", "articles", "namespaces", "Landlock", "seccomp", "PostgreSQL", "all",
    "Referer", "Retry-After", "paused by the operator",
    platform.node(), r"[kMG]?B", r"[0-9a-f]{8}", r"\w+_\w+", r"[\w.]+@\w+", r"\S+/\S*",
    r"--\w+(-\w+)*", r"\w+\.example", r"`[^`]*`",
]  # fmt: skip


@dataclass
class Shop:
    """The shop's machine, on which commands speak one language."""

    world: World
    language: str
    answers: dict[str, str]  # path -> behaviour
    known: set[str] = field(default_factory=set)  # names of pictures
    asked: int = 0
    said: list[str] = field(default_factory=list)

    def rehost(self, verb: str, *options: str, status: int = 0, asks: str = "") -> str:
        """Run a command, assert how it ends and for which pictures it asks, and return what it prints."""
        with self.world.start(verb=verb, options=options, settings=LANGUAGES[self.language]) as command:
            done = ended(command)
        printed = done.stdout + done.stderr
        self.said.append(printed)
        assert done.returncode == status, printed
        requests, self.asked = self.world.origin.requests[self.asked :], len(self.world.origin.requests)
        names = {each.path.rpartition("/")[2] for each in requests}
        assert names & self.known == {f"{name}.jpg" for name in asks.split()}, printed  # the rest are controls
        return printed

    def says(self, text: str, english: str, chinese: str) -> None:
        """Assert that a text says this in the shop's language."""
        assert re.search(chinese if self.language == CHINESE else english, text), text

    def link(self, name: str, host: str = "pics.example") -> str:
        self.known.add(f"{name}.jpg")
        return self.world.origin.url("picture", f"{name}.jpg", host=host)

    @property
    def everything(self) -> str:
        """The names of all pictures."""
        return " ".join(name.removesuffix(".jpg") for name in self.known)

    def columns(self) -> Mapping[tuple[str, str], str]:
        """Return the local URLs by table and key."""
        products = self.world.sql("SELECT 'products', sku, coalesce(photo_local, '') FROM products")
        articles = self.world.sql("SELECT 'articles', id, coalesce(picture_local, '') FROM articles")
        return {(table, key): local for table, key, local in [*products, *articles]}

    def last_run(self) -> str:
        return self.world.sql("SELECT max(coalesce(crew, run)) FROM rehost_runs")[0][0]

    def file(self, local: str):
        return self.world.store / local.removeprefix("/static/images/")

    def add_product(self, sku: str) -> None:
        self.world.sql(f"INSERT INTO products VALUES ('{sku}', '{self.link(sku)}')")


def first_run(shop: Shop) -> None:
    planned = shop.rehost("plan")
    done = shop.rehost("run", asks=shop.everything)
    standing = shop.rehost("status")

    shop.says(planned, r"total +16 +0 +16", r"合计 +16 +0 +16")
    shop.says(done, r"copied +16", r"已下载 +16")
    shop.says(standing, r"products: 12 of 12 links", r"products：12 / 12 条链接")
    assert all(shop.file(local).is_file() for local in shop.columns().values())


def quiet_night(shop: Shop) -> None:
    assert shop.rehost("run", "--quiet") == ""


def link_emptied(shop: Shop) -> None:
    """The copy and the column stay, and the link can come back."""
    before = shop.columns()
    shop.world.sql("UPDATE products SET photo = NULL WHERE sku = 'p1'")
    assert shop.rehost("run", "--quiet") == ""
    standing = shop.rehost("status", "--source", "products")
    shop.world.sql(f"UPDATE products SET photo = '{shop.link('p1')}' WHERE sku = 'p1'")
    assert shop.rehost("run", "--quiet") == ""

    shop.says(standing, "11 of 11 links", "11 / 11 条链接")
    assert shop.columns() == before
    assert shop.file(before["products", "p1"]).is_file()


def rows_that_refuse(shop: Shop) -> None:
    """All other rows are written, and nothing is fetched again when the trigger is mended."""
    shop.world.sql(TRIGGER)
    for sku in ("s1", "s2", "s3"):
        shop.add_product(sku)
    printed = shop.rehost("run", "--quiet", status=1, asks="s1 s2 s3")
    refused = shop.rehost("status", "--failed", "--source", "products")
    written = {sku for (table, sku), local in shop.columns().items() if local and sku.startswith("s")}
    shop.rehost("run", "--quiet")
    shop.world.sql("DROP TRIGGER guard ON products")
    assert shop.rehost("run", "--quiet", "--retry", "row-refused") == ""

    shop.says(printed, r"2 pictures failed \(row-refused 2\)", r"row-refused 2")
    shop.says(refused, "s1 .*the price list is closed", "s1 .*the price list is closed")
    assert written == {"s3"}
    assert all(shop.columns().values())


def mount_lost_and_found(shop: Shop) -> None:
    """Nothing is requested, nothing is written, and no folder is made on the wrong disk."""
    before, elsewhere = shop.columns(), shop.world.folder / "elsewhere"
    shop.world.store.rename(elsewhere)
    stopped = shop.rehost("run", "--quiet", status=3)
    shop.rehost("plan", status=3)
    assert (shop.columns(), shop.world.store.exists()) == (before, False)
    elsewhere.rename(shop.world.store)
    assert shop.rehost("run", "--quiet") == ""

    shop.says(stopped, r"images does not exist.*mount it.*--accept-loss", r"images 不存在.*挂载.*--accept-loss")
    assert shop.columns() == before


def file_deleted_whose_origin_has_nothing(shop: Shop) -> None:
    """The reader gets the original link, until the operator has put the file back."""
    before = shop.columns()
    file = shop.file(before["products", "p2"])
    body = file.read_bytes()
    file.unlink()
    shop.answers["/picture/p2.jpg"] = "gone"
    printed = shop.rehost("run", "--quiet", status=1, asks="p2")
    assert shop.columns() == before | {("products", "p2"): ""}
    file.write_bytes(body)
    undone = shop.rehost("undo", shop.last_run())
    assert shop.columns() == before
    assert shop.rehost("run", "--quiet") == ""

    shop.says(printed, r"1 picture failed \(gone 1\), 1 file was missing", r"gone 1.*1 个文件")
    shop.says(undone, r"products: Restored 1 row", r"products：已将 1 行恢复")
    assert shop.columns() == before


def host_paused(shop: Shop) -> None:
    """Its new link waits, and is due as soon as the host is resumed."""
    paused = shop.rehost("origins", "--pause", "news.example", "--for", "2h")
    shop.world.sql(f"INSERT INTO articles VALUES (5, '{shop.link('a5', 'news.example')}')")
    printed = shop.rehost("run", "--quiet", "--retry", "all", status=1)
    standing = shop.rehost("status", "--source", "articles")
    resumed = shop.rehost("origins", "--resume", "news.example")
    assert shop.rehost("run", "--quiet", asks="a5") == ""

    shop.says(paused, r"Paused news.example for 2 h", r"已暂停 news.example")
    shop.says(printed, r"a paused host: news.example", r"暂停.*news.example")
    shop.says(standing, r"news.example .*paused by the operator", r"news.example .*")
    shop.says(resumed, r"due now: 1", r"1")
    assert shop.columns()["articles", "5"]


def loss_accepted(shop: Shop) -> None:
    """The rows are cleared and fetched again; what its origin no longer has comes back with the old store."""
    before, elsewhere = shop.columns(), shop.world.folder / "elsewhere"
    shop.world.store.rename(elsewhere)
    shop.rehost("run", "--accept-loss", status=1, asks=shop.everything)
    assert shop.columns() == before | {("products", "p2"): ""}
    shutil.rmtree(shop.world.store)
    elsewhere.rename(shop.world.store)
    assert shop.rehost("run", "--quiet") == ""

    assert shop.columns() == before


DAY: list[Callable[[Shop], None]] = [
    first_run,
    quiet_night,
    link_emptied,
    rows_that_refuse,
    mount_lost_and_found,
    file_deleted_whose_origin_has_nothing,
    host_paused,
    loss_accepted,
]


@pytest.mark.timeout(300)
def test_a_day_in_the_life_of_a_shop(postgres, fork_server, proof, tmp_path, sample) -> None:
    for language in sample(list(LANGUAGES), 1):
        answers: dict[str, str] = {}
        folder, database = tmp_path / language, postgres.create_database()
        folder.mkdir()
        with Origin(lambda _host, path, _headers, answers=answers: answers.get(path)) as origin:
            world = World(folder, origin, postgres, database, {**SETTINGS, **proof}, fork_server=fork_server)
            play(Shop(world, language, answers))
        postgres.drop_database(database)


def play(shop: Shop) -> None:
    (shop.world.folder / "rehost.toml").write_text(CONFIGURATION)
    shop.world.sql(TABLES)
    for number in range(1, PRODUCTS + 1):
        shop.add_product(f"p{number}")
    for number in range(1, ARTICLES + 1):
        shop.world.sql(f"INSERT INTO articles VALUES ({number}, '{shop.link(f'a{number}', 'news.example')}')")

    for step in DAY:
        step(shop)

    if shop.language == CHINESE:
        visits = shop.world.sql("SELECT DISTINCT evidence FROM rehost_visits WHERE evidence <> ''")
        names = "|".join([*(re.escape("|".join(visit)) for visit in visits), *NAMES])
        left = re.sub(rf"(?<![\w-])({names})(?![\w-])", "", "\n".join(shop.said))
        assert re.findall(r".*[A-Za-z]{2,}.*", left) == []
