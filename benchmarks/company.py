"""Company: streams stepped together against each alone, in chunks of 80 ms.

Counted: words and times that depend on the neighbours (target: none). Compared within one run: the
throughput together over the throughput alone, on one core. Where there are fewer recordings than
streams they are repeated; where a stream ends, the next recording takes its place.
"""

from __future__ import annotations

import statistics
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from asr.measure import SAMPLE_RATE, read_samples
from asr.together import transcribe_together
from benchmarks import differences, inputs, program
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asr.audio import Samples
    from asr.transcript import Word

CHUNK = 1280


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if anything differs."""
    parser = inputs.parser("company", str(__doc__))
    parser.add_argument("--streams", type=int, default=64, help="together (default: 64)")
    parser.add_argument("--runs", type=int, default=3, help="runs of both (default: 3)")
    args = parser.parse_args(arguments)
    read = [read_samples(utterance.path) for utterance in inputs.utterances(args)]
    recordings = list(islice(cycle(read), max(args.streams, len(read))))
    recognizer = inputs.loader(args)()
    with inputs.one_core():
        runs = [_run(recognizer, recordings, args.streams) for _ in range(args.runs)]
    counted = [differences.count(zip(alone, together, strict=True)) for alone, together, _ in runs]
    ratios = [ratio for _, _, ratio in runs]
    details: dict[str, object] = {
        "data": inputs.data_name(args),
        "streams": args.streams,
        "recordings": len(recordings),
        "audio_seconds": round(sum(map(len, recordings)) / SAMPLE_RATE, 3),
        "words": counted[0].compared,
        "model_id": recognizer.bundle_id[:12],
    }
    label = f"{args.streams} streams together against each alone, {args.precision}"
    figures = [
        *(
            Figure(
                f"company.{name}",
                f"Differing {name}, {label}",
                max(values),
                name,
                args.runs,
                (min(values), max(values)),
                at_most=0,
                details=details,
            )
            for name, values in (
                ("words", [found.words for found in counted]),
                ("times", [found.times for found in counted]),
            )
        ),
        Figure(
            "company.throughput",
            f"Throughput, {label}, ratio",
            statistics.median(ratios),
            "",
            args.runs,
            (min(ratios), max(ratios)),
            details=details,
        ),
    ]
    return report("company", figures, arguments, args.results if args.record else None)


def _run(
    recognizer: Any, recordings: list[Samples], streams: int
) -> tuple[list[tuple[Word, ...]], list[tuple[Word, ...]], float]:
    """Words alone, words together, and how many times faster together was."""
    begin = time.perf_counter()
    alone = transcribe_together(recognizer, recordings, streams=1, chunk_samples=CHUNK)
    middle = time.perf_counter()
    together = transcribe_together(recognizer, recordings, streams=streams, chunk_samples=CHUNK)
    end = time.perf_counter()
    return alone, together, (middle - begin) / (end - middle)


if __name__ == "__main__":
    program.run(main)
