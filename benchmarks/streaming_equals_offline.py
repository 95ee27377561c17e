"""Streaming against offline: words and times that depend on how the audio was cut.

Every recording is recognised in random chunks of 1 sample to 500 ms and again as one chunk; what
differs is counted. Target: 0 words and 0 times, over the whole validation set.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from asr.evaluate import evaluate
from asr.measure import Settings
from benchmarks import differences, inputs, program
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if anything differs or could not be read."""
    parser = inputs.parser("streaming_equals_offline", str(__doc__))
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the cutting (default: 0)")
    args = parser.parse_args(arguments)
    recordings = inputs.utterances(args)
    streamed, whole = (
        evaluate(inputs.loader(args), recordings, settings, jobs=args.jobs)
        for settings in (Settings("random", args.seed), Settings("whole"))
    )
    found = differences.count(
        (a.words, b.words) for a, b in zip(streamed.results, whole.results, strict=True)
    )
    details = {
        "data": inputs.data_name(args),
        "recordings": len(whole.results),
        "failed": len(whole.failures),
        "words": found.compared,
        "chunks": sum(len(result.chunk_ms) for result in streamed.results),
        "wer": whole.counts.wer,
    }
    figures = [
        Figure(
            f"streaming_equals_offline.{name}",
            f"Differing {name}, random chunks against the whole recording, {details['data']}",
            value,
            name,
            1,
            (value, value),
            at_most=0,
            details=details,
        )
        for name, value in (("words", found.words), ("times", found.times))
    ]
    results = args.results if args.record else None
    code = report("streaming_equals_offline", figures, arguments, results)
    for failure in whole.failures:
        print(f"{failure.utterance.id}: {failure.message}", file=sys.stderr)
    return 1 if whole.failures else code


if __name__ == "__main__":
    program.run(main)
