"""The acoustic model, defined once: trained here, exported to ONNX by `training.graph`.

Log-mel frames → two causal convolutions of stride 2 → recurrent layers → look-ahead → CTC heads. A
head may read another head instead, through a recurrent layer of its own: pieces of words that are
spelled from phones (hierarchical CTC; Fernández et al. 2007, "Sequence labelling in structured
domains with hierarchical recurrent neural networks").

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

from asr.acoustic import BLOCK_FRAMES, BLOCK_OUTPUTS
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
        reads: name of the head on the last layer whose probabilities it reads instead; empty: none.
            What it learns does not change that head.
        width: units of the recurrent layer through which it reads them, the two frames of a block
            at a time.
        look_ahead: output frames that such a head waits for beyond those of the network, an even
            number: blocks, whole.
    """

    units: int
    layer: int
    reads: str = ""
    width: int = 0
    look_ahead: int = 0


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
            if head.reads:
                self._check_reader(name, head)

    def _check_reader(self, name: str, head: HeadConfig) -> None:
        read = self.heads.get(head.reads)
        if read is None or read.reads or {read.layer, head.layer} != {self.depth}:
            raise ConfigError(
                f"network.heads.{name}.reads: {head.reads!r}; both must lie on the last layer, and "
                "the head that is read must read none itself"
            )
        if head.width < 1:
            raise ConfigError(f"network.heads.{name}.width: {head.width}; it must be at least 1")
        if head.look_ahead % BLOCK_OUTPUTS or not 0 <= head.look_ahead <= MAX_LOOK_AHEAD:
            raise ConfigError(
                f"network.heads.{name}.look_ahead: {head.look_ahead} frames; it must be an even "
                f"number in 0 … {MAX_LOOK_AHEAD}"
            )

    def readers(self) -> dict[str, HeadConfig]:
        """The heads that read other heads, in order."""
        return {name: head for name, head in self.heads.items() if head.reads}

    def look_ahead_of(self, name: str) -> int:
        """Output frames by which the results of a head on the last layer lag their input."""
        return self.look_ahead + self.heads[name].look_ahead

    def longest_look_ahead(self) -> int:
        """Output frames of silence that utterances need behind them."""
        return self.look_ahead + max((h.look_ahead for h in self.heads.values()), default=0)

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
        readers = config.readers()
        self.readers = nn.ModuleDict(
            {
                name: cell(
                    BLOCK_OUTPUTS * config.heads[head.reads].units, head.width, batch_first=True
                )
                for name, head in readers.items()
            }
        )
        self.reader_norms = nn.ModuleDict(
            {name: nn.LayerNorm(head.width) for name, head in readers.items()}
        )
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(head.width, BLOCK_OUTPUTS * head.units)
                if head.reads
                else nn.Linear(H, head.units)
                for name, head in config.heads.items()
            }
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal recurrence, open forget gates (Jozefowicz et al. 2015), no look-ahead yet."""
        for layer in (*self.layers, *self.readers.values()):
            reset_recurrence(cast("nn.RNNBase", layer))
        self.ahead.data[0] = 1.0

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Logits of every head for whole utterances.

        Args:
            features: normalised log-mel [B, F, 80], F a multiple of 4, with at least
                `longest_look_ahead` output frames of silence behind each utterance.

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
        # What a stream's first blocks give for frames before the first has no meaning, but heads
        # that read others have heard it.
        L = self.config.look_ahead
        x = self._look_ahead(F.pad(ends[-1], (0, 0, L, L)))
        last = self._read(x, self.config.depth)
        for name, head in self.config.readers().items():
            spelled, _ = self.spell(name, last[head.reads])
            last[name] = F.pad(spelled[:, head.look_ahead :], (0, 0, 0, head.look_ahead))
        logits |= {name: value[:, L:] for name, value in last.items()}
        return {name: logits[name] for name in self.config.heads}

    def spell(
        self, name: str, logits: Tensor, state: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What a head that reads another makes of that one's logits [B, T, V].

        Args:
            name: of the head that reads.
            logits: of the one that is read, from the first frame of a block on; it learns nothing.
                An odd number of frames is filled up with one in which nothing is known.
            state: h (and c) [B, width] of its recurrent layer; None: those of the beginning.

        Returns:
            Its logits, and the state behind them.
        """
        T, units = logits.shape[1], self.config.heads[name].units
        filled = F.pad(logits.detach().float(), (0, 0, 0, T % BLOCK_OUTPUTS))
        blocks = filled.shape[1] // BLOCK_OUTPUTS
        pairs = filled.softmax(-1).reshape(len(filled), blocks, -1)
        y, end = _recur(self.readers[name], pairs, state)
        spelled: Tensor = self.heads[name](self.reader_norms[name](y))
        return spelled.reshape(len(filled), -1, units)[:, :T], end

    def initial(self, streams: int) -> tuple[Tensor, ...]:
        """State of N streams before audio.

        Front tails, h (and c) of all layers, look-ahead tail, h (and c) of each head that reads
        another.
        """
        c, device = self.config, self.ahead.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(streams, *shape, device=device)

        memories = 2 if c.cell == "lstm" else 1
        recurrent = [zeros(c.depth, c.width)] * memories
        tails = zeros(FIRST_KERNEL - 2, BANDS), zeros(SECOND_KERNEL - 2, c.front)
        read = [zeros(head.width) for head in c.readers().values() for _ in range(memories)]
        return (*tails, *recurrent, zeros(c.look_ahead, c.width), *read)

    def step(
        self, features: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Advance N streams by one block; see `asr.acoustic.AcousticModel.step`.

        Args:
            features: normalised log-mel [N, 8, 80].
            state: as `initial` or an earlier `step` gave it, stream axis first.

        Returns:
            Log-probabilities [N, 2, V] of the exported heads, each for frames `look_ahead_of` it
            back, and the new state.
        """
        if features.shape[1:] != (BLOCK_FRAMES, BANDS):
            raise ValueError(f"a block is [N, {BLOCK_FRAMES}, {BANDS}], got {list(features.shape)}")
        memories = 2 if self.config.cell == "lstm" else 1
        tail1, tail2, *rest = state
        recurrent, tail, read = rest[:memories], rest[memories], rest[memories + 1 :]
        x = torch.cat([tail1, features], 1)
        new1 = x[:, -(FIRST_KERNEL - 2) :]
        x = F.relu(self.conv1(x.transpose(1, 2))).transpose(1, 2)
        x = torch.cat([tail2, x], 1)
        new2 = x[:, -(SECOND_KERNEL - 2) :]
        x = F.relu(self.conv2(x.transpose(1, 2))).transpose(1, 2)
        x = self.project_norm(self.project(x))
        ends: list[tuple[Tensor, ...]] = []
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            y, end = _recur(layer, x, [part[:, number] for part in recurrent])
            ends.append(end)
            x = x + norm(y)
        after = [torch.stack(parts, 1) for parts in zip(*ends, strict=True)]
        x = torch.cat([tail, x], 1)
        new = x[:, x.shape[1] - self.config.look_ahead :]
        logits = self._read(self._look_ahead(x), self.config.depth)
        new_read: list[Tensor] = []
        for number, (name, head) in enumerate(self.config.readers().items()):
            memory = read[memories * number : memories * (number + 1)]
            logits[name], end = self.spell(name, logits[head.reads], memory)
            new_read += end
        log_probs = {
            name: logits[name].float().log_softmax(-1) for name in self.config.exported_heads()
        }
        return log_probs, (new1, new2, *after, new, *new_read)

    def _look_ahead(self, x: Tensor) -> Tensor:
        """Weighted sum over frames t … t + L per channel: [B, T + L, H] → [B, T, H]."""
        T = x.shape[1] - self.config.look_ahead
        shifted = (weight * x[:, k : k + T] for k, weight in enumerate(self.ahead))
        weighted: Tensor = reduce(torch.add, shifted)
        return weighted

    def _read(self, x: Tensor, layer: int) -> dict[str, Tensor]:
        heads = self.config.heads.items()
        return {
            name: self.heads[name](x)
            for name, head in heads
            if head.layer == layer and not head.reads
        }


def _recur(
    layer: nn.Module, x: Tensor, state: Sequence[Tensor] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A recurrent layer over [B, T, D], from a state h (and c) [B, H] to the state behind it."""
    before = [part[None].contiguous() for part in state] if state else []
    y, end = layer(x, tuple(before) if len(before) > 1 else next(iter(before), None))
    return y, tuple(part[0] for part in (end if isinstance(end, tuple) else (end,)))
