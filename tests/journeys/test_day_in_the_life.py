"""A day in the life of a shop: two tables in PostgreSQL, a cron job, editors, a store that comes and goes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from tests.journeys.world import Watched, World, ended

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
PRODUCTS, ARTICLES = 12, 4

# What is the same in both languages: names of ours and of the shop, units, and the database's own words.
NAMES = [
    *VERBS, *State, *Reason, "rehost", "products", "articles", "namespaces", "Landlock", "seccomp", "PostgreSQL",
    "Referer", r"[kMG]?B", r"\w+_\w+", r"[\w.]+@\w+", r"\S+/\S*", r"--\w+(-\w+)*", r"\w+\.example", r"`[^`]*`",
]  # fmt: skip


@dataclass
class Shop:
    """The shop's machine, on which commands speak one language."""

    world: World
    language: str
    watched: Watched
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

    def column(self, table: str = "products") -> Mapping[str, str]:
        key, local = {"products": ("sku", "photo_local"), "articles": ("id", "picture_local")}[table]
        return dict(self.world.sql(f"SELECT {key}, coalesce({local}, '') FROM {table}"))

    def file(self, local: str):
        return self.world.store / local.removeprefix("/static/images/")

    def add_product(self, sku: str) -> None:
        self.world.sql(f"INSERT INTO products VALUES ('{sku}', '{self.link(sku)}')")


def first_run(shop: Shop) -> None:
    planned = shop.rehost("plan")
    done = shop.rehost("run", asks=" ".join(name.removesuffix(".jpg") for name in shop.known))
    standing = shop.rehost("status")

    shop.says(planned, r"total +16 +0 +16", r"合计 +16 +0 +16")
    shop.says(done, r"copied +16", r"已下载 +16")
    shop.says(standing, r"products: 12 of 12 links are held.*", r"products：12 / 12 条链接已保存")
    assert all(
        shop.file(local).is_file() for table in ("products", "articles") for local in shop.column(table).values()
    )


def quiet_night(shop: Shop) -> None:
    assert shop.rehost("run", "--quiet") == ""


def link_emptied(shop: Shop) -> None:
    """The copy and the column stay, and the link can come back."""
    before = shop.column()
    shop.world.sql("UPDATE products SET photo = NULL WHERE sku = 'p1'")
    assert shop.rehost("run", "--quiet") == ""
    standing = shop.rehost("status", "--source", "products")
    shop.world.sql(f"UPDATE products SET photo = '{shop.link('p1')}' WHERE sku = 'p1'")
    assert shop.rehost("run", "--quiet") == ""

    shop.says(standing, "11 of 11 links are held", "11 / 11 条链接已保存")
    assert shop.column() == before
    assert shop.file(before["p1"]).is_file()


DAY: list[Callable[[Shop], None]] = [first_run, quiet_night, link_emptied]


@pytest.mark.timeout(300)
def test_a_day_in_the_life_of_a_shop(world, watched, sample) -> None:
    for language in sample(list(LANGUAGES), 1):
        folder = world.folder / language
        folder.mkdir()
        play(Shop(replace(world, folder=folder, database=world.postgres.create_database()), language, watched))


def play(shop: Shop) -> None:
    (shop.world.folder / "rehost.toml").write_text(CONFIGURATION)
    shop.world.sql(TABLES)
    for number in range(1, PRODUCTS + 1):
        shop.add_product(f"p{number}")
    for number in range(1, ARTICLES + 1):
        shop.world.sql(f"INSERT INTO articles VALUES ({number}, '{shop.link(f'a{number}', 'news.example')}')")
    shop.asked = len(shop.world.origin.requests)

    for step in DAY:
        step(shop)

    shop.world.postgres.drop_database(shop.world.database)
    if shop.language == CHINESE:
        left = re.sub(rf"(?<![\w-])({'|'.join(NAMES)})(?![\w-])", "", "\n".join(shop.said))
        assert not re.findall(r"[A-Za-z]{2,}", left)
