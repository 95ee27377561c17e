"""Checkpoints: written whole or not at all, read without unpickling code.

`checkpoint.pt` of a run holds everything to go on exactly; `best.pt` what is needed to recognise.
"""

from __future__ import annotations

import os
import warnings
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
        progress: step, hours of audio, minutes of wall time, batches drawn, lowest error,
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
        """The network with the averaged weights, ready to recognise.

        Raises:
            BundleError: the weights are not those of such a network.
        """
        network = AcousticNetwork(self.network)
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise BundleError(
                f"the checkpoint's weights do not fit its network: {reason}"
            ) from error
        return network.eval()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a crash leaves either the old file or the new one.

    Raises:
        BundleError: it cannot be written; the old file is still there.
    """
    config = checkpoint.network
    values = {
        "format": FORMAT,
        "network": {
            **{name: getattr(config, name) for name in _PLAIN},
            "heads": {
                name: [head.units, head.layer, head.reads, head.width, head.look_ahead]
                for name, head in config.heads.items()
            },
        },
        **{name: getattr(checkpoint, name) for name in _PARTS},
    }
    draft = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, RuntimeError) as error:  # PyTorch wraps a full disk in RuntimeError
        draft.unlink(missing_ok=True)
        raise BundleError(f"{path}: the checkpoint cannot be written: {error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        BundleError: it is missing, damaged, no checkpoint, or of another format.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise BundleError(f"{path}: this checkpoint cannot be read: {error.strerror}") from error
    try:
        with file, warnings.catch_warnings(action="ignore"):  # about pickles that it will not read
            values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch does not say which errors a damaged file can raise
        raise BundleError(f"{path}: damaged, or no checkpoint of this project") from error
    if not isinstance(values, dict) or "format" not in values:
        raise BundleError(f"{path}: no checkpoint of this project")
    if values["format"] != FORMAT:
        found = values["format"]
        raise BundleError(f"{path}: checkpoint of format {found}; this version reads {FORMAT}")
    try:
        plain = {name: values["network"][name] for name in _PLAIN}
        heads = {name: HeadConfig(*head) for name, head in values["network"]["heads"].items()}
        parts = {name: values[name] for name in _PARTS}
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: the checkpoint is not whole: {error}") from error
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
