"""Streams in every encoding of the server, and the samples that they stand for."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from server.decoders import open_decoder
from server.dialogue import AudioFormat
from server.formats import CONTAINERS, SAMPLE_BYTES, Decoder, Samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RAW = {"s16le": "PCM_16", "f32le": "FLOAT", "mulaw": "ULAW", "alaw": "ALAW"}
FILES = {  # libsndfile's names, by how a test asks for them
    "wav-u8": ("WAV", "PCM_U8"),
    "wav-s16le": ("WAV", "PCM_16"),
    "wav-s24le": ("WAV", "PCM_24"),
    "wav-s32le": ("WAV", "PCM_32"),
    "wav-f32le": ("WAV", "FLOAT"),
    "wav-f64le": ("WAV", "DOUBLE"),
    "wav-mulaw": ("WAV", "ULAW"),
    "wav-alaw": ("WAV", "ALAW"),
    "wav-extensible": ("WAVEX", "PCM_16"),
    "wav-rf64": ("RF64", "PCM_16"),
    "flac-16": ("FLAC", "PCM_16"),
    "flac-24": ("FLAC", "PCM_24"),
    "flac-8": ("FLAC", "PCM_S8"),
    "ogg-opus": ("OGG", "OPUS"),
}
KINDS = (*RAW, *FILES)


def noise(length: int, channels: int, seed: int = 0, loudness: float = 0.3) -> Samples:
    """Samples [n, C] in [-1, 1] of which a third is digital silence."""
    random = np.random.default_rng(seed)
    samples = random.standard_normal((length, channels)).clip(-3, 3) * loudness / 3
    samples[length // 3 : 2 * length // 3] = 0
    return samples.astype(np.float32)


def encode(samples: Samples, rate: int, kind: str) -> bytes:
    """The samples [n, C] as a stream of that kind, one of `KINDS`."""
    file = io.BytesIO()
    major, minor = ("RAW", RAW[kind]) if kind in RAW else FILES[kind]
    endian = "LITTLE" if kind in RAW else "FILE"
    soundfile.write(file, samples, rate, format=major, subtype=minor, endian=endian)
    return file.getvalue()


def truth(data: bytes, rate: int, channels: int, kind: str) -> Samples:
    """What libsndfile reads in the stream, float32 [n, C]."""
    about: dict[str, Any] = {}
    if kind in RAW:
        about = {"samplerate": rate, "channels": channels, "format": "RAW", "subtype": RAW[kind]}
    samples: Samples = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True, **about)[0]
    return samples


def announced(kind: str, rate: int, channels: int) -> AudioFormat:
    """What a client says of such a stream."""
    if kind in SAMPLE_BYTES:
        return AudioFormat(kind, rate, channels)
    encoding = next(name for name in CONTAINERS if kind.startswith(name))
    return AudioFormat(encoding, 0, 0)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The bytes, cut."""
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def decode(decoder: Decoder, parts: Sequence[bytes], most: int = 5000) -> list[Samples]:
    """What each part brings, all of it, in takes of at most `most`."""
    brought = []
    for part in parts:
        decoder.feed(part)
        brought.append(drain(decoder, most))
    return brought


def drain(decoder: Decoder, most: int = 5000) -> Samples:
    """All samples that there are by now."""
    taken = [decoder.take(most)]
    while len(taken[-1]):
        taken.append(decoder.take(most))
    return np.concatenate([samples for samples in taken if len(samples)] or taken)


def whole(kind: str, data: bytes, rate: int, channels: int) -> Samples:
    """What our decoder makes of a stream in one piece."""
    decoder = open_decoder(announced(kind, rate, channels))
    (samples,) = decode(decoder, [data])
    decoder.check_end()
    return samples


def wav(data: bytes, chunks: bytes = b"", promised: int | None = None, tag: int = 1) -> bytes:
    """A WAV of s16le, mono, 16 kHz, with further chunks before its data."""
    size = len(data) if promised is None else promised
    about = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, 1, 16000, 32000, 2, 16)
    return b"RIFF\0\0\0\0WAVE" + about + chunks + struct.pack("<4sI", b"data", size) + data
