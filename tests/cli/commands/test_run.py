import resource
from dataclasses import replace

import pytest

from rehost.cli.commands.run import raise_file_limit
from rehost.errors import OperatorError
from rehost.settings import Settings

SETTINGS = replace(Settings(), concurrency=100, decode_processes=2)


class Limits:
    """The limits of open files of a process that is played here."""

    def __init__(self, monkeypatch, soft, hard):
        self.now = soft, hard
        monkeypatch.setattr(resource, "getrlimit", lambda _which: self.now)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, _which, limits):
        self.now = limits


def test_a_low_limit_of_open_files_is_raised_to_what_the_run_needs(monkeypatch):
    limits = Limits(monkeypatch, soft=256, hard=4096)

    raise_file_limit(SETTINGS)

    soft, hard = limits.now
    assert 9 * 100 < soft < 1200
    assert hard == 4096


def test_more_workers_need_more_open_files(monkeypatch):
    limits = Limits(monkeypatch, soft=256, hard=4096)
    raise_file_limit(SETTINGS)
    alone = limits.now[0]

    raise_file_limit(SETTINGS, workers=16)

    assert limits.now[0] > alone


@pytest.mark.parametrize("soft", [2048, resource.RLIM_INFINITY])
def test_a_sufficient_limit_of_open_files_is_kept(monkeypatch, soft):
    limits = Limits(monkeypatch, soft=soft, hard=resource.RLIM_INFINITY)

    raise_file_limit(SETTINGS)

    assert limits.now == (soft, resource.RLIM_INFINITY)


def test_a_limit_that_cannot_be_raised_is_an_error_with_advice(monkeypatch):
    limits = Limits(monkeypatch, soft=256, hard=300)

    with pytest.raises(
        OperatorError, match=r"needs up to \d+ open files, but only 300 are allowed: raise `ulimit -Hn`"
    ):
        raise_file_limit(SETTINGS)

    assert limits.now == (256, 300)
