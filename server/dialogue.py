"""What a client may want and what the server says, in words that belong to no protocol.

A protocol (one file each, such as `server/native.py`) turns messages into commands and replies into
messages. It has no socket and no clock, so it is tested with plain strings and bytes. The session
carries commands to the engine and brings the replies back.

Positions and times are samples at the input rate since the session began. `since` is the moment, on
the server's monotonic clock in seconds, when the last thing arrived that a reply depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Protocol as Interface

if TYPE_CHECKING:
    from asr.errors import ProtocolError
    from asr.transcript import Event, Word

MessageId = int | str | None


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How samples are written on the wire.

    Attributes:
        encoding: `s16le` or `f32le`.
        sample_rate: samples per second, 8,000 to 48,000.
        channels: interleaved channels.
    """

    encoding: str
    sample_rate: int
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """Bytes that hold one sample of every channel."""
        return {"s16le": 2, "f32le": 4}[self.encoding] * self.channels


# Commands: what a client wants.


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a stream of audio.

    Attributes:
        format: how the samples will be written.
        partials: whether partial results are wanted.
        endpoint_ms: silence that closes a segment, or None for the recogniser's own.
        unsupported: names of fields that were given and are not understood.
    """

    format: AudioFormat
    partials: bool = True
    endpoint_ms: int | None = None
    unsupported: tuple[str, ...] = ()


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
    """Change options from this point of the audio on."""

    endpoint_ms: int | None
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer when all audio before it has been recognised."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio comes: the last finals, then `Done`."""


Command = Start | Audio | Flush | Configure | Ping | Finish


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
    """The stream is open."""

    position: int
    model: ModelInfo
    unsupported: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """A partial or a final."""

    event: Event
    since: float


@dataclass(frozen=True, slots=True)
class Flushed:
    """The words of the open segment as they would be final if the audio ended here."""

    id: MessageId
    words: tuple[Word, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Configured:
    """The options hold from here on."""

    unsupported: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pong:
    """All audio before the ping has been recognised."""

    id: MessageId


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


Reply = Ready | Heard | Flushed | Configured | Pong | SlowDown | Done | Failed


class Protocol(Interface):
    """One client's conversation in one protocol: a state machine without I/O."""

    def receive(self, message: bytes | str) -> list[Command]:
        """Take in one message of the client.

        Raises:
            ProtocolError: the message breaks the protocol. The caller must end the session with it.
        """
        ...

    def encode(self, reply: Reply, now: float) -> str:
        """The message that tells the client of `reply`, sent at `now` (monotonic seconds)."""
        ...
