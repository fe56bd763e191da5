"""What can go wrong between a URL and the body behind it. The text of each error says what was seen."""

from __future__ import annotations

MOST_CHARACTERS = 500
"""Of the text of an error: an origin, or a name server, decides how long what it quotes is."""


class HttpError(Exception):
    """The base of all errors of this library, except ValueError for wrong arguments."""

    def __init__(self, text: str = "") -> None:
        """Take what was seen; a long text is cut."""
        super().__init__(text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}...")


class InvalidUrl(HttpError):
    """The text is no http or https URL that may be requested."""


class PortRefused(InvalidUrl):
    """The URL's port belongs to another protocol (Fetch standard, section 2.9)."""


class InvalidProxy(HttpError):
    """An environment variable names a proxy that is no http or https URL.

    Attributes:
        variable: its name.
    """

    def __init__(self, variable: str) -> None:
        super().__init__(f"{variable} names a proxy that is no http or https URL")
        self.variable = variable


class AddressRefused(HttpError):
    """The address policy forbids every address of the host."""


class NameNotResolved(HttpError):
    """The resolver gave no answer; it may give one later."""


class NameNotFound(NameNotResolved):
    """The resolver answered that the name has no address."""


class TooManyOpenFiles(HttpError):
    """The process, or the machine, may open no more files and sockets (EMFILE, ENFILE)."""


class ConnectFailed(HttpError):
    """No connection could be made, directly or through the proxy."""


class TlsFailed(HttpError):
    """The certificate or the TLS handshake is not acceptable."""


class ConnectionClosed(HttpError):
    """The connection was closed, or broke, before the head of the response was complete."""


class ProtocolError(HttpError):
    """The response breaks a rule of HTTP, or of its content coding; the text says which one."""


class InvalidRedirect(ProtocolError):
    """The Location of a redirect leads to no http or https URL."""


class IncompleteBody(HttpError):
    """The connection, or the content coding, ended before the body did."""


class BodyTooLarge(HttpError):
    """The body is longer than its reader takes."""


class TooManyRedirects(HttpError):
    """More redirects than allowed, or a circle."""


def printable(text: object) -> str:
    """Return foreign text as an error may quote it: its first line, in ASCII, at most 120 characters."""
    lines = str(text).splitlines() or [""]
    return ascii(lines[0][:120])[1:-1]
