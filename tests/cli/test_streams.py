import errno
import io
import os
import sys

import click
import pytest

from rehost.cli.streams import TolerantStream, lasting_streams


@pytest.fixture
def abandoned():
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield stream


class Full(io.StringIO):
    """A file on a full disk."""

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_nobody_reads_is_lost_now_and_later(abandoned):
    outlet = TolerantStream(abandoned, BrokenPipeError)

    print("lost", file=outlet, flush=True)

    abandoned.flush()
    print("lost as well", file=abandoned, flush=True)


def test_a_full_disk_under_stderr_ends_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Full())

    with lasting_streams():
        click.echo("lost", err=True)


def test_a_full_disk_under_stdout_is_a_fault(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())

    with lasting_streams(), pytest.raises(OSError, match="No space left"):
        click.echo("asked for")


def test_a_stream_that_was_closed_at_the_start_takes_words_to_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)

    with lasting_streams():
        click.echo("lost", err=True)
        assert not sys.stderr.isatty()
        with pytest.raises(io.UnsupportedOperation):
            sys.stderr.fileno()


def test_the_streams_are_as_they_were_afterwards():
    before = sys.stdout, sys.stderr

    with lasting_streams():
        assert (sys.stdout, sys.stderr) != before

    assert (sys.stdout, sys.stderr) == before
