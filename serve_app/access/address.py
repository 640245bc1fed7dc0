"""Which address a caller has, behind proxies too. PURE."""

import ipaddress
from collections.abc import Sequence

IPV6_PREFIX_BITS = 64
"""A single host commonly has this whole network for itself, so it is counted as one."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def caller_address(peer: str, forwarded: str | None, trusted: Sequence[Network]) -> str:
    """The address that counts are kept for.

    Args:
        peer: who holds the other end of the connection.
        forwarded: its X-Forwarded-For, to which each proxy adds at the right whom it speaks for.
        trusted: networks of proxies; what the first other one from the right has claimed is not believed.
    """
    address = _read(peer)
    if address is None:
        return peer
    for hop in reversed((forwarded or "").split(",")):
        if not any(address in network for network in trusted):
            break
        named = _read(hop.strip())
        if named is None:
            break
        address = named
    if address.version == 6:  # noqa: PLR2004
        return str(ipaddress.ip_network((address, IPV6_PREFIX_BITS), strict=False))
    return str(address)


def _read(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
