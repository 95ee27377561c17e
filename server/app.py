"""The server: one port, its sessions, and an orderly end.

`GET /healthz` answers 200; every path of `ROUTES` is a websocket. Whoever is too many is refused
with HTTP 503 before the upgrade, a page of another origin with 403.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import ipaddress
import logging
import signal
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server as WebsocketServer
from websockets.asyncio.server import ServerConnection, serve

from asr.errors import Error, ProtocolError
from server.dialogue import Hello, ModelInfo, Protocol
from server.engine import Engine
from server.limits import Limits
from server.routes import ROUTES
from server.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.http11 import Request, Response

    from asr.recognizer import Recognizer

_log = logging.getLogger(__name__)

HEALTH: Final = "/healthz"


class Server:
    """Serves a recogniser on one port of one event loop.

    Args:
        recognizer: what listens; used by the server alone until it is stopped.
        limits: what clients may use.
        origins: web pages that may connect, as in `https://example.org`, beside those that come
            from the very host they connect to. Programs send no origin and are let in.

    Attributes:
        places: connections that were let in; at most `limits.sessions`.
        sessions: those whose handshake is done.
    """

    def __init__(
        self, recognizer: Recognizer, limits: Limits | None = None, origins: tuple[str, ...] = ()
    ) -> None:
        self._recognizer = recognizer
        self._limits = limits or Limits()
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._model = describe(recognizer)
        self.places: set[ServerConnection] = set()  # connections that were let in
        self._protocols: dict[ServerConnection, Protocol] = {}  # what is spoken on them
        self.sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._engine: Engine | None = None
        self._server: WebsocketServer | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address, with the port that was chosen if `port` is 0.

        Raises:
            Error: the address cannot be used.
        """
        limits = self._limits
        logger = logging.getLogger(f"{__name__}.websockets")
        logger.setLevel(logging.CRITICAL)  # it reports every broken handshake with a trace
        try:
            self._server = await serve(
                self._serve,
                host,
                port,
                process_request=self._answer_http,
                max_size=limits.message_bytes,
                max_queue=2,  # messages that the session has not taken; its own queue is bounded
                compression=None,  # audio does not get smaller, and it costs 50 KiB a connection
                ping_interval=None,  # the session pings, but not while it leaves the socket unread
                close_timeout=limits.close_seconds,
                open_timeout=limits.start_seconds,
                server_header=None,
                logger=logger,
            )
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Error(f"{host} port {port}: cannot listen there ({reason})") from error
        loop = asyncio.get_running_loop()
        self._engine = Engine(
            self._recognizer, loop.call_soon_threadsafe, unread=limits.unread_messages
        )
        self._engine.start()
        address, chosen, *_ = self._server.sockets[0].getsockname()
        return address, chosen

    async def stop(self) -> None:
        """Let nobody in, finish running sessions within `drain_seconds`, and close.

        Every session gets the finals of all the audio that was accepted, then `done`, then close
        1001.
        """
        if self._server is None or self._engine is None:
            return
        self._server.close(close_connections=False)
        for session in list(self.sessions):
            session.stop()
        try:
            async with asyncio.timeout(self._limits.drain_seconds):
                await self._server.wait_closed()
        except TimeoutError:
            _log.warning("%d sessions were not done in time; cut off", len(self.sessions))
            for connection in list(self.places):
                connection.transport.abort()
            await self._server.wait_closed()
        await asyncio.to_thread(self._engine.stop)

    async def _serve(self, connection: ServerConnection) -> None:
        assert self._engine is not None  # noqa: S101 - started with the server
        session = Session(
            connection,
            self._protocols[connection],
            self._recognizer,
            self._model,
            self._engine,
            self._limits,
        )
        self.sessions.add(session)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no session; None lets the websocket handshake go on."""
        path = urlsplit(request.path).path
        if path == HEALTH:
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if path not in ROUTES:
            known = ", ".join(ROUTES)
            return connection.respond(http.HTTPStatus.NOT_FOUND, f"not found; here is {known}\n")
        if not self._welcome(request):
            return connection.respond(
                http.HTTPStatus.FORBIDDEN,
                "pages of this origin may not connect; allow it with --allow-origin\n",
            )
        if len(self.places) >= self._limits.sessions:
            response = connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                f"all {self._limits.sessions} sessions are taken; "
                f"try again in {self._limits.retry_seconds} s\n",
            )
            response.headers["Retry-After"] = str(self._limits.retry_seconds)
            return response
        try:
            self._speak(connection, request)
        except ProtocolError as error:
            content_type, body = ROUTES[path].refusal(error)
            response = connection.respond(http.HTTPStatus.BAD_REQUEST, body)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = content_type
            return response
        self.places.add(connection)
        task = asyncio.create_task(self._free_when_closed(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    def _speak(self, connection: ServerConnection, request: Request) -> None:
        """Begin the conversation that the path stands for.

        Raises:
            ProtocolError: the address or the headers ask for what cannot be had.
        """
        address = urlsplit(request.path)
        route = ROUTES[address.path]
        query = tuple(parse_qsl(address.query, keep_blank_values=True))
        self._protocols[connection] = route.speak(Hello(query, request.headers, self._model))
        if route.message_bytes is not None:
            connection.protocol.max_message_size = route.message_bytes

    async def _free_when_closed(self, connection: ServerConnection) -> None:
        await connection.wait_closed()
        self._protocols.pop(connection, None)
        self.places.discard(connection)

    def _welcome(self, request: Request) -> bool:
        """Whether a browser's page, if it is one, may connect (against cross-site hijacking)."""
        origins = [origin.lower() for origin in request.headers.get_all("Origin")]
        hosts = [host.lower() for host in request.headers.get_all("Host")]
        return all(o in self._origins or urlsplit(o).netloc in hosts for o in origins)


def describe(recognizer: Recognizer) -> ModelInfo:
    """What clients are told about the model."""
    from asr.acoustic import BLOCK_OUTPUTS

    frame_ms = 40
    return ModelInfo(
        recognizer.name,
        recognizer.bundle_id,
        BLOCK_OUTPUTS * frame_ms,
        recognizer.acoustic.look_ahead * frame_ms,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


async def run(server: Server, host: str, port: int, listening: Callable[[str, int], None]) -> None:
    """Serve until SIGINT or SIGTERM, then stop in order; a second signal stops at once.

    Args:
        server: not started.
        host: address to listen on.
        port: TCP port, 0 for any free one.
        listening: called with the address once clients can connect.

    Raises:
        Error: the address cannot be used.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled.set)
    listening(*await server.start(host, port))
    await signalled.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
    await server.stop()
