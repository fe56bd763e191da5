"""./dev: what it needs from a machine, and its messages if that is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("cat", "cksum", "dirname", "env", "sh")


@pytest.fixture
def checkout(tmp_path):
    """A folder with the files that ./dev reads, and nothing installed."""
    for name in ("dev", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def programs(tmp_path):
    """A folder of programs that is the whole PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in NEEDED:
        (folder / name).symlink_to(shutil.which(name))
    return folder


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def dev(checkout: Path, programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "dev", *words], env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )


def install(checkout: Path, folder: str, options: str, name: str, script: str) -> None:
    """Create a fake environment that is up to date."""
    (checkout / folder / "bin").mkdir(parents=True)
    program(checkout / folder / "bin" / "python", script)
    program(checkout / folder / "bin" / name, script)
    sums = subprocess.run(
        ["cksum", "uv.lock", "pyproject.toml"], cwd=checkout, capture_output=True, text=True, check=True
    )
    (checkout / folder / "stamp").write_text(f"{checkout} {options} {sums.stdout.strip()}")


def test_help_needs_nothing(checkout, programs):
    assert "./dev run" in dev(checkout, programs, "help").stdout


def test_unknown_command_is_a_usage_error(checkout, programs):
    done = dev(checkout, programs, "dance")

    assert done.returncode == 2
    assert "./dev run" in done.stderr


def test_missing_python_is_reported(checkout, programs):
    done = dev(checkout, programs, "test")

    assert done.returncode == 2
    assert "Python 3.11 to 3.14 is needed" in done.stderr


def test_python_that_is_too_old_is_not_used(checkout, programs):
    program(programs / "python3", "exit 1")

    assert "Python 3.11 to 3.14 is needed" in dev(checkout, programs, "test").stderr


def test_missing_venv_is_reported_with_its_package(checkout, programs):
    program(programs / "python3", "case $2 in *ensurepip*) exit 1 ;; esac")

    done = dev(checkout, programs, "run")

    assert done.returncode == 2
    assert "apt install python3-venv" in done.stderr


def test_unreachable_package_index_is_reported(checkout, programs):
    program(
        programs / "python3",
        'if [ "$2" = venv ]; then mkdir -p .cache/uv/bin; printf "#!/bin/sh\\nexit 1\\n" >.cache/uv/bin/python;'
        " chmod +x .cache/uv/bin/python; fi",
    )
    for name in ("mkdir", "chmod"):
        (programs / name).symlink_to(shutil.which(name))

    done = dev(checkout, programs, "test")

    assert done.returncode == 2
    assert "HTTPS_PROXY" in done.stderr


def test_environment_that_is_up_to_date_is_used_at_once(checkout, programs):
    install(checkout, ".venv-run", "--no-dev --extra server", "rehost", 'echo ran "$@"')

    done = dev(checkout, programs, "run", "--once")

    assert done.stdout == "ran demo --once\n"
    assert not done.stderr


def test_changed_lock_file_updates_the_environment(checkout, programs):
    install(checkout, ".venv-run", "--no-dev --extra server", "rehost", "echo ran")
    with (checkout / "uv.lock").open("a") as lock:
        lock.write("\n")

    assert "Python 3.11 to 3.14 is needed" in dev(checkout, programs, "run").stderr


def test_tests_and_runs_have_separate_environments(checkout, programs):
    install(checkout, ".venv", "--all-extras", "pytest", 'echo tested "$@"')

    assert dev(checkout, programs, "test", "-q").stdout == "tested -m pytest -q\n"
    assert not (checkout / ".venv-run").exists()


def test_fix_runs_all_steps_even_if_one_fails(checkout, programs):
    install(checkout, ".venv", "--all-extras", "ruff", 'echo "$@"; [ "$1" != check ]')
    program(checkout / ".venv/bin/python", 'echo "$@"')

    done = dev(checkout, programs, "fix")

    assert [line for line in done.stdout.splitlines() if line and not line.startswith("==")] == [
        "check --fix .",
        "format .",
        "docs/generate.py",
    ]
    assert (done.returncode, done.stderr) == (2, "Failed: lint\n")


@pytest.mark.parametrize("script", ["dev", ".ci/run"])
def test_script_is_clean(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")

    done = subprocess.run(["shellcheck", ROOT / script], capture_output=True, text=True, check=False)

    assert not done.stdout
