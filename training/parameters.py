"""How many numbers a network learns, by formula (docs/cells.md has them in words)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asr.acoustic import BLOCK_OUTPUTS
from training.model import BANDS, FIRST_KERNEL, SECOND_KERNEL

if TYPE_CHECKING:
    from training.model import NetworkConfig

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""Blocks of H rows in a cell's weight matrices: the candidate and its gates."""


def cell_parameters(cell: str, inputs: int, width: int) -> int:
    """Numbers in one recurrent layer: G · (H · D + H · H + 2 · H), with PyTorch's two biases.

    Args:
        cell: `rnn`, `gru` or `lstm`.
        inputs: D, size of the layer's input.
        width: H, size of its hidden state.
    """
    return GATES[cell] * (width * inputs + width * width + 2 * width)


def network_parameters(config: NetworkConfig) -> int:
    """Numbers in a whole network: front, recurrent layers and norms, look-ahead, heads."""
    H, C = config.width, config.front
    front = C * BANDS * FIRST_KERNEL + C + C * C * SECOND_KERNEL + C
    project = H * C + H + 2 * H
    layers = config.depth * (cell_parameters(config.cell, H, H) + 2 * H)
    ahead = (config.look_ahead + 1) * H
    heads = sum(head.units * (H + 1) for head in config.heads.values() if not head.reads)
    readers = sum(
        cell_parameters(config.cell, BLOCK_OUTPUTS * config.heads[head.reads].units, head.width)
        + 2 * head.width
        + BLOCK_OUTPUTS * head.units * (head.width + 1)
        for head in config.readers().values()
    )
    return front + project + layers + ahead + heads + readers
