"""Which addresses may be connected to: public ones, and those in networks that are explicitly allowed. Pure.

`pool.py` asks about the very address to which it is about to connect a socket.
"""

from __future__ import annotations

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
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214, section 6.1: bits 64 to 95 before an embedded IPv4 address


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Refuses every address that is not public and not in an allowed network."""

    allowed: tuple[Network, ...] = ()

    def refusal(self, address: str) -> str | None:
        """Return why this address, which may have a zone (`%eth0`), may not be connected to; None if it may."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return "no address"
        target = _target(parsed)
        if any(one in network for network in self.allowed for one in (parsed, target)):
            return None
        return _special(target)

    def check(self, address: str) -> None:
        """Raise AddressRefused if this address may not be connected to."""
        why = self.refusal(address)
        if why is not None:
            raise AddressRefused(f"{address} ({why})")


def is_address(host: str) -> bool:
    """Return whether a host is an IP address rather than a name."""
    if ":" not in host and not host[-1:].isdigit():  # fast path: this is called for every request
        return False
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _target(address: Address) -> Address:
    """Return the IPv4 address at which a connection to an IPv6 address would end; any other address unchanged."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _special(address: Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((name for network, name in _IPV4 if address in network), None)
    if address not in _IPV6_GLOBAL:
        return "not global unicast, RFC 4291"
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return "ISATAP, RFC 5214"
    return next((name for network, name in _IPV6 if address in network), None)
