"""What a client may want and what the server says, in words that belong to no protocol.

A protocol (one file each, such as `server/native.py`) turns messages into commands and replies into
messages. It has no socket and no clock, so it is tested with plain strings and bytes. The session
carries commands to the engine and brings the replies back.

Positions and times are samples at the input rate since the stream began. `since` is the moment, on
the server's monotonic clock in seconds, when the last thing arrived that a reply depends on.

A connection carries one stream of audio, from `Start` to `Done`; or several, one after another,
where the protocol has utterances of their own (`Finish(more=True)`, `Discard`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Protocol as Interface

from server.formats import SAMPLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asr.errors import ProtocolError
    from asr.transcript import Event, Word

MessageId = int | str | None
Message = str | bytes


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How audio is written on the wire; see `server.formats`.

    Attributes:
        encoding: one of `server.formats.ENCODINGS`.
        sample_rate: samples per second, 8,000 to 48,000; 0 where a container says it.
        channels: 1 to 8, interleaved; 0 where a container says it.
        channels_apart: whether each channel is transcribed for itself, instead of their mean; then
            `channels` is not 0.
        cut_short: whether it is no error that a container breaks off.
    """

    encoding: str
    sample_rate: int
    channels: int = 1
    channels_apart: bool = False
    cut_short: bool = False

    @property
    def raw(self) -> bool:
        """Whether there is nothing but samples, without a header."""
        return self.encoding in SAMPLE_BYTES

    @property
    def frame_bytes(self) -> int:
        """Bytes that hold one sample of every channel, of a raw encoding."""
        return SAMPLE_BYTES[self.encoding] * self.channels


# Commands: what a client wants.


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a stream of audio.

    Attributes:
        format: how the samples will be written.
        partials: whether partial results are wanted.
        endpoint_ms: silence that closes a segment, or None for the recogniser's own.
        unsupported: names of fields that were given and are not understood.
        partial_words: whether partial results come with their words and times.
        phrases: what is likely to be said.
        n_best: readings wanted of a segment.
        message: what the client sent, from which the stream can be resumed: a conversation that is
            given it again is where this one is. Empty where the protocol knows no resuming.
        resumes: whether the client will resume when the server goes away.
    """

    format: AudioFormat
    partials: bool = True
    endpoint_ms: int | None = None
    unsupported: tuple[str, ...] = ()
    partial_words: bool = False
    phrases: tuple[str, ...] = ()
    n_best: int = 1
    message: str = ""
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with a stream whose connection was lost.

    Attributes:
        token: as `Ready` told it.
        position: samples that the client has sent.
        segments: finals that it has of each channel, which is the number of the next one; one
            number where they are not heard apart. None if it does not say.
        unsupported: names of fields that were given and are not understood.
    """

    token: str
    position: int
    segments: tuple[int, ...] | None = None
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The client has the finals below these numbers; they need not be kept for it.

    Attributes:
        segments: one of each channel that is heard apart, else one.
    """

    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Audio:
    """Whole samples in the format of `Start`."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Flush:
    """Say everything heard so far; the stream goes on unchanged."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Configure:
    """Change options from this point of the audio on.

    Attributes:
        endpoint_ms: silence that closes a segment, or None to leave it as it is.
        unsupported: names of fields that were given and are not understood.
        phrases: what is likely to be said from here on, or None to leave it as it is.
    """

    endpoint_ms: int | None
    unsupported: tuple[str, ...] = ()
    phrases: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer when all audio before it has been recognised."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio comes: the last finals, then `Done`.

    Attributes:
        more: whether the connection stays open for another stream. What the client sends until
            `Done` has left is taken in afterwards.
    """

    more: bool = False


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget the stream; nobody wants its words. The connection stays open for another one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Something that the protocol says by itself, without the recogniser. A reply, too.

    Attributes:
        message: ready to be sent, behind all replies there are; or several, or none: then all that
            it says is, to the session, that the client has begun.
    """

    message: Message | tuple[Message, ...]


Command = (
    Start | Resume | Audio | Flush | Configure | Ping | Acknowledge | Finish | Discard | Answer
)


# Replies: what the server says.


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model listens, and how long it must listen before it can speak."""

    name: str
    id: str
    block_ms: int
    look_ahead_ms: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The stream is open.

    Attributes:
        position: the sample from which to send; more than 0 in a resumed stream.
        model: what listens.
        unsupported: names of fields that were not understood.
        token: names the stream to whoever resumes it.
        resumable: whether a snapshot of it was written.
    """

    position: int
    model: ModelInfo
    unsupported: tuple[str, ...]
    token: str = ""
    resumable: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """The stream can be resumed at this sample; the client need not keep those before it."""

    position: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A partial or a final.

    Attributes:
        event: what was heard.
        since: when it could be heard.
        words: of a partial whose stream was started with `partial_words`: those of the open
            segment, with times that may still change beyond the stable ones. Otherwise empty.
        channel: from 0, where each is heard apart; their segments are numbered apart, too.
    """

    event: Event
    since: float
    words: tuple[Word, ...] = ()
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Flushed:
    """The words of the open segment as they would be final if the audio ended here.

    One of each channel, where they are heard apart.
    """

    id: MessageId
    words: tuple[Word, ...]
    position: int
    channel: int | None = None
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Configured:
    """The options hold from here on."""

    unsupported: tuple[str, ...]
    position: int = 0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Pong:
    """All audio before the ping has been recognised.

    Attributes:
        id: of the ping.
        position: samples of that audio.
        since: when the ping came; likewise in the other answers.
    """

    id: MessageId
    position: int = 0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Audio waits longer than it should; it is kept, but the socket is not read for a while."""

    backlog_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """The last word: every accepted sample has been recognised.

    Attributes:
        position: samples accepted.
        sample_rate: of the input, to tell the duration in seconds.
        repaired: samples that were no audio (not finite, or beyond ±1e6) and were taken as 0.
        since: when the end of the audio was announced.
    """

    position: int
    sample_rate: int
    repaired: int
    since: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The session ends because of this error."""

    error: ProtocolError


Reply = Ready | Saved | Heard | Flushed | Configured | Pong | SlowDown | Done | Failed


@dataclass(frozen=True, slots=True)
class Hello:
    """How a client opened its connection, for protocols that say something with it.

    Attributes:
        query: what stands behind the `?` of the address, decoded, in order.
        headers: of the request; names in any case.
        model: what will listen.
    """

    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    model: ModelInfo


class Protocol(Interface):
    """One client's conversation in one protocol: a state machine without I/O."""

    def opening(self) -> list[Command]:
        """What the opening of the connection alone asks for. To be called once, first of all."""
        ...

    def receive(self, message: Message) -> Iterable[Command]:
        """Take in one message of the client.

        Raises:
            ProtocolError: the message breaks the protocol. Where it holds several commands, those
                before the breach have been yielded. The caller must end the session with it.
        """
        ...

    def encode(self, reply: Reply, now: float) -> Message | tuple[Message, ...]:
        """The message that tells the client of `reply`, or several, or none.

        Args:
            reply: to be told to the client; each that there is, in order.
            now: when the message is sent, in monotonic seconds.
        """
        ...
