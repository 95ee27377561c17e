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

from asr.errors import ProtocolError
from asr.features import frame_span
from asr.transcript import Event, Partial, Word
from asr.transcript import Final as FinalEvent
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
    from asr.state import State
    from server.intake import Intake, Samples

_log = logging.getLogger(__name__)

SLICE_MS: Final = 80  # audio taken from a line in one round: one block
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
        state: State,
        intake: Intake,
        deliver: Deliver,
        opened: float,
        record: Record | None = None,
    ) -> None:
        self.state = state
        self.intake = intake
        self.deliver = deliver
        self.opened = opened
        self.record = record  # of what was said, where the session can be resumed
        self.snapshot = record.snapshot(state, intake.saved) if record else None
        self.saved_position = intake.position  # of the last snapshot that was to be saved
        self.jobs: deque[tuple[Job, float]] = deque()
        self.audio_bytes = 0  # of audio that waits
        self.unread = 0  # replies handed over and not yet taken off by the session
        self.room_below: int | None = None  # bytes of backlog below which to say `Room`
        self.partial_words = False  # whether partials are told with their words
        self.ended = False  # after `End`, `Leave` or a failure: takes no more jobs
        self.left = False  # `Leave` is done
        self.closed = False
        audio_format = intake.format
        self.slice_bytes = audio_format.frame_bytes * (audio_format.sample_rate * SLICE_MS // 1000)

    @property
    def backlog_bytes(self) -> int:
        """What the waiting jobs take in memory."""
        return self.audio_bytes + JOB_BYTES * len(self.jobs)

    @property
    def backlog_ms(self) -> int:
        """Milliseconds of audio that wait."""
        audio_format = self.intake.format
        frames = self.audio_bytes // audio_format.frame_bytes
        return frames * 1000 // audio_format.sample_rate

    @property
    def hears_next(self) -> bool:
        """Whether the first job is audio. There must be one."""
        return isinstance(self.jobs[0][0], bytes | memoryview)

    @property
    def deadline(self) -> float:
        """When the first job is due, in seconds. There must be one."""
        spoken = self.opened + self.intake.position / self.intake.format.sample_rate
        return max(self.jobs[0][1], spoken)

    def take(self) -> list[tuple[bytes | memoryview, float]] | tuple[Job, float]:
        """Remove and return one slice of audio in pieces, or one other job."""
        job, arrived = self.jobs[0]
        if not isinstance(job, bytes | memoryview):
            return self.jobs.popleft()
        pieces: list[tuple[bytes | memoryview, float]] = []
        room = self.slice_bytes
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
        state: State,
        intake: Intake,
        deliver: Deliver,
        now: float,
        record: Record | None = None,
    ) -> Line:
        """A new line.

        Args:
            state: from which it goes on.
            intake: likewise.
            deliver: takes its replies.
            now: the present; a line that is resumed began before.
            record: what was said in it, if it can be resumed.
        """
        began = now - intake.position / intake.format.sample_rate
        return Line(state, intake, deliver, began, record)

    def submit(self, line: Line, job: Job, arrived: float) -> int:
        """Queue a job behind the line's others. Nothing is refused: stop when it gets too much.

        Args:
            line: where to; a line that is closed, failed or ending takes nothing more.
            job: audio as whole samples in the line's format, or what comes after it.
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
            if line.unread == self._unread - 1 and line.jobs:
                self._changed.notify()

    def close(self, line: Line) -> Snapshot | None:
        """Forget the line: what waits is dropped, and nothing is delivered any more.

        Returns:
            The session after its last round, or None if it cannot be resumed.
        """
        with self._changed:
            line.closed = True
            self._forget(line)
            return line.snapshot

    def work(self) -> bool:
        """Do one round on the calling thread; False if there was nothing to do."""
        with self._changed:
            chosen = self._choose()
            due = [line.deadline for line in chosen if line.hears_next]
            batch = [(line, line.take()) for line in chosen]
            for line, _ in batch:
                if not line.jobs:
                    del self._waiting[line]
        if not batch:
            return False
        audio = [(line, job) for line, job in batch if isinstance(job, list)]
        with self._measured(due, [line for line, _ in audio]):
            replies = self._listen(audio)
        for line, job in batch:
            if not isinstance(job, list):
                replies[line] = self._guarded(line, partial(self._answer, line, *job))
        self._hand_over(replies)
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
                (line.intake.position - position) / line.intake.format.sample_rate
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
        heard = [(line, line.intake.take(pieces)) for line, pieces in audio]
        if not heard:
            return {}
        try:
            outcomes = self._recognizer.step_many(
                [line.state for line, _ in heard], [samples for _, samples in heard]
            )
        except Exception:  # noqa: BLE001 - found again below, line by line
            return {
                line: self._guarded(line, partial(self._step, line, samples))
                for line, samples in heard
            }
        replies: dict[Line, list[Reply]] = {}
        for (line, _), (state, events) in zip(heard, outcomes, strict=True):
            line.state = state
            replies[line] = [self._heard(line, event) for event in events]
        return replies

    def _step(self, line: Line, samples: Samples) -> list[Reply]:
        line.state, events = self._recognizer.step(line.state, samples)
        return [self._heard(line, event) for event in events]

    def _heard(self, line: Line, event: Event) -> Reply:
        words: tuple[Word, ...] = ()
        if line.partial_words and isinstance(event, Partial):
            words = self._open_words(line)
        return Heard(line.intake.at_input_rate(event), line.intake.arrival(event.position), words)

    def _open_words(self, line: Line) -> tuple[Word, ...]:
        """The words of the open segment, after a round: a partial is the last of its events."""
        state = line.state
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
                return [Pong(message_id, line.intake.position)]
            case Flush(message_id):
                return [self._flushed(line, message_id)]
            case Configure(endpoint_ms, unsupported):
                if endpoint_ms is not None:
                    options = replace(line.state.options, endpoint_ms=endpoint_ms)
                    line.state = replace(line.state, options=options)
                return [Configured(unsupported)]
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

    def _flushed(self, line: Line, message_id: int | str | None) -> Flushed:
        """What the line would say at its end, said on copies."""
        intake, state = line.intake, line.state
        rest = intake.preview()
        events: list[Event] = []
        if rest.size:
            state, events = self._recognizer.step(state, rest)
        events = [*events, *self._recognizer.flush(state)]
        finals = [intake.at_input_rate(e) for e in events if isinstance(e, FinalEvent)]
        words = [word for e in finals if isinstance(e, FinalEvent) for word in e.words]
        return Flushed(message_id, tuple(words), intake.position)

    def _end(self, line: Line, error: ProtocolError | None, arrived: float) -> list[Reply]:
        events: list[Event] = []
        last: list[Event] = []
        if not line.state.finished:  # as it is where the end itself is resumed
            rest = line.intake.end()
            if rest.size:
                line.state, events = self._recognizer.step(line.state, rest)
            line.state, last = self._recognizer.finish(line.state)
        intake = line.intake
        replies: list[Reply] = [
            Heard(intake.at_input_rate(event), arrived) for event in [*events, *last]
        ]
        if error is not None:
            return [*replies, Failed(error)]
        repaired = intake.repaired + line.state.repaired
        done = Done(intake.position, intake.format.sample_rate, repaired, arrived)
        return [*replies, done]

    def _guarded(self, line: Line, work: Callable[[], list[Reply]]) -> list[Reply]:
        """Do the work of one line; a failure of ours ends that line with an error and no other."""
        try:
            return work()
        except Exception:  # noqa: BLE001 - logged with its trace; only its own line may suffer
            _log.exception("recognition failed; its session ends")
            with self._changed:
                line.ended = True
                self._forget(line)
            message = "the server failed on this audio; its other sessions go on; start a new one"
            return [Failed(ProtocolError(message, "internal", 1011))]

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
    new = [r for r in said if not isinstance(r, Heard) or r.event.segment >= record.has]
    finals = [r.event for r in new if isinstance(r, Heard) and isinstance(r.event, FinalEvent)]
    for final in finals:
        record.keep(final)
    line.snapshot = record.snapshot(line.state, line.intake.saved)
    passed = line.snapshot.position - line.saved_position
    if not finals and passed < SAVE_SECONDS * line.intake.format.sample_rate:
        return new, None
    line.saved_position = line.snapshot.position
    return new, line.snapshot


def _deliver(delivery: list[tuple[Line, list[Delivered]]]) -> None:
    for line, said in delivery:
        if not line.closed:
            line.deliver(said)
