"""The client of the native protocol: audio in, events out, from a server instead of a model.

`asr.conversation` knows the messages and moves no bytes; `stream` puts it on websockets, one after
the other where connections are lost; `transcribe` is `stream` for programs that do not use asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING
from typing import Final as Constant
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
from websockets.uri import parse_uri

from asr.conversation import Conversation, PassingError
from asr.errors import ServerError
from asr.state import Options
from asr.transcript import Event, Final, Transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

PATH: Constant = "/v1/stream"
READ_AHEAD: Constant = 4  # chunks taken from an iterable before the server has taken them
AWAY: Constant = 480_000  # samples taken while there is no connection: 30 s at 16 kHz, 2 MB
KEY_VARIABLE: Constant = "ASR_KEY"
PING_SECONDS: Constant = 20.0
PONG_SECONDS: Constant = 60.0  # a busy server leaves the socket unread for a while
RETRY_SECONDS: Constant = 30.0  # for which a lost session is tried again without anything gained
FIRST_TRY_SECONDS: Constant = 0.2  # pause before the first try at most
LAST_TRY_SECONDS: Constant = 5.0  # and before later ones
BUSY_TRIES: Constant = 5  # at most, of a server that has no place and says when to come back
BUSY_SECONDS: Constant = 60  # beyond which it is not waited for
PASSING: Constant = frozenset({429, 502, 503, 504})  # what HTTP says of what may be over soon
PASSING_CLOSES: Constant = frozenset(
    {1001, 1005, 1011, 1012, 1013, 1014}
)  # and what websockets say

Samples = NDArray[np.float32]
_sleep = asyncio.sleep  # what tests replace


def transcribe(
    url: str,
    chunks: Iterable[Samples],
    sample_rate: int,
    options: Options | None = None,
    on_event: Callable[[Event], None] | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> tuple[Transcript, int]:
    """Have a server recognise audio, and wait for all of it.

    A connection that is lost is made anew, and the session gone on with: nothing is missing then,
    nothing comes twice. A server that has no place and says when to come back is asked again then,
    a few times.

    Args:
        url: of the server, such as `ws://127.0.0.1:8765`; the path may be left out.
        chunks: mono samples in order, float32 [n] each. Read on a thread of its own, so it may
            block.
        sample_rate: of the samples, 8,000 to 48,000.
        options: what is wanted of the recogniser.
        on_event: called with every event as it comes.
        notice: called with a line for people when a connection was lost, or has to be waited for.

    Returns:
        The finals, with times in samples of the input; and how many samples were no audio.

    Raises:
        ServerError: the server cannot be reached, refuses, fails or goes away.
        ProtocolError: the server does not speak the protocol.
        Error: whatever `chunks` raises, after the events of the audio before it.
    """

    async def collect() -> tuple[Transcript, int]:
        finals: list[Final] = []
        conversation = Conversation(sample_rate, options or Options())
        # Closed here, and not when somebody finds them: whatever `on_event` raises, such as when
        # nobody reads what it prints, all tasks have ended before it is raised further.
        async with (
            contextlib.aclosing(_from_thread(chunks)) as arriving,
            contextlib.aclosing(_events(url, arriving, conversation, notice)) as events,
        ):
            async for event in events:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, Final):
                    finals.append(event)
        transcribed = Transcript(tuple(finals), sample_rate, conversation.heard)
        return transcribed, conversation.repaired

    return asyncio.run(collect())


def stream(
    url: str,
    chunks: AsyncIterator[Samples],
    sample_rate: int,
    options: Options | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[Event, None]:
    """Have a server recognise audio while it comes.

    Args: as `transcribe` takes them; `chunks` is asynchronous, such as a microphone's.

    Yields:
        Events as they come, with times in samples of the input, until the last final. Where
        `chunks` raises, its error follows the events of the audio before it.

    Raises:
        ServerError: the server cannot be reached, refuses, fails or goes away.
        ProtocolError: the server does not speak the protocol.
    """
    return _events(url, chunks, Conversation(sample_rate, options or Options()), notice)


async def _events(
    url: str,
    chunks: AsyncIterator[Samples],
    conversation: Conversation,
    notice: Callable[[str], None],
) -> AsyncGenerator[Event, None]:
    """The events of a session, over as many connections as it takes."""
    changed = _Changed()
    feeder = asyncio.create_task(_feed(chunks, conversation, changed))
    patience = _Patience(conversation, notice)
    try:
        while conversation.done is None:
            try:
                async with (
                    _connected(url) as connection,
                    contextlib.aclosing(_heard(connection, conversation, changed)) as heard,
                ):
                    async for event in heard:
                        yield event
            except PassingError as error:
                await patience.wait(error)
        if not conversation.finished or conversation.done != conversation.heard:
            raise ServerError(
                f"{shown(url)}: the server stopped after {conversation.done} of "
                f"{conversation.heard} samples; the text up to there is complete"
            )
        await feeder
    finally:
        feeder.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await feeder


async def _heard(
    connection: ClientConnection, conversation: Conversation, changed: _Changed
) -> AsyncGenerator[Event, None]:
    """The events on one connection, up to the end of the session."""
    await connection.send(conversation.start())
    while not conversation.ready:
        conversation.receive(await connection.recv())
    changed.tell()
    sender = asyncio.create_task(_send(connection, conversation, changed))
    try:
        while conversation.done is None:
            event = conversation.receive(await connection.recv())
            if isinstance(event, Final):
                changed.tell()  # it is to be acknowledged
            if event is not None:
                yield event
    finally:
        conversation.ready = False
        changed.tell()
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await sender


async def _send(
    connection: ClientConnection, conversation: Conversation, changed: _Changed
) -> None:
    """Send whatever there is to send, and then whatever there will be."""
    while True:
        told = changed.count
        while (message := conversation.next_message()) is not None:
            await connection.send(message)
            changed.tell()
            told = changed.count
        await changed.after(told)


async def _feed(
    chunks: AsyncIterator[Samples], conversation: Conversation, changed: _Changed
) -> None:
    """Take in chunks as fast as they can be sent; without a connection, some ahead.

    If they break off with an error, the end is announced, and then it is raised.
    """
    while not conversation.ready:
        await changed.after(changed.count)
    try:
        async for samples in chunks:
            conversation.audio(samples)
            changed.tell()
            while _far_ahead(conversation):
                await changed.after(changed.count)
    finally:
        conversation.finish()
        changed.tell()


def _far_ahead(conversation: Conversation) -> bool:
    """Whether enough waits to be sent."""
    return conversation.heard - conversation.sent > (0 if conversation.ready else AWAY)


class _Changed:
    """Tells whoever waits that the conversation has gone on."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def tell(self) -> None:
        """It has gone on."""
        self.count += 1
        self._event.set()

    async def after(self, count: int) -> None:
        """Wait until it has gone on since `count`."""
        while self.count == count:
            self._event.clear()
            await self._event.wait()


class _Patience:
    """Decides whether and when it is tried again to begin a session, or to go on with a lost one.

    A server that has no place says when to come back, and is asked again then, a few times; a
    little later, drawn at random, so that those that were refused together do not come together.

    Tries to go on follow one another at growing distances, drawn at random, so that the clients of
    a server that died do not all come at once. They end when nothing has come of them for
    `RETRY_SECONDS`.
    """

    def __init__(self, conversation: Conversation, notice: Callable[[str], None]) -> None:
        self._conversation = conversation
        self._notice = notice
        self._refusals = 0
        self._tries = 0
        self._since = 0.0
        self._reached = (0, 0)

    async def wait(self, error: PassingError) -> None:
        """Wait before the next try.

        Raises:
            PassingError: the error itself, when there is to be none.
        """
        conversation = self._conversation
        if not conversation.resumable:
            await self._wait_for_place(error)
            return
        now = asyncio.get_running_loop().time()
        reached = conversation.saved, conversation.segments
        if not self._tries or reached != self._reached:
            self._tries, self._since, self._reached = 0, now, reached
            self._notice(f"{str(error).partition(';')[0]}; going on where it was")
        if now - self._since > RETRY_SECONDS:
            raise error
        longest = min(FIRST_TRY_SECONDS * 2**self._tries, LAST_TRY_SECONDS)
        self._tries += 1
        await _sleep(random.uniform(longest / 2, longest))  # noqa: S311 - no secret

    async def _wait_for_place(self, error: PassingError) -> None:
        """Wait as the server asked for it, if it refused to begin and is worth it."""
        self._refusals += 1
        seconds = error.retry_after
        if seconds is None or seconds > BUSY_SECONDS or self._conversation.sent:
            raise error
        if self._refusals == BUSY_TRIES:
            raise PassingError(f"{error} (refused {self._refusals} times)") from error
        self._notice(f"{str(error).partition(';')[0]}; trying again in {seconds} s")
        await _sleep(seconds * random.uniform(1.0, 1.2))  # noqa: S311 - no secret


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[ClientConnection]:
    """An open connection; all that can go wrong with it becomes a `ServerError` of one line."""
    place = shown(url)
    try:
        async with connect(
            _address(url),
            compression=None,  # audio does not get smaller
            additional_headers=credentials(),
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
        ) as connection:
            try:
                yield connection
            except ServerError:
                await connection.close()  # in order: that we want no more is no failure of ours
                raise
    except (InvalidURI, UnicodeError) as error:
        raise ServerError(
            f"{place}: no websocket address; write it as ws://HOST:PORT", reached=False
        ) from error
    except InvalidStatus as error:
        told = f"{place}: {_refusal(error)}"
        if error.response.status_code in PASSING:
            raise PassingError(told, _retry_after(error), reached=False) from error
        raise ServerError(told, reached=False) from error
    except (InvalidMessage, InvalidHandshake) as error:
        raise PassingError(
            f"{place}: what answers there is no recognition server", reached=False
        ) from error
    except ConnectionClosed as error:
        close = error.rcvd
        why = f"code {close.code} {close.reason}".strip() if close else "without a word"
        failure = PassingError if close is None or close.code in PASSING_CLOSES else ServerError
        raise failure(f"{place}: the server went away ({why}); try again") from error
    except TimeoutError as error:
        raise PassingError(
            f"{place}: no answer in time; is this the right address?", reached=False
        ) from error
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError)
        reason = "connection refused" if refused else error.strerror or str(error) or "cut off"
        wanted = "run, and with encryption" if url.lower().startswith("wss:") else "run"
        raise PassingError(
            f"{place}: cannot connect ({reason}); does the server {wanted}?", reached=False
        ) from error


def shown(url: str) -> str:
    """An address for messages and files: without its query and password, which may be secrets."""
    return re.sub(r"^(\w+://)?[^?#]*@", r"\1", re.split(r"[?#]", url, maxsplit=1)[0])


def credentials() -> dict[str, str]:
    """The API key of the environment, for servers that want one; so it is in no address or log."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    return {"Authorization": f"Bearer {key}"} if key else {}


def _address(url: str) -> str:
    """The address with its path."""
    try:
        parts = urlsplit(url)
        address = url if parts.path.strip("/") else parts._replace(path=PATH).geturl()
        parse_uri(address)  # which leaves a port that is no number to Python's own error
    except ValueError as error:
        raise InvalidURI(url, str(error)) from error
    return address


def _retry_after(error: InvalidStatus) -> int | None:
    """Seconds after which a server asks to be tried again; a date is as good as nothing."""
    told = error.response.headers.get("Retry-After", "").strip()
    return int(told) if told.isascii() and told.isdecimal() and len(told) < 10 else None


def _refusal(error: InvalidStatus) -> str:
    response = error.response
    lines = (response.body or b"").decode("utf-8", "replace").split("\n")
    said = lines[0].strip()[:200]
    if response.status_code == HTTPStatus.UNAUTHORIZED:  # what programs do about it helps nobody
        said = f"{said.partition(';')[0] or 'no valid API key'}; put one into {KEY_VARIABLE}"
    return f"the server refused with HTTP {response.status_code}" + (f": {said}" if said else "")


async def _from_thread(chunks: Iterable[Samples]) -> AsyncGenerator[Samples, None]:
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
