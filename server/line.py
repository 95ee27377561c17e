"""One session's stream in the engine: the jobs that wait, its states, and what is told of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asr.errors import ProtocolError
from asr.features import BLOCK_SUPPORT, frame_span
from asr.recognizer import NOTHING
from asr.transcript import Event, Partial, Word
from asr.transcript import Final as FinalEvent
from server.dialogue import Acknowledge, Configure, Failed, Flush, Heard, Ping, Reply
from server.snapshot import Record, Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asr.resampling import Samples
    from asr.state import State
    from server.intake import Intake

JOB_BYTES: Final = 128  # what a job costs in a queue beside its audio
CONTAINER_BYTES: Final = 4096  # of a container taken in at a time
CREDIT_SECONDS: Final = 1.0  # that a line may be behind what a microphone would have sent by now
PACE: Final = 0.99  # at which audio is taken to play: no sound card is so fast that it runs ahead
PROVED_SECONDS: Final = 0.3  # of audio, after which a client is served before strangers
SAVE_SECONDS: Final = 1.0  # of audio from one snapshot that is to be saved to the next


@dataclass(frozen=True, slots=True)
class End:
    """The last job of a line: close the open segment, then say goodbye.

    Attributes:
        error: why the session ends, or None when the client finished.
    """

    error: ProtocolError | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """The last job of a line that goes on elsewhere: answered with `Left`."""


@dataclass(slots=True)
class Ending:
    """A line whose audio has ended, while the last blocks are done: one in each round.

    Attributes:
        error: why it ends, or None when the client finished.
        arrived: when the end was announced.
        states: of the streams; those of the line stay as they were until all is done.
        replies: so far; they are handed over all together.
    """

    error: ProtocolError | None
    arrived: float
    states: list[State]
    replies: list[Reply]


Job = bytes | memoryview | Flush | Configure | Ping | Acknowledge | End | Leave


@dataclass(frozen=True, slots=True)
class Room:
    """The line's backlog is below half of its bound again (no client hears of this)."""


@dataclass(frozen=True, slots=True)
class Left:
    """All jobs of the line are done; its snapshot is all that there is (no client hears this)."""


# A snapshot among the replies is to be saved: a second of audio or a final after the last one.
Delivered = Reply | Room | Left | Snapshot
Deliver = Callable[[list[Delivered]], None]


class Line:
    """One session's stream in the engine. `Engine.open` makes it; only the engine writes to it."""

    def __init__(
        self,
        states: Sequence[State],
        intake: Intake,
        deliver: Deliver,
        opened: float,
        record: Record | None = None,
    ) -> None:
        self.states = list(states)  # of the channels, if each is heard apart
        self.intake = intake
        self.deliver = deliver
        self.schedule = opened  # when what is heard next would have been spoken
        self.record = record  # of what was said, where the session can be resumed
        self.snapshot = record.snapshot(states, intake.saved) if record else None
        self.saved_position = intake.position  # of the last snapshot that was to be saved
        self.jobs: deque[tuple[Job, float]] = deque()
        self.audio_bytes = 0  # of audio that waits
        self.asked = 0  # jobs that wait and are no audio
        self.unread = 0  # replies handed over and not yet taken off by the session
        self.room_below: int | None = None  # bytes of backlog below which to say `Room`
        self.partial_words = False  # whether partials are told with their words
        self.ending: Ending | None = None
        self.ended = False  # after `End`, `Leave` or a failure: takes no more jobs
        self.failed = False  # nothing more is done for it
        self.left = False  # `Leave` is done
        self.busy = False  # a round is at work on it
        self.closed = False

    @property
    def backlog_bytes(self) -> int:
        """What the waiting jobs take in memory."""
        return self.audio_bytes + JOB_BYTES * len(self.jobs)

    @property
    def backlog_ms(self) -> int:
        """Milliseconds of audio that wait."""
        return self.intake.milliseconds(self.audio_bytes)

    @property
    def proved(self) -> bool:
        """Whether it has heard enough for its client to be no stranger any more."""
        return self.intake.position > PROVED_SECONDS * self.intake.sample_rate

    def spoken(self, size: int) -> int:
        """Milliseconds in a message of so many bytes, if it is of somebody who speaks; else 0.

        Whoever sends a few bytes at a time is none: what a microphone hears comes in pieces.
        """
        return self.intake.milliseconds(size) if self.proved else 0

    def ahead(self, now: float) -> float:
        """Seconds of audio that have come before they would have been spoken; may be negative."""
        return self.schedule + self.backlog_ms / 1000 - now

    def put(self, job: Job, arrived: float) -> None:
        """Queue a job behind the others."""
        self.jobs.append((job, arrived))
        if isinstance(job, bytes | memoryview):
            self.audio_bytes += len(job)
        else:
            self.asked += 1

    def drop(self) -> None:
        """Forget the jobs that wait."""
        self.jobs.clear()
        self.audio_bytes = self.asked = 0

    @property
    def missing_bytes(self) -> int:
        """Bytes of audio without which the next block cannot be complete; at least 1."""
        state = self.states[0]
        return self.intake.missing_bytes(state.samples + BLOCK_SUPPORT - len(state.waiting))

    @property
    def waits(self) -> bool:
        """Whether there is anything to be done.

        Audio that cannot complete a block waits for more: its round would bring nothing. Unless
        the session takes no more before there is room.
        """
        if self.ending is not None:
            return True
        if self.failed:
            return False
        if self.intake.pending or self.asked:
            return True
        room_wanted = self.room_below is not None and bool(self.jobs)
        return room_wanted or self.audio_bytes >= self.missing_bytes

    @property
    def hears_next(self) -> bool:
        """Whether what is done next is to hear audio. There must be something."""
        if self.ending is not None:
            return False
        return self.intake.pending or isinstance(self.jobs[0][0], bytes | memoryview)

    @property
    def asks_much(self) -> bool:
        """Whether what is done next takes as long as a round, and is no audio."""
        if self.ending is not None or self.intake.pending or not self.jobs:
            return False
        job, _ = self.jobs[0]
        return isinstance(job, Flush) or (isinstance(job, Configure) and bool(job.phrases))

    @property
    def deadline(self) -> float:
        """When what is done next is due, in seconds. There must be something."""
        if self.ending is not None:
            return max(self.ending.arrived, self.schedule)
        if self.intake.pending:
            return max(self.intake.arrived, self.schedule)
        return max(self._completed(), self.schedule)

    def _completed(self) -> float:
        """When the job came by which there was something to be done."""
        missing = self.missing_bytes
        for job, arrived in self.jobs:
            missing -= len(job) if isinstance(job, bytes | memoryview) else missing
            if missing <= 0:
                return arrived
        return self.jobs[-1][1]

    @property
    def going(self) -> list[State]:
        """The states that the next round steps."""
        return self.states if self.ending is None else self.ending.states

    def hear(self, pieces: list[tuple[bytes | memoryview, float]]) -> list[Samples]:
        """What pieces of audio are at 16 kHz, for each of the states; see `Intake.take`.

        Raises:
            ProtocolError: also where the audio had ended.
        """
        if self.ending is not None:
            return [NOTHING] * len(self.states)
        if self.states[0].ended:  # in the session that is resumed
            raise ProtocolError(
                "audio came behind finish, with which this session ended; start a new one",
                "out_of_order",
                1008,
            )
        intake, before = self.intake, self.intake.position
        samples = intake.take(pieces)
        heard = (intake.position - before) / intake.sample_rate
        # A pause gives no credit: what is sent after it, however much, is no older than that.
        self.schedule = max(self.schedule, intake.arrived - CREDIT_SECONDS) + PACE * heard
        return samples

    def take(self) -> list[tuple[bytes | memoryview, float]] | tuple[Job, float]:
        """Remove and return the audio of one block in pieces, or one other job.

        No pieces while the intake holds audio that has not had its turn, or after the end.
        """
        if self.ending is not None or self.intake.pending:
            return []
        job, arrived = self.jobs[0]
        if not isinstance(job, bytes | memoryview):
            self.asked -= 1
            return self.jobs.popleft()
        pieces: list[tuple[bytes | memoryview, float]] = []
        room = self.missing_bytes if self.intake.format.raw else CONTAINER_BYTES
        while room and self.jobs:
            job, arrived = self.jobs[0]
            if not isinstance(job, bytes | memoryview):
                break
            if len(job) <= room:
                self.jobs.popleft()
                piece = job
            else:
                piece, rest = memoryview(job)[:room], memoryview(job)[room:]
                self.jobs[0] = (rest, arrived)
            pieces.append((piece, arrived))
            room -= len(piece)
            self.audio_bytes -= len(piece)
        return pieces

    def heard(self, event: Event, stream: int) -> Reply:
        """What is told of an event of a stream, after a round."""
        words: tuple[Word, ...] = ()
        if self.partial_words and isinstance(event, Partial):
            words = self._open_words(stream)
        since = self.intake.arrival(event.position)
        return Heard(self.intake.at_input_rate(event), since, words, self.channel(stream))

    def _open_words(self, stream: int) -> tuple[Word, ...]:
        """The words of the open segment, after a round: a partial is the last of its events."""
        state = self.states[stream]
        words = state.words
        for word in state.codec.tentative(state.decoder):
            span = frame_span(word.start, word.end, state.samples)
            words += (Word(word.text, *span, word.confidence),)
        if not words:
            return ()
        timed = self.intake.at_input_rate(FinalEvent(state.segment, words, "", state.samples))
        return timed.words if isinstance(timed, FinalEvent) else ()

    def channel(self, stream: int) -> int | None:
        """Which channel a stream is, if they are heard apart."""
        return stream if self.intake.format.channels_apart else None

    def remember(self, said: list[Reply]) -> tuple[list[Reply], Snapshot | None]:
        """Note what a round brought.

        Returns:
            What the client does not have of it, and a snapshot if one is to be saved.
        """
        record = self.record
        if record is None:
            return said, None
        if any(isinstance(reply, Failed) for reply in said):
            self.record = self.snapshot = None
            return said, None
        new = [
            r
            for r in said
            if not isinstance(r, Heard) or r.event.segment >= record.has[r.channel or 0]
        ]
        finals = False
        for reply in new:
            if isinstance(reply, Heard) and isinstance(reply.event, FinalEvent):
                record.keep(reply.event, reply.channel or 0)
                finals = True
        passed = self.intake.position - self.saved_position
        due = finals or self.left or passed >= SAVE_SECONDS * self.intake.sample_rate
        if not due:
            return new, None
        self.snapshot = record.snapshot(self.states, self.intake.saved)
        self.saved_position = self.intake.position
        return new, self.snapshot
