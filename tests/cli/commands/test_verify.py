"""`rehost verify` as its users call it: options, what it prints, exit statuses, Ctrl-C."""

from __future__ import annotations

import json
import signal
import time

import pytest
from tests.journeys.world import TABLE, World, ended
from tests.origin import Origin

from rehost.cli.main import main
from rehost.cli.output.findings import LineProgress, verified_words, verify_text
from rehost.cli.output.tables import Style
from rehost.clock import Clock
from rehost.ledger.findings import Fault, Finding, Mend
from rehost.upkeep.verify import VerifyReport


@pytest.fixture(scope="module")
def shop(tmp_path_factory, fork_server):
    """A world with held copies, for commands in processes of their own."""
    with Origin() as origin:
        settings = {"IMAGE_VERIFY": "structure"}
        world = World(tmp_path_factory.mktemp("shop"), origin, None, settings=settings, fork_server=fork_server)
        world.sql(TABLE)
        world.fill([origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(1, 7)])
        assert world.run().returncode == 0
        yield world


def verify(shop, *options):
    with shop.start(verb="verify", options=options) as process:
        return ended(process)


def test_exit_status_and_output_say_what_is_wrong_and_what_cures_it(shop):
    clean = verify(shop, "--quiet")
    (shop.store / "1/main_image.jpg").unlink()
    wrong = verify(shop)
    listed = verify(shop, "--json")
    mended = verify(shop, "--repair", "--quiet")
    again = verify(shop)

    assert (clean.returncode, clean.stdout, clean.stderr) == (0, "", "")
    assert wrong.returncode == 1
    assert "status    Copies whose files are missing: 1\n" in wrong.stdout
    assert "action    `rehost verify --repair`" in wrong.stdout
    assert "see       docs/howto/keep-right.md" in wrong.stdout
    report = json.loads(listed.stdout)
    assert (listed.returncode, report["left"], report["findings"][0]["row_key"]) == (1, {"missing": 1}, "1")
    assert (mended.returncode, mended.stdout) == (0, "")
    assert (again.returncode, "nothing wrong" in again.stdout) == (0, True)


def test_ctrl_c_ends_it_cleanly_and_the_next_call_goes_on(shop):
    verify(shop)
    process = shop.start(verb="verify", options=["--rate", "0.001kB/s", "--json"])
    with process:
        end = time.monotonic() + 60
        while "rehost_passes" not in str(shop.sql("SELECT name FROM sqlite_master")) or shop.sql(
            "SELECT ended_at FROM rehost_passes WHERE name = 'verify'"
        ) != [("",)]:
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        done = ended(process)

    assert done.returncode == 130
    assert json.loads(done.stdout)["interrupted"]
    assert verify(shop).returncode == 0


def test_a_store_that_is_not_there_is_status_3(shop):
    shop.store.rename(shop.folder / "elsewhere")

    done = verify(shop, "--repair")

    (shop.folder / "elsewhere").rename(shop.store)
    assert (done.returncode, "does not exist" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    "option", [["--sample", "0%"], ["--sample", "half"], ["--rate", "fast"], ["--for", "soon"], ["--limit", "0"]]
)
def test_an_option_that_makes_no_sense_is_status_2(option, capsys):
    assert main(["verify", *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_a_report_shows_a_few_of_each_kind_and_says_how_many_more():
    report = VerifyReport(total=10, copies=10, size=1000, run=12)
    for number in range(5):
        report.add(Finding(Fault.CUT, "cases", str(number), 0, f"{number}/x.png", "1 of 2 bytes", Mend.ORIGIN))
    report.add(Finding(Fault.STRAY, "cases", "9", 0, "9/x.png", "no row"))

    text = verify_text(report, Style(is_on=False), is_repair=True)

    assert "found     6 faults: 5 mended, 1 left\n" in text
    assert text.count("fetched again, with the same bytes") == 3
    assert "and 2 more (--json lists them)" in text
    assert "None: all were mended." in text
    assert "`rehost prune`" in text
    assert "`rehost undo 12`" in text


def test_a_store_that_anybody_can_read_is_wrong_though_all_copies_are_right():
    report = VerifyReport(total=1, copies=1, exposed="https://cdn.example/x/.rehost/store-id")

    text = verify_text(report, Style(is_on=False), is_repair=False)

    assert not report.is_well
    assert "https://cdn.example/x/.rehost/store-id\n" in text
    assert "refuse all that begins with https://cdn.example/x/.rehost/." in " ".join(text.split())
    assert "nothing wrong" not in text


class Terminal:
    """A stream that keeps what is written."""

    def __init__(self, is_terminal):
        self.text = ""
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


class Later(Clock):
    seconds = 0.0

    def monotonic(self):
        return self.seconds


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_after_two_seconds(is_terminal):
    clock, stream = Later(), Terminal(is_terminal)
    progress = LineProgress(stream, clock, verified_words, is_quiet=False)
    progress(VerifyReport(total=10, copies=1))
    assert stream.text == ""
    clock.seconds = 3.0

    progress(VerifyReport(total=10, copies=5))
    progress.close()

    assert "50% verified, 5 of 10 copies" in stream.text
    assert stream.text.endswith("\x1b[K" if is_terminal else "\n")
