import io
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from tests.telemetry.visits import bug, refused, stored

from rehost.errors import SettingsError
from rehost.events import CopiesSuspected, HostDeferred, OriginChanged, OriginPaused, RunEnded
from rehost.model import Reason
from rehost.run.stats import total
from rehost.telemetry.log import log_event, logging_to, visit_line


def test_a_stored_visit_is_one_canonical_line():
    line = visit_line(stored())

    assert line == "visit stored row=297041 origin=oss.adquan.com bytes=400869 ms=212 attempt=1 source=cases"


def test_the_line_of_a_refused_visit_has_reason_evidence_and_wait():
    line = visit_line(refused())

    assert line.startswith("visit refused row=297041 ")
    assert line.endswith(" reason=gone evidence=404 wait=86400")


def test_evidence_cannot_forge_a_line():
    line = visit_line(refused("404\nvisit stored row=1 \x1b[2J"))

    assert line.isprintable()


HOSTILE = "\x1b]0;owned\x07\n2026-01-01T00:00:00.000Z INFO forged\r\x85\u2028\u202e\u2066\u200f\u061c\x9b31m\x7f"


def test_no_record_has_a_character_that_acts_on_a_terminal_or_a_line_from_elsewhere(tmp_path):
    stream, file = io.StringIO(), tmp_path / "rehost.log"
    log = logging.getLogger("rehost.test")

    cause, error = KeyError(HOSTILE), ValueError(HOSTILE)
    cause.add_note(HOSTILE)
    error.__cause__ = cause

    with logging_to(stream, file, verbose=True):
        log.warning("broken row=%s", HOSTILE)
        log.error("failed", exc_info=error)
        log.error("failed", exc_info=ExceptionGroup(HOSTILE, [ValueError(HOSTILE), OSError(1, HOSTILE)]))

    for text in (stream.getvalue(), file.read_bytes().decode()):
        lines = text.split("\n")
        assert all(line.isprintable() for line in lines)
        assert not [line for line in lines if line.lstrip(" |").startswith(("2026-01-01", "INFO"))]
        assert sum(line.startswith("ValueError: \\x1b]0;owned\\x07\\n2026-01") for line in lines) == 1


def test_a_new_log_file_is_its_owners_and_an_old_one_keeps_its_mode(tmp_path):
    new, old = tmp_path / "new.log", tmp_path / "old.log"
    old.touch()
    old.chmod(0o640)

    for file in (new, old):
        with logging_to(io.StringIO(), file, verbose=False):
            log_event(stored())

    assert [file.stat().st_mode & 0o777 for file in (new, old)] == [0o600, 0o640]


def test_the_file_gets_every_visit_and_the_stream_only_warnings_and_errors(tmp_path):
    stream, file = io.StringIO(), tmp_path / "rehost.log"

    with logging_to(stream, file, verbose=False):
        log_event(stored())
        log_event(OriginPaused("oss.adquan.com", 60.0, "429"))
        log_event(bug())

    assert [line.split()[1] for line in file.read_text("utf-8").splitlines()] == ["INFO", "INFO", "ERROR"]
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["ERROR"]


def test_a_host_whose_links_are_deferred_has_a_line(tmp_path):
    file = tmp_path / "rehost.log"

    with logging_to(io.StringIO(), file, verbose=False):
        log_event(HostDeferred("dead.example", 55, Reason.TIMED_OUT, "0 bytes in 30 s", 60.0))

    line = 'host deferred host=dead.example links=55 reason=timed-out evidence="0 bytes in 30 s" wait=60'
    assert file.read_text("utf-8").endswith(f" INFO {line}\n")


def test_an_origin_that_refuses_its_rule_has_a_line(tmp_path):
    file = tmp_path / "rehost.log"

    with logging_to(io.StringIO(), file, verbose=False):
        log_event(OriginChanged("https://a.example", "page", "3 links in a row are refused under page: status 403"))

    line = (
        'origin changed origin=https://a.example referer=page evidence="3 links in a row are refused under page: status'
    )
    assert f" INFO {line} 403" in file.read_text("utf-8")


def test_copies_that_may_be_decoys_and_those_that_are_removed_are_warnings():
    stream = io.StringIO()
    visit = refused()

    with logging_to(stream, None, verbose=False):
        log_event(CopiesSuspected("cases", "pics.example", "d" * 64, 3))
        log_event(visit)
        log_event(replace(visit, outcome=replace(visit.outcome, decoy="297041/main_image.png")))

    suspected, removed = stream.getvalue().splitlines()
    assert " WARNING copies suspected to be decoys copies=3 source=cases host=pics.example " in suspected
    assert " WARNING visit refused row=297041 " in removed
    assert removed.endswith(" decoy_removed=297041/main_image.png")


def test_verbose_shows_every_visit_on_the_stream():
    stream = io.StringIO()

    with logging_to(stream, None, verbose=True):
        log_event(stored())

    assert " INFO visit stored row=297041 " in stream.getvalue()


def test_a_second_run_appends(tmp_path):
    file = tmp_path / "rehost.log"
    for _ in range(2):
        with logging_to(io.StringIO(), file, verbose=False):
            log_event(stored())

    assert len(file.read_text("utf-8").splitlines()) == 2


def test_logging_is_restored_afterwards(tmp_path):
    logger = logging.getLogger("rehost")
    before = logger.level, logger.propagate, list(logger.handlers)

    with logging_to(io.StringIO(), tmp_path / "rehost.log", verbose=True):
        pass

    assert before == (logger.level, logger.propagate, list(logger.handlers))


def test_a_log_file_that_cannot_be_written_is_a_settings_error(tmp_path):
    with (
        pytest.raises(SettingsError, match=r"log file .* cannot be written"),
        logging_to(io.StringIO(), tmp_path, verbose=False),
    ):
        pass


def test_a_log_file_on_a_full_disk_is_named_once_and_stops_no_run(capsys):
    stream = io.StringIO()

    with logging_to(stream, Path("/dev/full"), verbose=False):
        for _ in range(3):
            log_event(stored())

    assert stream.getvalue().count("\n") == 1
    assert "WARNING The log file /dev/full cannot be written (No space left on device)" in stream.getvalue()
    assert capsys.readouterr() == ("", "")


def test_log_lines_are_in_english_whatever_the_language(monkeypatch):
    english = visit_line(refused())
    monkeypatch.setenv("REHOST_LANG", "zh_CN")

    assert visit_line(refused()) == english


def test_a_closed_stream_does_not_stop_a_run():
    stream = io.StringIO()

    with logging_to(stream, None, verbose=True):
        stream.close()
        log_event(stored())


def test_a_run_over_several_sources_has_a_line_for_each(tmp_path):
    file = tmp_path / "rehost.log"
    ends = [
        RunEnded(source, held=number, unchanged=0, adopted=0) for number, source in enumerate(("cases", "shops"), 3)
    ]

    with logging_to(io.StringIO(), file, verbose=False):
        log_event(total(ends))

    lines = [line.partition(" INFO ")[2] for line in file.read_text("utf-8").splitlines()]
    assert lines == [
        "run source=cases held=3 unchanged=0 failed=0 bytes=0 seconds=0.0 state=ended",
        "run source=shops held=4 unchanged=0 failed=0 bytes=0 seconds=0.0 state=ended",
    ]
