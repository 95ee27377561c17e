"""What benchmarks are given: recordings, a model, one core."""

from __future__ import annotations

import argparse
import functools
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import demo
from asr.commands import recognition
from asr.decoding.greedy import GreedyDecoder
from asr.manifest import Utterance, read_utterances
from benchmarks.figure import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asr.recognizer import Recognizer


def parser(benchmark: str, description: str, *, data: bool = True) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take.

    Args:
        benchmark: the module's name.
        description: of the figure.
        data: whether it measures recordings.
    """
    made = argparse.ArgumentParser(f"python -m benchmarks.{benchmark}", description=description)
    made.add_argument(
        "--record", action="store_true", help="append the figures to results/, for the tables"
    )
    made.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="where (default: results)"
    )
    if data:
        made.add_argument(
            "data",
            type=Path,
            nargs="?",
            metavar="DATA",
            help="manifest, LibriSpeech folder or folder of audio with texts "
            "(default: the demo recording)",
        )
        made.add_argument("--limit", type=int, metavar="N", help="only the first N recordings")
        recognition.add_model_arguments(made)
    return made


def utterances(args: argparse.Namespace) -> list[Utterance]:
    """The recordings that were asked for."""
    if args.data is None:
        return [Utterance("demo", demo.RECORDING, demo.reference())]
    return read_utterances(args.data)[: args.limit]


def data_name(args: argparse.Namespace) -> str:
    """What the figures call the recordings: no path, only the last part."""
    return "demo recording" if args.data is None else args.data.resolve().name


def loader(args: argparse.Namespace) -> Callable[[], Any]:
    """What makes the recogniser that was asked for, with one thread; can be pickled."""
    return functools.partial(recognition.load, args.model, args.precision, args.decoder)


def decoding(recognizer: Recognizer) -> str:
    """How a recogniser finds words, for titles: `greedy` or `beam`."""
    return "greedy" if isinstance(recognizer.decoder, GreedyDecoder) else "beam"


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and those it starts, on one core where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
