"""The acoustic model as the recogniser sees it: one block of features in, log-probabilities out.

Sizes: N streams, F = 8 feature frames in a block (80 ms), M = 80 mel bands, T = 2 output frames in
a block (40 ms each), V units with the blank at index 0.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK_FRAMES = 8  # feature frames the network takes at a time
SUBSAMPLING = 4  # feature frames per output frame
BLOCK_OUTPUTS = BLOCK_FRAMES // SUBSAMPLING

Array = NDArray[np.float32]
AcousticState = tuple[Array, ...]


class AcousticModel(Protocol):
    """A stateful network that is stepped in blocks of one shape, for one stream or many.

    Attributes:
        look_ahead: output frames by which results lag their input: the step that takes in the
            features of output frames t and t + 1 gives the log-probabilities of frames
            t - look_ahead and t + 1 - look_ahead. What comes out for frames below 0 has no meaning
            and is dropped.
        heads: number of units V of each head by name; the first one is what greedy decoding reads.
    """

    look_ahead: int
    heads: dict[str, int]

    def initial(self) -> AcousticState:
        """The state of one stream before any audio: float32 arrays without a stream axis."""
        ...

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """Advance N streams by one block each.

        Args:
            features: normalised log-mel, float32 [N, 8, 80], N ≥ 1.
            states: the state of each stream, as `initial` or an earlier `step` gave it.

        Returns:
            Log-probabilities of each head, float32 [N, 2, V], and the new states. Neither depends
            on which streams are stepped together (on a CPU to the bit).
        """
        ...
