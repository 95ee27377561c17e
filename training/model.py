"""The acoustic model, defined once: trained here, exported to ONNX by `training.graph`.

Log-mel frames → two causal convolutions of stride 2 → recurrent layers → look-ahead → CTC heads.

Sizes: B utterances or N streams, F feature frames (10 ms), M = 80 mel bands, T = F / 4 output
frames (40 ms), H the width of the recurrent layers, C the channels of the front, V units of a head
with the blank at 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's custom

from asr.acoustic import BLOCK_FRAMES
from asr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
BANDS = 80
FIRST_KERNEL = 5  # output i of the first convolution sees feature frames 2 i - 3 … 2 i + 1
SECOND_KERNEL = 3  # output t of the second sees outputs 2 t - 1 … 2 t + 1 of the first
MAX_LOOK_AHEAD = 8  # output frames: 320 ms


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """One CTC output.

    Attributes:
        units: number of units V, the blank included.
        layer: the recurrent layer it reads, from 1. Heads on the last layer come after the
            look-ahead and are exported; heads on lower layers help training only.
    """

    units: int
    layer: int


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shape of the network.

    Attributes:
        cell: `rnn` (tanh), `gru` or `lstm`.
        width: H, units of each recurrent layer.
        depth: number of recurrent layers.
        look_ahead: output frames (40 ms each) that the top may look into the future, 0 … 8.
        front: C, channels of the two convolutions.
        dropout: share of each recurrent layer's output that is dropped while training.
        heads: CTC outputs by name; the first is the one that greedy decoding reads.
    """

    cell: str = "lstm"
    width: int = 512
    depth: int = 4
    look_ahead: int = 4
    front: int = 256
    dropout: float = 0.1
    heads: dict[str, HeadConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ConfigError(f"network.cell: {self.cell!r} is none of {', '.join(CELLS)}")
        for name in ("width", "depth", "front"):
            if getattr(self, name) < 1:
                raise ConfigError(f"network.{name}: {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.look_ahead <= MAX_LOOK_AHEAD:
            raise ConfigError(
                f"network.look_ahead: {self.look_ahead} frames; it must lie in 0 … {MAX_LOOK_AHEAD}"
            )
        for name, head in self.heads.items():
            if not 1 <= head.layer <= self.depth:
                raise ConfigError(
                    f"network.heads.{name}.layer: {head.layer}; there are {self.depth} layers"
                )

    def exported_heads(self) -> dict[str, int]:
        """Units of each head that recognition can use, in order."""
        return {name: head.units for name, head in self.heads.items() if head.layer == self.depth}


def reset_recurrence(layer: nn.RNNBase) -> None:
    """Give a recurrent layer its first weights: orthogonal, no bias, open forget gates."""
    H, weights = layer.hidden_size, dict(layer.named_parameters())
    for part in torch.split(weights["weight_hh_l0"].data, H):
        nn.init.orthogonal_(part)
    weights["bias_hh_l0"].data.zero_()
    weights["bias_ih_l0"].data.zero_()
    if isinstance(layer, nn.LSTM):
        weights["bias_ih_l0"].data[H : 2 * H] = 1.0


class AcousticNetwork(nn.Module):
    """Streaming CTC network. `forward` takes whole utterances, `step` one block; both agree."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        H, C = config.width, config.front
        self.conv1 = nn.Conv1d(BANDS, C, FIRST_KERNEL, stride=2)
        self.conv2 = nn.Conv1d(C, C, SECOND_KERNEL, stride=2)
        self.project = nn.Linear(C, H)
        self.project_norm = nn.LayerNorm(H)
        cell = CELLS[config.cell]
        self.layers = nn.ModuleList(cell(H, H, batch_first=True) for _ in range(config.depth))
        self.norms = nn.ModuleList(nn.LayerNorm(H) for _ in range(config.depth))
        self.dropout = nn.Dropout(config.dropout)
        self.ahead = nn.Parameter(torch.zeros(config.look_ahead + 1, H))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(H, head.units) for name, head in config.heads.items()}
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal recurrence, open forget gates (Jozefowicz et al. 2015), no look-ahead yet."""
        for layer in self.layers:
            reset_recurrence(cast("nn.RNNBase", layer))
        self.ahead.data[0] = 1.0

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Logits of every head for whole utterances.

        Args:
            features: normalised log-mel [B, F, 80], F a multiple of 4, with at least `look_ahead`
                output frames of silence behind each utterance.

        Returns:
            Logits [B, F / 4, V] by head.
        """
        x = self.project_input(features)
        ends: list[Tensor] = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + self.dropout(norm(layer(x)[0]))
            ends.append(x)
        return self.read_heads(ends)

    def project_input(self, features: Tensor) -> Tensor:
        """What the first recurrent layer reads: features [B, F, 80] → [B, F / 4, H]."""
        x = F.pad(features.transpose(1, 2), (FIRST_KERNEL - 2, 0))
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(F.pad(x, (SECOND_KERNEL - 2, 0)))).transpose(1, 2)
        projected: Tensor = self.project_norm(self.project(x))
        return projected

    def read_heads(self, ends: Sequence[Tensor]) -> dict[str, Tensor]:
        """Logits of every head from what each recurrent layer gives, [B, T, H] in order."""
        logits: dict[str, Tensor] = {}
        for number, x in enumerate(ends[:-1], 1):
            logits |= self._read(x, number)
        x = self._look_ahead(F.pad(ends[-1], (0, 0, 0, self.config.look_ahead)))
        logits |= self._read(x, self.config.depth)
        return {name: logits[name] for name in self.config.heads}

    def initial(self, streams: int) -> tuple[Tensor, ...]:
        """State of N streams before audio: front tails, h (and c) per layer, look-ahead tail."""
        c, device = self.config, self.ahead.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(streams, *shape, device=device)

        recurrent = [zeros(c.depth, c.width)] * (2 if c.cell == "lstm" else 1)
        tails = zeros(FIRST_KERNEL - 2, BANDS), zeros(SECOND_KERNEL - 2, c.front)
        return (*tails, *recurrent, zeros(c.look_ahead, c.width))

    def step(
        self, features: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Advance N streams by one block; see `asr.acoustic.AcousticModel.step`.

        Args:
            features: normalised log-mel [N, 8, 80].
            state: as `initial` or an earlier `step` gave it, stream axis first.

        Returns:
            Log-probabilities [N, 2, V] of the exported heads, for frames `look_ahead` back, and
            the new state.
        """
        if features.shape[1:] != (BLOCK_FRAMES, BANDS):
            raise ValueError(f"a block is [N, {BLOCK_FRAMES}, {BANDS}], got {list(features.shape)}")
        tail1, tail2, *recurrent, tail = state
        x = torch.cat([tail1, features], 1)
        new1 = x[:, -(FIRST_KERNEL - 2) :]
        x = F.relu(self.conv1(x.transpose(1, 2))).transpose(1, 2)
        x = torch.cat([tail2, x], 1)
        new2 = x[:, -(SECOND_KERNEL - 2) :]
        x = F.relu(self.conv2(x.transpose(1, 2))).transpose(1, 2)
        x = self.project_norm(self.project(x))
        ends: list[list[Tensor]] = []
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            before = [part[None, :, number].contiguous() for part in recurrent]
            y, end = layer(x, tuple(before) if len(before) == 2 else before[0])
            ends.append([part[0] for part in (end if isinstance(end, tuple) else (end,))])
            x = x + norm(y)
        after = [torch.stack(parts, 1) for parts in zip(*ends, strict=True)]
        x = torch.cat([tail, x], 1)
        new = x[:, x.shape[1] - self.config.look_ahead :]
        logits = self._read(self._look_ahead(x), self.config.depth)
        log_probs = {name: value.float().log_softmax(-1) for name, value in logits.items()}
        return log_probs, (new1, new2, *after, new)

    def _look_ahead(self, x: Tensor) -> Tensor:
        """Weighted sum over frames t … t + L per channel: [B, T + L, H] → [B, T, H]."""
        T = x.shape[1] - self.config.look_ahead
        shifted = (weight * x[:, k : k + T] for k, weight in enumerate(self.ahead))
        weighted: Tensor = reduce(torch.add, shifted)
        return weighted

    def _read(self, x: Tensor, layer: int) -> dict[str, Tensor]:
        heads = self.config.heads.items()
        return {name: self.heads[name](x) for name, head in heads if head.layer == layer}
