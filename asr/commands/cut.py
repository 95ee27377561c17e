"""`asr cut`: short recordings to train on, cut from long ones at pauses."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asr.commands.arguments import check_apart
from asr.commands.counts import counted

SUMMARY = "cut aligned recordings into short ones, at pauses, to train on faster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="manifest with the words' times, as asr align writes it",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="manifest to write; the pieces go to a folder of the same name beside it",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=4.0,
        help="length that a piece should have, about (default: 4)",
    )
    parser.add_argument(
        "--longest",
        type=_seconds,
        default=8.0,
        help="length above which a recording is cut at any pause (default: 8)",
    )
    parser.add_argument(
        "--pause",
        type=_seconds,
        default=0.08,
        help="seconds between two words, at least, where a cut may lie (default: 0.08)",
    )


def run(args: argparse.Namespace) -> int:
    """Cut and write.

    Returns:
        0, or 1 if a row could not be cut.

    Raises:
        Error: nothing can be cut, or the result cannot be written.
    """
    from asr.commands.align import show_rows
    from asr.errors import Error
    from asr.manifest import write_manifest
    from training.cutting import CutRule, cut_rows
    from training.data import SAMPLE_RATE, manifest_rows

    check_apart(args.out, [args.data])
    rows = manifest_rows(args.data, {})
    folder = args.out.with_suffix("")
    if folder == args.out:
        raise Error(f"{args.out}: name the manifest NAME.jsonl; NAME becomes a folder")
    wanted, longest, pause = (
        round(SAMPLE_RATE * s) for s in (args.seconds, args.longest, args.pause)
    )
    try:
        cut = cut_rows(rows, folder, CutRule(wanted, longest, pause), show_rows(len(rows)))
    except OSError as error:
        raise Error(f"{folder}: cannot be written ({error.strerror})") from None
    write_manifest(args.out, cut.rows)
    hours = sum(row["samples"] for row in cut.rows) / SAMPLE_RATE / 3600
    told = f"{counted(len(cut.rows), 'piece')} of {counted(len(rows), 'row')}"
    print(f"{told}, {hours:.2f} h", file=sys.stderr)
    for line in cut.faults.lines():
        print(f"not cut: {line}", file=sys.stderr)
    return 1 if cut.faults.counts else 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return value
