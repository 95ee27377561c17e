"""The native protocol, version 1, without I/O: `docs/protocol.md` says the same for people.

Text messages are JSON objects with a `type`; binary messages are audio.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

from asr.errors import ProtocolError
from asr.state import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS
from asr.transcript import Event, Partial, Word
from server.dialogue import (
    Acknowledge,
    Audio,
    AudioFormat,
    Command,
    Configure,
    Configured,
    Done,
    Failed,
    Finish,
    Flush,
    Flushed,
    Heard,
    MessageId,
    Ping,
    Pong,
    Ready,
    Reply,
    Resume,
    Saved,
    SlowDown,
    Start,
)

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION: Final = 1
ENCODINGS: Final = ("s16le", "f32le")
MIN_RATE: Final = 8000
MAX_RATE: Final = 48000
# Every rate of real devices is a multiple of 25. An odd one, such as 47,999 Hz, needs a filter for
# each of a thousand phases: 20 times the work of everything else, at everybody's cost.
RATE_STEP: Final = 25
MAX_ID: Final = 128  # characters of an id, which is kept until it is answered
MAX_NAMES: Final = 32  # unsupported fields that are named back
MAX_TOKEN: Final = 128  # characters of a token; ours have 43
MAX_START: Final = 65_536  # characters of a start that can be resumed: each snapshot carries it

Fields = dict[str, Any]

# Values that ask for nothing beyond what is done anyway; any other is named in `unsupported`.
_NEUTRAL: Final[Fields] = {"phrases": [], "n_best": 1}


class Native:
    """One client's conversation in the native protocol."""

    def __init__(self) -> None:
        self._format: AudioFormat | None = None
        self._words = True
        self._finished = False

    def opening(self) -> list[Command]:
        """Nothing: the client speaks first."""
        return []

    def receive(self, message: bytes | str) -> list[Command]:
        """Take in one message of the client: one command, or none after `finish`.

        Raises:
            ProtocolError: the message breaks the protocol. The caller must end the session with it.
        """
        if self._finished:
            return []
        if isinstance(message, bytes):
            return [self._audio(message)]
        fields = _object(message)
        kind = fields.pop("type", None)
        if not isinstance(kind, str):
            _bad('a text message must have a "type"')
        if kind == "start":
            return [self._start(fields, message)]
        handler = self._handlers.get(kind)
        if handler is None:
            known = ", ".join(("start", *self._handlers))
            raise ProtocolError(
                f"unknown type {_show(kind)}; version {VERSION} knows {known}", "unknown_type", 1003
            )
        if self._format is None:
            raise ProtocolError(f"{kind} before start; send start first", "out_of_order", 1008)
        return [handler(self, fields)]

    def encode(self, reply: Reply, now: float) -> str:
        """The message that tells the client of `reply`, sent at `now` (monotonic seconds)."""
        return json.dumps(self._fields(reply, now), separators=(",", ":"))

    def _fields(self, reply: Reply, now: float) -> Fields:  # noqa: PLR0911 - one a reply
        match reply:
            case Heard(event, since):
                return self._heard(event, _latency_ms(since, now))
            case Pong(message_id):
                return {"type": "pong", "id": message_id}
            case Saved(position):
                return {"type": "saved", "position": position}
            case SlowDown(backlog_ms):
                return {"type": "slow_down", "backlog_ms": backlog_ms}
            case Flushed(message_id, words, position):
                return {
                    "type": "flushed",
                    "id": message_id,
                    "text": " ".join(word.text for word in words),
                    **self._word_list(words),
                    "position": position,
                }
            case Configured(unsupported):
                return {"type": "configured", "unsupported": list(unsupported)}
            case Ready():
                return _ready(reply)
            case Done():
                return {
                    "type": "done",
                    "position": reply.position,
                    "duration_s": round(reply.position / reply.sample_rate, 6),
                    "repaired": reply.repaired,
                    "latency_ms": _latency_ms(reply.since, now),
                }
            case Failed(error):
                return {"type": "error", "code": error.code, "message": str(error), "fatal": True}

    def _heard(self, event: Event, latency_ms: float) -> Fields:
        if isinstance(event, Partial):
            return {
                "type": "partial",
                "segment": event.segment,
                "stable": event.stable,
                "tentative": event.tentative,
                "position": event.position,
                "latency_ms": latency_ms,
            }
        return {
            "type": "final",
            "segment": event.segment,
            "text": event.text,
            "start": event.start,
            "end": event.end,
            **self._word_list(event.words),
            "reason": event.reason,
            "position": event.position,
            "latency_ms": latency_ms,
        }

    def _word_list(self, words: tuple[Word, ...]) -> Fields:
        if not self._words:
            return {}
        return {
            "words": [
                {
                    "word": word.text,
                    "start": word.start,
                    "end": word.end,
                    "confidence": word.confidence,
                }
                for word in words
            ]
        }

    def _audio(self, data: bytes) -> Audio:
        if self._format is None:
            raise ProtocolError("audio before start; send start first", "out_of_order", 1008)
        size = self._format.frame_bytes
        if len(data) % size:
            raise ProtocolError(
                f"binary message of {len(data)} bytes does not hold whole {self._format.encoding} "
                f"samples of {size} bytes; cut the audio between samples",
                "bad_payload",
                1007,
            )
        return Audio(data)

    def _start(self, fields: Fields, message: str) -> Command:
        if self._format is not None:
            raise ProtocolError("a second start; open a new connection", "out_of_order", 1008)
        _check_version(fields)
        if "resume" in fields:
            return _resume(fields)
        unsupported: list[str] = []
        audio_format = _format(_table(fields, "format"), unsupported)
        options = _table(fields, "options")
        partials = _boolean(options, "partials")
        self._words = _boolean(options, "words")
        resumes = _boolean(options, "resume", default=False)
        endpoint_ms = _endpoint_ms(options)
        unsupported += [*_left(options, "options."), *_left(fields, "")]
        self._format = audio_format
        kept = message if len(message) <= MAX_START else ""
        return Start(
            audio_format,
            partials,
            endpoint_ms,
            tuple(unsupported),
            message=kept,
            resumes=resumes,
        )

    def _flush(self, fields: Fields) -> Command:
        return Flush(_id(fields))

    def _ping(self, fields: Fields) -> Command:
        return Ping(_id(fields))

    def _acknowledge(self, fields: Fields) -> Command:
        return Acknowledge(_count(fields, "segments"))

    def _configure(self, fields: Fields) -> Command:
        options = _table(fields, "options")
        endpoint_ms = _endpoint_ms(options)
        return Configure(endpoint_ms, (*_left(options, "options."), *_left(fields, "")))

    def _finish(self, fields: Fields) -> Command:
        del fields
        self._finished = True
        return Finish()

    _handlers: Final[dict[str, Callable[[Native, Fields], Command]]] = {
        "flush": _flush,
        "configure": _configure,
        "ping": _ping,
        "ack": _acknowledge,
        "finish": _finish,
    }


def _ready(reply: Ready) -> Fields:
    model = reply.model
    return {
        "type": "ready",
        "version": VERSION,
        "position": reply.position,
        "token": reply.token,
        "resumable": reply.resumable,
        "model": {"name": model.name, "id": model.id},
        "latency": {"block_ms": model.block_ms, "look_ahead_ms": model.look_ahead_ms},
        "unsupported": list(reply.unsupported),
    }


def _check_version(fields: Fields) -> None:
    version = fields.pop("version", None)
    if type(version) is not int or version != VERSION:
        raise ProtocolError(
            f"version {_show(version)}; this server speaks version {VERSION}",
            "bad_version",
            1008,
        )


def _resume(fields: Fields) -> Resume:
    asked = _table(fields, "resume")
    token = asked.pop("token", None)
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        _bad(f"resume.token must be what ready said, not {_show(token)}")
    position = _count(asked, "position")
    segments = _count(asked, "segments") if "segments" in asked else None
    return Resume(token, position, segments, (*_left(asked, "resume."), *_left(fields, "")))


def _count(fields: Fields, name: str) -> int:
    value = fields.pop(name, None)
    if type(value) is not int or not 0 <= value < 2**53:
        _bad(f"{name} must be a whole number from 0 to 2^53, not {_show(value)}")
    return value


def _latency_ms(since: float, now: float) -> float:
    return round(max(0.0, now - since) * 1000, 1)


def _object(message: str) -> Fields:
    try:
        value = json.loads(message, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _bad(f"text message is not JSON ({_line(error)})")
    if not isinstance(value, dict):
        _bad("a text message must be a JSON object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _table(fields: Fields, name: str) -> Fields:
    value = fields.pop(name, {})
    if not isinstance(value, dict):
        _bad(f"{name} must be an object, not {_show(value)}")
    return value


def _boolean(options: Fields, name: str, *, default: bool = True) -> bool:
    value = options.pop(name, default)
    if not isinstance(value, bool):
        _bad(f"options.{name} must be true or false, not {_show(value)}")
    return value


def _endpoint_ms(options: Fields) -> int | None:
    if "endpoint_ms" not in options:
        return None
    value = options.pop("endpoint_ms")
    if type(value) is not int or not MIN_ENDPOINT_MS <= value <= MAX_ENDPOINT_MS:
        _bad(
            f"options.endpoint_ms must be a whole number of {MIN_ENDPOINT_MS} to "
            f"{MAX_ENDPOINT_MS}, not {_show(value)}"
        )
    return value


def _id(fields: Fields) -> MessageId:
    value = fields.pop("id", None)
    if isinstance(value, str) and len(value) <= MAX_ID:
        return value
    if value is not None and not (type(value) is int and abs(value) < 2**53):
        _bad(
            f"id must be a whole number below 2^53 or at most {MAX_ID} characters, "
            f"not {_show(value)}"
        )
    return value


def _format(fields: Fields, unsupported: list[str]) -> AudioFormat:
    encoding = fields.pop("encoding", None)
    if encoding not in ENCODINGS:
        _bad_format(f"encoding {_show(encoding)} is not supported; send {' or '.join(ENCODINGS)}")
    rate = fields.pop("sample_rate", None)
    if type(rate) is not int or not MIN_RATE <= rate <= MAX_RATE or rate % RATE_STEP:
        _bad_format(
            f"sample_rate {_show(rate)} is not supported; send {MIN_RATE} to {MAX_RATE} samples "
            f"per second, a multiple of {RATE_STEP}"
        )
    channels = fields.pop("channels", 1)
    if type(channels) is not int or channels != 1:
        _bad_format(
            f"channels {_show(channels)} is not supported; send 1 channel: mix them, or open a "
            "session for each"
        )
    unsupported += _left(fields, "format.")
    return AudioFormat(encoding, rate, 1)


def _left(fields: Fields, prefix: str) -> list[str]:
    """Names of the fields that nobody took, but for those whose value asks for nothing."""
    left = [
        prefix + name[:MAX_ID]
        for name, value in fields.items()
        if not (name in _NEUTRAL and value == _NEUTRAL[name])
    ]
    return left[:MAX_NAMES]


def _bad(message: str) -> NoReturn:
    raise ProtocolError(message, "bad_message", 1007)


def _bad_format(message: str) -> NoReturn:
    raise ProtocolError(message, "bad_format", 1003)


def _show(value: object) -> str:
    """A value of the client's in one short line of plain characters, as JSON."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
