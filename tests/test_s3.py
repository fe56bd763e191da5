"""The S3 server of the tests, and the proxy before it, do what tests take for granted."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.s3 import BUCKET, S3Error, S3Server
from tests.s3_faults import Fault, FaultyS3

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def prefix(s3_server: S3Server) -> str:
    return s3_server.fresh_prefix()


@pytest.fixture
def through(s3_server: S3Server, s3_faults: FaultyS3) -> S3Server:
    """What looks at the server through the proxy."""
    return replace(s3_server, ports={**s3_server.ports, "s3.port": s3_faults.port}, process=None)


def test_object_keeps_its_headers(s3_server: S3Server, prefix: str):
    headers = {"Content-Type": "image/png", "Cache-Control": "max-age=5", "x-amz-meta-sha256": "ab"}

    s3_server.put(BUCKET, f"{prefix}/a b/ü.png", b"12", headers)

    found = s3_server.get(BUCKET, f"{prefix}/a b/ü.png")
    assert (found.body, found.content_type, found.cache_control) == (b"12", "image/png", "max-age=5")
    assert found.metadata == {"sha256": "ab"}
    assert s3_server.objects(BUCKET, prefix) == {f"{prefix}/a b/ü.png": 2}
    s3_server.delete(BUCKET, f"{prefix}/a b/ü.png")
    assert s3_server.objects(BUCKET, prefix) == {}


def test_wrong_secret_is_refused(s3_server: S3Server):
    stranger = replace(s3_server, secret_key="wrong", process=None)

    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        stranger.objects(BUCKET)


def test_bucket_is_not_made_by_writing_to_it(s3_server: S3Server):
    assert s3_server.create_bucket() != s3_server.create_bucket()

    with pytest.raises(S3Error, match="NoSuchBucket"):
        s3_server.put("nowhere", "a", b"1")


def test_server_survives_a_kill_and_hangs_at_will(own_s3_server: S3Server):
    own_s3_server.put(BUCKET, "a", b"1")
    endpoint = own_s3_server.endpoint

    own_s3_server.kill()
    with pytest.raises(ConnectionRefusedError):
        own_s3_server.get(BUCKET, "a")
    own_s3_server.start()
    own_s3_server.hang()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(own_s3_server.get, BUCKET, "a")
        assert not asked.done()
        own_s3_server.resume()
        found = asked.result(timeout=60)

    assert (own_s3_server.endpoint, found.body) == (endpoint, b"1")


def test_server_dies_with_the_process_of_the_tests(tmp_path: Path):
    program = (
        "import json\nfrom tests.s3 import *\n"
        "with running_s3() as s:\n    print(json.dumps([s.process.pid, s.ports]), flush=True)\n    input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        pid, ports = json.loads(tests.stdout.readline())
        server = os.pidfd_open(pid)
        tests.send_signal(signal.SIGKILL)

    gone, _, _ = select.select([server], [], [], 60)  # pidfd_open(2): it can be read when the process has ended

    os.close(server)
    S3Server(tmp_path, ports=ports).kill()  # removes what was left in /tmp
    assert gone


def test_proxy_passes_on_and_counts(through: S3Server, s3_faults: FaultyS3, prefix: str):
    through.put(BUCKET, f"{prefix}/a", b"x" * 3_000_000)

    assert len(through.get(BUCKET, f"{prefix}/a").body) == 3_000_000
    assert through.objects(BUCKET, prefix) == {f"{prefix}/a": 3_000_000}
    assert (s3_faults.count("PUT", prefix), s3_faults.count("GET"), s3_faults.count("DELETE")) == (1, 2, 0)


def test_proxy_refuses_connections_for_a_while(through: S3Server, s3_faults: FaultyS3, prefix: str):
    s3_faults.refuse()
    with pytest.raises(ConnectionRefusedError):
        through.put(BUCKET, f"{prefix}/a", b"1")

    s3_faults.accept()

    through.put(BUCKET, f"{prefix}/a", b"1")


@pytest.mark.parametrize(
    ("fault", "arrives"),
    [
        (Fault(status=503, code="SlowDown"), False),
        (Fault(cut_after=1000), False),
        (Fault(swallow=True), True),
        (Fault(cut_answer_after=10), True),
    ],
)
def test_put_meets_a_fault_once(
    s3_server: S3Server, through: S3Server, s3_faults: FaultyS3, prefix: str, fault: Fault, arrives: bool
):
    s3_faults.add(replace(fault, key=f"{prefix}/a", times=1))

    through.put(BUCKET, f"{prefix}/b", b"2")
    with pytest.raises((S3Error, OSError, http.client.HTTPException)) as caught:
        through.put(BUCKET, f"{prefix}/a", b"1" * 100_000)

    assert not fault.status or (isinstance(caught.value, S3Error) and caught.value.status == fault.status)
    assert (f"{prefix}/a" in s3_server.objects(BUCKET, prefix)) == arrives
    through.put(BUCKET, f"{prefix}/a", b"1")
    assert s3_server.objects(BUCKET, prefix) == {f"{prefix}/a": 1, f"{prefix}/b": 1}


@pytest.mark.parametrize("held", ["hold_request", "hold_answer"])
def test_proxy_holds_a_put(s3_server: S3Server, through: S3Server, s3_faults: FaultyS3, prefix: str, held: str):
    event = threading.Event()
    s3_faults.add(Fault(**{held: event}))

    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(through.put, BUCKET, f"{prefix}/a", b"1")
        while not (s3_faults.requests if held == "hold_request" else s3_faults.arrived):
            assert not putting.done()
        there = s3_server.objects(BUCKET, prefix)
        event.set()
        putting.result(timeout=60)

    assert bool(there) == (held == "hold_answer")
    assert s3_server.objects(BUCKET, prefix) == {f"{prefix}/a": 1}


def test_proxy_ignores_conditions_at_will(through: S3Server, s3_faults: FaultyS3, prefix: str):
    through.put(BUCKET, f"{prefix}/a", b"1")

    with pytest.raises(S3Error, match="412"):
        through.put(BUCKET, f"{prefix}/a", b"2", {"If-None-Match": "*"})
    s3_faults.ignores_conditions = True
    through.put(BUCKET, f"{prefix}/a", b"3", {"If-None-Match": "*", "x-amz-meta-a": "b"})

    found = through.get(BUCKET, f"{prefix}/a")
    assert (found.body, found.metadata) == (b"3", {"a": "b"})
