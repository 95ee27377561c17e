"""Deepgram's `/v1/listen`, without I/O, as its clients speak it (deepgram-sdk 3 to 7).

The address says everything, so the stream begins with the connection; unless the audio is a file,
whose header says the rate: then it begins behind that. The result of a time range
is revised (`is_final: false`) until it is final; ranges follow one another. `Finalize` makes
everything heard so far final at once: it is told as if the audio ended there, while the recogniser
goes on undisturbed, and words that overlap what was told are not told again.

Where this departs from the public service: a client that is silent but there is not closed after
10 s, since that has no use but to bill; endpoints need a pause of 480 ms at least.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asr.errors import ProtocolError
from asr.state import plain
from asr.transcript import Final as FinalEvent
from asr.transcript import Partial, Word
from server.dialogue import (
    Answer,
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
    Hello,
    Message,
    Ping,
    Pong,
    Ready,
    Reply,
    Start,
)
from server.protocols.deepgram_query import (
    UNREADABLE,
    Parameters,
    read_endpointing,
    read_format,
    read_keyterms,
    read_utterance_end,
    too_long,
    warning,
)
from server.protocols.wire import (
    MAX_NAMES,
    Fields,
    WholeSamples,
    not_expected,
    read_object,
    seconds,
    show,
    sureness,
    write,
)
from server.unannounced import Beginning

if TYPE_CHECKING:
    from collections.abc import Sequence


NO_AUDIO: Final = AudioFormat("s16le", 16000)  # stands for the format of a file that never came


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the client wants to be told of each channel.

    Attributes:
        interim: results that are not final yet.
        speech_started: when speech begins.
        utterance_end_ms: pause after which an utterance is over; None if not wanted.
        endpoints: whether a pause is told as `speech_final`.
    """

    interim: bool
    speech_started: bool
    utterance_end_ms: int | None
    endpoints: bool


class _Channel:
    """What has been told of one channel.

    Args:
        index: of the channel, and how many there are.
        rate: of the audio.
        wanted: what the client wants to be told.
        about: the `metadata` of every result.
    """

    def __init__(self, index: list[int], rate: int, wanted: _Wanted, about: Fields) -> None:
        self._index = index
        self._rate = rate
        self._wanted = wanted
        self._about = about
        self._from = 0  # where the range begins that is not final yet
        self._told_end = 0  # of the last final word
        self._speaking = False  # words of an open utterance have been told
        self._last_word_end: int | None = None  # of an utterance whose end is not told yet
        self._utterance_told = 0  # end of the last utterance whose end was told

    def partial(self, position: int, words: Sequence[Word]) -> list[Fields]:
        """The open segment is understood like this now."""
        new = self._untold(words)
        if not new:
            return []
        said = self._utterance_before(new) + self._speech_begins(new)
        return [*said, self._results(new, position)] if self._wanted.interim else said

    def final(self, final: FinalEvent) -> list[Fields]:
        """A segment is closed."""
        new = self._untold(final.words)
        endpoint = final.reason == "endpoint" and self._wanted.endpoints
        said = self._utterance_before(new) + self._speech_begins(new)
        said.append(
            self._results(
                new,
                final.position,
                is_final=True,
                speech_final=endpoint or final.reason == "finish",
            )
        )
        self._settle(new, final.position)
        self._speaking = False
        return said

    def flushed(self, words: Sequence[Word], position: int) -> list[Fields]:
        """The client wants everything up to here to be final."""
        new = self._untold(words)
        said = self._utterance_before(new) + self._speech_begins(new)
        said.append(self._results(new, position, is_final=True, from_finalize=True))
        self._settle(new, position)
        return said

    def utterance_over(self, position: int | None) -> list[Fields]:
        """The end of the utterance, if nothing was said up to here for long enough (or at all)."""
        pause_ms, end = self._wanted.utterance_end_ms, self._last_word_end
        if pause_ms is None or end is None:
            return []
        if position is not None and position - end < pause_ms * self._rate // 1000:
            return []
        self._last_word_end, self._utterance_told = None, end
        last = self._seconds(end)
        return [{"type": "UtteranceEnd", "channel": self._index, "last_word_end": last}]

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
        if not self._wanted.speech_started:
            return []
        timestamp = self._seconds(words[0].start)
        return [{"type": "SpeechStarted", "channel": self._index, "timestamp": timestamp}]

    def _utterance_before(self, words: list[Word]) -> list[Fields]:
        """The end of the utterance before these words, where the pause between is long enough."""
        said: list[Fields] = []
        for word in words:
            said += self.utterance_over(word.start)
            if word.start >= self._utterance_told:
                self._last_word_end = word.end
        return said

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
        alternative = {
            "transcript": " ".join(word.text for word in words),
            "confidence": sureness(words),
            "words": [self._word(word) for word in words],
        }
        return {
            "type": "Results",
            "channel_index": self._index,
            "start": self._seconds(start),
            "duration": self._seconds(end - start),
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative]},
            "metadata": self._about,
        }

    def _word(self, word: Word) -> Fields:
        return {
            "word": word.text,
            "start": self._seconds(word.start),
            "end": self._seconds(word.end),
            "confidence": word.confidence,
            "punctuated_word": word.text,
        }

    def _seconds(self, samples: int) -> float:
        return seconds(samples, self._rate)


class Deepgram:
    """One client's conversation in Deepgram's protocol.

    Args:
        hello: the address holds the options.

    Raises:
        ProtocolError: they ask for audio that cannot be heard, or are no options.
    """

    def __init__(self, hello: Hello) -> None:
        parameters = Parameters(hello.query)
        self._format = read_format(parameters)
        interim = parameters.flag("interim_results", default=False)
        started = parameters.flag("vad_events", default=False)
        self._endpoint_ms, endpoints = read_endpointing(parameters)
        self._wanted = _Wanted(interim, started, read_utterance_end(parameters), endpoints)
        self._phrases = read_keyterms(parameters)
        self._warnings = parameters.warnings()
        self._model = hello.model
        self._request_id = str(uuid.uuid4())
        self._created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._beginning = None if self._format.raw else Beginning(self._format.encoding)
        self._samples: WholeSamples | None = None
        self._channels: list[_Channel] = []
        self._waiting: list[Configure] = []  # for the stream to begin
        self._sha256 = hashlib.sha256()
        self._finished = False
        self._keyterms: deque[list[str]] = deque()  # of each Configure that is not answered

    def opening(self) -> list[Command]:
        """The stream begins with the connection, or else with the header of a file.

        The client has begun with its address in either case: it may be silent as long as it likes.
        """
        return [Answer(())] if self._beginning is not None else self._start(self._format)

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
            fields = read_object(message)
        except ValueError as error:
            raise ProtocolError(f"text message is {error}", *UNREADABLE) from error
        match fields.get("type"):
            case "KeepAlive":
                return []
            case "Finalize":
                return [Flush(None)] if self._beginning is None else self._nothing_yet()
            case "CloseStream":
                return self._close()
            case "Configure":
                return self._configure(fields)
        raise ProtocolError(
            f"type {show(fields.get('type'))} is none of KeepAlive, Finalize, CloseStream, "
            "Configure",
            *UNREADABLE,
        )

    def encode(self, reply: Reply, now: float) -> tuple[Message, ...]:
        """The messages that tell the client of `reply`. `now` is not told in this protocol."""
        del now
        return tuple(write(fields) for fields in self._fields(reply))

    def _fields(self, reply: Reply) -> list[Fields]:  # noqa: PLR0911 - one a reply
        match reply:
            case Heard(Partial() as event, _, words, channel):
                return self._channels[channel or 0].partial(event.position, words)
            case Heard(FinalEvent() as event, channel=channel):
                return self._channels[channel or 0].final(event)
            case Flushed(_, words, position, channel):
                return self._channels[channel or 0].flushed(words, position)
            case Pong(_, position):
                return self._utterances_over(position)
            case Ready(unsupported=names):
                self._cannot_expect(names)
            case Configured(unsupported):
                return [self._configured(unsupported)]
            case Done():
                return [*self._utterances_over(None), self._metadata(reply)]
            case Failed(error):
                return [{"type": "Error", "variant": _variant(error), "description": str(error)}]
        return []

    def _start(self, audio_format: AudioFormat) -> list[Command]:
        """Begin the stream, now that it is known what it is."""
        self._beginning, self._format = None, audio_format
        apart = audio_format.channels_apart
        if audio_format.raw:
            self._samples = WholeSamples(audio_format.frame_bytes)
        count, rate = audio_format.channels if apart else 1, audio_format.sample_rate
        about = self._about()
        self._channels = [_Channel([n, count], rate, self._wanted, about) for n in range(count)]
        wanted = self._wanted
        watching = wanted.interim or wanted.speech_started or wanted.utterance_end_ms is not None
        start = Start(
            audio_format,
            watching,
            self._endpoint_ms,
            partial_words=watching,
            phrases=self._phrases,
        )
        return [start, *self._waiting]

    def _audio(self, data: bytes) -> list[Command]:
        self._sha256.update(data)
        commands: list[Command] = []
        if self._beginning is not None:
            known = self._beginning.take(data)
            if known is None:
                return []
            data = self._beginning.data
            commands = self._start(self._as_announced(known))
        commands.append(Audio(self._samples.take(data) if self._samples else data))
        return commands if self._wanted.utterance_end_ms is None else [*commands, Ping(None)]

    def _as_announced(self, known: AudioFormat) -> AudioFormat:
        """The format of a file, heard as the address says; but its header is right."""
        said = self._format
        for name, wanted, found in (
            ("sample_rate", said.sample_rate, known.sample_rate),
            ("channels", said.channels, known.channels),
        ):
            if wanted not in {0, found}:
                self._warnings.append(warning(name, f"it is {found}, as the audio's header says"))
        apart = said.channels_apart and known.channels > 1
        return replace(known, channels_apart=apart, cut_short=said.cut_short)

    def _close(self) -> list[Command]:
        self._finished = True
        if self._beginning is None:
            return [Finish()]
        if self._beginning.data:
            raise ProtocolError("the audio ends within its header", *UNREADABLE)
        return [*self._start(NO_AUDIO), Finish()]

    def _nothing_yet(self) -> list[Command]:
        """The answer to a `Finalize` before the stream has begun."""
        channel = _Channel([0, 1], NO_AUDIO.sample_rate, self._wanted, self._about())
        return [Answer(write(fields)) for fields in channel.flushed((), 0)]

    def _utterances_over(self, position: int | None) -> list[Fields]:
        return [said for channel in self._channels for said in channel.utterance_over(position)]

    # Expected phrases

    def _configure(self, fields: Fields) -> list[Command]:
        given, features = fields.get("keyterms"), fields.get("features")
        if features or not isinstance(given, list) or not all(isinstance(k, str) for k in given):
            failure = self._failure("only a list of keyterms can be changed in mid-stream")
            return [Answer(write(failure))]
        if (why := too_long(given)) is not None:
            return [Answer(write(self._failure(f"keyterms: {why}")))]
        if len(self._waiting) == MAX_NAMES:
            return [Answer(write(self._failure("send audio first: too many of these wait for it")))]
        self._keyterms.append(given)
        configure = Configure(None, phrases=tuple(map(plain, given)))
        if self._beginning is None:
            return [configure]
        self._waiting.append(configure)
        return []

    def _configured(self, unsupported: tuple[str, ...]) -> Fields:
        keyterms = self._keyterms.popleft()
        refused = not_expected(unsupported)
        if refused is None:
            return self._failure("this server's model cannot expect keyterms")
        return {
            "type": "ConfigureSuccess",
            "request_id": self._request_id,
            "keyterms": [k for n, k in enumerate(keyterms) if n not in refused],
        }

    def _failure(self, why: str) -> Fields:
        return {
            "type": "ConfigureFailure",
            "request_id": self._request_id,
            "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
            "description": why,
        }

    def _cannot_expect(self, unsupported: tuple[str, ...]) -> None:
        refused = not_expected(unsupported)
        texts = ["all of them"] if refused is None else [self._phrases[n] for n in refused]
        for text in texts[:MAX_NAMES]:
            message = f"{text[:64]}: the model cannot expect it"
            self._warnings.append(warning("keyterm", message))

    # About the stream

    def _about(self) -> Fields:
        model = self._model
        return {
            "request_id": self._request_id,
            "model_info": {"name": model.name, "version": model.id[:12], "arch": "asr"},
            "model_uuid": model.id,
            "warnings": self._warnings,
        }

    def _metadata(self, done: Done) -> Fields:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._sha256.hexdigest(),
            "created": self._created,
            "duration": seconds(done.position, done.sample_rate),
            "channels": self._format.channels,
            "models": [self._model.id],
            "model_info": {self._model.id: self._about()["model_info"]},
            "warnings": self._warnings,
        }


def _variant(error: ProtocolError) -> str:
    return "SchemaError" if error.code == UNREADABLE[0] else error.code


def refusal(error: ProtocolError) -> tuple[str, str]:
    """The answer to an address that asks for what cannot be had, before the upgrade."""
    body = {"err_code": "Bad Request", "err_msg": str(error), "request_id": str(uuid.uuid4())}
    return "application/json", write(body)
