"""`asr demo`: the bundled recording as if it were spoken now, and how well that was recognised."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from asr.commands import recognition

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from asr.audio import Audio
    from asr.commands.screen import Screen
    from asr.live import LiveStream
    from asr.metrics import Call, Percentiles
    from asr.transcript import Event

SUMMARY = "recognise the bundled recording as if it were spoken now, and measure it"
CHUNK_MS = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--fast", action="store_true", help="as fast as it goes, instead of in real time"
    )
    recognition.add_model_arguments(parser)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured.

    Attributes:
        calls: one a chunk of 80 ms, and `finish`.
        delays_ms: from the arrival of each chunk's last sample until what follows from it was on
            the screen; in real time only.
        audio_s: length of the recording in seconds.
    """

    calls: list[Call]
    delays_ms: list[float]
    audio_s: float


def run(args: argparse.Namespace) -> int:
    """Play, show, measure, report.

    Returns:
        0.

    Raises:
        Error: the model cannot be loaded.
    """
    from asr import audio, demo
    from asr.commands.screen import Screen
    from asr.live import LiveStream

    begin = time.perf_counter()
    recognizer = recognition.load(args.model, args.precision, args.decoder)
    load_s = time.perf_counter() - begin
    recording = audio.read(demo.RECORDING)
    how = "as fast as it goes" if args.fast else "in real time"
    print(
        f"model {recognizer.name!r} loaded in {load_s:.2f} s; "
        f"{recording.duration_s:.1f} s of audio, {how}:",
        file=sys.stderr,
    )
    screen = Screen(sys.stdout, live=sys.stdout.isatty())
    stream = LiveStream(recognizer, recording.sample_rate)
    try:
        outcome = play(stream, recording, screen, paced=not args.fast)
    finally:
        screen.close()
    print("\n" + "\n".join(report(outcome, demo.reference())))
    return 0


def play(stream: LiveStream, recording: Audio, screen: Screen, *, paced: bool) -> Outcome:
    """Feed the recording in chunks of 80 ms, show what is heard, and take the times.

    Args:
        stream: at the rate of the recording.
        recording: what to play.
        screen: where words appear.
        paced: whether each chunk is handed over only when its last sample would have been spoken.
    """
    from asr.metrics import Call

    calls: list[Call] = []
    delays_ms: list[float] = []
    size = recording.sample_rate * CHUNK_MS // 1000
    start = time.perf_counter()

    def call(position: int, work: Callable[[], list[Event]]) -> None:
        began = time.perf_counter()
        events = tuple(work())
        calls.append(Call(position, time.perf_counter() - began, events))
        for event in events:
            screen.show(event)

    for begin in range(0, len(recording.samples), size):
        chunk = recording.samples[begin : begin + size]
        position = begin + len(chunk)
        due = start + position / recording.sample_rate
        if paced:
            time.sleep(max(0.0, due - time.perf_counter()))
        call(position, partial(stream.feed, chunk))
        if paced:
            delays_ms.append(1000 * (time.perf_counter() - due))
    call(len(recording.samples), stream.finish)
    return Outcome(calls, delays_ms, recording.duration_s)


def report(outcome: Outcome, reference: str) -> list[str]:
    """The lines that tell how it went.

    Args:
        outcome: as measured.
        reference: what was said.
    """
    from asr import metrics
    from asr.transcript import Final

    events = [event for call in outcome.calls for event in call.events]
    text = " ".join(event.text for event in events if isinstance(event, Final))
    words = metrics.count_errors(reference, text).words
    compute_s = metrics.compute_seconds(outcome.calls)
    first_ms = metrics.first_partial_ms(outcome.calls)
    chunks = metrics.Percentiles.of([1000 * call.seconds for call in outcome.calls[:-1]])
    errors = (
        f"{words.substitutions} substituted, {words.deletions} missing, {words.insertions} added"
    )
    speed = f"{compute_s:.2f} s of computing for {outcome.audio_s:.1f} s of audio"
    lines = [
        f"said:        {reference}",
        f"recognised:  {text}",
        "",
        f"word error rate   {100 * words.rate:.1f} % of {words.length} words: {errors}",
        f"real-time factor  {compute_s / outcome.audio_s:.4f}: {speed}",
        f"chunk of 80 ms    computed in {_spread(chunks)}",
    ]
    if outcome.delays_ms:
        shown = metrics.Percentiles.of(outcome.delays_ms)
        lines.append(f"chunk to screen   {_spread(shown)} after its last sample came")
    if first_ms is not None:
        lines.append(f"first word        on the screen {first_ms:.0f} ms of audio after it begins")
    end_ms = metrics.end_to_final_ms(outcome.calls)
    lines.append(f"last word         final {end_ms:.1f} ms after the end of the audio")
    return lines


def _spread(values: Percentiles | None) -> str:
    if values is None:
        return "nothing"
    p50, p95, most = values.p50, values.p95, values.max
    return f"{p50:.1f} ms (median), {p95:.1f} ms (p95), {most:.1f} ms (most)"
