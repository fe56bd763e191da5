"""The benchmarks: each prints its help and runs at a tiny scale. Their figures are not asserted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
QUICKEST = "store_sync"

# The smallest workload that runs the whole benchmark, without peers that take minutes to install.
TINY = {
    "bulk": ["--scale=0.003", "--only", "rehost", "plain", "curl"],
    "latency": ["--scale=0.01"],
    "million": ["--scale=0.005", "--files"],
    "proof": ["--scale=0.01", "--only", "jpg", "png"],
    "serve": ["--scale=0.01"],
    "start": ["--scale=0.05"],
    "store": ["--scale=0.003", "--rounds=1"],
    "store_sync": ["--scale=0.02"],
    "trouble": ["--scale=0.01", "--timeout=1"],
    "upkeep": ["--scale=0.0005", "--rounds=1"],
    "workers": ["--scale=0.005"],
}
MORE = [("workers", ["--snapshot=2"]), ("workers", ["--s3", "--scale=0.001"])]  # further runs


def bench(name, *options):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_each_is_described_in_the_readme():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)

    assert sorted(described) == BENCHMARKS


def test_each_has_a_tiny_scale():
    assert sorted(TINY) == BENCHMARKS


def test_help_is_shown(sample):
    for name in sample(BENCHMARKS, 3):
        shown = bench(name, "--help")

        assert shown.returncode == 0, shown.stderr
        assert "--scale" in shown.stdout


@pytest.mark.timeout(3600)
def test_it_runs_at_a_tiny_scale(pytestconfig, tmp_path):
    names = BENCHMARKS if pytestconfig.getoption("full") else [QUICKEST]
    for name, tiny in [*((name, TINY[name]) for name in names), *(MORE if names == BENCHMARKS else ())]:
        run = bench(name, "--rounds=1", f"--folder={tmp_path}", f"--results={tmp_path}/results", *tiny)

        assert run.returncode == 0, run.stderr
        assert "not run" not in run.stdout
        assert [path for path in (tmp_path / "results").iterdir() if path.stem.startswith(name)]
