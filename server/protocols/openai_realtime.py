"""Transcription sessions of OpenAI's realtime interface, without I/O, in both of its shapes.

The *beta* shape (`transcription_session.update`) and the *GA* shape (`session.update` with type
`transcription`) differ in the session alone; a client shows its own by a header, and by the message
it sends. Audio is appended in base64. An *item* is an utterance: with turn detection one closes at
each pause, without it the client commits.

What a delta says cannot be taken back, so deltas are the stable words only, and all deltas of an
item joined are its transcript. Errors leave the session open. There is nothing here but
transcription: what asks for answers of a language model is an error.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from asr.transcript import Final as FinalEvent
from asr.transcript import Partial
from server.dialogue import (
    Answer,
    Audio,
    Command,
    Configure,
    Configured,
    Discard,
    Done,
    Failed,
    Finish,
    Heard,
    Hello,
    Message,
    Ready,
    Reply,
    Start,
)
from server.protocols.openai_session import (
    PREFIX_MS,
    Invalid,
    Settings,
    asking,
    beta_settings,
    describe,
    ga_settings,
    table,
)
from server.protocols.wire import (
    MAX_NAMES,
    AppendedText,
    Fields,
    WholeSamples,
    not_expected,
    read_object,
    seconds,
    show,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

APPEND_BYTES: Final = 15 * 2**20  # of audio in one append
MESSAGE_BYTES: Final = APPEND_BYTES // 3 * 4 + 2**16  # the same in base64, and what surrounds it
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"


@dataclass(slots=True)
class _Item:
    """An utterance that is not complete.

    Attributes:
        id: under which the client knows it.
        told: its deltas so far.
        started: whether the client knows that speech has started.
    """

    id: str = field(default_factory=lambda: f"item_{uuid.uuid4().hex[:20]}")
    told: AppendedText = field(default_factory=AppendedText)
    started: bool = False


class OpenAIRealtime:
    """One client's conversation: a transcription session of OpenAI's realtime interface."""

    def __init__(self, hello: Hello) -> None:
        self._beta = _is_beta(hello)
        self._model = hello.model
        self._id = f"sess_{uuid.uuid4().hex[:20]}"
        self._settings = Settings()
        self._events = 0  # sent
        self._samples: WholeSamples | None = None  # of the open stream; None between two
        self._before = 0  # samples of the streams before
        self._uncommitted = False  # audio came that belongs to no item yet
        self._committing = False  # the client has committed
        # Keywords that the model has not looked at, by the command that asks for them. Answers to
        # `Configure` are lost with the stream that is cleared, those to `Start` never are.
        self._asked: deque[tuple[type[Command], tuple[str, ...]]] = deque()
        self._item = _Item()
        self._previous: str | None = None  # id of the last complete item
        self._item_from = 0  # sample where the open item begins

    def opening(self) -> list[Command]:
        """The session is told; the stream begins with the first audio."""
        kind = "transcription_session.created" if self._beta else "session.created"
        return [
            Answer(
                self._event(
                    kind, session=describe(self._settings, self._model, self._id, beta=self._beta)
                )
            )
        ]

    def receive(self, message: bytes | str) -> list[Command]:
        """Take in one event of the client. What cannot be obeyed is answered with an error."""
        fields: Fields = {}
        try:
            fields = _read(message)
            return self._handler(fields.get("type"))(self, fields)
        except Invalid as error:
            about = fields.get("event_id")
            return [Answer(self._error(str(error), error.code, error.param, about))]

    def _handler(self, kind: object) -> Callable[[OpenAIRealtime, Fields], list[Command]]:
        if isinstance(kind, str) and kind in self._handlers:
            return self._handlers[kind]
        raise Invalid(
            f"type {show(kind)} is none of {', '.join(self._handlers)}: this server transcribes, "
            "no more",
            "unknown_event",
            "type",
        )

    def encode(self, reply: Reply, now: float) -> tuple[Message, ...]:
        """The messages that tell the client of `reply`. `now` is not told in this protocol."""
        del now
        match reply:
            case Heard(Partial() as event, _, words):
                started = self._speech_starts(words[0].start) if words else []
                return (*started, *self._delta(event.stable))
            case Heard(FinalEvent() as event):
                return tuple(self._heard_final(event))
            case Ready(unsupported=names) | Configured(names):
                by = Start if isinstance(reply, Ready) else Configure
                return tuple(self._cannot_expect(by, names))
            case Done(position):
                return tuple(self._stream_over(position))
            case Failed(error):
                return (self._error(str(error), error.code, None, None, kind="server_error"),)
        return ()

    # What the client says

    def _update(self, fields: Fields) -> list[Command]:
        wanted = table(fields, "session")
        kind = wanted.pop("type", "transcription")
        if kind != "transcription":
            raise Invalid(
                f"session.type {show(kind)}: this server has transcription sessions only",
                param="session.type",
            )
        if "audio" in wanted:
            audio = table(wanted, "audio")
            settings = ga_settings(self._settings, table(audio, "input"))
            left = [*(f"audio.{name}" for name in audio), *wanted]
        else:
            settings = beta_settings(self._settings, wanted)
            left = list(wanted)
        return self._apply(settings, [*settings.unsupported, *asking(wanted, left)], beta=False)

    def _update_beta(self, fields: Fields) -> list[Command]:
        wanted = table(fields, "session")
        wanted.pop("client_secret", None)
        wanted.pop("modalities", None)
        settings = beta_settings(self._settings, wanted)
        return self._apply(
            settings, [*settings.unsupported, *asking(wanted, list(wanted))], beta=True
        )

    def _apply(self, settings: Settings, unsupported: list[str], *, beta: bool) -> list[Command]:
        if self._samples is not None and settings.format != self._settings.format:
            raise Invalid(
                "the audio format cannot change while the buffer holds audio; commit or clear it",
                "invalid_state",
            )
        before = self._settings
        changed = (settings.endpoint_ms, settings.keywords) != (before.endpoint_ms, before.keywords)
        configure: list[Command] = []
        if self._samples is not None and changed:
            self._asked.append((Configure, settings.keywords))
            configure = [Configure(settings.endpoint_ms, phrases=settings.phrases)]
        names = tuple(name[:64] for name in unsupported)[:MAX_NAMES]
        self._settings = replace(settings, unsupported=names)
        self._beta = beta
        return [Answer(self._updated(names)), *configure]

    def _updated(self, unsupported: tuple[str, ...]) -> str:
        """What holds in the session, and what does not though it was asked for."""
        return self._event(
            "transcription_session.updated" if self._beta else "session.updated",
            session=describe(self._settings, self._model, self._id, beta=self._beta),
            **({"unsupported": list(unsupported)} if unsupported else {}),
        )

    def _append(self, fields: Fields) -> list[Command]:
        data = _decode(fields.get("audio"))
        if not data:
            return []
        commands: list[Command] = []
        if self._samples is None:
            audio_format = self._settings.format
            self._samples = WholeSamples(audio_format.frame_bytes)
            self._asked.append((Start, self._settings.keywords))
            commands.append(
                Start(
                    audio_format,
                    endpoint_ms=self._settings.endpoint_ms,
                    partial_words=True,
                    phrases=self._settings.phrases,
                )
            )
        self._uncommitted = True
        return [*commands, Audio(self._samples.take(data))]

    def _commit(self, fields: Fields) -> list[Command]:
        del fields
        if self._samples is None or not self._uncommitted:
            raise Invalid(
                "the audio buffer is empty: append audio before committing it",
                "input_audio_buffer_commit_empty",
            )
        self._committing = True
        self._uncommitted = False
        self._samples = None
        return [Finish(more=True)]

    def _clear(self, fields: Fields) -> list[Command]:
        del fields
        commands: list[Command] = []
        if self._samples is not None:
            commands.append(Discard())
            self._begin_stream(self._samples.samples)
            self._item = _Item()
            self._samples = None
            self._uncommitted = False
        return [*commands, Answer(self._event("input_audio_buffer.cleared"))]

    _handlers: Final[dict[str, Callable[[OpenAIRealtime, Fields], list[Command]]]] = {
        "session.update": _update,
        "transcription_session.update": _update_beta,
        "input_audio_buffer.append": _append,
        "input_audio_buffer.commit": _commit,
        "input_audio_buffer.clear": _clear,
    }

    def _cannot_expect(self, by: type[Command], names: tuple[str, ...]) -> list[str]:
        """Tell which keywords the model cannot expect, now that a stream has them; but once."""
        command, asked = self._asked.popleft()
        while command is not by:
            command, asked = self._asked.popleft()
        refused = not_expected(names)
        numbers = range(len(asked)) if refused is None else refused
        if not numbers or asked != self._settings.keywords:
            return []
        place = "input_audio_" if self._beta else "audio.input."
        unsupported = tuple(f"{place}transcription.keywords[{n}]" for n in numbers)
        kept = tuple(text for n, text in enumerate(asked) if n not in numbers)
        self._settings = replace(self._settings, keywords=kept, unsupported=unsupported)
        return [self._updated(unsupported)]

    # What was heard

    def _heard_final(self, final: FinalEvent) -> list[str]:
        said = [*self._speech_starts(final.start), *self._delta(final.text)]
        self._item.told.close_segment()
        if self._settings.silence_ms is None:
            return said  # the item goes on until it is committed
        self._uncommitted = self._samples is not None and (
            self._samples.samples > final.position and final.reason != "finish"
        )
        self._committing = False
        return said + self._complete(final.position, stopped=True)

    def _stream_over(self, position: int) -> list[str]:
        """The stream has ended: by a commit, or since the server stops."""
        said = []
        if self._committing or (self._item.told.text and self._settings.silence_ms is None):
            said = self._complete(position, stopped=False)
        self._committing = False
        self._begin_stream(position)
        return said

    def _begin_stream(self, position: int) -> None:
        """What comes next is another stream, behind so many samples of the one before."""
        self._before += position
        self._item_from = 0
        self._item.told.close_segment()

    def _speech_starts(self, start: int) -> list[str]:
        if self._item.started or self._settings.silence_ms is None:
            return []
        self._item.started = True
        begin = max(0, self._milliseconds(start) - PREFIX_MS)
        return [
            self._event(
                "input_audio_buffer.speech_started", audio_start_ms=begin, item_id=self._item.id
            )
        ]

    def _delta(self, stable: str) -> list[str]:
        new = self._item.told.grow(stable)
        if not new:
            return []
        return [self._event(f"{_TRANSCRIPTION}.delta", **self._content(), delta=new)]

    def _complete(self, position: int, *, stopped: bool) -> list[str]:
        """The open item is over, and so are its deltas."""
        item, previous = self._item, self._previous
        said = []
        if stopped:
            said.append(
                self._event(
                    "input_audio_buffer.speech_stopped",
                    audio_end_ms=self._milliseconds(position),
                    item_id=item.id,
                )
            )
        said.append(
            self._event("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        )
        kinds = ("created",) if self._beta else ("created", "added", "done")
        said += [
            self._event(f"conversation.item.{kind}", previous_item_id=previous, item=_message(item))
            for kind in kinds
        ]
        duration = seconds(position - self._item_from, self._settings.format.sample_rate)
        said.append(
            self._event(
                f"{_TRANSCRIPTION}.completed",
                **self._content(),
                transcript=item.told.text,
                usage={"type": "duration", "seconds": duration},
            )
        )
        self._item, self._previous, self._item_from = _Item(), item.id, position
        return said

    # The shape of events

    def _content(self) -> Fields:
        return {"item_id": self._item.id, "content_index": 0}

    def _milliseconds(self, position: int) -> int:
        return (self._before + position) * 1000 // self._settings.format.sample_rate

    def _event(self, kind: str, **fields: Any) -> str:
        self._events += 1
        return write({"type": kind, "event_id": f"event_{self._events}", **fields})

    def _error(
        self, message: str, code: str, param: str | None, event_id: object, kind: str = ""
    ) -> str:
        about = event_id if isinstance(event_id, str) and len(event_id) <= 512 else None
        return self._event(
            "error",
            error={
                "type": kind or "invalid_request_error",
                "code": code,
                "message": message,
                "param": param,
                "event_id": about,
            },
        )


def _read(message: bytes | str) -> Fields:
    if isinstance(message, bytes):
        raise Invalid("binary message; send audio as input_audio_buffer.append in base64")
    try:
        return read_object(message)
    except ValueError as error:
        raise Invalid(f"text message is {error}", "invalid_json") from error


def _is_beta(hello: Hello) -> bool:
    """Whether the client shows, when it connects, that it speaks the beta shape."""
    headers = {name.lower(): value for name, value in hello.headers.items()}
    asked = headers.get("openai-beta", ""), headers.get("sec-websocket-protocol", "")
    return "realtime=v1" in asked[0] or "openai-beta.realtime-v1" in asked[1]


def _message(item: _Item) -> Fields:
    return {
        "id": item.id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }


def _decode(audio: object) -> bytes:
    if not isinstance(audio, str):
        raise Invalid(f"audio must be a text in base64, not {show(audio)}", param="audio")
    if len(audio) > MESSAGE_BYTES:
        raise Invalid(f"more than {APPEND_BYTES} bytes of audio in one append", param="audio")
    try:
        data = base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("audio is not base64", param="audio") from error
    if len(data) > APPEND_BYTES:
        raise Invalid(f"more than {APPEND_BYTES} bytes of audio in one append", param="audio")
    return data
