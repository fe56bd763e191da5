"""The manual's settings and troubleshooting: each setting has its effect, each problem gets a message."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.journeys.deployment import DATABASE, DOWNLOAD, EXAMPLE, Case, Deployment, get, made_cases, port_of
from tests.origin import Origin


def check_stopped(deployment: Deployment, done: subprocess.CompletedProcess[str]) -> None:
    """Assert that a run stopped with a message and without a traceback."""
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.strip()


# Settings


@pytest.mark.sampled(1)
@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_is_never_exceeded(deployment: Deployment, concurrency: int) -> None:
    deployment.hosts.usual = "slow"
    deployment.configure(IMAGE_DOWNLOAD_CONCURRENCY=f"{concurrency}  # requests at once")
    deployment.import_cases(made_cases(40))

    done = deployment.download()

    assert done.returncode == 0, done.stdout + done.stderr
    assert deployment.origin.peak() == concurrency


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("retry", "attempts"), [(0, 1), (1, 1), (2, 2)])
def test_timeout_limits_one_whole_attempt_and_retry_counts_attempts(
    deployment: Deployment, retry: int, attempts: int
) -> None:
    case = made_cases(1)[0]
    deployment.hosts.turned[case.main_image] = "hang-in-body"
    deployment.configure(IMAGE_DOWNLOAD_TIMEOUT="1", IMAGE_DOWNLOAD_RETRY=str(retry))
    deployment.import_cases([case])

    done = deployment.download()

    assert done.returncode == 1
    assert "timed-out" in done.stdout
    assert "timed-out" in deployment.log()
    assert deployment.origin.count() == attempts


def test_folder_and_prefix_can_be_set(deployment: Deployment, small: list[Case], tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    deployment.configure(IMAGE_STORAGE_DIR=str(folder), IMAGE_STATIC_URL_PREFIX="/pictures")

    deployment.download()

    local = deployment.rows()[small[0].case_id][1]
    assert local.startswith(f"/pictures/{small[0].case_id}/main_image.")
    assert (folder / local.removeprefix("/pictures/")).read_bytes() == Origin.picture(small[0].main_image)
    assert not deployment.images.exists()
    with deployment.running("uvicorn app.main:app --port 0") as server:
        assert get(port_of(server), local)[0] == 200


def test_the_environment_overrides_the_file(deployment: Deployment) -> None:
    deployment.hosts.usual = "slow"
    deployment.import_cases(made_cases(10))
    deployment.configure(IMAGE_DOWNLOAD_CONCURRENCY="10", DB_PORT="1")

    done = deployment.download(IMAGE_DOWNLOAD_CONCURRENCY="1", DB_PORT=str(deployment.postgres.port))

    assert done.returncode == 0, done.stdout + done.stderr
    assert deployment.origin.peak() == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [("022", 0o644, 0o755), ("027", 0o640, 0o750)])
def test_file_modes_follow_the_umask(deployment: Deployment, mask: str, file_mode: int, folder_mode: int) -> None:
    deployment.import_cases([EXAMPLE])

    deployment.shell(f"umask {mask}\n{DOWNLOAD}")

    copy = deployment.images / "297041/main_image.png"
    assert copy.stat().st_mode & 0o777 == file_mode
    assert copy.parent.stat().st_mode & 0o777 == folder_mode


# Troubleshooting


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"DB_USER": "guarded", "DB_PASSWORD": "wrong"}, ["password", "DB_PASSWORD"]),
        ({"DB_PORT": "1"}, ["DB_PORT"]),
        ({"DB_NAME": "no_such_database"}, ["no_such_database"]),
    ],
    ids=["wrong password", "unreachable", "no such database"],
)
def test_problems_with_the_database_are_explained(
    deployment: Deployment, small: list[Case], settings: dict[str, str], words: list[str]
) -> None:
    deployment.configure(**settings)

    done = deployment.download()

    check_stopped(deployment, done)
    assert all(word in done.stderr for word in words), done.stderr
    assert deployment.origin.count() == 0


def test_a_missing_table_is_named(bare_deployment: Deployment) -> None:
    done = bare_deployment.download()

    check_stopped(bare_deployment, done)
    assert "ad_cases" in done.stderr


def test_a_missing_column_is_reported_with_the_migration_to_run(bare_deployment: Deployment) -> None:
    bare_deployment.shell(f"psql -U postgres -d {DATABASE} -f database/init.sql")

    done = bare_deployment.download()

    check_stopped(bare_deployment, done)
    assert "006_add_main_image_local_field.sql" in done.stderr


def a_file_in_its_place(it: Deployment) -> str:
    it.images.parent.mkdir()
    it.images.write_text("not a folder")
    return "data/images"


def a_file_above_it(it: Deployment) -> str:
    it.images.parent.write_text("not a folder")
    return "data/images"


def a_folder_that_may_not_be_written(it: Deployment) -> str:
    if os.geteuid() == 0:
        return "/proc/images"  # not even root may
    it.images.mkdir(parents=True)
    it.images.chmod(0o555)
    return "data/images"


@pytest.mark.parametrize("trouble", [a_file_in_its_place, a_file_above_it, a_folder_that_may_not_be_written])
def test_problems_with_the_storage_folder_name_it(
    deployment: Deployment, small: list[Case], trouble: Callable[[Deployment], str]
) -> None:
    named = trouble(deployment)
    deployment.configure(IMAGE_STORAGE_DIR=named)

    done = deployment.download()

    check_stopped(deployment, done)
    assert named in done.stderr
    assert deployment.origin.count() == 0


def test_an_invalid_setting_is_reported_with_its_place(deployment: Deployment) -> None:
    deployment.configure(IMAGE_DOWNLOAD_CONCURRENCY="many")

    done = deployment.download()

    assert done.returncode == 2
    assert re.search(r"IMAGE_DOWNLOAD_CONCURRENCY=many \(.*backend/\.env:\d+\)", done.stderr)


def test_a_port_in_use_is_reported(deployment: Deployment) -> None:
    with deployment.running("uvicorn app.main:app --port 0") as first:
        deployment.configure(API_PORT=str(port_of(first)))

        second = deployment.shell("python run.py")

    assert second.returncode != 0
    assert "address already in use" in second.stderr
    assert "Traceback" not in second.stderr
