"""The verbs as processes, against the simulated hosts of the demonstration."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.demo.drawn import drawn_pictures

from rehost.demo.cases import HELD, create_table, local_urls, make_cases
from rehost.demo.origins import Origins, serve_origins
from rehost.images.sandbox import probe
from rehost.telemetry.format import size

TIMEOUT = 120
UNDONE = {"restored": 0, "left": 0, "refused": 0, "evidence": None, "files": 0, "gone": 0}


@pytest.fixture(scope="module")
def origins(tmp_path_factory):
    return Origins(make_cases(), drawn_pictures(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="module")
def port(origins):
    with serve_origins(origins) as port:
        yield port


class Deployment:
    """A folder with a catalogue and its settings."""

    def __init__(self, folder, port):
        self.folder = folder
        self.database = folder / "cases.db"
        create_table(self.database, make_cases())
        self.environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": "sqlite:///cases.db",
            "IMAGE_STORAGE_DIR": "images",
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
            "IMAGE_CONNECT_TO": f"*:80:127.0.0.1:{port}",
            "IMAGE_MIN_FREE_BYTES": "1MiB",
        }

    def command(self, *arguments):
        return [sys.executable, "-m", "rehost", arguments[0], "--base", str(self.folder), *arguments[1:]]

    def __call__(self, *arguments):
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )

    def held(self):
        return {key: url for key, url in local_urls(self.database).items() if url}

    def sql(self, statement):
        with closing(sqlite3.connect(self.database)) as database, database:
            database.execute(statement)


@pytest.fixture
def rehost(tmp_path, port, origins):
    origins.reset()
    return Deployment(tmp_path, port)


@pytest.fixture(scope="module")
def after_a_run(tmp_path_factory, port, origins):
    """A deployment after a run; tests that use it change nothing."""
    origins.reset()
    rehost = Deployment(tmp_path_factory.mktemp("deployment"), port)
    return rehost, rehost("run", "--json", "--workers", "2")


PLANNED = {case.case_id for case in make_cases() if case.expected == HELD}


def test_two_workers_store_every_image_once(after_a_run):
    rehost, run = after_a_run

    summary = json.loads(run.stdout)

    assert run.returncode == 1, run.stderr
    assert set(rehost.held()) == PLANNED
    assert summary["held"] == len(PLANNED) == summary["total_held"]
    assert summary["failed"] == {"gone": 6, "decoy": 4, "not-a-url": 1, "truncated": 1}


def test_every_row_points_at_its_file(after_a_run):
    rehost, _ = after_a_run

    files = {f"/static/images/{file.parent.name}/{file.name}" for file in (rehost.folder / "images").glob("[0-9]*/*")}

    assert files == set(rehost.held().values())


def test_status_shows_totals_reasons_and_failed_links(after_a_run):
    rehost, _ = after_a_run

    status = rehost("status", "--failed")

    assert status.returncode == 0, status.stderr
    held = sum(file.stat().st_size for file in (rehost.folder / "images").glob("[0-9]*/*"))
    assert status.stdout.startswith(f"cases: 185 of 197 links held (93.9%), {size(held)}\n")
    assert re.search(r"^  gone +6  ", status.stdout, re.MULTILINE)
    assert "oss.ownsite.example" in status.stdout
    assert re.search(r"^\(no valid URL\) ", status.stdout, re.MULTILINE)
    assert "暂无图片" in status.stdout


def test_status_can_be_json(after_a_run):
    rehost, _ = after_a_run

    report = json.loads(rehost("status", "--json").stdout)

    assert report["standing"]["states"]["held"] == 185
    assert report["standing"]["reasons"]["gone"] == 6
    assert report["unconfined"] == probe()
    assert len(report["runs"]) >= 1


def test_status_before_the_first_run_says_what_to_do(rehost):
    status = rehost("status")

    assert status.returncode == 0
    assert status.stdout.startswith(
        "cases: no run has recorded a link of this source yet. "
        "`rehost plan` checks its table, and `rehost run` copies its pictures.\n\ndecoders are confined by "
    )


def test_origins_shows_each_learned_rule(after_a_run):
    rehost, _ = after_a_run

    rules = {rule["origin"]: rule["referer"] for rule in json.loads(rehost("origins", "--json").stdout)["rules"]}
    text = rehost("origins").stdout

    assert rules["http://oss.ownsite.example"] == "origin"
    assert rules["http://file.pagewall.example"] == "site"
    assert rules["http://wx3.nostrangers.example"] == "none"
    assert "http://oss.ownsite.example" in text


def test_plan_finds_nothing_due_after_a_run(after_a_run):
    rehost, _ = after_a_run

    planned = json.loads(rehost("plan", "--json").stdout)

    assert (planned["due"], planned["held"], planned["later"]) == (0, 185, 12)


def test_a_second_run_has_nothing_to_do_and_says_what_waits(after_a_run, port, origins):
    rehost, _ = after_a_run

    run = rehost("run")

    assert run.returncode == 0, run.stderr
    assert "Done: nothing was due" in run.stdout
    assert "12  waiting for the next visit" in run.stdout


def test_retry_of_a_reason_visits_only_its_links(rehost):
    rehost("run", "--quiet")

    summary = json.loads(rehost("run", "--json", "--retry", "gone").stdout)

    assert summary["failed"] == {"gone": 6}
    assert summary["held"] == 0


def test_quiet_prints_one_line_about_what_needs_a_look(rehost):
    run = rehost("run", "--quiet")

    said = "rehost: cases: 11 pictures failed (gone 6, decoy 4, not-a-url 1). "
    said += "To list what failed: rehost status --failed"
    assert (run.returncode, run.stdout, run.stderr) == (1, "", f"{said}\n")


def test_undo_restores_the_column_and_the_next_run_writes_it_again_without_a_visit(rehost):
    rehost("run", "--quiet")
    number = json.loads(rehost("status", "--json").stdout)["runs"][0]["run"]

    undone = rehost("undo", str(number))

    assert undone.returncode == 0, undone.stderr
    assert undone.stdout == f"Restored 185 rows to what they were before run {number}.\n"
    assert rehost.held() == {}
    assert json.loads(rehost("undo", str(number), "--json").stdout) == UNDONE | {"left": 185}
    assert json.loads(rehost("run", "--json").stdout)["held"] == 0
    assert set(rehost.held()) == PLANNED


def test_plan_and_undo_use_the_same_storage_flags_as_run(rehost):
    elsewhere = "--storage-dir", str(rehost.folder / "elsewhere"), "--static-url-prefix", "/other"
    rehost("run", "--quiet", *elsewhere)
    number = json.loads(rehost("status", "--json").stdout)["runs"][0]["run"]

    planned = json.loads(rehost("plan", "--json", *elsewhere).stdout)
    undone = json.loads(rehost("undo", str(number), "--json", *elsewhere).stdout)

    assert (planned["due"], planned["lost"], planned["held"]) == (0, 0, 185)
    assert undone == UNDONE | {"restored": 185}


def test_undo_of_an_unknown_run_is_status_3(after_a_run):
    rehost, _ = after_a_run

    undone = rehost("undo", "4711")

    assert undone.returncode == 3
    assert undone.stderr.startswith("rehost: ")
    assert "4711" in undone.stderr


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("workers", "number", "status"), [("1", signal.SIGTERM, 143), ("2", signal.SIGINT, 130)])
def test_a_signal_ends_a_run_cleanly_and_the_next_run_continues(rehost, workers, number, status):
    command = rehost.command("run", "--workers", workers, "--verbose", "--concurrency", "2")
    with subprocess.Popen(
        command, env=rehost.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        seen = 0
        for line in process.stderr:
            seen += "visit stored" in line
            if seen == 3:
                break
        process.send_signal(number)
        out, _ = process.communicate(timeout=TIMEOUT)

    assert process.returncode == status
    assert out.startswith("Interrupted")
    assert 0 < len(rehost.held()) < len(PLANNED)
    assert all((rehost.folder / url.replace("/static/", "", 1)).is_file() for url in rehost.held().values())
    rehost("run", "--quiet", "--retry", "all")
    assert set(rehost.held()) == PLANNED


def test_a_run_continues_when_its_output_has_no_reader(rehost):
    reading, writing = os.pipe()
    os.close(reading)

    run = subprocess.run(
        rehost.command("run", "--workers", "2", "--log-file", rehost.folder / "a.log"),
        env=rehost.environment,
        stdout=writing,
        stderr=writing,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(writing)

    assert run.returncode == 1
    assert set(rehost.held()) == PLANNED
    assert (rehost.folder / "a.log").read_text("utf-8").count(" visit ") == 197
    assert rehost("run", "--quiet").returncode == 0


def test_a_signal_ends_a_run_cleanly_even_if_its_reader_is_gone(rehost):
    command = rehost.command("run", "--verbose", "--concurrency", "2")
    with subprocess.Popen(
        command, env=rehost.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        seen = 0
        for line in process.stdout:
            seen += "visit stored" in line
            if seen == 3:
                break
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        status = process.wait(TIMEOUT)

    assert status == 130
    assert 0 < len(rehost.held()) < len(PLANNED)
    assert json.loads(rehost("status", "--json").stdout)["runs"][0]["ended_at"]


@pytest.mark.parametrize(
    ("workers", "change", "status", "words"),
    [
        ("1", {"DATABASE_URL": "sqlite:///nowhere/cases.db"}, 3, "nowhere"),
        ("2", {"DATABASE_URL": "sqlite:///nowhere/cases.db"}, 3, "nowhere"),
        ("1", {"IMAGE_DOWNLOAD_CONCURRENCY": "many"}, 2, "IMAGE_DOWNLOAD_CONCURRENCY"),
        ("1", {"IMAGE_STORAGE_DIR": "cases.db"}, 3, "cases.db"),
    ],
)
def test_an_error_of_the_environment_is_a_message_without_traceback(rehost, workers, change, status, words):
    rehost.environment |= change

    run = rehost("run", "--workers", workers)

    assert run.returncode == status
    assert run.stderr.startswith("rehost: ")
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_a_missing_table_or_column_is_named(rehost):
    rehost.sql("ALTER TABLE ad_cases DROP COLUMN main_image_local")

    without_column = rehost("run")
    rehost.sql("DROP TABLE ad_cases")
    without_table = rehost("run")

    assert (without_column.returncode, without_table.returncode) == (3, 3)
    assert "main_image_local" in without_column.stderr
    assert "ad_cases" in without_table.stderr


def test_the_path_of_the_log_file_is_relative_to_the_working_folder(rehost, tmp_path_factory):
    elsewhere: Path = tmp_path_factory.mktemp("elsewhere")

    subprocess.run(
        rehost.command("run", "--quiet", "--log-file", "a.log"),
        env=rehost.environment,
        cwd=elsewhere,
        timeout=TIMEOUT,
        check=False,
    )

    assert (elsewhere / "a.log").read_text("utf-8").count(" visit ") == 197
