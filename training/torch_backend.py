"""The acoustic model run through PyTorch: for fresh checkpoints, and for GPUs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from asr.decoding.greedy import GreedyDecoder
from asr.errors import BundleError, ConfigError
from asr.features import Normalisation
from asr.recognizer import Recognizer
from training.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from asr.acoustic import AcousticState, Array
    from training.model import AcousticNetwork


class TorchModel:
    """`asr.acoustic.AcousticModel` over PyTorch; arrays go in and out as NumPy.

    On the CPU streams are stepped one at a time: PyTorch's matrix products take other paths for
    other numbers of rows, so a batch would change the last bits of a stream's results. On a GPU
    streams are stepped together, and company may move log-probabilities by some 1e-5.

    Attributes:
        look_ahead: output frames by which results of a head lag their input: of the first that is
            exported, unless set otherwise.
        heads: number of units of each exported head.
    """

    def __init__(self, network: AcousticNetwork, device: str | torch.device = "cpu") -> None:
        """Take a network over: it is moved to the device and set to evaluation."""
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.heads: dict[str, int] = network.config.exported_heads()
        first = next(iter(self.heads), None)
        self.look_ahead = (
            network.config.look_ahead_of(first) if first else network.config.look_ahead
        )

    def initial(self) -> AcousticState:
        """The state of one stream before any audio."""
        return tuple(part[0].cpu().numpy() for part in self.network.initial(1))

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """Advance N streams by one block each; see `asr.acoustic.AcousticModel.step`."""
        if self.device.type != "cpu":
            return self._step_together(features, states)
        results = [
            self._step_together(features[k : k + 1], [state]) for k, state in enumerate(states)
        ]
        log_probs = {
            name: np.concatenate([heads[name] for heads, _ in results]) for name in self.heads
        }
        return log_probs, [after[0] for _, after in results]

    @torch.inference_mode()
    def _step_together(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        block = self._tensor(features)
        before = tuple(self._tensor(np.stack(parts)) for parts in zip(*states, strict=True))
        heads, after = self.network.step(block, before)
        log_probs = {name: value.cpu().numpy() for name, value in heads.items()}
        arrays = [part.cpu().numpy() for part in after]
        # Copies: a slice would keep the whole batch alive in every stream's state.
        new = [tuple(part[k].copy() for part in arrays) for k in range(len(states))]
        return log_probs, new

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self.device)


def load_checkpoint_recognizer(path: str | Path, device: str = "cpu") -> Recognizer:
    """The recogniser of a checkpoint, with greedy decoding, run by PyTorch.

    Its `bundle_id` is the SHA-256 of the file: saved states go on with this very checkpoint only.

    Args:
        path: a `checkpoint.pt` or `best.pt` of a run.
        device: where the network runs, such as `cpu` or `cuda`.

    Raises:
        BundleError: the checkpoint is missing, damaged or of another version, or has no head to
            decode.
        ConfigError: PyTorch has no such device here.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    network = checkpoint.build()
    try:
        model = TorchModel(network, device)
    except (RuntimeError, AssertionError) as error:  # PyTorch's ways to lack a device
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used: {reason}") from error
    head = next(iter(model.heads), None)
    if head is None:
        raise BundleError(f"{path}: no head reads the last layer, so nothing can be decoded")
    mean, deviation = (
        np.array(values, np.float32) for values in (checkpoint.mean, checkpoint.deviation)
    )
    with path.open("rb") as file:
        identity = hashlib.file_digest(file, "sha256").hexdigest()
    return Recognizer(
        model,
        GreedyDecoder(checkpoint.units[head], head),
        Normalisation(mean, deviation),
        bundle_id=identity,
        name=path.stem,
    )
