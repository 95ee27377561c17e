"""Streaming conversion of any sample rate to 16 kHz, with the state as a value.

A polyphase FIR filter: a windowed sinc (Kaiser window; Oppenheim & Schafer, "Discrete-Time Signal
Processing", 3rd ed., section 7.5) evaluated at the instants between input samples where output
samples lie. Output k stands for the time k / 16000 s, exactly: nothing is shifted.

Outputs are made in groups of 16 (1 ms). A group is the product of its window of K input samples
with a matrix [K, 16] that depends on the rate and on where the group falls between two input
samples. It is computed once its whole window has come, and always in a product of that one shape:
so the bits of the output cannot depend on how the audio was cut. Why not soxr:
`docs/decisions/resampling.md`.

Sizes: L output samples last as long as M input samples (in lowest terms), K input samples in a
window, G groups, H the half-length of the filter in input samples.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from asr.errors import AudioError, StateError

SAMPLE_RATE = 16000
MIN_RATE = 4000
MAX_RATE = 192000
GROUP = 16  # output samples made together: 1 ms
CROSSINGS = 32  # half-length of the filter in zero crossings: 2 ms, from 16 kHz on
STEPS = 4096  # of the filter's table, a zero crossing
BETA = 8.0  # Kaiser: side lobes at -81 dB; transition 7.4 … 8.6 kHz with 32 crossings
PIECE = 16000  # input samples handled at a time, which bounds memory
FEW_PHASES = 128  # that usual rates stay below: 10 at 44.1 kHz, 125 at 48,048 Hz
USUAL_RATES = 32  # whose matrices are kept
ODD_RATES = 4  # likewise, of up to 1000 phases: 15 MB each at 48 kHz, 61 MB at 192 kHz

Samples = NDArray[np.float32]

_HEADER = struct.Struct("<4sIQQQI")  # magic, rate, received, produced, replaced, checksum
_MAGIC = b"RSM1"


@dataclass(frozen=True, slots=True, eq=False)
class ResamplerState:
    """Everything a conversion remembers. Never changed; every call returns a new one.

    Attributes:
        rate: input samples per second.
        received: input samples taken in so far.
        produced: output samples given out so far.
        replaced: input samples that were not finite and were replaced by zero.
        tail: the input samples that later outputs still need, float32, fewer than 2,500.
    """

    rate: int
    received: int
    produced: int
    replaced: int
    tail: Samples


@dataclass(frozen=True, slots=True)
class _Shape:
    """The constants of one rate."""

    L: int
    M: int
    half: int  # H
    window: int  # K
    phases: int  # groups until the same matrix comes again

    @property
    def lead(self) -> int:
        """Samples of a window up to and with the one at or before the group's first output."""
        return self.window - self.half - (GROUP - 1) * self.M // self.L - 1


def output_length(samples: int, rate: int) -> int:
    """Output samples that this many input samples become: ceil(samples · 16000 / rate)."""
    return -(-samples * SAMPLE_RATE // rate)


def input_position(position: int, rate: int, length: int) -> int:
    """Where a position at 16 kHz lies in the input: round(position · rate / 16000) ≤ `length`.

    Args:
        position: samples at 16 kHz, ≥ 0.
        rate: samples per second of the input.
        length: samples of the input, beyond which no time may lie.
    """
    return min((2 * position * rate + SAMPLE_RATE) // (2 * SAMPLE_RATE), length)


def input_needed(position: int, rate: int) -> int:
    """How many input samples `step` must have been given before it has given so many outputs.

    Args:
        position: samples at 16 kHz, ≥ 0.
        rate: samples per second of the input.
    """
    if rate == SAMPLE_RATE or not position:
        return position
    s = _shape(rate)
    return GROUP * ((position - 1) // GROUP) * s.M // s.L + s.window - (s.lead - 1)


def start(rate: int) -> ResamplerState:
    """The state before the first sample of audio at `rate`.

    Raises:
        AudioError: the rate is not a whole number in 4000 … 192000.
    """
    if not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
        raise AudioError(
            f"sample rate {rate}: must be a whole number of {MIN_RATE} to {MAX_RATE} Hz; "
            "convert the audio"
        )
    rate = int(rate)
    lead = 0 if rate == SAMPLE_RATE else _shape(rate).lead - 1
    return ResamplerState(rate, 0, 0, 0, _frozen(np.zeros(lead, np.float32)))


def step(state: ResamplerState, samples: Samples) -> tuple[ResamplerState, Samples]:
    """Take in samples and give what can be computed by now.

    At 16 kHz every sample comes out as it went in. At other rates the output lags by at most
    1 ms + 32 / min(rate, 16000) s: 3 ms for 16 kHz and above, 5 ms for 8 kHz.

    Args:
        state: as `start` or an earlier `step` gave it.
        samples: float32 [n], n ≥ 0, at the state's rate. What is not finite counts as zero.

    Returns:
        The new state, and float32 [m] at 16 kHz. m depends only on the samples received so far.

    Raises:
        AudioError: `samples` is not one-dimensional float32.
    """
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise AudioError(
            f"samples of shape {list(samples.shape)} and type {samples.dtype}; must be float32 [n]"
        )
    finite = np.isfinite(samples)
    bad = int(samples.size - np.count_nonzero(finite))
    if bad:
        samples = np.where(finite, samples, np.float32(0))
    tail, position = state.tail, state.produced // GROUP
    if state.rate == SAMPLE_RATE:
        output = samples
    else:
        outputs = []
        for begin in range(0, samples.size, PIECE):
            buffer = np.concatenate((tail, samples[begin : begin + PIECE]))
            count, used = _available(state.rate, position, buffer.size)
            outputs.append(_groups(state.rate, position, count, buffer))
            tail, position = buffer[used:], position + count
        output = np.concatenate([np.empty(0, np.float32), *outputs])
        tail = _frozen(tail.copy())
    new = ResamplerState(
        state.rate,
        state.received + samples.size,
        state.produced + output.size,
        state.replaced + bad,
        tail,
    )
    return new, output


def finish(state: ResamplerState) -> tuple[ResamplerState, Samples]:
    """Give what is left, as if silence followed; the state itself is untouched.

    Returns:
        The final state, which has produced exactly `output_length(received, rate)` samples and
        takes no more audio, and the last outputs, float32 [m].
    """
    total = output_length(state.received, state.rate)
    if state.rate == SAMPLE_RATE:
        return state, np.empty(0, np.float32)
    need = _shape(state.rate).window + -(-state.rate * GROUP // SAMPLE_RATE)
    zeros = np.zeros(2 * need, np.float32)
    padded, output = step(state, zeros)
    output = output[: total - state.produced]
    end = ResamplerState(state.rate, state.received, total, state.replaced, padded.tail)
    return end, output


def resample(samples: Samples, rate: int) -> Samples:
    """Convert a whole recording: float32 [n] to float32 [ceil(n · 16000 / rate)] at 16 kHz.

    Bit for bit what `step` and `finish` give for any cutting of it.
    """
    state, output = step(start(rate), samples)
    return np.concatenate((output, finish(state)[1]))


def dump(state: ResamplerState) -> bytes:
    """The state as bytes that `restore` reads back exactly, in any process on any machine."""
    tail = state.tail.astype("<f4").tobytes()
    numbers = (state.rate, state.received, state.produced, state.replaced)
    checksum = zlib.crc32(tail, zlib.crc32(repr(numbers).encode()))
    return _HEADER.pack(_MAGIC, *numbers, checksum) + tail


def restore(data: bytes) -> ResamplerState:
    """The state that `dump` wrote.

    Raises:
        StateError: the bytes are damaged or not a resampler's state of this version.
    """
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise StateError("resampler state: not one of this version; start the stream anew")
    _, *numbers, checksum = _HEADER.unpack_from(data)
    rate, received, produced, replaced = numbers
    tail = data[_HEADER.size :]
    if zlib.crc32(tail, zlib.crc32(repr(tuple(numbers)).encode())) != checksum or len(tail) % 4:
        raise StateError("resampler state: damaged (the checksum differs); start the stream anew")
    samples = np.frombuffer(tail, "<f4").astype(np.float32)
    return ResamplerState(rate, received, produced, replaced, _frozen(samples))


@lru_cache(maxsize=256)
def _shape(rate: int) -> _Shape:
    common = math.gcd(rate, SAMPLE_RATE)
    L, M = SAMPLE_RATE // common, rate // common
    half = math.ceil(CROSSINGS * rate / min(rate, SAMPLE_RATE))
    window = half + 1 + (GROUP - 1) * M // L + 1 + half
    window = (
        -(-window // 16) * 16
    )  # rows of one alignment, for the product's sake; filled at the front
    return _Shape(L, M, half, window, L // math.gcd(L, GROUP))


def _matrix(rate: int, phase: int) -> Samples:
    """The filter of groups whose number is `phase` modulo the shape's `phases`; see `_make_matrix`.

    A rate is forgotten as a whole, and not matrix by matrix: they are used in turn, so of a cache
    that is a little too small, the oldest of each would always be the next to be wanted.
    """
    kept = (_usual if _shape(rate).phases <= FEW_PHASES else _odd)(rate)
    matrix = kept[phase]
    if matrix is None:
        matrix = kept[phase] = _make_matrix(rate, phase)
    return matrix


@lru_cache(maxsize=USUAL_RATES)
def _usual(rate: int) -> list[Samples | None]:
    """The matrices of a rate, as far as they were made."""
    return [None] * _shape(rate).phases


@lru_cache(maxsize=ODD_RATES)
def _odd(rate: int) -> list[Samples | None]:
    """Likewise, of a rate with many."""
    return [None] * _shape(rate).phases


def _make_matrix(rate: int, phase: int) -> Samples:
    """The filter of groups of a phase: float32 [K, 16].

    Column r holds the weights of the group's output r. Each sums to one: a constant stays as it is.
    """
    s, table = _shape(rate), _table()
    fraction = (GROUP * phase * s.M) % s.L / s.L
    centres = fraction + np.arange(GROUP) * s.M / s.L + s.lead - 1
    scale = STEPS * min(1.0, SAMPLE_RATE / rate)  # of input samples to steps of the table
    distance = np.abs(np.arange(s.window)[:, None] - centres[None, :]) * scale
    distance = np.minimum(distance, CROSSINGS * STEPS)  # where it is zero, as beyond
    step = distance.astype(np.int64)
    weights = table[step] + (distance - step) * (table[step + 1] - table[step])
    return _frozen((weights / weights.sum(0)).astype(np.float32))


@lru_cache(maxsize=1)
def _table() -> NDArray[np.float64]:
    """One half of the filter, in steps of 1/4096 of a zero crossing, and a zero behind its end.

    Between two steps it is straight to 1e-7, finer than float32. Read from a table, a matrix is
    made in a third of the time: at an odd rate, such as 47,999 Hz, every millisecond of a second
    needs one of its own.
    """
    crossings = np.arange(CROSSINGS * STEPS + 2) / STEPS
    inside = np.clip(1 - (crossings / CROSSINGS) ** 2, 0, None)
    values = np.sinc(crossings) * np.i0(BETA * np.sqrt(inside))
    values[-2:] = 0
    return values


def _available(rate: int, first: int, size: int) -> tuple[int, int]:
    """How many groups from `first` on have their window in a buffer that begins with its own.

    Returns:
        Their number, and the input samples that no later group needs.
    """
    s = _shape(rate)
    base = GROUP * first * s.M // s.L
    room = size - s.window
    if room < 0:
        return 0, 0
    end = ((base + room + 1) * s.L - 1) // (GROUP * s.M) + 1
    return end - first, GROUP * end * s.M // s.L - base


def _groups(rate: int, first: int, count: int, buffer: Samples) -> Samples:
    """Outputs of `count` groups from number `first` on, whose first window begins the buffer."""
    s = _shape(rate)
    output = np.empty((count, GROUP), np.float32)
    if not count:
        return output.reshape(-1)
    numbers = np.arange(first, first + count)
    offsets = GROUP * numbers * s.M // s.L - GROUP * first * s.M // s.L
    rows = np.lib.stride_tricks.sliding_window_view(buffer, s.window)[offsets]  # [G, K], copied
    for k in range(min(s.phases, count)):
        matrix = _matrix(rate, (first + k) % s.phases)
        # [G, 1, K] x [K, 16] is G products of one row, each computed by itself: never by a kernel
        # for several rows, whose sums may differ in the last bit
        output[k :: s.phases] = np.matmul(rows[k :: s.phases, None, :], matrix)[:, 0]
    return output.reshape(-1)


def _frozen(array: Samples) -> Samples:
    array.flags.writeable = False
    return array
