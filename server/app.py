"""The server: one port, its sessions, and an orderly end.

Every path of `Server.routes` is a websocket; a browser that asks for `/` gets the page
(`server/webpage.py`). `GET /healthz` tells whether the server works,
`/readyz` whether it takes new sessions, `/metrics` how it fares. Who is let in,
`server/admission.py` decides before the upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from websockets.asyncio.server import Server as WebsocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from asr.acoustic import BLOCK_OUTPUTS
from asr.errors import ProtocolError
from asr.features import FRAME_SAMPLES
from asr.resampling import SAMPLE_RATE
from asr.transcript import Final as FinalEvent
from server import metrics as figures
from server import turns, webpage
from server.admission import Access, Admission, client_address
from server.dialogue import Heard, Hello, ModelInfo, Protocol, Reply
from server.engine import Engine
from server.keys import SUBPROTOCOLS
from server.limits import Limits
from server.listener import BACKLOG, listen
from server.logs import tell
from server.metrics import Meter, Metrics
from server.probes import Probes, typed
from server.protocols import wyoming
from server.reception import Reception
from server.resume import keep_here
from server.routes import ROUTES
from server.session import Session
from server.tcp import READ_BYTES, TcpConnection
from server.visitor import Visitor

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

    from asr.recognizer import Recognizer

_log = logging.getLogger(__name__)

FRAME_MS: Final = FRAME_SAMPLES * 1000 // SAMPLE_RATE  # of audio, for an output of the network


class Server:
    """Serves a recogniser on one port of one event loop.

    Args:
        recognizer: what listens; used by the server alone until it is stopped. Without one the
            server says that it is not ready, until `begin`.
        limits: what clients may use.
        access: who may connect.
        metrics: where the server counts.
        tls: makes it `wss`.
        transcripts: whether what was said goes into the log.

    Attributes:
        admission: decides who is let in.
        resumption: begins and resumes sessions; in this process, unless replaced before the start.
        routes: which protocol is spoken on which path; likewise.
        wyoming_listener: where to speak Wyoming, if it is set before the start.
        reception: knows the connections.
        sessions: those whose handshake is done.
    """

    def __init__(
        self,
        recognizer: Recognizer | None = None,
        limits: Limits | None = None,
        access: Access | None = None,
        *,
        metrics: Metrics | None = None,
        tls: ssl.SSLContext | None = None,
        transcripts: bool = False,
    ) -> None:
        self._recognizer = recognizer
        self._limits = limits or Limits()
        self._metrics = metrics or Metrics()
        self._meter = Meter(self._metrics)
        self._tls = tls
        self._transcripts = transcripts
        self.resumption = keep_here(self._limits)
        self.routes = ROUTES
        self.wyoming_listener: socket.socket | None = None
        self.admission = Admission(self._limits, access or Access(), self._meter.queue_delay)
        self._probes = Probes(self.admission, self._metrics, self._meter, self._limits)
        self.reception = Reception(self.admission, self._metrics, self._limits)
        self.sessions: set[Session] = set()
        self._wyoming: asyncio.Server | None = None
        self._engine: Engine | None = None
        self._model: ModelInfo | None = None
        self._server: WebsocketServer | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address, with the port that was chosen if `port` is 0.

        Raises:
            Error: the address cannot be used.
        """
        return await self.start_on(listen(host, port))

    async def start_on(self, listener: socket.socket) -> tuple[str, int]:
        """Listen on a socket, which other processes may share; return its address."""
        limits = self._limits
        logger = logging.getLogger(f"{__name__}.websockets")
        logger.setLevel(logging.CRITICAL)  # it reports every broken handshake with a trace
        self._server = await serve(
            self._serve,
            sock=listener,
            create_connection=self._visitors(),
            process_request=self._answer_http,
            select_subprotocol=_select_subprotocol,
            max_size=limits.message_bytes,
            max_queue=2,  # messages that the session has not taken; its own queue is bounded
            compression=None,  # audio does not get smaller, and it costs 50 KiB a connection
            ping_interval=None,  # the session pings, but not while it leaves the socket unread
            close_timeout=limits.close_seconds,
            open_timeout=limits.handshake_seconds,
            server_header=None,
            logger=logger,
            ssl=self._tls,
            # One connection at a time, so that processes which share the socket share the work: an
            # idle one is first. The system's own queue is as long as before.
            backlog=1,
        )
        listener.listen(BACKLOG)
        if self.wyoming_listener is not None:
            host, port = await self.speak_wyoming(self.wyoming_listener)
            shown = f"[{host}]" if ":" in host else host
            tell(_log, f"listening on tcp://{shown}:{port} for Wyoming")
        await self.resumption.open()
        if self._recognizer is not None:
            self.begin(self._recognizer)
        address, port, *_ = listener.getsockname()
        return address, port

    async def speak_wyoming(self, listener: socket.socket) -> tuple[str, int]:
        """Speak the Wyoming protocol on a listening socket of its own; return its address.

        It knows no encryption, no key and no origin: whoever reaches the socket is let in.
        """
        self._wyoming = await asyncio.start_server(
            self._serve_wyoming, sock=listener, limit=READ_BYTES
        )
        address, port, *_ = listener.getsockname()
        return address, port

    def begin(self, recognizer: Recognizer) -> None:
        """The model is there: take sessions from now on."""
        self._recognizer = recognizer
        self._model = describe(recognizer)
        loop = asyncio.get_running_loop()
        post, now = loop.call_soon_threadsafe, loop.time
        self._engine = engine = Engine(
            recognizer,
            post,
            unread=self._limits.unread_messages,
            meter=self._meter,
            clock=now,
        )
        turns.wait_while(lambda: engine.occupied or engine.expects(now()))
        self._engine.start()
        self._probes.engine, self._probes.model = self._engine, self._model
        self.admission.loading = False
        self._metrics.hold(figures.READY, 1)

    async def drain(self) -> None:
        """Let nobody in any more, and wait until the sessions there are done, for a time.

        `/readyz` and whoever wants a session are told so meanwhile. Connections on which no session
        has begun are sent away with 1013.
        """
        self.admission.draining = True
        self._metrics.hold(figures.READY, 0)
        for session in list(self.sessions):
            session.dismiss()
        tell(_log, "draining", sessions=len(self.sessions), seconds=self._limits.drain_seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_seconds):
                await self.reception.until_empty()

    async def stop(self) -> None:
        """End all sessions, in order, and close the port.

        Every session gets the finals of all the audio that was accepted, then `done`, then close
        1001, however long it takes to recognise that. When nothing was recognised for
        `finish_seconds`, those that are still there are cut off.
        """
        if self._server is None:
            return
        self.admission.draining = True
        self._end_sessions()
        self.reception.turn_away()
        self._server.close(close_connections=False)
        if self._wyoming is not None:
            self._wyoming.close()
        if not await self._over():
            tell(_log, "not done in time; cut off", logging.WARNING, sessions=len(self.sessions))
            self.reception.cut_off()
            await self._server.wait_closed()
        await self.resumption.close()
        if self._engine is not None:
            await asyncio.to_thread(self._engine.stop)

    async def _over(self) -> bool:
        """Wait until all sessions are over; False when none gets on any more."""
        assert self._server is not None  # noqa: S101 - asked by `stop`
        # Sessions that are on no websocket, too.
        over = asyncio.gather(self._server.wait_closed(), self.reception.until_empty())
        while not over.done():
            rounds = self._engine.rounds if self._engine else 0
            await asyncio.wait([over], timeout=self._limits.finish_seconds)
            if not over.done() and (self._engine is None or self._engine.rounds == rounds):
                over.cancel()
                return False
        return True

    def _end_sessions(self) -> None:
        """End what the drain has left over: here sessions may be saved, to go on elsewhere."""
        for session in list(self.sessions):
            session.stop()

    # Connections

    def _visitors(self) -> type[Visitor]:
        """The class of our connections, since `serve` wants a class and not a function."""

        class Ours(Visitor):
            desk = self.reception

        return Ours

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Visitor)  # noqa: S101 - made by `_visitors`
        assert connection.protocol_spoken is not None  # noqa: S101 - let in with it
        await self._converse(connection, connection.protocol_spoken, _path(connection.request))

    async def _serve_wyoming(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a plain TCP connection, which brings no request, no key and no origin."""
        visitor = TcpConnection(reader, writer)
        address = client_address(str(visitor.remote_address[0]), (), ())
        self.reception.arrived(visitor)
        refusal = self.admission.stranger(address, asyncio.get_running_loop().time())
        try:
            if refusal is None:
                self.reception.let_in(visitor, address)
                assert self._model is not None  # noqa: S101 - nobody is let in before
                hello = Hello((), {}, self._model)
                await self._converse(visitor, wyoming.Wyoming(hello), "wyoming")
            else:
                self._metrics.rejected(refusal.reason)
                with contextlib.suppress(ConnectionClosed):
                    await visitor.send(wyoming.refusal(refusal.message, refusal.reason))
        finally:
            await visitor.close()
            self.reception.left(visitor)

    async def _converse(
        self, connection: Visitor | TcpConnection, protocol: Protocol, path: str
    ) -> None:
        """Hold a session on a connection that was let in."""
        assert self._engine is not None  # noqa: S101 - nobody is let in before
        assert self._recognizer is not None  # noqa: S101
        assert self._model is not None  # noqa: S101
        session = Session(
            connection,
            protocol,
            self._recognizer,
            self._model,
            self._engine,
            self._limits,
        )
        if isinstance(connection, Visitor):
            connection.hear = session.hear
        name = secrets.token_hex(4)
        session.sent = self._counting(name)
        session.resumption = self.resumption
        self.sessions.add(session)
        if self.admission.draining:  # it was let in just before
            session.dismiss()
        now = asyncio.get_running_loop().time
        began = now()
        tell(
            _log,
            "session opened",
            session=name,
            path=path,
            address=connection.address,
            key=connection.holder,
        )
        try:
            await session.run()
        finally:
            if isinstance(connection, Visitor):
                connection.hear = None
            self.sessions.discard(session)
            code = connection.close_code
            if code is None or code == 1006:
                self._metrics.failed("vanished")
            tell(_log, "session closed", session=name, code=code, seconds=now() - began)

    def _counting(self, name: str) -> Callable[[Reply, float], None]:
        """What a session calls with every reply that has left."""
        if not self._transcripts:
            return self._metrics.sent

        def sent(reply: Reply, now: float) -> None:
            self._metrics.sent(reply, now)
            if isinstance(reply, Heard) and isinstance(reply.event, FinalEvent):
                tell(_log, "final", session=name, text=reply.event.text)

        return sent

    # Requests

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no session; None lets the websocket handshake go on."""
        assert isinstance(connection, Visitor)  # noqa: S101 - made by `_visitors`
        self.reception.asked(connection)
        path = _path(request)
        answer = self._probes.answer(path, connection, request)
        if answer is None:
            answer = webpage.answer(path, request)
        if answer is not None:
            return answer
        if path not in self.routes:
            known = ", ".join(self.routes)
            return connection.respond(HTTPStatus.NOT_FOUND, f"not found; here is {known}\n")
        address = client_address(
            str((connection.remote_address or ("",))[0]),
            request.headers.get_all("X-Forwarded-For"),
            self.admission.access.proxies,
        )
        refusal = self.admission.refusal(request, address, asyncio.get_running_loop().time())
        if refusal is not None:
            return self._probes.refuse(connection, refusal)
        try:
            connection.protocol_spoken = self._speak(connection, request)
        except ProtocolError as error:
            content_type, body = self.routes[path].refusal(error)
            return typed(connection.respond(HTTPStatus.BAD_REQUEST, body), content_type)
        connection.holder = self.admission.holder(request)
        self.reception.let_in(connection, address)
        return None

    def _speak(self, connection: ServerConnection, request: Request) -> Protocol:
        """Begin the conversation that the path stands for.

        Raises:
            ProtocolError: the address or the headers ask for what cannot be had.
        """
        assert self._model is not None  # noqa: S101 - nobody is let in before
        path, _, query = request.path.partition("?")
        route = self.routes[path]
        if route.message_bytes is not None:
            connection.protocol.max_message_size = route.message_bytes
        fields = tuple(parse_qsl(query, keep_blank_values=True))
        return route.speak(Hello(fields, request.headers, self._model))


def _path(request: Request | None) -> str:
    return request.path.partition("?")[0] if request is not None else ""


def _select_subprotocol(
    connection: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """The name beside which clients for browsers bring their key: they wait to hear it back."""
    del connection
    return next((name for name in offered if name.lower() in SUBPROTOCOLS), None)


def describe(recognizer: Recognizer) -> ModelInfo:
    """What clients are told about the model."""
    return ModelInfo(
        recognizer.name,
        recognizer.bundle_id,
        BLOCK_OUTPUTS * FRAME_MS,
        recognizer.acoustic.look_ahead * FRAME_MS,
    )
