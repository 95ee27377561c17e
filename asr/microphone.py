"""A sound device as a source of samples: what it hears, in order, with every loss counted.

PortAudio calls us back on a thread of its own, where there is no time: the callback puts the bytes
into a bounded queue and returns. Whoever reads too slowly loses the newest audio, and is told how
much.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from asr import audio
from asr.errors import DeviceError
from asr.resampling import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from asr.audio import Samples

BLOCK_MS = 20
PATIENCE_S = 5.0  # without a block for so long, a device that claims to run is taken for gone

INSTALL_PORTAUDIO = (
    "the PortAudio library is not installed: apt install libportaudio2 (Debian, Ubuntu), "
    "dnf install portaudio (Fedora), or brew install portaudio (macOS)"
)


@dataclass(frozen=True, slots=True)
class Device:
    """A device that can record.

    Attributes:
        index: its number in PortAudio's list.
        name: what the system calls it.
        channels: how many it has for input, ≥ 1.
        sample_rate: its own, in Hz.
        default: whether it is the system's default input.
    """

    index: int
    name: str
    channels: int
    sample_rate: int
    default: bool


def devices() -> list[Device]:
    """All devices that can record, in PortAudio's order.

    Raises:
        DeviceError: PortAudio is missing or fails.
    """
    sounddevice = _portaudio()
    try:
        with audio.quiet_stderr():  # ALSA tells every card that is not there
            found = list(sounddevice.query_devices())
        default = sounddevice.default.device[0]
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"the sound devices cannot be listed: {_reason(error)}") from None
    return [
        Device(
            number,
            str(entry["name"]),
            int(entry["max_input_channels"]),
            round(entry["default_samplerate"]),
            number == default,
        )
        for number, entry in enumerate(found)
        if entry["max_input_channels"] > 0
    ]


def find_device(wanted: int | str | None, among: list[Device]) -> Device:
    """The device that a user means.

    Args:
        wanted: its number, its name or a part of that in any case; None is the default.
        among: the devices there are.

    Raises:
        DeviceError: there is none, or several are meant.
    """
    if not among:
        raise DeviceError("no sound device that can record; plug in or enable a microphone")
    if wanted is None:
        return next((device for device in among if device.default), among[0])
    if isinstance(wanted, int) or wanted.isdecimal():
        meant = [device for device in among if device.index == int(wanted)]
    else:
        meant = [device for device in among if device.name == wanted]
        meant = meant or [d for d in among if wanted.casefold() in d.name.casefold()]
    if len(meant) != 1:
        names = ", ".join(f"{device.index} {device.name}" for device in meant or among)
        fault = (
            f"several devices match: {names}" if meant else f"no such device; there are: {names}"
        )
        raise DeviceError(f"microphone {wanted!r}: {fault}; see asr mic --list")
    return meant[0]


class Microphone:
    """A device that is recording. A context manager: it records from entry to exit or `stop`.

    Args:
        device: as in `find_device`.
        queue_s: seconds of audio that may wait to be read; what comes beyond is dropped, counted.

    Attributes:
        device: the device in use.
        sample_rate: of the samples: 16 kHz if the device can, else its own.
        channels: recorded and averaged: 1 if the device can.
        received: samples that were put into the queue.
        dropped: samples that were not, because the queue was full.
        overflows: how often PortAudio itself reported lost input, of unknown length.

    Raises:
        DeviceError: PortAudio is missing, or there is no such device.
    """

    def __init__(self, device: int | str | None = None, *, queue_s: float = 30.0) -> None:
        self._sounddevice = _portaudio()
        self.device = find_device(device, devices())
        self.sample_rate, self.channels = self._choose_format()
        self.received = self.dropped = self.overflows = 0
        self._awake = threading.Event()  # a block has come, or the end
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None: look around
        self._limit = max(1, round(queue_s * 1000 / BLOCK_MS))
        self._stopping = self._ended = False
        self._stream: Any = None

    def __enter__(self) -> Self:
        """Open the device, start to record, and wait until it hears.

        A device may wake up only after a second or two. Whoever is told that it is open speaks; so
        it is open once its first block has come (or has not within `PATIENCE_S`: `blocks` tells).

        Raises:
            DeviceError: it refuses.
        """
        try:
            with audio.quiet_stderr():
                self._stream = self._sounddevice.RawInputStream(
                    samplerate=self.sample_rate,
                    blocksize=self.sample_rate * BLOCK_MS // 1000,
                    device=self.device.index,
                    channels=self.channels,
                    dtype="int16",
                    callback=self._hear,
                    finished_callback=self._end,
                )
                self._stream.start()
            self._awake.wait(PATIENCE_S)
        except self._sounddevice.PortAudioError as error:
            raise DeviceError(
                f"microphone {self.device.name!r} cannot be opened: {_reason(error)}; is another "
                "program using it? asr mic --list shows the others"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the device. A dead one may protest; that is no news any more."""
        stream, self._stream = self._stream, None
        self.stop()  # for a reader on another thread
        if stream is not None:
            stream.abort(ignore_errors=True)
            stream.close(ignore_errors=True)

    def stop(self) -> None:
        """End the recording: `blocks` gives what was heard and ends. Also for signal handlers."""
        self._stopping = True
        self._wake()

    def blocks(self) -> Iterator[Samples]:
        """What is heard, in order, from the first sample on: float32 [n], n ≥ 1, until `stop`.

        Raises:
            DeviceError: the device disappeared or fell silent; all before it has been given.
        """
        while not self._stopping:
            data = self._wait()
            if data is not None:
                yield self._samples(data)
            elif self._ended and not self._is_stopping():
                yield from self._rest()
                raise self._gone("disappeared while recording")
        if self._stream is not None:
            self._stream.stop(ignore_errors=True)  # what the device still holds comes first
        yield from self._rest()

    def _wait(self) -> bytes | None:
        """The next block, or None when something happened."""
        try:
            return self._queue.get(timeout=PATIENCE_S)
        except queue.Empty:
            if self._stopping:
                return None
            raise self._gone(f"has sent nothing for {PATIENCE_S:.0f} s") from None

    def _is_stopping(self) -> bool:
        return self._stopping

    def _rest(self) -> Iterator[Samples]:
        """What waits in the queue."""
        while True:
            try:
                data = self._queue.get_nowait()
            except queue.Empty:
                return
            if data is not None:
                yield self._samples(data)

    def _samples(self, data: bytes) -> Samples:
        samples = audio.from_s16le(data)
        if self.channels == 1:
            return samples
        return np.asarray(samples.reshape(-1, self.channels).mean(1), np.float32)

    def _hear(self, data: Any, frames: int, _time: object, status: Any) -> None:
        """Queue a block; on PortAudio's thread."""
        if status.input_overflow:
            self.overflows += 1
        self._awake.set()
        if self._queue.qsize() >= self._limit:
            self.dropped += frames
        else:
            self._queue.put(bytes(data))
            self.received += frames

    def _end(self) -> None:
        """Note that PortAudio will call no more; `stream.active` would tell a moment too late."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        self._awake.set()
        self._queue.put(None)

    def _gone(self, what: str) -> DeviceError:
        heard = self.received / self.sample_rate
        return DeviceError(
            f"microphone {self.device.name!r} {what} (after {heard:.1f} s); plug it in again and "
            "restart, or choose another: asr mic --list"
        )

    def _choose_format(self) -> tuple[int, int]:
        """Sample rate and channels: the best that the device accepts."""
        rates = [SAMPLE_RATE, self.device.sample_rate]
        for rate in rates:
            for channels in (1, self.device.channels):
                try:
                    with audio.quiet_stderr():
                        self._sounddevice.check_input_settings(
                            self.device.index, channels, "int16", samplerate=rate
                        )
                except self._sounddevice.PortAudioError:
                    continue
                return rate, channels
        raise DeviceError(
            f"microphone {self.device.name!r} records neither at {rates[0]} nor at {rates[1]} Hz "
            "in 16 bits; choose another: asr mic --list"
        )


def _portaudio() -> Any:
    """The sounddevice package, which loads PortAudio when it is imported."""
    try:
        with audio.quiet_stderr():
            import sounddevice
    except OSError:
        raise DeviceError(INSTALL_PORTAUDIO) from None
    return sounddevice


def _reason(error: Exception) -> str:
    """PortAudio's words, in one line without its error code."""
    return str(error.args[0]).split("[PaError")[0].strip().splitlines()[0].rstrip(":. ")
