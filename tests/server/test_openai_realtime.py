"""OpenAI's realtime transcription: both shapes, by themselves and under the real openai package."""

from __future__ import annotations

import asyncio
import base64
import json
import socket as sockets
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from asr import resampling
from asr.audio import from_s16le, to_s16le
from server.dialogue import Audio
from server.limits import Limits
from server.protocols.openai_realtime import APPEND_BYTES, OpenAIRealtime
from server.routes import ROUTES
from tests import tiny
from tests.asr.small_language import language
from tests.server.conversations import ANYTHING, Desk, hello, objects, survives
from tests.server.sockets import in_a_loop, serving, until
from tests.server.sounds import encode
from tests.server.tones import RATE, alone, sing

if TYPE_CHECKING:
    from collections.abc import Iterator

SONG = "ab c  d"
PCM_RATE = 24_000
COMMIT, CLEAR = ({"type": f"input_audio_buffer.{kind}"} for kind in ("commit", "clear"))
MANUAL = {"turn_detection": None}


def append(data: bytes) -> dict[str, Any]:
    """The event that carries audio."""
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}


def pcm(song: str, rate: int = PCM_RATE) -> bytes:
    """A song as the client has it."""
    return to_s16le(sing(song, rate))


def chunks(song: str, size: int = 4800) -> Iterator[dict[str, Any]]:
    """A song in events of so many bytes."""
    data = pcm(song)
    return (append(data[first : first + size]) for first in range(0, len(data), size))


def ga(**heard: Any) -> dict[str, Any]:
    """The GA shape's update."""
    session = {"type": "transcription", "audio": {"input": heard}}
    return {"type": "session.update", "session": session}


def beta(**session: Any) -> dict[str, Any]:
    """The beta shape's update."""
    return {"type": "transcription_session.update", "session": session}


def client(**headers: str) -> Desk:
    """A conversation; what it is told at the beginning is looked at elsewhere."""
    desk = Desk(OpenAIRealtime(hello(**headers)))
    desk.said.clear()
    return desk


def of(said: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The events whose type ends so."""
    return [event for event in said if event["type"].endswith(kind)]


def transcripts(said: list[dict[str, Any]]) -> list[str]:
    """What is complete."""
    return [event["transcript"] for event in of(said, "transcription.completed")]


def deltas(said: list[dict[str, Any]]) -> dict[str, str]:
    """What the deltas of each item say together."""
    told: dict[str, str] = {}
    for event in of(said, ".delta"):
        told[event["item_id"]] = told.get(event["item_id"], "") + event["delta"]
    return told


def expected(song: str) -> list[str]:
    """The segments that a recogniser at hand hears."""
    heard = resampling.resample(from_s16le(pcm(song)), PCM_RATE)
    return [final.text for final in alone(heard)]


@given(st.integers(1501, 40_000))
@settings(max_examples=6)
def test_items_are_the_segments_of_the_recogniser_and_their_deltas_joined(size: int) -> None:
    """However the bytes are cut; half samples included. A delta is never taken back."""
    said = client().answers(*chunks(SONG + "  ", size))
    assert transcripts(said) == expected(SONG)
    completed = {e["item_id"]: e["transcript"] for e in of(said, "transcription.completed")}
    assert deltas(said) == completed


def test_an_item_is_told_in_the_services_order() -> None:
    """Clients key everything by the item, and wait for `committed` before its transcript."""
    said = client().answers(*chunks("ab  c  "))
    kinds = [event["type"].removeprefix("conversation.item.") for event in said]
    one = [
        "input_audio_buffer.speech_started",
        "input_audio_transcription.delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "created",
        "added",
        "done",
        "input_audio_transcription.completed",
    ]
    merged = [k for n, k in enumerate(kinds) if k != kinds[n - 1] or "delta" not in k]
    assert merged == one * 2
    first, second = (event["item_id"] for event in of(said, "committed"))
    assert [event["previous_item_id"] for event in of(said, "committed")] == [None, first]
    assert {event.get("item_id") for event in said[-4:]} <= {second, None}
    assert len({event["event_id"] for event in said}) == len(said)


def test_times_are_milliseconds_of_all_audio_that_was_sent() -> None:
    """Also behind a commit and a clear: the speech starts 300 ms before its first word."""
    desk = client()
    desk.answers(*chunks("a  "), CLEAR)
    before = len(pcm("a  ")) // 2 * 1000 // PCM_RATE
    said = desk.answers(*chunks(" b  "))
    word = alone(resampling.resample(from_s16le(pcm(" b  ")), PCM_RATE))[0]
    (started,), (stopped,) = of(said, "speech_started"), of(said, "speech_stopped")
    assert started["audio_start_ms"] == pytest.approx(
        before + word.start * 1000 // RATE - 300, abs=1
    )
    assert stopped["audio_end_ms"] > before + word.end * 1000 // RATE


def test_usage_is_the_seconds_of_audio() -> None:
    """Of all items together: what was sent, to the sample."""
    desk = client()
    desk.answers(ga(**MANUAL))
    said = desk.answers(*chunks("ab"), COMMIT, *chunks("c"), COMMIT)
    used = [event["usage"] for event in of(said, "transcription.completed")]
    assert [usage["type"] for usage in used] == ["duration"] * 2
    assert used[0]["seconds"] == pytest.approx(len(pcm("ab")) / 2 / PCM_RATE, abs=1e-6)


def test_without_turn_detection_the_client_commits() -> None:
    """One item a commit, pauses or not, each heard by itself; nothing tells of speech."""
    desk = client()
    desk.answers(ga(**MANUAL))
    said = desk.answers(*chunks(SONG), COMMIT, *chunks(" "), COMMIT, *chunks("b"), COMMIT)
    assert transcripts(said) == ["a b c d", "", "b"]
    assert of(said, "speech_started") == of(said, "speech_stopped") == []
    assert "".join(deltas(said).values()) == "a b c db"
    assert len(of(said, "committed")) == 3


def test_a_commit_with_turn_detection_completes_what_is_open() -> None:
    """A client may hurry; silence that is committed is an item without words."""
    said = client().answers(*chunks("ab"), COMMIT, *chunks(" "), COMMIT)
    assert transcripts(said) == ["a b", ""]


def test_an_empty_buffer_cannot_be_committed_and_can_be_cleared() -> None:
    """The error names it as the service does; the session goes on."""
    desk = client()
    (error,) = desk.answers({**COMMIT, "event_id": "mine"})
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"
    assert error["error"]["event_id"] == "mine"
    assert [event["type"] for event in desk.answers(CLEAR)] == ["input_audio_buffer.cleared"]
    said = desk.answers(*chunks("a"), COMMIT, COMMIT)
    assert transcripts(said) == ["a"]
    assert said[-1]["type"] == "error"


def test_what_is_cleared_is_never_heard_of_again() -> None:
    """And what comes next does not remember it."""
    desk = client()
    desk.answers(ga(**MANUAL))
    said = desk.answers(*chunks("ab"), CLEAR, *chunks("c"), COMMIT)
    assert transcripts(said) == ["c"]


@pytest.mark.parametrize(
    ("update", "created", "updated"),
    [
        (ga(), "session.created", "session.updated"),
        (beta(), "transcription_session.created", "transcription_session.updated"),
    ],
)
def test_the_shape_is_chosen_by_the_header_or_by_the_message(
    update: dict[str, Any], created: str, updated: str
) -> None:
    """A client of either kind, with or without the header, is answered in its own shape."""
    headers = {"OpenAI_Beta": "realtime=v1"} if "transcription" in updated else {}
    desk = Desk(OpenAIRealtime(hello(**headers)))
    (first,) = (json.loads(message) for message in desk.said)
    assert first["type"] == created
    for other in (desk, client()):
        (answer,) = other.answers(update)
        assert answer["type"] == updated
        assert answer["session"]["object"] == "realtime.transcription_session"
        assert ("input_audio_format" in answer["session"]) is ("transcription" in updated)


def test_the_session_tells_what_holds_not_what_was_asked_for() -> None:
    """And what was asked for in vain is named."""
    (answer,) = client().answers(
        ga(
            format={"type": "audio/pcm", "rate": PCM_RATE},
            transcription={"model": "gpt-4o-transcribe", "language": "de", "prompt": "names"},
            turn_detection={"type": "server_vad", "silence_duration_ms": 200, "threshold": 0.9},
            noise_reduction={"type": "near_field"},
        )
    )
    heard = answer["session"]["audio"]["input"]
    assert heard == {
        "format": {"type": "audio/pcm", "rate": PCM_RATE},
        "transcription": {"model": "tones", "language": "en", "prompt": ""},
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 480,
        },
        "noise_reduction": None,
    }
    assert set(answer["unsupported"]) == {
        f"audio.input.{name}"
        for name in (
            "transcription.language",
            "transcription.prompt",
            "turn_detection.threshold",
            "turn_detection.silence_duration_ms",
            "noise_reduction",
        )
    }


def test_the_beta_session_is_told_likewise() -> None:
    """`model` in the address and in the session is tolerated; semantic detection is not there."""
    (answer,) = client(OpenAI_Beta="realtime=v1").answers(
        beta(
            input_audio_format="pcm16",
            input_audio_transcription={"model": "whisper-1", "language": "en"},
            turn_detection={"type": "semantic_vad", "eagerness": "low"},
            input_audio_noise_reduction=None,
        )
    )
    session = answer["session"]
    assert session["input_audio_format"] == "pcm16"
    assert session["input_audio_transcription"]["model"] == "tones"
    assert session["turn_detection"]["silence_duration_ms"] == 800
    assert answer["unsupported"] == ["turn_detection.semantic_vad"]


def test_keywords_are_expected_where_the_model_can() -> None:
    """Those that it cannot are told when the audio begins, once, and do not hold in the session."""
    known = next(filter(tiny.searching().knows, language(3, words=30, phones=9, longest=2).words))
    desk = Desk(OpenAIRealtime(hello()), tiny.recognizer("plain", "beam"))
    desk.said.clear()
    wanted = ga(transcription={"keywords": [known.upper(), "Qwxyz"]}, **MANUAL)
    (first,) = desk.answers(wanted)
    assert first["session"]["audio"]["input"]["transcription"]["keywords"] == [
        known.upper(), "Qwxyz"
    ]  # fmt: skip
    (told,) = of(desk.answers(*chunks("a", 10**6), COMMIT), ".updated")
    assert told["unsupported"] == ["audio.input.transcription.keywords[1]"]
    assert told["session"]["audio"]["input"]["transcription"]["keywords"] == [known.upper()]
    assert of(desk.answers(*chunks("a", 10**6)), ".updated") == []
    said = desk.answers(ga(transcription={"keywords": ["Qwxyz", known]}), CLEAR, *chunks("a"))
    assert [told.get("unsupported") for told in of(said, ".updated")] == [
        None, ["audio.input.transcription.keywords[0]"]
    ]  # fmt: skip


def test_a_model_without_a_language_expects_no_keywords() -> None:
    """All of them are named, in the beta shape, too."""
    desk = client(OpenAI_Beta="realtime=v1")
    desk.answers(beta(input_audio_transcription={"keywords": ["one", "two"]}))
    (told,) = of(desk.answers(*chunks("a", 10**6)), ".updated")
    names = [f"input_audio_transcription.keywords[{n}]" for n in (0, 1)]
    assert (told["type"], told["unsupported"]) == ("transcription_session.updated", names)
    assert "keywords" not in told["session"]["input_audio_transcription"]


def test_the_pause_can_be_changed_in_mid_stream() -> None:
    """From there on items are cut otherwise; the words are the same."""
    desk = client()
    desk.answers(ga(turn_detection={"type": "server_vad", "silence_duration_ms": 60_000}))
    said = desk.answers(*chunks("a b"))
    said += desk.answers(ga(turn_detection={"type": "server_vad"}), *chunks("  "))
    assert transcripts(said) == ["a b"]


@pytest.mark.parametrize(
    ("update", "encoding"),
    [
        (ga(format={"type": "audio/pcmu"}, **MANUAL), "mulaw"),
        (ga(format={"type": "audio/pcma"}, **MANUAL), "alaw"),
        (beta(input_audio_format="g711_ulaw", **MANUAL), "mulaw"),
        (beta(input_audio_format="g711_alaw", **MANUAL), "alaw"),
    ],
)
def test_audio_of_telephones_is_heard(update: dict[str, Any], encoding: str) -> None:
    """G.711 at 8 kHz, and the session says so."""
    desk = client()
    (answer,) = desk.answers(update)
    told = answer["session"]
    told = told.get("input_audio_format") or told["audio"]["input"]["format"]
    asked = update["session"]
    assert told == (asked.get("input_audio_format") or asked["audio"]["input"]["format"])
    data = encode(sing("ab", 8000)[:, None], 8000, encoding)
    assert transcripts(desk.answers(append(data), COMMIT)) == ["a b"]


def test_the_format_cannot_change_under_audio() -> None:
    """What is in the buffer would be read wrongly; behind a commit it can."""
    desk = client()
    other = ga(format={"type": "audio/pcm", "rate": 16_000}, **MANUAL)
    desk.answers(ga(**MANUAL), *chunks("a"))
    assert desk.answers(other)[0]["error"]["code"] == "invalid_state"
    desk.answers(COMMIT)
    assert desk.answers(other)[0]["type"] == "session.updated"
    said = desk.answers(append(pcm("b", 16_000)), COMMIT)
    assert transcripts(said) == ["b"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\0\0", "invalid_value"),
        ("nonsense", "invalid_json"),
        ("[]", "invalid_json"),
        ("{}", "unknown_event"),
        ({"type": "response.create"}, "unknown_event"),
        ({"type": ["x"]}, "unknown_event"),
        ({"type": "input_audio_buffer.append"}, "invalid_value"),
        ({"type": "input_audio_buffer.append", "audio": "%"}, "invalid_value"),
        ({"type": "input_audio_buffer.append", "audio": "é"}, "invalid_value"),
        ({"type": "session.update"}, "invalid_value"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "invalid_value"),
        (ga(format={"type": "audio/mp3"}), "invalid_value"),
        (ga(format={"type": "audio/pcm", "rate": 16_000.5}), "invalid_value"),
        (ga(turn_detection={"type": "guess"}), "invalid_value"),
        (ga(turn_detection={"type": "server_vad", "silence_duration_ms": "1"}), "invalid_value"),
        (ga(transcription="yes"), "invalid_value"),
        (ga(transcription={"keywords": "yes"}), "invalid_value"),
        (ga(transcription={"keywords": [""]}), "invalid_value"),
        (ga(transcription={"keywords": ["x " * 50] * 21}), "invalid_value"),
        (beta(input_audio_format="mp3"), "invalid_value"),
    ],
)
def test_an_event_that_cannot_be_obeyed_is_answered_and_the_session_goes_on(
    message: Any, code: str
) -> None:
    """In the service's shape of errors."""
    desk = client()
    (answer,) = desk.answers(message)
    assert answer["type"] == "error"
    assert set(answer["error"]) == {"type", "code", "message", "param", "event_id"}
    assert (answer["error"]["type"], answer["error"]["code"]) == ("invalid_request_error", code)
    assert transcripts(desk.answers(*chunks("a"), COMMIT)) == ["a"]


kinds = st.sampled_from(
    ["session.update", "transcription_session.update"]
    + [f"input_audio_buffer.{kind}" for kind in ("append", "commit", "clear")]
)
session = objects(
    "type", "audio", "input_audio_format", "turn_detection", "input_audio_transcription", "include"
)
heard = objects("format", "turn_detection", "transcription", "noise_reduction", "type", "rate")
typed = st.builds(
    lambda kind, session, heard, audio, rest: json.dumps(
        {"type": kind, "session": session | {"audio": {"input": heard}}, "audio": audio, **rest}
    ),
    kinds,
    session,
    heard,
    st.binary(max_size=3000).map(lambda data: base64.b64encode(data).decode()) | st.text(),
    objects("event_id", "session", "audio"),
)


@given(
    st.lists(
        st.binary()
        | st.text()
        | ANYTHING.map(json.dumps)
        | typed
        | kinds.map(lambda kind: json.dumps({"type": kind})),
        max_size=8,
    )
)
@settings(max_examples=40)
def test_any_messages_leave_the_session_open(sent: list[bytes | str]) -> None:
    """The parser's law: nothing that a client sends ends its session, or does anything else."""
    assert survives(OpenAIRealtime(hello()), sent) is None


def test_an_append_of_fifteen_mebibytes_is_taken_and_not_a_byte_more() -> None:
    """20 MiB of base64 in one message, as the service allows."""
    for size, taken in ((APPEND_BYTES, True), (APPEND_BYTES + 1, False)):
        message = json.dumps(append(bytes(size)))
        assert len(message) <= (ROUTES["/v1/realtime"].message_bytes or 0)
        commands = OpenAIRealtime(hello()).receive(message)
        assert isinstance(commands[-1], Audio) is taken


@in_a_loop
async def test_a_message_beyond_the_servers_own_bound_is_taken() -> None:
    """Other paths close it with 1009."""
    data = pcm("a") + bytes(2**20 - len(pcm("a")))
    message = json.dumps(append(data))
    assert len(message) > Limits().message_bytes
    address = "/v1/realtime?intent=transcription"
    async with serving() as service, connect(f"ws://127.0.0.1:{service.port}{address}") as socket:
        await socket.send(message)
        await socket.send(json.dumps(COMMIT))
        said = [json.loads(await socket.recv())]
        while len(of(said, "transcription.completed")) < 2:
            said.append(json.loads(await socket.recv()))
    assert transcripts(said) == ["a", ""]


@in_a_loop
async def test_who_reads_nothing_is_not_read_from() -> None:
    """Answers that nobody takes do not pile up: the session waits, then goes on."""
    limits = Limits(unread_messages=4, write_seconds=60)
    async with serving(limits=limits) as service:
        address = f"ws://127.0.0.1:{service.port}/v1/realtime"
        async with connect(address, max_queue=1) as socket:
            (session,) = service.server.sessions
            (place,) = service.server.reception.places
            for transport, buffer, size in (  # far less fits on the way than is sent, and answered
                (socket.transport, sockets.SO_SNDBUF, 2**18),
                (place.transport, sockets.SO_RCVBUF, 2**18),
                (place.transport, sockets.SO_SNDBUF, 2**12),
                (socket.transport, sockets.SO_RCVBUF, 2**12),
            ):
                connected = transport.get_extra_info("socket")
                connected.setsockopt(sockets.SOL_SOCKET, buffer, size)
            nonsense = json.dumps({"type": "x" * 9000})
            sending = asyncio.create_task(flood(socket, nonsense, 200))
            await until(lambda: len(session.outbox) > limits.unread_messages)
            most = 0
            for _ in range(201):
                json.loads(await socket.recv())
                most = max(most, len(session.outbox))
            await sending
    assert most <= limits.unread_messages + 1


async def flood(socket: Any, message: str, times: int) -> None:
    """Send a message again and again, without reading."""
    for _ in range(times):
        await socket.send(message)


def sdk(port: int) -> Any:
    """The real openai client, which takes our server for the service."""
    package = pytest.importorskip("openai", reason="needs openai: pip install .[oracles]")
    return package.AsyncOpenAI(
        api_key="secret",
        base_url=f"http://127.0.0.1:{port}/v1",
        websocket_base_url=f"ws://127.0.0.1:{port}/v1",
    )


async def dictate(connection: Any) -> list[Any]:
    """Send a song, commit, and read until its last word is complete."""
    data = pcm(SONG)
    for first in range(0, len(data), 4800):
        audio = base64.b64encode(data[first : first + 4800]).decode()
        await connection.input_audio_buffer.append(audio=audio)
    await connection.input_audio_buffer.commit()
    heard = []
    async for event in connection:
        heard.append(event)
        if event.type.endswith("completed") and event.transcript == "d":
            break
    return heard


def check_sdk(heard: list[Any]) -> None:
    """What the package made of our events: classes of its own, with all that they must have."""
    assert "Unknown" not in {type(event).__name__ for event in heard}
    complete = [event for event in heard if event.type.endswith("transcription.completed")]
    assert [event.transcript for event in complete] == expected(SONG)
    assert {type(event).__name__ for event in complete} == {
        "ConversationItemInputAudioTranscriptionCompletedEvent"
    }
    assert {event.usage.type for event in complete} == {"duration"}
    for event in complete:
        told = [e.delta for e in heard if e.type.endswith(".delta") and e.item_id == event.item_id]
        assert "".join(told) == event.transcript


@in_a_loop
async def test_the_real_client_is_served_in_the_ga_shape() -> None:
    """`client.realtime`, as its documentation has it for transcription."""
    async with serving() as service:
        query = {"intent": "transcription"}
        async with sdk(service.port).realtime.connect(extra_query=query) as connection:
            assert (await connection.recv()).type == "session.created"
            await connection.session.update(
                session={
                    "type": "transcription",
                    "audio": {
                        "input": {
                            "format": {"type": "audio/pcm", "rate": PCM_RATE},
                            "transcription": {
                                "model": "gpt-transcribe",
                                "language": "en",
                                "prompt": "about letters",
                                "keywords": ["a b"],
                            },
                            "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
                        }
                    },
                }
            )
            updated = await connection.recv()
            assert updated.session.audio.input.transcription.model == "tones"
            assert updated.unsupported == ["audio.input.transcription.prompt"]
            heard = await dictate(connection)
            (told,) = [event for event in heard if event.type == "session.updated"]
            assert told.unsupported == ["audio.input.transcription.keywords[0]"]
            check_sdk(heard)


@in_a_loop
async def test_the_real_client_is_served_in_the_beta_shape() -> None:
    """`client.beta.realtime`, which always sends a model, and the header of the beta."""
    async with serving() as service:
        manager = sdk(service.port).beta.realtime.connect(
            model="gpt-4o-transcribe", extra_query={"intent": "transcription"}
        )
        async with manager as connection:
            assert (await connection.recv()).type == "transcription_session.created"
            await connection.transcription_session.update(
                session={
                    "input_audio_format": "pcm16",
                    "input_audio_transcription": {"model": "gpt-4o-transcribe"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
                }
            )
            updated = await connection.recv()
            assert updated.type == "transcription_session.updated"
            check_sdk(await dictate(connection))
