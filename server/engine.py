"""The engine: steps the streams of all sessions on one worker thread, earliest deadline first.

Every session has a `Line`: a queue of jobs (audio and what stands between it) and the state of its
recognition. A *round* takes from each chosen line the audio of one block (80 ms) or one other job,
steps all the blocks together, and hands over the replies. So nobody waits longer than a round for
nobody's long message, and what a line says does not depend on who else is there (the recogniser's
law of company).

A block is due when its audio would have been spoken, or when it arrived if that was later. A live
stream is always due on arrival; a file sent faster than it plays is due in the future and takes
what time is left; none waits for ever. Audio that completes no block waits for the rest of it: a
thousand messages of one sample cost one round, not a thousand. Whoever has hardly been heard yet is
a stranger, and waits a little for those who speak. What takes as long as a round and is no audio (a
flush, other phrases) is done for one line in a round, and takes at most half of the time while
speech waits.

No socket and no event loop in here: `post` brings the replies to wherever sessions live.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Final
from typing import Protocol as Interface

from asr.errors import ProtocolError
from server.answers import Answers
from server.dialogue import Failed, Reply
from server.line import Deliver, Delivered, End, Job, Leave, Left, Line, Room
from server.rhythm import Rhythm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from asr.recognizer import Recognizer
    from asr.resampling import Samples
    from asr.state import State
    from server.intake import Intake
    from server.snapshot import Record, Snapshot

_log = logging.getLogger(__name__)

FEW: Final = 16  # lines in a round, beyond which only those are stepped that are due by now
STRANGERS: Final = 4  # lines in a round, hardly heard yet, beside somebody who speaks
GRACE_SECONDS: Final = 0.02  # for which these wait while there are others that are due
AHEAD_SECONDS: Final = 0.5  # of what plays, beyond which audio is a file and no microphone
LISTENING_SECONDS: Final = 1.0  # since somebody was heard, while he is thought to speak still


class Meter(Interface):
    """Measures rounds, on the worker thread. It has the clock that the engine has not."""

    def begin(self, due: Sequence[float]) -> None:
        """A round begins; the first job of each line in it was due at one of these moments."""
        ...

    def end(self, audio_seconds: float) -> None:
        """The round is over; so much audio was recognised in it, of all lines together."""
        ...


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
        clock: the time on the clock of the arrivals; without one it is that of the last job.

    Attributes:
        rounds: done so far.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        post: Callable[[Callable[[], None]], object],
        company: int = 64,
        unread: int = 64,
        meter: Meter | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._recognizer = recognizer
        self._answers = Answers(recognizer)
        self._post = post
        self._company = company
        self._unread = unread
        self._meter = meter
        self._clock = clock
        self.rounds = 0
        self._changed = threading.Condition()
        self._waiting: dict[Line, float] = {}  # lines with something to be done, and since when
        self._present = 0.0
        self._spoke = -math.inf  # when somebody was heard last who is no stranger
        self._rhythm = Rhythm()  # of those who speak now
        self._rest_until = -math.inf  # while speech waits, nothing that takes long is done
        self._occupied = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the worker thread."""
        self._thread.start()

    @property
    def occupied(self) -> bool:
        """Whether a round is under way."""
        return self._occupied

    def expects(self, now: float) -> bool:
        """Whether somebody who speaks is about to send more; `now` as in `submit`."""
        return self._rhythm.expects(now)

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
            now: the present.
            record: what was said in it, if it can be resumed.
        """
        return Line(states, intake, deliver, now, record)

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
            line.put(job, arrived)
            self._present = arrived
            if isinstance(job, bytes | memoryview):
                spoken_ms = line.spoken(len(job))
                if spoken_ms and line.ahead(arrived) < AHEAD_SECONDS:
                    self._rhythm.sent(spoken_ms / 1000, arrived)
            self._wake(line)
            return line.backlog_bytes

    def ask_room(self, line: Line, below: int) -> bool:
        """Ask for one `Room` when fewer than `below` bytes wait; False when that is so already."""
        with self._changed:
            if line.backlog_bytes < below:
                return False
            line.room_below = below
            self._wake(line)
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
            self._present = max(self._present, self._clock())
            chosen = self._choose()
            due = [self._waiting[line] for line in chosen if line.hears_next]
            batch = [(line, line.take()) for line in chosen]
            for line, _ in batch:
                line.busy = True
                del self._waiting[line]  # until it is seen whether there is more to be done
            self._occupied = bool(batch)
        if not batch:
            return False
        audio = [(line, job) for line, job in batch if isinstance(job, list)]
        with self._measured(due, [line for line, _ in audio]):
            replies = self._listen(audio)
        begun = self._clock()
        for line, job in batch:
            if not isinstance(job, list):
                replies[line] = self._guarded(line, partial(self._answer, line, *job))
        ended = self._clock()
        self._rest_until = max(self._rest_until, ended + (ended - begun))
        self._occupied = False
        self.rounds += 1
        self._hand_over(replies)
        with self._changed:
            for line, _ in batch:
                if not line.closed:
                    self._wait(line)
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

    def _wake(self, line: Line) -> None:
        """See to a line that may have something to be done now. Needs the lock."""
        if line not in self._waiting and self._wait(line) and line.unread < self._unread:
            self._changed.notify()

    def _wait(self, line: Line) -> bool:
        """Let a line wait for its turn if there is something to be done. Needs the lock."""
        if line.waits:
            self._waiting[line] = line.deadline
        else:  # what came during its last round is not enough
            self._waiting.pop(line, None)
        return line in self._waiting

    def _choose(self) -> list[Line]:
        """The lines of the next round: all that are due by now, and a few that could wait.

        A round of `FEW` is nearly as cheap a line as a larger one, and whoever speaks while it
        lasts waits for its end. Beside somebody who speaks a round takes fewer strangers still, and
        none who came just now: whoever sends nonsense on many connections is a stranger on each.
        Needs the lock.
        """
        ready = [line for line in self._waiting if line.unread < self._unread]
        waiting = sorted((self._due(line), n) for n, line in enumerate(ready))
        spoken = [ready[n] for due, n in waiting if due <= self._present and ready[n].proved]
        speaking = bool(spoken)
        if speaking:
            self._spoke = self._present
        beside = self._present - self._spoke < LISTENING_SECONDS
        room = STRANGERS if beside else self._company
        resting = self._present < self._rest_until
        asked = resting and any(line.hears_next for line in spoken)
        chosen: list[Line] = []
        for due, n in waiting:
            line, early = ready[n], due > self._present
            if line.asks_much and asked:
                continue
            if early and (len(chosen) >= FEW or (speaking and not line.proved)):
                continue
            if not line.proved:
                if not room:
                    continue
                room -= 1
            asked = asked or line.asks_much
            chosen.append(line)
        return chosen[: self._company]

    def _due(self, line: Line) -> float:
        """Until when it can wait."""
        return self._waiting[line] + (0.0 if line.proved else GRACE_SECONDS)

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
                replies[line] = self._guarded(
                    line, partial(self._refuse, line, error, line.intake.arrived)
                )
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
            replies[line] = self._answers.took(line, [next(following) for _ in streams])
        return replies

    def _step(self, line: Line, streams: list[Samples]) -> list[Reply]:
        return self._answers.took(line, self._recognizer.step_many(line.going, streams))

    def _answer(self, line: Line, job: Job, arrived: float) -> list[Reply]:
        try:
            return self._answers.answer(line, job, arrived)
        except ProtocolError as error:
            return self._refuse(line, error, arrived)

    def _refuse(self, line: Line, error: ProtocolError, arrived: float) -> list[Reply]:
        """End a line that is not what it should be, behind the finals of what was."""
        with self._changed:
            self._fail(line)
        return self._answers.end(line, error, arrived)

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
        line.drop()
        self._waiting.pop(line, None)

    def _hand_over(self, replies: dict[Line, list[Reply]]) -> None:
        """Post what the round brought, in one go."""
        delivery: list[tuple[Line, list[Delivered]]] = []
        remembered = {line: line.remember(said) for line, said in replies.items()}
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


def _deliver(delivery: list[tuple[Line, list[Delivered]]]) -> None:
    for line, said in delivery:
        if not line.closed:
            line.deliver(said)
