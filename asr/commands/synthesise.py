"""`asr synthesise`: speech that a synthesiser reads from text, as training data."""

from __future__ import annotations

import functools
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.arguments import amount, count, whole
from asr.commands.counts import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from training.synthesis.production import Produced
    from training.synthesis.script import Line

SUMMARY = "make synthetic speech of text to train on (needs the [synthesise] extra)"
PAIR = ("LOW", "HIGH")
WORDS_A_SECOND = 5  # nobody reads faster on average
SHOWN = 20  # phrases that are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "text", type=Path, nargs="+", help="sentences or phrases, one a line (.txt, .gz, .xz)"
    )
    parser.add_argument("out", type=Path, help="folder to make, or to go on with")
    parser.add_argument(
        "--voice",
        choices=("hibari", "kokoro"),
        default="hibari",
        help="hibari: one voice, fast; kokoro: many, slower, with word and phone times "
        "(default: hibari)",
    )
    parser.add_argument(
        "--voices", type=Path, metavar="FOLDER", help="for kokoro: its voice files, *.bin"
    )
    parser.add_argument(
        "--hours", type=amount, default=0.0, help="stop after so much audio (default: all)"
    )
    parser.add_argument(
        "--phrases",
        action="store_true",
        help="speak each line by itself, --times often, such as names and words of your own",
    )
    parser.add_argument(
        "--times", type=count, default=10, help="how often a phrase is spoken (default: 10)"
    )
    parser.add_argument(
        "--cover",
        type=whole,
        default=0,
        metavar="N",
        help="leave out passages without a word that was spoken less than N times: rare words get "
        "a larger share",
    )
    parser.add_argument(
        "--rate",
        type=float,
        nargs=2,
        metavar=PAIR,
        default=(0.85, 1.2),
        help="slowest and fastest speaker, 1 is the voice's own (default: 0.85 1.2)",
    )
    parser.add_argument(
        "--pitch",
        type=float,
        nargs=2,
        metavar=PAIR,
        default=(0.82, 1.15),
        help="deepest and highest speaker of hibari, 1 is its own (default: 0.82 1.15)",
    )
    parser.add_argument(
        "--level",
        type=float,
        nargs=2,
        metavar=PAIR,
        default=(-32.0, -18.0),
        help="RMS in dB of full scale (default: -32 -18)",
    )
    parser.add_argument(
        "--silence",
        type=float,
        nargs=2,
        metavar=PAIR,
        default=(0.05, 0.5),
        help="seconds before and behind (default: 0.05 0.5)",
    )
    parser.add_argument(
        "--codec", choices=("opus", "flac"), default="opus", help="of the audio (default: opus)"
    )
    parser.add_argument("--seed", type=whole, default=0, help="of every choice (default: 0)")
    parser.add_argument(
        "--jobs", type=count, default=1, help="processes; what is made is the same (default: 1)"
    )


def run(args: argparse.Namespace) -> int:
    """Make the speech; what was made before is kept.

    Raises:
        UsageError: the arguments contradict each other.
        Error: a text cannot be read, a package is missing, or the folder is of another kind.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is loaded
    from asr.errors import ConfigError, UsageError, install

    if args.phrases and args.cover:
        raise UsageError("--cover goes with running text, not with --phrases")
    try:
        from training.synthesis.catalogue import load_voice
        from training.synthesis.delivery import Variation
        from training.synthesis.production import Production, Settings, digest
    except ModuleNotFoundError as error:
        raise ConfigError(f"synthesis needs {error.name}: {install('synthesise')}") from error
    try:
        variation = Variation(*map(tuple, (args.rate, args.pitch, args.level, args.silence)))
    except ConfigError as error:
        raise UsageError(str(error)) from None
    settings = Settings(args.voice, args.seed, variation, args.codec)
    script = _script(args)
    about = {
        "texts": [digest(path) for path in args.text],
        "phrases": args.times if args.phrases else 0,
        "cover": args.cover,
    }
    found = Production(args.out, settings, about).run(
        functools.partial(load_voice, args.voice, args.voices),
        script,
        hours=args.hours,
        jobs=args.jobs,
        progress=_progress(args.hours),
    )
    for reason, times in found.refused.most_common():
        print(f"passed over: {times} × {reason}", file=sys.stderr)
    hours = found.seconds / 3600
    print(
        f"{args.out / 'manifest.jsonl'}: {counted(found.utterances, 'utterance')}, {hours:.2f} h",
        file=sys.stderr,
    )
    return 0


def _script(args: argparse.Namespace) -> list[Line]:
    from training.synthesis.script import script_of_passages, script_of_phrases

    if not args.phrases:
        most = int(args.hours * 3600 * WORDS_A_SECOND) or sys.maxsize
        return script_of_passages(args.text, args.seed, most_words=most, cover=args.cover)
    script, refused = script_of_phrases(args.text, args.seed, args.times)
    if refused:
        named = ", ".join(refused[:SHOWN]) + (", …" if len(refused) > SHOWN else "")
        print(
            f"passed over: {counted(len(refused), 'phrase')} that can be read in several ways "
            f"({named}); write them as they are spoken",
            file=sys.stderr,
        )
    return script


def _progress(hours: float) -> Callable[[Produced], None]:
    """A line that is drawn anew on a terminal; elsewhere one every half minute."""
    begin = told = time.monotonic()
    before: list[float] = []
    terminal = sys.stderr.isatty()

    def show(found: Produced) -> None:
        nonlocal told
        before.append(found.seconds) if not before else None
        now = time.monotonic()
        if now - told < (0.2 if terminal else 30.0):
            return
        told = now
        speed = (found.seconds - before[0]) / (now - begin)
        aim = f" of {hours:g}" if hours else ""
        line = f"{found.seconds / 3600:.3f}{aim} h, {speed:.1f} times real time"
        print(
            f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr
        )

    return show
