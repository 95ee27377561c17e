"""The client's side of a session in the native protocol, without I/O.

One session goes over as many connections as it takes: what was sent and not yet saved by the server
is kept, in bounds, and sent again where a new connection goes on with it; see `docs/protocol.md`.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any
from typing import Final as Constant

from asr.audio import to_f32le
from asr.errors import ProtocolError, ServerError
from asr.features import check_samples
from asr.transcript import Alternative, Event, Final, Partial, Word

if TYPE_CHECKING:
    from asr.resampling import Samples
    from asr.state import Options

SAMPLE_BYTES: Constant = 4  # of f32le, in which samples are sent
PIECE: Constant = 65_536  # samples in a message at most: 256 KiB
# Samples kept for sending them again: 32 MiB, more than the server and all sockets between can hold
# unsaved. What is older is given up; a cut that needs it is an error.
KEPT: Constant = 8_388_608
PASSING: Constant = frozenset({"resume_unavailable", "unavailable"})  # errors that may be gone soon


class PassingError(ServerError):
    """The server cannot go on just now; the same may succeed in a moment.

    Attributes:
        retry_after: seconds after which it asks to be tried again, or None if it does not say.
    """

    def __init__(
        self, message: str, retry_after: int | None = None, *, reached: bool = True
    ) -> None:
        super().__init__(message, reached=reached)
        self.retry_after = retry_after


class Conversation:
    """The client's side of one session.

    Args:
        sample_rate: of the samples, 8,000 to 48,000.
        options: what is wanted of the recogniser.

    Attributes:
        ready: whether the server has opened the stream on this connection.
        resumable: whether another connection can go on with it.
        done: samples that the server has recognised in all, or None until it says so.
        repaired: how many of them were no audio, as it says with them.
        heard: samples given to `audio`.
        sent: how many of them are on their way, or further.
        saved: how many of them the server will not ask for again.
        segments: finals received.
        finished: whether `finish` was called.
    """

    def __init__(self, sample_rate: int, options: Options) -> None:
        self.ready = False
        self.resumable = False
        self.done: int | None = None
        self.repaired = 0
        self.heard = 0
        self.sent = 0
        self.saved = 0
        self.segments = 0
        self.finished = False
        self._sample_rate = sample_rate
        self._options = options
        self._token = ""
        self._waiting: deque[bytes] = deque()  # not sent yet
        self._away: deque[bytes] = deque()  # sent, and kept
        self._first = 0  # where the first of them begins
        self._acknowledged = 0
        self._said_finish = False

    def start(self) -> str:
        """The first message to send on a connection: it begins the session, or goes on with it."""
        self.ready = self._said_finish = False
        if self.resumable:
            resume = {"token": self._token, "position": self.sent, "segments": self.segments}
            return _write({"type": "start", "version": 1, "resume": resume})
        return _write(
            {
                "type": "start",
                "version": 1,
                "format": {"encoding": "f32le", "sample_rate": self._sample_rate, "channels": 1},
                "options": {
                    "partials": self._options.partials,
                    "words": True,
                    "endpoint_ms": self._options.endpoint_ms,
                    "phrases": self._options.phrases,
                    "n_best": self._options.n_best,
                    "resume": True,
                },
            }
        )

    def audio(self, samples: Samples) -> None:
        """Take in samples to be sent, float32 [n], n ≥ 0.

        Raises:
            AudioError: `samples` has another type or shape.
        """
        check_samples(samples)
        for first in range(0, len(samples), PIECE):
            self._waiting.append(to_f32le(samples[first : first + PIECE]))
        self.heard += len(samples)

    def finish(self) -> None:
        """No more audio comes."""
        self.finished = True

    def next_message(self) -> str | bytes | None:
        """The next message to send when the server is ready, or None until there is one."""
        if self.done is not None or self._said_finish:
            return None
        if self.resumable and self._acknowledged < self.segments:
            self._acknowledged = self.segments
            return _write({"type": "ack", "segments": self.segments})
        if self._waiting:
            return self._piece()
        if self.finished:
            self._said_finish = True
            return _write({"type": "finish"})
        return None

    def receive(self, message: str | bytes) -> Event | None:
        """Take in a message of the server; return the event that it carries, if it does.

        Raises:
            ServerError: the server says that something failed, or goes on where the samples are not
                kept any more; `PassingError` where that may be over in a moment.
            ProtocolError: the message is none of the protocol's.
        """
        fields: dict[str, Any]
        try:
            fields = json.loads(message) if isinstance(message, str) else {}
            kind = fields["type"]
            if kind == "partial":
                return self._new(_partial(fields))
            if kind == "final":
                return self._new(_final(fields))
            if kind == "ready":
                self._open(fields)
            elif kind == "saved":
                self.saved = _whole(fields, "position")
                self._forget(self.saved)
            elif kind == "done":
                self.done, self.repaired = _whole(fields, "position"), _whole(fields, "repaired")
            elif kind == "error":
                code = _text(fields, "code")
                failure = PassingError if code in PASSING else ServerError
                raise failure(f"server: {_text(fields, 'message')} ({code})")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ProtocolError(
                f"the server sent a message that makes no sense ({error!r})"
            ) from error
        return None  # other types are from a newer server, and ask for nothing

    def _open(self, fields: dict[str, Any]) -> None:
        """The server is ready for the samples from a position on."""
        self._check_wishes(fields.get("unsupported"))
        position = _whole(fields, "position")
        if not self._first <= position <= self.sent:
            self.resumable = False
            raise ServerError(
                f"the server goes on at sample {position}; those kept for that are {self._first} "
                f"to {self.sent}"
            )
        self._rewind(position)
        self._token = str(fields.get("token", ""))  # older servers know none
        self.resumable = fields.get("resumable") is True
        self.ready = True

    def _check_wishes(self, unsupported: object) -> None:
        """Make sure that the server does all that was asked for, as a model here would."""
        names = unsupported if isinstance(unsupported, list) else []
        if self._options.n_best > 1 and "options.n_best" in names:
            raise ServerError("n_best: the server's model has no language and no other readings")
        if self._options.phrases and "options.phrases" in names:
            raise ServerError("phrases: the server's model has no language to expect them in")
        for number, phrase in enumerate(self._options.phrases):
            if f"options.phrases[{number}]" in names:
                raise ServerError(
                    f"phrases: the server's lexicon does not say how all words of {phrase!r} sound"
                )

    def _new(self, event: Event) -> Event | None:
        """The event, unless it belongs to a segment whose final is there already."""
        if event.segment < self.segments:
            return None
        if isinstance(event, Final):
            self.segments = event.segment + 1
        return event

    def _piece(self) -> bytes:
        """The next samples to send. They are kept while they may be wanted again."""
        piece = self._waiting.popleft()
        self.sent += len(piece) // SAMPLE_BYTES
        if self.resumable:
            self._away.append(piece)
            self._forget(max(self.saved, self.sent - KEPT))
        else:
            self._first = self.sent
        return piece

    def _rewind(self, position: int) -> None:
        """Put what was sent from a position on before what waits."""
        while self.sent > position:
            piece = self._away.pop()
            self.sent -= len(piece) // SAMPLE_BYTES
            if self.sent < position:
                head = SAMPLE_BYTES * (position - self.sent)
                self._away.append(piece[:head])
                piece, self.sent = piece[head:], position
            self._waiting.appendleft(piece)

    def _forget(self, before: int) -> None:
        """Drop the pieces sent that end before a sample."""
        while self._away and (end := self._first + len(self._away[0]) // SAMPLE_BYTES) <= before:
            self._away.popleft()
            self._first = end


def _write(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


def _partial(fields: dict[str, Any]) -> Partial:
    return Partial(
        _whole(fields, "segment"),
        _text(fields, "stable"),
        _text(fields, "tentative"),
        _whole(fields, "position"),
    )


def _final(fields: dict[str, Any]) -> Final:
    return Final(
        _whole(fields, "segment"),
        _words(fields),
        _text(fields, "reason"),
        _whole(fields, "position"),
        tuple(Alternative(_words(a), float(a["score"])) for a in fields.get("alternatives", ())),
    )


def _words(fields: dict[str, Any]) -> tuple[Word, ...]:
    words = tuple(
        Word(
            _text(word, "word"),
            _whole(word, "start"),
            _whole(word, "end"),
            float(word["confidence"]),
        )
        for word in fields["words"]
    )
    if not words:
        raise ValueError("a segment without words")
    return words


def _whole(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r:.40}")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r:.40}")
    return value
