"""A hostile day: everything a server on the internet meets, beside one client that behaves.

Stage by stage: framing right and wrong (`benchmarks/framing.py`), nonsense in all protocols
(`benchmarks/fuzz.py`), packets of one byte, oversized messages, compressed bombs, 1,000 connections
a second, slow readers, clients that are not there any more (`benchmarks/abuse.py`). In each of them
a client in a process of its own holds one session after the other, and must hear the words that it
hears alone, nearly as fast as usual: its p99 within twice that of a quiet stage; what is over
sooner than that one is done again until then, for a p99 wants hundreds of partials. Afterwards the
server is asked whether it failed anywhere, and its memory must be back within 5 % of what it was
after a shorter round of the same, with as many at a time: what stays then is a leak, and not room
for so many that allocators keep.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from asr import audio
from asr.measure import read_samples
from benchmarks import abuse, framing, inputs, program
from benchmarks.figure import Figure, report
from benchmarks.observer import Observer
from benchmarks.served import serving

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from benchmarks.served import Served

STAGES: Final = ("framing", "fuzz", "bytes", "oversized", "bombs", "connects", "slow", "half-open")
SESSIONS: Final = 300  # that the server takes: more than any stage opens
IDLE_SECONDS: Final = 60.0
SMALL: Final = 0.05  # of messages and seconds, in the round before memory is counted
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Attack:
    """What came of a stage.

    Attributes:
        wrong: what the server did wrong.
        messages: of nonsense sent.
        rate: connections a second.
    """

    wrong: abuse.Wrong
    messages: int = 0
    rate: float = 0.0

    def __add__(self, other: Attack) -> Attack:
        """One after the other."""
        rate = max(self.rate, other.rate)
        return Attack(self.wrong + other.wrong, self.messages + other.messages, rate)


def attack(port: int, file: Path, args: argparse.Namespace, name: str, share: float) -> Attack:
    """Do one of `STAGES`, or some of it.

    Args:
        port: of the server.
        file: what those say who say something.
        args: of the command line.
        name: of the stage.
        share: how long it lasts, in (0, 1]; it is always as many at a time.
    """
    count = args.count
    if name == "fuzz":
        fuzzer = abuse.Fuzzer(port, args.wyoming_port or None, args.seed)
        wrong = asyncio.run(fuzzer.run(round(args.messages * share), args.message_rate))
        return Attack(wrong, messages=fuzzer.messages)
    if name == "connects":
        seconds = max(1.0, args.connect_seconds * share)
        wrong, rate = asyncio.run(abuse.connects(port, args.connects, seconds))
        return Attack(wrong, rate=rate)
    samples = read_samples(file)[: int(16_000 * args.byte_seconds)]
    stages: dict[str, Callable[[], Coroutine[None, None, abuse.Wrong]]] = {
        "framing": lambda: abuse.framed_wrongly(port),
        "bytes": lambda: abuse.one_byte_senders(port, count, audio.to_s16le(samples)),
        "oversized": lambda: abuse.oversized(port, 4 * count),
        "bombs": lambda: abuse.bombs(port, 4 * count),
        "slow": lambda: abuse.slow_readers(port, count),
        "half-open": lambda: abuse.half_open(port, count),
    }
    return Attack(asyncio.run(stages[name]()))


def _give_way() -> None:
    """Let the good client's process run whenever it wants to, or it would be late because of us."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


@dataclass
class Day:
    """What happened.

    Attributes:
        server: the server.
        files: what the client that behaves says.
        args: of the command line.
        attacks: what came of each stage.
        observed: what the client that behaves saw, by stage; see `Summary.fields`.
        memory: of the server when all had left, by stage, in MB.
    """

    server: Served
    files: Sequence[Path]
    args: argparse.Namespace
    attacks: dict[str, Attack] = field(default_factory=dict)
    observed: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """All stages."""
        chosen = [stage for stage in STAGES if stage not in self.args.skip]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, _give_way) as pool:

            def happens(name: str, share: float) -> Attack:
                told = self.server.port, self.files[0], self.args, name, share
                return pool.submit(attack, *told).result()

            for name in chosen:
                happens(name, SMALL)
            self._observe("usual", lambda: time.sleep(self.args.usual_seconds))
            for name in chosen:
                self._observe(name, partial(self._note, happens, name))
            time.sleep(self.args.usual_seconds)  # the server gives memory back twice a minute
            self.memory["afterwards"] = self.server.usage().memory

    def _note(self, happens: Callable[[str, float], Attack], name: str) -> None:
        """Let it happen at least as long as nothing did, or its p99 would be of a few partials."""
        end = time.monotonic() + self.args.usual_seconds
        found = happens(name, 1.0)
        while time.monotonic() < end:
            found += happens(name, 1.0)
        self.attacks[name] = found

    def _observe(self, name: str, happens: Callable[[], object]) -> None:
        """Let something happen beside a client that behaves; then see what is left of it."""
        observer = Observer(self.server.url, self.files)
        with observer:
            happens()
        self.observed[name] = observer.found
        wrong = self.attacks.setdefault(name, Attack([])).wrong
        if not self._idle():
            wrong.append("not all sessions were let go of")
        self.memory[name] = self.server.usage().memory
        found = observer.found
        p99 = found["partial_ms"]["p99"] if found["partial_ms"] else float("inf")
        print(
            f"{name}: {len(wrong)} wrong, beside it p99 {p99:.1f} ms, {found['differing']} words "
            f"differ, errors {found['errors'] or 'none'}, {self.memory[name]:.1f} MB behind it",
            file=sys.stderr,
            flush=True,
        )

    def _idle(self) -> bool:
        """Wait until the server has let go of everybody; whether it did."""
        end = time.monotonic() + IDLE_SECONDS
        while time.monotonic() < end:
            found = self.server.metrics()
            # the one connection is that of the question
            if found["asr_sessions_open"] == 0 and found["asr_connections_open"] <= 1:
                return True
            time.sleep(0.2)
        return False


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if a target was missed."""
    args = _parsed(arguments)
    utterances = inputs.utterances(args)
    files = [utterance.path for utterance in utterances[: args.limit or 8]]
    wyoming = ["--wyoming-port", str(args.wyoming_port)] if args.wyoming_port else []
    # A session that nobody closed is kept for its client: not for minutes, or memory is that.
    options = ["--resume-seconds", "2", *wyoming]
    with serving(args, *options, sessions=SESSIONS) as server:
        day = Day(server, files, args)
        day.run()
        failures = server.failures() if server.alive else ["the server is gone"]
        internal = server.metrics()['asr_errors_total{kind="internal"}'] if server.alive else 0.0
    for name, found in day.attacks.items():
        for line in found.wrong[:20]:
            print(f"{name}: {line}")
    print("\n".join(failures[:20]))
    recognizer = inputs.loader(args)()
    details = {
        "data": inputs.data_name(args),
        "model_id": recognizer.bundle_id[:12],
        "decoding": inputs.decoding(recognizer),
        "stages": [name for name in day.attacks if name != "usual"],
        "framing_cases": len(framing.cases()),
        "fuzzed_messages": sum(found.messages for found in day.attacks.values()),
        "fuzzed_messages_per_second": args.message_rate,
        "bad_clients_at_a_time": args.count,
        "connects_per_second": round(max(found.rate for found in day.attacks.values()), 1),
        "wrong": {name: len(found.wrong) for name, found in day.attacks.items()},
        "internal_errors": round(internal),
    }
    figures = _figures(day, len(failures) + round(internal), details)
    return report("hostile", figures, arguments, args.results if args.record else None)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = inputs.parser("hostile", str(__doc__))
    parser.add_argument(
        "--messages", type=int, default=1_000_000, help="of nonsense (default: 1000000)"
    )
    parser.add_argument(
        "--message-rate", type=float, default=2000, help="of them a second (default: 2000)"
    )
    parser.add_argument(
        "--count", type=int, default=32, help="bad clients at a time, of each kind (default: 32)"
    )
    parser.add_argument(
        "--connects", type=float, default=1000, help="connections a second (default: 1000)"
    )
    parser.add_argument(
        "--connect-seconds", type=float, default=30, help="for so long (default: 30)"
    )
    parser.add_argument(
        "--byte-seconds", type=float, default=3, help="audio in packets of a byte (default: 3)"
    )
    parser.add_argument(
        "--usual-seconds", type=float, default=60, help="of the quiet stage (default: 60)"
    )
    parser.add_argument(
        "--skip", choices=STAGES, action="append", default=[], help="leave a stage out; repeatable"
    )
    parser.add_argument(
        "--wyoming-port", type=int, default=10_300, help="0 leaves it out (default: 10300)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the nonsense (default: 0)")
    return parser.parse_args(arguments)


def _figures(day: Day, failures: int, details: dict[str, Any]) -> list[Figure]:
    label = "a hostile day"
    usual = day.observed.pop("usual")
    wrong = sum(len(found.wrong) for found in day.attacks.values())
    differing = sum(found["differing"] for found in day.observed.values())
    failed = sum(sum(found["errors"].values()) for found in day.observed.values())
    compared = sum(found["compared"] for found in day.observed.values())
    counts = (
        ("wrong", f"Wrong answers, {label}", wrong, "answers"),
        ("failures", f"Failures and traces of the server, {label}", failures, "failures"),
        ("words", f"Differing words of the client that behaves, {label}", differing, "words"),
        ("refused", f"Its failed sessions, {label}", failed, "sessions"),
    )
    about = details | {"compared_words": compared}
    figures = [
        Figure(f"hostile.{name}", title, value, unit, 1, (value, value), at_most=0, details=about)
        for name, title, value, unit in counts
    ]
    return [*figures, _memory(day, label, details), *_latency(day, usual, label, details)]


def _memory(day: Day, label: str, details: dict[str, Any]) -> Figure:
    """How much of it stays."""
    before, after = day.memory["usual"], day.memory["afterwards"]
    told = {f"memory_mb_{name}": round(value, 1) for name, value in day.memory.items()}
    ratio = after / before
    return Figure(
        "hostile.memory",
        f"Memory of the server, after over before, {label}",
        ratio,
        "",
        1,
        (ratio, ratio),
        at_most=1.05,
        details=details | told,
    )


def _latency(day: Day, usual: dict[str, Any], label: str, details: dict[str, Any]) -> list[Figure]:
    """How much slower the client that behaves is answered, in the worst stage."""
    if usual["partial_ms"] is None:
        return []
    found = {name: seen["partial_ms"] for name, seen in day.observed.items() if seen["partial_ms"]}
    if not found:
        return []
    ratios = {name: ms["p99"] / usual["partial_ms"]["p99"] for name, ms in found.items()}
    told = {f"p99_ms_{name}": round(ms["p99"], 1) for name, ms in found.items()}
    told |= {f"p50_ms_{name}": round(ms["p50"], 1) for name, ms in found.items()}
    told |= {
        f"late_ms_p99_{name}": round(seen["late_ms"]["p99"], 1)
        for name, seen in day.observed.items()
        if seen["late_ms"]
    }
    told["p99_ms_usual"] = round(usual["partial_ms"]["p99"], 1)
    told["p50_ms_usual"] = round(usual["partial_ms"]["p50"], 1)
    worst = max(ratios.values())
    return [
        Figure(
            "hostile.latency",
            f"Chunk to partial of the client that behaves, p99 over the usual, {label}",
            worst,
            "",
            len(ratios),
            (min(ratios.values()), worst),
            at_most=2,
            details=details | told | {"spread": "best to worst stage"},
        )
    ]


if __name__ == "__main__":
    program.run(main)
