"""A program, not a test: tries addresses that must never be tried where packets can leave the machine.

Run by test_ssrf_vectors.py in a network namespace of its own, whose only interface is loopback and whose every address
is local. It refuses to run anywhere else. It fetches each vector, listens to every packet, and prints one JSON object a
line: the vector's id, how the fetch ended, and which addresses were contacted.
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
from rehost.errors import Permanent, VisitError
from rehost.fetch.fetcher import Client
from rehost.http.address_policy import AddressPolicy, is_address
from rehost.http.connect import Connector, Route
from rehost.http.dns import Detours
from rehost.http.proxy import Proxies
from rehost.http.url import host_of, normalise, port_of
from rehost.model import Reason, Request

if __name__ == "__main__":  # other packages install a module called tests, too: ours is the folder above
    spec = ModuleSpec("tests", None, is_package=True)
    spec.submodule_search_locations = [str(Path(__file__).parents[1])]
    sys.modules["tests"] = module_from_spec(spec)

from tests.origin import Origin

PUBLIC = "93.184.216.34"
"""What every name means that the vector says nothing else of."""

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
"""Names that mean something on the machine or in its network only."""

NOWHERE = {"foobar.x", "flabergasted.cx", "test"}
"""Names that have no address."""


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
    """Everything that is sent, to whom."""

    def __init__(self):
        every_protocol = 3
        self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every_protocol))
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._raw.setblocking(False)

    def contacted(self):
        """Return the addresses that were contacted first, by us, since the last call."""
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


class NameRegistry:
    """A resolver that says what the vector says; several answers come one after the other."""

    def __init__(self, vector):
        self._answers = _answers(vector)

    async def __call__(self, host):
        usual = [] if host in NOWHERE else [INSIDE.get(host, PUBLIC)]
        answers = self._answers.get(host) or [usual]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not answer:
            raise Permanent(Reason.UNRESOLVED, host)
        return answer


def _answers(vector):
    """Return host -> the answers that the vector's setup gives, in order."""
    setup = vector["setup"]
    try:
        own = host_of(normalise(raw(vector["url"])))
    except Permanent:
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
    """The public web, as the vector at hand says that it answers."""

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
        "lookup": names,
        "headers_for": _secrets,
    }
    async with Client(AddressPolicy(), **settings) as client:
        try:
            await client.fetch(Request(normalise(raw(vector["url"])), folder / "spool"))
        except VisitError as error:
            return str(error.reason)
        return "fetched"


def _secrets(origin):
    return {"Authorization": "Basic c2VjcmV0", "Cookie": "secret=1"} if origin == "http://104.26.14.6" else {}


async def by_dialling_alone(vector):
    """Connect with nothing between the dialler and the address that the vector names; return how it ended."""
    try:
        url = normalise(raw(vector["url"]))
    except Permanent as error:
        return str(error.reason)
    if not is_address(host_of(url)):
        return "a name"
    host, port = host_of(url), port_of(url)
    try:
        await Connector(AddressPolicy(), NameRegistry(vector), Detours(), Proxies()).dial(
            Route(host, port, False, (host, port), None)
        )
    except VisitError as error:
        return str(error.reason)
    return "connected"


async def tried(vector, folder, packets, player):
    """Return what came of one vector, as a row for the test to judge."""
    player.begin(vector["setup"])
    names = NameRegistry(vector)
    ended = [await fetched(vector, folder, names) for _ in range(2 if vector["category"] == "dns-rebind" else 1)]
    contacted = packets.contacted()
    dialled = await by_dialling_alone(vector)
    return {
        "id": vector["id"],
        "ended": ended,
        "contacted": contacted,
        "dialled": dialled,
        "contacted_by_dialling": packets.contacted(),
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
