"""URLs as found in the wild, read as browsers read them (WHATWG URL standard); redirects and their cookies. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Generic, TypeVar

from ada_url import URL, HostType, idna_to_ascii

from rehost.http.errors import InvalidRedirect, InvalidUrl, PortRefused, TooManyRedirects

T = TypeVar("T")

MAX_URL_CHARACTERS = 32_768
"""No server accepts a longer request line."""

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

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses whose Location is followed (RFC 9110, section 15.4); 300, 304 and 305 are not among them."""

_RAW_BYTE = re.compile(r"[\udc80-\udcff]")  # in a Location in GBK, say: such origins expect the same bytes back
_LINE_BREAKS = dict.fromkeys(map(ord, "\t\n\r"))  # URL standard, section 4.4: they are removed, wherever they are
_BROKEN_WORD = re.compile(r"\w[\r\n]+\w")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Names that DNS can carry (RFC 1035, section 2.3.4), and the underscore that real hosts use.
_NAME = re.compile(r"(?=.{1,254}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
# What no parser changes: nothing to encode, no dot segments, no empty ones (URL standard, sections 1.3 and 4.4).
_SEGMENT = r"[\w~!$&'()*+,;=:@-][\w.~!$&'()*+,;=:@-]*"
_PLAIN = re.compile(rf"(https?://[a-z0-9.:-]+/)(?:{_SEGMENT}(?:/{_SEGMENT})*)?(?:\?[\w.~!$&()*+,;=:@/?%-]+)?", re.ASCII)
_FINAL_DOT = re.compile(r"\.(?=(?::\d+)?\Z)")  # of the host of an origin
_REMEMBERED_HOSTS = 4096
_MOST_COOKIES, _MOST_COOKIE_CHARACTERS = 50, 4096  # RFC 6265, section 6.1
_REMEMBERED_ROOTS = 4096  # most URLs differ from others only in what follows their host
_REMEMBERED_URLS = 256  # a visit asks some 30 times for the parts of its URL; a few dozen visits are in progress


@lru_cache(_REMEMBERED_URLS)
def normalise(text: str, base: str | None = None) -> str:
    """Return the absolute http or https URL, all ASCII, that a text stands for.

    White space around it, line breaks and tabs in it, and the fragment are dropped (a break within a word is refused,
    more strictly than in browsers); what is not ASCII is encoded (host names by UTS #46). A text that begins with `//`
    and has no base means https. Credentials are refused, as browsers refuse them in subresources: so none can leak to
    another origin.

    Args:
        text: a URL as written by people and programs, or the Location of a redirect.
        base: the URL that a relative one starts from; without it, a relative one is refused.

    Raises:
        InvalidUrl: the text is no http or https URL, or (PortRefused) has a port of another protocol.
    """
    plain = _PLAIN.fullmatch(text) if base is None else None
    if plain is not None and len(text) <= MAX_URL_CHARACTERS:
        return _root(plain[1]) + text[plain.end(1) :]
    return _parse(text, base)


@lru_cache(_REMEMBERED_ROOTS)
def _root(text: str) -> str:
    """Return `scheme://host[:port]/` normalised."""
    return _parse(text, None)


def _parse(text: str, base: str | None) -> str:
    if len(text) > MAX_URL_CHARACTERS:  # before stripping: what follows may have been cut off
        raise InvalidUrl(f"more than {MAX_URL_CHARACTERS} characters")
    text = text.strip()
    if not text:
        raise InvalidUrl("it is blank")
    if _BROKEN_WORD.search(text):  # two lines of a cell are two things; elsewhere it is an attempt to smuggle something
        raise InvalidUrl("a line break within a word")
    text = text.translate(_LINE_BREAKS)
    if _CONTROL.search(text):
        raise InvalidUrl("it contains a control character")
    if "\\" in text and "@" in text:
        raise InvalidUrl("a backslash and an @: parsers disagree about its host")
    if base is None:
        text = with_scheme_of(text, None)
    try:
        url = URL(text, base) if base else URL(text)
    except ValueError:
        raise InvalidUrl("not a valid URL") from None
    return _checked(url)


def _checked(url: URL) -> str:
    scheme = str(url.protocol)
    if scheme not in {"http:", "https:"}:
        raise InvalidUrl(f"its scheme is {ascii(scheme[:20])[1:-1]}")
    if url.host_type == HostType.DEFAULT and not _is_name(str(url.hostname)):
        raise InvalidUrl("its host can be no host name")
    if url.port and int(url.port) in BAD_PORTS:
        raise PortRefused(f"port {url.port}")
    if url.username or url.password:
        raise InvalidUrl("credentials in the URL")
    url.hash = ""
    href = str(url.href).removesuffix("#")
    if len(href) > MAX_URL_CHARACTERS:
        raise InvalidUrl(f"{len(href)} characters when encoded")
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


def has_no_scheme(text: str) -> bool:
    """Return whether a text is a URL without a scheme: it begins with `//`, and means that of its page."""
    return text.lstrip().startswith(("//", "\\\\"))


def with_scheme_of(text: str, page_url: str | None) -> str:
    """Return a URL that begins with `//` with the scheme of its page; without one with https. Others stay as they are.

    URL standard, section 4.4: such a URL has the scheme of its base.
    """
    if not has_no_scheme(text):
        return text
    return f"{'http' if (page_url or '').lstrip().lower().startswith('http:') else 'https'}:{text.lstrip()}"


@lru_cache(_REMEMBERED_URLS)
def origin_of(url: str) -> str:
    """Return scheme://host[:port] of a normalised URL, the port only where it is not the scheme's default."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


@lru_cache(_REMEMBERED_URLS)
def folder_of(url: str) -> str:
    """Return the path of a normalised URL up to its last slash."""
    path = url.partition("?")[0].removeprefix(origin_of(url))
    return path[: path.rfind("/") + 1]


@lru_cache(_REMEMBERED_URLS)
def folder_url(url: str) -> str:
    """Return a normalised URL up to the last slash of its path; an origin stays one."""
    return origin_of(url) + folder_of(url)


def read_folder(text: str, page_url: str | None = None) -> str:
    """Return the folder of a URL as found on a page (`folder_url`); an empty text if it is none."""
    try:
        return folder_url(normalise(with_scheme_of(text, page_url)))
    except InvalidUrl:
        return ""


def read_origin(text: str, page_url: str | None = None) -> str:
    """Return the origin of a URL as found on a page, which may end before its path; an empty text if it is none."""
    try:
        return origin_of(normalise(with_scheme_of(text, page_url)))
    except InvalidUrl:
        return ""


def read_host(text: str) -> str:
    """Return the host of a URL as found in the wild; an empty text if it is none."""
    origin = read_origin(text)
    return host_of(origin) if origin else ""


def parse_host(text: str) -> str:
    """Return the host that a person names, however it is spelled: a name, an address, or a URL.

    Raises:
        InvalidUrl: it names no host, or a port without a scheme.
    """
    text = text.strip()
    if "://" in text:
        return host_of(normalise(text))
    url = normalise(f"http://[{text}]" if text.count(":") > 1 and "[" not in text else f"http://{text}")
    if origin_of(url).count(":") > host_of(url).count(":") + 1:
        raise InvalidUrl("a port without a scheme")
    return host_of(url)


@lru_cache(_REMEMBERED_URLS)
def host_of(url: str) -> str:
    """Return the host of a normalised URL or origin: a name in lower case, or an address (IPv6 without brackets).

    Without the dot that may end a name: DNS reads `a.example.` and `a.example` alike (RFC 1034, section 3.1).
    """
    authority = url.split("/", 3)[2]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].removesuffix(".")


def port_of(url: str) -> int:
    """Return the port that a normalised URL leads to."""
    scheme, _, rest = url.partition("://")
    port = rest.partition("/")[0].rpartition("]")[2].partition(":")[2]
    return int(port) if port else {"http": 80, "https": 443}[scheme]


def registrable_domain(host: str) -> str | None:
    """Return the registrable domain of a host (Public Suffix List, both sections); None for an address or a suffix."""
    labels = host.rstrip(".").split(".")
    if len(labels) == 1 or labels[-1].isdigit():  # WHATWG: a host that ends in a number is an IPv4 address
        return None
    found = _suffixes()(host.rstrip("."))
    return ".".join(labels[-found - 1 :]) if len(labels) > found else None


def domain_of(host: str) -> str:
    """Return whose host this is: its registrable domain, or the host itself where it has none.

    Names below a registrable domain cost nothing, so what is shared fairly is shared between domains.
    """
    return registrable_domain(host) or host


@cache
def _suffixes() -> Callable[[str], int]:
    """Return the number of labels in a host's public suffix, by the list that comes with tldextract: no network."""
    import tldextract  # noqa: PLC0415 - takes 0.2 s, and most commands never need it

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)

    @lru_cache(_REMEMBERED_HOSTS)
    def count(host: str) -> int:
        suffix = extract.extract_str(host).suffix
        # publicsuffix.org/list, "Formal Algorithm", step 2: where no rule matches, the rule is `*`.
        return suffix.count(".") + 1 if suffix else 1

    return count


def _without_final_dot(origin: str) -> str:
    return _FINAL_DOT.sub("", origin)


class OriginPattern:
    """A host, a host and all below it (`*.example.com`, example.com included), or one `scheme://host[:port]`."""

    def __init__(self, text: str) -> None:
        """Read a pattern, however it is spelled; raises InvalidUrl if it is none."""
        self._origin = _without_final_dot(origin_of(normalise(text))) if "://" in text else None
        self._is_wildcard = text.startswith("*.")
        self._host = parse_host(text.removeprefix("*."))

    def matches(self, url: str) -> bool:
        """Return whether the origin of a normalised URL matches."""
        if self._origin is not None:
            return self._origin == _without_final_dot(origin_of(url))
        return self.matches_host(host_of(url))

    def matches_host(self, host: str) -> bool:
        """Return whether a host matches; one origin of it is enough."""
        return host == self._host or (self._is_wildcard and host.endswith(f".{self._host}"))


@dataclass(frozen=True, slots=True)
class FirstMatch(Generic[T]):
    """A value for each origin or host: that of the first pattern that matches, or else the default."""

    values: Sequence[tuple[OriginPattern, T]]
    default: T

    def of_origin(self, origin: str) -> T:
        """Return the value for `scheme://host[:port]`."""
        return next((value for pattern, value in self.values if pattern.matches(origin)), self.default)

    def of_host(self, host: str) -> T:
        """Return the value for a host; a pattern for one of its origins matches."""
        return next((value for pattern, value in self.values if pattern.matches_host(host)), self.default)


@dataclass(frozen=True, slots=True)
class _Cookie:
    name: str
    value: str
    domain: str
    path: str
    with_subdomains: bool
    only_https: bool

    def fits(self, url: str) -> bool:
        """Return whether a request for a URL has this cookie (RFC 6265, section 5.4)."""
        host, path = host_of(url), _path_of(url)
        is_theirs = host == self.domain or (self.with_subdomains and host.endswith(f".{self.domain}"))
        is_below = path == self.path or path.startswith(self.path if self.path.endswith("/") else f"{self.path}/")
        return is_theirs and is_below and (url.startswith("https:") or not self.only_https)


class Cookies:
    """The cookies that the redirects of one attempt set (RFC 6265); nothing of them outlives it."""

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str, str], _Cookie] = {}

    def take(self, url: str, fields: Sequence[str]) -> None:
        """Take the values of the Set-Cookie fields of a response from a URL; those that may not be set are ignored."""
        for field in fields:
            cookie, is_removed = _cookie(url, field)
            if cookie is None or len(self._cookies) >= _MOST_COOKIES:
                continue
            key = cookie.name, cookie.domain, cookie.path
            if is_removed:
                self._cookies.pop(key, None)
            else:
                self._cookies[key] = cookie

    def of(self, url: str) -> str:
        """Return the Cookie field of a request for a URL, or an empty text."""
        fitting = sorted((each for each in self._cookies.values() if each.fits(url)), key=lambda each: -len(each.path))
        return "; ".join(f"{each.name}={each.value}" for each in fitting)


def _cookie(url: str, field: str) -> tuple[_Cookie | None, bool]:
    """Return the cookie that a Set-Cookie sets, if it may, and whether this removes it (RFC 6265, section 5.2)."""
    pair, *rest = field.split(";")
    name, equals, value = (part.strip(" \t") for part in pair.partition("="))
    if not name or not equals or len(field) > _MOST_COOKIE_CHARACTERS or _CONTROL.search(field.replace("\t", " ")):
        return None, False
    attributes = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in rest)}
    host, domain = host_of(url), attributes.get("domain", "").removeprefix(".").lower()
    has_domain = bool(domain) and registrable_domain(domain) is not None  # a suffix is nobody's
    if domain not in {"", host} and not (has_domain and host.endswith(f".{domain}")):
        return None, False  # another host's
    path = attributes.get("path", "")
    if not path.startswith("/"):
        path = _path_of(url).rpartition("/")[0] or "/"  # section 5.1.4
    cookie = _Cookie(name, value, domain or host, path, has_domain, "secure" in attributes)
    is_removed = attributes.get("max-age", "1").startswith(("-", "0")) or "1970" in attributes.get("expires", "")
    return cookie, is_removed


def _path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3].partition("?")[0]


class RedirectChain:
    """The URLs of one request: the first one, and those that its redirects lead to.

    Attributes:
        url: the URL to request now.
    """

    def __init__(self, url: str, max_redirects: int) -> None:
        """Start at a normalised URL; at most `max_redirects` are followed."""
        self.url = url
        self._first = url
        self._max_redirects = max_redirects
        self._cookies = Cookies()
        self._seen = {(url, "")}

    def fit(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the fields for the URL: with the cookies that were set for it on the way.

        Over http there is no Referer of https (RFC 9110, section 10.1.3), but a chain that starts over http has one
        that was chosen for http.
        """
        cookies = self._cookies.of(self.url)
        fitting = {**headers, "Cookie": cookies} if cookies else dict(headers)
        is_downgrade = self._first.startswith("https:") and self.url.startswith("http:")
        if is_downgrade and headers.get("Referer", "").startswith("https:"):
            del fitting["Referer"]
        return fitting

    def follow(self, location: str, set_cookies: Sequence[str] = ()) -> None:
        """Go on to the target of a redirect; its fields have raw bytes beyond ASCII as surrogate escapes.

        Raises:
            InvalidRedirect: it leads to no http or https URL.
            PortRefused: it leads to a port of another protocol.
            TooManyRedirects: it leads back, with the same cookies as before, or is one too many.
        """
        try:
            url = normalise(_RAW_BYTE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", location), self.url)
        except PortRefused:
            raise
        except InvalidUrl as error:
            raise InvalidRedirect(f"a redirect: {error}") from error
        self._cookies.take(self.url, set_cookies)
        request = url, self._cookies.of(url)
        if request in self._seen:  # it would get the same response
            raise TooManyRedirects("a circle")
        if len(self._seen) > self._max_redirects:
            raise TooManyRedirects(f"more than {self._max_redirects}")
        self._seen.add(request)
        self.url = url
