from rehost.events import RunEnded
from rehost.model import Reason
from rehost.run.stats import combined


def test_results_add_up():
    first = RunEnded("cases", 10, 1, 2, {Reason.GONE: 3}, 1, 4, 1000, 5.0, later=3, total_held=15, total_present=30)
    second = RunEnded("cases", 20, 0, 0, {Reason.GONE: 1, Reason.DECOY: 2}, 0, 0, 500, 6.0, later=6, total_held=30,
                      total_present=36, interrupted=True)  # fmt: skip

    ended = combined([first, second], 7.5)

    assert (ended.held, ended.unchanged, ended.adopted, ended.overtaken, ended.size) == (30, 1, 2, 1, 1500)
    assert ended.failed == {Reason.GONE: 4, Reason.DECOY: 2}
    assert ended.unveiled == 4
    assert (ended.seconds, ended.later, ended.total_held, ended.interrupted) == (7.5, 6, 30, True)
