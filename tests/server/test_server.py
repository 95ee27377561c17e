"""The server over real sockets: what clients are promised while all goes well."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from asr import resampling
from asr.audio import from_s16le, to_s16le
from asr.errors import Error
from asr.transcript import Partial
from server.admission import Access, is_loopback
from server.app import Server, describe
from server.limits import Limits
from server.snapshot import Seal
from tests.server.sockets import fields_heard, fields_of, http_get, in_a_loop, serving, until
from tests.server.tones import RATE, ToneNetwork, alone, events_alone, recognizer, sing

SONG = "ab c d"


@pytest.mark.parametrize("chunk", [1, 37, 1280, 10**6])
@in_a_loop
async def test_a_session_hears_what_a_recogniser_at_hand_says(chunk: int) -> None:
    """Socket, messages of any size and engine change no word, no time and no cut."""
    song = "ab" if chunk == 1 else SONG
    async with serving() as service:
        heard = await service.recognise(song, chunk)
    assert fields_heard(heard) == fields_of(alone(sing(song)))


@in_a_loop
async def test_many_clients_at_once_hear_what_each_would_hear_alone() -> None:
    """Twelve sessions in company, none disturbed by another."""
    songs = ["abcd"[n % 4 :] + " " + "abcd"[: n % 3] for n in range(12)]
    async with serving() as service:
        heard = await asyncio.gather(*(service.recognise(song) for song in songs))
    for song, messages in zip(songs, heard, strict=True):
        assert fields_heard(messages) == fields_of(alone(sing(song)))


@in_a_loop
async def test_partials_are_those_of_the_recogniser() -> None:
    """In live use, where every message is answered before the next, not one is left out."""
    song = "abca"
    expected = [vars_of(event) for event in events_alone(sing(song))]
    heard: list[dict[str, Any]] = []
    async with serving() as service, service.session() as peer:
        samples = sing(song)
        for number, first in enumerate(range(0, len(samples), 1280)):
            await peer.say(samples[first : first + 1280])
            await peer.tell("ping", id=number)
            while (message := await peer.hear())["type"] != "pong":
                heard.append(message)
        await peer.tell("finish")
        heard += (await peer.hear_all())[:-1]
    assert [tuple(m.get(k) for k in KEYS) for m in heard] == expected


KEYS = ("segment", "stable", "tentative", "text", "position")


def vars_of(event: object) -> tuple[Any, ...]:
    """An event's fields under the protocol's names, in which partials have no text."""
    hidden = {"text"} if isinstance(event, Partial) else set()
    return tuple(None if key in hidden else getattr(event, key, None) for key in KEYS)


@in_a_loop
async def test_partials_can_be_left_out() -> None:
    """A client that wants finals only is sent finals only."""
    async with serving() as service, service.session(partials=False) as peer:
        await peer.sing(SONG)
        await peer.tell("finish")
        kinds = {message["type"] for message in await peer.hear_all()}
    assert kinds == {"final", "done"}


@in_a_loop
async def test_sixteen_bit_samples_give_the_same_words() -> None:
    """s16le is exact for 16-bit recordings."""
    pcm = to_s16le(sing(SONG))
    async with serving() as service, service.connect() as connection:
        start = {"encoding": "s16le", "sample_rate": RATE, "channels": 1}
        await connection.send(json.dumps({"type": "start", "version": 1, "format": start}))
        await connection.send(pcm)
        await connection.send('{"type":"finish"}')
        heard = [json.loads(message) async for message in connection]
    samples = from_s16le(pcm)
    assert fields_heard(heard) == fields_of(alone(samples))


@pytest.mark.parametrize("rate", [8000, 44100])
@in_a_loop
async def test_other_rates_are_resampled_and_times_count_their_samples(rate: int) -> None:
    """Words as offline after resampling; times in the client's own samples."""
    samples = sing(SONG, rate)
    async with serving() as service, service.session(rate) as peer:
        for first in range(0, len(samples), 1000):
            await peer.say(samples[first : first + 1000])
        await peer.tell("finish")
        heard = await peer.hear_all()
    there = alone(resampling.resample(samples, rate))
    expected = [(w.text, int(w.start * rate / RATE + 0.5)) for f in there for w in f.words]
    words = [w for m in heard if m["type"] == "final" for w in m["words"]]
    assert [(w["word"], w["start"]) for w in words] == expected
    assert heard[-1]["position"] == len(samples)
    assert heard[-1]["duration_s"] == pytest.approx(len(samples) / rate, abs=1e-6)
    assert all(w["end"] <= len(samples) for w in words)


@in_a_loop
async def test_a_flush_tells_the_open_segment_and_leaves_the_stream_alone() -> None:
    """Everything heard so far, now; the finals are those of a stream without the flush."""
    samples = sing(SONG)
    async with serving() as service, service.session() as peer:
        await peer.say(samples[:7000])
        await peer.tell("flush", id="now")
        flushed = await peer.hear_until("flushed")
        await peer.say(samples[7000:])
        await peer.tell("finish")
        heard = await peer.hear_all()
    assert (flushed["id"], flushed["text"], flushed["position"]) == ("now", "a b", 7000)
    assert [w["word"] for w in flushed["words"]] == ["a", "b"]
    assert fields_heard(heard) == fields_of(alone(samples))


@in_a_loop
async def test_the_endpoint_delay_can_be_changed_in_mid_stream() -> None:
    """From there on the cuts are others; the words are the same."""
    async with serving() as service, service.session(endpoint_ms=60_000) as peer:
        await peer.sing("a b")
        await peer.tell("configure", options={"endpoint_ms": 500, "phrases": ["x"]})
        configured = await peer.hear_until("configured")
        assert configured == {
            "type": "configured",
            "unsupported": ["options.phrases"],
            "position": len(sing("a b")),
            "latency_ms": configured["latency_ms"],
        }
        await peer.sing(" c")
        await peer.tell("finish")
        finals = [m for m in await peer.hear_all() if m["type"] == "final"]
    assert [m["text"] for m in finals] == ["a b", "c"]


@in_a_loop
async def test_a_pong_comes_when_all_audio_before_it_is_recognised() -> None:
    """In order with the audio, so that a client can tell how far the server is."""
    async with serving() as service, service.session() as peer:
        await peer.sing("a ")  # its final is due within the audio
        await peer.tell("ping", id=5)
        heard = [await peer.hear()]
        while heard[-1]["type"] != "pong":
            heard.append(await peer.hear())
    assert heard[-1]["position"] == len(sing("a "))
    assert any(m["type"] == "final" for m in heard)


@in_a_loop
async def test_a_session_without_audio_ends_in_order() -> None:
    """No words, no finals, no fuss."""
    async with serving() as service:
        assert await service.recognise("") == []


@in_a_loop
async def test_latencies_are_measured_by_the_server() -> None:
    """From the arrival of what a message rests on to its sending: here, recognition is held up."""
    network = ToneNetwork()
    async with serving(recognizer(network)) as service, service.session() as peer:
        network.gate.clear()
        now = asyncio.get_running_loop().time
        began = now()
        await peer.sing("a")  # three messages, each of them a block
        (session,) = service.server.sessions
        await until(lambda: session.line and session.line.intake.position == 1280)
        await until(lambda: session.line and session.line.audio_bytes == 10240)
        held = now()
        await until(lambda: now() > held + 0.05)
        network.gate.set()
        partial = await peer.hear_until("partial")
        assert 50 <= partial["latency_ms"] <= (now() - began) * 1000


@in_a_loop
async def test_ready_tells_the_model_and_what_was_asked_for_in_vain() -> None:
    """A client can log which model it talks to, and how long that must listen."""
    async with serving() as service, service.connect() as connection:
        start = {"encoding": "f32le", "sample_rate": RATE}
        message = {"type": "start", "version": 1, "format": start, "options": {"n_best": 3}}
        await connection.send(json.dumps(message))
        ready = json.loads(await connection.recv())
    assert len(ready.pop("token")) == len(Seal().token())
    assert ready == {
        "type": "ready",
        "version": 1,
        "position": 0,
        "resumable": True,
        "model": {"name": "tones", "id": "70e5"},
        "latency": {"block_ms": 80, "look_ahead_ms": 80},
        "unsupported": ["options.n_best"],
    }
    assert describe(recognizer()).look_ahead_ms == 80


@in_a_loop
async def test_health_answers_without_a_session() -> None:
    """What a load balancer asks."""
    async with serving() as service:
        assert (await http_get(service.port, "/healthz"))[::2] == (200, "ok\n")


@in_a_loop
async def test_other_paths_are_not_found() -> None:
    """And the answer says what is there."""
    async with serving() as service:
        status, _, body = await http_get(service.port, "/v1/nothing")
    assert status == 404
    assert "/v1/stream" in body


@in_a_loop
async def test_one_session_too_many_is_told_when_to_come_back() -> None:
    """HTTP 503 with Retry-After before the upgrade; the sessions there do not notice."""
    async with serving(limits=Limits(sessions=2, retry_seconds=7)) as service:
        async with service.session() as peer, service.session():
            with pytest.raises(InvalidStatus) as caught:
                async with service.connect():
                    pass
            assert caught.value.response.status_code == 503
            assert caught.value.response.headers["Retry-After"] == "7"
            assert (await http_get(service.port, "/healthz"))[0] == 200
            await peer.sing(SONG)
            await peer.tell("finish")
            assert fields_heard(await peer.hear_all()) == fields_of(alone(sing(SONG)))
        assert await service.recognise("a")  # both places are free again


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        (None, True),
        ("http://127.0.0.1:{port}", True),
        ("https://friend.example", True),
        ("https://evil.example", False),
        ("null", False),
    ],
)
@in_a_loop
async def test_only_pages_of_this_host_or_a_listed_one_may_connect(
    origin: str | None, *, welcome: bool
) -> None:
    """A web page somewhere must not use the recogniser on a visitor's own machine."""
    async with serving(access=Access(origins=("https://friend.example",))) as service:
        headers = f"Origin: {origin.format(port=service.port)}" if origin else "X: y"
        status, _, _ = await http_get(service.port, "/v1/stream", headers, *UPGRADE)
    assert status == (101 if welcome else 403)


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@in_a_loop
async def test_an_address_in_use_gives_one_clear_line() -> None:
    """It names the address and what the system says."""
    async with serving() as service:
        with pytest.raises(Error, match=rf"^127\.0\.0\.1 port {service.port}: cannot listen") as e:
            await Server(recognizer()).start("127.0.0.1", service.port)
    assert "\n" not in str(e.value)


def test_loopback_addresses_are_known() -> None:
    """The warning about a public address depends on it."""
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.0.1", "example.org"]))  # noqa: S104
