"""Weights to begin from: a checkpoint of another run, or a bundle (transfer, `--init`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asr.errors import BundleError
from training.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Start:
    """What training begins from.

    Attributes:
        weights: by name, as in the network's state dict.
        units: unit strings of each head; heads of the recipe with these names keep them.
        mean: of each mel band.
        deviation: of each mel band.
    """

    weights: dict[str, Tensor]
    units: dict[str, list[str]]
    mean: list[float]
    deviation: list[float]


def read_start(path: Path) -> Start:
    """Read a checkpoint (`….pt`) or a bundle (a folder).

    Raises:
        BundleError: it is neither, or damaged.
    """
    if path.is_dir():
        from asr.bundle import read
        from training.export import read_weights

        bundle = read(path)
        weights = {name: torch.as_tensor(value) for name, value in read_weights(path).items()}
        units = {name: list(values) for name, values in bundle.units.items()}
        features = bundle.description.features
        return Start(weights, units, list(features.mean), list(features.deviation))
    checkpoint = read_checkpoint(path)
    return Start(checkpoint.weights, checkpoint.units, checkpoint.mean, checkpoint.deviation)


def take_over(network: nn.Module, start: Start, units: Mapping[str, list[str]]) -> list[str]:
    """Copy every weight whose name and shape fit; say which of the network's own stay as they were.

    Args:
        network: is changed in place.
        start: where the weights come from. Those of a head count only if its units are the same.
        units: of the network's heads.

    Raises:
        BundleError: none fits.
    """
    own = network.state_dict()
    strange = [name for name in units if start.units.get(name) != units[name]]
    fitting = {
        name: value
        for name, value in start.weights.items()
        if name in own
        and own[name].shape == value.shape
        and not any(name.startswith(f"heads.{head}.") for head in strange)
    }
    if not fitting:
        raise BundleError("none of the weights to start from fits this network; check [network]")
    network.load_state_dict(own | fitting)
    return [f"not taken over: {name}" for name in own if name not in fitting]
