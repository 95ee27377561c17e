"""Messages that nearly make sense, for every protocol of the server, from a seed.

A session is an address and what is sent on it: messages that a client of that protocol would send,
some of them spoiled: a value replaced, a field dropped, renamed or added, characters turned, cut,
doubled, nested, or all of it noise. The same number gives the same session, so what goes wrong can
be had again.
"""

from __future__ import annotations

import base64
import copy
import json
import random
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

Chance = random.Random
Message = str | bytes

SPOILED: Final = 0.3  # of the messages
LONGEST: Final = 12  # messages of a session
TOKEN: Final = "9nTqLrVx0mDcBz5Jk7WfYg2SvOaUhEi4RtPwCb8Nq1M"  # noqa: S105 - nobody's

SCALARS: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53, 2**64, -(2**63), 10**400, 0.5, 1e308, -0.0),
    *("", "0", "true", "start", "\0", "\ud800", "\u202e", "é", "😀" * 9, "x" * 500, "../../etc"),
    *([], {}, [[]], {"": {}}),
)
ENCODINGS: Final = ("s16le", "f32le", "mulaw", "alaw", "wav", "flac", "opus", "mp3", "")
RATES: Final = (8000, 16_000, 22_050, 44_100, 48_000, 7999, 48_001)


@dataclass(frozen=True, slots=True)
class Session:
    """What one client does.

    Attributes:
        protocol: what it is meant to be.
        path: with its query; empty for a plain connection.
        headers: of the request.
        messages: in order; bytes of a plain connection.
    """

    protocol: str
    path: str
    headers: tuple[str, ...]
    messages: tuple[Message, ...]


def session(seed: int, number: int, protocols: tuple[str, ...]) -> Session:
    """The session of that number.

    Args:
        seed: of all.
        number: from 0.
        protocols: names out of `PROTOCOLS`, one after the other.
    """
    chance = Chance(f"{seed} {number}")
    name = protocols[number % len(protocols)]
    path, headers, first, say = PROTOCOLS[name](chance)
    said: list[Any] = [first] if first is not None and chance.random() < 0.9 else []
    said += [say() for _ in range(chance.randrange(LONGEST))]
    write = _event if name == "wyoming" else _text
    messages = tuple(_written(chance, message, write) for message in said)
    return Session(name, path, headers, messages)


def _written(chance: Chance, message: Any, write: Callable[[Any], Message]) -> Message:
    """A message as it is sent: as it should be, or spoiled."""
    spoiled = chance.random() < SPOILED
    if isinstance(message, bytes):
        return _noise(chance, message) if spoiled else message
    if not spoiled:
        return write(message)
    if isinstance(message, dict) and chance.random() < 0.7:
        return write(_another(chance, message))
    written = write(message)
    return _garbled(chance, written) if isinstance(written, str) else _noise(chance, written)


def _text(message: Any) -> str:
    return message if isinstance(message, str) else json.dumps(message)


def _event(message: dict[str, Any]) -> bytes:
    """An event of Wyoming: a line, data and payload."""
    fields = dict(message)
    payload = fields.pop("payload", b"")
    payload = payload if isinstance(payload, bytes) else b""
    data = json.dumps(fields.pop("data", {}), default=repr).encode()
    header = {"data_length": len(data), "payload_length": len(payload)} | fields
    return json.dumps(header, default=repr).encode() + b"\n" + data + payload


# Spoiling


def _another(chance: Chance, message: dict[str, Any]) -> Any:
    """The message with something in it replaced, dropped, renamed or added."""
    made = copy.deepcopy(message)
    place = made
    while True:  # down to some depth
        inner = [value for value in place.values() if isinstance(value, dict) and value]
        if not inner or chance.random() < 0.4:
            break
        place = chance.choice(inner)
    key = chance.choice(list(place)) if place else ""
    match chance.randrange(6):
        case 0 | 1:
            place[key] = chance.choice(SCALARS)
        case 2:
            place.pop(key, None)
        case 3:
            place[chance.choice(("type", "options", "x" * 200, "", "\0"))] = place.pop(key, None)
        case 4:
            place[key] = [place.get(key)]
        case _:
            place.update({f"f{n}": chance.choice(SCALARS) for n in range(chance.randrange(50))})
    return made


def _garbled(chance: Chance, text: str) -> str:
    """The text with its characters turned, cut, doubled or nested."""
    at = chance.randrange(len(text) + 1)
    match chance.randrange(6):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + chr(chance.choice((0, 34, 92, 123, 0x2028, 0x10FFFF))) + text[at:]
        case 2:
            return text + text
        case 3:
            return "[" * chance.choice((10, 100_000)) + text
        case 4:
            return text.replace(":", chance.choice((": NaN", ":::", ": 1e999,", "")), 1)
        case _:
            return "".join(chr(chance.randrange(32, 0x2FF)) for _ in range(chance.randrange(200)))


def _noise(chance: Chance, data: bytes) -> bytes:
    """The bytes cut, lengthened, turned, or others."""
    at = chance.randrange(len(data) + 1)
    match chance.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data + b"\xff" * chance.randrange(4)
        case 2:
            turned = bytearray(data)
            for _ in range(min(len(data), 8)):
                turned[chance.randrange(len(data))] = chance.randrange(256)
            return bytes(turned)
        case _:
            return chance.randbytes(chance.randrange(3000))


# What clients say: path, headers, first message or None, and what makes the next one

Made = tuple[str, tuple[str, ...], Any, "Callable[[], Any]"]


def _audio(chance: Chance) -> bytes:
    """Up to 40 ms of something, in 16 bits or else."""
    count = 2 * chance.randrange(320)
    if chance.random() < 0.3:
        odd = (float("nan"), float("inf"), 3e38, 0.1)
        return struct.pack(f"<{count}f", *(chance.choice(odd) for _ in range(count)))
    return chance.randbytes(2 * count) if chance.random() < 0.7 else bytes(2 * count)


def _native(chance: Chance) -> Made:
    options = {
        "partials": True,
        "words": True,
        "endpoint_ms": chance.choice((480, 800, 60_000, 1)),
        "resume": chance.random() < 0.5,
        "phrases": ["ann lee", "x"] if chance.random() < 0.2 else [],
        "n_best": chance.choice((1, 1, 3)),
        "channels_apart": chance.random() < 0.1,
    }
    audio_format = {
        "encoding": chance.choice(ENCODINGS),
        "sample_rate": chance.choice(RATES),
        "channels": chance.choice((1, 1, 2, 8, 9)),
    }
    start = {"type": "start", "version": 1, "format": audio_format, "options": options}
    if chance.random() < 0.1:
        resume = {"token": TOKEN, "position": chance.choice((0, 10**9)), "segments": 1}
        start = {"type": "start", "version": 1, "resume": resume}

    def say() -> Any:
        return chance.choice(
            (
                _audio(chance),
                _audio(chance),
                {"type": "flush", "id": chance.choice((1, "a" * 128, "a" * 129))},
                {"type": "configure", "options": {"endpoint_ms": 900, "phrases": ["bob"]}},
                {"type": "ping", "id": 2**52},
                {"type": "ack", "segments": chance.choice((0, 1, 10**6))},
                {"type": "finish"},
            )
        )

    return "/v1/stream", (), start, say


def _deepgram(chance: Chance) -> Made:
    query = {
        "encoding": chance.choice(("linear16", "linear32", "mulaw", "alaw", "opus", "")),
        "sample_rate": chance.choice(RATES),
        "channels": chance.choice((1, 1, 2, 9)),
        "multichannel": chance.choice(("true", "false")),
        "interim_results": chance.choice(("true", "false", "maybe")),
        "endpointing": chance.choice(("true", "false", "300", "-1", "9" * 99)),
        "utterance_end_ms": chance.choice((1000, 999, 60_000)),
        "vad_events": "true",
        "keyterm": "ann lee",
        "language": chance.choice(("en", "de", "multi")),
        "\0é&=": "x" * 300,
    }
    kept = {name: value for name, value in query.items() if chance.random() < 0.6}
    kept |= {"encoding": "linear16", "sample_rate": 16_000} if chance.random() < 0.7 else {}
    pairs = "&".join(f"{quote(name)}={quote(str(value))}" for name, value in kept.items())

    def say() -> Any:
        kinds = ("KeepAlive", "Finalize", "CloseStream", "Configure")
        return chance.choice((_audio(chance), _audio(chance), {"type": chance.choice(kinds)}, b""))

    return f"/v1/listen?{pairs}", ("Authorization: Token none",), None, say


def _realtime(chance: Chance) -> Made:
    beta = chance.random() < 0.5
    turn = chance.choice((None, {"type": "server_vad", "silence_duration_ms": 500}))
    if beta:
        settings = {
            "input_audio_format": chance.choice(("pcm16", "g711_ulaw", "g711_alaw", "mp3")),
            "turn_detection": turn,
        }
        first: dict[str, Any] = {"type": "transcription_session.update", "session": settings}
    else:
        kind = chance.choice(("audio/pcm", "audio/pcmu", "audio/pcma", "audio/x"))
        audio = {"format": {"type": kind, "rate": 24_000}, "turn_detection": turn}
        session_ = {"type": "transcription", "audio": {"input": audio}}
        first = {"type": "session.update", "session": session_}

    def say() -> Any:
        appended = base64.b64encode(_audio(chance)).decode()
        kinds = ("input_audio_buffer.commit", "input_audio_buffer.clear", "response.create")
        return chance.choice(
            (
                {"type": "input_audio_buffer.append", "audio": appended},
                {"type": "input_audio_buffer.append", "audio": appended[:-3]},
                {"type": chance.choice(kinds), "event_id": "e" * chance.choice((1, 600))},
                first,
                _audio(chance),
            )
        )

    headers = ("OpenAI-Beta: realtime=v1",) if beta else ()
    return f"/v1/realtime?model={chance.choice(('m', '', '%ff'))}", headers, first, say


def _vosk(chance: Chance) -> Made:
    config = {
        "sample_rate": chance.choice((*RATES, "16000", "x", 16_000.5)),
        "words": chance.choice((1, 0, True, "true")),
        "partial_words": True,
        "max_alternatives": chance.choice((0, 1, 3, -1)),
        "phrase_list": ["ann", "lee"],
    }

    def say() -> Any:
        return chance.choice(
            (_audio(chance), _audio(chance), {"config": config}, {"reset": 1}, {"eof": 1})
        )

    return "/", (), {"config": config}, say


def _sherpa(chance: Chance) -> Made:
    def say() -> Any:
        return chance.choice((_audio(chance), _audio(chance), _audio(chance), "Done", "done"))

    return "/sherpa", (), None, say


def _wyoming(chance: Chance) -> Made:
    audio_format = {"rate": chance.choice(RATES), "width": 2, "channels": chance.choice((1, 1, 2))}
    terms = {"language": "en", "transcript_terms": ["ann lee"], "name": "m"}

    def say() -> Any:
        return chance.choice(
            (
                {"type": "audio-chunk", "data": audio_format, "payload": _audio(chance)},
                {"type": "audio-chunk", "data": audio_format, "payload": _audio(chance)},
                {"type": "audio-start", "data": audio_format},
                {"type": "audio-stop", "data": {"timestamp": None}},
                {"type": "transcribe", "data": terms},
                {"type": "describe"},
                {"type": "ping", "data": {"text": "x" * chance.choice((1, 60_000, 70_000))}},
                {"type": "ping", "data_length": chance.choice((0, 5, 2**40, -1))},
            )
        )

    return "", (), {"type": "describe"}, say


PROTOCOLS: Final[dict[str, Callable[[Chance], Made]]] = {
    "native": _native,
    "deepgram": _deepgram,
    "realtime": _realtime,
    "vosk": _vosk,
    "sherpa": _sherpa,
    "wyoming": _wyoming,
}
