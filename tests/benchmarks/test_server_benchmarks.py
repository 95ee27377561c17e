"""The benchmarks of the server run, in miniature, and what they attack it with is what it says."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import abuse, framing, fuzz, hostile, server_load, soak
from benchmarks.cuts import Wire
from benchmarks.raw import TEXT, RawClient, frame, masked
from benchmarks.served import Served
from benchmarks.soak import Listener, Programme, Soak
from server.limits import Limits
from tests import tiny
from tests.server.sockets import in_a_loop, serving
from tests.server.tones import recognizer, sing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Whoever comes as often as these is refused, by default; and who goes in the middle is waited for.
OPEN = Limits(connects_per_second=1e6, connects_burst=10**6, close_seconds=0.2)
PATIENT = ("--late-ms", "60000")  # however busy the machine is


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two short recordings, and a tiny model that says many words."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(2):
        soundfile.write(folder / f"{number}.wav", tiny.sound(0.8, number), 16_000)
        (folder / f"{number}.txt").write_text("an eye")
    model = tmp_path_factory.mktemp("tiny")
    return [str(folder), "--model", str(tiny.write_bundle(model).path)]


def figures(
    main: Callable[[Sequence[str]], int],
    arguments: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> dict[str, dict[str, Any]]:
    """What a benchmark measured; its exit code must tell whether the targets were met."""
    code = main(arguments)
    said = capsys.readouterr().out
    rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert rows, said
    assert code == int(any(row["met"] is False for row in rows))
    assert all(row["spread"][0] <= row["value"] <= row["spread"][1] for row in rows)
    return {row["figure"]: row for row in rows}


def test_sessions_on_one_core_are_measured(
    inputs: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One alone and two at a time, with the bounds of the core and what the server took."""
    monkeypatch.setattr(server_load, "P99_MS", 60_000.0)
    monkeypatch.setattr("asr.loadtest.figures.HELD", 0.0)
    monkeypatch.setattr("asr.loadtest.run.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("benchmarks.limit.STREAMS", 2)
    monkeypatch.setattr("benchmarks.limit.PRODUCT", (4, 64, 64))
    call = [*inputs, "--streams", "2", "--no-find", "--seconds", "1.5", "--ramp", "0", *PATIENT]
    found = figures(server_load.main, call, capsys)
    prefix = "server_load.greedy"
    names = ("streams", "one.partial", "one.final", "partial", "final", "words", "memory")
    assert set(found) == {f"{prefix}.{name}" for name in (*names, "message")}
    assert found[f"{prefix}.streams"]["value"] == 2
    words = found[f"{prefix}.words"]
    assert (words["value"], words["target"]) == (0, "≤ 0 words")
    assert words["details"]["compared"] > 4
    assert found[f"{prefix}.memory"]["target"] == "≤ 301 MB"
    assert 20 < found[f"{prefix}.memory"]["value"] < 2000
    assert found[f"{prefix}.message"]["value"] > 0
    details = found[f"{prefix}.partial"]["details"]
    bounds = ("multiply_adds", "network", "recogniser")
    assert all(details[f"limit_{bound}_streams"] >= 1 for bound in bounds)
    assert details["cores"] >= details["cores_main_thread"] > 0


def test_the_multiply_adds_are_those_of_the_shipped_network() -> None:
    """A convolution over 4 frames of a block, one over 2; everything else on 2."""
    from asr import bundle
    from benchmarks import limit

    width, front, bands = 512, 256, 80
    layers = 4 * 2 * (4 * width * width)
    heads = (257 + 40) * width
    once = front * front * 3 + front * width + layers + heads + 5 * width
    expected = 4 * front * bands * 5 + 2 * once
    assert limit.multiply_adds(bundle.find("english") / "acoustic.float32.onnx") == expected


def test_late_clients_give_no_figure(
    inputs: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A void run says so, and records nothing."""
    monkeypatch.setattr("asr.loadtest.run.SETTLE_SECONDS", 0.05)
    call = [*inputs, "--streams", "1", "--no-find", "--seconds", "0.3", "--late-ms", "1e-6"]
    assert server_load.main(call) == 1
    said = capsys.readouterr().out
    assert "void" in said
    assert "{" not in said


def test_continuous_speech_with_cuts_is_compared_with_offline(
    inputs: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three sessions that are cut every second: not one word or time is another."""
    monkeypatch.setattr(soak, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(soak, "AFTER_CUT", 0.01)
    call = ["--sessions", "3", "--minutes", "0.05", "--cut-seconds", "1", "--programmes", "2"]
    found = figures(soak.main, [*inputs, *call, *PATIENT], capsys)
    assert set(found) == {f"soak.{n}" for n in ("words", "times", "memory", "drift", "partial")}
    assert (found["soak.words"]["value"], found["soak.times"]["value"]) == (0, 0)
    details = found["soak.words"]["details"]
    assert details["compared"] > 10
    assert details["cuts"] >= details["resumed"] >= 0
    assert found["soak.memory"]["target"] == "≤ 1 MB"


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=4), st.integers(1, 30_000))
def test_a_programme_is_its_recordings_one_after_the_other(lengths: list[int], wanted: int) -> None:
    """However it is cut into chunks."""
    recordings = [np.full(length, n, np.float32) for n, length in enumerate(lengths)]
    programme = Programme.make(recordings, wanted / 16_000, 0)
    said = np.concatenate([recordings[n] for n in programme.order])[:wanted]
    for size in (1280, 16_000, 7):
        pieces = list(programme.chunks(size))
        np.testing.assert_array_equal(np.concatenate(pieces), said)
        assert all(len(piece) == size for piece in pieces[:-1])


def test_growth_and_drift_are_seen() -> None:
    """A server that grows by 2 MB a minute and gets slower by half is no good one."""
    partials = [(float(t), 0.01 if t < 110 else 0.015) for t in range(120)]
    listener = Listener(Programme([], [], 120 * 16_000), partials=partials, cuts=[30.0])
    watched = Soak([listener], [(float(t), 100 + t / 30) for t in range(0, 120, 2)], 0.0, 120.0)
    assert watched.slope() == pytest.approx(120)
    assert watched.thirds(50) == (10.0, 10.0)
    assert watched.thirds(99) == (10.0, 15.0)
    assert len(listener.calm()) == 115


@in_a_loop
async def test_a_wire_carries_everything_until_it_is_cut() -> None:
    """Both ways; a cut ends both sides, and another connection can be made."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Wire(server.sockets[0].getsockname()[1]) as wire:
        port = int(wire.url.rpartition(":")[2])
        wire.cut()
        assert wire.cuts == []  # there was nothing to cut
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            wire.cut()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
        assert len(wire.cuts) == 2


def test_a_hostile_day_is_survived_and_measured(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Some stages of it; the others have tests of their own, or wait for the server's patience."""
    small = ["--messages", "100", "--count", "2", "--usual-seconds", "1", "--byte-seconds", "0.05"]
    left_out = ("framing", "oversized", "connects", "slow", "half-open")
    skip = [part for stage in left_out for part in ("--skip", stage)]
    skip += ["--wyoming-port", "0"]
    found = figures(hostile.main, [*inputs, *small, *skip], capsys)
    assert set(found) == {
        f"hostile.{n}" for n in ("wrong", "failures", "words", "refused", "memory", "latency")
    }
    for name in ("wrong", "failures", "words", "refused"):
        assert found[f"hostile.{name}"]["value"] == 0, found[f"hostile.{name}"]
    details = found["hostile.words"]["details"]
    assert details["fuzzed_messages"] >= 100
    assert details["compared_words"] > 4
    assert details["stages"] == ["fuzz", "bytes", "bombs"]


# What the server is attacked with


@in_a_loop
async def test_every_case_of_framing_is_answered_as_the_standard_has_it() -> None:
    """Four hundred cases by name; the same that `benchmarks/hostile.py` runs."""
    assert len(framing.cases()) > 400
    async with serving(limits=OPEN) as service:
        assert await framing.failures(service.port) == {}


@in_a_loop
async def test_a_server_that_is_wrong_fails_the_cases() -> None:
    """Cases that cannot fail would prove nothing."""

    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        writer.write(frame(TEXT, b'{"type":"ready"}', mask=None))
        writer.write(frame(TEXT, b'{"type":"pong","id":"the last"}', mask=None))
        writer.write_eof()

    server = await asyncio.start_server(agree, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        chosen = {case.name: case for case in framing.cases()}
        right = await chosen["binary of 2"].run(port)
        wrong = [
            await chosen[name].run(port)
            for name in ("text of 126", "ping of text", "text with RSV 4", "close 1000", "no key")
        ]
    assert right == ""
    assert all(wrong), wrong


@pytest.mark.parametrize("seed", range(3))
@in_a_loop
async def test_nonsense_fails_no_server(seed: int) -> None:
    """A few hundred messages of every protocol over real sockets, each time others."""
    async with serving(tiny.recognizer("plain", "numpy"), OPEN) as service:
        host, port = await service.server.speak_wyoming(_listener())
        fuzzer = abuse.Fuzzer(service.port, port, seed)
        assert host == "127.0.0.1"
        assert await fuzzer.run(300, 1e9, together=4) == []
        assert fuzzer.messages >= 300


def _listener() -> Any:
    from server.listener import listen

    return listen("127.0.0.1", 0)


@given(st.integers(0, 10), st.integers(0, 10_000))
def test_nonsense_can_be_had_again(seed: int, number: int) -> None:
    """What goes wrong is named by its number; and it is another each time."""
    names = tuple(fuzz.PROTOCOLS)
    one = fuzz.session(seed, number, names)
    assert one == fuzz.session(seed, number, names)
    assert one.protocol == names[number % len(names)]
    assert len(one.messages) <= fuzz.LONGEST


def test_most_nonsense_nearly_makes_sense() -> None:
    """Noise alone ends every session at its first message, and tests nothing behind it."""
    sessions = [fuzz.session(0, number, ("native",)) for number in range(300)]
    texts = [m for s in sessions for m in s.messages if isinstance(m, str)]
    sound = [text for text in texts if _is_object(text)]
    assert 0.5 < len(sound) / len(texts) < 0.98


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


@in_a_loop
async def test_bytes_one_by_one_are_heard_as_in_one_piece() -> None:
    """And a server that hears something else would be told of."""
    audio = (sing("ab") * 32_767).astype("<i2").tobytes()
    async with serving(recognizer()) as service:
        assert await abuse.one_byte_senders(service.port, 2, audio[:8000]) == []


@in_a_loop
async def test_connects_are_as_many_as_asked_for() -> None:
    """Answered or not; a server that is not there is told of."""
    async with serving() as service:
        wrong, rate = await abuse.connects(service.port, 100, 0.5)
    assert wrong == []
    assert 20 < rate < 130
    wrong, _ = await abuse.connects(service.port, 50, 0.1)
    assert wrong


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_a_mask_is_undone_by_itself(payload: bytes, mask: bytes) -> None:
    """And is what RFC 6455 writes: each byte by the mask's, in turn."""
    turned = masked(payload, mask)
    assert turned == bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    assert masked(turned, mask) == payload


@in_a_loop
async def test_a_raw_client_hears_what_is_said() -> None:
    """The instrument itself."""
    async with serving() as service, RawClient(service.port) as client:
        assert await client.begin()
        await client.send(frame(TEXT, b'{"type":"finish"}'))
        await client.hear_all()
        assert client.close_code == 1000
        assert json.loads(client.messages[-1])["type"] == "done"


def test_failures_are_found_in_a_log() -> None:
    """A trace that nobody reads is no failure to anybody."""
    log = "session opened\nerror: session failed\nTraceback (most recent call last):\nok"
    assert len(_served(log).failures()) == 2
    assert _served("session opened\nsession closed code=1000\n").failures() == []


def _served(log: str) -> Served:
    made = Served.__new__(Served)
    made.log = lambda: log  # type: ignore[method-assign]
    return made
