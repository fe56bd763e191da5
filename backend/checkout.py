"""Finds rehost for the programs in this folder, or names what is missing.

This module needs no package and runs on Python 3.8 and later, so that it can always report.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

BACKEND = Path(__file__).resolve().parent
"""The folder of `.env` and data/images."""

OLDEST_PYTHON = (3, 11)

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=(?P<least>[0-9.]+)[^;]*$")


def enter() -> None:
    """Make `import rehost` work, from the checkout around this folder if it is not installed.

    Raises:
        SystemExit: Python is too old or packages are missing; stderr has one sentence with the command to run.
    """
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(map(str, sys.version_info[:2]))
        stop(f"Python 3.11 or newer is needed and this is {version}: create a virtual environment with a newer one.")
    if find_spec("rehost") is None:
        sys.path.append(str(BACKEND.parent / "src"))
    if missing := absent(BACKEND / "requirements.txt"):
        names = ", ".join(missing)
        stop(f"Packages are missing or too old ({names}): run `pip install -r requirements.txt` in {BACKEND}")


def stop(sentence: str, status: int = 2) -> NoReturn:
    """End the program with a sentence on stderr; the default exit status is that of usage and settings errors."""
    print(sentence, file=sys.stderr)  # noqa: T201 - the program's own output
    raise SystemExit(status)


def absent(requirements: Path) -> list[str]:
    """Return the packages of a requirements file that are not installed, or older than their lower bound.

    Lines with a marker are skipped: such a package is not needed everywhere.
    """
    lines = (line.split(" #")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    found = (_REQUIREMENT.match(line) for line in lines)
    return [each["name"] for each in found if each and _installed(each["name"]) < _numbers(each["least"])]


def _installed(name: str) -> tuple[int, ...]:
    try:
        return _numbers(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return ()


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[0-9.]*", version)
    return tuple(int(part) for part in release[0].split(".") if part) if release else ()
