"""`asr loadtest`: how many streams a server carries, and how fast it answers them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands import FAILED
from asr.commands.arguments import websocket
from asr.commands.counts import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asr.loadtest.figures import Server, Summary
    from asr.loadtest.recordings import Recording
    from asr.loadtest.run import References, Run
    from asr.metrics import Percentiles

SUMMARY = "put load on a server: paced clients with real speech, latencies, the most it carries"
URL = "ws://127.0.0.1:8765"
MOST = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        nargs="*",
        help="what is said: audio files, manifests (.jsonl), folders (default: the demo recording)",
    )
    parser.add_argument(
        "--url",
        type=websocket,
        default=URL,
        metavar="WS_URL",
        help=f"the server; with the API key of the variable ASR_KEY (default: {URL})",
    )
    parser.add_argument(
        "--streams",
        type=_count,
        default=1,
        metavar="N",
        help="sessions at a time; with --find, how many to try first (default: 1)",
    )
    parser.add_argument(
        "--seconds", type=_positive, default=30.0, help="how long to measure (default: 30)"
    )
    parser.add_argument(
        "--ramp", type=_seconds, default=5.0, help="seconds in which they come (default: 5)"
    )
    parser.add_argument(
        "--find", action="store_true", help="find the largest N that meets --p99-ms, within 5 %%"
    )
    parser.add_argument(
        "--p99-ms",
        type=_positive,
        default=150.0,
        help="with --find: what 99 %% of partials must meet, from when their audio was due "
        "(default: 150)",
    )
    parser.add_argument(
        "--late-ms",
        type=_positive,
        default=10.0,
        help="the run is void where 1 %% of the chunks left later than this by the clients' own "
        "fault (default: 10)",
    )
    parser.add_argument(
        "--limit", type=_count, default=64, help="recordings to use at most (default: 64)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order of recordings (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw a PNG, too; needs matplotlib"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print.

    Returns:
        0; 1 if the run is void, a session failed or heard other words, or (with --find) the server
        does not carry a single stream.

    Raises:
        Error: a recording cannot be read, the server cannot serve one session, or the plot cannot
            be drawn.
    """
    from asr import demo
    from asr.loadtest import plot, recordings
    from asr.loadtest.run import alone

    if args.plot is not None:
        plot.check()
    said = recordings.read(args.data or [demo.RECORDING], args.limit)
    _tell(f"{counted(len(said), 'recording')}, first one session alone")
    references = alone(args.url, said)
    words = sum(map(len, references.values()))
    _tell(f"{counted(words, 'word')}, the same are to come of every client")
    if args.find:
        return _find(args, said, references)
    return _once(args, said, references)


def _once(args: argparse.Namespace, said: Sequence[Recording], references: References) -> int:
    """One run."""
    from asr.loadtest import plot

    run, found = _measure(args, said, references, args.streams)
    if args.plot is not None:
        plot.draw_run(run, args.plot)
    print(json.dumps(found.fields()) if args.json else _table(found))
    return 0 if found.sound and not found.void else FAILED


def _find(args: argparse.Namespace, said: Sequence[Recording], references: References) -> int:
    """Runs of more and fewer streams."""
    from asr.loadtest import plot
    from asr.loadtest.search import largest

    trials: list[Summary] = []

    def passes(streams: int) -> bool:
        _, found = _measure(args, said, references, streams)
        trials.append(found)
        passed = found.passes(args.p99_ms)
        _tell(f"{streams} streams: {_verdict(found, passed=passed)}")
        return passed and not found.void

    most = largest(passes, args.streams, MOST)
    best = next((trial for trial in trials if trial.streams == most), None)
    # A void trial above the best says that the clients were the limit, not the server.
    void = any(trial.void and trial.passes(args.p99_ms) for trial in trials)
    if args.plot is not None:
        plot.draw_search(trials, args.p99_ms, args.plot)
    if args.json:
        told = {"streams": most, "p99_ms": args.p99_ms, "void": void}
        print(json.dumps(told | {"trials": [trial.fields() for trial in trials]}))
    else:
        if best is not None:
            print(_table(best))
        print(f"the most streams at p99 ≤ {args.p99_ms:g} ms: {most}")
    if void:
        _tell("void: the clients were late before the server was; give them a core of their own")
    return 0 if most and not void else FAILED


def _measure(
    args: argparse.Namespace, said: Sequence[Recording], references: References, streams: int
) -> tuple[Run, Summary]:
    from asr.loadtest.figures import summary
    from asr.loadtest.run import Settings, run

    settings = Settings(streams, args.seconds, args.ramp, args.seed)
    found = run(args.url, said, references, settings)
    return found, summary(found, args.late_ms)


def _verdict(found: Summary, *, passed: bool) -> str:
    """One trial in a line."""
    if found.void:
        return "void, the clients were late"
    p99 = f"{found.partial_ms.p99:.1f} ms" if found.partial_ms else "no partial"
    failed = sum(found.errors.values())
    return (
        f"{'pass' if passed else 'fail'}: p99 {p99}, {failed} failed, "
        f"{found.differing} words differ, {found.held:.1f} held"
    )


def _table(found: Summary) -> str:
    """The figures for people."""
    errors = ", ".join(f"{count} {why}" for why, count in sorted(found.errors.items()))
    late = found.late_ms.p99 if found.late_ms else float("inf")
    state = "VOID: the clients were late" if found.void else "fine"
    lines = [
        ("streams", f"{found.streams} asked for, {found.held:.1f} held, {found.seconds:g} s"),
        ("sessions", f"{found.sessions} ended well"),
        ("failed", errors or "none"),
        ("words", f"{found.differing} of {found.compared} differ from one session alone"),
        ("slow_down", str(found.slow_downs)),
        ("milliseconds", "".join(f"{name:>9}" for name in ("p50", "p95", "p99", "max"))),
        ("  chunk to partial", _row(found.partial_ms)),
        ("  by the server", _row(found.served_ms)),
        ("  finish to final", _row(found.final_ms)),
        ("  feeder late", _row(found.late_ms)),
        ("feeder", f"{state} (p99 {late:.1f} ms, at most {found.late_bound_ms:g} ms)"),
        ("server", _server(found.server)),
        ("clients", _clients(found)),
    ]
    return "\n".join(f"{name:<19}{value}" for name, value in lines)


def _row(figures: Percentiles | None) -> str:
    if figures is None:
        return "     none"
    return "".join(f"{v:9.2f}" for v in (figures.p50, figures.p95, figures.p99, figures.max))


def _server(server: Server | None) -> str:
    if server is None:
        return "not measured: it is elsewhere, another user's, or not on Linux"
    return (
        f"{100 * server.processor:.0f} % of a core ({100 * server.main:.0f} % beside recognition), "
        f"{server.memory_mb:.0f} MB, {server.idle_mb:.0f} MB before"
    )


def _clients(found: Summary) -> str:
    return (
        f"{100 * found.generator:.0f} % of a core, {found.sent_per_second:.0f} messages a second "
        f"sent, {found.received_per_second:.0f} received"
    )


def _tell(line: str) -> None:
    print(f"asr: {line}", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 to {MOST}")


def _positive(text: str) -> float:
    value = _seconds(text)
    if value > 0:
        return value
    raise argparse.ArgumentTypeError(f"{text} is not greater than 0")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value <= 1e6:
        return value
    raise argparse.ArgumentTypeError(f"{text} is not a number of 0 to 1000000")
