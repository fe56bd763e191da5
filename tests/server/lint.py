"""Checks of responses by httplint, which knows RFC 9110 and 9111."""

from httplint import HttpResponseLinter
from httplint.note import levels


def complaints(reply, method="GET"):
    """Return what httplint calls bad or warns of."""
    linter = HttpResponseLinter(no_content=method == "HEAD")
    linter.process_response_topline(b"HTTP/1.1", str(reply.status).encode(), reply.phrase.encode())
    linter.process_headers([(name.encode(), value.encode()) for name, value in reply.fields])
    linter.feed_content(reply.body)
    linter.finish_content(True)
    return [f"{note.summary} ({note.subject})" for note in linter.notes if note.level in {levels.BAD, levels.WARN}]
