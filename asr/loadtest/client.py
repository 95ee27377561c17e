"""One load client: a session in the native protocol that speaks as a person does, and is watched.

A thousand of them must fit on one core without being late themselves, or it is they who are
measured. So a client is no task but a protocol of asyncio on the websockets package's own core:
a timer for each chunk, a callback for what comes.

Latency counts from when a chunk was *due*: when its last sample would have been spoken. Waiting in
the client's own socket, because the server does not read, is part of it.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.uri import WebSocketURI, parse_uri

from asr.client import KEY_VARIABLE, PATH, credentials, shown
from asr.errors import ServerError

if TYPE_CHECKING:
    import ssl

    from asr.loadtest.recordings import Recording

ANSWER_SECONDS: Final = 10.0  # for connection and `ready`
FINISH_SECONDS: Final = 60.0  # from `finish` to `done`

# A word as it is compared: text, first sample, last sample + 1, confidence.
Heard = tuple[str, int, int, float]


@dataclass(slots=True, eq=False)
class Session:
    """What one session was like. Moments are seconds on the event loop's clock.

    Attributes:
        recording: what was said.
        ready: when it could begin to speak, or None if it never could.
        done: when it had heard everything, or None if it never did.
        words: of all finals.
        partials: moment and latency of every partial: from when the chunk was due that carries the
            last sample it rests on, in seconds.
        finish: from when `finish` was due to the last final after it, or to `done` where none came.
        served: the server's own `latency_ms` of every partial.
        late: moment of every chunk, and how much later than due its timer rang.
        sent: messages.
        received: messages.
        slow_downs: how often the server asked for patience.
        error: why it failed, in few words that are the same for all that fail alike.
    """

    recording: Recording
    ready: float | None = None
    done: float | None = None
    words: list[Heard] = field(default_factory=list)
    partials: list[tuple[float, float]] = field(default_factory=list)
    finish: tuple[float, float] | None = None
    served: list[float] = field(default_factory=list)
    late: list[tuple[float, float]] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    slow_downs: int = 0
    error: str | None = None


def address_of(url: str) -> WebSocketURI:
    """The parts of a websocket address; the path may be left out.

    Raises:
        ServerError: it is none.
    """
    try:
        parts = urlsplit(url)
        return parse_uri(url if parts.path.strip("/") else parts._replace(path=PATH).geturl())
    except (InvalidURI, ValueError) as error:
        raise ServerError(
            f"{shown(url)}: no websocket address; write it as ws://HOST:PORT"
        ) from error


async def speak(
    address: WebSocketURI,
    recording: Recording,
    *,
    phase: float | None = 0.0,
    tls: ssl.SSLContext | None = None,
) -> Session:
    """Hold one session, from connecting to the last word. What fails is told in the result.

    Args:
        address: of the server.
        recording: what to say.
        phase: seconds to wait after `ready` before beginning to speak in real time, so that clients
            do not speak in step; None sends everything at once.
        tls: for `wss`.
    """
    loop = asyncio.get_running_loop()
    client = Client(address, recording, phase)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await loop.create_connection(lambda: client, address.host, address.port, ssl=tls)
    except (OSError, TimeoutError) as error:
        client.session.error = f"cannot connect ({_reason(error)})"
        return client.session
    try:
        await client.over
        if client.session.error is None:  # the server closes; until then it counts us
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.closed
    except TimeoutError:
        client.session.error = "no close in time"
    finally:
        client.leave()
    return client.session


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or type(error).__name__


class Client(asyncio.Protocol):
    """The session of a connection.

    Attributes:
        session: what it was like so far.
        over: comes true when there is nothing more to come.
        closed: comes true when the connection is gone.
    """

    def __init__(self, address: WebSocketURI, recording: Recording, phase: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._websocket = ClientProtocol(address, max_size=None)
        self._recording = recording
        self._phase = phase
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begin = math.inf  # when the speech begins
        self._next = 0  # the chunk to send next
        self._paused = False  # the system takes no more for the moment
        self._finished = math.inf  # when `finish` was due
        self._text = b""  # of a message of which more is to come
        self.session = Session(recording)
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP connection
        self._transport = transport
        request = self._websocket.connect()
        request.headers.update(credentials())
        self._websocket.send_request(request)
        self._flush()
        self._wait(ANSWER_SECONDS, "no ready in time")

    def data_received(self, data: bytes) -> None:
        """Take in what the server says."""
        self._websocket.receive_data(data)
        self._take()

    def eof_received(self) -> None:
        """The server says nothing more."""
        self._websocket.receive_eof()
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        del exc
        self._fail(f"closed with {self._websocket.close_code or 1006}")
        self._cancel_timer()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """The server does not read: what is due waits."""
        self._paused = True

    def resume_writing(self) -> None:
        """It reads again: what has become due meanwhile is sent at once."""
        self._paused = False
        if self.session.ready is not None and self._finished == math.inf:
            self._send_due()

    # Listening

    def _take(self) -> None:
        now = self._loop.time()
        for event in self._websocket.events_received():
            if not isinstance(event, Frame):
                self._upgraded()
            elif event.opcode in {Opcode.TEXT, Opcode.CONT}:
                self._text += event.data
                if event.fin:
                    text, self._text = self._text, b""
                    self._hear(text, now)
        if self._transport is not None and not self._transport.is_closing():
            self._flush()

    def _upgraded(self) -> None:
        """The handshake has been answered."""
        error = self._websocket.handshake_exc
        if error is not None:
            why = "no websocket there"
            if isinstance(error, InvalidStatus):
                status = error.response.status_code
                hint = f" (no valid key in {KEY_VARIABLE})" if status == 401 else ""
                why = f"HTTP {status}{hint}"
            self._fail(why)
            return
        audio_format = {
            "encoding": "s16le",
            "sample_rate": self._recording.sample_rate,
            "channels": 1,
        }
        self._tell({"type": "start", "version": 1, "format": audio_format})

    def _hear(self, text: bytes, now: float) -> None:
        self.session.received += 1
        try:
            message = json.loads(text)
            self._understand(message, now)
        except (KeyError, TypeError, ValueError) as error:
            self._fail(f"a message that makes no sense ({type(error).__name__})")

    def _understand(self, message: dict[str, Any], now: float) -> None:
        session = self.session
        match message["type"]:
            case "partial":
                chunk = self._recording.chunk_of(message["position"])
                session.partials.append((now, now - self._due(chunk)))
                session.served.append(message["latency_ms"])
            case "final":
                words = message["words"]
                session.words += [(w["word"], w["start"], w["end"], w["confidence"]) for w in words]
                self._note_finish(now)
            case "ready":
                session.ready = now
                self._speak(now)
            case "slow_down":
                session.slow_downs += 1
            case "done":
                self._note_done(message["position"], now)
            case "error":
                self._fail(f"error {message['code']}")

    def _note_finish(self, now: float) -> None:
        if self._finished < math.inf:
            self.session.finish = now, now - self._finished

    def _note_done(self, position: int, now: float) -> None:
        if position != self._recording.samples or self._finished == math.inf:
            self._fail("done before all was heard")
            return
        if self.session.finish is None:
            self._note_finish(now)
        self.session.done = now
        self._end()

    # Speaking

    def _due(self, chunk: int) -> float:
        """When a chunk is due; everything is, where the pace is nobody's."""
        return self._begin + (self._recording.due(chunk) if self._phase is not None else 0.0)

    def _speak(self, now: float) -> None:
        self._begin = now + (self._phase or 0.0)
        self._set_timer()

    def _set_timer(self) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_at(self._due(self._next), self._ring)

    def _ring(self) -> None:
        """A chunk is due."""
        now = self._loop.time()
        if self._phase is not None and not self._paused:
            self.session.late.append((now, now - self._due(self._next)))
        self._send_due()

    def _send_due(self) -> None:
        """Send whatever is due by now, as far as the system takes it; then wait for what comes."""
        if self.over.done():
            return
        now, last = self._loop.time(), len(self._recording.chunks)
        while self._next < last and self._due(self._next) <= now and not self._paused:
            self._websocket.send_binary(self._recording.chunks[self._next])
            self.session.sent += 1
            self._next += 1
            self._flush()
        if self._next == last:
            self._finished = self._due(last - 1)
            self._tell({"type": "finish"})
            self._wait(FINISH_SECONDS, "no done in time")
        elif not self._paused:
            self._set_timer()

    def _tell(self, fields: dict[str, Any]) -> None:
        self._websocket.send_text(json.dumps(fields, separators=(",", ":")).encode())
        self.session.sent += 1
        self._flush()

    def _flush(self) -> None:
        assert self._transport is not None  # noqa: S101 - there is something to send on
        for data in self._websocket.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():  # an empty piece: we have said everything
                self._transport.write_eof()

    # Ending

    def _wait(self, seconds: float, why: str) -> None:
        """Fail if nothing happens for so long; another timer takes the place of this one."""
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, self._fail, why)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fail(self, why: str) -> None:
        if self.over.done():
            return
        self.session.error = why
        self._end()

    def _end(self) -> None:
        self._cancel_timer()
        if not self.over.done():
            self.over.set_result(None)

    def leave(self) -> None:
        """Nobody waits for this session any more: drop the connection if it still stands."""
        self._cancel_timer()
        if self._transport is not None:
            self._transport.abort()
