"""The Wyoming protocol: framing, utterances, and Home Assistant's own package as the client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import to_s16le
from server.dialogue import Failed
from server.limits import Limits
from server.listener import listen
from server.protocols.wyoming import DATA_BYTES, LINE_BYTES, PAYLOAD_BYTES, Framing, Wyoming
from tests.server.command import serve
from tests.server.conversations import ANYTHING, Desk, hello, objects, survives
from tests.server.sockets import in_a_loop, serving
from tests.server.tones import RATE, ToneNetwork, alone, recognizer, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from server.dialogue import Message

SONG = "ab c  d"
FORMAT: dict[str, Any] = {"rate": RATE, "width": 2, "channels": 1}


def event(kind: str, payload: bytes = b"", *, inline: bool = False, **data: Any) -> bytes:
    """An event on the wire; its data in the line, or behind it as the package does it."""
    body = b"" if inline or not data else json.dumps(data).encode()
    header: dict[str, Any] = {"type": kind, "version": "1.10.2"}
    if inline:
        header["data"] = data
    if body:
        header["data_length"] = len(body)
    if payload:
        header["payload_length"] = len(payload)
    return json.dumps(header).encode() + b"\n" + body + payload


START, STOP = event("audio-start", **FORMAT, timestamp=None), event("audio-stop")


def chunks(song: str, size: int = 2048) -> Iterator[bytes]:
    """A song in events of so many bytes of audio, as Home Assistant sends it."""
    data = to_s16le(sing(song))
    return (
        event("audio-chunk", data[first : first + size], **FORMAT, timestamp=None)
        for first in range(0, len(data), size)
    )


def read(said: list[Message]) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of what the server said."""
    data, events = b"".join(m if isinstance(m, bytes) else m.encode() for m in said), []
    while data:
        line, _, data = data.partition(b"\n")
        header = json.loads(line)
        length = header.get("data_length", 0)
        events.append((header["type"], json.loads(data[:length]) if length else {}))
        data = data[length:]
    return events


def talk(*messages: bytes) -> list[tuple[str, dict[str, Any]]]:
    """All that is said in a whole conversation."""
    return read(Desk(Wyoming(hello())).hear(*messages))


def texts(said: list[tuple[str, dict[str, Any]]], kind: str = "transcript") -> list[str]:
    """The texts of the events of a type."""
    return [data["text"] for name, data in said if name == kind]


def expected(song: str) -> str:
    """What a recogniser at hand hears."""
    return " ".join(final.text for final in alone(sing(song)))


@given(st.integers(1, 5000), st.booleans())
@settings(max_examples=8)
def test_an_utterance_is_heard_however_the_bytes_are_cut(
    size: int,
    inline: bool,  # noqa: FBT001 - hypothesis passes it by position
) -> None:
    """TCP cuts where it likes; data may stand in the line or behind it."""
    start = event("audio-start", inline=inline, **FORMAT)
    data = b"".join([event("transcribe"), start, *chunks("ab c", 3001), STOP])
    size = max(size, len(data) // 400)
    said = talk(*(data[first : first + size] for first in range(0, len(data), size)))
    assert texts(said) == [expected("ab c")]


def test_chunks_come_while_audio_comes_and_add_up_to_the_transcript() -> None:
    """In the protocol's order, and the transcript itself for those who know no chunks."""
    said = talk(START, *chunks(SONG), STOP)
    kinds = [name for name, _ in said]
    assert kinds[0] == "transcript-start"
    assert set(kinds[1:-2]) == {"transcript-chunk"}
    assert kinds[-2:] == ["transcript", "transcript-stop"]
    assert "".join(texts(said, "transcript-chunk")) == texts(said)[0] == expected(SONG)
    early = talk(START, *chunks(SONG))
    assert "".join(texts(early, "transcript-chunk")) == "a b c"


def test_a_connection_carries_many_utterances_that_know_nothing_of_each_other() -> None:
    """Each is heard from its own beginning; nothing was said in the second."""
    said = talk(START, *chunks("ab"), STOP, START, STOP, *chunks("c"), STOP, STOP)
    assert texts(said) == ["a b", "", "c", ""]
    assert [name for name, _ in said].count("transcript-start") == 4


def test_info_tells_the_model_and_that_transcripts_stream() -> None:
    """What Home Assistant asks when the server is added."""
    ((kind, info),) = talk(event("describe"))
    assert kind == "info"
    (program,) = info["asr"]
    assert program["supports_transcript_streaming"] is True
    assert [model["name"] for model in program["models"]] == ["tones"]
    assert program["models"][0]["languages"] == ["en"]


def test_a_ping_is_answered_with_its_text() -> None:
    """Also without one."""
    assert talk(event("ping", text="x"), event("ping")) == [
        ("pong", {"text": "x"}),
        ("pong", {"text": None}),
    ]


def test_half_a_surrogate_pair_comes_back_like_any_text() -> None:
    """JSON can say it and UTF-8 cannot: the answer must not be the server's own failure."""
    assert talk(event("ping", text="\ud800")) == [("pong", {"text": "\ud800"})]


def test_unknown_events_are_ignored_with_their_payload() -> None:
    """As the protocol demands: a later version of the client must not break."""
    unknown = event("select-program", b"1234", name="x")
    assert texts(talk(unknown, START, unknown, *chunks("a"), STOP)) == ["a"]


def test_wishes_without_effect_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """There is no other place for them."""
    talk(event("transcribe", name="tones", language="en-GB"))
    assert caplog.messages == []
    wishes: dict[str, Any] = {
        "transcript_names": ["Zoe"],
        "transcript_terms": 1,
        "vad_sensitivity": None,
    }
    talk(event("transcribe", language="de", **wishes), START)
    assert caplog.messages == [
        "wyoming: transcribe asks in vain for 'language', 'transcript_terms'",
        "wyoming: transcribe asks in vain for 'options.phrases'",  # of a model without a language
    ]


@pytest.mark.parametrize(
    ("bad", "code", "named"),
    [
        (b"no json\n", "bad_message", "not JSON"),
        (b"\n", "bad_message", "not JSON"),
        (b"[]\n", "bad_message", "a list"),
        (b"\xff\n", "bad_message", "not JSON"),
        (b"{}\n", "bad_message", "type"),
        (b'{"type": 1}\n', "bad_message", "type"),
        (b'{"type": "x", "data": 1}\n', "bad_message", "data"),
        (b'{"type": "x", "data_length": 2}\n[]', "bad_message", "data"),
        (b'{"type": "x", "data_length": "2"}\n{}', "bad_message", "data_length"),
        (b'{"type": "x", "data_length": -1}\n', "bad_message", "data_length"),
        (b'{"type": "x", "data_length": %d}\n' % (DATA_BYTES + 1), "bad_message", "data_length"),
        (
            b'{"type": "x", "payload_length": %d}\n' % (PAYLOAD_BYTES + 1),
            "bad_message",
            "payload_length",
        ),
        (b"x" * LINE_BYTES, "bad_message", "line"),
        (event("audio-chunk", b"\0\0", rate=8000, width=2, channels=1), "bad_message", "another"),
        (event("audio-chunk", b"\0\0"), "bad_format", "rate"),
        (START, "out_of_order", "audio-stop"),
    ],
)
def test_what_is_no_event_ends_the_session_behind_the_words_before_it(
    bad: bytes, code: str, named: str
) -> None:
    """The published reader dies on some of these. Here the words come, then one clear error."""
    desk = Desk(Wyoming(hello()))
    said = read(desk.hear(b"".join([START, *chunks("a")]) + bad))
    assert "".join(texts(said, "transcript-chunk")) == "a"
    kind, data = said[-1]
    assert (kind, data["code"]) == ("error", code)
    assert named in data["text"]
    assert isinstance(desk.ended, Failed)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rate": 16_000.5}, "rate"),
        ({"rate": None}, "rate"),
        ({"rate": 96_000}, "rate"),
        ({"width": 4}, "width"),
        ({"width": True}, "width"),
        ({"channels": 2}, "channels"),
    ],
)
def test_audio_that_cannot_be_heard_is_refused_with_what_can(
    changes: dict[str, Any], named: str
) -> None:
    """It is not guessed."""
    ((kind, data),) = talk(event("audio-start", **(FORMAT | changes)))
    assert (kind, data["code"]) == ("error", "bad_format")
    assert data["text"].startswith(named)


def test_an_incomplete_event_waits_and_costs_no_more_than_it_may() -> None:
    """What the framing keeps is at most one event, however much is promised."""
    framing = Framing()
    header = b'{"type": "x", "data_length": %d, "payload_length": %d}\n'
    assert list(framing.take(header % (DATA_BYTES, PAYLOAD_BYTES))) == []
    body = json.dumps({"x": "y" * (DATA_BYTES - 9)}).encode()
    assert len(body) == DATA_BYTES
    assert list(framing.take(body + bytes(PAYLOAD_BYTES - 1))) == []
    (whole,) = framing.take(b"\0")
    assert len(whole.payload) == PAYLOAD_BYTES


kinds = st.sampled_from(
    ["describe", "ping", "transcribe", "audio-start", "audio-chunk", "audio-stop", "x"]
)
nearly = st.builds(
    lambda kind, data, payload: event(kind, payload, **data),
    kinds,
    objects("rate", "width", "channels", "text", "language") | st.just(FORMAT),
    st.binary(max_size=3000),
)
lines = objects("type", "data", "data_length", "payload_length").map(
    lambda fields: json.dumps(fields).encode() + b"\n"
)
events = nearly | lines | st.sampled_from([START, STOP]) | ANYTHING.map(json.dumps) | st.binary()


@given(st.lists(events, max_size=8))
@settings(max_examples=60)
def test_any_bytes_are_understood_or_refused_in_order(sent: list[bytes | str]) -> None:
    """The parser's law."""
    error = survives(Wyoming(hello()), sent)
    assert error is None or error.code in {"bad_message", "bad_format", "out_of_order"}


@contextlib.asynccontextmanager
async def speaking(**options: Any) -> AsyncIterator[tuple[Any, int]]:
    """A server, and the port where it speaks Wyoming."""
    async with serving(**options) as service:
        _, port = await service.server.speak_wyoming(listen("127.0.0.1", 0))
        yield service, port


@in_a_loop
async def test_the_real_client_is_served() -> None:
    """As Home Assistant does it: describe, transcribe, audio, and read until the transcript."""
    reason = "needs wyoming: pip install .[oracles]"
    package = pytest.importorskip("wyoming.client", reason=reason)
    asr = pytest.importorskip("wyoming.asr", reason=reason)
    audio = pytest.importorskip("wyoming.audio", reason=reason)
    info = pytest.importorskip("wyoming.info", reason=reason)
    data = to_s16le(sing(SONG))
    async with speaking() as (_, port), package.AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(info.Describe().event())
        told = info.Info.from_event(await client.read_event())
        assert told.asr[0].supports_transcript_streaming
        assert told.asr[0].models[0].languages == ["en"]
        for _ in range(2):
            await client.write_event(asr.Transcribe(language="en").event())
            await client.write_event(audio.AudioStart(**FORMAT).event())
            for first in range(0, len(data), 2048):
                chunk = audio.AudioChunk(**FORMAT, audio=data[first : first + 2048])
                await client.write_event(chunk.event())
            await client.write_event(audio.AudioStop().event())
            heard = [await client.read_event()]
            while not asr.TranscriptStop.is_type(heard[-1].type):
                heard.append(await client.read_event())
            added = [
                asr.TranscriptChunk.from_event(e).text
                for e in heard
                if asr.TranscriptChunk.is_type(e.type)
            ]
            assert asr.TranscriptStart.is_type(heard[0].type)
            assert asr.Transcript.from_event(heard[-2]).text == "".join(added) == expected(SONG)


@in_a_loop
async def test_who_is_too_many_is_told_so() -> None:
    """In the protocol's own words; a place is free again when a client has left."""
    async with speaking(limits=Limits(sessions=1)) as (service, port):
        _, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(event("ping"))
        await asyncio.wait_for(_.read(1), 10)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ((kind, data),) = read([await reader.read()])
        assert (kind, data["code"]) == ("error", "full")
        writer.close()
        first.close()
        while service.server.reception.places:  # noqa: ASYNC110 - every test is bounded
            await asyncio.sleep(0.002)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(event("ping"))
        assert await reader.readline()
        writer.close()


@in_a_loop
async def test_a_server_that_stops_tells_what_it_has_accepted() -> None:
    """The transcript of the open utterance, then the end of the connection."""
    network = ToneNetwork()
    async with speaking(listens=recognizer(network)) as (service, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join([START, *chunks("ab")]))
        heard = await reader.readuntil(b'{"text": "a"}')
        stopping = asyncio.create_task(service.server.stop())
        heard += await reader.read()
        await stopping
        writer.close()
    said = read([heard])
    assert texts(said)[0] == "".join(texts(said, "transcript-chunk"))
    assert texts(said)[0].startswith("a")


def test_the_command_speaks_wyoming_where_it_is_told_to() -> None:
    """Beside its own port; a dictation and an orderly end."""
    with serve("--wyoming-port", "0") as command:
        (port,) = re.findall(r"tcp://127\.0\.0\.1:(\d+) for Wyoming", "".join(command.said))
        with socket.create_connection(("127.0.0.1", int(port)), 60) as client:
            client.sendall(b"".join([START, *chunks("ab"), STOP]))
            client.shutdown(socket.SHUT_WR)
            heard = b""
            while b"transcript-stop" not in heard:
                heard += client.recv(65_536)
        command.process.terminate()
        assert command.end()[0] == 0
    assert texts(read([heard])) == ["a b"]
