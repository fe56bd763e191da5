"""A program, not a test: fetches URLs of addresses that must never be contacted from a machine with a network.

test_ssrf_vectors.py runs it in a network namespace of its own, whose only interface is loopback and where every
address is local. It refuses to run anywhere else. It fetches each vector, captures every packet, and prints one JSON
object per line: the vector's id, how the fetch ended, and which addresses were contacted.
"""

import asyncio
import csv
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from rehost.clock import Clock
from rehost.errors import VisitError
from rehost.fetch.fetcher import Fetcher
from rehost.fetch.reasons import request_url
from rehost.http.address_policy import AddressPolicy, is_address
from rehost.http.errors import HttpError, InvalidUrl, NameNotFound
from rehost.http.pool import Connector, Route
from rehost.http.url import host_of, normalise, port_of
from rehost.model import Request

if __name__ == "__main__":  # other packages install a module called tests too; ours is the folder above
    spec = ModuleSpec("tests", None, is_package=True)
    spec.submodule_search_locations = [str(Path(__file__).parents[1])]
    sys.modules["tests"] = module_from_spec(spec)

from tests.origin import Origin

PUBLIC = "93.184.216.34"
"""The address of every name for which the vector gives no other."""

INSIDE = {
    "localhost": "127.0.0.1",
    "service.localhost": "127.0.0.1",
    "ip6-localhost": "::1",
    "ip6-loopback": "::1",
    "lvh.me": "127.0.0.1",
    "metadata.google.internal": "169.254.169.254",
    "randomdomain.internal": "10.0.0.7",
    "another-host.local": "192.168.0.7",
    "random-host": "172.16.0.7",
}
"""Names that have an address only on the machine or in its network."""

NOWHERE = {"foobar.x", "flabergasted.cx", "test"}
"""Names that have no address."""


EVERYWHERE = AddressPolicy(is_own=lambda _address: False)
"""What the program tries: here every address is the machine's own."""


def isolate(outside):
    """Make every address a local one; end the program if it runs in the caller's network or has any way out."""
    if network() == outside or [name for _, name in socket.if_nameindex()] != ["lo"]:
        sys.exit("not in a network namespace of its own: nothing was tried")
    for command in (
        "ip link set lo up",
        "ip route add local 0.0.0.0/0 dev lo",
        "ip -6 route add local ::/0 dev lo",
    ):
        subprocess.run(command.split(), check=True)


def network():
    """Return what names this process's network namespace."""
    return str(Path("/proc/self/ns/net").readlink())


class Packets:
    """Captures every packet that is sent."""

    def __init__(self):
        every_protocol = 3
        self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every_protocol))
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._raw.setblocking(False)

    def contacted(self):
        """Return the addresses that this program opened connections to since the last call."""
        found = set()
        while True:
            try:
                frame = self._raw.recv(256)
            except BlockingIOError:
                return sorted(found)
            found |= _contacted(frame)


def _contacted(frame):
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        protocol, target, rest = packet[9], str(IPv4Address(packet[16:20])), packet[(packet[0] & 15) * 4 :]
    elif kind == b"\x86\xdd":
        protocol, target, rest = packet[6], str(IPv6Address(packet[24:40])), packet[40:]
    else:
        return {f"frame {kind.hex()}"}
    if protocol == socket.IPPROTO_TCP:
        begins = rest[13] & 0x12 == 0x02  # SYN without ACK
        return {target} if begins else set()
    return set() if protocol in {socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6} else {target}


class VectorResolver:
    """A resolver that gives the vector's answers, one after the other if it has several."""

    def __init__(self, vector):
        self._answers = _answers(vector)

    async def __call__(self, host):
        usual = [] if host in NOWHERE else [INSIDE.get(host, PUBLIC)]
        answers = self._answers.get(host) or [usual]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not answer:
            raise NameNotFound(host)
        return answer


def _answers(vector):
    """Return host -> the answers that the vector's setup gives, in order."""
    setup = vector["setup"]
    try:
        own = host_of(normalise(raw(vector["url"])))
    except InvalidUrl:
        return {}
    if "fails" in setup:
        return {own: [[]]}
    if "answer public" in setup:
        return {own: [[PUBLIC], ["127.0.0.1"]]}
    if "loopback/private/link-local" in setup:
        return {own: [["127.0.0.1", "192.168.1.1", "169.254.169.254"]]}
    found = {}
    for host, addresses in re.findall(r"(?:A|AAAA)? ?([\w.-]*) = ((?:[0-9a-f.:]+(?:, )?)+)", setup):
        found[host if "." in host else own] = [addresses.split(", ")]
    if then := re.findall(r"(?:resolves to|first answer|then|next) ([0-9a-f.:]+[0-9a-f])", setup):
        found[own] = [[address] for address in then]
    return found


def raw(url):
    """Return the vector's URL with the bytes that its escapes stand for."""
    return re.sub(r"\\(n|r|x00)", lambda escape: {"n": "\n", "r": "\r", "x00": "\0"}[escape[1]], url)


class Player:
    """Plays the public web as the current vector describes it."""

    def __init__(self):
        self.setup = ""
        self.asked = []  # requests since the vector began

    def begin(self, setup):
        self.setup = setup
        self.asked = []

    def __call__(self, host, _path, headers):
        self.asked.append((host, headers))
        return self._answer

    async def _answer(self, exchange):
        status, chain = re.match(r"\d{3}", self.setup), re.search(r"(\d+) (?:chained )?redirects", self.setup)
        if chain and len(self.asked) <= int(chain[1]):
            await exchange.reply(302, b"", f"Location: /hop/{len(self.asked)}.png")
        elif "loop to itself" in self.setup:
            await exchange.reply(302, b"", "Location: /r")
        elif status and len(self.asked) == 1:
            fields = re.findall(r"((?:Content-)?(?:Location|Type): .*?)(?= with | then | \(|$| ;)", self.setup)
            await exchange.reply(int(status[0]), exchange.body, *fields[:1])
        else:
            await exchange.reply(200, exchange.body, "Content-Type: image/png")


async def fetched(vector, folder, names):
    """Fetch one vector as the program would; return how it ended."""
    limit = re.search(r"limit (\d)", vector["setup"])
    settings = {
        "clock": Clock(),
        "timeout_seconds": 5,
        "max_bytes": 1 << 20,
        "max_redirects": int(limit[1]) if limit else 5,
        "user_agent": "rehost-tests",
        "concurrency": 2,
        "resolver": names,
        "headers_for": _secrets,
    }
    async with Fetcher(EVERYWHERE, **settings) as fetcher:
        try:
            await fetcher.fetch(Request(request_url(raw(vector["url"])), folder / "spool"))
        except VisitError as error:
            return str(error.reason)
        return "fetched"


def _secrets(origin):
    return {"Authorization": "Basic c2VjcmV0", "Cookie": "secret=1"} if origin == "http://104.26.14.6" else {}


async def connected(vector):
    """Connect to the address that the vector names, through the connector alone; return how it ended."""
    try:
        url = normalise(raw(vector["url"]))
    except InvalidUrl as error:
        return type(error).__name__
    if not is_address(host_of(url)):
        return "a name"
    host, port = host_of(url), port_of(url)
    try:
        await Connector(EVERYWHERE, VectorResolver(vector)).connect(Route(host, port, False, (host, port), None))
    except HttpError as error:
        return type(error).__name__
    return "connected"


async def tried(vector, folder, packets, player):
    """Try one vector; return the row that the test judges."""
    player.begin(vector["setup"])
    names = VectorResolver(vector)
    ended = [await fetched(vector, folder, names) for _ in range(2 if vector["category"] == "dns-rebind" else 1)]
    contacted = packets.contacted()
    by_connector = await connected(vector)
    return {
        "id": vector["id"],
        "ended": ended,
        "contacted": contacted,
        "connector": by_connector,
        "contacted_by_connector": packets.contacted(),
        "leaked": [host for host, headers in player.asked[1:] if {"authorization", "cookie"} & headers.keys()],
    }


async def main(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        vectors = list(csv.DictReader(file))
    packets, player = Packets(), Player()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plain, tls = (stack.enter_context(Origin(player, address="::", port=port)) for port in (80, 443))
        assert plain
        os.environ["SSL_CERT_FILE"] = str(tls.ca_file)
        for vector in vectors:
            sys.stdout.write(json.dumps(await tried(vector, folder, packets, player)) + "\n")


if __name__ == "__main__":
    isolate(sys.argv[2])
    asyncio.run(main(sys.argv[1]))
