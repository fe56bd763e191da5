"""An image verifier with decoder processes of its own, for the tests of one module."""

import asyncio

import pytest

from rehost.clock import Clock
from rehost.errors import VisitError
from rehost.images.verifier import ImageVerifier

MEBIBYTE = 1 << 20


def verifier(**changes):
    """Return an ImageVerifier with the default settings, except for `changes`."""
    defaults = {
        "verify": "decode",
        "max_pixels": 50_000_000,
        "max_frames": 1000,
        "max_total_pixels": 10**9,
        "decode_memory_bytes": 512 * MEBIBYTE,
        "decode_seconds": 20.0,
        "processes": 2,
        "clock": Clock(),
    }
    return ImageVerifier(**defaults | changes)


class Verify:
    """Verifies files one after the other, for tests that have no event loop of their own."""

    def __init__(self, runner, verifier, path):
        self._runner = runner
        self._verifier = verifier
        self._path = path

    def file(self, path):
        """Return the Image in the file, or the VisitError."""
        try:
            return self._runner.run(self._verifier.verify(path))
        except VisitError as error:
            return error

    def __call__(self, data):
        """Return the Image in the bytes, or the VisitError."""
        self._path.write_bytes(data)
        return self.file(self._path)


@pytest.fixture(scope="module", params=["decode"])
def verify(request, tmp_path_factory):
    """A Verify; parametrise indirectly with "structure" to verify without a decoder."""
    with asyncio.Runner() as runner:
        subject = verifier(verify=request.param)
        runner.run(subject.__aenter__())
        yield Verify(runner, subject, tmp_path_factory.mktemp("pictures") / "picture")
        runner.run(subject.__aexit__(None, None, None))
