"""The client: what a server says becomes events, and whatever goes wrong becomes one clear line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from asr import client
from asr.client import READ_AHEAD, stream, transcribe
from asr.conversation import Conversation
from asr.errors import AudioError, Error, ProtocolError, ServerError
from asr.state import Options
from asr.transcript import Event, Final, Partial, Transcript
from server.limits import Limits
from tests.server.sockets import in_a_loop, serving, until
from tests.server.tones import RATE, alone, recognizer, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from asr.resampling import Samples

SONG = "ab c"
READY = '{"type":"ready","version":1,"position":0,"unsupported":[]}'

RESUMABLE = '{"type":"ready","position":0,"token":"T","resumable":true}'


def chunks(song: str = SONG, rate: int = RATE) -> Iterator[Samples]:
    """A song in pieces of 100 ms."""
    samples = sing(song, rate)
    for first in range(0, len(samples), rate // 10):
        yield samples[first : first + rate // 10]


async def ask(url: str, *args: Any, **options: Any) -> Transcript:
    """The transcript of `transcribe`, which blocks, beside a server on this loop."""
    asked = args or (chunks(), RATE)
    return (await asyncio.to_thread(transcribe, url, *asked, **options))[0]


async def refused(url: str, *args: Any) -> Error:
    """The error that `transcribe` ends with."""
    with pytest.raises(Error) as caught:
        await ask(url, *args)
    assert "\n" not in str(caught.value)
    return caught.value


@in_a_loop
async def test_a_server_transcribes_as_the_recogniser_at_hand_does() -> None:
    """`asr transcribe` gives the same with `--url` and without: words, times, cuts, confidences."""
    heard: list[Event] = []
    async with serving() as service:
        transcript = await ask(service.url, on_event=heard.append)
    assert transcript.words == recognizer().transcribe(sing(SONG)).words
    assert [(f.segment, f.reason, f.position) for f in transcript.segments] == [
        (f.segment, f.reason, f.position) for f in alone(sing(SONG))
    ]
    assert (transcript.sample_rate, transcript.duration) == (RATE, len(sing(SONG)))
    assert tuple(e for e in heard if isinstance(e, Final)) == transcript.segments


@in_a_loop
async def test_options_reach_the_server() -> None:
    """Endpoint delay and partials are the caller's to choose."""
    heard: list[Event] = []
    options = Options(endpoint_ms=5000, partials=False)
    async with serving() as service:
        transcript = await ask(service.url, chunks(), RATE, options, heard.append)
    assert len(transcript.segments) == 1
    assert tuple(heard) == transcript.segments


@in_a_loop
async def test_times_count_the_samples_that_were_sent() -> None:
    """Whatever the rate."""
    async with serving() as service:
        transcript = await ask(service.url, chunks(SONG, 48000), 48000)
    assert transcript.text == "a b c"
    assert transcript.duration == len(sing(SONG, 48000))
    assert transcript.words[-1].start == pytest.approx(3 * alone(sing(SONG))[-1].start, abs=5760)


@in_a_loop
async def test_samples_that_are_no_audio_are_counted_by_the_server() -> None:
    """The user learns that the recorder is broken, with `--url` as without."""
    broken = sing(SONG)
    broken[[10, 20, 30]] = np.nan, np.inf, 1e20
    async with serving() as service:
        _, repaired = await asyncio.to_thread(transcribe, service.url, [broken], RATE)
    assert repaired == 3


@in_a_loop
async def test_a_long_chunk_is_sent_in_messages_that_the_server_takes() -> None:
    """A whole recording may be one chunk."""
    song = "abcd " * 12
    async with serving() as service:
        transcript = await ask(service.url, [sing(song)], RATE)
    assert transcript.words == recognizer().transcribe(sing(song)).words
    assert len(sing(song)) * 4 > Limits().message_bytes


@in_a_loop
async def test_the_path_may_be_left_out_of_the_address() -> None:
    """`ws://host:port` is enough."""
    async with serving() as service:
        assert (await ask(f"ws://127.0.0.1:{service.port}")).text == "a b c"
        assert (await ask(f"ws://127.0.0.1:{service.port}/")).text == "a b c"


@in_a_loop
async def test_no_audio_gives_an_empty_transcript() -> None:
    """Silence is no error."""
    async with serving() as service:
        assert await ask(service.url, [], RATE) == Transcript((), RATE, 0)


@in_a_loop
async def test_audio_that_breaks_off_gives_its_words_and_then_its_error() -> None:
    """A microphone that disappears: the text so far, then what happened."""

    def broken() -> Iterator[Samples]:
        yield sing("ab")
        raise AudioError("the device is gone")

    heard: list[Event] = []
    async with serving() as service:
        with pytest.raises(AudioError, match="the device is gone"):
            await ask(service.url, broken(), RATE, None, heard.append)
    assert [e for e in heard if isinstance(e, Final)] == [*alone(sing("ab"))]


@in_a_loop
async def test_events_come_while_the_audio_goes_on() -> None:
    """The asynchronous form: the next chunk is only spoken once the last one was understood."""
    events: list[Event] = []

    async def speaker() -> AsyncIterator[Samples]:
        yield sing("a")
        await until(lambda: any(isinstance(e, Partial) for e in events))
        yield sing(" ")
        await until(lambda: any(isinstance(e, Final) for e in events))
        yield sing("b")

    async with serving() as service:
        async for event in stream(service.url, speaker(), RATE):
            events.append(event)  # noqa: PERF401 - the speaker looks at them meanwhile
    assert [e.text for e in events if isinstance(e, Final)] == ["a", "b"]


@in_a_loop
async def test_whoever_stops_listening_closes_the_session() -> None:
    """Leaving the loop early frees the place on the server."""

    async def speaker() -> AsyncIterator[Samples]:
        yield sing("ab")
        await asyncio.Event().wait()

    async with serving() as service:
        events = stream(service.url, speaker(), RATE)
        async with contextlib.aclosing(events):
            await anext(events)
        await until(lambda: not service.server.sessions)


@in_a_loop
async def test_chunks_are_not_read_far_ahead() -> None:
    """Hours of audio from a pipe never lie in memory."""
    taken = 0

    def counted() -> Iterator[Samples]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield np.zeros(1, np.float32)

    ahead = client._from_thread(counted())  # noqa: SLF001 - its bound is what matters
    await anext(ahead)
    await until(lambda: taken == READ_AHEAD + 2)
    for _ in range(3):
        await anext(ahead)
    await until(lambda: taken == READ_AHEAD + 5)
    await ahead.aclose()
    await until(lambda: not any(t.name == "chunks" for t in threading.enumerate()))


@in_a_loop
async def test_nobody_there_gives_one_line() -> None:
    """It names the address and asks the right question."""
    async with serving() as service:
        url = service.url
    error = await refused(url)
    assert isinstance(error, ServerError)
    assert not error.reached
    assert str(error) == f"{url}: cannot connect (connection refused); does the server run?"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "127.0.0.1:8765",
        "ws://",
        "",
        "ws://[::1",
        "ws://127.0.0.1:port",
        "ws://" + "x" * 70,
    ],
)
@in_a_loop
async def test_an_address_that_is_none_gives_one_line(url: str) -> None:
    """And says how to write one."""
    assert "ws://HOST:PORT" in str(await refused(url))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ws://127.0.0.1:1?key=SECRET", "ws://127.0.0.1:1"),
        ("ws://shop:SECRET@127.0.0.1:1/v1/stream?a=b@c", "ws://127.0.0.1:1/v1/stream"),
        ("shop:SECRET@127.0.0.1#SECRET", "127.0.0.1"),
        ("ws://shop:SE/C@RET@127.0.0.1:1", "ws://127.0.0.1:1"),
    ],
)
@in_a_loop
async def test_a_key_in_the_address_is_in_no_message(url: str, told: str) -> None:
    """Messages end up in logs and tickets."""
    assert str(await refused(url)).startswith(f"{told}: ")


@in_a_loop
async def test_a_full_server_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """And serves as ever when there is a place; the user is told why nothing happens."""
    waited: list[float] = []
    notices: list[str] = []

    async def wait(seconds: float) -> None:
        """Time passes, and in the end the other session is over."""
        waited.append(seconds)
        if len(waited) == 3:
            await other.aclose()
            await until(lambda: not service.server.reception.places)

    monkeypatch.setattr(client, "_sleep", wait)
    full = Limits(sessions=1)
    async with serving(limits=full) as service, contextlib.AsyncExitStack() as other:
        await other.enter_async_context(service.session())
        said = await on_this_loop(service.url, notices)
    assert [final.text for final in said] == [final.text for final in alone(sing(SONG))]
    assert all(5 <= seconds <= 6 for seconds in waited)
    refused = f"{service.url}: the server refused with HTTP 503: all 1 sessions are taken"
    assert notices == [f"{refused}; trying again in 5 s"] * 3


async def on_this_loop(url: str, notices: list[str]) -> list[Final]:
    """What a server hears, by a client that shares its loop."""

    async def audio() -> AsyncIterator[Samples]:
        for chunk in chunks():
            yield chunk

    events = stream(url, audio(), RATE, None, notices.append)
    return [event async for event in events if isinstance(event, Final)]


@in_a_loop
async def test_a_server_that_stays_full_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tries, with what the server said."""
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(client, "_sleep", wait)
    async with serving(limits=Limits(sessions=1)) as service, service.session():
        with pytest.raises(ServerError) as caught:
            await on_this_loop(service.url, [])
    assert len(waited) == 4
    assert caught.value.reached  # the next session may find a place
    assert str(caught.value) == (
        f"{service.url}: the server refused with HTTP 503: all 1 sessions are taken; "
        "try again in 5 s (refused 5 times)"
    )


@pytest.mark.parametrize("retry_after", ["", "Retry-After: 61\r\n", "Retry-After: soon\r\n"])
@in_a_loop
async def test_a_refusal_that_does_not_say_when_is_not_waited_for(retry_after: str) -> None:
    """Nor one that says a time too far away."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 503 No\r\n{retry_after}Content-Length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServerError, match=r"refused with HTTP 503$") as caught:
            await on_this_loop(f"ws://127.0.0.1:{port}", [])
    assert not caught.value.reached


@in_a_loop
async def test_the_wrong_path_gives_one_line() -> None:
    """With the right one in it."""
    async with serving() as service:
        error = await refused(f"ws://127.0.0.1:{service.port}/v2")
    assert "HTTP 404: not found; here is /v1/stream" in str(error)


@in_a_loop
async def test_what_the_server_refuses_is_told() -> None:
    """A rate that it does not take, in its own words, with the code."""
    async with serving() as service:
        error = await refused(service.url, [], 4000)
    assert isinstance(error, ServerError)
    assert error.reached
    assert "sample_rate 4000 is not supported" in str(error)
    assert str(error).endswith("(bad_format)")


@in_a_loop
async def test_a_server_that_stops_says_how_far_it_came() -> None:
    """The events of all accepted audio have come; the error says that there should be more."""
    heard: list[Event] = []
    going_on = threading.Event()

    def endless() -> Iterator[Samples]:
        yield sing("ab ")
        going_on.wait(30)

    async with serving() as service:
        asking = asyncio.create_task(ask(service.url, endless(), RATE, None, heard.append))
        await until(lambda: any(isinstance(event, Final) for event in heard))
        await service.server.stop()
        with pytest.raises(ServerError, match=r"stopped after \d+ of \d+ samples"):
            await asking
        going_on.set()
    assert [e.text for e in heard if isinstance(e, Final)] == ["a b"]


@contextlib.asynccontextmanager
async def impostor(behave: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    """A websocket server that is none of ours."""
    async with serve(behave, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@in_a_loop
async def test_a_server_that_vanishes_gives_one_line() -> None:
    """Cut off in mid-stream, without a word."""

    async def vanish(connection: ServerConnection) -> None:
        await connection.send(READY)
        await connection.recv()
        connection.transport.abort()

    async with impostor(vanish) as url:
        assert "the server went away (without a word)" in str(await refused(url))


@pytest.mark.parametrize(
    "said",
    [
        "hello",
        b"\0\1",
        "[]",
        "{}",
        '{"type":"final","segment":0}',
        '{"type":"final","segment":0,"words":[],"reason":"finish","position":1}',
        '{"type":"partial","segment":-1,"stable":"","tentative":"","position":0}',
        '{"type":"done","position":"all"}',
    ],
)
@in_a_loop
async def test_a_server_that_talks_nonsense_gives_one_line(said: str | bytes) -> None:
    """Something else listens there."""

    async def talk(connection: ServerConnection) -> None:
        await connection.send(READY)
        await connection.send(said)
        await connection.wait_closed()

    async with impostor(talk) as url:
        assert isinstance(await refused(url), ProtocolError)


@in_a_loop
async def test_who_wants_what_the_server_lacks_leaves_in_order() -> None:
    """1011 would stand in its log as our failure."""
    left = []

    async def lack(connection: ServerConnection) -> None:
        await connection.send(READY.replace("[]", '["options.phrases[0]"]'))
        await connection.wait_closed()
        left.append(connection.close_code)

    async with impostor(lack) as url:
        assert "'xylo'" in str(await refused(url, chunks(), RATE, Options(phrases=("xylo",))))
    assert left == [1000]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\nhi", b"SSH-2.0-x\r\n", b""])
@in_a_loop
async def test_what_is_no_websocket_server_gives_one_line(answer: bytes) -> None:
    """A web page, another protocol, a port that hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert isinstance(await refused(f"ws://127.0.0.1:{port}"), ServerError)


@in_a_loop
async def test_encryption_where_there_is_none_gives_one_line() -> None:
    """`wss://` against a plain port."""
    async with serving() as service:
        url = f"wss://127.0.0.1:{service.port}"
        told = str(await refused(url))
    assert told.startswith(f"{url}: cannot connect (")
    assert "()" not in told
    assert told.endswith("; does the server run, and with encryption?")


class Wire:
    """A wire between client and server that breaks after so many bytes, again and again.

    Attributes:
        breaks: bytes from the client after which each connection breaks in turn; the last one
            holds.
        calls: connections so far.
    """

    def __init__(self, port: int, breaks: list[int]) -> None:
        self.breaks = list(breaks)
        self.calls = 0
        self._port = port
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        self.calls += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        left = self.breaks.pop(0) if self.breaks else 10**9
        answers = asyncio.create_task(self._carry(there, writer, 10**9))
        await self._carry(reader, back, left)
        writer.transport.abort()
        back.transport.abort()
        await answers

    async def _carry(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, left: int
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while left > 0 and (data := await source.read(min(left, 4096))):
                left -= len(data)
                to.write(data)
                await to.drain()
        to.close()


@contextlib.asynccontextmanager
async def wired(port: int, breaks: list[int]) -> AsyncIterator[tuple[Wire, str]]:
    """A wire, and its near end's address."""
    wire = Wire(port, breaks)
    server = await asyncio.start_server(wire.connect, "127.0.0.1", 0)
    async with server:
        yield wire, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@settings(max_examples=10)
@given(st.text("abcd ", min_size=1, max_size=7), st.lists(st.integers(2000, 60_000), max_size=3))
def test_a_wire_that_breaks_changes_no_word(song: str, breaks: list[int]) -> None:
    """The client comes back by itself: the transcript is that of an unbroken wire."""

    @in_a_loop
    async def run() -> None:
        notices: list[str] = []
        async with serving() as service, wired(service.port, breaks) as (wire, url):
            said = await ask(url, chunks(song), RATE, None, None, notices.append)
        assert said == Transcript(alone(sing(song)), RATE, len(sing(song)))
        assert len(notices) <= wire.calls - 1 <= len(breaks)

    with mock.patch.object(client, "FIRST_TRY_SECONDS", 0.01):
        run()


@in_a_loop
async def test_a_break_is_told_in_one_line() -> None:
    """Where, and that it goes on."""
    notices: list[str] = []
    async with serving() as service, wired(service.port, [20_000]) as (wire, url):
        await ask(url, chunks(), RATE, None, None, notices.append)
        assert wire.calls == 2
        assert notices == [f"{url}: the server went away (without a word); going on where it was"]


@in_a_loop
async def test_a_server_that_does_not_come_back_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a bounded time, with the last reason."""
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(client, "FIRST_TRY_SECONDS", 0.02)
    going_on = threading.Event()
    heard: list[Event] = []

    def endless() -> Iterator[Samples]:
        yield sing("ab ")
        going_on.wait(30)

    async with serving() as service, wired(service.port, []) as (_, url):
        asking = asyncio.create_task(ask(url, endless(), RATE, None, heard.append))
        await until(lambda: any(isinstance(event, Final) for event in heard))
        for session in service.server.sessions:
            session._abort()  # noqa: SLF001 - the machine dies
        await service.server.stop()
        with pytest.raises(ServerError) as caught:
            await asking
        going_on.set()
    assert "went away" in str(caught.value) or "no recognition server" in str(caught.value)


@in_a_loop
async def test_whose_session_is_taken_over_does_not_fight_for_it() -> None:
    """Two clients with one token would cut each other off for ever."""

    async def take(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(RESUMABLE)
        await connection.recv()
        await connection.close(1008, "resumed on another connection")

    async with impostor(take) as url:
        assert "code 1008 resumed on another connection" in str(await refused(url))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
nearly = st.builds(
    lambda kind, rest: json.dumps({"type": kind, **rest}),
    st.sampled_from(["ready", "partial", "final", "done", "error", "pong", "slow_down", "later"]),
    st.dictionaries(
        st.sampled_from(
            ["segment", "stable", "tentative", "position", "words", "repaired", "code", "message"]
        ),
        anything,
    ),
)


@given(st.binary(max_size=9) | st.text() | anything.map(json.dumps) | nearly)
def test_any_message_of_a_server_is_an_event_or_one_of_our_errors(message: str | bytes) -> None:
    """The parser's law, on the client's side."""
    event = None
    with contextlib.suppress(ServerError, ProtocolError):
        event = Conversation(RATE, Options()).receive(message)
    assert event is None or isinstance(event, Partial | Final)


def test_messages_from_newer_servers_are_passed_over() -> None:
    """Servers may say more in time; clients need not understand it."""
    assert Conversation(RATE, Options()).receive('{"type":"weather","sky":"blue"}') is None
