import asyncio
import io

from tests.fakes import FakeClock
from tests.telemetry.visits import planned, refused, stored

from rehost.events import DatabaseAway, DatabaseBack, HostDeferred, OriginPaused
from rehost.model import Reason
from rehost.telemetry import progress as module
from rehost.telemetry.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


async def test_the_bar_shows_count_percent_bytes_and_failures():
    stream = Terminal()

    with progress(stream, FakeClock(), quiet=False) as show:
        show(planned(4))
        show(stored(1_000_000))
        show(stored(1_000_000))
        show(stored(1_000_000))
        show(refused())

    last = stream.getvalue().split("\r")[-1]
    assert "100%" in last
    assert "4/4" in last
    assert "3.00 MB, 1 failed" in last
    assert "pictures/s" in last


async def test_a_pipe_gets_a_line_every_ten_seconds():
    stream, clock = io.StringIO(), FakeClock()

    with progress(stream, clock, quiet=False) as show:
        show(planned(100))
        for _ in range(25):
            clock.advance(1)
            show(stored(1000))

    assert stream.getvalue().splitlines() == [
        "10% 10/100, 1.0 pictures/s, 10.0 kB, 0 failed, 1 min 30 s left",
        "20% 20/100, 1.0 pictures/s, 20.0 kB, 0 failed, 1 min 20 s left",
    ]


async def test_bar_and_lines_are_chinese_throughout_in_a_chinese_locale(monkeypatch):
    monkeypatch.setenv("REHOST_LANG", "zh_CN")
    bar, lines = Terminal(), io.StringIO()

    for stream in (bar, lines):
        clock = FakeClock()
        with progress(stream, clock, quiet=False) as show:
            show(planned(100))
            clock.advance(10)
            show(stored(1000))

    assert lines.getvalue() == "1% 1/100，0.1 张/秒，1.00 kB，失败 0，剩余 16 分钟 30 秒\n"
    assert "/100，剩余 " in bar.getvalue()
    assert ", " not in bar.getvalue()


async def test_links_visited_twice_never_make_more_than_100_percent():
    bar, lines = Terminal(), io.StringIO()

    for stream in (bar, lines):
        clock = FakeClock()
        with progress(stream, clock, quiet=False) as show:
            show(planned(2))
            for _ in range(2):
                show(stored())
            clock.advance(10)
            show(stored())

    assert "100% " in bar.getvalue().split("\r")[-1]
    assert "3/3" in bar.getvalue().split("\r")[-1]
    assert lines.getvalue().startswith("100% 3/3, ")
    assert " left" not in lines.getvalue()


async def test_links_deferred_with_their_host_count_as_failed():
    bar, lines = Terminal(), io.StringIO()
    given_up = HostDeferred("dead.example", 7, Reason.UNREACHABLE, "3 failures in a row", 60.0)

    for stream in (bar, lines):
        clock = FakeClock()
        with progress(stream, clock, quiet=False) as show:
            show(planned(9))
            show(stored())
            show(given_up)
            clock.advance(10)
            show(refused())

    assert "9/9" in bar.getvalue().split("\r")[-1]
    assert "8 failed" in bar.getvalue().split("\r")[-1]
    assert lines.getvalue().startswith("100% 9/9, ")


async def becomes_true(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_the_display_is_redrawn_while_nothing_is_visited(monkeypatch):
    monkeypatch.setattr(module, "TICK_SECONDS", 0.001)
    bar, lines, clock = Terminal(), io.StringIO(), FakeClock()

    with progress(bar, clock, quiet=False) as show:
        show(planned(2))
        show(stored())
        drawn = len(bar.getvalue())
        await becomes_true(lambda: bar.getvalue()[drawn:].count("1/2") > 2)
    with progress(lines, clock, quiet=False) as show:
        show(planned(2))
        clock.advance(10)
        await becomes_true(lines.getvalue)

    assert bar.getvalue()[drawn:].count("1/2") > 2
    assert lines.getvalue() == "0% 0/2, 0.0 pictures/s, 0 B, 0 failed, ? left\n"


async def test_a_pause_is_printed_without_control_characters():
    stream = io.StringIO()

    with progress(stream, FakeClock(), quiet=False) as show:
        show(OriginPaused("oss.adquan.com", 61.0, "429 \x1b[31m"))

    assert stream.getvalue() == "Pausing requests to oss.adquan.com for 1 min 1 s: 429 \\x1b[31m\n"


async def test_a_pause_names_its_host_once():
    stream = io.StringIO()
    evidence = "3 failures in a row (last: dead.example: Name or service not known)"

    with progress(stream, FakeClock(), quiet=False) as show:
        show(OriginPaused("dead.example", 16.6, evidence))

    cause = "3 failures in a row (last: Name or service not known)"
    assert stream.getvalue() == f"Pausing requests to dead.example for 16.6 s: {cause}\n"


async def test_nothing_due_shows_no_bar():
    stream = Terminal()

    with progress(stream, FakeClock(), quiet=False) as show:
        show(planned(0))

    assert stream.getvalue() == ""


async def test_quiet_shows_nothing():
    stream = Terminal()

    with progress(stream, FakeClock(), quiet=True) as show:
        show(planned(1))
        show(stored())

    assert stream.getvalue() == ""


AWAY = "The database server at localhost:5432"


async def test_an_outage_of_the_database_is_named_in_place_of_the_time_left(monkeypatch):
    monkeypatch.setattr(module, "TICK_SECONDS", 0.001)
    bar, lines = Terminal(), io.StringIO()

    for stream in (bar, lines):
        clock = FakeClock()
        with progress(stream, clock, quiet=False) as show:
            show(planned(2))
            show(stored())
            show(DatabaseAway(AWAY, 0.1))
            show(DatabaseAway(AWAY, 2.0))
            clock.advance(10)
            show(DatabaseAway(AWAY, 12.0))
            await becomes_true(lambda: "database for 12.0 s" in stream.getvalue())  # noqa: B023 - used at once
            show(DatabaseBack(AWAY, 13.0))
            clock.advance(10)
            show(stored())

    assert lines.getvalue().splitlines() == [
        f"{AWAY} does not answer: waiting for it.",
        "50% 1/2, waiting for the database for 12.0 s",
        f"{AWAY} answers again, after 13.0 s.",
        "100% 2/2, 0.1 pictures/s, 802 kB, 0 failed",
    ]
    assert f"{AWAY} does not answer: waiting for it.\n" in bar.getvalue()
    assert "1/2, waiting for the database for 12.0 s" in bar.getvalue()
    assert " left, " in bar.getvalue().split("\r")[-1]


async def test_an_outage_while_planning_is_named_though_there_is_no_bar():
    stream = Terminal()

    with progress(stream, FakeClock(), quiet=False) as show:
        show(DatabaseAway(AWAY, 2.0))

    assert stream.getvalue() == f"{AWAY} does not answer: waiting for it.\n"


async def test_the_time_left_is_shown_in_80_columns(monkeypatch):
    monkeypatch.setattr(module, "USUAL_COLUMNS", 80)
    stream = Terminal()

    with progress(stream, FakeClock(), quiet=False) as show:
        show(planned(100_000))
        for _ in range(11_111):
            show(refused())

    last = stream.getvalue().split("\r")[-1]
    assert "11111/100000, " in last
    assert " left, " in last
    assert "11,111 failed" in last
