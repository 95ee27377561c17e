"""What a run comes to: latencies, differing words, errors, and whether it counts at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from asr.metrics import Percentiles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asr.loadtest.client import Session
    from asr.loadtest.run import Run

LATE_MS: Final = 10.0  # p99 of the feeder's lateness beyond which a run is void
HELD: Final = 0.95  # of the streams asked for; the rest are between two sessions


@dataclass(frozen=True, slots=True)
class Server:
    """What the server's processes took in the window.

    Attributes:
        processes: how many they are.
        processor: cores that they kept busy.
        main: of them, by the main threads: everything but recognition.
        memory_mb: resident at most, all of them together, in MB of 1,000,000 bytes.
        idle_mb: the same before the first session.
    """

    processes: int
    processor: float
    main: float
    memory_mb: float
    idle_mb: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run comes to. Latencies in milliseconds, of all that happened in the window.

    Attributes:
        streams: asked for.
        held: streams that spoke at a time, on average.
        seconds: length of the window.
        sessions: that ended well, before and after the window included.
        partial_ms: from when a chunk was due to the partial that rests on it; see `Session`.
        final_ms: from when `finish` was due to the last final.
        served_ms: the latency of partials as the server tells it; of whole sessions.
        compared: words compared with those of one session alone.
        differing: of them, those that differ in text, time or confidence.
        errors: sessions that failed, by reason.
        slow_downs: how often the server asked for patience.
        late_ms: how much later than due chunks were sent, by our own fault.
        late_bound_ms: what its p99 may be.
        sent_per_second: messages.
        received_per_second: messages.
        server: what it took, where it is on this machine.
        generator: cores that the load clients took.
    """

    streams: int
    held: float
    seconds: float
    sessions: int
    partial_ms: Percentiles | None
    final_ms: Percentiles | None
    served_ms: Percentiles | None
    compared: int
    differing: int
    errors: dict[str, int]
    slow_downs: int
    late_ms: Percentiles | None
    late_bound_ms: float
    sent_per_second: float
    received_per_second: float
    server: Server | None
    generator: float

    @property
    def void(self) -> bool:
        """Whether the clients were too late themselves for the figures to mean anything."""
        return self.late_ms is None or self.late_ms.p99 > self.late_bound_ms

    @property
    def sound(self) -> bool:
        """Whether all were served and heard what one alone hears."""
        held = self.held >= HELD * self.streams
        return held and not self.errors and not self.differing and self.partial_ms is not None

    def passes(self, p99_ms: float) -> bool:
        """Whether the server carried the streams at this 99th percentile of chunk to partial."""
        return self.sound and self.partial_ms is not None and self.partial_ms.p99 <= p99_ms

    def fields(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        return asdict(self) | {"void": self.void, "sound": self.sound}


def summary(run: Run, late_bound_ms: float = LATE_MS) -> Summary:
    """What a run comes to."""
    sessions, seconds = run.sessions, run.end - run.begin

    def within(moments: Iterable[tuple[float, float]]) -> list[float]:
        return [1000 * value for moment, value in moments if run.begin <= moment < run.end]

    partials = within(moment for session in sessions for moment in session.partials)
    finishes = within(session.finish for session in sessions if session.finish is not None)
    late = within(moment for session in sessions for moment in session.late)
    served = [ms for session in sessions if _overlap(session, run) for ms in session.served]
    well = [session for session in sessions if session.done is not None]
    compared, differing = _differences(run, well)
    inside = [(session, _share(session, run)) for session in well]
    return Summary(
        streams=run.settings.streams,
        held=sum(_overlap(session, run) for session in sessions) / seconds,
        seconds=seconds,
        sessions=len(well),
        partial_ms=Percentiles.of(partials),
        final_ms=Percentiles.of(finishes),
        served_ms=Percentiles.of(served),
        compared=compared,
        differing=differing,
        errors=dict(Counter(session.error for session in sessions if session.error is not None)),
        slow_downs=sum(session.slow_downs for session in sessions),
        late_ms=Percentiles.of(late),
        late_bound_ms=late_bound_ms,
        sent_per_second=sum(session.sent * share for session, share in inside) / seconds,
        received_per_second=sum(session.received * share for session, share in inside) / seconds,
        server=_server(run),
        generator=run.generator,
    )


def _overlap(session: Session, run: Run) -> float:
    """Seconds of the window in which a session was open."""
    if session.ready is None or session.done is None:
        return 0.0
    return max(0.0, min(session.done, run.end) - max(session.ready, run.begin))


def _share(session: Session, run: Run) -> float:
    """Which part of a session lay in the window; messages are spread evenly over it."""
    assert session.ready is not None  # noqa: S101 - of a session that ended well
    assert session.done is not None  # noqa: S101
    return _overlap(session, run) / max(session.done - session.ready, 1e-9)


def _differences(run: Run, sessions: list[Session]) -> tuple[int, int]:
    """Words compared, position by position, and how many of them differ in anything."""
    pairs = [
        pair
        for session in sessions
        for pair in zip_longest(session.words, run.references[session.recording.name])
    ]
    return len(pairs), sum(one != other for one, other in pairs)


def _server(run: Run) -> Server | None:
    if len(run.usage) < 2 or run.idle is None:
        return None
    (begin, first), (end, last) = run.usage[0], run.usage[-1]
    return Server(
        processes=run.processes,
        processor=(last.processor - first.processor) / (end - begin),
        main=(last.main - first.main) / (end - begin),
        memory_mb=max(usage.memory for _, usage in run.usage),
        idle_mb=run.idle.memory,
    )
