"""Audio that is not compressed: samples one after another, and WAV around them.

WAV as in the "Multimedia Programming Interface and Data Specifications 1.0" (IBM and Microsoft,
1991), with the extensible format of 2001, and RF64 (EBU Tech 3306) as far as streams need it. The
header is read as its bytes come; chunks that say nothing of the samples are passed over.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from asr import audio
from asr.errors import StateError
from server.formats import (
    SAMPLE_BYTES,
    START_BYTES,
    Samples,
    Saved,
    Stepwise,
    check_sound,
    damaged,
    file_start,
    unusable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_UNKNOWN_SIZE = 0x7FFFF000  # from here on a size is what writers to a pipe leave: until the end
_FORMAT_BYTES = 4096  # of a `fmt ` chunk at most; it has 16 to 40
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of all sub-formats that are formats


def _u8(data: bytes) -> Samples:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)


def _s24le(data: bytes) -> Samples:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)


def _s32le(data: bytes) -> Samples:
    return np.frombuffer(data, "<i4").astype(np.float32) / np.float32(2**31)


def _f64le(data: bytes) -> Samples:
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which the recogniser replaces
        return np.frombuffer(data, "<f8").astype(np.float32)


_READERS: Final[dict[str, Callable[[bytes], Samples]]] = {
    "s16le": audio.from_s16le,
    "f32le": audio.from_f32le,
    "mulaw": audio.from_mulaw,
    "alaw": audio.from_alaw,
    "u8": _u8,
    "s24le": _s24le,
    "s32le": _s32le,
    "f64le": _f64le,
}
_BYTES: Final = {**SAMPLE_BYTES, "u8": 1, "s24le": 3, "s32le": 4, "f64le": 8}
_KINDS: Final = {  # by format tag and bits a sample
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (3, 64): "f64le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}


class Samplewise:
    """Bytes of whole and half samples, and the samples made of them.

    Args:
        kind: how a sample is written, one of `_READERS`.
        channels: C, interleaved.
    """

    def __init__(self, kind: str, channels: int) -> None:
        self._reader = _READERS[kind]
        self.frame_bytes = _BYTES[kind] * channels
        self._channels = channels
        self.waiting = bytearray()

    def take(self, most: int) -> Samples:
        """The next whole samples [n, C], n ≤ `most`."""
        size = min(most, len(self.waiting) // self.frame_bytes) * self.frame_bytes
        data = bytes(self.waiting[:size])
        del self.waiting[:size]
        return self._reader(data).reshape(-1, self._channels)


class Raw(Stepwise):
    """Samples and nothing else; see `server.formats.Decoder`."""

    def __init__(self, encoding: str, rate: int, channels: int) -> None:
        super().__init__(rate, channels)
        self._encoding = encoding
        self._samples = Samplewise(encoding, channels)
        self._first = b""  # bytes of the stream, enough to show whether it is a file
        self._file: tuple[str, int] | None = None  # which, and how many bytes tell it
        self._given = 0  # samples

    def feed(self, data: bytes | memoryview) -> None:
        """Take in bytes."""
        if len(self._first) < START_BYTES:
            self._first += bytes(data[: START_BYTES - len(self._first)])
            self._file = file_start(self._first)
        self._samples.waiting += data

    def take(self, most: int) -> Samples:
        """The next samples; see `server.formats.Decoder`."""
        if self._file is not None:
            return super().take(most)
        samples = self._samples.take(most)
        self._given += len(samples)
        return samples

    def _next(self, most: int) -> Samples | None:
        """Of a file only those samples that might have been samples."""
        assert self._file is not None  # noqa: S101 - else `take` gives them
        encoding, size = self._file
        harmless = (size - 1) // self._samples.frame_bytes - self._given
        if harmless <= 0:
            raise damaged(
                f"the audio is a file with a header, not {self._encoding}; say encoding {encoding}"
            )
        samples = self._samples.take(min(most, harmless))
        self._given += len(samples)
        return samples if len(samples) else None

    def check_end(self) -> None:
        """Make sure that no sample is cut in two."""
        if self._samples.waiting:
            raise damaged(
                f"the audio ends in the middle of a sample of {self._samples.frame_bytes} bytes "
                f"({self._encoding}, {self.channels} channels); check the format"
            )

    def save(self) -> Saved:
        """See `server.formats.Decoder`. Half a sample is left out: it will be sent again."""
        size = self._samples.frame_bytes
        waiting = bytes(self._samples.waiting)
        waiting = waiting[: len(waiting) // size * size]
        first = self._first[: self._given * size + len(waiting)]
        return {"first": first, "given": self._given, "waiting": waiting}

    def restore(self, saved: Saved) -> None:
        """See `server.formats.Decoder`."""
        self._first, self._given = saved["first"], saved["given"]
        self._file = file_start(self._first)
        self._samples.waiting[:] = saved["waiting"]


class Wav(Stepwise):
    """A WAV stream; see `server.formats.Decoder`.

    A data chunk of no size, or of 2 GiB and more, lasts until the stream ends; else what follows it
    is no audio.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kind = ""
        self._samples: Samplewise | None = None
        self._head = bytearray()  # bytes that wait before the samples
        self._stage = "file"  # file, chunk, format, skip, data, or end
        self._left = 12  # bytes of the stage that have not come; -1: until the stream ends
        self._size = 0  # of the data chunk, 0 if it is not known

    def feed(self, data: bytes | memoryview) -> None:
        """Take in bytes."""
        self._head += data

    def _next(self, most: int) -> Samples | None:
        while self._stage not in {"data", "end"}:
            if not self._step():
                return None
        if self._stage == "data":
            self._fill(most)
            assert self._samples is not None  # noqa: S101 - there is no data before its format
            samples = self._samples.take(most)
            if len(samples):
                return samples
            if self._left:
                return None
            self._stage = "end"
        self._head.clear()
        return None

    def check_end(self) -> None:
        """Make sure that as much came as the header promises, in whole samples."""
        if self._stage == "end" or (self._stage == "file" and not self._head):
            return
        if self._samples is None or self._stage != "data":
            raise damaged("the WAV stream ends within its header; send the whole file")
        if self._left > 0:
            raise damaged(
                f"the WAV stream breaks off: its header promises {self._size} bytes of audio, "
                f"{self._size - self._left} came; send all, or 0 as their number if it is not known"
            )
        if self._samples.waiting:
            raise damaged("the WAV stream ends in the middle of a sample; send the whole file")

    def save(self) -> Saved:
        """See `server.formats.Decoder`."""
        return {
            "sound": [self.rate, self.channels, self._kind],
            "stage": [self._stage, self._left, self._size],
            "head": bytes(self._head),
            "waiting": bytes(self._samples.waiting) if self._samples else b"",
        }

    def restore(self, saved: Saved) -> None:
        """See `server.formats.Decoder`."""
        self.rate, self.channels, self._kind = saved["sound"]
        self._stage, self._left, self._size = saved["stage"]
        if self._stage not in {*self._STAGES, "data", "end"}:
            raise StateError(
                f"the saved audio stream is at {self._stage!r}: there is no such place"
            )
        self._head[:] = saved["head"]
        if self._kind:
            self._samples = Samplewise(self._kind, self.channels)
            self._samples.waiting[:] = saved["waiting"]

    def _step(self) -> bool:
        """Do the stage if its bytes have come; whether they had."""
        if self._stage == "skip":
            passed = min(self._left, len(self._head))
            del self._head[:passed]
            self._left -= passed
            if self._left:
                return False
            self._stage, self._left = "chunk", 8
            return True
        if len(self._head) < self._left:
            return False
        data = bytes(self._head[: self._left])
        del self._head[: self._left]
        self._STAGES[self._stage](self, data)
        return True

    def _file(self, data: bytes) -> None:
        if data[:4] not in {b"RIFF", b"RF64"} or data[8:] != b"WAVE":
            raise damaged("the audio does not begin as WAV does; check the encoding")
        self._stage, self._left = "chunk", 8

    def _chunk(self, data: bytes) -> None:
        name, size = struct.unpack("<4sI", data)
        if name == b"data":
            if self._samples is None:
                raise damaged("the WAV stream has data before its format; write it anew")
            known = 0 < size < _UNKNOWN_SIZE
            self._stage, self._size, self._left = (
                "data",
                size if known else 0,
                size if known else -1,
            )
        elif name == b"fmt " and self._samples is None:
            if not 16 <= size <= _FORMAT_BYTES:
                raise damaged(f"the WAV stream has a format of {size} bytes; write it anew")
            self._stage, self._left = "format", size + size % 2
        else:
            self._stage, self._left = "skip", size + size % 2

    def _format(self, data: bytes) -> None:
        tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", data)
        if tag == 0xFFFE and len(data) >= 40 and data[26:40] == _GUID_TAIL:
            tag = int.from_bytes(data[24:26], "little")
        if (tag, bits) not in _KINDS:
            raise unusable(
                f"WAV of format {tag} with {bits} bits is not supported; send 8 to 32 bits of PCM, "
                "floats, mu-law or A-law"
            )
        check_sound(rate, channels, "WAV header")
        self.rate, self.channels, self._kind = rate, channels, _KINDS[tag, bits]
        self._samples = Samplewise(self._kind, channels)
        if self._samples.frame_bytes != frame_bytes:
            raise damaged(
                f"the WAV header says {frame_bytes} bytes for a sample of {channels} channels of "
                f"{bits} bits; write it anew"
            )
        self._stage, self._left = "chunk", 8

    def _fill(self, most: int) -> None:
        """Bring bytes of the data chunk to the samples, enough for `most`."""
        assert self._samples is not None  # noqa: S101 - there is no data before its format
        wanted = most * self._samples.frame_bytes - len(self._samples.waiting)
        part = self._head[: min(wanted, self._left) if self._left >= 0 else wanted]
        self._samples.waiting += part
        del self._head[: len(part)]
        if self._left > 0:
            self._left -= len(part)

    _STAGES: Final[dict[str, Callable[[Wav, bytes], None]]] = {
        "file": _file,
        "chunk": _chunk,
        "format": _format,
        "skip": lambda _, __: None,
    }
