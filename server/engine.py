"""The engine: steps the streams of all sessions on one worker thread, earliest deadline first.

Every session has a `Line`: a queue of jobs (audio and what stands between it) and the state of its
recognition. A *round* takes from each chosen line one slice of audio (80 ms) or one other job,
steps all the slices together, and hands over the replies. So nobody waits longer than a round for
nobody's long message, and what a line says does not depend on who else is there (the recogniser's
law of company).

A slice is due when its audio would have been spoken, or when it arrived if that was later. A live
stream is always due on arrival; a file sent faster than it plays is due in the future and takes
what time is left; none waits for ever.

No socket, no event loop and no clock in here: times are those of the jobs. `post` brings the
replies to wherever sessions live.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final
from typing import Protocol as Interface

from asr.errors import ConfigError, ProtocolError
from asr.features import frame_span
from asr.recognizer import NOTHING
from asr.transcript import Event, Partial, Word
from asr.transcript import Final as FinalEvent
from server import wishes
from server.dialogue import (
    Acknowledge,
    Configure,
    Configured,
    Done,
    Failed,
    Flush,
    Flushed,
    Heard,
    Ping,
    Pong,
    Reply,
)
from server.snapshot import Record, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asr.recognizer import Recognizer
    from asr.resampling import Samples
    from asr.state import State
    from server.intake import Intake

_log = logging.getLogger(__name__)

JOB_BYTES: Final = 128  # what a job costs in a queue beside its audio
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


class Meter(Interface):
    """Measures rounds, on the worker thread. It has the clock that the engine has not."""

    def begin(self, due: Sequence[float]) -> None:
        """A round begins; the first job of each line in it was due at one of these moments."""
        ...

    def end(self, audio_seconds: float) -> None:
        """The round is over; so much audio was recognised in it, of all lines together."""
        ...


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
        self.opened = opened
        self.record = record  # of what was said, where the session can be resumed
        self.snapshot = record.snapshot(states, intake.saved) if record else None
        self.saved_position = intake.position  # of the last snapshot that was to be saved
        self.jobs: deque[tuple[Job, float]] = deque()
        self.audio_bytes = 0  # of audio that waits
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
    def waits(self) -> bool:
        """Whether there is anything to be done."""
        if self.ending is not None:
            return True
        return not self.failed and (self.intake.pending or bool(self.jobs))

    @property
    def hears_next(self) -> bool:
        """Whether what is done next is to hear audio. There must be something."""
        if self.ending is not None:
            return False
        return self.intake.pending or isinstance(self.jobs[0][0], bytes | memoryview)

    @property
    def deadline(self) -> float:
        """When what is done next is due, in seconds. There must be something."""
        spoken = self.opened + self.intake.position / self.intake.sample_rate
        if self.ending is not None:
            return max(self.ending.arrived, spoken)
        return max(self.intake.arrived if self.intake.pending else self.jobs[0][1], spoken)

    @property
    def going(self) -> list[State]:
        """The states that the next round steps."""
        return self.states if self.ending is None else self.ending.states

    def hear(self, pieces: list[tuple[bytes | memoryview, float]]) -> list[Samples]:
        """What pieces of audio are at 16 kHz, for each of the states; see `Intake.take`."""
        return self.intake.take(pieces) if self.ending is None else [NOTHING] * len(self.states)

    def take(self) -> list[tuple[bytes | memoryview, float]] | tuple[Job, float]:
        """Remove and return one slice of audio in pieces, or one other job.

        No pieces while the intake holds audio that has not had its turn, or after the end.
        """
        if self.ending is not None or self.intake.pending:
            return []
        job, arrived = self.jobs[0]
        if not isinstance(job, bytes | memoryview):
            return self.jobs.popleft()
        pieces: list[tuple[bytes | memoryview, float]] = []
        room = self.intake.slice_bytes
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


class Engine:
    """Recognises for many sessions on one worker thread.

    Args:
        recognizer: used by the worker thread alone once `start` was called.
        post: called by the worker thread with a function to call where the sessions live; for
            asyncio, `loop.call_soon_threadsafe`. Everything but `work` must be called from there.
        company: lines stepped together at most.
        unread: replies that may wait for a session to send them; beyond it its line is left alone,
            so that a client that does not read costs no memory.
        meter: is told of every round.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        post: Callable[[Callable[[], None]], object],
        company: int = 64,
        unread: int = 64,
        meter: Meter | None = None,
    ) -> None:
        self._recognizer = recognizer
        self._post = post
        self._company = company
        self._unread = unread
        self._meter = meter
        self._changed = threading.Condition()
        self._waiting: dict[Line, None] = {}  # lines with jobs, in order of arrival
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the worker thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the worker thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop after the current round and wait for it. Jobs that still wait are forgotten."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def open(
        self,
        states: Sequence[State],
        intake: Intake,
        deliver: Deliver,
        now: float,
        record: Record | None = None,
    ) -> Line:
        """A new line.

        Args:
            states: from which it goes on, one of each channel if they are heard apart, else one.
            intake: likewise.
            deliver: takes its replies.
            now: the present; a line that is resumed began before.
            record: what was said in it, if it can be resumed.
        """
        began = now - intake.position / intake.sample_rate
        return Line(states, intake, deliver, began, record)

    def submit(self, line: Line, job: Job, arrived: float) -> int:
        """Queue a job behind the line's others. Nothing is refused: stop when it gets too much.

        Args:
            line: where to; a line that is closed, failed or ending takes nothing more.
            job: audio in the line's format, or what comes after it.
            arrived: when it came, in monotonic seconds; not before the line's earlier jobs.

        Returns:
            Bytes that now wait in this line.
        """
        with self._changed:
            if line.ended or line.closed:
                return 0
            line.ended = isinstance(job, End | Leave)
            line.jobs.append((job, arrived))
            if isinstance(job, bytes | memoryview):
                line.audio_bytes += len(job)
            self._waiting[line] = None
            if line.unread < self._unread:
                self._changed.notify()
            return line.backlog_bytes

    def ask_room(self, line: Line, below: int) -> bool:
        """Ask for one `Room` when fewer than `below` bytes wait; False when that is so already."""
        with self._changed:
            if line.backlog_bytes < below:
                return False
            line.room_below = below
            return True

    def taken(self, line: Line) -> None:
        """One of the line's replies has been sent, or is not needed any more."""
        with self._changed:
            line.unread -= 1
            if line.unread == self._unread - 1 and line in self._waiting:
                self._changed.notify()

    def close(self, line: Line) -> Snapshot | None:
        """Forget the line: what waits is dropped, and nothing is delivered any more.

        Returns:
            The session after its last round, or None if it cannot be resumed. A round that is not
            over does not count: then it is the last snapshot that was to be saved.
        """
        with self._changed:
            line.closed = True
            self._forget(line)
            if line.record is not None and not line.busy:
                line.snapshot = line.record.snapshot(line.states, line.intake.saved)
            return line.snapshot

    def work(self) -> bool:
        """Do one round on the calling thread; False if there was nothing to do."""
        with self._changed:
            chosen = self._choose()
            due = [line.deadline for line in chosen if line.hears_next]
            batch = [(line, line.take()) for line in chosen]
            for line, _ in batch:
                line.busy = True
                if not line.jobs:
                    del self._waiting[line]  # until it is seen whether its intake holds more
        if not batch:
            return False
        audio = [(line, job) for line, job in batch if isinstance(job, list)]
        with self._measured(due, [line for line, _ in audio]):
            replies = self._listen(audio)
        for line, job in batch:
            if not isinstance(job, list):
                replies[line] = self._guarded(line, partial(self._answer, line, *job))
        self._hand_over(replies)
        with self._changed:
            self._waiting.update(
                (line, None) for line, _ in batch if line.waits and not line.closed
            )
        return True

    @contextlib.contextmanager
    def _measured(self, due: list[float], lines: list[Line]) -> Iterator[None]:
        """Tell the meter of a round in which these lines hear something."""
        if self._meter is None:
            yield
            return
        before = [line.intake.position for line in lines]
        self._meter.begin(due)
        yield
        self._meter.end(
            sum(
                (line.intake.position - position) / line.intake.sample_rate
                for line, position in zip(lines, before, strict=True)
            )
        )

    def _run(self) -> None:
        while True:
            if not self._stopping and self.work():
                continue
            with self._changed:
                self._changed.wait_for(self._awake)
                if self._stopping:
                    return

    def _awake(self) -> bool:
        return self._stopping or any(line.unread < self._unread for line in self._waiting)

    def _choose(self) -> list[Line]:
        """The lines of the next round. Needs the lock."""
        ready = [line for line in self._waiting if line.unread < self._unread]
        if len(ready) <= self._company:
            return ready
        return heapq.nsmallest(self._company, ready, key=lambda line: line.deadline)

    def _listen(
        self, audio: list[tuple[Line, list[tuple[bytes | memoryview, float]]]]
    ) -> dict[Line, list[Reply]]:
        """Step all lines together; if that fails, each by itself to find the culprit."""
        replies: dict[Line, list[Reply]] = {}
        heard: list[tuple[Line, list[Samples]]] = []
        for line, pieces in audio:
            try:
                heard.append((line, line.hear(pieces)))
            except ProtocolError as error:
                replies[line] = self._guarded(line, partial(self._refuse, line, error))
        try:
            outcomes = self._recognizer.step_many(
                [state for line, _ in heard for state in line.going],
                [samples for _, streams in heard for samples in streams],
            )
        except Exception:  # noqa: BLE001 - found again below, line by line
            for line, streams in heard:
                replies[line] = self._guarded(line, partial(self._step, line, streams))
            return replies
        following = iter(outcomes)
        for line, streams in heard:
            replies[line] = self._took(line, [next(following) for _ in streams])
        return replies

    def _step(self, line: Line, streams: list[Samples]) -> list[Reply]:
        return self._took(line, self._recognizer.step_many(line.going, streams))

    def _took(self, line: Line, outcomes: list[tuple[State, list[Event]]]) -> list[Reply]:
        """Keep what a step made of a line's states; what there is to tell."""
        if line.ending is not None:
            return self._ended(line, line.ending, outcomes)
        line.states = [state for state, _ in outcomes]
        return [
            self._heard(line, event, number)
            for number, (_, events) in enumerate(outcomes)
            for event in events
        ]

    def _refuse(self, line: Line, error: ProtocolError) -> list[Reply]:
        """End a line whose audio is not what it should be, behind the finals of what was."""
        with self._changed:
            self._fail(line)
        return self._end(line, error, line.intake.arrived)

    def _heard(self, line: Line, event: Event, stream: int) -> Reply:
        words: tuple[Word, ...] = ()
        if line.partial_words and isinstance(event, Partial):
            words = self._open_words(line, stream)
        intake = line.intake
        since = intake.arrival(event.position)
        return Heard(intake.at_input_rate(event), since, words, _channel(line, stream))

    def _open_words(self, line: Line, stream: int) -> tuple[Word, ...]:
        """The words of the open segment, after a round: a partial is the last of its events."""
        state = line.states[stream]
        words = state.words
        for word in state.codec.tentative(state.decoder):
            span = frame_span(word.start, word.end, state.samples)
            words += (Word(word.text, *span, word.confidence),)
        if not words:
            return ()
        timed = line.intake.at_input_rate(FinalEvent(state.segment, words, "", state.samples))
        return timed.words if isinstance(timed, FinalEvent) else ()

    def _answer(self, line: Line, job: Job, arrived: float) -> list[Reply]:
        match job:
            case Ping(message_id):
                return [Pong(message_id, line.intake.position, arrived)]
            case Flush(message_id):
                streams = range(len(line.states))
                return [self._flushed(line, message_id, arrived, n) for n in streams]
            case Configure():
                return self._configure(line, job, arrived)
            case Acknowledge(segments):
                if line.record is not None:
                    line.record.acknowledge(segments)
                return []
            case End(error):
                return self._end(line, error, arrived)
            case Leave():
                line.left = True
                return []
            case _:  # pragma: no cover - audio is never answered
                raise TypeError(job)

    def _configure(self, line: Line, wanted: Configure, arrived: float) -> list[Reply]:
        """Change the options of the line from here on, or end it if that cannot be."""
        phrases, unsupported = wishes.expected(self._recognizer, wanted.phrases)
        try:
            states = [self._configured(state, wanted, phrases) for state in line.states]
        except ConfigError as error:
            with self._changed:
                self._fail(line)
            return self._end(line, wishes.refused(error), arrived)
        line.states = states
        unsupported = (*wanted.unsupported, *unsupported)
        return [Configured(unsupported, line.intake.position, arrived)]

    def _configured(
        self, state: State, wanted: Configure, phrases: tuple[str, ...] | None
    ) -> State:
        if phrases is not None:
            state = self._recognizer.expect(state, phrases)
        if wanted.endpoint_ms is None:
            return state
        return replace(state, options=replace(state.options, endpoint_ms=wanted.endpoint_ms))

    def _flushed(
        self, line: Line, message_id: int | str | None, arrived: float, stream: int
    ) -> Flushed:
        """What a stream of the line would say at its end, said on copies."""
        intake, state = line.intake, line.states[stream]
        rest = intake.preview()[stream]
        events: list[Event] = []
        if rest.size:
            state, events = self._recognizer.step(state, rest)
        events = [*events, *self._recognizer.flush(state)]
        finals = [intake.at_input_rate(e) for e in events if isinstance(e, FinalEvent)]
        words = [word for e in finals if isinstance(e, FinalEvent) for word in e.words]
        channel = _channel(line, stream)
        return Flushed(message_id, tuple(words), intake.position, channel, arrived)

    def _end(self, line: Line, error: ProtocolError | None, arrived: float) -> list[Reply]:
        """The audio of a line has ended: its last blocks are done in the rounds to come."""
        states = line.states
        if not states[0].ended:  # as it is where the end itself is resumed
            rest = line.intake.preview()
            states = [self._recognizer.end(*each) for each in zip(states, rest, strict=True)]
        line.ending = Ending(error or line.intake.cut_off(), arrived, states, [])
        return self._farewell(line, line.ending)

    def _ended(
        self, line: Line, ending: Ending, outcomes: list[tuple[State, list[Event]]]
    ) -> list[Reply]:
        """Keep what a step made of the end of a line; what there is to tell."""
        ending.states = [state for state, _ in outcomes]
        ending.replies += [
            Heard(line.intake.at_input_rate(event), ending.arrived, (), _channel(line, number))
            for number, (_, events) in enumerate(outcomes)
            for event in events
        ]
        return self._farewell(line, ending)

    def _farewell(self, line: Line, ending: Ending) -> list[Reply]:
        """Everything there is to tell of the end of a line when it is over, nothing before."""
        if not all(state.finished for state in ending.states):
            return []
        line.intake.end()
        line.states, line.ending = ending.states, None
        if ending.error is not None:
            return [*ending.replies, Failed(ending.error)]
        intake = line.intake
        repaired = intake.repaired + sum(state.repaired for state in line.states)
        done = Done(intake.position, intake.sample_rate, repaired, ending.arrived)
        return [*ending.replies, done]

    def _guarded(self, line: Line, work: Callable[[], list[Reply]]) -> list[Reply]:
        """Do the work of one line; a failure of ours ends that line with an error and no other."""
        try:
            return work()
        except Exception:  # noqa: BLE001 - logged with its trace; only its own line may suffer
            _log.exception("recognition failed; its session ends")
            with self._changed:
                self._fail(line)
            message = "the server failed on this audio; its other sessions go on; start a new one"
            return [Failed(ProtocolError(message, "internal", 1011))]

    def _fail(self, line: Line) -> None:
        """Do nothing more for the line. Needs the lock."""
        line.ended = line.failed = True
        line.ending = None
        self._forget(line)

    def _forget(self, line: Line) -> None:
        """Drop what waits. Needs the lock."""
        line.jobs.clear()
        line.audio_bytes = 0
        self._waiting.pop(line, None)

    def _hand_over(self, replies: dict[Line, list[Reply]]) -> None:
        """Post what the round brought, in one go."""
        delivery: list[tuple[Line, list[Delivered]]] = []
        remembered = {line: _remember(line, said) for line, said in replies.items()}
        with self._changed:
            for line, (said, snapshot) in remembered.items():
                line.busy = False
                notes: list[Delivered] = []
                if line.room_below is not None and line.backlog_bytes < line.room_below:
                    line.room_below = None
                    notes.append(Room())
                if snapshot is not None:
                    notes.append(snapshot)
                if line.left:
                    notes.append(Left())
                line.unread += len(said)
                if said or notes:
                    delivery.append((line, [*said, *notes]))
        if delivery:
            self._post(partial(_deliver, delivery))


def _remember(line: Line, said: list[Reply]) -> tuple[list[Reply], Snapshot | None]:
    """Note what a round of a line brought.

    Returns:
        What the client does not have of it, and a snapshot if one is to be saved.
    """
    record = line.record
    if record is None:
        return said, None
    if any(isinstance(reply, Failed) for reply in said):
        line.record = line.snapshot = None
        return said, None
    new = [
        r for r in said if not isinstance(r, Heard) or r.event.segment >= record.has[r.channel or 0]
    ]
    finals = False
    for reply in new:
        if isinstance(reply, Heard) and isinstance(reply.event, FinalEvent):
            record.keep(reply.event, reply.channel or 0)
            finals = True
    passed = line.intake.position - line.saved_position
    due = finals or line.left or passed >= SAVE_SECONDS * line.intake.sample_rate
    if not due:
        return new, None
    line.snapshot = record.snapshot(line.states, line.intake.saved)
    line.saved_position = line.intake.position
    return new, line.snapshot


def _channel(line: Line, stream: int) -> int | None:
    """Which channel a stream of the line is, if they are heard apart."""
    return stream if line.intake.format.channels_apart else None


def _deliver(delivery: list[tuple[Line, list[Delivered]]]) -> None:
    for line, said in delivery:
        if not line.closed:
            line.deliver(said)
