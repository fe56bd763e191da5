"""What tests rely on: samples that can be repeated, and no skip in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


INI = """
[pytest]
addopts = --import-mode=importlib
markers =
    shared
    sampled
pythonpath = .
"""


@pytest.fixture
def run_tests(tmp_path):
    """A callable: run pytest, without plugins, on some code below a copy of our conftest; return what it prints."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text(INI)
    for name in ("conftest.py", "ports.py", "postgres.py", "s3.py", "s3_faults.py", "scratch.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")

    def run(code: str, *options: str, path: str = "test_it.py", **environ: str) -> str:
        file = tmp_path / "tests" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
        ours = {name: value for name, value in os.environ.items() if name != "CI"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options],
            env={**ours, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    return run


SAMPLE = "def test_it(sample):\n    print('chose', sample(range(1000), 5))\n"


def chosen(output: str) -> str:
    return next(line for line in output.splitlines() if line.startswith("chose"))


def test_sample_is_the_same_for_the_same_seed(run_tests):
    first, again = (chosen(run_tests(SAMPLE, REHOST_TEST_SEED="7")) for _ in range(2))

    assert first == again
    assert first != chosen(run_tests(SAMPLE, REHOST_TEST_SEED="8"))


def test_full_takes_all(run_tests):
    assert "chose [0, 1, 2" in run_tests(SAMPLE, "--full")


CASES = """
import pytest

@pytest.mark.sampled(2, per="engine")
@pytest.mark.parametrize("engine", ["x", "y"])
@pytest.mark.parametrize("number", range(100))
def test_it(engine, number):
    print("chose", engine, number)
"""


def test_cases_of_a_test_are_sampled_for_each_value_of_a_parameter(run_tests):
    first, again, other = (run_tests(CASES, REHOST_TEST_SEED=seed) for seed in ("7", "7", "8"))

    chosen = [[line for line in each.splitlines() if line.startswith("chose")] for each in (first, again, other)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [[line.split()[1] for line in each].count("x") for each in chosen] == [2, 2, 2]
    assert "4 passed, 196 deselected" in first
    assert "200 passed" in run_tests(CASES, "--full")


DATABASES = """
import pytest

@pytest.mark.parametrize("engine", ["postgresql", "sqlite"])
@pytest.mark.parametrize("number", range(100))
def test_it(engine, number):
    print("chose", engine, number)
"""


@pytest.mark.parametrize(
    ("folder", "options", "count"), [("upkeep", [], 1), ("upkeep", ["--full"], 2), ("ledger", [], 2)]
)
def test_a_test_above_the_statements_runs_on_one_of_two_databases(run_tests, folder, options, count):
    printed = run_tests(DATABASES, *options, path=f"{folder}/test_it.py", REHOST_TEST_SEED="7")

    chosen = [line.split()[1:] for line in printed.splitlines() if line.startswith("chose")]
    assert sorted(number for _, number in chosen) == sorted([str(number) for number in range(100)] * count)
    assert {engine for engine, _ in chosen} == {"postgresql", "sqlite"}


def test_seed_is_printed(run_tests):
    assert "REHOST_TEST_SEED=7" in run_tests(SAMPLE, REHOST_TEST_SEED="7")


@pytest.mark.parametrize(
    "code",
    [
        "import pytest\ndef test_it():\n    pytest.skip('no strace here')\n",
        "import pytest\n@pytest.mark.skipif(True, reason='no strace here')\ndef test_it():\n    pass\n",
        "import pytest\npytest.skip('no strace here', allow_module_level=True)\n",
    ],
    ids=["in the test", "by a mark", "the whole module"],
)
def test_skip_is_a_failure_in_ci(run_tests, code):
    assert "skipped in CI" in run_tests(code, CI="true")
    assert "SKIPPED" in run_tests(code)


def test_expected_failure_is_none_in_ci(run_tests):
    code = "import pytest\n@pytest.mark.xfail\ndef test_it():\n    assert False\n"

    assert "1 xfailed" in run_tests(code, CI="true")


def test_outside_material_may_be_absent_in_ci(run_tests):
    code = "import pytest\ndef test_it():\n    pytest.skip('../shared is not beside the checkout')\n"

    assert "1 skipped" in run_tests(code, CI="true")
