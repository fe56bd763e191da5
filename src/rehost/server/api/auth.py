"""Who may act: whoever shows the token, from a page of ours or from a program. Pure.

The token travels in a header that no other site can make a browser send; the checks of origin come on top.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping


def objection(headers: Mapping[str, str], token: str) -> tuple[int, str] | None:
    """Return the status and the sentence that keep a request from acting, or None where it may.

    Args:
        headers: of the request, names in lower case.
        token: the operator's; empty where there is none.
    """
    if not token:
        return 403, "This server only shows: it has no REHOST_TOKEN, so nobody can act through it."
    if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:  # Fetch Metadata, section 2.4
        return 403, "Actions are taken from rehost's own page or by a program, not from another site."
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        return 403, "Actions are taken from rehost's own page or by a program, not from another site."
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        return 401, "Show the token: Authorization: Bearer REHOST_TOKEN."
    return None
