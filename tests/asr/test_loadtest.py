"""Load on a server: clients in real time, what counts of what they saw, and the largest N."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import serve

from asr import audio
from asr.errors import AudioError, ConfigError, DataError, Error, ServerError
from asr.loadtest import plot, processes, recordings
from asr.loadtest.client import FINISH_SECONDS, Client, Session, address_of, speak
from asr.loadtest.figures import summary
from asr.loadtest.processes import Usage
from asr.loadtest.recordings import PIECE_SECONDS, Recording, pieces
from asr.loadtest.run import Run, Settings
from asr.loadtest.search import largest
from asr.metrics import Percentiles
from server.limits import Limits
from tests.server.sockets import Service, in_a_loop, serving, until
from tests.server.tones import ToneNetwork, alone, recognizer, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    from asr.loadtest.client import Heard

SONG = "ab c"
READY = json.dumps({"type": "ready"})


# What is said


@given(
    st.integers(0, 9000),
    st.sampled_from((8000, 11_025, 16_000, 44_100, 48_000)),
    st.sampled_from((0.05, 0.3, 30.0)),
)
def test_every_sample_is_said_once_and_on_time(length: int, rate: int, seconds: float) -> None:
    """Pieces and chunks are the recording, and each chunk is due when its last sample is."""
    samples = np.linspace(-1, 1, length, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "PIECE_SECONDS", seconds)
        cut = pieces("a", audio.Audio(samples, rate, 1))
    assert b"".join(c for piece in cut for c in piece.chunks) == audio.to_s16le(samples)
    assert sum(piece.samples for piece in cut) == length
    for piece in cut:
        said = 0
        for number, chunk in enumerate(piece.chunks):
            assert piece.chunk_of(said + 1) == number
            said += len(chunk) // 2
            assert piece.chunk_of(said) == number
            assert piece.due(number) == said / rate
        assert said == piece.samples >= 1


def test_long_recordings_come_in_pieces_with_names(tmp_path: Path) -> None:
    """A session that lasts an hour would say nothing about latency at its end."""
    file = tmp_path / "long.wav"
    soundfile.write(file, np.zeros(int(2.5 * PIECE_SECONDS * 8000), np.float32), 8000)
    cut = recordings.read([file])
    assert [c.name for c in cut] == ["long.wav at 0 s", "long.wav at 30 s", "long.wav at 60 s"]
    assert len(recordings.read([file, file], limit=4)) == 4


def test_files_manifests_and_folders_are_read(tmp_path: Path) -> None:
    """Whatever speech is at hand can be used."""
    soundfile.write(tmp_path / "a.wav", np.zeros(100, np.float32), 16_000)
    (tmp_path / "a.txt").write_text("nothing")
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "text": "nothing"}')
    for path in (tmp_path / "a.wav", tmp_path / "m.jsonl", tmp_path):
        (found,) = recordings.read([path])
        assert (found.name, found.samples) == ("a.wav", 100)


def test_what_cannot_be_said_is_refused(tmp_path: Path) -> None:
    """Before any load is put on anybody."""
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(AudioError, match="hold no sample"):
        recordings.read([tmp_path / "empty.wav"])
    soundfile.write(tmp_path / "fast.wav", np.zeros(9, np.float32), 96_000)
    with pytest.raises(AudioError, match="96000 samples per second"):
        recordings.read([tmp_path / "fast.wav"])
    with pytest.raises(DataError):
        recordings.read([tmp_path / "no.jsonl"])


# One client


def recording(song: str = SONG) -> Recording:
    """A song to be sung."""
    (found,) = pieces("song", audio.Audio(sing(song), 16_000, 1))
    return found


def words_alone(song: str = SONG) -> list[Heard]:
    """What is to be heard of it: what 16 bits leave of it, to the last digit of confidence."""
    samples = audio.from_s16le(audio.to_s16le(sing(song)))
    return [(w.text, w.start, w.end, w.confidence) for final in alone(samples) for w in final.words]


@pytest.mark.parametrize("phase", [None, 0.02])
@in_a_loop
async def test_a_client_hears_what_the_recogniser_says(phase: float | None) -> None:
    """At once or in real time; where it speaks in real time, everything is timed."""
    said = recording()
    async with serving() as service:
        session = await speak(address_of(service.url), said, phase=phase)
    assert session.error is None
    assert session.words == words_alone()
    assert session.sent == len(said.chunks) + 2  # start and finish
    assert session.ready is not None
    assert session.done is not None
    assert session.finish is not None
    assert session.finish[0] <= session.done
    if phase is None:
        assert session.late == []
        return
    length = said.samples / said.sample_rate
    assert session.done - session.ready >= length + phase
    assert all(late >= 0 for _, late in session.late)
    assert 1 <= len(session.late) <= len(said.chunks)
    assert session.partials
    assert all(0 < latency < session.done - session.ready for _, latency in session.partials)
    assert session.finish[1] >= 0
    assert len(session.served) == len(session.partials)
    assert session.finish[0] - session.finish[1] >= session.ready + length


@in_a_loop
async def test_a_client_waits_for_a_server_that_asks_for_patience() -> None:
    """It is told of, and nothing is lost."""
    network = ToneNetwork()
    song = "abcd" * 20
    async with serving(recognizer(network), Limits(queue_bytes=20_000)) as service:
        network.gate.clear()
        client = await connected(service, recording(song), None)
        await until(lambda: client.session.slow_downs)
        network.gate.set()
        await client.over
        client.leave()
    assert (client.session.error, client.session.words) == (None, words_alone(song))


async def connected(service: Service, said: Recording, phase: float | None) -> Client:
    """A client that has begun."""
    client = Client(address_of(service.url), said, phase)
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: client, "127.0.0.1", service.port)
    return client


@in_a_loop
async def test_a_server_that_does_not_read_makes_no_feeder_late() -> None:
    """What waits because the system takes no more counts as latency; then all of it goes at once.

    The client is paused as asyncio does it when its buffer is full.
    """
    said = recording("abc")
    loop = asyncio.get_running_loop()
    async with serving() as service:
        client = await connected(service, said, 0.0)
        await until(lambda: client.session.ready)
        client.pause_writing()
        assert client.session.ready is not None
        sent, end = client.session.sent, client.session.ready + said.samples / said.sample_rate
        await until(lambda: loop.time() > end + 0.1)
        assert client.session.sent == sent
        rung = len(client.session.late)
        client.resume_writing()
        await client.over
        client.leave()
    session = client.session
    assert (session.error, session.words) == (None, words_alone("abc"))
    assert len(session.late) == rung  # none is late by its own fault
    assert all(latency > 0.1 for _, latency in session.partials)  # those that were not overtaken
    assert session.finish is not None
    assert session.finish[1] > 0.1


@contextlib.asynccontextmanager
async def answering(
    answer: Callable[[ServerConnection], Awaitable[None]], **options: Any
) -> AsyncIterator[str]:
    """A server that answers as it is told to."""
    async with serve(answer, "127.0.0.1", 0, compression=None, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (["no JSON"], "a message that makes no sense (JSONDecodeError)"),
        (['{"kind": 1}'], "a message that makes no sense (KeyError)"),
        (["[]"], "a message that makes no sense (TypeError)"),
        ([READY, '{"type": "partial"}'], "a message that makes no sense (KeyError)"),
        ([READY, '{"type": "done", "position": 5}'], "done before all was heard"),
        (['{"type": "error", "code": "internal"}'], "error internal"),
        ([READY], "closed with 1000"),
        ([], "closed with 1000"),
    ],
)
@in_a_loop
async def test_what_goes_wrong_has_a_name(messages: list[str], why: str) -> None:
    """Failures are counted by kind: each kind has a name without numbers of its own."""

    async def answer(connection: ServerConnection) -> None:
        await connection.recv()
        for message in messages:
            await connection.send(message)

    async with answering(answer) as url:
        session = await speak(address_of(url), recording(), phase=0.0)
    assert (session.error, session.done) == (why, None)


@in_a_loop
async def test_a_refused_session_tells_the_status() -> None:
    """A server that is full is no server that is broken."""
    async with serving(limits=Limits(sessions=1)) as service, service.session():
        session = await speak(address_of(service.url), recording())
    assert (session.error, session.ready) == ("HTTP 503", None)


@in_a_loop
async def test_who_is_not_there_or_says_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A load test ends, whatever the server does."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    session = await speak(address_of(f"ws://127.0.0.1:{port}"), recording())
    assert session.error == "cannot connect (connection refused)"
    monkeypatch.setattr("asr.loadtest.client.ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = address_of(f"ws://127.0.0.1:{silent.getsockname()[1]}")
        session = await speak(address, recording())
    assert session.error == "no ready in time"


@in_a_loop
async def test_a_server_that_never_finishes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same behind the last word."""
    monkeypatch.setattr("asr.loadtest.client.FINISH_SECONDS", FINISH_SECONDS / 1000)

    async def answer(connection: ServerConnection) -> None:
        await connection.send(READY)
        async for _ in connection:
            pass

    async with answering(answer) as url:
        session = await speak(address_of(url), recording(), phase=None)
    assert session.error == "no done in time"


@in_a_loop
async def test_a_connection_that_stays_open_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server would count a session that nobody holds."""
    monkeypatch.setattr("asr.loadtest.client.ANSWER_SECONDS", 0.2)
    said = recording()

    async def answer(connection: ServerConnection) -> None:
        await connection.send(READY)
        async for message in connection:
            if "finish" in str(message):
                await connection.send(json.dumps({"type": "done", "position": said.samples}))

    async with answering(answer) as url:
        session = await speak(address_of(url), said, phase=None)
    assert session.error == "no close in time"
    assert session.done is not None


@in_a_loop
async def test_what_answers_must_be_a_websocket_server() -> None:
    """A wrong port is a common mistake."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        session = await speak(address_of(f"ws://127.0.0.1:{port}"), recording())
    assert session.error == "HTTP 200"


def test_an_address_must_be_one() -> None:
    """Told at once, with how to write it."""
    assert address_of("ws://[::1]:5").path == "/v1/stream"
    assert address_of("wss://h/a?key=K").resource_name == "/a?key=K"
    for wrong in ("http://localhost", "nonsense", "ws://[::1"):
        with pytest.raises(ServerError, match="write it as ws://HOST:PORT"):
            address_of(wrong)


# What counts


def session_of(begin: float, latency: float, words: list[Heard], late: float = 0.0) -> Session:
    """A session of a second from `begin`, with a partial in its middle."""
    made = Session(recording(), begin, begin + 1, words)
    made.partials, made.served = [(begin + 0.5, latency)], [latency]
    made.late, made.finish = [(begin + 0.5, late)], (begin + 0.9, 0.01)
    made.sent, made.received = 20, 10
    return made


def run_of(*sessions: Session, streams: int = 1) -> Run:
    """A run whose window is 10 … 12."""
    reference = {"song": (("a", 0, 5, 1.0), ("b", 5, 9, 1.0))}
    return Run(Settings(streams, 2.0), reference, 10.0, 12.0, list(sessions))


RIGHT: list[Heard] = [("a", 0, 5, 1.0), ("b", 5, 9, 1.0)]


def test_only_the_window_counts() -> None:
    """While clients come and go the load is another: only words are compared then."""
    found = summary(run_of(*(session_of(begin, begin, RIGHT) for begin in (8.0, 10.0, 11.0, 12.0))))
    assert found.partial_ms == Percentiles(10_000, 11_000, 11_000, 11_000)
    assert found.served_ms == Percentiles(10, 11, 11, 11)
    assert found.final_ms == Percentiles(10, 10, 10, 10)
    assert (found.held, found.sessions, found.compared, found.differing) == (1.0, 4, 8, 0)
    assert (found.sent_per_second, found.received_per_second) == (20, 10)
    assert (found.sound, found.void, found.server) == (True, False, None)
    assert found.passes(11_000)
    assert not found.passes(10_999)
    assert json.loads(json.dumps(found.fields()))["partial_ms"]["p99"] == 11_000


@pytest.mark.parametrize(
    ("words", "differing", "compared"),
    [
        (RIGHT[:1], 1, 2),
        ([*RIGHT, ("c", 9, 10, 1.0)], 1, 3),
        ([("a", 0, 5, 1.0), ("b", 5, 9, 0.5)], 1, 2),
        ([("a", 1, 5, 1.0), ("x", 5, 9, 1.0)], 2, 2),
        ([], 2, 2),
    ],
)
def test_every_difference_counts(words: list[Heard], differing: int, compared: int) -> None:
    """A missing, added, other or moved word, or another confidence; wherever it was heard."""
    found = summary(run_of(session_of(10, 0, RIGHT), session_of(12, 0, words)))
    assert (found.differing, found.compared) == (differing, compared + 2)
    assert not found.sound


def test_late_clients_make_a_run_void() -> None:
    """Figures of a feeder that could not keep up are figures of the feeder."""
    assert summary(run_of(session_of(10, 0, RIGHT, late=0.011))).void
    assert not summary(run_of(session_of(10, 0, RIGHT, late=0.009))).void
    assert not summary(run_of(session_of(10, 0, RIGHT, late=0.011)), 12).void
    assert summary(run_of()).void


def test_failures_and_empty_places_are_not_sound() -> None:
    """A server that refuses half is not fast, and neither is one that says nothing."""
    good = [session_of(10, 0, RIGHT), session_of(11, 0, RIGHT)]
    failed = Session(recording(), error="HTTP 503")
    found = summary(run_of(*good, failed, failed))
    assert found.errors == {"HTTP 503": 2}
    assert not found.sound
    assert not summary(run_of(*good, streams=2)).sound
    assert summary(run_of(*good)).sound
    assert not summary(run_of(failed)).passes(1e9)


def test_the_server_s_share_is_told() -> None:
    """Cores between first and last look, memory at most."""
    run = run_of(session_of(10, 0, RIGHT))
    run.idle, run.processes = Usage(0, 0, 90), 2
    run.usage = [(10.0, Usage(5, 1, 100)), (11.0, Usage(5.5, 1, 130)), (12.0, Usage(6, 1.5, 120))]
    assert dataclasses.astuple(summary(run).server) == (2, 0.5, 0.25, 130, 90)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, float("nan"), 1), (1, 1, -1)])
def test_a_load_of_nothing_is_refused(wrong: tuple[int, float, float]) -> None:
    """Settings that cannot be run are told before the run."""
    with pytest.raises(ConfigError):
        Settings(*wrong)


# The largest


@given(st.integers(0, 3000), st.integers(1, 5000), st.integers(1, 4000))
def test_the_largest_that_passes_is_found(limit: int, first: int, most: int) -> None:
    """Exactly without tolerance, and nearly with one; trials stay in bounds and are few."""
    tried: list[int] = []

    def passes(n: int) -> bool:
        tried.append(n)
        return n <= limit

    assert largest(passes, first, most, 0) == min(limit, most)
    assert all(1 <= n <= most for n in tried)
    assert len(tried) == len(set(tried)) <= 26
    near = largest(passes, first, most, 0.05)
    assert near <= min(limit, most)
    assert near + max(1, 0.05 * near) >= min(limit, most)


@given(st.data())
def test_what_is_found_has_passed_even_by_chance(data: st.DataObject) -> None:
    """A noisy server is not credited with what it never carried."""
    passed: set[int] = {0}

    def passes(n: int) -> bool:
        outcome = data.draw(st.booleans())
        passed.update([n] if outcome else [])
        return outcome

    assert largest(passes, 3, 200) in passed


# The processes


def test_who_listens_on_a_port_is_found_and_measured() -> None:
    """Without being told a process id."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        pids = processes.behind("127.0.0.1", port)
    if not processes.PROC.joinpath("net/tcp").exists():
        assert pids == ()
        return
    assert len(pids) == 1
    before = processes.usage(pids)
    sum(range(3_000_000))
    after = processes.usage(pids)
    assert before is not None
    assert after is not None
    assert after.processor > before.processor
    assert 10 < after.memory < 10_000
    assert processes.behind("127.0.0.1", port) == ()


def test_a_server_elsewhere_is_not_measured() -> None:
    """A process here that happens to use the same port is another one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert processes.behind("example.org", listener.getsockname()[1]) == ()
        assert processes.behind("192.0.2.1", listener.getsockname()[1]) == ()
    assert processes.usage(()) is None
    assert processes.usage((2**22 + 1,)) is None


# Pictures


def test_pictures_of_runs_and_of_searches_are_drawn(tmp_path: Path) -> None:
    """Of whatever there is, nothing included."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    run = run_of(session_of(10, 0.1, RIGHT), session_of(11, 0.2, RIGHT))
    run.usage = [(10.0, Usage(5, 1, 100)), (11.0, Usage(5.5, 1, 130))]
    nothing = run_of()
    plot.draw_run(nothing, tmp_path / "run.png")
    plot.draw_search([summary(run), summary(nothing)], 150, tmp_path / "search.png")
    for name in ("run.png", "search.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(Error, match="cannot be written"):
        plot.draw_run(run, tmp_path)


def test_without_matplotlib_a_plot_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the hour that it was to show."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(Error, match="pip install matplotlib"):
        plot.check()
