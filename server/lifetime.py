"""A server's life in its process, from loading to the last signal."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.memory import give_back, settle, share_heap

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from asr.recognizer import Recognizer
    from server.app import Server


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
        giving = asyncio.create_task(give_back(lambda: server.reception.gone))
        events.ready()
        await signalled.wait()
        await server.drain()
    finally:
        if giving is not None:
            giving.cancel()
        await server.stop()
