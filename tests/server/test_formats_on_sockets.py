"""Formats, channels and phrases from socket to socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from asr.audio import from_s16le, to_s16le
from tests.server.sockets import Peer, fields_heard, fields_of, in_a_loop, serving
from tests.server.sounds import encode
from tests.server.tones import alone, sing
from tests.tiny import recognizer as tiny

if TYPE_CHECKING:
    from tests.server.sockets import Service

SONG = "ab c "
RATE = 16_000


async def begin(peer: Peer, encoding: str, options: dict[str, Any], **described: Any) -> Any:
    """Open a session of a format; what `ready` says."""
    audio_format = {"encoding": encoding, **described}
    await peer.tell("start", version=1, format=audio_format, options=options)
    return await peer.hear_until("ready")


async def recognised(service: Service, encoding: str, data: bytes, size: int) -> list[Any]:
    """All messages of a session whose audio comes in messages of that size."""
    async with service.connect() as connection:
        peer = Peer(connection)
        await begin(peer, encoding, {})
        for first in range(0, len(data), size):
            await connection.send(data[first : first + size])
        await peer.tell("finish")
        return await peer.hear_all()


@pytest.mark.parametrize(("kind", "size"), [("flac-16", 1), ("flac-16", 5000), ("wav-s16le", 999)])
@in_a_loop
async def test_a_stream_with_a_header_is_heard_as_its_samples_are(kind: str, size: int) -> None:
    """Cut anywhere, one byte a message included, it has the words of the file."""
    song = "a" if size == 1 else SONG
    stream = encode(sing(song)[:, None], RATE, kind)
    samples = from_s16le(to_s16le(sing(song)))
    async with serving() as service:
        heard = await recognised(service, kind.split("-", maxsplit=1)[0], stream, size)
    assert fields_heard(heard) == fields_of(alone(samples))
    assert (heard[-1]["type"], heard[-1]["position"]) == ("done", len(samples))


@in_a_loop
async def test_a_damaged_stream_is_an_error_behind_its_finals() -> None:
    """And the close says that the payload was bad."""
    stream = bytearray(encode(sing(SONG)[:, None], RATE, "flac-16"))
    stream[-2000:] = bytes(2000)
    async with serving() as service, service.connect() as connection:
        peer = Peer(connection)
        await begin(peer, "flac", {})
        await connection.send(bytes(stream))
        await peer.tell("finish")
        heard = await peer.hear_all()
    assert next(m["text"] for m in heard if m["type"] == "final") == "a b"
    assert (heard[-1]["code"], peer.close_code) == ("bad_payload", 1007)


@in_a_loop
async def test_messages_and_words_carry_their_channel() -> None:
    """Two speakers on two lines of a telephone call, transcribed apart."""
    both = np.zeros((len(sing("ab ")), 2), np.float32)
    both[:, 0] = sing("ab ")
    both[: len(sing("cd")), 1] = sing("cd")
    async with serving() as service, service.connect() as connection:
        peer = Peer(connection)
        described = {"sample_rate": RATE, "channels": 2}
        ready = await begin(peer, "f32le", {"channels_apart": True}, **described)
        assert ready["resumable"] is True
        await peer.say(both)
        await peer.tell("finish")
        heard = await peer.hear_all()
    finals = [m for m in heard if m["type"] == "final"]
    for number in range(2):
        mine = [m for m in finals if m["channel"] == number]
        assert fields_heard(mine) == fields_of(alone(np.ascontiguousarray(both[:, number])))
        assert {word["channel"] for m in mine for word in m["words"]} == {number}
    assert heard[-1]["position"] == len(both)


@pytest.mark.parametrize("kind", ["flac-16", "ogg-opus"])
@in_a_loop
async def test_a_compressed_stream_is_gone_on_with_from_a_byte(kind: str) -> None:
    """Cut anywhere; the transcript is that of the stream without the cut."""
    encoding = "ogg-opus" if kind == "ogg-opus" else "flac"
    rate = 48_000 if kind == "ogg-opus" else RATE
    stream = encode(sing(SONG, rate)[:, None], rate, kind)
    cut = len(stream) * 2 // 3
    async with serving() as service:
        expected = await recognised(service, encoding, stream, 3000)
        async with service.connect() as connection:
            peer = Peer(connection)
            token = (await begin(peer, encoding, {"resume": True}))["token"]
            await connection.send(stream[:cut])
            await peer.tell("ping")
            before = []
            while (message := await peer.hear())["type"] != "pong":
                before.append(message)
            connection.transport.abort()
        async with service.connect() as connection:
            peer = Peer(connection)
            segments = sum(m["type"] == "final" for m in before)
            resume = {"token": token, "position": cut, "segments": segments}
            await peer.tell("start", version=1, resume=resume)
            position = (await peer.hear_until("ready"))["position"]
            assert position == cut
            await connection.send(stream[position:])
            await peer.tell("finish")
            after = await peer.hear_all()
    assert fields_heard([*before, *after]) == fields_heard(expected)
    assert after[-1]["position"] == expected[-1]["position"]


@in_a_loop
async def test_phrases_that_cannot_be_expected_are_named_and_the_session_goes_on() -> None:
    """At the start as in mid-stream."""
    async with serving(tiny("plain", "beam")) as service, service.connect() as connection:
        peer = Peer(connection)
        ready = await begin(peer, "s16le", {"phrases": ["W2", "xylo", "w6 w2"]}, sample_rate=RATE)
        assert ready["unsupported"] == ["options.phrases[1]"]
        await peer.tell("configure", options={"phrases": ["xylo"], "colour": 1})
        configured = await peer.hear_until("configured")
        assert configured["unsupported"] == ["options.colour", "options.phrases[0]"]
        (session,) = service.server.sessions
        assert session.line
        assert session.line.states[0].options.phrases == ()


@in_a_loop
async def test_more_phrases_than_a_model_can_expect_are_refused() -> None:
    """With the reason; a part of them would be chosen by nobody."""
    recognizer = tiny("plain", "beam")
    async with serving(recognizer) as service, service.connect() as connection:
        peer = Peer(connection)
        await begin(peer, "s16le", {}, sample_rate=RATE)
        await peer.tell("configure", options={"phrases": ["w2"] * 101})
        error = (await peer.hear_all())[-1]
    assert (error["code"], peer.close_code) == ("bad_message", 1007)
    assert "at most 100" in error["message"]
