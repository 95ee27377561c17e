"""Word error rate of a model on a set, as `asr evaluate` finds it, with its 95 % interval."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

from asr.evaluate import evaluate
from asr.measure import Settings
from benchmarks import inputs
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    from collections.abc import Sequence


MANNERS = {
    "beam": "with lexicon and language model",
    "greedy": "spelled greedily, no language model",
}


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if the target was missed or a recording could not be read."""
    parser = inputs.parser("wer", str(__doc__))
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--target", type=float, help="largest fraction that is good enough")
    args = parser.parse_args(arguments)
    load, recordings = inputs.loader(args), inputs.utterances(args)
    found = evaluate(load, recordings, Settings(), jobs=args.jobs)
    texts = hashlib.sha256("\n".join(f"{u.id} {u.text}" for u in recordings).encode())
    interval, wer = found.interval(), found.counts.wer
    recognizer = load()
    decoding = inputs.decoding(recognizer)
    details = found.summary() | {
        "data": inputs.data_name(args),
        "data_sha256": texts.hexdigest()[:12],
        "model": recognizer.name,
        "model_id": recognizer.bundle_id[:12],
        "spread": "95 % interval" if interval else "none",
    }
    figure = Figure(
        f"wer.{inputs.data_name(args)}.{args.precision}.{decoding}",
        f"Word error rate, {inputs.data_name(args)}, {args.precision}, {MANNERS[decoding]}",
        wer,
        "fraction",
        1,
        (interval.low, interval.high) if interval else (wer, wer),
        at_most=args.target,
        details=details,
    )
    code = report("wer", [figure], arguments, args.results if args.record else None)
    for failure in found.failures:
        print(f"{failure.utterance.id}: {failure.message}", file=sys.stderr)
    return 1 if found.failures else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
