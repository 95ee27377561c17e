"""`asr transcribe`: words of audio files, or of audio on standard input while it comes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from asr.commands import recognition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asr.commands.recognition import Recognition
    from asr.commands.screen import Screen
    from asr.resampling import Samples
    from asr.transcript import Event, Transcript

SUMMARY = "write down what is said in audio files, or in audio on standard input"
FORMATS = ("text", "json", "srt", "vtt", "tsv", "ctm")
PIECE_SECONDS = 0.25  # audio handed on at a time: words appear while a file is being read
STDIN = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="wav, flac, ogg, opus, mp3 or whatever else libsndfile reads, of any rate and number "
        "of channels; - is standard input",
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
        help="write a file for each input into this folder; - is standard output (default: -)",
    )
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


def run(args: argparse.Namespace) -> int:
    """Transcribe every file; one that cannot be is told, and the others go on.

    Returns:
        0, or 1 if any file failed.

    Raises:
        UsageError: the arguments contradict each other.
        Error: the model cannot be loaded.
    """
    from asr.errors import Error

    targets = _targets(args)
    recognise = recognition.choose(args)
    failed = False
    for number, (file, target) in enumerate(zip(args.files, targets, strict=True)):
        try:
            _one(args, file, target, recognise, first=number == 0)
        except Error as error:
            sys.stdout.flush()
            print(f"asr: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def _one(
    args: argparse.Namespace,
    file: str,
    target: Path | None,
    recognise: Recognition,
    *,
    first: bool,
) -> None:
    """Transcribe one file to its target, or to standard output."""
    from asr import writers

    screen = _screen(args, file) if args.format == "text" and target is None else None
    try:
        transcript, repaired = _recognise(args, file, recognise, screen)
    finally:
        if screen:
            screen.close()
    if repaired:
        print(
            f"asr: {file}: {repaired} samples were not finite or absurdly large; they counted "
            "as silence",
            file=sys.stderr,
        )
    if screen:
        return
    content = writers.FORMATS[args.format](transcript, file)
    if target:
        _write(target, content)
    else:
        if args.format == "tsv" and not first:
            content = content.partition("\n")[2]  # one table, one head
        print(content, end="", flush=True)


def _recognise(
    args: argparse.Namespace, file: str, recognise: Recognition, screen: Screen | None
) -> tuple[Transcript, int]:
    """Open the input and recognise it, with what is to be seen meanwhile."""
    on_event = _watcher(args, screen)
    if args.raw is None:
        rate, chunks = _decoded(file)
        return recognise(chunks, rate, on_event)
    if file == STDIN:
        return recognise(_raw(_stdin(), "standard input"), args.raw, on_event)
    from asr.errors import AudioError

    try:
        with Path(file).open("rb") as stream:
            return recognise(_raw(stream, file), args.raw, on_event)
    except OSError as error:
        raise AudioError(f"{file}: cannot be read ({error.strerror}); check the path") from None


def _decoded(file: str) -> tuple[int, Iterator[Samples]]:
    """Sample rate and pieces of an audio file."""
    from itertools import chain

    from asr import audio, resampling
    from asr.errors import AudioError

    pieces = audio.blocks(_stdin() if file == STDIN else file, PIECE_SECONDS)
    head = next(pieces)
    try:
        resampling.start(head.sample_rate)
    except AudioError as error:
        raise AudioError(f"{file}: {error}") from None
    return head.sample_rate, (piece.samples for piece in chain([head], pieces))


def _raw(stream: IO[bytes], name: str) -> Iterator[Samples]:
    """Samples of raw PCM, as soon as they come."""
    from asr import audio
    from asr.errors import AudioError

    read = cast("Callable[[int], bytes]", getattr(stream, "read1", stream.read))
    rest = b""
    while data := read(8192):
        data = rest + data
        whole = len(data) - len(data) % 2
        rest = data[whole:]
        yield audio.from_s16le(data[:whole])
    if rest:
        raise AudioError(
            f"{name}: ends in the middle of a 16-bit sample (odd number of bytes); it must be "
            "signed 16-bit little-endian PCM"
        )


def _stdin() -> IO[bytes]:
    from asr.commands import UsageError

    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe audio into it, or use asr mic")
    return sys.stdin.buffer


def _screen(args: argparse.Namespace, file: str) -> Screen:
    from asr.commands.screen import Screen

    prefix = f"{file}: " if len(args.files) > 1 else ""
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


def _targets(args: argparse.Namespace) -> list[Path | None]:
    """The file that each input's transcript goes to, None for standard output."""
    from asr import writers
    from asr.commands import UsageError

    if args.files.count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")
    if args.output == STDIN:
        if len(args.files) > 1 and args.format in {"srt", "vtt"}:
            raise UsageError(f"{args.format} of several files needs --output DIR")
        return [None] * len(args.files)
    names = ["stdin" if file == STDIN else Path(file).stem for file in args.files]
    if double := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"several inputs would be written to the name {min(double)!r}")
    return [Path(args.output) / f"{name}.{writers.EXTENSIONS[args.format]}" for name in names]


def _write(target: Path, content: str) -> None:
    from asr.errors import Error

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, "utf-8")
    except OSError as error:
        raise Error(f"{target}: cannot be written ({error.strerror})") from None


def _rate(text: str) -> int:
    from asr.resampling import MAX_RATE, MIN_RATE

    if text.isdecimal() and MIN_RATE <= int(text) <= MAX_RATE:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no sample rate of {MIN_RATE} to {MAX_RATE} Hz")
