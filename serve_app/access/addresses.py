"""Which addresses this server may be sent to by somebody else's URL. PURE."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that lead to the IPv4 address in their last bits."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, however it is written, and not one inside a network."""
    found = ip_address(address.partition("%")[0])
    return found.is_global and not found.is_multicast and all(inner.is_global for inner in _inside(found))


def _inside(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that an IPv6 one stands for."""
    if isinstance(address, IPv4Address):
        return []
    translated = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    found = (address.ipv4_mapped, address.sixtofour, address.teredo and address.teredo[1], translated)
    return [inner for inner in found if inner is not None]
