"""`asr align`: where each word of a transcript is in its recording, for a whole manifest."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.arguments import check_apart, count
from asr.commands.counts import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from training.aligner import Alignment

SUMMARY = "find where each word and phone is in recordings with transcripts"
MISSING_SHOWN = 20  # words without a pronunciation that are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="manifest: JSON lines with audio, relative to it, and text",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="manifest to write: the same rows with words and, of a head of phones, phone_times",
    )
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help="model to align with: a shipped one's name, a bundle's folder or a checkpoint (.pt) "
        "(default: the one that ships)",
    )
    parser.add_argument(
        "--precision",
        choices=("int8", "float32"),
        default="int8",
        help="arithmetic of the model (default: int8)",
    )
    parser.add_argument(
        "--head",
        metavar="NAME",
        help="head to align with (default: the first, or with --lexicon the first of phones)",
    )
    parser.add_argument(
        "--lexicon",
        metavar="FILE",
        action="append",
        default=[],
        help="pronunciations, WORD<TAB>PH ON ES a line, plain or .xz; may be given again",
    )
    parser.add_argument(
        "--jobs",
        type=count,
        default=1,
        help="recordings at a time, each in its own process with one thread; times do not depend "
        "on it (default: 1)",
    )
    parser.add_argument("--limit", metavar="N", type=count, help="only the first N rows")


def run(args: argparse.Namespace) -> int:
    """Align and write.

    Returns:
        0, or 1 if a recording could not be read or does not fit its text; words without a
        pronunciation are no failure.

    Raises:
        Error: nothing can be aligned, there is no model, or the result cannot be written.
        UsageError: the result would be written over the data.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is loaded
    from asr.errors import ConfigError, Error, install
    from asr.manifest import write_manifest
    from training.aligner import UNWRITABLE, align_rows, load_aligner
    from training.data import manifest_rows

    check_apart(args.out, [args.data])
    if not args.out.resolve().parent.is_dir():
        raise Error(f"{args.out}: cannot be written (no such folder)")
    rows = manifest_rows(args.data, {})[: args.limit]
    load = functools.partial(load_aligner, args.model, args.precision, args.head, args.lexicon)
    try:
        found = align_rows(load, rows, jobs=args.jobs, progress=show_rows(len(rows)))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigError(f"{args.model}: a checkpoint needs torch: {install('train')}") from None
    write_manifest(args.out, found.rows)
    for line in report(found):
        print(line, file=sys.stderr)
    return 1 if set(found.faults.counts) - {UNWRITABLE} else 0


def report(found: Alignment) -> list[str]:
    """What was aligned and what was not, line by line."""
    lines = [f"{found.aligned} of {counted(len(found.rows), 'row')} aligned"]
    lines += [f"kept without times: {line}" for line in found.faults.lines()]
    if found.missing:
        named = [f"{word} ({n})" for word, n in found.missing.most_common(MISSING_SHOWN)]
        more = ", …" if len(found.missing) > MISSING_SHOWN else ""
        words = counted(len(found.missing), "word")
        lines.append(f"{words} cannot be written: {', '.join(named)}{more}")
    return lines


def show_rows(total: int) -> Callable[[int], None]:
    """A line that is drawn anew on a terminal; elsewhere one line every tenth of the way."""
    terminal = sys.stderr.isatty()

    def show(done: int) -> None:
        line = f"{done} of {total} rows"
        if terminal:
            end = "\n" if done == total else ""
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)
        elif 10 * done // total > 10 * (done - 1) // total:
            print(line, file=sys.stderr, flush=True)

    return show
