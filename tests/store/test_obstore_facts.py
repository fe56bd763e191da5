"""What the store on S3 builds upon: how obstore behaves before a real server. A new version may change it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError
from obstore.store import S3Store
from tests.s3 import BUCKET, FULL_AFTER_A_MEGABYTE, S3Server, running_s3
from tests.s3_faults import Fault, FaultyS3

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS: dict[str, Callable[[S3Store], object]] = {
    "put": lambda store: obstore.put(store, "a", b"1", use_multipart=False),
    "get": lambda store: obstore.get(store, "a"),
    "head": lambda store: obstore.head(store, "a"),
    "delete": lambda store: obstore.delete(store, ["a"]),
    "list": lambda store: list(obstore.list(store)),
}


def opened(env: dict[str, str], bucket: str = BUCKET, retries: int = 1) -> S3Store:
    """A store that gives up soon."""
    backoff = timedelta(milliseconds=10)
    return S3Store(
        bucket,
        config={name.lower(): value for name, value in env.items()},
        retry_config={
            "max_retries": retries,
            "backoff": {"init_backoff": backoff, "max_backoff": backoff, "base": 2},
        },
    )


@pytest.fixture
def prefix(s3_server: S3Server) -> str:
    return s3_server.fresh_prefix()


@pytest.fixture
def through(s3_faults: FaultyS3) -> S3Store:
    return opened(s3_faults.env())


def test_variables_of_the_environment_lead_to_the_server(
    s3_server: S3Server, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in s3_server.env().items():
        monkeypatch.setenv(name, value)

    obstore.put(S3Store(BUCKET, prefix=prefix), "a", b"1")

    assert s3_server.objects(BUCKET, prefix) == {f"{prefix}/a": 1}


def test_attributes_are_kept_copied_and_read_back_by_a_get_of_the_head_alone(s3_server: S3Server, prefix: str):
    store = opened(s3_server.env())
    attributes = {"Content-Type": "image/png", "Cache-Control": "max-age=1", "sha256": "ab"}

    obstore.put(store, f"{prefix}/a", b"123", attributes=attributes, use_multipart=False)
    obstore.copy(store, f"{prefix}/a", f"{prefix}/b")

    for key in (f"{prefix}/a", f"{prefix}/b"):
        read = obstore.get(store, key, options={"head": True})
        assert (dict(read.attributes), read.meta["size"]) == (attributes, 3)
        found = s3_server.get(BUCKET, key)
        assert (found.content_type, found.cache_control, found.metadata) == ("image/png", "max-age=1", {"sha256": "ab"})


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_a_permission_denied_except_in_a_list(s3_server: S3Server, operation: str, wrong: str):
    store = opened(s3_server.env(**{wrong: "wrong"}))

    with pytest.raises(GenericError if operation == "list" else PermissionDeniedError, match="403 Forbidden"):
        OPERATIONS[operation](store)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_missing_bucket_is_a_missing_object_except_in_a_list(s3_server: S3Server, operation: str):
    store = opened(s3_server.env(), bucket="nowhere")

    with pytest.raises(GenericError if operation == "list" else FileNotFoundError, match="404 Not Found"):
        OPERATIONS[operation](store)


def test_delete_of_a_missing_object_is_no_error(s3_server: S3Server, prefix: str):
    obstore.delete(opened(s3_server.env()), [f"{prefix}/a", f"{prefix}/b"])


def test_list_takes_a_prefix_as_whole_segments(s3_server: S3Server, prefix: str):
    store = opened(s3_server.env())
    for key in ("a/1", "ab/1"):
        obstore.put(store, f"{prefix}/{key}", b"1")

    found = [each["path"] for group in obstore.list(store, f"{prefix}/a") for each in group]

    assert found == [f"{prefix}/a/1"]


@pytest.mark.parametrize("key", ["a//b", "../a", "a/./b"])
def test_key_that_leads_elsewhere_is_a_value_error(s3_server: S3Server, key: str):
    with pytest.raises(ValueError, match="Could not parse path"):
        obstore.put(opened(s3_server.env()), key, b"1")


@pytest.mark.parametrize(("endpoint", "bucket"), [("nonsense", BUCKET), ("http://127.0.0.1:1", "no bucket!")])
def test_nonsense_in_a_url_is_a_panic_that_no_exception_covers(s3_server: S3Server, endpoint: str, bucket: str):
    with pytest.raises(BaseException, match="request valid") as caught:
        obstore.put(opened(s3_server.env(endpoint), bucket=bucket), "a", b"1")

    assert not isinstance(caught.value, Exception)


def test_plain_http_has_to_be_allowed(s3_server: S3Server):
    with pytest.raises(GenericError, match="builder error"):
        obstore.put(opened(s3_server.env(AWS_ALLOW_HTTP="false")), "a", b"1")


def test_without_credentials_the_machine_is_asked_for_some(s3_server: S3Server):
    machine = {"AWS_METADATA_ENDPOINT": "http://127.0.0.1:1"}
    env = {name: value for name, value in s3_server.env(**machine).items() if "KEY" not in name}

    with pytest.raises(GenericError, match=r"http://127\.0\.0\.1:1/latest/"):
        obstore.put(opened(env, retries=0), "a", b"1")


@pytest.mark.parametrize("status", [429, 500, 503, 507])
def test_busy_or_full_server_is_asked_again(through: S3Store, s3_faults: FaultyS3, prefix: str, status: int):
    s3_faults.add(Fault(status=status, code="SlowDown"))

    with pytest.raises(GenericError, match=rf"{status} .*SlowDown"):
        obstore.put(through, prefix, b"1")

    assert s3_faults.count("PUT", prefix) == 2


def test_conflict_reads_like_an_object_that_is_there(through: S3Store, s3_faults: FaultyS3, prefix: str):
    s3_faults.add(Fault(status=409, code="OperationAborted"))

    with pytest.raises(AlreadyExistsError):
        obstore.put(through, prefix, b"1", mode="overwrite")


def test_object_may_be_there_after_an_error(s3_server: S3Server, through: S3Store, s3_faults: FaultyS3, prefix: str):
    s3_faults.add(Fault(swallow=True))

    with pytest.raises(GenericError, match="error sending request"):
        obstore.put(through, prefix, b"1")

    assert s3_server.objects(BUCKET, prefix) == {prefix: 1}


def test_create_whose_answer_is_lost_finds_its_own_object(through: S3Store, s3_faults: FaultyS3, prefix: str):
    s3_faults.add(Fault(swallow=True, times=1))

    with pytest.raises(AlreadyExistsError):
        obstore.put(through, prefix, b"1", mode="create")


def test_create_overwrites_where_the_gateway_ignores_conditions(
    s3_server: S3Server, through: S3Store, s3_faults: FaultyS3, prefix: str
):
    s3_faults.ignores_conditions = True

    for body in (b"1", b"22"):
        obstore.put(through, prefix, body, mode="create")

    assert s3_server.objects(BUCKET, prefix) == {prefix: 2}


async def test_cancelled_put_arrives_later(s3_server: S3Server, through: S3Store, s3_faults: FaultyS3, prefix: str):
    held = s3_faults.add(Fault(hold_request=threading.Event())).hold_request
    assert held is not None
    putting = asyncio.ensure_future(obstore.put_async(through, prefix, b"1"))
    while not s3_faults.requests:
        await asyncio.sleep(0.001)

    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    before = s3_server.objects(BUCKET, prefix)
    held.set()
    while not s3_faults.arrived:
        await asyncio.sleep(0.001)

    assert before == {}
    assert s3_server.objects(BUCKET, prefix) == {prefix: 1}


async def test_server_killed_in_puts_keeps_whole_objects_and_all_that_it_acknowledged(own_s3_server: S3Server):
    store = opened(own_s3_server.env(), retries=0)
    body = os.urandom(1_000_000)

    async def put(key: str) -> str:
        await obstore.put_async(store, key, body, use_multipart=False)
        return key

    putting = [asyncio.ensure_future(put(f"a/{number}")) for number in range(30)]
    await asyncio.wait(putting, return_when=asyncio.FIRST_COMPLETED)
    own_s3_server.kill()
    acknowledged = [each for each in await asyncio.gather(*putting, return_exceptions=True) if isinstance(each, str)]
    own_s3_server.start()

    there = own_s3_server.objects(BUCKET, "a/")
    assert set(acknowledged) <= set(there)
    assert all(own_s3_server.get(BUCKET, key).body == body for key in there)


def test_full_server_answers_an_error_and_keeps_what_it_has():
    with running_s3(FULL_AFTER_A_MEGABYTE) as server:
        store = opened(server.env(), retries=0)

        def fill() -> None:
            for number in range(200):
                obstore.put(store, f"a/{number}", bytes(200_000), use_multipart=False)

        with pytest.raises(GenericError, match="500 Internal Server Error"):
            fill()

        there = server.objects(BUCKET, "a/")
        assert 0 < len(there) < 200
        assert all(server.get(BUCKET, key).body == bytes(200_000) for key in there)


FORK = """
import os, sys, time
import obstore
from obstore.store import S3Store

store = S3Store(sys.argv[1])
if sys.argv[2] == "used":
    obstore.put(store, "forked", b"1")
child = os.fork()
if child == 0:
    obstore.put(store if sys.argv[2] == "used" else S3Store(sys.argv[1]), "forked", b"2")
    os._exit(0)
end = time.monotonic() + (1 if sys.argv[2] == "used" else 60)
while time.monotonic() < end:
    if os.waitpid(child, os.WNOHANG)[0]:
        sys.exit("ended")
    time.sleep(0.01)
os.kill(child, 9)
sys.exit("hangs")
"""


@pytest.mark.parametrize(("what", "becomes"), [("used", "hangs"), ("imported", "ended")])
def test_child_of_a_process_that_has_used_it_hangs(s3_server: S3Server, what: str, becomes: str):
    done = subprocess.run(
        [sys.executable, "-c", FORK, BUCKET, what],
        env={**os.environ, **s3_server.env()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stderr.strip().splitlines()[-1:] == [becomes]
