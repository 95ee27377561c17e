"""Tables of whole numbers that the beam search calculates with, all in 1/1024 nat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asr.decoding.reference import ONE, SCALE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asr.decoding.settings import BeamSettings


def log_add_table() -> NDArray[np.int32]:
    """What a sum of probabilities adds to the logarithm of the larger, by their distance.

    Entry d is round(1024 ln(1 + exp(-d / 1024))); the table ends where that is 0, so one addition
    is off by half a unit at most.
    """
    return _until_zero(SCALE * np.log1p(np.exp(-np.arange(16 * SCALE) / SCALE)))


def share_table() -> NDArray[np.int32]:
    """Entry d is round(32768 exp(-d / 1024)), as far as that is not 0."""
    return _until_zero(ONE * np.exp(-np.arange(16 * SCALE) / SCALE))


def _until_zero(falling: NDArray[np.float64]) -> NDArray[np.int32]:
    table: NDArray[np.int32] = np.rint(falling).astype(np.int32)
    return table[: int(np.argmin(table > 0))]


def frame_offset(settings: BeamSettings, units: int) -> NDArray[np.int32]:
    """What is added to every frame's scores [V]: priors and the blank's bonus."""
    offset = np.zeros(units)
    if settings.prior_weight:
        offset -= settings.prior_weight * np.array(settings.priors)
    offset[0] += settings.blank_bonus
    return np.rint(offset * SCALE).astype(np.int32)
