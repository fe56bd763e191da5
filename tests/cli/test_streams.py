import errno
import io
import os
import sys

import click
import pytest

from rehost.cli.streams import TolerantStream, tolerant_streams
from rehost.errors import OperatorError


@pytest.fixture
def abandoned():
    """A pipe without a reader."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield stream


class Full(io.StringIO):
    """A file on a full disk."""

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_text_for_a_pipe_without_reader_is_dropped_now_and_at_exit(abandoned):
    tolerant = TolerantStream(abandoned, BrokenPipeError)

    print("lost", file=tolerant, flush=True)

    abandoned.flush()
    print("lost as well", file=abandoned, flush=True)


def test_a_full_disk_under_stderr_is_ignored(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Full())

    with tolerant_streams():
        click.echo("lost", err=True)


def test_a_full_disk_under_stdout_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())

    with tolerant_streams(), pytest.raises(OperatorError, match=r"The output cannot be written: No space left"):
        click.echo("asked for")


def test_a_closed_stdout_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)

    with tolerant_streams(), pytest.raises(OperatorError, match="Bad file descriptor"):
        click.echo("asked for")


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # the latter in the locale C
@pytest.mark.parametrize(("encoding", "written"), [("iso-8859-1", "caf\xe9 ??"), ("ascii", "caf? ??")])
def test_characters_that_the_encoding_lacks_are_replaced(encoding, written, errors, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)

    with tolerant_streams():
        click.echo("caf\xe9 中文")

    assert stream.buffer.getvalue().decode(encoding) == f"{written}\n"


def test_a_stream_that_was_closed_at_the_start_drops_everything(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)

    with tolerant_streams():
        click.echo("lost", err=True)
        assert not sys.stderr.isatty()
        with pytest.raises(io.UnsupportedOperation):
            sys.stderr.fileno()


def test_the_streams_are_restored_afterwards():
    before = sys.stdout, sys.stderr

    with tolerant_streams():
        assert (sys.stdout, sys.stderr) != before

    assert (sys.stdout, sys.stderr) == before
