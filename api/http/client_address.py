"""The client's address: the peer's, or the one that trusted proxies report."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")

# The prefix lengths of the largest private networks: 10.0.0.0/8 and fc00::/7.
_MIN_PREFIX = {4: 8, 6: 7}

# Some proxies append the port: 192.0.2.1:443, [2001:db8::1]:443.
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+")


@dataclass(frozen=True)
class Proxies:
    """The proxies whose `X-Forwarded-For` is trusted."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses comma separated addresses and CIDRs. Raises ValueError."""
        try:
            return cls(tuple(_network(part.strip()) for part in text.split(",") if part.strip()))
        except ValueError:
            raise ValueError(
                "must be comma separated addresses or CIDRs without host bits, such as 10.0.0.0/8,::1"
            ) from None

    @property
    def trusts_whole_internet(self) -> bool:
        """Whether a public network is trusted, so that clients could choose their own address."""
        return any(network.prefixlen < _MIN_PREFIX[network.version] for network in self.networks)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The peer's address, or the right-most in X-Forwarded-For that is not a trusted proxy's.

        Addresses further left may be forged. Empty if the peer has no address, as on a Unix socket.
        """
        address = _address(peer)
        if address is None:
            return ""
        for hop in reversed(forwarded_for.split(",")):
            if not self._trusts(address) or (before := _address(hop)) is None:
                break
            address = before
        return str(address)

    def trusts_peer(self, peer: str) -> bool:
        """Whether the peer is a trusted proxy."""
        address = _address(peer)
        return address is not None and self._trusts(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def _address(text: str) -> Address | None:
    text = text.strip()
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port[1] or with_port[2]
    try:
        # A zone (fe80::1%eth0) names an interface of one machine, and is not part of the address.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return IPv4Network((int(mapped or 0), network.prefixlen - 96))
    return network
