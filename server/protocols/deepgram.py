"""Deepgram's `/v1/listen`, without I/O, as its clients speak it (deepgram-sdk 3 to 7).

The address says everything, so the stream begins with the connection. The result of a time range
is revised (`is_final: false`) until it is final; ranges follow one another. `Finalize` makes
everything heard so far final at once: it is told as if the audio ended there, while the recogniser
goes on undisturbed, and words that overlap what was told are not told again.

Where this departs from the public service: a client that is silent but there is not closed after
10 s, since that has no use but to bill; endpoints need a pause of 480 ms at least.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asr.errors import ProtocolError
from asr.state import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS, Options
from asr.transcript import Partial, Word
from server.dialogue import (
    Answer,
    Audio,
    AudioFormat,
    Command,
    Done,
    Failed,
    Finish,
    Flush,
    Flushed,
    Heard,
    Hello,
    Message,
    Ping,
    Pong,
    Reply,
    Start,
)
from server.native import MAX_RATE, MIN_RATE, RATE_STEP
from server.protocols.wire import MAX_NAMES, Fields, WholeSamples, read_object, seconds, show, write

if TYPE_CHECKING:
    from collections.abc import Sequence

ENCODINGS: Final = {"linear16": "s16le", "linear32": "f32le"}
MIN_UTTERANCE_END_MS: Final = 1000

# Close codes with their reasons, which the service's clients look for.
UNREADABLE: Final = "DATA-0000", 1008
ENDED: Final = "NET-0000", 1011

# Parameters that change nothing here, whatever their value: the model is told in every answer.
_NEUTRAL: Final = frozenset({"model", "version", "tier", "tag", "extra", "mip_opt_out", "key"})
# Those whose work is done anyway, if asked for like this.
_PLAIN: Final = frozenset({"false", "0", "no", ""})


class Deepgram:
    """One client's conversation in Deepgram's protocol.

    Args:
        hello: the address holds the options.

    Raises:
        ProtocolError: they ask for audio that cannot be heard, or are no options.
    """

    def __init__(self, hello: Hello) -> None:
        wanted = _Parameters(hello.query)
        self._format = _format(wanted)
        self._interim = wanted.flag("interim_results", default=False)
        self._speech_started = wanted.flag("vad_events", default=False)
        self._endpoint_ms, self._endpoints = _endpointing(wanted)
        self._utterance_end = _utterance_end(wanted, self._format.sample_rate)
        self._warnings = wanted.warnings()
        self._model = hello.model
        self._request_id = str(uuid.uuid4())
        self._created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._samples = WholeSamples(self._format.frame_bytes)
        self._sha256 = hashlib.sha256()
        self._finished = False
        self._from = 0  # where the range begins that is not final yet
        self._told_end = 0  # of the last final word
        self._speaking = False  # words of an open utterance have been told
        self._last_word_end: int | None = None  # of an utterance whose end is not told yet
        self._utterance_told = 0  # end of the last utterance whose end was told

    def opening(self) -> list[Command]:
        """The stream begins with the connection."""
        watching = self._interim or self._speech_started or self._utterance_end is not None
        return [Start(self._format, watching, self._endpoint_ms, partial_words=watching)]

    def receive(self, message: bytes | str) -> list[Command]:
        """Take in audio, or one of KeepAlive, Finalize, CloseStream and Configure.

        Raises:
            ProtocolError: the message is none of these. The caller must end the session with it.
        """
        if self._finished:
            return []
        if isinstance(message, bytes):
            return self._audio(message) if message else self._close()
        try:
            kind = read_object(message).get("type")
        except ValueError as error:
            raise ProtocolError(f"text message is {error}", *UNREADABLE) from error
        match kind:
            case "KeepAlive":
                return []
            case "Finalize":
                return [Flush(None)]
            case "CloseStream":
                return self._close()
            case "Configure":
                return [Answer(write(self._cannot_configure()))]
        raise ProtocolError(
            f"type {show(kind)} is none of KeepAlive, Finalize, CloseStream, Configure", *UNREADABLE
        )

    def encode(self, reply: Reply, now: float) -> tuple[Message, ...]:
        """The messages that tell the client of `reply`. `now` is not told in this protocol."""
        del now
        return tuple(write(fields) for fields in self._fields(reply))

    def _fields(self, reply: Reply) -> list[Fields]:  # noqa: PLR0911 - one a reply
        match reply:
            case Heard(event, _, partial_words) if isinstance(event, Partial):
                return self._heard_partial(event.position, partial_words)
            case Heard(event):
                assert not isinstance(event, Partial)  # noqa: S101 - the case before
                final = self._endpoints if event.reason == "endpoint" else event.reason == "finish"
                return self._heard_final(event.words, event.position, speech_final=final)
            case Flushed(_, words, position):
                return self._flushed(words, position)
            case Pong(_, position):
                return self._utterance_over(position)
            case Done():
                return [*self._utterance_over(None), self._metadata(reply)]
            case Failed(error):
                return [{"type": "Error", "variant": _variant(error), "description": str(error)}]
        return []

    def _audio(self, data: bytes) -> list[Command]:
        self._sha256.update(data)
        audio = Audio(self._samples.take(data))
        return [audio] if self._utterance_end is None else [audio, Ping(None)]

    def _close(self) -> list[Command]:
        self._finished = True
        return [Finish()]

    def _heard_partial(self, position: int, words: Sequence[Word]) -> list[Fields]:
        new = self._untold(words)
        if not new:
            return []
        said = self._utterance_before(new) + self._speech_begins(new)
        return [*said, self._results(new, position)] if self._interim else said

    def _heard_final(
        self, words: Sequence[Word], position: int, *, speech_final: bool
    ) -> list[Fields]:
        new = self._untold(words)
        said = self._utterance_before(new) + self._speech_begins(new)
        said.append(self._results(new, position, is_final=True, speech_final=speech_final))
        self._settle(new, position)
        self._speaking = False
        return said

    def _flushed(self, words: Sequence[Word], position: int) -> list[Fields]:
        new = self._untold(words)
        said = self._utterance_before(new) + self._speech_begins(new)
        said.append(self._results(new, position, is_final=True, from_finalize=True))
        self._settle(new, position)
        return said

    def _untold(self, words: Sequence[Word]) -> list[Word]:
        """Those of the words that do not overlap what a `Finalize` made final."""
        return [word for word in words if word.start >= self._told_end]

    def _settle(self, told: list[Word], position: int) -> None:
        self._from = position
        if told:
            self._told_end = told[-1].end

    def _speech_begins(self, words: list[Word]) -> list[Fields]:
        if self._speaking or not words:
            return []
        self._speaking = True
        if not self._speech_started:
            return []
        timestamp = self._seconds(words[0].start)
        return [{"type": "SpeechStarted", "channel": [0, 1], "timestamp": timestamp}]

    def _utterance_before(self, words: list[Word]) -> list[Fields]:
        """The end of the utterance before these words, where the pause between is long enough."""
        said: list[Fields] = []
        for word in words:
            said += self._utterance_over(word.start)
            if word.start >= self._utterance_told:
                self._last_word_end = word.end
        return said

    def _utterance_over(self, position: int | None) -> list[Fields]:
        """The end of the utterance, if nothing was said up to here for long enough (or at all)."""
        end = self._last_word_end
        if self._utterance_end is None or end is None:
            return []
        if position is not None and position - end < self._utterance_end:
            return []
        self._last_word_end, self._utterance_told = None, end
        last = self._seconds(end)
        return [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": last}]

    def _results(
        self,
        words: list[Word],
        position: int,
        *,
        is_final: bool = False,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> Fields:
        # A word that begins just before the range was not certain when the last one was finalised.
        start = min([self._from, *(word.start for word in words[:1])])
        end = max([position, start, *(word.end for word in words[-1:])])
        sureness = sum(word.confidence for word in words) / max(1, len(words))
        alternative = {
            "transcript": " ".join(word.text for word in words),
            "confidence": round(sureness, 4),
            "words": [self._word(word) for word in words],
        }
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "start": self._seconds(start),
            "duration": self._seconds(end - start),
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative]},
            "metadata": self._about(),
        }

    def _word(self, word: Word) -> Fields:
        return {
            "word": word.text,
            "start": self._seconds(word.start),
            "end": self._seconds(word.end),
            "confidence": word.confidence,
            "punctuated_word": word.text,
        }

    def _about(self) -> Fields:
        model = self._model
        about = {
            "request_id": self._request_id,
            "model_info": {"name": model.name, "version": model.id[:12], "arch": "asr"},
            "model_uuid": model.id,
        }
        return {**about, "warnings": self._warnings} if self._warnings else about

    def _metadata(self, done: Done) -> Fields:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._sha256.hexdigest(),
            "created": self._created,
            "duration": self._seconds(done.position),
            "channels": self._format.channels,
            "models": [self._model.id],
            "model_info": {self._model.id: self._about()["model_info"]},
            **({"warnings": self._warnings} if self._warnings else {}),
        }

    def _cannot_configure(self) -> Fields:
        return {
            "type": "ConfigureFailure",
            "request_id": self._request_id,
            "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
            "description": "keyterms and features cannot be changed in mid-stream on this server",
        }

    def _seconds(self, samples: int) -> float:
        return seconds(samples, self._format.sample_rate)


class _Parameters:
    """The query of the address, of which whatever nobody asks for is unsupported."""

    def __init__(self, query: tuple[tuple[str, str], ...]) -> None:
        self._left: dict[str, str] = dict(query)
        self._warned: list[tuple[str, str]] = []

    def text(self, name: str) -> str | None:
        """The value, or None where it is not given."""
        return self._left.pop(name, None)

    def flag(self, name: str, *, default: bool) -> bool:
        """A value that is true or false."""
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in {"true", "false"}:
            raise _bad(f"{name} must be true or false, not {show(value)}")
        return value.lower() == "true"

    def number(self, name: str, least: int, most: int) -> int | None:
        """A whole number."""
        value = self.text(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            raise _bad(f"{name} must be a whole number, not {show(value)}")
        if not least <= int(value) <= most:
            raise _bad(f"{name} is {value}; send {least} to {most}")
        return int(value)

    def warn(self, name: str, message: str) -> None:
        """Tell the client that an option does not do what it says."""
        self._warned.append((name, message))

    def warnings(self) -> list[Fields]:
        """One for each option that is not met, those included that nobody asked for."""
        language = self.text("language")
        if language is not None and language.lower().split("-")[0] not in {"en", "multi"}:
            self.warn("language", "this server understands the language of its model alone")
        for name, value in self._left.items():
            if name not in _NEUTRAL and value.lower() not in _PLAIN:
                self.warn(name, "not supported by this server; it has no effect")
        return [
            {"parameter": name[:64], "type": "unsupported", "message": message}
            for name, message in self._warned[:MAX_NAMES]
        ]


def _format(wanted: _Parameters) -> AudioFormat:
    encoding = wanted.text("encoding")
    if encoding not in ENCODINGS:
        raise _bad(f"encoding {show(encoding)} is not supported; send {' or '.join(ENCODINGS)}")
    rate = wanted.number("sample_rate", MIN_RATE, MAX_RATE)
    if rate is None or rate % RATE_STEP:
        raise _bad(
            f"sample_rate {show(rate)} is not supported; send {MIN_RATE} to {MAX_RATE}, a multiple "
            f"of {RATE_STEP}"
        )
    channels = wanted.number("channels", 1, 1) or 1
    if wanted.flag("multichannel", default=False):
        wanted.warn("multichannel", "there is one channel")
    return AudioFormat(ENCODINGS[encoding], rate, channels)


def _endpointing(wanted: _Parameters) -> tuple[int, bool]:
    """The pause that makes a result final, and whether it is told as `speech_final`."""
    given = (wanted.text("endpointing") or "true").lower()
    if given == "false":
        return Options().endpoint_ms, False
    if given == "true":
        return MIN_ENDPOINT_MS, True
    if not (given.isascii() and given.isdecimal() and int(given[:9]) <= MAX_ENDPOINT_MS):
        raise _bad(f"endpointing must be false or 0 to {MAX_ENDPOINT_MS} ms, not {show(given)}")
    if int(given) < MIN_ENDPOINT_MS:
        wanted.warn("endpointing", f"{MIN_ENDPOINT_MS} ms is the least, and is taken")
    return max(MIN_ENDPOINT_MS, int(given)), True


def _utterance_end(wanted: _Parameters, rate: int) -> int | None:
    """Samples of pause after which an utterance is over, or None where nobody asks."""
    pause_ms = wanted.number("utterance_end_ms", MIN_UTTERANCE_END_MS, MAX_ENDPOINT_MS)
    return None if pause_ms is None else pause_ms * rate // 1000


def _bad(message: str) -> ProtocolError:
    return ProtocolError(message, *UNREADABLE)


def _variant(error: ProtocolError) -> str:
    return "SchemaError" if error.code == UNREADABLE[0] else error.code


def refusal(error: ProtocolError) -> tuple[str, str]:
    """The answer to an address that asks for what cannot be had, before the upgrade."""
    body = {"err_code": "Bad Request", "err_msg": str(error), "request_id": str(uuid.uuid4())}
    return "application/json", write(body)
