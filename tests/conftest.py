"""What all tests share: --full and seeded samples, the outside material, PostgreSQL, S3, and CI's ban on skipping."""

from __future__ import annotations

import os
import random
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest

T = TypeVar("T")

pytest_plugins = ["tests.postgres", "tests.s3", "tests.s3_faults"]

SHARED = Path(__file__).resolve().parents[2] / "shared"
os.environ["REHOST_LANG"] = "en"  # whatever the developer's locale is
SEED = os.environ.setdefault("REHOST_TEST_SEED", str(secrets.randbelow(10**6)))  # one for all processes of the tests

LONG = ("tests/journeys/", "tests/upkeep/", "tests/test_benchmarks.py")
ONE_DATABASE = tuple(f"tests/{each}/" for each in ("journeys", "upkeep", "server", "run", "hosts", "hotlink", "store"))
"""Above the statements, which run on both databases: without --full a test there runs on one, chosen by the seed."""

ONE_BY_ONE = ("tests/journeys/test_kills", "tests/journeys/test_s3.py")

# What may be skipped in CI: the beginning of the reason, and why it is right that CI does without.
SKIPS_ALLOWED_IN_CI = {
    "../shared is not beside the checkout": "outside material, which is not ours to publish",
}

Sample = Callable[[Sequence[T], int], list[T]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="all of every long test, in place of a seeded sample")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.register_profile("fast", deadline=None)
    hypothesis.settings.register_profile("full", deadline=None, max_examples=2000)
    hypothesis.settings.load_profile("full" if config.getoption("full") else "fast")


@pytest.hookimpl(optionalhook=True)  # tests of this file run without plugins
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes more than cores where the whole is run, as tests wait a lot; none where paths were named."""
    everything = config.args_source is not pytest.Config.ArgsSource.ARGS
    return len(os.sched_getaffinity(0)) + 2 if everything else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Give each process whole files, as their tests share fixtures, but the longest ones test by test."""
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - tests of this file run without plugins

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(ONE_BY_ONE) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_report_header(config: pytest.Config) -> str:
    extent = "full" if config.getoption("full") else "a seeded sample of the long tests (--full runs all)"
    return f"rehost: {extent}; repeat with REHOST_TEST_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"the samples are the same again with REHOST_TEST_SEED={SEED}")


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")
    if hasattr(config, "workerinput"):  # long files begin first, so that no process has one left at the end
        items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    if not config.getoption("full"):
        left_out = _not_sampled(items)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _not_sampled(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """Return the tests that are not chosen: by the mark `sampled(n, per=parameter)`, or one of two databases."""
    groups: dict[str, list[pytest.Item]] = {}
    wanted: dict[str, int] = {}
    for item in items:
        if mark := item.get_closest_marker("sampled"):
            value = item.callspec.params[mark.kwargs["per"]] if "per" in mark.kwargs else ""
            name = f"{item.nodeid.partition('[')[0]} {value}"
            wanted[name] = mark.args[0]
        elif item.nodeid.startswith(ONE_DATABASE):
            name = re.sub("postgresql|sqlite", "", item.nodeid)
            wanted[name] = 1
        else:
            continue
        groups.setdefault(name, []).append(item)
    return {
        item
        for name, group in groups.items()
        for item in random.Random(f"{SEED} {name}").sample(group, max(0, len(group) - wanted[name]))
    }


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _forbid_skip(report)
    return report


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI, turn a skip into a failure: there every tool is installed, and what is not run is not known."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith(tuple(SKIPS_ALLOWED_IN_CI)):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {reason}"


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> Sample[object]:
    """A callable: n of a sequence, in its order, chosen by the seed and the test's name; with --full all of it."""
    dice = random.Random(f"{SEED} {request.node.nodeid}")

    def choose(sequence: Sequence[T], n: int) -> list[T]:
        if request.config.getoption("full") or len(sequence) <= n:
            return list(sequence)
        return [sequence[index] for index in sorted(dice.sample(range(len(sequence)), n))]

    return choose


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of outside material beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not beside the checkout")
    return SHARED
