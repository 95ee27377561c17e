"""The client of the native protocol: audio in, events out, from a server instead of a model.

`Conversation` knows the messages and moves no bytes; `stream` puts it on a websocket; `transcribe`
is `stream` for programs that do not use asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)

from asr import transcript
from asr.audio import to_f32le
from asr.errors import ProtocolError, ServerError
from asr.state import Options
from asr.transcript import Event, Partial, Transcript, Word

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

PATH: Final = "/v1/stream"
PIECE: Final = 65_536  # samples in a message at most: 256 KiB
READ_AHEAD: Final = 4  # chunks taken from an iterable before the server has taken them
PING_SECONDS: Final = 20.0
PONG_SECONDS: Final = 60.0  # a busy server leaves the socket unread for a while

Samples = NDArray[np.float32]


class Conversation:
    """The client's side of one session, without I/O.

    Attributes:
        ready: whether the server has opened the stream.
        done: samples that the server has recognised in all, or None until it says so.
        repaired: how many of them were no audio, as it says with them.
        sent: samples given to `audio`.
        finished: whether `finish` was asked for.

    Args:
        sample_rate: of the samples, 8,000 to 48,000.
        options: what is wanted of the recogniser.
    """

    def __init__(self, sample_rate: int, options: Options) -> None:
        self.ready = False
        self.done: int | None = None
        self.repaired = 0
        self.sent = 0
        self.finished = False
        self._sample_rate = sample_rate
        self._options = options

    def start(self) -> str:
        """The first message to send."""
        return _write(
            {
                "type": "start",
                "version": 1,
                "format": {"encoding": "f32le", "sample_rate": self._sample_rate, "channels": 1},
                "options": {
                    "partials": self._options.partials,
                    "words": True,
                    "endpoint_ms": self._options.endpoint_ms,
                },
            }
        )

    def audio(self, samples: Samples) -> list[bytes]:
        """Messages that carry the samples, float32 [n], n ≥ 0; to send once the server is ready."""
        self.sent += len(samples)
        return [to_f32le(samples[i : i + PIECE]) for i in range(0, len(samples), PIECE)]

    def finish(self) -> str:
        """The last message to send."""
        self.finished = True
        return _write({"type": "finish"})

    def receive(self, message: str | bytes) -> Event | None:
        """Take in a message of the server; return the event that it carries, if it does.

        Raises:
            ServerError: the server says that something failed.
            ProtocolError: the message is none of the protocol's.
        """
        fields: dict[str, Any]
        try:
            fields = json.loads(message) if isinstance(message, str) else {}
            kind = fields["type"]
            if kind == "partial":
                return _partial(fields)
            if kind == "final":
                return _final(fields)
            if kind == "ready":
                self.ready = True
            elif kind == "done":
                self.done, self.repaired = _whole(fields, "position"), _whole(fields, "repaired")
            elif kind == "error":
                raise ServerError(f"server: {_text(fields, 'message')} ({_text(fields, 'code')})")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ProtocolError(
                f"the server sent a message that makes no sense ({error!r})"
            ) from error
        return None  # other types are from a newer server, and ask for nothing


def transcribe(
    url: str,
    chunks: Iterable[Samples],
    sample_rate: int,
    options: Options | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[Transcript, int]:
    """Have a server recognise audio, and wait for all of it.

    Args:
        url: of the server, such as `ws://127.0.0.1:8765`; the path may be left out.
        chunks: mono samples in order, float32 [n] each. Read on a thread of its own, so it may
            block.
        sample_rate: of the samples, 8,000 to 48,000.
        options: what is wanted of the recogniser.
        on_event: called with every event as it comes.

    Returns:
        The finals, with times in samples of the input; and how many samples were no audio.

    Raises:
        ServerError: the server cannot be reached, refuses, fails or goes away.
        ProtocolError: the server does not speak the protocol.
        Error: whatever `chunks` raises, after the events of the audio before it.
    """

    async def collect() -> tuple[Transcript, int]:
        finals: list[transcript.Final] = []
        conversation = Conversation(sample_rate, options or Options())
        async for event in _events(url, _from_thread(chunks), conversation):
            if on_event is not None:
                on_event(event)
            if isinstance(event, transcript.Final):
                finals.append(event)
        transcribed = Transcript(tuple(finals), sample_rate, conversation.sent)
        return transcribed, conversation.repaired

    return asyncio.run(collect())


def stream(
    url: str,
    chunks: AsyncIterator[Samples],
    sample_rate: int,
    options: Options | None = None,
) -> AsyncIterator[Event]:
    """Have a server recognise audio while it comes.

    Args: as `transcribe` takes them; `chunks` is asynchronous, such as a microphone's.

    Yields:
        Events as they come, with times in samples of the input, until the last final. Where
        `chunks` raises, its error follows the events of the audio before it.

    Raises:
        ServerError: the server cannot be reached, refuses, fails or goes away.
        ProtocolError: the server does not speak the protocol.
    """
    return _events(url, chunks, Conversation(sample_rate, options or Options()))


async def _events(
    url: str, chunks: AsyncIterator[Samples], conversation: Conversation
) -> AsyncIterator[Event]:
    async with _connected(url) as connection:
        await connection.send(conversation.start())
        while not conversation.ready:
            conversation.receive(await connection.recv())
        sender = asyncio.create_task(_send(connection, chunks, conversation))
        try:
            while conversation.done is None:
                event = conversation.receive(await connection.recv())
                if event is not None:
                    yield event
            if not conversation.finished or conversation.done != conversation.sent:
                raise ServerError(
                    f"{url}: the server stopped after {conversation.done} of {conversation.sent} "
                    "samples; the text up to there is complete"
                )
            await sender
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sender


async def _send(
    connection: ClientConnection, chunks: AsyncIterator[Samples], conversation: Conversation
) -> None:
    """Send all chunks; if they break off with an error, announce the end, then raise it."""
    failure: Exception | None = None
    try:
        try:
            async for samples in chunks:
                for message in conversation.audio(samples):
                    await connection.send(message)
        except ConnectionClosed:
            raise
        except Exception as error:  # noqa: BLE001 - raised again below
            failure = error
        await connection.send(conversation.finish())
    except ConnectionClosed:
        return  # the receiving side meets it too, and says so
    if failure is not None:
        raise failure


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[ClientConnection]:
    """An open connection; all that can go wrong with it becomes a `ServerError` of one line."""
    try:
        async with connect(
            _address(url),
            compression=None,  # audio does not get smaller
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
        ) as connection:
            yield connection
    except (InvalidURI, UnicodeError) as error:
        raise ServerError(f"{url}: no websocket address; write it as ws://HOST:PORT") from error
    except InvalidStatus as error:
        raise ServerError(f"{url}: {_refusal(error)}") from error
    except (InvalidMessage, InvalidHandshake) as error:
        raise ServerError(f"{url}: what answers there is no recognition server") from error
    except ConnectionClosed as error:
        close = error.rcvd
        why = f"code {close.code} {close.reason}".strip() if close else "without a word"
        raise ServerError(f"{url}: the server went away ({why}); try again") from error
    except TimeoutError as error:
        raise ServerError(f"{url}: no answer in time; is this the right address?") from error
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError)
        reason = "connection refused" if refused else error.strerror or str(error)
        raise ServerError(f"{url}: cannot connect ({reason}); does the server run?") from error


def _address(url: str) -> str:
    """The address with its path."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidURI(url, str(error)) from error
    return url if parts.path.strip("/") else parts._replace(path=PATH).geturl()


def _refusal(error: InvalidStatus) -> str:
    response = error.response
    lines = (response.body or b"").decode("utf-8", "replace").split("\n")
    said = lines[0].strip()[:200]
    return f"the server refused with HTTP {response.status_code}" + (f": {said}" if said else "")


async def _from_thread(chunks: Iterable[Samples]) -> AsyncIterator[Samples]:
    """The chunks of a blocking iterable, read on a thread; at most `READ_AHEAD` of them wait."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Samples | Exception | None] = asyncio.Queue()
    slots = threading.Semaphore(READ_AHEAD)
    left = threading.Event()

    def put(item: Samples | Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody listens
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def pump() -> None:
        try:
            for chunk in chunks:
                slots.acquire()
                if left.is_set():
                    return
                put(chunk)
            put(None)
        except Exception as error:  # noqa: BLE001 - raised again by the other thread
            put(error)

    # A daemon: it may block in its iterable (a microphone, standard input) when nobody listens any
    # more.
    threading.Thread(target=pump, name="chunks", daemon=True).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            slots.release()
            yield item
    finally:
        left.set()
        slots.release()


def _write(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


def _partial(fields: dict[str, Any]) -> Partial:
    return Partial(
        _whole(fields, "segment"),
        _text(fields, "stable"),
        _text(fields, "tentative"),
        _whole(fields, "position"),
    )


def _final(fields: dict[str, Any]) -> transcript.Final:
    words = tuple(
        Word(
            _text(word, "word"),
            _whole(word, "start"),
            _whole(word, "end"),
            float(word["confidence"]),
        )
        for word in fields["words"]
    )
    if not words:
        raise ValueError("a final without words")
    return transcript.Final(
        _whole(fields, "segment"), words, _text(fields, "reason"), _whole(fields, "position")
    )


def _whole(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r:.40}")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r:.40}")
    return value
