"""The protocol of vosk-server's websocket, without I/O.

Every binary message gets exactly one answer: `text` where a segment was closed, else `partial`.
Sample clients wait for each answer before they send on, so a ping behind each message says when it
has been heard, and what was heard until then is told in one. Times are seconds since the connection
began. There is no message for errors: one with `error` and an empty `text` comes before the close.

Where this departs from the original: any object with a true `eof` ends the stream, however it is
written; text that is no message is refused, not heard as audio; no client chooses the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asr.errors import ProtocolError
from asr.transcript import Partial, Word
from server.dialogue import (
    Audio,
    AudioFormat,
    Command,
    Done,
    Failed,
    Finish,
    Heard,
    Hello,
    Message,
    Ping,
    Pong,
    Reply,
    Start,
)
from server.formats import MAX_RATE, MIN_RATE
from server.protocols.wire import (
    MAX_NAMES,
    Fields,
    WholeSamples,
    read_object,
    seconds,
    show,
    whole_number,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_RATE: Final = 8000  # a surprise to many, but it is what clients without `config` send


class Vosk:
    """One client's conversation in vosk-server's protocol."""

    def __init__(self, hello: Hello) -> None:
        del hello  # the address says nothing
        self._rate = DEFAULT_RATE
        self._words = True
        self._partial_words = False
        self._alternatives = 0
        self._unsupported: dict[str, None] = {}
        self._samples: WholeSamples | None = None  # of the open stream
        self._finished = False
        self._before = 0  # samples of the streams before a reset
        self._closed: list[Word] = []  # words of segments that were closed since the last answer
        self._any_closed = False
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
            self._configure(fields["config"])
            return []
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
            case Heard(event, _, words) if isinstance(event, Partial):
                self._open = f"{event.stable} {event.tentative}".strip()
                self._open_words = words
            case Heard(event):
                assert not isinstance(event, Partial)  # noqa: S101 - the case before
                self._closed += event.words
                self._any_closed = True
                self._open, self._open_words = "", ()
            case Pong():
                return (write(self._result() if self._any_closed else self._partial()),)
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
        return [Start(audio_format, partial_words=self._partial_words)]

    def _configure(self, config: object) -> None:
        if not isinstance(config, dict):
            raise _bad(f"config must be an object, not {show(config)}")
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
                case _:
                    self._cannot(name, value)

    def _set_rate(self, value: object) -> None:
        try:
            number = float(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        rate = whole_number(number, MIN_RATE, MAX_RATE)
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
        number = whole_number(value, 0, 10**6)
        if number is None:
            raise _bad(f"max_alternatives must be a whole number, not {show(value)}")
        self._alternatives = number
        if number > 1:
            self._cannot("max_alternatives", number)

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
        words, self._closed, self._any_closed = self._closed, [], False
        text = " ".join(word.text for word in words)
        result: Fields = {}
        if self._words and words:
            result["result"] = self._word_list(words)
        result["text"] = text
        if self._alternatives:
            for word in result.get("result", []):
                del word["conf"]
            sureness = sum(word.confidence for word in words) / max(1, len(words))
            result = {"alternatives": [{"confidence": round(sureness, 4), **result}]}
        if self._unsupported:
            result["unsupported"] = list(self._unsupported)
        return result

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


def _bad(message: str) -> ProtocolError:
    return ProtocolError(message, "bad_message", 1007)
