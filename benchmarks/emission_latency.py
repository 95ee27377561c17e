"""Emission latency: how long after its end a word is shown, first and for good (asr/emission.py).

Last comes flicker: how much of what is shown is taken back, for each word of the transcript.

DATA is a manifest with word times (`asr align`). Chunks of 80 ms unless told otherwise; look-ahead
and waiting for a chunk to fill are inside, the time to compute is not.
Targets: p50 at most 200 ms, p90 at most 400 ms.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from asr.errors import DataError
from asr.evaluate import evaluate
from asr.measure import Settings
from asr.metrics import percentile
from benchmarks import inputs, program
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGETS = {50: 200.0, 90: 400.0, 95: None}


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if a target was missed or a recording could not be measured."""
    parser = inputs.parser("emission_latency", str(__doc__))
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--chunk-ms", type=int, default=80, metavar="MS", help="fed at a time (default: 80)"
    )
    args = parser.parse_args(arguments)
    load, recordings = inputs.loader(args), inputs.utterances(args)
    found = evaluate(load, recordings, Settings(args.chunk_ms), jobs=args.jobs)
    emitted = [emission for result in found.results for emission in result.emissions]
    if not emitted:
        raise DataError(
            f"{inputs.data_name(args)}: no recognised word has a known end; align it with asr align"
        )
    lengths = {result.utterance.id: result.samples for result in found.results}
    details = {
        "data": inputs.data_name(args),
        "chunk_ms": args.chunk_ms,
        "recordings": len(found.results),
        "words": len(emitted),
        "words_of_known_end": sum(len(result.utterance.words) for result in found.results),
        "with_the_end_of_the_audio": sum(
            emission.shown == lengths[result.utterance.id]
            for result in found.results
            for emission in result.emissions
        ),
        "wer": found.counts.wer,
        "model_id": load().bundle_id[:12],
        "spread": "none",
    }
    told = f"{details['data']}, chunks of {args.chunk_ms} ms"
    suffix = "" if args.chunk_ms == parser.get_default("chunk_ms") else f".{args.chunk_ms}ms"
    figures = []
    for name, title, values, targets in (
        ("first", "shown", [e.first_ms for e in emitted], TARGETS),
        ("shown", "shown for good", [e.shown_ms for e in emitted], TARGETS),
        ("stable", "stable", [e.stable_ms for e in emitted], dict.fromkeys(TARGETS)),
    ):
        for p, target in targets.items():
            value = percentile(values, p)
            label = f"From a word's end until it is {title}, p{p}, {told}"
            figures.append(
                Figure(
                    f"emission_latency.{name}.p{p}{suffix}",
                    label,
                    value,
                    "ms",
                    1,
                    (value, value),
                    at_most=target,
                    details=details,
                )
            )
    for name, title in (
        ("taken_back", "Words shown that are taken back, for each of the transcript"),
        ("returned", "Words of the transcript that were taken back before"),
    ):
        value = getattr(found.flicker, name) / found.flicker.words  # > 0: there are emissions
        figures.append(
            Figure(
                f"emission_latency.{name}{suffix}",
                f"{title}, {told}",
                value,
                "fraction",
                1,
                (value, value),
                details=details | {"flicker": asdict(found.flicker)},
            )
        )
    code = report("emission_latency", figures, arguments, args.results if args.record else None)
    for failure in found.failures:
        print(f"{failure.utterance.id}: {failure.message}", file=sys.stderr)
    return 1 if found.failures else code


if __name__ == "__main__":
    program.run(main)
