"""requirements.txt matches pyproject.toml, and programs name missing packages in one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import checkout

ROOT = Path(__file__).resolve().parents[2]


def requirement(line: str) -> tuple[str, str]:
    """The name and the lower bound of a line."""
    found = re.match(r"([a-z0-9-]+)(?:\[[a-z]+\])?>=([0-9.]+)", line)
    assert found, line
    return found[1], found[2]


def test_requirements_match_pyproject(backend: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["postgresql"], *extras["server"]]
    wanted += [each for each in project["dependency-groups"]["backend"] if isinstance(each, str)]

    lines = [line for line in (backend / "requirements.txt").read_text().splitlines() if not line.startswith("#")]

    assert sorted(map(requirement, lines)) == sorted(map(requirement, wanted))
    assert lines == sorted(lines)


def test_requirements_need_no_path(backend: Path) -> None:
    text = (backend / "requirements.txt").read_text()

    assert not re.search(r"^\s*(-e|\.|file:)", text, re.MULTILINE)  # such a line works from one folder only


def test_run_works_from_the_repository_root(backend: Path) -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]

    assert lines == ["-r backend/requirements.txt"]  # pip reads it from the folder of the file that says so
    assert backend == ROOT / "backend"


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with nothing but its standard library."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    return folder / "bin/python"


@pytest.mark.parametrize("program", ["scripts/download_all_images.py", "scripts/import_cases.py", "run.py"])
@pytest.mark.parametrize("folder", [ROOT, ROOT / "backend"], ids=["root", "backend"])
def test_programs_name_missing_packages_in_one_sentence(
    bare_python: Path, backend: Path, program: str, folder: Path
) -> None:
    done = subprocess.run(
        [bare_python, backend / program], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert "pip install -r requirements.txt" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_absent_lists_missing_and_outdated_packages(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# a comment\npytest>=1,<100\npytest-asyncio[x]>=9999\nno-such-thing>=1 # why\nodd>=1; python_version<'3'\n"
    )

    assert checkout.absent(file) == ["pytest-asyncio", "no-such-thing"]
