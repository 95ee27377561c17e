"""The Wyoming protocol of Home Assistant's voice assistants, without I/O.

It is spoken over a plain TCP connection. An event is a line with a JSON object, `type`, and the
lengths of what follows it at once: `data_length` bytes of JSON that are merged over the line's own
`data`, then `payload_length` bytes, which are audio. A connection carries any number of utterances,
from `audio-start` (or the first `audio-chunk`) to `audio-stop`.

Chunks of a transcript are added up by the client, so they are the stable words only; joined they
are the text of the `transcript` behind them. Unknown events are ignored, as the protocol demands.
There is no place for warnings: wishes without effect go to the log.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asr.errors import ProtocolError
from asr.state import plain
from asr.transcript import Final as FinalEvent
from asr.transcript import Partial
from server.dialogue import (
    Answer,
    Audio,
    AudioFormat,
    Command,
    Done,
    Failed,
    Finish,
    Heard,
    Hello,
    Message,
    ModelInfo,
    Ready,
    Reply,
    Start,
)
from server.formats import MAX_RATE, MIN_RATE
from server.protocols.wire import (
    LANGUAGE,
    MAX_NAMES,
    AppendedText,
    Fields,
    WholeSamples,
    read_object,
    show,
    understood,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_log = logging.getLogger(__name__)

VERSION: Final = "1.10.2"  # of the protocol's own package, whose events these are
LINE_BYTES: Final = 2**16  # the protocol's own reader takes no longer line
DATA_BYTES: Final = 2**16
PAYLOAD_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the client.

    Attributes:
        type: what it says.
        data: its fields.
        payload: audio, if it has some.
    """

    type: str
    data: Fields
    payload: bytes = b""


class Framing:
    """Finds the events in a stream of bytes, however it is cut. What waits is bounded."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._header: tuple[Fields, int, int] | None = None  # with the lengths of data and payload

    def take(self, data: bytes) -> Iterator[Event]:
        """The events that are complete with these bytes.

        Raises:
            ProtocolError: the bytes are no events, or longer ones than are taken.
        """
        self._bytes += data
        while True:
            if self._header is None:
                line = self._line()
                if line is None:
                    return
                self._header = _header(line)
            fields, data_length, payload_length = self._header
            if len(self._bytes) < data_length + payload_length:
                return
            self._header = None
            body = self._cut(data_length)
            yield _event(fields, body, self._cut(payload_length))

    def _line(self) -> bytes | None:
        end = self._bytes.find(b"\n", 0, LINE_BYTES)
        if end >= 0:
            return self._cut(end + 1)
        if len(self._bytes) >= LINE_BYTES:
            raise _bad(f"a line of more than {LINE_BYTES} bytes")
        return None

    def _cut(self, length: int) -> bytes:
        cut = bytes(self._bytes[:length])
        del self._bytes[:length]
        return cut


class Wyoming:
    """One client's conversation in the Wyoming protocol."""

    def __init__(self, hello: Hello) -> None:
        self._model = hello.model
        self._framing = Framing()
        self._format: AudioFormat | None = None  # of the open utterance
        self._samples: WholeSamples | None = None
        self._phrases: tuple[str, ...] = ()  # what `transcribe` says is likely
        self._told = AppendedText()  # chunks of the open utterance
        self._transcript_started = False

    def opening(self) -> list[Command]:
        """Nothing: the client speaks first."""
        return []

    def receive(self, message: bytes | str) -> Iterator[Command]:
        """Take in bytes as they come, and yield the commands of the events that are complete.

        Raises:
            ProtocolError: they are no events; those before it have been yielded. The caller must
                end the session with it.
        """
        data = message.encode() if isinstance(message, str) else message
        for event in self._framing.take(data):
            handler = self._handlers.get(event.type)
            if handler is not None:
                yield from handler(self, event)

    def encode(self, reply: Reply, now: float) -> tuple[Message, ...]:
        """The messages that tell the client of `reply`. `now` is not told in this protocol."""
        del now
        match reply:
            case Heard(Partial(stable=stable)):
                return self._chunk(stable)
            case Heard(FinalEvent(text=text)):
                chunk = self._chunk(text)
                self._told.close_segment()
                return chunk
            case Ready(unsupported=names):
                _warn(names)
            case Done():
                return self._transcript()
            case Failed(error):
                return (write_event("error", {"text": str(error), "code": error.code}),)
        return ()

    # What the client says

    def _describe(self, event: Event) -> list[Command]:
        del event
        return [Answer(write_event("info", _info(self._model)))]

    def _ping(self, event: Event) -> list[Command]:
        text = event.data.get("text")
        return [Answer(write_event("pong", {"text": text if isinstance(text, str) else None}))]

    def _transcribe(self, event: Event) -> list[Command]:
        language = event.data.get("language")
        if understood(language):
            del event.data["language"]
        event.data.pop("name", None)  # there is one model
        self._phrases = _phrases(event.data)
        asked = [name[:64] for name, value in event.data.items() if value][:MAX_NAMES]
        _warn(asked)
        return []

    def _audio_start(self, event: Event) -> list[Command]:
        if self._format is not None:
            raise ProtocolError("audio-start before audio-stop", "out_of_order", 1008)
        self._format = _format(event.data)
        self._samples = WholeSamples(self._format.frame_bytes)
        return [Start(self._format, phrases=self._phrases)]

    def _audio_chunk(self, event: Event) -> list[Command]:
        start = [] if self._format else self._audio_start(event)
        assert self._samples is not None  # noqa: S101 - made by the start
        if _format(event.data) != self._format:
            raise _bad("audio-chunk of another rate, width or number of channels than before")
        return [*start, Audio(self._samples.take(event.payload))]

    def _audio_stop(self, event: Event) -> list[Command]:
        del event
        if self._format is None:
            return [Answer(message) for message in self._transcript()]
        self._format = self._samples = None
        return [Finish(more=True)]

    _handlers: Final[dict[str, Callable[[Wyoming, Event], list[Command]]]] = {
        "describe": _describe,
        "ping": _ping,
        "transcribe": _transcribe,
        "audio-start": _audio_start,
        "audio-chunk": _audio_chunk,
        "audio-stop": _audio_stop,
    }

    # What was heard

    def _chunk(self, stable: str) -> tuple[Message, ...]:
        new = self._told.grow(stable)
        if not new:
            return ()
        return (*self._start_transcript(), write_event("transcript-chunk", {"text": new}))

    def _start_transcript(self) -> tuple[Message, ...]:
        if self._transcript_started:
            return ()
        self._transcript_started = True
        return (write_event("transcript-start", {"language": LANGUAGE}),)

    def _transcript(self) -> tuple[Message, ...]:
        said = (
            *self._start_transcript(),
            write_event("transcript", {"text": self._told.text, "language": LANGUAGE}),
            write_event("transcript-stop", {}),
        )
        self._told, self._transcript_started = AppendedText(), False
        return said


def write_event(kind: str, data: Fields) -> bytes:
    """An event on the wire; it has no payload."""
    body = json.dumps(data).encode() if data else b""  # ASCII: half a surrogate pair goes, too
    header = {"type": kind, "version": VERSION, **({"data_length": len(body)} if body else {})}
    return json.dumps(header).encode() + b"\n" + body


def refusal(message: str, reason: str) -> bytes:
    """What a client hears that is not let in."""
    return write_event("error", {"text": message, "code": reason})


def _phrases(data: Fields) -> tuple[str, ...]:
    """Names and terms that are likely to be said, as the recogniser writes words; taken out."""
    phrases: list[str] = []
    for name in ("transcript_names", "transcript_terms"):
        given = data.get(name)
        if isinstance(given, list) and all(isinstance(text, str) for text in given):
            del data[name]
            phrases += map(plain, given)
    return tuple(phrase for phrase in phrases if phrase)


def _warn(names: Sequence[str]) -> None:
    if names:
        shown = ", ".join(map(repr, names[:MAX_NAMES]))
        _log.warning("wyoming: transcribe asks in vain for %s", shown)


def _header(line: bytes) -> tuple[Fields, int, int]:
    try:
        fields = read_object(line)
    except ValueError as error:
        raise _bad(f"a line is {error}") from error
    lengths = []
    for name, most in (("data_length", DATA_BYTES), ("payload_length", PAYLOAD_BYTES)):
        given = fields.get(name)
        length = 0 if given is None else whole_number(given, 0, most)
        if length is None:
            raise _bad(f"{name} must be 0 to {most}, not {show(given)}")
        lengths.append(length)
    if not isinstance(fields.get("type"), str):
        raise _bad(f"type must be a text, not {show(fields.get('type'))}")
    return fields, lengths[0], lengths[1]


def _event(fields: Fields, body: bytes, payload: bytes) -> Event:
    data = fields.get("data")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise _bad(f"data must be an object, not {show(data)}")
    try:
        merged = {**data, **(read_object(body) if body else {})}
    except ValueError as error:
        raise _bad(f"data is {error}") from error
    return Event(fields["type"], merged, payload)


def _format(data: Fields) -> AudioFormat:
    rate = whole_number(data.get("rate"), MIN_RATE, MAX_RATE)
    if rate is None:
        raise _bad_format(
            f"rate {show(data.get('rate'))} is not supported; send {MIN_RATE} to {MAX_RATE}"
        )
    if whole_number(data.get("width"), 2, 2) is None:
        raise _bad_format(f"width {show(data.get('width'))} is not supported; send 2 bytes")
    if whole_number(data.get("channels"), 1, 1) is None:
        raise _bad_format(f"channels {show(data.get('channels'))} is not supported; send 1")
    return AudioFormat("s16le", rate, 1)


def _info(model: ModelInfo) -> Fields:
    about: Fields = {"attribution": {"name": "asr", "url": ""}, "installed": True}
    listening = {
        **about,
        "name": model.name,
        "description": f"the model {model.name}",
        "version": model.id[:12],
        "languages": [LANGUAGE],
    }
    program = {
        **about,
        "name": "asr",
        "description": "real-time streaming speech recognition",
        "version": None,
        "models": [listening],
        "supports_transcript_streaming": True,
        "requires_external_vad": True,
        "prefers_auto_gain_enabled": False,
        "prefers_noise_reduction_enabled": False,
    }
    rooms = ("tts", "handle", "intent", "wake", "mic", "snd")
    return {"asr": [program], **{room: [] for room in rooms}}


def _bad(message: str) -> ProtocolError:
    return ProtocolError(message, "bad_message", 1007)


def _bad_format(message: str) -> ProtocolError:
    return ProtocolError(message, "bad_format", 1003)
