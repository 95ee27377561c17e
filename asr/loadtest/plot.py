"""Pictures of load: one run through time, or latencies over the number of streams."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from asr.errors import Error
from asr.metrics import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from asr.loadtest.figures import Summary
    from asr.loadtest.run import Run

PERCENTS = (50, 95, 99)


def check() -> None:
    """Make sure that pictures can be drawn, before hours are spent on what they should show.

    Raises:
        Error: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401, ICN001 - whether it is there
    except ImportError as error:
        raise Error("a plot needs matplotlib: pip install matplotlib") from error


def draw_run(run: Run, picture: Path) -> None:
    """Draw one run as a PNG: latencies by second, their distribution, streams, processor, memory.

    Raises:
        Error: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9), dpi=110)
    times, spread, load = figure.subplots(3, 1)
    _latency_by_second(times, run)
    _distribution(spread, run)
    _load(load, run)
    times.set_title(f"{run.settings.streams} streams; window from 0 s")
    _save(figure, picture)


def draw_search(trials: Sequence[Summary], p99_ms: float, picture: Path) -> None:
    """Draw the trials of a search as a PNG: latencies over the number of streams.

    Raises:
        Error: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=110)
    axis = figure.subplots()
    ordered = sorted((t for t in trials if t.partial_ms), key=lambda trial: trial.streams)
    streams = [trial.streams for trial in ordered]
    for name in ("p50", "p95", "p99"):
        values = [getattr(trial.partial_ms, name) for trial in ordered]
        axis.plot(streams, values, marker=".", label=f"chunk to partial, {name}")
    finals = [(t.streams, t.final_ms.p99) for t in ordered if t.final_ms]
    if finals:
        axis.plot(*zip(*finals, strict=True), marker=".", label="finish to final, p99")
    axis.axhline(p99_ms, color="grey", linestyle="--", label=f"{p99_ms:g} ms")
    axis.set_xlabel("streams")
    axis.set_ylabel("ms")
    axis.set_yscale("log")
    _finish(axis)
    _save(figure, picture)


def _latency_by_second(axis: Any, run: Run) -> None:
    by_second: defaultdict[int, list[float]] = defaultdict(list)
    for session in run.sessions:
        for moment, latency in session.partials:
            by_second[math.floor(moment - run.begin)].append(1000 * latency)
    seconds = sorted(by_second)
    for percent in PERCENTS:
        values = [percentile(by_second[second], percent) for second in seconds]
        axis.plot(seconds, values, label=f"p{percent}")
    axis.set_ylabel("chunk to partial, ms")
    axis.set_xlabel("s")
    _finish(axis)


def _distribution(axis: Any, run: Run) -> None:
    """Which part of the latencies in the window is larger than x."""
    inside = {
        "chunk to partial": [m for s in run.sessions for m in s.partials],
        "finish to final": [s.finish for s in run.sessions if s.finish],
        "feeder late": [m for s in run.sessions for m in s.late],
    }
    for name, moments in inside.items():
        values = sorted(1000 * max(v, 1e-5) for at, v in moments if run.begin <= at < run.end)
        beyond = [1 - rank / len(values) for rank in range(len(values))]
        if values:
            axis.plot(values, beyond, label=name)
    if axis.lines:  # there is no logarithm of nothing
        axis.set_xscale("log")
        axis.set_yscale("log")
    axis.set_xlabel("ms")
    axis.set_ylabel("part that takes longer")
    _finish(axis)


def _load(axis: Any, run: Run) -> None:
    steps = [
        (moment - run.begin, change)
        for session in run.sessions
        if session.ready is not None and session.done is not None
        for moment, change in ((session.ready, 1), (session.done, -1))
    ]
    open_now, at, count = 0, [], []
    for moment, change in sorted(steps):
        open_now += change
        at.append(moment)
        count.append(open_now)
    axis.step(at, count, where="post", label="streams")
    axis.set_xlabel("s")
    axis.set_ylabel("streams")
    axis.legend(loc="upper left")
    if len(run.usage) > 1:
        other = axis.twinx()
        moments = [moment - run.begin for moment, _ in run.usage]
        busy = [
            100 * (b.processor - a.processor) / (then - now)
            for (now, a), (then, b) in pairwise(run.usage)
        ]
        other.plot(moments[1:], busy, color="tab:red", label="processor, % of a core")
        memory = [usage.memory for _, usage in run.usage]
        other.plot(moments, memory, color="tab:green", label="memory, MB")
        other.legend(loc="upper right")
    axis.grid(alpha=0.3)


def _finish(axis: Any) -> None:
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend()


def _save(figure: Any, picture: Path) -> None:
    figure.tight_layout()
    try:
        figure.savefig(picture, format="png")
    except OSError as error:
        raise Error(f"{picture}: cannot be written ({error.strerror})") from error
