"""Which addresses may be connected to: public ones, and those in networks that are explicitly allowed.

`pool.py` asks about the very address to which it is about to connect a socket. All is pure but `is_own_address`.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from rehost.http.errors import AddressRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# All of the IANA IPv4 Special-Purpose Address Registry: even what it calls globally reachable (AS112, relays, anycast
# protocol addresses) is no web server. Added are multicast and the address of a cloud's own platform.
_IPV4 = tuple(
    (IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/8", "this network, RFC 791"),
        ("10.0.0.0/8", "private use, RFC 1918"),
        ("100.64.0.0/10", "shared address space, RFC 6598"),
        ("127.0.0.0/8", "loopback, RFC 1122"),
        ("168.63.129.16/32", "the platform of a cloud"),
        ("169.254.0.0/16", "link local, RFC 3927"),
        ("172.16.0.0/12", "private use, RFC 1918"),
        ("192.0.0.0/24", "protocol assignments, RFC 6890"),
        ("192.0.2.0/24", "documentation, RFC 5737"),
        ("192.31.196.0/24", "AS112, RFC 7535"),
        ("192.52.193.0/24", "AMT, RFC 7450"),
        ("192.88.99.0/24", "6to4 relays, RFC 7526"),
        ("192.168.0.0/16", "private use, RFC 1918"),
        ("192.175.48.0/24", "AS112, RFC 7534"),
        ("198.18.0.0/15", "benchmarking, RFC 2544"),
        ("198.51.100.0/24", "documentation, RFC 5737"),
        ("203.0.113.0/24", "documentation, RFC 5737"),
        ("224.0.0.0/4", "multicast, RFC 5771"),
        ("240.0.0.0/4", "reserved, RFC 1112"),
    )
)

# The part of the IANA IPv6 Special-Purpose Address Registry that lies in global unicast.
_IPV6_GLOBAL = IPv6Network("2000::/3")
_IPV6 = tuple(
    (IPv6Network(network), name)
    for network, name in (
        ("2001::/23", "protocol assignments (Teredo, ORCHID, benchmarking), RFC 2928"),
        ("2001:db8::/32", "documentation, RFC 3849"),
        ("2002::/16", "6to4, RFC 3056"),
        ("2620:4f:8000::/48", "AS112, RFC 7534"),
        ("3fff::/20", "documentation, RFC 9637"),
    )
)

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: IPv6-only networks reach every IPv4 host through it
_NAT64_LENGTHS = (32, 40, 48, 56, 64, 96)  # of prefixes that a network chooses itself: RFC 6052, section 2.2
_IPV4_ONLY = frozenset({IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171")})  # RFC 7050, section 8.2
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214, section 6.1: bits 64 to 95 before an embedded IPv4 address
_TRIED_PER_FAMILY = 4  # addresses of one name, which may have thousands
_DISCARD = 9  # RFC 863; no packet is sent there


def is_own_address(address: str) -> bool:
    """Return whether an address is this machine's own, on whichever interface.

    The system is asked for the source of packets to it: only for its own addresses that is the address itself.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as unsent:
            unsent.connect((address, _DISCARD))
            return bool(unsent.getsockname()[0] == address)
    except OSError:  # no route leads there
        return False


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Refuses every address that is not public, or is the machine's own, and is not in an allowed network.

    Behind its own public address a machine often has services that it shows to nobody else.
    """

    allowed: tuple[Network, ...] = ()
    is_own: Callable[[str], bool] = is_own_address

    def refusal(self, address: str, nat64: Sequence[IPv6Network] = ()) -> str | None:
        """Return why this address, which may have a zone (`%eth0`), may not be connected to; None if it may.

        An address below one of the `nat64` prefixes is judged by the IPv4 address that it stands for.
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            return "no address"
        target = _target(parsed, nat64)
        if any(one in network for network in self.allowed for one in (parsed, target)):
            return None
        return _special(target) or ("this machine's own address" if self.is_own(str(target)) else None)

    def check(self, address: str, nat64: Sequence[IPv6Network] = ()) -> None:
        """Raise AddressRefused if this address may not be connected to."""
        why = self.refusal(address, nat64)
        if why is not None:
            raise AddressRefused(f"{address} ({why})")

    def permitted(self, addresses: Sequence[str], nat64: Sequence[IPv6Network] = ()) -> Sequence[str]:
        """Return the addresses of one name that may be connected to, the first four of each family.

        Raises:
            AddressRefused: there are none.
        """
        found: list[str] = []
        refusals: list[str] = []
        of_family = Counter[bool]()
        for address in addresses:
            if of_family[":" in address] == _TRIED_PER_FAMILY:
                continue
            why = self.refusal(address, nat64)
            if why is not None:
                refusals.append(f"{address} ({why})")
                continue
            of_family[":" in address] += 1
            found.append(address)
        if not found:
            raise AddressRefused(", ".join(refusals))
        return found


def one_per_family(addresses: Iterable[str]) -> Sequence[str]:
    """Return the first IPv4 and the first IPv6 address, in their order."""
    first: dict[bool, str] = {}
    for address in addresses:
        first.setdefault(":" in address, address)
    return [*first.values()]


def is_address(host: str) -> bool:
    """Return whether a host is an IP address rather than a name."""
    if ":" not in host and not host[-1:].isdigit():  # fast path: this is called for every request
        return False
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def nat64_prefixes(addresses: Iterable[str]) -> Sequence[IPv6Network]:
    """Return the prefixes under which a network's NAT64 shows the IPv4 addresses of `ipv4only.arpa` (RFC 7050)."""
    found = {
        IPv6Network((int(address), length), strict=False)
        for address in map(ip_address, addresses)
        for length in _NAT64_LENGTHS
        if isinstance(address, IPv6Address) and _embedded(address, length) in _IPV4_ONLY
    }
    return sorted(found)


def _embedded(address: IPv6Address, length: int) -> IPv4Address:
    """Return the IPv4 address behind a NAT64 prefix (RFC 6052, section 2.2); its bytes jump over byte 8."""
    octets, start = address.packed, length // 8
    return IPv4Address(octets[start:] if start > 8 else (octets[start:8] + octets[9:])[:4])  # noqa: PLR2004 - as drawn there


def _target(address: Address, nat64: Sequence[IPv6Network]) -> Address:
    """Return the IPv4 address at which a connection to an IPv6 address would end; any other address unchanged."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        for prefix in (_NAT64, *nat64):
            if address in prefix:
                return _embedded(address, prefix.prefixlen)
    return address


def _special(address: Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((name for network, name in _IPV4 if address in network), None)
    if address not in _IPV6_GLOBAL:
        return "not global unicast, RFC 4291"
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return "ISATAP, RFC 5214"
    return next((name for network, name in _IPV6 if address in network), None)
