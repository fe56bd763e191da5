"""The docs: they are complete and up to date, their links work, and their examples are valid."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from rehost import retry
from rehost.cli.main import VERBS, rehost
from rehost.db import dialects
from rehost.fetch import reasons
from rehost.hosts import pacing, shares
from rehost.hotlink import origin_state
from rehost.http import pool
from rehost.ledger import leases
from rehost.model import Reason
from rehost.run.limits import Limits
from rehost.settings import DatabaseParts, Settings, load, settings_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "backend").rglob("*.md")])
GENERATED = {ROOT / "docs" / "reference" / name for name in ("settings.md", "commands.md", "reasons.md", "tables.md")}
REFERENCE = ROOT / "docs" / "reference"


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, without the indentation of a surrounding list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text_of(page), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def prose(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers create them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands() -> list[tuple[str, str]]:
    """Return every line in the docs that calls `rehost` or `./dev`."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            found += [(named(page), line) for line in block.splitlines() if re.match(r"(rehost|\./dev) ", line)]
    return found


@pytest.mark.parametrize("name", sorted(page.name for page in GENERATED))
def test_generated_page_is_up_to_date(name):
    assert generator().PAGES[name]() == text_of(REFERENCE / name), "./dev docs regenerates it"


def test_every_setting_is_documented():
    page = text_of(REFERENCE / "settings.md")

    missing = [
        setting.name
        for part in (DatabaseParts, Settings)
        for setting in settings_of(part)
        if f"`{setting.name}`" not in page
    ]

    assert not missing


def test_every_verb_is_documented():
    assert not [verb for verb in VERBS if f"## {verb}\n" not in text_of(REFERENCE / "commands.md")]


def test_every_reason_is_documented():
    assert not [reason for reason in Reason if f"`{reason}`" not in text_of(REFERENCE / "reasons.md")]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_have_a_target(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_pages_that_the_program_names_have_the_anchor():
    named_there = [
        (path, *found)
        for path in (ROOT / "src" / "rehost").rglob("*.py")
        for text in [path.read_text(encoding="utf-8")]
        for constant in [re.search(r'^PAGE = "(.*)"$', text, re.MULTILINE)]
        for found in re.findall(r"(docs/[\w/-]+\.md)#([\w-]+)", text.replace("{PAGE}", constant[1] if constant else ""))
    ]

    assert named_there
    assert [each for each in named_there if each[2] not in anchors(ROOT / each[1])] == []


@pytest.mark.parametrize("page", sorted(set(PAGES) - GENERATED), ids=named)
def test_prose_has_one_sentence_per_line(page):
    for line in prose(page).splitlines():
        if not line.lstrip().startswith(("|", "-", "#", "<!--")) and not re.match(r"\s*\d+\. ", line):
            assert not re.search(r"[a-z)`][.!?] +[A-Z]|。.", line), line


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_in_the_docs_exists(page, line):
    words = shlex.split(line, comments=True)
    if words[0] == "./dev":
        known_to_dev = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
        assert f"./dev {words[1]}" in known_to_dev
        return

    command = rehost.get_command(click.Context(rehost), words[1])

    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word.split("=")[0] for word in words[2:] if word.startswith("-")} <= known


@pytest.mark.parametrize(
    ("page", "block"),
    [(named(page), block) for page in PAGES for block in blocks(page, "toml")],
)
def test_toml_in_the_docs_is_valid(page, block, tmp_path):
    (tmp_path / "rehost.toml").write_text(block, encoding="utf-8")

    settings = load(tmp_path, {}, {})

    assert settings != load(tmp_path / "elsewhere", {}, {}), "the example sets nothing"


@pytest.mark.parametrize(
    ("page", "block"),
    [(named(page), block) for page in PAGES for block in blocks(page, "env")],
)
def test_env_examples_in_the_docs_are_valid(page, block, tmp_path):
    (tmp_path / ".env").write_text(block, encoding="utf-8")

    settings = load(tmp_path, {}, {})

    names = {setting.name for part in (DatabaseParts, Settings) for setting in settings_of(part)}
    assert set(re.findall(r"^(\w+)=", block, re.MULTILINE)) <= names | settings.aws.keys()


def test_setting_names_in_the_docs_exist():
    names = {setting.name for part in (DatabaseParts, Settings) for setting in settings_of(part)}
    others = {"REHOST_LANG", "REHOST_TEST_SEED", "REHOST_TEST_POSTGRES"}

    for page in PAGES:
        assert set(re.findall(r"\b(?:IMAGE|REHOST|API)_[A-Z_]+\b", text_of(page))) <= names | others, page


def test_tutorial_creates_its_table(tmp_path):
    page = ROOT / "docs" / "tutorial.md"
    script = re.search(r"<<'PYTHON'\n(.*?)\nPYTHON", text_of(page), re.DOTALL)
    assert script

    subprocess.run([sys.executable, "-c", script[1]], cwd=tmp_path, check=True)

    assert (tmp_path / "shop.db").exists()


AMOUNTS = {0.5: "half a", 1.0: "a", 4: "four", 20: "twenty"}


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("origins.md", f"at least {AMOUNTS[pacing.MIN_SECONDS]} second)"),
        ("origins.md", f"After {pacing.FAILURES_IN_A_ROW} time-outs in a row, or {pacing.ERRORS_IN_A_ROW} errors"),
        ("origins.md", f"a host is paused for {pacing.FIRST_PAUSE:.0f} seconds"),
        ("origins.md", f"more than {pacing.THROTTLES_IN_A_ROW} times in a row"),
        ("origins.md", "at most a tenth of" if pacing.CREDIT_PER_ANSWER == 0.1 else "?"),
        ("origins.md", f"not established after {pool.CONNECT_SECONDS:.0f} seconds"),
        ("origins.md", f"longer than {retry.LONGEST_ATTEMPT_WAIT:.0f} seconds, the next attempt"),
        ("origins.md", f"next visit: {retry.FIRST_VISIT_WAIT / 60:.0f} minutes, then twice as long each time, up"),
        ("origins.md", f"at most {origin_state.EXTRA_REQUESTS} each time its rule is learned"),
        ("origins.md", f"After {origin_state.MOST_PATIENCE} refusals in a row"),
        ("origins.md", f"about {Limits(1, 1, 1, 1).postponed} links can be postponed"),
        ("durability.md", f"{AMOUNTS[leases.SUSPECTS]} together"),
        ("durability.md", f"One such link costs {AMOUNTS[leases.ALONE + 2]} processes"),
    ],
)  # fmt: skip
def test_numbers_in_explanations_are_those_of_the_code(page, sentence):
    assert sentence in text_of(ROOT / "docs" / "explanation" / page)


def test_the_times_in_the_guide_to_workers_are_those_of_the_code():
    guide = text_of(ROOT / "docs" / "howto" / "workers.md")

    assert f"after {shares.MOST_SILENCE:.0f} seconds of silence" in guide
    assert f"and after {dialects.LEAST_SILENCE:.0f} otherwise" in guide


def test_the_longest_waits_in_explanations_are_those_of_the_code():
    day = 86_400

    assert (day, 14 * day, 56 * day) == (retry.LONGEST_VISIT_WAIT, retry.REFUSED_WAIT, retry.LONGEST_REFUSED_WAIT)
    assert (day, 7 * day) == (origin_state.LONGEST_REST, reasons.LONGEST_RETRY_AFTER)


def test_no_page_names_a_package_index_that_does_not_have_rehost():
    pages = [page for page in PAGES if re.search(r"pip install ['\"]?rehost", text_of(page))]

    assert not pages
