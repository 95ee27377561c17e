"""`asr evaluate`: error rates and latencies on recordings with transcripts."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from asr.commands import recognition
from asr.commands.arguments import count, whole
from asr.commands.counts import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from asr.evaluate import Failure
    from asr.measure import Chunking, Result
    from asr.metrics import ErrorCounts

SUMMARY = "measure word errors, speed and latency on recordings with transcripts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="a manifest (JSON lines with audio, text, id, speaker and, for emission latency, "
        "words; paths relative to it), a LibriSpeech folder, or a folder of audio files with a "
        ".txt beside each",
    )
    parser.add_argument("--split", help="part of a LibriSpeech folder or manifest, as dev-clean")
    recognition.add_model_arguments(parser)
    parser.add_argument(
        "--chunk-ms",
        metavar="MS",
        type=_chunk,
        default=80,
        help="milliseconds of audio fed at a time; random: another length of 1 sample to 500 ms "
        "each time; whole: the recording at once (default: 80)",
    )
    parser.add_argument(
        "--jobs",
        type=count,
        default=1,
        help="recordings at a time, each in its own process with one thread; words do not depend "
        "on it, times do where cores are short (default: 1)",
    )
    parser.add_argument("--limit", metavar="N", type=count, help="only the first N recordings")
    parser.add_argument(
        "--seed", type=whole, default=0, help="of --chunk-ms random, 0 or more (default: 0)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; rates are fractions"
    )
    parser.add_argument(
        "--details",
        metavar="FILE",
        type=Path,
        help="also write a JSON line for each recording: reference, hypothesis, errors, words",
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print.

    Returns:
        0, or 1 if a recording could not be measured; each of those is named on standard error.

    Raises:
        Error: there is nothing to measure, or no model to measure.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is loaded: one core, as stated
    from asr.evaluate import evaluate
    from asr.manifest import named, read_utterances
    from asr.measure import Settings

    utterances = read_utterances(args.data, args.split)[: args.limit]
    load = functools.partial(recognition.load, args.model, args.precision, args.decoder)
    with ExitStack() as stack:
        details = stack.enter_context(_writing(args.details)) if args.details else None
        found = evaluate(
            load,
            utterances,
            Settings(args.chunk_ms, args.seed),
            jobs=args.jobs,
            progress=_progress(len(utterances)),
        )
        if details:
            outcomes: list[Result | Failure] = [*found.results, *found.failures]
            details.writelines(f"{json.dumps(_detail(outcome))}\n" for outcome in outcomes)
    for failure in found.failures:
        utterance = failure.utterance
        line = named(utterance.id, utterance.path, failure.message)
        print(f"asr: {line}", file=sys.stderr)
    summary = _about(load(), args) | found.summary()
    print(json.dumps(summary) if args.json else _table(summary))
    return 1 if found.failures else 0


def _about(recognizer: Any, args: argparse.Namespace) -> dict[str, object]:
    checkpoint = str(args.model).endswith(".pt")
    return {
        "model": recognizer.name or str(args.model),
        "model_id": recognizer.bundle_id,
        "precision": "float32" if checkpoint else args.precision,
        "data": args.data.resolve().name,
        "split": args.split,
    }


def _writing(path: Path) -> IO[str]:
    from asr.errors import Error

    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise Error(f"{path}: cannot be written ({error.strerror})") from None


def _detail(outcome: Result | Failure) -> dict[str, object]:
    """What `--details` tells of one recording."""
    from asr.evaluate import Failure
    from asr.metrics import normalise

    utterance = outcome.utterance
    told: dict[str, object] = {"id": utterance.id, "speaker": utterance.speaker}
    if isinstance(outcome, Failure):
        return told | {"error": outcome.message}
    return told | {
        "reference": normalise(utterance.text),
        "hypothesis": normalise(outcome.text),
        **asdict(outcome.counts.words),
        "characters": asdict(outcome.counts.characters),
        "words": [[word.text, word.start, word.end, word.confidence] for word in outcome.words],
        "audio_seconds": outcome.samples / 16000,
        "seconds": outcome.seconds,
        "first_partial_ms": outcome.first_partial_ms,
        "end_to_final_ms": outcome.end_to_final_ms,
        "emissions": [[e.word, e.end, e.first, e.shown, e.stable] for e in outcome.emissions],
    }


def _progress(total: int) -> Callable[[int, ErrorCounts], None]:
    """A line that is drawn anew on a terminal; elsewhere one line every tenth of the way."""
    terminal = sys.stderr.isatty()

    def show(done: int, counts: ErrorCounts) -> None:
        rate = f", WER {100 * counts.wer:.1f} %" if counts.words.length else ""
        line = f"{done} of {total} recordings{rate}"
        if terminal:
            end = "\n" if done == total else ""
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)
        elif 10 * done // total > 10 * (done - 1) // total:
            print(line, file=sys.stderr, flush=True)

    return show


def _table(summary: dict[str, object]) -> str:
    """The figures for people, rates in percent."""
    values = cast("dict[str, Any]", summary)
    interval = values["wer_interval"]
    reach = (
        f", 95 % interval {100 * interval['low']:.2f} to {100 * interval['high']:.2f} %"
        if interval
        else ""
    )
    edits = ", ".join(f"{values[n]} {n}" for n in ("substitutions", "deletions", "insertions"))
    lines = [
        ("model", f"{values['model']}, {values['precision']}, {values['model_id'][:12]}"),
        ("recordings", f"{values['utterances']} ({values['audio_seconds']:.1f} s)"),
        ("failed", str(values["failed"])),
        ("WER", _percent(values["wer"]) + reach),
        ("", f"{counted(values['words'], 'word')}: {edits}"),
        ("CER", _percent(values["cer"])),
        ("real-time factor", f"{_number(values['rtf'])} (processor {_number(values['rtf_cpu'])})"),
        ("late chunks", _percent(values["late_chunks"])),
        ("milliseconds", "".join(f"{name:>9}" for name in ("p50", "p95", "p99", "max"))),
        ("  chunk compute", _row(values["chunk_ms"])),
        ("  first partial", _row(values["first_partial_ms"])),
        ("  end to final", _row(values["end_to_final_ms"])),
        *_emission(values),
        ("words taken back", _flicker(values["flicker"])),
    ]
    return "\n".join(f"{name:<18}{value}" for name, value in lines)


def _emission(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines on emission latency, where the manifest knows the words' times."""
    if values["emission_ms"] is None:
        return []
    names = ("p50", "p90", "p95")
    told = (
        ("end to shown", "emission_first_ms"),
        ("shown for good", "emission_ms"),
        ("end to stable", "emission_stable_ms"),
    )
    return [
        (f"of {values['emission_ms']['words']} words", "".join(f"{name:>9}" for name in names)),
        *((f"  {what}", _row({n: values[key][n] for n in names})) for what, key in told),
    ]


def _flicker(found: dict[str, float] | None) -> str:
    if found is None:
        return "none"
    back, returned = (_percent(found[name]) for name in ("taken_back", "returned"))
    return f"{back}, {returned} returned"


def _percent(fraction: float | None) -> str:
    return "none" if fraction is None else f"{100 * fraction:.2f} %"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _row(figures: dict[str, float] | None) -> str:
    return "".join(f"{value:9.2f}" for value in figures.values()) if figures else "     none"


def _chunk(text: str) -> Chunking:
    if text in ("random", "whole"):
        return cast("Chunking", text)
    if text.isdecimal() and 1 <= int(text) <= 600_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not random, whole or 1 to 600000 milliseconds")
