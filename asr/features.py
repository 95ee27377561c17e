"""Log-mel features of 16 kHz audio, made in blocks of one shape so that their bits never vary.

Feature frame i is made of samples [160 i - 240, 160 i + 160): 25 ms under a periodic Hann window,
in the middle of a 512-point Fourier transform; 80 triangular bands, equally spaced on the HTK mel
scale from 0 to 8000 Hz; natural logarithm of the energy, floored. A block is 8 such frames. Windows
look back, so that a block needs no sample beyond its own 1,280; 240 zeros stand before the stream.

Why blocks: the product with the mel matrix goes through BLAS, which adds in another order for
another number of rows (last bits differ). With always 8 rows, a frame has the same bits whether
its samples came one at a time, in a file, or beside a hundred other streams. The Fourier
transform and the logarithm work row by row anyway.

Sizes: n samples, B blocks, F feature frames, M = 80 bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from asr.acoustic import BLOCK_FRAMES, BLOCK_OUTPUTS, SUBSAMPLING, Array
from asr.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 16000
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
FFT = 512  # points
BANDS = 80
FLOOR = 1e-6  # digital silence becomes ln(1e-6) = -13.8 instead of minus infinity
FRAME_SAMPLES = HOP * SUBSAMPLING  # 640: one output frame
BLOCK_SAMPLES = HOP * BLOCK_FRAMES  # 1,280: from one block to the next
LOOK_BACK = WINDOW - HOP  # 240: samples before a block that its first windows reach back to
BLOCK_SUPPORT = LOOK_BACK + BLOCK_SAMPLES  # 1,520: what one block is made of
_BLOCKS_AT_ONCE = 8  # keeps the work of `log_mel` within the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Normalisation:
    """What makes features zero-mean and of unit deviation, per band, over the training data.

    Attributes:
        mean: float32 [80].
        deviation: float32 [80], > 0.
    """

    mean: Array
    deviation: Array

    def __call__(self, features: Array) -> Array:
        """Normalised features, float32 of the same shape [..., 80]."""
        normalised: Array = (features - self.mean) / self.deviation
        return normalised


def output_frames(samples: int) -> int:
    """Output frames of that many samples: ceil(samples / 640)."""
    return -(-samples // FRAME_SAMPLES)


def blocks_for(frames: int, look_ahead: int) -> int:
    """Blocks that must be stepped before that many output frames are out; 0 for no frames."""
    return -(-(frames + look_ahead) // BLOCK_OUTPUTS) if frames else 0


def frame_span(first: int, end: int, samples: int) -> tuple[int, int]:
    """The samples that output frames first … end - 1 of a stream stand for.

    Frame t hears [640 t - 240, 640 t + 640), the first of them through a window that has hardly
    risen; it stands for [640 t - 240, 640 t + 400).

    Args:
        first: frame, ≥ 0.
        end: one past the last frame, first < end ≤ `output_frames(samples)`.
        samples: length of the stream: no time lies beyond.

    Returns:
        First sample and last sample + 1.
    """
    start, stop = (FRAME_SAMPLES * frame - LOOK_BACK for frame in (first, end))
    return max(0, start), min(stop, samples)


def log_mel_blocks(blocks: Array) -> Array:
    """Log-mel features of whole blocks, not normalised; each block has the bits it has alone.

    Args:
        blocks: the 1,520 samples under each block, float32 [B, 1520], B ≥ 1.

    Returns:
        float32 [B, 8, 80].
    """
    B = len(blocks)
    frames = np.zeros((B, BLOCK_FRAMES, FFT), np.float32)
    margin = (FFT - WINDOW) // 2
    np.multiply(
        np.lib.stride_tricks.as_strided(
            blocks,
            (B, BLOCK_FRAMES, WINDOW),
            (blocks.strides[0], HOP * blocks.strides[1], blocks.strides[1]),
            writeable=False,
        ),
        _window(),
        out=frames[:, :, margin : margin + WINDOW],
    )
    spectrum = np.fft.rfft(frames)  # complex64 [B, 8, 257]
    power = spectrum.real**2 + spectrum.imag**2
    energy = np.matmul(power, _filters())  # one BLAS product of 8 rows per block
    features: Array = np.log(np.maximum(energy, np.float32(FLOOR)))
    return features


def log_mel_block(samples: Array) -> Array:
    """Log-mel features [8, 80] of the 1,520 samples under one block, not normalised."""
    if samples.shape != (BLOCK_SUPPORT,):
        raise ValueError(f"a block is made of [{BLOCK_SUPPORT}] samples, got {list(samples.shape)}")
    features: Array = log_mel_blocks(samples[None])[0]
    return features


def log_mel(samples: Array, look_ahead: int = 0) -> Array:
    """Log-mel features of a whole utterance, not normalised: the frames that the recogniser sees.

    The end is padded with digital silence, as `Recognizer.finish` does it.

    Args:
        samples: float32 [n] at 16 kHz, n ≥ 0.
        look_ahead: output frames by which the network looks ahead, ≥ 0: that many frames of silence
            follow the audio.

    Returns:
        float32 [F, 80] with F = 4 (ceil(n / 640) + look_ahead); F = 0 for no samples.

    Raises:
        AudioError: `samples` is not float32 [n].
    """
    check_samples(samples)
    outputs = output_frames(len(samples))
    if not outputs:
        return np.zeros((0, BANDS), np.float32)
    blocks = blocks_for(outputs, look_ahead)
    padded = np.zeros(LOOK_BACK + BLOCK_SAMPLES * blocks, np.float32)
    padded[LOOK_BACK : LOOK_BACK + len(samples)] = samples
    step = padded.strides[0]
    support = np.lib.stride_tricks.as_strided(
        padded, (blocks, BLOCK_SUPPORT), (BLOCK_SAMPLES * step, step), writeable=False
    )
    parts = [
        log_mel_blocks(support[first : first + _BLOCKS_AT_ONCE])
        for first in range(0, blocks, _BLOCKS_AT_ONCE)
    ]
    return np.concatenate(parts).reshape(-1, BANDS)[: SUBSAMPLING * (outputs + look_ahead)]


def check_samples(samples: Array) -> None:
    """Refuse what is not a float32 array of one dimension.

    Raises:
        AudioError: it is something else.
    """
    if not isinstance(samples, np.ndarray):
        raise AudioError(
            f"samples must be a NumPy array, float32 [n]; got {type(samples).__name__}"
        )
    if samples.dtype != np.float32 or samples.ndim != 1:
        raise AudioError(
            f"samples must be float32 [n], mono at {SAMPLE_RATE} Hz; got {samples.dtype} "
            f"{list(samples.shape)}: convert them (integers: divide by their largest value)"
        )


def mel_edges() -> NDArray[np.float64]:
    """Where the bands begin, peak and end, in Hz [82]: band b rises from b, falls to b + 2."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    return 700.0 * (10.0 ** (np.linspace(0.0, top, BANDS + 2) / 2595.0) - 1.0)


def mel_filters() -> Array:
    """Weights of the mel bands, float32 [257, 80]: triangles that rise to 1."""
    edges = mel_edges()
    bins = np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1)
    widths = np.diff(edges)
    distance = edges[None, :] - bins[:, None]  # [257, 82]
    rising = -distance[:, :-2] / widths[:-1]
    falling = distance[:, 2:] / widths[1:]
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


@cache
def _filters() -> Array:
    return mel_filters()


@cache
def _window() -> Array:
    """Periodic Hann window, float32 [400]."""
    phase = 2.0 * np.pi * np.arange(WINDOW) / WINDOW
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
