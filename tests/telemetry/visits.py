"""Events as a run says them."""

from rehost.events import Planned, Visited
from rehost.model import Copy, Deferred, Format, Image, Link, Reason, Refused, Stored, Task

LINK = Link("cases", "297041", 0, "https://oss.adquan.com/upload/1.png", None, None)
TASK = Task(1, 1, LINK, "oss.adquan.com", 1)
STORED = Stored(TASK, Copy("297041/main_image.png", "0" * 64, 400_869), Image(Format.PNG, 8, 8, 1), None)


def planned(due):
    return Planned("cases", present=due, held=0, due=due, later=0)


def stored(size=400_869):
    return Visited(STORED, "https://oss.adquan.com", size, 0.2119, 1)


def refused(evidence="404"):
    return Visited(Refused(TASK, Reason.GONE, evidence, 86400.0), "https://oss.adquan.com", 0, 0.02, 1)


def bug():
    return Visited(Deferred(TASK, Reason.BUG, "KeyError", 60.0), "https://oss.adquan.com", 0, 0.02, 0)
