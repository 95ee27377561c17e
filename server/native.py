"""The native protocol, version 1, without I/O: `docs/protocol.md` says the same for people.

Text messages are JSON objects with a `type`; binary messages are audio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from asr.errors import ProtocolError
from asr.state import MAX_ENDPOINT_MS, MAX_N_BEST, MIN_ENDPOINT_MS, plain
from asr.transcript import Event, Partial, Word
from asr.transcript import Final as FinalEvent
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
from server.formats import CONTAINERS, ENCODINGS, MAX_CHANNELS, MAX_RATE, MIN_RATE
from server.protocols.wire import (
    MAX_NAMES,
    MAX_PHRASE,
    MAX_PHRASES,
    Fields,
    read_object,
    seconds,
    show,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION: Final = 1
MAX_ID: Final = 128  # characters of an id, which is kept until it is answered
MAX_TOKEN: Final = 128  # characters of a token; ours have 43
MAX_START: Final = 65_536  # characters of a start that can be resumed: each snapshot carries it


class Native:
    """One client's conversation in the native protocol."""

    def __init__(self) -> None:
        self._format: AudioFormat | None = None
        self._words = True
        self._n_best = 1
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
                f"unknown type {show(kind)}; version {VERSION} knows {known}", "unknown_type", 1003
            )
        if self._format is None:
            raise ProtocolError(f"{kind} before start; send start first", "out_of_order", 1008)
        return [handler(self, fields)]

    def encode(self, reply: Reply, now: float) -> str:
        """The message that tells the client of `reply`, sent at `now` (monotonic seconds)."""
        return write(self._fields(reply, now))

    def _fields(self, reply: Reply, now: float) -> Fields:  # noqa: PLR0911 - one a reply
        match reply:
            case Heard(event, since, _, channel):
                return self._heard(event, channel, _latency_ms(since, now))
            case Pong(message_id, position, since):
                return {
                    "type": "pong",
                    "id": message_id,
                    "position": position,
                    "latency_ms": _latency_ms(since, now),
                }
            case Saved(position):
                return {"type": "saved", "position": position}
            case SlowDown(backlog_ms):
                return {"type": "slow_down", "backlog_ms": backlog_ms}
            case Flushed(message_id, words, position, channel, since):
                return {
                    "type": "flushed",
                    "id": message_id,
                    **_channel(channel),
                    "text": " ".join(word.text for word in words),
                    **self._word_list(words, channel),
                    "position": position,
                    "latency_ms": _latency_ms(since, now),
                }
            case Configured(unsupported, position, since):
                return {
                    "type": "configured",
                    "unsupported": list(unsupported),
                    "position": position,
                    "latency_ms": _latency_ms(since, now),
                }
            case Ready():
                return _ready(reply)
            case Done():
                return {
                    "type": "done",
                    "position": reply.position,
                    "duration_s": seconds(reply.position, reply.sample_rate),
                    "repaired": reply.repaired,
                    "latency_ms": _latency_ms(reply.since, now),
                }
            case Failed(error):
                return {"type": "error", "code": error.code, "message": str(error), "fatal": True}

    def _heard(self, event: Event, channel: int | None, latency_ms: float) -> Fields:
        if isinstance(event, Partial):
            return {
                "type": "partial",
                **_channel(channel),
                "segment": event.segment,
                "stable": event.stable,
                "tentative": event.tentative,
                "position": event.position,
                "latency_ms": latency_ms,
            }
        return {
            "type": "final",
            **_channel(channel),
            "segment": event.segment,
            "text": event.text,
            "start": event.start,
            "end": event.end,
            **self._word_list(event.words, channel),
            **self._alternatives(event, channel),
            "reason": event.reason,
            "position": event.position,
            "latency_ms": latency_ms,
        }

    def _alternatives(self, final: FinalEvent, channel: int | None) -> Fields:
        if self._n_best == 1:
            return {}
        return {
            "alternatives": [
                {"text": a.text, "score": a.score, **self._word_list(a.words, channel)}
                for a in final.alternatives
            ]
        }

    def _word_list(self, words: tuple[Word, ...], channel: int | None) -> Fields:
        if not self._words:
            return {}
        return {
            "words": [
                {
                    "word": word.text,
                    "start": word.start,
                    "end": word.end,
                    "confidence": word.confidence,
                    **_channel(channel),
                }
                for word in words
            ]
        }

    def _audio(self, data: bytes) -> Audio:
        if self._format is None:
            raise ProtocolError("audio before start; send start first", "out_of_order", 1008)
        if self._format.raw and len(data) % self._format.frame_bytes:
            raise ProtocolError(
                f"binary message of {len(data)} bytes does not hold whole {self._format.encoding} "
                f"samples of {self._format.frame_bytes} bytes; cut the audio between samples",
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
        described, options = _table(fields, "format"), _table(fields, "options")
        apart = _boolean(options, "channels_apart", default=False)
        audio_format = _format(described, apart, unsupported)
        partials = _boolean(options, "partials")
        self._words = _boolean(options, "words")
        resumes = _boolean(options, "resume", default=False)
        endpoint_ms, phrases = _endpoint_ms(options), _phrases(options)
        self._n_best = _n_best(options)
        unsupported += [*_left(options, "options."), *_left(fields, "")]
        self._format = audio_format
        kept = message if len(message) <= MAX_START else ""
        return Start(
            audio_format,
            partials,
            endpoint_ms,
            tuple(unsupported),
            phrases=phrases or (),
            n_best=self._n_best,
            message=kept,
            resumes=resumes,
        )

    def _flush(self, fields: Fields) -> Command:
        return Flush(_id(fields))

    def _ping(self, fields: Fields) -> Command:
        return Ping(_id(fields))

    def _acknowledge(self, fields: Fields) -> Command:
        assert self._format is not None  # noqa: S101 - checked by `receive`
        streams = self._format.channels if self._format.channels_apart else 1
        segments = _segments(fields)
        if len(segments) != streams:
            _bad(f"segments must tell of {streams} channels, not {len(segments)}")
        return Acknowledge(segments)

    def _configure(self, fields: Fields) -> Command:
        options = _table(fields, "options")
        endpoint_ms, phrases = _endpoint_ms(options), _phrases(options)
        unsupported = (*_left(options, "options."), *_left(fields, ""))
        return Configure(endpoint_ms, unsupported, phrases)

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
            f"version {show(version)}; this server speaks version {VERSION}",
            "bad_version",
            1008,
        )


def _resume(fields: Fields) -> Resume:
    asked = _table(fields, "resume")
    token = asked.pop("token", None)
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        _bad(f"resume.token must be what ready said, not {show(token)}")
    position = _count(asked, "position")
    segments = _segments(asked) if "segments" in asked else None
    return Resume(token, position, segments, (*_left(asked, "resume."), *_left(fields, "")))


def _segments(fields: Fields) -> tuple[int, ...]:
    """Numbers of segments: a list with one of each channel, or one."""
    value = fields.get("segments")
    if not isinstance(value, list):
        return (_count(fields, "segments"),)
    del fields["segments"]
    if not 1 <= len(value) <= MAX_CHANNELS:
        _bad(f"segments must be a number or a list of 1 to {MAX_CHANNELS}, one a channel")
    return tuple(_count({"segments": number}, "segments") for number in value)


def _count(fields: Fields, name: str) -> int:
    value = fields.pop(name, None)
    if type(value) is not int or not 0 <= value < 2**53:
        _bad(f"{name} must be a whole number from 0 to 2^53, not {show(value)}")
    return value


def _latency_ms(since: float, now: float) -> float:
    return round(max(0.0, now - since) * 1000, 1)


def _object(message: str) -> Fields:
    try:
        return read_object(message)
    except ValueError as error:
        _bad(f"text message is {error}")


def _table(fields: Fields, name: str) -> Fields:
    value = fields.pop(name, {})
    if not isinstance(value, dict):
        _bad(f"{name} must be an object, not {show(value)}")
    return value


def _boolean(options: Fields, name: str, *, default: bool = True) -> bool:
    value = options.pop(name, default)
    if not isinstance(value, bool):
        _bad(f"options.{name} must be true or false, not {show(value)}")
    return value


def _endpoint_ms(options: Fields) -> int | None:
    if "endpoint_ms" not in options:
        return None
    value = options.pop("endpoint_ms")
    if type(value) is not int or not MIN_ENDPOINT_MS <= value <= MAX_ENDPOINT_MS:
        _bad(
            f"options.endpoint_ms must be a whole number of {MIN_ENDPOINT_MS} to "
            f"{MAX_ENDPOINT_MS}, not {show(value)}"
        )
    return value


def _n_best(options: Fields) -> int:
    value = options.pop("n_best", 1)
    if type(value) is not int or not 1 <= value <= MAX_N_BEST:
        _bad(f"options.n_best must be a whole number of 1 to {MAX_N_BEST}, not {show(value)}")
    return value


def _phrases(options: Fields) -> tuple[str, ...] | None:
    """The phrases in lower case with single spaces, None where none are named."""
    if "phrases" not in options:
        return None
    value = options.pop("phrases")
    if not isinstance(value, list) or len(value) > MAX_PHRASES:
        _bad(f"options.phrases must be a list of at most {MAX_PHRASES} texts, not {show(value)}")
    return tuple(_phrase(text, number) for number, text in enumerate(value))


def _phrase(text: object, number: int) -> str:
    phrase = plain(text) if isinstance(text, str) else ""
    if not 0 < len(phrase) <= MAX_PHRASE:
        _bad(
            f"options.phrases[{number}] must be a text of 1 to {MAX_PHRASE} characters, not "
            f"{show(text)}"
        )
    return phrase


def _id(fields: Fields) -> MessageId:
    value = fields.pop("id", None)
    if isinstance(value, str) and len(value) <= MAX_ID:
        return value
    if value is not None and not (type(value) is int and abs(value) < 2**53):
        _bad(
            f"id must be a whole number below 2^53 or at most {MAX_ID} characters, "
            f"not {show(value)}"
        )
    return value


def _format(fields: Fields, apart: bool, unsupported: list[str]) -> AudioFormat:  # noqa: FBT001
    encoding = fields.pop("encoding", None)
    if encoding not in ENCODINGS:
        _bad_format(f"encoding {show(encoding)} is not supported; send {' or '.join(ENCODINGS)}")
    said_inside = encoding in CONTAINERS  # what is not said here
    rate = fields.pop("sample_rate", 0 if said_inside else None)
    if type(rate) is not int or not (MIN_RATE <= rate <= MAX_RATE or (said_inside and not rate)):
        _bad_format(
            f"sample_rate {show(rate)} is not supported; send {MIN_RATE} to {MAX_RATE} samples "
            "per second"
        )
    channels = fields.pop("channels", 0 if said_inside else 1)
    least = 0 if said_inside else 1
    if type(channels) is not int or not least <= channels <= MAX_CHANNELS:
        _bad_format(f"channels {show(channels)} is not supported; send 1 to {MAX_CHANNELS}")
    if apart and not channels:
        _bad_format("channels_apart needs format.channels: say how many the stream has")
    unsupported += _left(fields, "format.")
    return AudioFormat(encoding, rate, channels, channels_apart=apart)


def _channel(channel: int | None) -> Fields:
    return {} if channel is None else {"channel": channel}


def _left(fields: Fields, prefix: str) -> list[str]:
    """Names of the fields that nobody took."""
    return [prefix + name[:MAX_ID] for name in list(fields)[:MAX_NAMES]]


def _bad(message: str) -> NoReturn:
    raise ProtocolError(message, "bad_message", 1007)


def _bad_format(message: str) -> NoReturn:
    raise ProtocolError(message, "bad_format", 1003)
