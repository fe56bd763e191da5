"""What stands where a picture cannot be shown just now: a small neutral one, with the status that says why. Pure."""

from __future__ import annotations

from http import HTTPStatus
from math import ceil

from rehost.model import Reason
from rehost.ports import Entry
from rehost.server.files.response import HARMLESS, Answer

LONGEST_WAIT = 86400  # seconds, in Retry-After; nobody plans further
AGAIN_SECONDS = 5  # where nobody knows

# Grey on whatever is behind it; nothing in it but shapes and one word of ours.
_PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" width="320" height="240" viewBox="0 0 320 240">\
<title>{}</title><rect width="320" height="240" fill="#888" fill-opacity=".14"/>\
<g fill="none" stroke="#888" stroke-opacity=".6" stroke-width="5" stroke-linejoin="round">\
<rect x="112" y="80" width="96" height="80" rx="8"/><path d="M116 148l28-30 20 20 14-12 26 26"/>\
<circle cx="184" cy="102" r="8"/></g></svg>
"""

_STATUSES = {
    Reason.NOT_A_URL: HTTPStatus.NOT_FOUND,
    Reason.GONE: HTTPStatus.NOT_FOUND,
    Reason.ADDRESS_REFUSED: HTTPStatus.FORBIDDEN,
    Reason.PORT_REFUSED: HTTPStatus.FORBIDDEN,
    Reason.ROBOTS_REFUSED: HTTPStatus.FORBIDDEN,
    Reason.TIMED_OUT: HTTPStatus.GATEWAY_TIMEOUT,
    Reason.THROTTLED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.BUG: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def placeholder(entry: Entry | None) -> Answer:
    """Return the answer for a link that has no copy; None stands for a link that the catalogue does not have.

    What the origin did is the status: it has no such picture (404), did not answer in time (504), asks to come back
    later (503), anything else that is no picture (502). An entry without a reason is one that is still being fetched.
    """
    if entry is None:
        return stand_in(HTTPStatus.NOT_FOUND, "no such link")
    if entry.reason is None:
        return stand_in(HTTPStatus.SERVICE_UNAVAILABLE, "not yet", AGAIN_SECONDS)
    status = _STATUSES.get(entry.reason, HTTPStatus.BAD_GATEWAY)
    return stand_in(status, entry.reason.value, min(ceil(entry.wait_seconds), LONGEST_WAIT))


def stand_in(status: HTTPStatus, word: str, retry_after: int = 0) -> Answer:
    """Return the neutral picture; nobody is to keep it.

    Args:
        status: what is the matter.
        word: the same for whoever looks into the picture.
        retry_after: seconds (RFC 9110, section 10.2.3); 0 where asking again is no use.
    """
    picture = _PICTURE.format(word).encode()
    again = (("retry-after", str(retry_after)),) if retry_after else ()
    headers = (("content-type", "image/svg+xml"), ("cache-control", "no-store"), *HARMLESS, *again)
    return Answer(status, (*headers, ("content-length", str(len(picture)))), (picture,))
