"""The protocol of vosk-server's websocket, without I/O.

Every binary message gets exactly one answer: `text` where a segment was closed, else `partial`.
Sample clients wait for each answer before they send on, so a ping behind each message says when it
has been heard, and what was heard until then is told in one. Times are seconds since the connection
began. There is no message for errors: one with `error` and an empty `text` comes before the close.

Where this departs from the original: any object with a true `eof` ends the stream, however it is
written; text that is no message is refused, not heard as audio; no client chooses the model; the
phrases of `phrase_list` are expected, but other words are heard, too.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from asr.errors import ProtocolError
from asr.state import MAX_N_BEST, plain
from asr.transcript import Final as FinalEvent
from asr.transcript import Partial, Word
from server.dialogue import (
    Audio,
    AudioFormat,
    Command,
    Configure,
    Configured,
    Done,
    Failed,
    Finish,
    Heard,
    Hello,
    Message,
    Ping,
    Pong,
    Ready,
    Reply,
    Start,
)
from server.formats import MAX_RATE, MIN_RATE
from server.protocols.wire import (
    MAX_NAMES,
    MAX_PHRASE,
    MAX_PHRASES,
    Fields,
    WholeSamples,
    not_expected,
    read_object,
    seconds,
    show,
    sureness,
    whole_number,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_RATE: Final = 8000  # a surprise to many, but it is what clients without `config` send
ANYTHING_ELSE: Final = (
    "[unk]"  # in a list of phrases: other words may come, as they always may here
)


class Vosk:
    """One client's conversation in vosk-server's protocol."""

    def __init__(self, hello: Hello) -> None:
        del hello  # the address says nothing
        self._rate = DEFAULT_RATE
        self._words = True
        self._partial_words = False
        self._alternatives = 0
        self._phrases: tuple[str, ...] = ()
        self._places: tuple[int, ...] = ()  # of each of them in the client's list
        self._asked: deque[tuple[int, ...]] = deque()  # the same, of what is not answered yet
        self._unsupported: dict[str, None] = {}
        self._samples: WholeSamples | None = None  # of the open stream
        self._finished = False
        self._before = 0  # samples of the streams before a reset
        self._closed: list[FinalEvent] = []  # segments, since the last answer
        self._open = ""  # the open segment
        self._open_words: tuple[Word, ...] = ()

    def opening(self) -> list[Command]:
        """Nothing: the client speaks first."""
        return []

    def receive(self, message: bytes | str) -> list[Command]:
        """Take in audio, or an object with `config`, `eof` or `reset`.

        Raises:
            ProtocolError: it is neither. The caller must end the session with it.
        """
        if self._finished:
            return []
        if isinstance(message, bytes):
            start = self._started()
            assert self._samples is not None  # noqa: S101 - just made
            return [*start, Audio(self._samples.take(message)), Ping(None)]
        try:
            fields = read_object(message)
        except ValueError as error:
            raise _bad(f"text message is {error}") from error
        if "config" in fields:
            return self._configure(fields["config"])
        if _truth(fields.get("eof")):
            self._finished = True
            return [*self._started(), Finish()]
        if _truth(fields.get("reset")):
            start = self._started()
            self._samples = None
            return [*start, Finish(more=True)]
        raise _bad("an object without config, a true eof or a true reset")

    def encode(self, reply: Reply, now: float) -> tuple[Message, ...]:
        """The messages that tell the client of `reply`. `now` is not told in this protocol."""
        del now
        match reply:
            case Heard(Partial() as event, _, words):
                self._open = event.text
                self._open_words = words
            case Heard(FinalEvent() as event):
                self._closed.append(event)
                self._open, self._open_words = "", ()
            case Pong():
                return (write(self._result() if self._closed else self._partial()),)
            case Ready(unsupported=names) | Configured(names):
                self._cannot_expect(names)
            case Done(position):
                result = self._result()
                self._before += position
                return (write(result),)
            case Failed(error):
                return (write({**self._result(), "error": str(error)}),)
        return ()

    def _started(self) -> list[Command]:
        """The start of a stream, if there is none."""
        if self._samples is not None:
            return []
        audio_format = AudioFormat("s16le", self._rate, 1)
        self._samples = WholeSamples(audio_format.frame_bytes)
        self._asked.append(self._places)
        return [
            Start(
                audio_format,
                partial_words=self._partial_words,
                phrases=self._phrases,
                n_best=min(max(1, self._alternatives), MAX_N_BEST),
            )
        ]

    def _configure(self, config: object) -> list[Command]:
        if not isinstance(config, dict):
            raise _bad(f"config must be an object, not {show(config)}")
        commands: list[Command] = []
        for name, value in config.items():
            match name:
                case "sample_rate":
                    self._set_rate(value)
                case "words":
                    self._words = _truth(value)
                case "partial_words":
                    self._set_partial_words(wanted=_truth(value))
                case "max_alternatives":
                    self._set_alternatives(value)
                case "phrase_list":
                    self._set_phrases(value)
                    if self._samples is not None:
                        self._asked.append(self._places)
                        commands = [Configure(None, phrases=self._phrases)]
                case _:
                    self._cannot(name, value)
        return commands

    def _set_rate(self, value: object) -> None:
        rate = _whole(value, MIN_RATE, MAX_RATE)
        if rate is None:
            raise _bad(f"sample_rate {show(value)} is not supported; send {MIN_RATE} to {MAX_RATE}")
        if (self._samples or self._before) and rate != self._rate:
            raise _bad("sample_rate cannot change in mid-stream; send it before the audio")
        self._rate = rate

    def _set_partial_words(self, *, wanted: bool) -> None:
        if wanted and self._samples and not self._partial_words:
            self._cannot("partial_words", wanted)  # the stream was begun without
        else:
            self._partial_words = wanted

    def _set_alternatives(self, value: object) -> None:
        number = _whole(value, 0, 10**6)
        if number is None:
            raise _bad(f"max_alternatives must be a whole number, not {show(value)}")
        if number > MAX_N_BEST or (self._samples and number > max(1, self._alternatives)):
            self._cannot("max_alternatives", number)  # so many, or in a stream begun with fewer
        if self._samples is None or number <= self._alternatives:
            self._alternatives = number

    def _set_phrases(self, value: object) -> None:
        given = [] if value is None else value
        if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
            raise _bad(f"phrase_list must be a list of texts, not {show(value)}")
        phrases = [(place, plain(text)) for place, text in enumerate(given)]
        phrases = [(place, text) for place, text in phrases if text not in {"", ANYTHING_ELSE}]
        for place, text in phrases:
            if place >= MAX_PHRASES or len(text) > MAX_PHRASE:
                self._cannot(f"phrase_list[{place}]", text)
        kept = [(n, text) for n, text in phrases if n < MAX_PHRASES and len(text) <= MAX_PHRASE]
        self._places = tuple(place for place, _ in kept)
        self._phrases = tuple(text for _, text in kept)

    def _cannot_expect(self, names: tuple[str, ...]) -> None:
        """Name what the recogniser cannot do as the client had asked for it."""
        places = self._asked.popleft()
        numbers = not_expected(names)
        if numbers is None:
            self._cannot("phrase_list", places)
        for number in numbers or ():
            self._cannot(f"phrase_list[{places[number]}]", names)
        if "options.n_best" in names:
            self._cannot("max_alternatives", self._alternatives)

    def _cannot(self, name: str, value: object) -> None:
        """Note an option to be named in the results, unless it asks for nothing."""
        if value and len(self._unsupported) < MAX_NAMES:
            self._unsupported[name[:64]] = None

    def _partial(self) -> Fields:
        partial: Fields = {"partial": self._open}
        if self._partial_words and self._open_words:
            partial["partial_result"] = self._word_list(self._open_words)
        return partial

    def _result(self) -> Fields:
        closed, self._closed = self._closed, []
        readings = self._readings(closed)
        if self._alternatives:
            best = sureness(readings[0][1])
            result: Fields = {
                "alternatives": [
                    # Lower from one to the next, as there, where it is the likelihood itself.
                    {"confidence": round(best * math.exp(score), 4), **self._told(words)}
                    for score, words in readings
                ]
            }
        else:
            result = self._told(readings[0][1])
        if self._unsupported:
            result["unsupported"] = list(self._unsupported)
        return result

    def _readings(self, closed: Sequence[FinalEvent]) -> list[tuple[float, tuple[Word, ...]]]:
        """The likeliest readings of all these segments together, best first, each with a score."""
        readings: list[tuple[float, tuple[Word, ...]]] = [(0.0, ())]
        for final in closed:
            some = [(0.0, final.words), *((a.score, a.words) for a in final.alternatives)]
            together = [(s + t, words + more) for s, words in readings for t, more in some]
            together.sort(key=lambda reading: -reading[0])
            readings = together[: max(1, min(self._alternatives, MAX_N_BEST))]
        return readings

    def _told(self, words: Sequence[Word]) -> Fields:
        text = " ".join(word.text for word in words)
        if not self._words or not words:
            return {"text": text}
        told = self._word_list(words)
        if self._alternatives:
            for word in told:
                del word["conf"]
        return {"result": told, "text": text}

    def _word_list(self, words: Sequence[Word]) -> list[Fields]:
        return [
            {
                "conf": word.confidence,
                "end": seconds(self._before + word.end, self._rate),
                "start": seconds(self._before + word.start, self._rate),
                "word": word.text,
            }
            for word in words
        ]


def _truth(value: object) -> bool:
    """Whether a switch is on: clients write 1, true and "true"."""
    if isinstance(value, str):
        return value.strip().lower() not in {"", "0", "false", "no"}
    return bool(value)


def _whole(value: object, least: int, most: int) -> int | None:
    """A whole number in these bounds, also one in quotes; else None."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return whole_number(number, least, most)


def _bad(message: str) -> ProtocolError:
    return ProtocolError(message, "bad_message", 1007)
