"""A server's life in its process: the socket it listens on, and from loading to the last signal."""

from __future__ import annotations

import asyncio
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asr.errors import Error
from server.memory import give_back, settle, share_heap

if TYPE_CHECKING:
    from collections.abc import Callable

    from asr.recognizer import Recognizer
    from server.app import Server

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


@dataclass(frozen=True, slots=True)
class Events:
    """What happens around a server that runs.

    Attributes:
        ready: called when sessions are taken.
        renew: called on SIGHUP, to read keys and certificates again.
        lifeline: of a worker: a file that can be read when its supervisor is gone. It then drains.
            A worker drains however often it is told; ending it at once is up to the supervisor.
    """

    ready: Callable[[], None]
    renew: Callable[[], None]
    lifeline: int | None = None


async def run(
    server: Server, listener: socket.socket, load: Callable[[], Recognizer], events: Events
) -> None:
    """Serve until SIGINT or SIGTERM, then drain and stop; a second signal ends the process at once.

    Args:
        server: not started, without a recogniser.
        listener: what to listen on.
        load: loads the recogniser; called on another thread, while the server says `loading`.
        events: what to do when.

    Raises:
        Error: the model cannot be loaded.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()

    def end() -> None:
        signalled.set()
        if events.lifeline is not None:
            loop.remove_reader(events.lifeline)
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, events.renew)
    if events.lifeline is not None:
        loop.add_reader(events.lifeline, end)
    share_heap()
    await server.start_on(listener)
    giving = None
    try:
        server.begin(await asyncio.to_thread(load))
        settle()
        giving = asyncio.create_task(give_back(lambda: server.gone))
        events.ready()
        await signalled.wait()
        await server.drain()
    finally:
        if giving is not None:
            giving.cancel()
        await server.stop()
