"""Links as found in the wild -> the URL that is asked for. Pure; the row keeps the link as it is.

URLs are read as browsers read them (WHATWG URL standard): what showed in the operator's pages is what we fetch.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ada_url import URL, HostType, idna_to_ascii

from rehost.errors import Permanent
from rehost.model import MAX_LINK_CHARACTERS, Reason

# Fetch standard, section 2.9, "bad port".
BAD_PORTS = frozenset(
    {
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95),
        *(101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179),
        *(389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601),
        *(636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000),
        *(6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
    }
)

_RAW_BYTE = re.compile(r"[\udc80-\udcff]")  # of a Location in GBK, say: such origins expect the bytes back
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Names that DNS can carry (RFC 1035, section 2.3.4), and the underscore that real hosts use.
_NAME = re.compile(r"(?=.{1,254}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
# What no parser changes: nothing to encode, no dot segments, no empty ones (URL standard, sections 1.3 and 4.4).
_SEGMENT = r"[\w~!$&'()*+,;=:@-][\w.~!$&'()*+,;=:@-]*"
_PLAIN = re.compile(rf"(https?://[a-z0-9.:-]+/)(?:{_SEGMENT}(?:/{_SEGMENT})*)?(?:\?[\w.~!$&()*+,;=:@/?%-]+)?", re.ASCII)
_HOSTS_AT_HAND = 4096  # most links differ from others in what follows their host alone


def normalise(link: str, base: str | None = None) -> str:
    """Return the absolute http or https URL, all ASCII, that a link stands for.

    White space around it and the fragment are dropped, what is not ASCII is encoded (host names by UTS #46). A link
    that begins with `//` and has no base means https. A link with credentials is refused, as browsers refuse it for
    pictures: rehost sends only those that the operator has set for an origin, so that none can leak to another one.

    Args:
        link: as the row has it, or the Location of a redirect.
        base: the URL that a relative link starts from; without one, a relative link is refused.

    Raises:
        Permanent: NOT_A_URL or PORT_REFUSED; nothing else is ever raised.
    """
    plain = _PLAIN.fullmatch(link) if base is None else None
    if plain is not None and len(link) <= MAX_LINK_CHARACTERS:
        return _root(plain[1]) + link[plain.end(1) :]
    return _normalise(link, base)


@lru_cache(_HOSTS_AT_HAND)
def _root(text: str) -> str:
    """Return `scheme://host[:port]/` normalised."""
    return _normalise(text, None)


def _normalise(link: str, base: str | None) -> str:
    if len(link) > MAX_LINK_CHARACTERS:  # white space and all: what follows may have been cut off
        raise Permanent(Reason.NOT_A_URL, f"more than {MAX_LINK_CHARACTERS} characters")
    text = link.strip()
    if not text:
        raise Permanent(Reason.NOT_A_URL, "the cell is blank")
    if _CONTROL.search(text):
        # A browser would drop line breaks silently; who wrote them into a link meant to smuggle something.
        raise Permanent(Reason.NOT_A_URL, "a control character in the link")
    if "\\" in text and "@" in text:
        raise Permanent(Reason.NOT_A_URL, "a backslash and an @: parsers disagree about its host")
    if base is None and text.startswith(("//", "\\\\")):
        text = f"https:{text}"
    try:
        url = URL(text, base) if base else URL(text)
    except ValueError:
        raise Permanent(Reason.NOT_A_URL, "it cannot be read as a URL") from None
    return _checked(url)


def _checked(url: URL) -> str:
    scheme = str(url.protocol)
    if scheme not in {"http:", "https:"}:
        raise Permanent(Reason.NOT_A_URL, f"its scheme is {ascii(scheme[:20])[1:-1]}")
    if url.host_type == HostType.DEFAULT and not _is_name(str(url.hostname)):
        raise Permanent(Reason.NOT_A_URL, "its host can be no host name")
    if url.port and int(url.port) in BAD_PORTS:
        raise Permanent(Reason.PORT_REFUSED, f"port {url.port}")
    if url.username or url.password:
        raise Permanent(Reason.NOT_A_URL, "credentials in the URL")
    url.hash = ""
    href = str(url.href).removesuffix("#")
    if len(href) > MAX_LINK_CHARACTERS:
        raise Permanent(Reason.NOT_A_URL, f"{len(href)} characters when encoded")
    return href


def _is_name(host: str) -> bool:
    """Return whether DNS can carry this name and its internationalised labels (RFC 5890) are what they claim to be."""
    return bool(_NAME.fullmatch(host)) and all(_is_idn(label) for label in host.split(".") if label.startswith("xn--"))


def _is_idn(label: str) -> bool:
    try:
        text = label.removeprefix("xn--").encode("ascii").decode("punycode")
    except UnicodeError:
        return False
    return not text.isascii() and idna_to_ascii(text) == label.encode("ascii")


def next_hop(url: str, location: str) -> str:
    """Return where a redirect from a normalised URL leads.

    Args:
        url: that was asked for.
        location: the field as it came, raw bytes beyond ASCII as UTF-8 with surrogate escapes.

    Raises:
        Permanent: MALFORMED where it leads to no http or https URL, PORT_REFUSED.
    """
    try:
        return normalise(_RAW_BYTE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", location), url)
    except Permanent as error:
        if error.reason is Reason.PORT_REFUSED:
            raise
        raise Permanent(Reason.MALFORMED, f"a redirect: {error.evidence}") from error


def origin_of(url: str) -> str:
    """Return scheme://host[:port] of a normalised URL, the port only where it is not the scheme's own."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def host_of(url: str) -> str:
    """Return the host of a normalised URL: a name in lower case, or an address (IPv6 without brackets)."""
    authority = url.split("/", 3)[2]
    return authority[1:].partition("]")[0] if authority.startswith("[") else authority.partition(":")[0]


def port_of(url: str) -> int:
    """Return the port that a normalised URL leads to."""
    scheme, _, rest = url.partition("://")
    port = rest.partition("/")[0].rpartition("]")[2].partition(":")[2]
    return int(port) if port else {"http": 80, "https": 443}[scheme]
