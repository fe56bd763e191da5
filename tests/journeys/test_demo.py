"""`rehost demo` as a process: what a newcomer sees with one command."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from tests.ports import free_port

from rehost.server.listen import free_port as next_port

REHOST = [sys.executable, "-m", "rehost"]
TIMEOUT = 120


def demo(folder, *arguments):
    return subprocess.run(
        [*REHOST, "demo", "--dir", folder, *arguments],
        capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=folder.parent,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The demonstration's folder; its pictures are drawn once."""
    return tmp_path_factory.mktemp("journey") / "demo"


@pytest.fixture(scope="module")
def once(folder):
    return demo(folder, "--once")


def test_every_link_comes_out_as_planned(once):
    assert once.returncode == 0, once.stdout + once.stderr
    assert "Every link had the expected result." in once.stdout


def test_counts_before_and_after_are_printed(once):
    before = re.search(r"If a page embedded the originals, (\d+) of (\d+) pictures would be displayed", once.stdout)
    after = re.search(r"Before: (\d+) of (\d+) pictures were displayed\. After: (\d+)\.", once.stdout)

    assert before.groups() == after.groups()[:2]
    assert int(after[3]) == 185


def test_summary_has_the_important_figures(once):
    for words in (
        "copied",
        "held",
        "gone",
        "decoy",
        "truncated",
        "not-a-url",
        "received",
        "free",
        "waiting for the next visit",
    ):
        assert words in once.stdout


def test_log_has_a_line_per_visit(once, folder):
    visits = re.findall(r"^\S+ INFO visit (\w+) row=(\d+)", (folder / "demo.log").read_text("utf-8"), re.MULTILINE)

    assert once.returncode == 0
    assert len({row for _, row in visits}) == 197


def test_second_start_is_a_fresh_one(once, folder):
    again = demo(folder, "--once")

    assert (once.returncode, again.returncode) == (0, 0)
    assert "Every link had the expected result." in again.stdout


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={"Referer": f"http://localhost:{port}/"})
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()
    finally:
        connection.close()


def test_page_shows_every_copy_until_ctrl_c(folder):
    port = free_port()
    command = [*REHOST, "demo", "--dir", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any("Serving at" in line for line in process.stderr)

            status, media_type, page = get(port, "/")
            held = re.findall(r'src="(/static/images/[^"]+)"', page.decode())
            answers = [get(port, url)[:2] for url in held]

            process.send_signal(signal.SIGINT)
            ended = process.wait(TIMEOUT)
        finally:
            process.kill()

    assert (status, media_type) == (200, "text/html; charset=utf-8")
    assert len(held) == 185
    assert {status for status, _ in answers} == {200}
    assert {media_type for _, media_type in answers} == {"image/jpeg", "image/png", "image/gif", "image/webp"}
    assert ended == 0


def test_next_free_port_is_used_if_the_port_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert next_port("127.0.0.1", port) > port
