"""`asr mic`: what is said into the microphone, word by word."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from asr.commands import recognition

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from asr.commands.screen import Screen
    from asr.microphone import Microphone
    from asr.resampling import Samples

SUMMARY = "write down what is said into the microphone, until Ctrl-C"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--list", action="store_true", help="list the microphones and leave")
    parser.add_argument(
        "--device",
        metavar="N_OR_NAME",
        help="microphone to use: its number or a part of its name (default: the system's)",
    )
    parser.add_argument(
        "--raw",
        metavar="FILE",
        help="keep the audio, too, as raw PCM (signed 16 bits, little-endian, mono)",
    )
    recognition.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Listen until Ctrl-C; the last words come before it ends.

    Returns:
        0 when it was ended by Ctrl-C.

    Raises:
        DeviceError: there is no microphone, or it disappeared; the words until then were shown.
        Error: the model cannot be loaded, the server not be reached, or the file not be written.
    """
    from asr.microphone import Microphone

    if args.list:
        return _list()
    microphone = Microphone(args.device)
    recognise = recognition.choose(args, lambda line: screen.note(f"asr: {line}"))
    with _kept(args.raw) as kept, _without_portaudio_s_notes():
        screen = _screen()
        try:
            with microphone, _ended_by_interrupt(microphone):
                chunks = _heard(microphone, screen, kept)
                recognise(chunks, microphone.sample_rate, screen.show)
        finally:
            screen.close()
            _report_losses(microphone)
    if args.raw:
        _say(f"audio kept: asr transcribe --raw {microphone.sample_rate} {args.raw}")
    return 0


def _list() -> int:
    from asr.microphone import devices, find_device

    found = devices()
    chosen = find_device(None, found)
    for device in found:
        mark = "*" if device == chosen else " "
        channels = "1 channel" if device.channels == 1 else f"{device.channels} channels"
        print(f"{mark} {device.index:3} {device.name} ({channels}, {device.sample_rate} Hz)")
    return 0


def _heard(microphone: Microphone, screen: Screen, kept: IO[bytes] | None) -> Iterator[Samples]:
    """What the microphone hears; meanwhile its level is shown and its losses are told."""
    from asr import audio

    _say(f"opening {microphone.device.name!r} at {microphone.sample_rate} Hz")
    losses = 0, 0
    for number, samples in enumerate(microphone.blocks()):
        if not number:  # what was said before this line is kept as well
            _say("listening; Ctrl-C ends it")
        if kept:
            _keep(kept, audio.to_s16le(samples))
        if losses != (microphone.dropped, microphone.overflows):
            losses = microphone.dropped, microphone.overflows
            screen.note(_losses(microphone))
        screen.level(float((samples**2).mean()))
        yield samples


def _keep(file: IO[bytes], data: bytes) -> None:
    from asr.errors import Error

    try:
        file.write(data)
    except OSError as error:
        raise Error(f"{file.name}: cannot be written ({error.strerror})") from None


def _losses(microphone: Microphone) -> str:
    """What has been lost so far, in words."""
    seconds = microphone.dropped / microphone.sample_rate
    return (
        f"audio was lost: {microphone.dropped} samples ({seconds:.2f} s) because recognition is "
        f"too slow, {microphone.overflows} overruns of the device"
    )


def _report_losses(microphone: Microphone) -> None:
    if microphone.dropped or microphone.overflows:
        _say(_losses(microphone))


def _screen() -> Screen:
    from asr.commands.screen import Screen

    return Screen(sys.stdout, live=sys.stdout.isatty(), notes=sys.stderr)


@contextlib.contextmanager
def _kept(path: str | None) -> Iterator[IO[bytes] | None]:
    """The file that the audio goes to."""
    from asr.errors import Error

    if path is None:
        yield None
        return
    try:
        file = Path(path).open("wb", buffering=0)  # noqa: SIM115 - closed below; its errors must not hide others
    except OSError as error:
        raise Error(f"{path}: cannot be written ({error.strerror})") from None
    with file:
        yield file


@contextlib.contextmanager
def _without_portaudio_s_notes() -> Iterator[None]:
    """Keep from the screen what PortAudio's thread writes there when a device dies.

    It writes to the descriptor of standard error; our own lines go to a copy of that meanwhile.
    """
    from asr import audio

    before = sys.stderr
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # standard error is a test's, or closed: nothing to move
            copy = os.fdopen(os.dup(before.fileno()), "w", 1, before.encoding, before.errors)
            sys.stderr = stack.enter_context(copy)
        stack.callback(setattr, sys, "stderr", before)
        stack.enter_context(audio.quiet_stderr())
        yield


@contextlib.contextmanager
def _ended_by_interrupt(microphone: Microphone) -> Iterator[None]:
    """Let the first Ctrl-C (or SIGTERM) end the recording, and a second one the program."""

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        microphone.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
