"""Hosts that tell a machine who it is, credentials included: nothing is ever read from them."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any, Final

#: Link-local addresses, and those of the metadata services that lie elsewhere (Alibaba Cloud,
#: Oracle, Azure's wire server; AWS and Google Cloud by IPv6).
_OWN: Final = tuple(
    ipaddress.ip_network(one)
    for one in (
        *("169.254.0.0/16", "fe80::/10"),
        *("100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32"),
        *("fd00:ec2::254/128", "fd20:ce::254/128"),
    )
)
_NAMES: Final = ("metadata", "metadata.google.internal", "metadata.goog", "instance-data")
_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")  # IPv4 in IPv6, RFC 6052


def is_own(host: str) -> bool:
    """Whether a host is one of the machine's own network, however its address is spelt.

    Examples:
        >>> is_own("169.254.169.254"), is_own("0xA9FEA9FE"), is_own("metadata."), is_own("10.0.0.1")
        (True, True, True, False)
    """
    host = host.strip("[]").rstrip(".").lower()
    if host in _NAMES:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    if isinstance(address, ipaddress.IPv6Address):
        translated = address in _TRANSLATED
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if translated else None
        address = address.ipv4_mapped or inner or address
    return any(address in network for network in _OWN)


async def client(**settings: Any) -> Any:
    """The aiohttp session of fsspec: it asks no such host, whatever a name or redirect leads to.

    The address is looked at when the connection is made, since a name may lead anywhere by then;
    the name before, since it may be a proxy that connects.
    """
    import aiohttp

    async def by_name(request: Any, handler: Any) -> Any:
        _require_other(request.url.host or "")
        return await handler(request)

    def connected(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        _require_other(str(address[0]))
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(socket_factory=connected)
    return aiohttp.ClientSession(connector=connector, middlewares=(by_name,), **settings)


def _require_other(host: str) -> None:
    if is_own(host):
        raise PermissionError(errno.EACCES, "an address of the machine's own network")
