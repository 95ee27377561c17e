"""How far word times by forced alignment lie from the true ones, on synthetic speech.

DATA is a manifest with the synthesiser's own phone times (`phones`, `frames`, `cut`; see
docs/training.md). An error is aligned - true time in milliseconds: positive is late. A word's last
phone before a pause lasts, for the synthesiser, until it has died away; such a word truly ends with
the last 10 ms that are within 30 dB of its loudest ones, and its end is reported apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.errors import DataError
from asr.measure import read_samples
from asr.metrics import percentile
from benchmarks import inputs, program
from benchmarks.figure import Figure, report
from training.aligner import load_aligner
from training.data import manifest_rows, row_text
from training.losses import frame_labels
from training.synthetic import FRAME, phone_times, word_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.aligner import Aligner

PAUSE = 4 * FRAME  # samples between two words, from which on the first is heard to die away
AUDIBLE_DB = 30  # below the loudest 10 ms of its word, a sound has ended
STEP = 160


@dataclass(slots=True)
class Errors:
    """Signed errors in milliseconds.

    Attributes:
        start: of all words.
        end: of words that another one follows at once.
        end_before_pause: of the others.
        frames: output frames of 40 ms in all.
        right: frames with the true phone, or with none where there is none.
        left_out: recordings whose words could not be aligned, or have no true times.
    """

    start: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    end_before_pause: list[float] = field(default_factory=list)
    frames: int = 0
    right: int = 0
    left_out: int = 0


def audible_end(samples: NDArray[np.float32], start: int, end: int) -> int:
    """Where a sound that dies away before `end` has ended for a listener.

    Args:
        samples: float32 [n] at 16 kHz.
        start: first sample of the word.
        end: one past the last that belongs to it.

    Returns:
        A sample in (start, end].
    """
    word = samples[start:end]
    steps = len(word) // STEP
    if not steps:
        return end
    level = np.square(word[: steps * STEP], dtype=np.float64).reshape(steps, STEP).sum(1)
    loud = np.flatnonzero(level >= level.max() * 10 ** (-AUDIBLE_DB / 10))
    return start + STEP * (int(loud[-1]) + 1)


def add(errors: Errors, aligner: Aligner, row: dict[str, Any]) -> None:
    """Align a recording and count its errors."""
    truth = word_times(row_text(row), row["phones"], row["frames"], row.get("cut", 0))
    samples = read_samples(row["audio"])
    try:
        found = aligner.times(samples, row_text(row))
    except DataError:
        found = {}
    if not truth or not found:
        errors.left_out += 1
        return
    followers = [start for _, start, _ in truth[1:]]
    for (_, start, end), (_, first, last), after in zip(
        truth, found["words"], [*followers, None], strict=True
    ):
        errors.start.append((first - start) / 16)
        if after is not None and after - end <= PAUSE:
            errors.end.append((last - end) / 16)
        else:
            true_end = audible_end(samples, start, min(end, len(samples)))
            errors.end_before_pause.append((last - true_end) / 16)
    if "phone_times" in found:
        _count_frames(errors, aligner, row, found["phone_times"], len(samples))


def _count_frames(
    errors: Errors, aligner: Aligner, row: dict[str, Any], phones: list[list[Any]], samples: int
) -> None:
    number = {unit: n for n, unit in enumerate(aligner.units.units)}
    true = list(phone_times(row["phones"], row["frames"], row.get("cut", 0)))
    wanted = frame_labels(true, number, samples, 1.0, 0)
    labels = frame_labels([(p, s, e) for p, s, e in phones], number, samples, 1.0, 0)
    errors.frames += len(wanted)
    errors.right += int((labels == wanted).sum())


def figures(errors: Errors, details: dict[str, object]) -> list[Figure]:
    """What is told: median and 90th percentile of the size, mean of the signed error."""
    made = []
    for name, title, values in (
        ("start", "starts", errors.start),
        ("end", "ends", errors.end),
        ("end_before_pause", "ends before pauses", errors.end_before_pause),
    ):
        if not values:
            continue
        sizes = [abs(value) for value in values]
        more = details | {"words": len(values), "signed_median": median(values)}
        for kind, told, value in (
            ("p50", "median error", percentile(sizes, 50)),
            ("p90", "90th percentile of the error", percentile(sizes, 90)),
            ("bias", "mean signed error", fmean(values)),
        ):
            label = f"Aligned word {title}, {told}, {details['data']}"
            made.append(
                Figure(
                    f"alignment.{name}.{kind}", label, value, "ms", 1, (value, value), details=more
                )
            )
    if errors.frames:
        share = errors.right / errors.frames
        label = f"Aligned phones, frames with the right one, {details['data']}"
        made.append(
            Figure("alignment.frames", label, share, "fraction", 1, (share, share), details=details)
        )
    return made


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record."""
    parser = inputs.parser("alignment", str(__doc__), data=False)
    parser.add_argument("data", type=Path, metavar="DATA", help="manifest of synthetic speech")
    parser.add_argument("--model", metavar="NAME_OR_PATH", help="bundle or checkpoint")
    parser.add_argument("--precision", choices=("int8", "float32"), default="int8", help="its form")
    parser.add_argument("--head", metavar="NAME", help="head to align with")
    parser.add_argument("--lexicon", action="append", default=[], metavar="FILE", help="for phones")
    parser.add_argument(
        "--limit",
        type=int,
        default=100,
        metavar="N",
        help="evenly drawn rows (default: 100)",
    )
    args = parser.parse_args(arguments)
    rows = [row for row in manifest_rows(args.data, {}) if "frames" in row]
    if not rows:
        raise DataError(f"{args.data}: no row has the synthesiser's `frames`")
    aligner = load_aligner(args.model, args.precision, args.head, args.lexicon)
    errors = Errors()
    rows = rows[:: max(1, len(rows) // args.limit)][: args.limit]
    for row in rows:
        add(errors, aligner, row)
    if not errors.start:
        raise DataError(f"{args.data}: none of {len(rows)} recordings could be aligned")
    details = {
        "data": inputs.data_name(args),
        "head": aligner.head,
        "recordings": len(rows) - errors.left_out,
        "left_out": errors.left_out,
        "spread": "none",
    }
    results = args.results if args.record else None
    return report("alignment", figures(errors, details), arguments, results)


if __name__ == "__main__":
    program.run(main)
