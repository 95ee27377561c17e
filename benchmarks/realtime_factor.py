"""Real-time factor: one core, int8, one stream in chunks of 80 ms, partials included.

Seconds spent in the recogniser for a second of audio: features, network, decoding, events. Reading
the file and loading the model are left out. A first run that is not counted warms up. Target: at
most 0.02 of wall time. Processor time is told beside it: on an idle core both are the same, and
where wall time is much longer, others were using the core and the run says so.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

from asr.measure import SAMPLE_RATE, Settings, chunk_lengths, read_samples, stream
from asr.metrics import Percentiles, compute_seconds
from benchmarks import inputs, program
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from asr.audio import Samples

TARGET = 0.02
BUSY = 1.2  # wall time over processor time from which on the core was not ours


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if the target was missed."""
    parser = inputs.parser("realtime_factor", str(__doc__))
    parser.add_argument("--runs", type=int, default=5, help="counted runs (default: 5)")
    parser.add_argument("--seconds", type=float, default=60, help="audio a run (default: 60)")
    args = parser.parse_args(arguments)
    with inputs.one_core():
        figures = measure(args, _recordings(args))
    wall, processor = (figure.value for figure in figures)
    if wall > BUSY * processor:
        print(
            f"The core was shared: wall time is {wall / processor:.1f} times processor time. "
            "Measure again on an idle machine.",
            file=sys.stderr,
        )
    return report("realtime_factor", figures, arguments, args.results if args.record else None)


def _recordings(args: argparse.Namespace) -> list[Samples]:
    """Recordings that hold the seconds asked for, or all there are."""
    recordings: list[Samples] = []
    for utterance in inputs.utterances(args):
        if sum(map(len, recordings)) >= args.seconds * SAMPLE_RATE:
            break
        recordings.append(read_samples(utterance.path))
    return recordings


def measure(args: argparse.Namespace, recordings: list[Samples]) -> list[Figure]:
    """Real-time factor of several runs over the recordings, in wall and in processor time."""
    recognizer = inputs.loader(args)()
    seconds = sum(map(len, recordings)) / SAMPLE_RATE
    walls, processor, chunks = [], [], []
    for run in range(args.runs + 1):
        cpu = time.process_time()
        calls = [
            stream(recognizer, samples, chunk_lengths(len(samples), Settings(80), ""))
            for samples in recordings
        ]
        if run:
            processor.append((time.process_time() - cpu) / seconds)
            walls.append(sum(map(compute_seconds, calls)) / seconds)
            chunks += [1000 * call.seconds for made in calls for call in made[:-1]]
    percentiles = Percentiles.of(chunks)
    details: dict[str, object] = {
        "data": inputs.data_name(args),
        "audio_seconds": round(seconds, 3),
        "model_id": recognizer.bundle_id[:12],
        "chunk_ms_p50": percentiles and percentiles.p50,
        "chunk_ms_p99": percentiles and percentiles.p99,
    }
    title = f"one core, {args.precision}, one stream in 80 ms chunks"
    return [
        Figure(
            name,
            f"{what}, {title}",
            statistics.median(values),
            "",
            args.runs,
            (min(values), max(values)),
            at_most=target,
            details=details,
        )
        for name, what, values, target in (
            ("realtime_factor", "Real-time factor", walls, TARGET),
            ("realtime_factor.processor", "Processor time per second of audio", processor, None),
        )
    ]


if __name__ == "__main__":
    program.run(main)
