"""How the gradient fades over time: what a frame's loss says to hidden states of earlier frames.

Let L be the training loss of a batch and G_t = ∂L/∂logits_t, a row for each utterance. What enters
the network at frame t alone is loss_t = ⟨G_t, logits_t⟩ with G_t held constant: its derivative by
anything is frame t's share of the derivative of L, and over all t the shares add up to it. (For CTC
it is the cross-entropy of frame t's outputs against the alignments' posterior there.) So

    fade(k) = mean over utterances and frames t of ‖∂loss_t / ∂h_{t−k}‖

is well defined for losses over whole sequences, too. ∂/∂h_s is along every path that begins in
h_s: the layer's own recurrence and the layers above, of which the look-ahead reads frames up to
t + look_ahead (lags below 0). What goes past h_s is not in it: an LSTM hands its cell state c on
beside h, so ∂/∂c is told apart, of c_s as it is handed on to frame s + 1. The
input of the lowest layer has no such side door in any cell.

The recurrent layers are stepped frame by frame with the network's own modules, so that each state
is a value that autograd knows.

Sizes: B utterances, T frames of 40 ms, H width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from training.model import AcousticNetwork

INPUT = "input"
"""The place that the lowest recurrent layer reads, counted as layer 0."""
PARTS = ("h", "c")


@dataclass(frozen=True, slots=True)
class Fade:
    """Norms of the gradient at one place of the network.

    Attributes:
        layer: the recurrent layer, from 1; 0 for what the first one reads.
        part: `h`, `c` (LSTM) or `input`.
        first_lag: lag of the first norm, in frames: minus the look-ahead.
        norms: mean norm at each lag from there on.
        probes: pairs of utterance and frame t that the means are over.
    """

    layer: int
    part: str
    first_lag: int
    norms: tuple[float, ...]
    probes: int


@dataclass(frozen=True, slots=True)
class Unrolled:
    """A forward pass whose every state can be asked for its gradient.

    Attributes:
        logits: [B, T, V] by head, as `AcousticNetwork.forward` gives them without dropout.
        places: (layer, part) → T values, [B, H] each.
    """

    logits: dict[str, Tensor]
    places: dict[tuple[int, str], list[Tensor]]


def unroll(network: AcousticNetwork, features: Tensor) -> Unrolled:
    """Step a network frame by frame over whole utterances.

    Args:
        network: on the CPU; its dropout is not applied.
        features: as `AcousticNetwork.forward` takes them, [B, 4 T, 80].
    """
    inputs = list(network.project_input(features).unbind(1))
    places: dict[tuple[int, str], list[Tensor]] = {(0, INPUT): inputs}
    ends: list[Tensor] = []
    x = torch.stack(inputs, 1)
    for number, (layer, norm) in enumerate(zip(network.layers, network.norms, strict=True), 1):
        y, states = _stepped(layer, x)
        places |= {(number, part): values for part, values in zip(PARTS, states, strict=False)}
        x = x + norm(y)
        ends.append(x)
    return Unrolled(network.read_heads(ends), places)


def _stepped(layer: nn.Module, x: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
    """Outputs [B, T, H] of a recurrent layer, and its states (h, and c of an LSTM) [B, H]."""
    state: Tensor | tuple[Tensor, ...] | None = None
    kept: list[tuple[Tensor, ...]] = []
    for frame in torch.split(x, 1, 1):
        after = layer(frame, state)[1] if state is not None else layer(frame)[1]
        parts = tuple(part[0] for part in (after if isinstance(after, tuple) else (after,)))
        # h_t is read here and handed on from here, so that its gradient is along both ways
        again = tuple(part[None] for part in parts)
        state = again if len(again) > 1 else again[0]
        kept.append(parts)
    by_part = [list(values) for values in zip(*kept, strict=True)]
    return torch.stack(by_part[0], 1), by_part


def fade(
    network: AcousticNetwork,
    features: Tensor,
    frames: Tensor,
    loss: Callable[[Mapping[str, Tensor]], Tensor],
    *,
    lags: int,
    probes: int = 12,
) -> list[Fade]:
    """How the gradient fades in every layer.

    Args:
        network: on the CPU.
        features: [B, 4 T', 80] with T' ≥ the longest utterance + look-ahead.
        frames: [B] used frames of each utterance.
        loss: the training loss of logits [B, T', V] by head; a sum over utterances, each of which
            it sees alone.
        lags: largest lag K, ≥ 1, in frames.
        probes: frames t at most, spread evenly over K … the longest utterance.

    Returns:
        One for each layer and part, lags −look_ahead … K.

    Raises:
        DataError: no utterance is longer than K frames.
    """
    longest = int(frames.max())
    if longest <= lags:
        raise DataError(
            f"the longest of {len(frames)} utterances has {longest} frames of 40 ms, too few for "
            f"the gradient over {lags}; take longer ones"
        )
    unrolled = unroll(network, features)
    given = list(unrolled.logits.values())
    found: Sequence[Tensor | None] = torch.autograd.grad(
        loss(unrolled.logits), given, retain_graph=True, allow_unused=True
    )
    shares = [
        (logits, share) for logits, share in zip(given, found, strict=True) if share is not None
    ]
    chosen = torch.linspace(lags, longest - 1, min(probes, longest - lags)).round().int().tolist()
    ahead = network.config.look_ahead
    sums = {place: torch.zeros(lags + ahead + 1, dtype=torch.float64) for place in unrolled.places}
    count = 0
    for t in chosen:
        rows = frames > t
        count += int(rows.sum())
        for place, norms in _norms(unrolled, shares, t, range(t + ahead, t - lags - 1, -1)):
            sums[place] += norms[:, rows].sum(1)
    return [
        Fade(layer, part, -ahead, tuple((total / count).tolist()), count)
        for (layer, part), total in sums.items()
    ]


def _norms(
    unrolled: Unrolled, shares: Sequence[tuple[Tensor, Tensor]], t: int, wanted: range
) -> list[tuple[tuple[int, str], Tensor]]:
    """Norms of ∂loss_t by each place's values at some frames: [frames, B]."""
    values = [places[s] for places in unrolled.places.values() for s in wanted]
    gradients: Sequence[Tensor | None] = torch.autograd.grad(
        [logits[:, t] for logits, _ in shares],
        values,
        [share[:, t] for _, share in shares],
        retain_graph=True,
        allow_unused=True,
    )
    norms = torch.stack(
        [
            value.new_zeros(len(value)) if gradient is None else gradient.norm(dim=-1)
            for value, gradient in zip(values, gradients, strict=True)
        ]
    )
    return list(zip(unrolled.places, torch.split(norms, len(wanted)), strict=True))
