"""The socket that a server listens on."""

from __future__ import annotations

import socket
from typing import Final

from asr.errors import Error

BACKLOG: Final = 1024  # connections that the system holds until we take them


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        host: a name or an address; `::` is all addresses, those of IPv4 too.
        port: 0 takes a free one.

    Raises:
        Error: the address cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Error(f"{host} port {port}: cannot listen there ({reason})") from error
