"""The operators' manual, followed step by step: every step, the second run, and what later sections promise."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import SHARED, Sample
from tests.journeys.deployment import (
    COMMAND_SECONDS,
    DATABASE,
    DOWNLOAD,
    EXAMPLE,
    MIGRATE,
    Case,
    Deployment,
    address,
    get,
    kinds,
    made_cases,
    port_of,
    real_cases,
)
from tests.misbehaviours import HTML
from tests.origin import Origin
from tests.pictures import picture

from rehost.model import Format

WITHOUT_LINK = 2_000_000  # a case id that no other case has


@pytest.fixture
def cases(sample: Sample) -> list[Case]:
    """Some hundred cases of the real catalogue if it is available; with --full all of it."""
    if not SHARED.is_dir():
        return [*made_cases(150), EXAMPLE]
    every = real_cases(SHARED)
    chosen = {each.case_id: each for each in [*sample(every, 150), *kinds(every), EXAMPLE]}
    return list(chosen.values())


def free_port(deployment: Deployment) -> str:
    return deployment.shell(
        "python -c 'import socket; s = socket.create_server((\"127.0.0.1\", 0)); print(s.getsockname()[1])'"
    ).stdout.strip()


def test_every_step_does_what_the_manual_says(bare_deployment: Deployment, cases: list[Case]) -> None:
    it = bare_deployment
    port = free_port(it)
    it.configure(API_PORT=port, IMAGE_VERIFY="decode")
    it.shell(f"psql -U postgres -d {DATABASE} -f database/init.sql")
    it.import_cases([*cases, Case(WITHOUT_LINK, "")])

    # Step 1
    migrated = it.shell(f"cd backend\n{MIGRATE}", folder=it.root)
    assert (migrated.returncode, migrated.stderr) == (0, "")

    # Step 3
    done = it.shell(f"cd backend\n{DOWNLOAD}", folder=it.root, IMAGE_MIN_FREE_BYTES="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100%" in done.stderr  # the progress bar
    assert f"{len(cases):,}" in done.stdout  # the statistics
    assert it.log().count("visit stored ") == len(cases)
    assert it.held() == {case.case_id for case in cases}
    assert it.origin.peak() <= 10
    endings = {path.suffix for path in it.images.glob("[0-9]*/*")}
    assert endings <= {".jpg", ".png", ".gif"}  # from the bytes: no .jpe, .jpeg

    # A second run
    with it.requests() as asked:
        started = time.monotonic()
        again = it.shell(DOWNLOAD)
        seconds = time.monotonic() - started
    assert (again.returncode, asked) == (0, [])
    assert seconds < 10

    # Steps 4 and 5
    with it.running("python run.py") as server:
        assert port_of(server) == int(port)
        status, kind, body = get(int(port), "/static/images/297041/main_image.png")
        assert (status, kind, body) == (200, "image/png", Origin.picture(EXAMPLE.main_image))
        for case_id, shown in [(297041, "/static/images/297041/main_image.png"), (WITHOUT_LINK, None)]:
            data = json.loads(get(int(port), f"/api/v1/cases/{case_id}")[2])["data"]
            assert data["main_image"] == shown


def test_uvicorn_serves_the_copies_too(deployment: Deployment) -> None:
    deployment.import_cases([EXAMPLE])
    deployment.download()

    with deployment.running("uvicorn app.main:app --port 0") as server:
        status, kind, body = get(port_of(server), "/static/images/297041/main_image.png")

    assert (status, kind, body) == (200, "image/png", Origin.picture(EXAMPLE.main_image))


def test_the_commands_are_those_of_the_manual(shared: Path) -> None:
    manual = (shared / "manual/IMAGE_DOWNLOAD_USAGE.zh.md").read_text()

    for command in (f"cd backend\n{MIGRATE}", f"cd backend\n{DOWNLOAD}", "pip install -r requirements.txt"):
        assert f"```bash\n{command}\n```" in manual


def test_the_python_program_of_the_manual_runs_the_migration(bare_deployment: Deployment, shared: Path) -> None:
    it = bare_deployment
    it.shell(f"psql -U postgres -d {DATABASE} -f database/init.sql")
    manual = (shared / "manual/IMAGE_DOWNLOAD_USAGE.zh.md").read_text()
    program = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)[0]
    (it.root / "migrate.py").write_text(program.replace("port=5432", f"port={it.postgres.port}"))

    done = it.shell("python ../migrate.py")

    assert (done.returncode, done.stderr) == (0, "")
    assert it.sql("SELECT count(main_image_local) FROM ad_cases") == "0"


# Incremental updates


def test_only_new_changed_lost_and_cleared_rows_are_repaired(deployment: Deployment, small: list[Case]) -> None:
    deployment.download()
    new = Case(1001, "https://oss.ads.example/new.png")
    changed = Case(small[0].case_id, "https://oss.ads.example/changed.gif")
    lost, cleared = small[1], small[2]
    deployment.import_cases([new, changed])
    shutil.rmtree(deployment.images / str(lost.case_id))
    deployment.sql(f"UPDATE ad_cases SET main_image_local = NULL WHERE case_id = {cleared.case_id}")

    with deployment.requests() as asked:
        done = deployment.download()

    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(asked) == sorted(map(address, [new.main_image, changed.main_image, lost.main_image]))
    assert deployment.held() == {new.case_id, *(case.case_id for case in small)}
    assert [path.name for path in (deployment.images / str(changed.case_id)).iterdir()] == ["main_image.gif"]


def clear_column(it: Deployment) -> None:
    it.sql("UPDATE ad_cases SET main_image_local = NULL")


def delete_folder(it: Deployment) -> None:
    shutil.rmtree(it.images)


def delete_folder_and_clear_column(it: Deployment) -> None:
    delete_folder(it)
    clear_column(it)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("redo", "requests_each"), [(delete_folder_and_clear_column, 1), (clear_column, 0)])
def test_a_full_redo_works_and_so_does_clearing_the_column(
    deployment: Deployment, small: list[Case], redo: Callable[[Deployment], None], requests_each: int
) -> None:
    deployment.download()

    redo(deployment)
    with deployment.requests() as asked:
        done = deployment.download()

    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(asked) == sorted(address(case.main_image) for case in small * requests_each)
    assert deployment.held() == {case.case_id for case in small}


def test_a_folder_that_is_gone_alone_stops_the_run_until_its_loss_is_accepted(
    deployment: Deployment, small: list[Case]
) -> None:
    deployment.download()

    delete_folder(deployment)
    with deployment.requests() as asked:
        stopped = deployment.download()
    done = deployment.download("--accept-loss")

    assert (stopped.returncode, asked, deployment.images.exists()) == (3, [], True)
    assert f"{deployment.images} does not exist" in " ".join(stopped.stderr.split())
    assert "--accept-loss" in stopped.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert deployment.held() == {case.case_id for case in small}


def test_a_failed_link_waits_for_its_next_visit_or_retry_or_a_full_redo(
    deployment: Deployment, small: list[Case]
) -> None:
    gone = small[3]
    deployment.hosts.turned[gone.main_image] = "not-found"
    first = deployment.download()
    with deployment.requests() as asked_by_second:
        second = deployment.download()
    with deployment.requests() as asked_by_retry:
        deployment.download("--retry gone")
    deployment.hosts.turned.clear()
    delete_folder_and_clear_column(deployment)
    redone = deployment.download()

    assert first.returncode == 1
    assert "gone" in first.stdout
    assert f"{DOWNLOAD} --retry all" in first.stdout  # rehost itself need not be installed
    assert "visit refused" in deployment.log()  # which and why: the summary names the log
    assert (second.returncode, asked_by_second) == (0, [])
    assert re.search(r"later", second.stdout + second.stderr)  # the summary says that it waits
    assert set(asked_by_retry) == {address(gone.main_image)}
    assert redone.returncode == 0
    assert deployment.held() == {case.case_id for case in small}


# An older script's year


def test_files_of_an_older_script_are_verified_and_adopted(deployment: Deployment, small: list[Case]) -> None:
    cut, page, unfiled, unpointed, misnamed, *others = small
    for case in small:
        ending = case.main_image.rpartition(".")[2]
        folder = deployment.images / str(case.case_id)
        if case is not unfiled:
            folder.mkdir(parents=True)
            (folder / f"main_image.{ending}").write_bytes(Origin.picture(case.main_image))
        deployment.sql(
            f"UPDATE ad_cases SET main_image_local = '/static/images/{case.case_id}/main_image.{ending}' "
            f"WHERE case_id = {case.case_id} AND case_id <> {unpointed.case_id}"
        )
    file = next((deployment.images / str(cut.case_id)).iterdir())
    file.write_bytes(file.read_bytes()[:-20])
    next((deployment.images / str(page.case_id)).iterdir()).write_bytes(HTML)
    [file] = (deployment.images / str(misnamed.case_id)).iterdir()
    file.write_bytes(held := picture(1, Format.WEBP))

    with deployment.requests() as asked:
        done = deployment.download()

    assert done.returncode == 0, done.stdout + done.stderr
    # Learning a host's rule also requests paths that do not exist; of the images only these are requested.
    assert set(asked) & {address(case.main_image) for case in small} == {
        address(case.main_image) for case in (cut, page, unfiled)
    }
    local = deployment.rows()[misnamed.case_id][1]
    assert local == f"/static/images/{misnamed.case_id}/main_image.webp"
    assert (deployment.images / local.removeprefix("/static/images/")).read_bytes() == held
    deployment.sql(f"DELETE FROM ad_cases WHERE case_id = {misnamed.case_id}")  # its bytes are not its link's
    assert deployment.held() == {case.case_id for case in [cut, page, unfiled, unpointed, *others]}


# Interruption


def test_killed_runs_leave_no_row_without_its_image_and_the_next_run_continues(
    deployment: Deployment, sample: Sample, small: list[Case]
) -> None:
    deployment.hosts.usual = "slow"
    for requests in sample(range(2, 36, 2), 2):
        if len(deployment.held()) + requests > len(small):  # the run would end before it is killed
            delete_folder_and_clear_column(deployment)
        deployment.hosts.ring_at(requests)
        with deployment.running(DOWNLOAD, IMAGE_DOWNLOAD_CONCURRENCY="4") as run:
            assert deployment.hosts.reached.wait(60)
            run.kill()
            run.wait()
        deployment.held()

    done = deployment.download("--retry worker-died")  # so many kills may defer a link (decision 16)

    assert done.returncode == 0, done.stdout + done.stderr
    assert deployment.held() == {case.case_id for case in small}
    assert not [
        path
        for path in deployment.images.rglob("*")
        if path.is_file() and path.stem not in {"main_image", "lock", "store-id"}
    ]


def test_no_row_gets_the_image_of_a_link_that_changed_during_a_run(deployment: Deployment, small: list[Case]) -> None:
    deployment.hosts.usual = "slow"
    edited = small[-5:]
    deployment.hosts.ring_at(3)
    with deployment.running(DOWNLOAD, IMAGE_DOWNLOAD_CONCURRENCY="1") as run:
        assert deployment.hosts.reached.wait(60)
        for case in edited:
            link = f"https://oss.ads.example/edited/{case.case_id}.png"
            deployment.sql(f"UPDATE ad_cases SET main_image = '{link}' WHERE case_id = {case.case_id}")
        assert run.wait(COMMAND_SECONDS) in {0, 1}

    deployment.held()  # asserts that no row has the image of another link
    deployment.download()
    assert deployment.held() == {case.case_id for case in small}


# The whole


def test_packages_are_installed_as_the_manual_says(
    bare_deployment: Deployment, tmp_path: Path, sample: Sample, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("full") and os.environ.get("CI") != "true":
        pytest.skip("installs packages into fresh environments, which takes minutes: with --full and in CI")
    it = bare_deployment
    for name, command, folder in [
        ("few", "pip install aiohttp tqdm", it.backend),
        *sample([(each.name, "pip install -r requirements.txt", each) for each in (it.backend, it.root)], 1),
    ]:
        venv = tmp_path / name
        subprocess.run([it.python / "python", "-m", "venv", venv], check=True, timeout=120)
        path = f"{venv / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        environment.pop("PYTHONPATH", None)
        installed = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert installed.returncode == 0, installed.stderr

        for program in ("scripts/download_all_images.py", "scripts/import_cases.py"):
            done = subprocess.run(
                ["/bin/sh", "-c", f"python {program} --help"],
                cwd=it.backend,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            if name == "few":
                assert "pip install -r requirements.txt" in done.stderr
                assert done.stderr.count("\n") == 1
            else:
                assert done.returncode == 0, done.stderr


def test_invariant_7_memory_does_not_grow_with_the_table(deployment: Deployment, sample: Sample, shared: Path) -> None:
    """With --full all 8,446 rows: a killed run, a complete run, and a second one that requests nothing."""
    cases = [*sample(real_cases(shared), 200)]
    deployment.import_cases(cases)

    deployment.hosts.ring_at(len(cases) // 3)
    with deployment.running(DOWNLOAD) as run:
        assert deployment.hosts.reached.wait(COMMAND_SECONDS)
        run.kill()
        run.wait()
    deployment.held()
    first = deployment.measured(DOWNLOAD)
    with deployment.requests() as asked:
        second = deployment.measured(DOWNLOAD)

    assert (first.status, second.status, asked) == (0, 0, [])
    assert deployment.held() == {case.case_id for case in cases}
    assert second.seconds < 10
    assert max(first.megabytes, second.megabytes) < 150
