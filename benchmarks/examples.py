"""Preparing training examples: audio read, distorted and turned into features on one core.

Counted in processor time, so that other work on the machine does not matter. DATA is what a recipe
would train on; the recipe's distortion is applied. `python -m training.estimate` takes the figure.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from asr.measure import SAMPLE_RATE, read_samples
from benchmarks import inputs, program
from benchmarks.figure import Figure, report
from training.audio_store import AudioStore
from training.augment import Augmenter
from training.batching import Batch, plan
from training.data import Utterance
from training.examples import ExampleMaker, Wanted
from training.features import neutral
from training.recipe import Augmentation, read_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH_SECONDS = 200


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record."""
    parser = inputs.parser("examples", str(__doc__))
    parser.add_argument("--recipe", type=Path, help="whose distortion (default: the defaults)")
    parser.add_argument("--runs", type=int, default=3, help="passes over the data (default: 3)")
    args = parser.parse_args(arguments)
    augmentation = read_recipe(args.recipe).augmentation if args.recipe else Augmentation()
    utterances = [
        Utterance(u.id, u.path, len(read_samples(u.path)), u.text.lower(), {})
        for u in inputs.utterances(args)
    ]
    maker = ExampleMaker(
        [AudioStore(utterances, None, "data")],
        neutral(),
        Augmenter(augmentation),
        Wanted(look_ahead=4, heads=(), frame_heads={}),
        seed=0,
    )
    torch.set_num_threads(1)
    speeds = [_speed(maker, utterances, run) for run in range(args.runs + 1)][1:]  # warm
    details = {
        "data": inputs.data_name(args),
        "recipe": args.recipe.name if args.recipe else "",
        "recordings": len(utterances),
        "audio_seconds": round(sum(u.samples for u in utterances) / SAMPLE_RATE, 3),
    }
    figure = Figure(
        "examples.speed",
        "Training examples prepared on one core, seconds of audio in one of processor time",
        statistics.median(speeds),
        "",
        args.runs,
        (min(speeds), max(speeds)),
        details=details,
    )
    return report("examples", [figure], arguments, args.results if args.record else None)


def _speed(maker: ExampleMaker, utterances: Sequence[Utterance], run: int) -> float:
    """Seconds of audio, as recorded, in a second of processor time, over one pass."""
    lengths = [utterance.samples for utterance in utterances]
    bound = BATCH_SECONDS * SAMPLE_RATE
    batches = plan(lengths, bound, np.random.default_rng(run), short_first=False)
    begin = time.process_time()
    for members in batches:
        maker(Batch(0, run, members))
    return sum(lengths) / SAMPLE_RATE / (time.process_time() - begin)


if __name__ == "__main__":
    program.run(main)
