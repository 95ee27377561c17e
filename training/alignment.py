"""Where each unit and word of a transcript is in a recording: the best CTC path that spells it.

Viterbi over the states of CTC (Graves et al. 2006, section 4.1: a blank before, between and
behind the units), the sums of its forward pass replaced by maxima. No frame-level labels, no
compiled code: one vectorised step a frame.

Sizes: T frames of 40 ms, V units with the blank at 0, N units of the transcript.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from asr.acoustic import BLOCK_FRAMES
from asr.errors import DataError
from asr.features import FRAME_SAMPLES, LOOK_BACK, blocks_for, frame_span, log_mel, output_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from asr.acoustic import AcousticModel
    from asr.features import Normalisation
    from training.units import Units

IMPOSSIBLE = -1e30
SOUNDING = 3.0  # nats that a unit is ahead of the blank while it is heard
MOST_CELLS = 1_000_000_000  # frames times states, a byte each, that are held at a time


@dataclass(frozen=True, slots=True)
class Span:
    """A unit or a word in output frames: it lies in frames start … end - 1."""

    text: str
    start: int
    end: int


def align(log_probs: NDArray[np.float32], target: Sequence[int]) -> list[tuple[int, int]]:
    """First frame and last frame + 1 of each unit in the most probable path that spells a target.

    Args:
        log_probs: [T, V], natural logarithms, the blank at 0.
        target: unit numbers, N of them.

    Returns:
        N pairs, rising; blanks lie between them.

    Raises:
        DataError: the frames are too few to spell the target, or both are so many (an hour of
            speech) that memory would not do.
    """
    T, N = len(log_probs), len(target)
    if not N:
        return []
    if T < N:
        raise DataError(f"{T} frames are too few to spell {N} units")
    if T * (2 * N + 1) > MOST_CELLS:
        raise DataError(f"{T} frames and {N} units are too many to align; cut the recording")
    states = np.zeros(2 * N + 1, np.int64)
    states[1::2] = target
    # A unit may follow the unit before without a blank if they differ.
    skips = np.zeros(2 * N + 1, bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(2 * N + 1, IMPOSSIBLE)
    score[:2] = log_probs[0, states[:2]]
    came = np.zeros((T, 2 * N + 1), np.int8)  # by how many states the path moved
    for frame in range(1, T):
        moves = np.full((3, 2 * N + 1), IMPOSSIBLE)
        moves[0] = score
        moves[1, 1:] = score[:-1]
        moves[2, 2:] = np.where(skips[2:], score[:-2], IMPOSSIBLE)
        came[frame] = moves.argmax(0)
        score = np.take_along_axis(moves, came[frame][None].astype(np.int64), 0)[0]
        score = score + log_probs[frame, states]
    state = 2 * N if score[2 * N] >= score[2 * N - 1] else 2 * N - 1
    if score[state] < IMPOSSIBLE / 2:
        raise DataError(f"{T} frames are too few to spell {N} units")
    path = np.empty(T, np.int64)
    for frame in range(T - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    frames = [np.flatnonzero(path == 2 * number + 1) for number in range(N)]
    return [(int(part[0]), int(part[-1]) + 1) for part in frames]


def align_words(
    log_probs: NDArray[np.float32], text: str, units: Units
) -> tuple[list[Span], list[Span]]:
    """Words and units of a transcript with their frames.

    Args:
        log_probs: [T, V] of the head that `units` describes.
        text: lower-case words with single spaces.
        units: turn a word into unit numbers.

    Returns:
        The words, each from its first unit to its last, and the units. The last unit of a word ends
        where it is heard to end (`heard_end`).

    Raises:
        DataError: the text cannot be written, or not in so few frames.
    """
    words = text.split()
    lengths = [len(units.encode(word)) for word in words]
    numbers = units.encode(text)
    # Characters have a unit for the space, which belongs to no word.
    space = 1 if len(numbers) > sum(lengths) else 0
    frames = align(log_probs, numbers)
    found, first = [], 0
    for word, length in zip(words, lengths, strict=True):
        last = first + length - 1
        end = heard_end(log_probs, numbers[last], *frames[last])
        frames[last] = frames[last][0], end
        found.append(Span(word, frames[first][0], end))
        first += length + space
    spelled = [
        Span(units.units[number], *span) for number, span in zip(numbers, frames, strict=True)
    ]
    return found, spelled


def heard_end(log_probs: NDArray[np.float32], unit: int, start: int, end: int) -> int:
    """Where a unit that the best path keeps until `end` has ended for a listener.

    A path has to choose between the unit and the blank; a network in doubt whether a sound is still
    dying away leans to the unit for up to half a second of silence. A unit is heard from where it
    is furthest ahead of the blank up to the first frame in which it is less than 3 nats ahead.

    Args:
        log_probs: [T, V], natural logarithms, the blank at 0.
        unit: its number.
        start: its first frame.
        end: one past its last.

    Returns:
        A frame in start + 1 … end.
    """
    ahead = log_probs[start:end, unit] - log_probs[start:end, 0]
    peak = int(ahead.argmax())
    faint = np.flatnonzero(ahead[peak + 1 :] < SOUNDING)
    return start + peak + 1 + int(faint[0]) if len(faint) else end


def head_log_probs(
    model: AcousticModel,
    normalisation: Normalisation,
    samples: NDArray[np.float32],
    head: str,
) -> NDArray[np.float32]:
    """Log-probabilities of one head for a whole recording, as the recogniser computes them.

    Args:
        model: the network.
        normalisation: of its features.
        samples: float32 [n] at 16 kHz, n ≥ 1.
        head: which output.

    Returns:
        float32 [T, V], T = ceil(n / 640).
    """
    T = output_frames(len(samples))
    blocks = blocks_for(T, model.look_ahead)
    features = normalisation(log_mel(np.pad(samples, (0, blocks * 1280)), 0))
    state, parts = [model.initial()], []
    for first in range(0, blocks * BLOCK_FRAMES, BLOCK_FRAMES):
        outputs, state = model.step(features[None, first : first + BLOCK_FRAMES], state)
        parts.append(outputs[head][0])
    return np.concatenate(parts)[model.look_ahead : model.look_ahead + T]


def joined(words: Sequence[Span], units: Sequence[Span], length: int) -> list[tuple[str, int, int]]:
    """The units of words as sounds that follow each other, which frame-level labels are made of.

    A CTC network says most units in one frame and the blank around it. Within a word nothing is
    silent, so two neighbours there meet in the middle of the blanks between them. (On synthetic
    speech, whose true times are known, that raised the frames with the right label from 52 to 64 %;
    to close the gaps between words as well made it worse.)

    Args:
        words: as `align_words` gives them.
        units: their units.
        length: samples of the recording at 16 kHz.

    Returns:
        Unit, first sample, last sample + 1.
    """
    starts = {word.start for word in words}  # no other unit begins where a word does
    half = FRAME_SAMPLES // 2
    edges = [samples_of(unit, length) for unit in units]
    for k, (before, after) in enumerate(pairwise(units)):
        if after.start not in starts:
            middle = half * (before.end + after.start) - LOOK_BACK
            edges[k], edges[k + 1] = (edges[k][0], middle), (middle, edges[k + 1][1])
    return [(unit.text, *edge) for unit, edge in zip(units, edges, strict=True)]


def samples_of(span: Span, length: int) -> tuple[int, int]:
    """First sample and last sample + 1 of a span in a recording of that length at 16 kHz."""
    return frame_span(span.start, span.end, length)
