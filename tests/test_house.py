"""The house's own rules: what linters cannot hold."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from rehost.settings import DatabaseParts, Settings, settings_of
from tests import house

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "rehost"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "backend").rglob("*.py")])
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LONGEST_MODULE = 500
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "tools", "core"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def section(title: str) -> str:
    return ARCHITECTURE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_module_fits_on_a_few_screens(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_module_is_not_empty(path):
    assert tree(path).body, "a module appears with its first use"


def test_the_house_has_at_most_170_modules():
    assert len(house.modules()) <= 170


def test_at_most_a_tenth_of_the_modules_are_small():
    small = house.small_modules()

    assert len(small) <= len(house.modules()) / 10, [named(path) for path in small]


def test_the_package_has_no_more_lines_than_argued():
    assert house.all_lines() <= 39_900  # docs/decisions/0014-the-size-of-the-house.md


def test_a_protocol_has_at_least_two_implementations():
    assert [name for name, found in house.protocols().items() if len(found) < 2] == []


def test_one_link_passes_at_most_45_modules():
    passed = house.way()

    assert "rehost.run.run" in passed
    assert len(passed) <= 45, passed


def test_scripts_of_the_page_import_each_other_in_no_circle():
    imports = house.asset_imports()

    assert "app.js" in imports
    assert imports["app.js"]
    assert not house.circle(imports)


@pytest.mark.parametrize(
    ("imports", "left"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}, "d": set()}, ["a", "b", "c"]),
    ],
)
def test_a_circle_of_imports_is_found(imports, left):
    assert house.circle(imports) == left


def test_modules_say_what_they_are_for_in_their_names():
    assert not [path for path in SOURCES if path.stem.strip("_") in NAMELESS]


def test_exceptions_of_all_kinds_are_caught_in_one_place_only():
    places = {
        named(path)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
        and not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
    }

    assert places <= {"src/rehost/run/limits.py"}


def test_time_is_read_in_one_place_only():
    calls = re.compile(
        r"\btime\.(time|monotonic|perf_counter|sleep)\(|\bdatetime\.(now|utcnow|today)\(|\bdate\.today\("
    )

    places = {named(path) for path in PACKAGE.rglob("*.py") if calls.search(path.read_text(encoding="utf-8"))}

    assert places <= {"src/rehost/clock.py"}


def test_drawn_layers_are_the_enforced_ones():
    drawn = re.search(r"```text\n(.*?)```", section("Layers"), re.DOTALL)
    held = next(each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "layers")

    assert drawn
    assert [layer.strip("()") for layer in held["layers"]] == drawn[1].splitlines()


def test_every_package_is_in_a_layer():
    held = next(each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    names = [name.strip() for layer in held["layers"] for name in layer.split("|")]
    allowed = {name.strip("()") for name in names}
    needed = {name for name in names if not name.startswith("(")}

    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}

    assert needed <= modules - {"__init__"} <= allowed


def invariants() -> list[int]:
    return [int(number) for number in re.findall(r"^(\d+)\. ", section("Invariants"), re.MULTILINE)]


def test_invariants_are_numbered_from_one():
    assert invariants() == list(range(1, 9))


@pytest.mark.parametrize("number", invariants())
def test_invariant_has_a_test_with_its_number(number):
    pattern = re.compile(rf"^\s*(async )?def test_invariant_{number}_\w+", re.MULTILINE)

    bearing = [path for path in (ROOT / "tests").rglob("test_*.py") if pattern.search(path.read_text(encoding="utf-8"))]

    assert bearing, f"no test is called test_invariant_{number}_..."


def test_every_setting_is_used():
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if (PACKAGE / "settings") not in path.parents)

    unused = [
        setting.attribute
        for setting in settings_of(Settings)
        if not re.search(rf"\bsettings\.{setting.attribute}\b", text)
    ]

    by_way_of = {"retry": "attempts", "contact": "user_agent"}
    assert not [name for name in unused if f"settings.{by_way_of.get(name, name)}" not in text]


def test_settings_have_names_of_their_own():
    names = [setting.name for part in (Settings, DatabaseParts) for setting in settings_of(part)]

    assert len(names) == len(set(names))


def test_dev_asks_for_the_pythons_that_the_project_allows():
    low, high = re.findall(r"3, (\d+)", next(line for line in (ROOT / "dev").read_text().splitlines() if "<=" in line))

    assert PROJECT["project"]["requires-python"] == f">=3.{low},<3.{high}"


@pytest.mark.parametrize("folder", ["data/images", "backend/data/images"])
def test_copies_are_not_committed(folder):
    command = ["git", "check-ignore", "--quiet", "--no-index", f"{folder}/1/main_image.png"]

    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


VENDOR = PACKAGE / "server/dashboard/assets/vendor"


@pytest.mark.parametrize(
    "folder", sorted(path for path in VENDOR.iterdir() if path.is_dir()), ids=lambda path: path.name
)
def test_a_library_of_the_page_stands_there_with_version_and_licence(folder):
    table = (VENDOR / "README.md").read_text(encoding="utf-8")
    version = re.search(
        rf"\| \[{folder.name}\]\(\S+\) \| ([0-9.]+) \| \w+ \(`{folder.name}/LICENSE`\)", table, re.IGNORECASE
    )

    assert version
    assert "Permission is hereby granted" in (folder / "LICENSE").read_text(encoding="utf-8")
    told = "".join(path.read_text(encoding="utf-8")[:500] for path in sorted(folder.glob("*.js*")))
    assert f"v{version[1]}" in told or f'"version": "{version[1]}"' in told  # in its head, or in npm's package.json
