"""The native protocol without a socket: what every message means, and that none can break it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.conversation import Conversation
from asr.errors import ProtocolError
from asr.state import Options
from asr.transcript import Final, Partial, Word
from server.dialogue import (
    Audio,
    AudioFormat,
    Configure,
    Configured,
    Done,
    Failed,
    Finish,
    Flush,
    Flushed,
    Heard,
    ModelInfo,
    Ping,
    Pong,
    Ready,
    Reply,
    SlowDown,
    Start,
)
from server.native import Native

START = {
    "type": "start",
    "version": 1,
    "format": {"encoding": "s16le", "sample_rate": 16000, "channels": 1},
}


def started(**changes: object) -> Native:
    """A conversation behind its start."""
    native = Native()
    native.receive(json.dumps(START | changes))
    return native


def refused(native: Native, message: bytes | str | dict[str, object]) -> ProtocolError:
    """The error that the message meets."""
    if isinstance(message, dict):
        message = json.dumps(message)
    with pytest.raises(ProtocolError) as caught:
        native.receive(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return caught.value


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(
    st.sampled_from(["version", "format", "options", "id", "resume", "x"]), anything
)
nearly = st.builds(
    lambda kind, rest: json.dumps({"type": kind, **rest}),
    st.sampled_from(["start", "flush", "configure", "ping", "finish", "stop", ""]),
    fields,
)
nearly_start = st.builds(
    lambda part, rest: json.dumps(START | {part: rest}),
    st.sampled_from(["format", "options", "version"]),
    st.dictionaries(
        st.sampled_from(
            ["encoding", "sample_rate", "channels", "endpoint_ms", "partials", "n_best"]
        ),
        anything,
    ),
)
messages = st.binary(max_size=9) | st.text() | anything.map(json.dumps) | nearly | nearly_start


@given(st.lists(messages, max_size=6), st.booleans())
def test_any_messages_yield_commands_or_a_protocol_error(
    sent: list[bytes | str],
    properly_started: bool,  # noqa: FBT001 - hypothesis passes it by position
) -> None:
    """The parser's law: nothing that a client sends can do anything else to the server."""
    native = started() if properly_started else Native()
    outcome = outcome_of(native, sent)
    if outcome is not None:
        assert outcome.close_code in {1003, 1007, 1008}
        assert json.loads(native.encode(Failed(outcome), 0.0))["code"] == outcome.code


def outcome_of(native: Native, sent: list[bytes | str]) -> ProtocolError | None:
    """The error that the first wrong message meets, or None if all are right."""
    try:
        for message in sent:
            assert len(native.receive(message)) <= 1
    except ProtocolError as error:
        return error
    return None


words = st.builds(
    Word,
    st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=5),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.floats(0, 1),
)
events = st.builds(
    Partial, st.integers(0, 99), st.text(), st.text(), st.integers(0, 2**40)
) | st.builds(
    Final,
    st.integers(0, 99),
    st.lists(words, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["endpoint", "length", "finish"]),
    st.integers(0, 2**40),
)


@given(events)
def test_what_the_server_writes_is_what_our_client_reads(event: Partial | Final) -> None:
    """Server and client know the same protocol: an event survives the way, whatever its text."""
    conversation = Conversation(16000, Options())
    assert conversation.receive(started().encode(Heard(event, 1.0), 1.5)) == event


def test_start_with_everything_becomes_a_start_command() -> None:
    """Every option of the protocol arrives."""
    message = START | {
        "format": {"encoding": "f32le", "sample_rate": 44101, "channels": 2},
        "options": {
            "partials": False,
            "words": True,
            "endpoint_ms": 500,
            "phrases": ["  New\tYork ", "hello"],
            "n_best": 3,
            "channels_apart": True,
            "resume": True,
        },
    }
    said = json.dumps(message)
    (command,) = Native().receive(said)
    audio_format = AudioFormat("f32le", 44101, 2, channels_apart=True)
    assert command == Start(
        audio_format,
        partials=False,
        endpoint_ms=500,
        phrases=("new york", "hello"),
        n_best=3,
        message=said,
        resumes=True,
    )


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({"encoding": "mulaw", "sample_rate": 8000}, AudioFormat("mulaw", 8000, 1)),
        ({"encoding": "wav"}, AudioFormat("wav", 0, 0)),
        ({"encoding": "flac", "sample_rate": 44100}, AudioFormat("flac", 44100, 0)),
        ({"encoding": "ogg-opus", "channels": 2}, AudioFormat("ogg-opus", 0, 2)),
    ],
)
def test_what_a_header_says_need_not_be_announced(
    described: dict[str, object], expected: AudioFormat
) -> None:
    """And what is announced is checked when it comes."""
    (command,) = Native().receive(json.dumps(START | {"format": described}))
    assert isinstance(command, Start)
    assert command.format == expected


def test_channels_apart_must_be_counted_before_they_come() -> None:
    """Each has a stream of its own from the beginning."""
    changes = {"format": {"encoding": "wav"}, "options": {"channels_apart": True}}
    assert "say how many" in str(refused(Native(), START | changes))


def test_what_start_asks_for_in_vain_is_named_back() -> None:
    """No option is ignored in silence; a value that asks for nothing is no request."""
    options = {"n_best": 1, "colour": "red"}
    message = START | {"options": options, "lang": "en"}
    (command,) = Native().receive(json.dumps(message))
    assert isinstance(command, Start)
    assert command.unsupported == ("options.colour", "lang")


@pytest.mark.parametrize(
    ("message", "command"),
    [
        (b"\0\0\1\0", Audio(b"\0\0\1\0")),
        (b"", Audio(b"")),
        ('{"type":"flush","id":1}', Flush(1)),
        ('{"type":"flush"}', Flush(None)),
        ('{"type":"ping","id":"x"}', Ping("x")),
        ('{"type":"configure","options":{"endpoint_ms":900}}', Configure(900)),
        (
            '{"type":"configure","options":{"words":false}}',
            Configure(None, ("options.words",)),
        ),
        ('{"type":"finish"}', Finish()),
    ],
)
def test_each_message_becomes_its_command(message: bytes | str, command: object) -> None:
    """The middle of a session, message by message."""
    assert started().receive(message) == [command]


def test_nothing_is_heard_after_finish() -> None:
    """A client that goes on talking cannot take back the finals it is waiting for."""
    native = started()
    native.receive('{"type":"finish"}')
    assert native.receive(b"\0") == []
    assert native.receive("nonsense") == []


@pytest.mark.parametrize(
    ("format_changes", "named"),
    [
        ({"encoding": "mp3"}, "s16le or f32le"),
        ({"encoding": None}, "s16le or f32le"),
        ({"sample_rate": 7999}, "8000 to 48000"),
        ({"sample_rate": 48001}, "8000 to 48000"),
        ({"sample_rate": 16000.0}, "8000 to 48000"),
        ({"sample_rate": "16000"}, "8000 to 48000"),
        ({"channels": 9}, "1 to 8"),
        ({"channels": 0}, "1 to 8"),
        ({"channels": True}, "1 to 8"),
        ({"encoding": "flac", "sample_rate": 7999}, "8000 to 48000"),
        ({"encoding": "flac", "channels": -1}, "1 to 8"),
    ],
)
def test_a_format_that_cannot_be_heard_is_refused_with_what_can(
    format_changes: dict[str, object], named: str
) -> None:
    """Wrong rate, encoding or channels: never guessed."""
    message = START | {"format": START["format"] | format_changes}  # type: ignore[operator]
    error = refused(Native(), message)
    assert (error.code, error.close_code) == ("bad_format", 1003)
    assert named in str(error)


@pytest.mark.parametrize(
    ("message", "code", "close_code"),
    [
        ("no json", "bad_message", 1007),
        ("[1]", "bad_message", 1007),
        ('{"type":NaN}', "bad_message", 1007),
        ("[" * 100_000, "bad_message", 1007),
        ('{"type":"ping","id":' + "9" * 5000 + "}", "bad_message", 1007),
        ('{"id":1}', "bad_message", 1007),
        ('{"type":7}', "bad_message", 1007),
        ('{"type":"ping","id":{}}', "bad_message", 1007),
        ('{"type":"flush","id":true}', "bad_message", 1007),
        ('{"type":"flush","id":"' + "x" * 129 + '"}', "bad_message", 1007),
        ('{"type":"configure","options":{"endpoint_ms":479}}', "bad_message", 1007),
        ('{"type":"configure","options":[]}', "bad_message", 1007),
        ('{"type":"launch"}', "unknown_type", 1003),
        (json.dumps(START), "out_of_order", 1008),
        (b"\0\0\0", "bad_payload", 1007),
    ],
)
def test_a_message_that_makes_no_sense_is_refused(
    message: bytes | str, code: str, close_code: int
) -> None:
    """One clear line, a code for programs, and the close code of docs/protocol.md."""
    error = refused(started(), message)
    assert (error.code, error.close_code) == (code, close_code)


@pytest.mark.parametrize("message", [b"\0\0", '{"type":"flush"}', '{"type":"finish"}'])
def test_nothing_may_come_before_start(message: bytes | str) -> None:
    """Audio of unknown format is not interpreted."""
    error = refused(Native(), message)
    assert error.code == "out_of_order"
    assert "start" in str(error)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 2}, "bad_version"),
        ({"version": None}, "bad_version"),
        ({"version": True}, "bad_version"),
        ({"options": {"words": 1}}, "bad_message"),
        ({"options": {"endpoint_ms": 800.0}}, "bad_message"),
        ({"format": "s16le"}, "bad_message"),
        ({"format": {}}, "bad_format"),
    ],
)
def test_a_start_that_cannot_be_met_is_refused(changes: dict[str, object], code: str) -> None:
    """A session begins as asked for, or not at all."""
    assert refused(Native(), START | changes).code == code


def test_words_are_left_out_where_they_are_not_wanted() -> None:
    """`words: false` saves the bytes; text and times of the segment remain."""
    final = Final(0, (Word("hello", 0, 640, 0.5),), "finish", 640)
    lean = started(options={"words": False})
    assert "words" not in json.loads(lean.encode(Heard(final, 0.0), 0.0))
    assert json.loads(lean.encode(Heard(final, 0.0), 0.0))["text"] == "hello"
    assert "words" not in json.loads(lean.encode(Flushed(1, final.words, 640), 0.0))


def test_every_reply_has_the_fields_of_the_protocol() -> None:
    """One message a reply, as docs/protocol.md shows them."""
    native = started()
    word = Word("hello", 640, 1280, 0.87654)
    replies: dict[Reply, dict[str, object]] = {
        Ready(8000, ModelInfo("english", "1f", 80, 160), ("lang",), "t0", resumable=True): {
            "type": "ready",
            "version": 1,
            "position": 8000,
            "token": "t0",
            "resumable": True,
            "model": {"name": "english", "id": "1f"},
            "latency": {"block_ms": 80, "look_ahead_ms": 160},
            "unsupported": ["lang"],
        },
        Heard(Partial(1, "a b", "c", 4080), 10.0): {
            "type": "partial",
            "segment": 1,
            "stable": "a b",
            "tentative": "c",
            "position": 4080,
            "latency_ms": 12.3,
        },
        Heard(Partial(1, "a b", "c", 4080), 10.0, (), 3): {
            "type": "partial",
            "channel": 3,
            "segment": 1,
            "stable": "a b",
            "tentative": "c",
            "position": 4080,
            "latency_ms": 12.3,
        },
        Flushed(7, (word,), 1280, None, 10.0): {
            "type": "flushed",
            "id": 7,
            "text": "hello",
            "words": [{"word": "hello", "start": 640, "end": 1280, "confidence": 0.87654}],
            "position": 1280,
            "latency_ms": 12.3,
        },
        Configured((), 640, 10.0): {
            "type": "configured",
            "unsupported": [],
            "position": 640,
            "latency_ms": 12.3,
        },
        Pong("x", 640, 10.0): {"type": "pong", "id": "x", "position": 640, "latency_ms": 12.3},
        SlowDown(2500): {"type": "slow_down", "backlog_ms": 2500},
        Done(24_000, 16_000, 3, 10.0): {
            "type": "done",
            "position": 24_000,
            "duration_s": 1.5,
            "repaired": 3,
            "latency_ms": 12.3,
        },
        Failed(ProtocolError("what", "bad_format", 1003)): {
            "type": "error",
            "code": "bad_format",
            "message": "what",
            "fatal": True,
        },
    }
    for reply, expected in replies.items():
        assert json.loads(native.encode(reply, 10.0123)) == expected
