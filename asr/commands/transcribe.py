"""`asr transcribe`: words of audio files, or of audio on standard input while it comes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands import batch, recognition
from asr.commands.arguments import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from asr.commands.recognition import Recognition
    from asr.commands.screen import Screen
    from asr.recordings import Recording
    from asr.transcript import Event

SUMMARY = "write down what is said in audio files, or in audio on standard input"
FORMATS = ("text", "json", "srt", "vtt", "tsv", "ctm")
STDIN = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="wav, flac, ogg, opus, mp3 or whatever else libsndfile reads, of any rate and number "
        "of channels; a folder of those; a manifest (.jsonl); - is standard input",
    )
    parser.add_argument(
        "--files-from",
        metavar="LIST",
        type=Path,
        help="also the recordings whose paths this file names, one a line",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="text: a line a segment, as it is spoken; json: an object a line; srt, vtt: "
        "subtitles; tsv, ctm: tables of words (default: text)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        default=STDIN,
        help="write a file for each input into this folder, but those that are there already; - is "
        "standard output (default: -)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="with --output DIR: do everything anew, also where other settings made what is there",
    )
    parser.add_argument(
        "--jobs",
        type=count,
        default=1,
        metavar="N",
        help="with --output DIR: recordings at a time, each in a process with one thread "
        "(default: 1)",
    )
    _add_cluster_arguments(parser)
    parser.add_argument(
        "--raw",
        metavar="RATE",
        type=_rate,
        help="the input is raw PCM (signed 16 bits, little-endian, mono) of this sample rate; on "
        "standard input it is recognised while it comes",
    )
    parser.add_argument(
        "--partials",
        action="store_true",
        help="show words while they may still change: dim on a terminal, else as lines on "
        "standard error",
    )
    recognition.add_arguments(parser)


def _add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options for many machines."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="with --output DIR: let the workers of a Dask cluster recognise, whose scheduler is "
        "at tls://HOST:PORT or tcp://HOST:PORT",
    )
    for name, what in (
        ("ca", "certificates of who signed those of the cluster"),
        ("cert", "our certificate"),
        ("key", "its private key"),
    ):
        parser.add_argument(
            f"--tls-{name}",
            metavar="FILE",
            type=Path,
            help=f"with --cluster tls://…: {what}, PEM",
        )


def run(args: argparse.Namespace) -> int:
    """Transcribe every file; one that cannot be is told, and the others go on.

    Returns:
        0, or 1 if any file failed.

    Raises:
        UsageError: the arguments contradict each other.
        Error: the model cannot be loaded, or the server of `--url` not be reached.
    """
    found = _recordings(args)
    _check(args, found)
    return _aloud(args, found) if args.output == STDIN else batch.run(args, found)


def _aloud(args: argparse.Namespace, found: list[Recording]) -> int:
    """Write everything to standard output, while it is recognised."""
    from asr.errors import Error, ServerError

    recognise = recognition.choose(args)
    failed = False
    for number, recording in enumerate(found):
        try:
            _one(args, recording.name, recognise, first=number == 0, alone=len(found) == 1)
        except Error as error:
            if isinstance(error, ServerError) and not error.reached:
                raise
            sys.stdout.flush()
            print(f"asr: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def _one(
    args: argparse.Namespace, file: str, recognise: Recognition, *, first: bool, alone: bool
) -> None:
    """Transcribe one file to standard output."""
    from asr import recordings, writers

    screen = (
        _screen(args, "" if alone else f"{writers.plain_name(file)}: ")
        if args.format == "text"
        else None
    )
    try:
        rate, chunks = recordings.opened(file, args.raw)
        transcript, repaired = recognise(chunks, rate, _watcher(args, screen))
    finally:
        if screen:
            screen.close()
    if repaired:
        recognition.tell(batch.repaired(file, repaired))
    if screen:
        return
    content = writers.FORMATS[args.format](transcript, file)
    if args.format == "tsv" and not first:
        content = content.partition("\n")[2]  # one table, one head
    print(content, end="", flush=True)


def _screen(args: argparse.Namespace, prefix: str) -> Screen:
    from asr.commands.screen import Screen

    return Screen(sys.stdout, live=_on_terminal(args), prefix=prefix)


def _on_terminal(args: argparse.Namespace) -> bool:
    """Whether tentative words are to be drawn where the others are."""
    return bool(args.partials) and sys.stdout.isatty() and sys.stderr.isatty()


def _watcher(args: argparse.Namespace, screen: Screen | None) -> Callable[[Event], None]:
    """What is done with every event while audio is being recognised."""
    from asr.transcript import Partial

    lines = args.partials and not (screen and _on_terminal(args))

    def watch(event: Event) -> None:
        if lines and isinstance(event, Partial):
            print(f"{event.stable} [{event.tentative}]".strip(), file=sys.stderr, flush=True)
        if screen:
            screen.show(event)

    return watch


def _recordings(args: argparse.Namespace) -> list[Recording]:
    """All that is to be transcribed."""
    from asr import recordings
    from asr.errors import UsageError

    if args.files.count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")
    if STDIN in args.files and sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe audio into it, or use asr mic")
    if not args.files and args.files_from is None:
        raise UsageError("nothing to transcribe: name files, folders or --files-from")
    found = list(recordings.find(args.files))
    if args.files_from is not None:
        found += recordings.listed(args.files_from)
    return recordings.apart(found)


def _check(args: argparse.Namespace, found: list[Recording]) -> None:
    """Refuse arguments that contradict each other, before anything is loaded or written."""
    from asr.errors import UsageError

    several = args.cluster is not None or args.jobs > 1
    if args.output == STDIN:
        if several or args.overwrite:
            raise UsageError("--jobs, --cluster and --overwrite need --output DIR")
        if len(found) > 1 and args.format in {"srt", "vtt"}:
            raise UsageError(f"{args.format} of several files needs --output DIR")
    else:
        _check_folder(args, found)
    if several and args.url is not None:
        raise UsageError("--url leaves the work to a server; drop it, or --jobs and --cluster")
    if several and STDIN in args.files:
        raise UsageError("standard input can be read by one process only; drop --jobs, --cluster")
    if args.cluster is not None and (args.jobs > 1 or str(args.model).endswith(".pt")):
        raise UsageError("--cluster takes a bundle, and as many workers as it has; drop --jobs")
    if args.cluster is None and any((args.tls_ca, args.tls_cert, args.tls_key)):
        raise UsageError("--tls-ca, --tls-cert and --tls-key belong to --cluster")


def _check_folder(args: argparse.Namespace, found: list[Recording]) -> None:
    from asr.errors import UsageError

    if not args.output:
        raise UsageError("--output names no folder (a variable that is not set?)")
    if args.partials:
        raise UsageError("--partials shows words on the screen; drop it, or --output")
    names: dict[str, str] = {}
    for recording in found:
        other = names.get(recording.target)
        if other == recording.name:
            raise UsageError(f"{other} is given twice; name it once")
        if other is not None:
            raise UsageError(
                f"{other} and {recording.name} would be written to one name, {recording.target!r}; "
                "give the folder they lie in, or --files-from"
            )
        names[recording.target] = recording.name


def _rate(text: str) -> int:
    from asr.resampling import MAX_RATE, MIN_RATE

    if text.isdecimal() and MIN_RATE <= int(text) <= MAX_RATE:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no sample rate of {MIN_RATE} to {MAX_RATE} Hz")
