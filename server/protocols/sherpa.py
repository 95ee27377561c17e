"""The protocol of sherpa-onnx's streaming websocket server (the C++ one), without I/O.

Samples in, `Done` at the end; a result whenever the text of the segment has changed, and `Done!`
behind the last. `segment` counts from 0, `start_time` is where the segment begins, in seconds since
the connection began; `timestamps` count from there and belong to `tokens`, which here are words.
There is no message for errors: the close has a code and a reason.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from asr.errors import ProtocolError
from asr.transcript import Final as FinalEvent
from asr.transcript import Partial, Word
from server.dialogue import (
    Audio,
    AudioFormat,
    Command,
    Done,
    Finish,
    Heard,
    Hello,
    Message,
    Reply,
    Start,
)
from server.protocols.wire import WholeSamples, seconds, show, write

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT: Final = AudioFormat("f32le", 16000, 1)
DONE: Final = "Done"  # no more samples come
LEAST: Final = 1e-6  # a confidence below it is told as its logarithm, too


class Sherpa:
    """One client's conversation in sherpa-onnx's protocol."""

    def __init__(self, hello: Hello) -> None:
        del hello  # the address says nothing
        self._samples = WholeSamples(FORMAT.frame_bytes)
        self._finished = False
        self._segment = 0  # number of the open one
        self._from = 0  # sample where it begins
        self._told_end = False  # `is_eof` was sent

    def opening(self) -> list[Command]:
        """The stream begins with the connection: there is one format."""
        return [Start(FORMAT, partial_words=True)]

    def receive(self, message: bytes | str) -> list[Command]:
        """Take in samples, or `Done`.

        Raises:
            ProtocolError: another text. The caller must end the session with it.
        """
        if self._finished:
            return []
        if isinstance(message, bytes):
            return [Audio(self._samples.take(message))]
        if message != DONE:
            raise ProtocolError(
                f"text message {show(message)} is not {DONE}, the only one there is",
                "unknown_type",
                1003,
            )
        self._finished = True
        return [Finish()]

    def encode(self, reply: Reply, now: float) -> tuple[Message, ...]:
        """The messages that tell the client of `reply`. `now` is not told in this protocol."""
        del now
        match reply:
            case Heard(Partial() as event, _, words):
                return (self._result(event.text, words),)
            case Heard(FinalEvent() as event):
                self._told_end = event.reason == "finish"
                result = self._result(event.text, event.words, is_final=True)
                self._segment, self._from = event.segment + 1, event.position
                return (result,)
            case Done():
                last = () if self._told_end else (self._at_end(),)
                return (*last, "Done!")
        return ()

    def _at_end(self) -> str:
        self._told_end = True
        return self._result("", (), is_final=True)

    def _result(self, text: str, words: Sequence[Word], *, is_final: bool = False) -> str:
        first = min([self._from, *(word.start for word in words[:1])])
        rate = FORMAT.sample_rate
        return write(
            {
                "text": text,
                "tokens": [f" {word.text}" for word in words],
                "timestamps": [seconds(word.start - first, rate) for word in words],
                "ys_probs": [round(math.log(max(word.confidence, LEAST)), 4) for word in words],
                "lm_probs": [],
                "context_scores": [],
                "segment": self._segment,
                "words": [],
                "start_time": seconds(first, rate),
                "is_final": is_final,
                "is_eof": self._told_end,
            }
        )
