"""How many live sessions one core serves: real websockets, real speech, 80 ms at a time.

The server has a core of its own, the load clients the others; both decoders have their targets. One
session is measured alone, then the largest number is sought that is answered within 150 ms at the
99th percentile of chunk to partial, nobody failing and no word differing from a session alone. What
one core could carry at most is told beside it (`benchmarks/limit.py`), and where the rest goes.

Latency counts from when a chunk was due; a run whose clients were late by their own fault is void
and gives no figure. CPU outside recognition is that of the server's main thread, which does
everything but recognise, for each message that a client sent.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asr.loadtest import recordings
from asr.loadtest.figures import Summary, summary
from asr.loadtest.run import References, Settings, alone, run
from asr.loadtest.search import largest
from asr.measure import read_samples
from benchmarks import inputs, limit, program
from benchmarks.figure import Figure, report
from benchmarks.served import serving

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from asr.loadtest.recordings import Recording
    from benchmarks.limit import Limits

TARGETS = {"beam": 150, "greedy": 300}  # sessions
P99_MS, FINAL_P99_MS = 150.0, 200.0
ONE_P50_MS, ONE_FINAL_P50_MS = 12.0, 25.0
BASE_MB, SESSION_MB = 300.0, 0.5
MESSAGE_US = 120.0
RECORDINGS = 64
MOST = 2000


@dataclass
class Load:
    """A server, what is said to it, and what came of it.

    Attributes:
        url: of the server.
        said: recordings.
        references: what one session hears of them.
        args: of the command line.
        trials: summaries of all runs, in order.
    """

    url: str
    said: Sequence[Recording]
    references: References
    args: argparse.Namespace
    trials: list[Summary] = field(default_factory=list)

    def trial(self, streams: int) -> Summary:
        """One run."""
        ramp = min(self.args.ramp, 0.2 * streams)
        settings = Settings(streams, self.args.seconds, ramp)
        found = summary(run(self.url, self.said, self.references, settings), self.args.late_ms)
        self.trials.append(found)
        p99 = f"{found.partial_ms.p99:.0f} ms" if found.partial_ms else "no partial"
        late = f"{found.late_ms.p99:.1f} ms" if found.late_ms else "never"
        print(
            f"{streams} streams: p99 {p99}, {found.held:.1f} held, {found.differing} words differ, "
            f"errors {found.errors or 'none'}, clients late p99 {late}",
            file=sys.stderr,
            flush=True,
        )
        return found

    def passes(self, streams: int) -> bool:
        """Whether the server carries them."""
        found = self.trial(streams)
        return found.passes(P99_MS) and not found.void


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if a target was missed, or nothing could be measured."""
    args = _parsed(arguments)
    utterances = inputs.utterances(args)[: args.limit or RECORDINGS]
    recognizer = inputs.loader(args)()
    decoding = inputs.decoding(recognizer)
    target = args.streams or TARGETS[decoding]
    said = recordings.read([utterance.path for utterance in utterances])
    with serving(args, sessions=MOST) as server:
        load = Load(server.url, said, alone(server.url, said), args)
        one = load.trial(1)
        if args.find:
            most = largest(load.passes, target, MOST)
        else:
            most = target if load.passes(target) else 0
        failures = server.failures()
    many = _best(load.trials[1:], min(most, target))
    late = [trial for trial in load.trials if trial.void and (trial is one or trial.passes(P99_MS))]
    if failures or late or many is None:
        print(f"void: {failures or 'the clients were late before the server was'}")
        return 1
    with inputs.one_core():
        limits = limit.measure(args.model, recognizer, [read_samples(u.path) for u in utterances])
    details = _details(args, recognizer, many, limits)
    figures = [
        _most(decoding, most, many, details, at_least=target if args.find else None),
        *_of_one(decoding, one, details),
        *_of_many(decoding, many, details),
    ]
    return report("server_load", figures, arguments, args.results if args.record else None)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = inputs.parser("server_load", str(__doc__))
    parser.add_argument(
        "--streams", type=int, help="to try first, and the target (default: 150 beam, 300 greedy)"
    )
    parser.add_argument("--seconds", type=float, default=30, help="of each run (default: 30)")
    parser.add_argument("--ramp", type=float, default=10, help="seconds at most (default: 10)")
    parser.add_argument("--late-ms", type=float, default=10, help="what makes a run void")
    parser.add_argument(
        "--no-find", dest="find", action="store_false", help="run --streams alone, seek no more"
    )
    return parser.parse_args(arguments)


def _best(trials: Sequence[Summary], streams: int) -> Summary | None:
    """The run of so many streams, if it counts."""
    return next((t for t in trials if t.streams == streams and not t.void), None)


def _most(
    decoding: str, most: int, many: Summary, details: dict[str, object], at_least: float | None
) -> Figure:
    assert many.partial_ms is not None  # noqa: S101 - it passed
    title = f"Live sessions on one core, {decoding}, p99 chunk to partial ≤ {P99_MS:g} ms"
    return Figure(
        f"server_load.{decoding}.streams",
        title,
        most,
        "sessions",
        1,
        (most, most),
        at_least=at_least,
        details=details,
    )


def _of_one(decoding: str, one: Summary, details: dict[str, object]) -> list[Figure]:
    """What a single session feels."""
    about = {"data": details["data"], "model_id": details["model_id"], "spread": "p50 to p99"}
    figures = []
    for name, what, found, target in (
        ("one.partial", "Chunk to partial", one.partial_ms, ONE_P50_MS),
        ("one.final", "Finish to final", one.final_ms, ONE_FINAL_P50_MS),
    ):
        if found is not None:
            title = f"{what}, one session, {decoding}, p50"
            spread = found.p50, found.p99
            full = f"server_load.{decoding}.{name}"
            figures.append(
                Figure(full, title, found.p50, "ms", 1, spread, at_most=target, details=about)
            )
    return figures


def _of_many(decoding: str, many: Summary, details: dict[str, object]) -> list[Figure]:
    """What many sessions feel and cost."""
    label = f"{many.streams} sessions, {decoding}"
    figures = []
    for name, what, found, target in (
        ("partial", "Chunk to partial", many.partial_ms, P99_MS),
        ("final", "Finish to final", many.final_ms, FINAL_P99_MS),
    ):
        if found is not None:
            title, spread = f"{what}, {label}, p99", (found.p50, found.max)
            about = details | {"spread": "p50 to largest"}
            full = f"server_load.{decoding}.{name}"
            figures.append(
                Figure(full, title, found.p99, "ms", 1, spread, at_most=target, details=about)
            )
    figures.append(
        Figure(
            f"server_load.{decoding}.words",
            f"Differing words, {label}, against one session alone",
            many.differing,
            "words",
            1,
            (many.differing, many.differing),
            at_most=0,
            details=details | {"compared": many.compared},
        )
    )
    return figures + _costs(decoding, label, many, details)


def _costs(decoding: str, label: str, many: Summary, details: dict[str, object]) -> list[Figure]:
    """Memory and processor, where the system tells them."""
    server = many.server
    if server is None:
        return []
    per_message = 1e6 * server.main / many.sent_per_second
    bound = BASE_MB + SESSION_MB * many.streams
    return [
        Figure(
            f"server_load.{decoding}.{name}", title, value, unit, 1, spread, target, details=details
        )
        for name, title, value, unit, spread, target in (
            (
                "memory",
                f"Memory of the server, {label}",
                server.memory_mb,
                "MB",
                (server.idle_mb, server.memory_mb),
                bound,
            ),
            (
                "message",
                f"Processor time outside recognition for each message sent, {label}",
                per_message,
                "µs",
                (per_message, per_message),
                MESSAGE_US,
            ),
        )
    ]


def _details(
    args: argparse.Namespace, recognizer: Any, many: Summary, limits: Limits
) -> dict[str, object]:
    """What is told beside the figures: the bounds of the core, and where its time went."""
    details: dict[str, object] = {
        "data": inputs.data_name(args),
        "model_id": recognizer.bundle_id[:12],
        "streams": many.streams,
        "held": round(many.held, 1),
        "seconds": many.seconds,
        "clients_late_ms_p99": many.late_ms and round(many.late_ms.p99, 2),
        "clients_cores": round(many.generator, 3),
        "server_partial_ms_p99": many.served_ms and round(many.served_ms.p99, 1),
        **limits.details(),
    }
    if many.server is not None:
        network = many.held * limits.network_seconds
        words = many.held * (limits.recogniser_seconds - limits.network_seconds)
        rest = many.server.processor - many.server.main - network - words
        details |= {
            "cores": round(many.server.processor, 3),
            "cores_main_thread": round(many.server.main, 3),
            "cores_network": round(network, 3),
            "cores_features_and_decoding": round(words, 3),
            "cores_rest": round(rest, 3),
        }
    return details


if __name__ == "__main__":
    program.run(main)
