"""Checkpoints: written whole or not at all, read without unpickling code.

`checkpoint.pt` of a run holds everything to go on exactly; `best.pt` what is needed to recognise.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from asr.errors import BundleError
from training.model import AcousticNetwork, HeadConfig, NetworkConfig

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1


@dataclass(slots=True)
class Checkpoint:
    """A run at one moment.

    Attributes:
        network: shape of the network.
        weights: running average of the weights: what recognises.
        units: the unit strings of each head, the blank first.
        mean: of each mel band, [80].
        deviation: of each mel band, [80].
        recipe: the recipe's tables.
        progress: step, hours of audio, minutes of wall time, batches drawn, best word-error rate,
            and so on.
        live: the weights that the optimiser works on; empty when only recognition was wanted.
        optimiser: its state; empty likewise.
    """

    network: NetworkConfig
    weights: dict[str, Tensor]
    units: dict[str, list[str]]
    mean: list[float]
    deviation: list[float]
    recipe: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    live: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)

    def build(self) -> AcousticNetwork:
        """The network with the averaged weights, ready to recognise."""
        network = AcousticNetwork(self.network)
        network.load_state_dict(self.weights)
        return network.eval()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a crash leaves either the old file or the new one."""
    config = checkpoint.network
    values = {
        "format": FORMAT,
        "network": {
            **{name: getattr(config, name) for name in _PLAIN},
            "heads": {name: [head.units, head.layer] for name, head in config.heads.items()},
        },
        **{name: getattr(checkpoint, name) for name in _PARTS},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        torch.save(values, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        BundleError: it is missing, damaged, no checkpoint, or of another format.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: there is no such checkpoint") from error
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{path}: damaged, or no checkpoint of this project: {reason}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise BundleError(f"{path}: checkpoint of format {found}; this version reads {FORMAT}")
    try:
        plain = {name: values["network"][name] for name in _PLAIN}
        heads = {name: HeadConfig(*head) for name, head in values["network"]["heads"].items()}
        parts = {name: values[name] for name in _PARTS}
    except (KeyError, TypeError) as error:
        raise BundleError(f"{path}: the checkpoint lacks {error}") from error
    return Checkpoint(NetworkConfig(**plain, heads=heads), **parts)


_PLAIN = ("cell", "width", "depth", "look_ahead", "front", "dropout")
_PARTS = (
    "weights",
    "units",
    "mean",
    "deviation",
    "recipe",
    "progress",
    "live",
    "optimiser",
)
