"""Word error rate of a model on a set, as `asr evaluate` finds it, with its 95 % interval."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

from asr.evaluate import evaluate
from asr.measure import Settings
from benchmarks import inputs, program
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asr.evaluate import Evaluation
    from asr.manifest import Utterance


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
    recognizer = load()
    decoding, data = inputs.decoding(recognizer), inputs.data_name(args)
    details = {
        "data": data,
        "data_sha256": texts_digest(recordings),
        "model": recognizer.name,
        "model_id": recognizer.bundle_id[:12],
    }
    made = figure(
        found,
        f"wer.{data}.{args.precision}.{decoding}",
        f"Word error rate, {data}, {args.precision}, {MANNERS[decoding]}",
        details,
        at_most=args.target,
    )
    code = report("wer", [made], arguments, args.results if args.record else None)
    tell_failures(found)
    return 1 if found.failures else code


def figure(
    found: Evaluation,
    name: str,
    title: str,
    details: Mapping[str, object],
    *,
    at_most: float | None = None,
) -> Figure:
    """The word error rate that was found, with its 95 % interval where there is one."""
    interval, wer = found.interval(), found.counts.wer
    spread = {"spread": "95 % interval" if interval else "none"}
    return Figure(
        name,
        title,
        wer,
        "fraction",
        1,
        (interval.low, interval.high) if interval else (wer, wer),
        at_most=at_most,
        details=found.summary() | dict(details) | spread,
    )


def texts_digest(recordings: Sequence[Utterance]) -> str:
    """What tells one set of transcripts from another."""
    texts = "\n".join(f"{utterance.id} {utterance.text}" for utterance in recordings)
    return hashlib.sha256(texts.encode()).hexdigest()[:12]


def tell_failures(found: Evaluation) -> None:
    """Name what could not be measured, on standard error."""
    for failure in found.failures:
        print(f"{failure.utterance.id}: {failure.message}", file=sys.stderr)


if __name__ == "__main__":
    program.run(main)
