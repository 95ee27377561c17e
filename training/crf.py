"""CTC-CRF: CTC against all unit sequences at once, weighted by a trigram over units.

H. Xiang and Z. Ou, "CRF-based Single-stage Acoustic Modeling with CTC Topology", ICASSP 2019: the
loss is -log of the share that the target's paths have of the paths of all unit sequences,

    -log (sum over paths of the target) + log Z - log p(target),

where Z sums over every unit sequence y and each of its CTC paths, weighted by p(y). The last term
does not depend on the network and is left out. There p is a pruned 4-gram over sparse states;
here it is a dense, smoothed trigram, which for some 40 phones costs next to nothing beside the
network.

Sizes: B utterances, T frames, K units without the blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SMOOTHING = 2.0  # counts given to the shorter history's distribution
LEAST = 1e-30


class UnitTrigram:
    """Smoothed trigram over the units of a head; 0 stands for the beginning and for the end.

    Attributes:
        next: probability of unit k (0: the end) after units i (0: none), j: [K + 1, K + 1, K + 1].
    """

    def __init__(self, sequences: Iterable[Sequence[int]], units: int) -> None:
        """Count unit sequences.

        Args:
            sequences: unit numbers, none of them 0.
            units: K + 1, the blank counted.
        """
        counts = torch.zeros(units, units, units, dtype=torch.float64)
        triples: dict[tuple[int, int, int], int] = {}
        for sequence in sequences:
            padded = [0, 0, *sequence, 0]
            for triple in zip(padded, padded[1:], padded[2:], strict=False):
                triples[triple] = triples.get(triple, 0) + 1
        if triples:
            places = torch.tensor(list(triples)).unbind(1)
            counts[places] = torch.tensor(list(triples.values()), dtype=torch.float64)
        self.next = _interpolated(counts).float()

    def log_probability(self, sequence: Sequence[int]) -> float:
        """Natural logarithm of the probability of a whole sequence, its end included."""
        padded = [0, 0, *sequence, 0]
        triples = zip(padded, padded[1:], padded[2:], strict=False)
        return float(sum(self.next[triple].log() for triple in triples))


def _interpolated(counts: Tensor) -> Tensor:
    """Trigram smoothed by the bigram, that by the unigram, that by all being equal."""

    def mixed(counted: Tensor, shorter: Tensor) -> Tensor:
        total = counted.sum(-1, keepdim=True) + SMOOTHING
        return (counted + SMOOTHING * shorter) / total

    pairs = counts.sum(0)
    flat = torch.full_like(pairs[0], 1 / len(pairs))
    return mixed(counts, mixed(pairs, mixed(pairs.sum(0), flat)))


def log_partition(log_probs: Tensor, frames: Tensor, trigram: UnitTrigram) -> Tensor:
    """The log of Z of each utterance, differentiable in the log-probabilities.

    Args:
        log_probs: float32 [B, T, K + 1], the blank at 0.
        frames: used frames of each row [B], each ≥ 1.
        trigram: of the same units.

    Returns:
        float32 [B].
    """
    apply = cast("Callable[..., Tensor]", _LogPartition.apply)
    return apply(log_probs, frames, trigram.next.to(log_probs.device))


class _LogPartition(torch.autograd.Function):
    """Forward-backward over the states (unit before, unit, sounding or in blank), scaled by frame.

    `sound` and `rest` [B, i, j] are the weights of paths whose last two units are i (0: none) and
    j, and which are in j or in the blank after it; `none` [B] those without a unit so far.
    """

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, frames: Tensor, next_unit: Tensor) -> Tensor:
        emit = log_probs.detach().exp()
        B, T, V = emit.shape
        inner = next_unit[:, 1:, 1:]  # i, j, k
        by_last = inner.transpose(0, 1).contiguous()  # j, i, k
        twice = inner.diagonal(dim1=1, dim2=2)  # i, j: from i, j to j again
        first, end, empty = next_unit[0, 0, 1:], next_unit[:, 1:, 0], next_unit[0, 0, 0]
        sound = emit.new_zeros(B, V, V - 1)
        rest, none = torch.zeros_like(sound), emit.new_ones(B)
        states, scales = [], []
        log_z = emit.new_zeros(B)
        for t in range(T):
            e, blank = emit[:, t, 1:], emit[:, t, 0]
            both = sound + rest
            moved = torch.bmm(both.permute(2, 0, 1), by_last).transpose(0, 1)  # B, j, k
            moved.diagonal(dim1=1, dim2=2).sub_((sound * twice).sum(1))
            stay = sound
            sound = stay * e[:, None]
            sound[:, 1:] += moved * e[:, None]
            sound[:, 0] += none[:, None] * first * e
            rest, none = both * blank[:, None, None], none * blank
            scale = (sound.sum((1, 2)) + rest.sum((1, 2)) + none).clamp(min=LEAST)
            used = t < frames
            scale = torch.where(used, scale, torch.ones_like(scale))
            sound, rest, none = (
                sound / scale[:, None, None],
                rest / scale[:, None, None],
                none / scale,
            )
            log_z += scale.log()
            states.append((sound, rest, none))
            scales.append(scale)
            last = frames == t + 1
            if last.any():
                closed = ((sound + rest) * end).sum((1, 2)) + none * empty
                log_z = torch.where(last, log_z + closed.clamp(min=LEAST).log(), log_z)
        ctx.save_for_backward(emit, frames, next_unit)
        ctx.states, ctx.scales = states, scales
        return log_z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        emit, frames, next_unit = ctx.saved_tensors
        B, T, V = emit.shape
        inner = next_unit[:, 1:, 1:]
        back = inner.permute(1, 2, 0).contiguous()  # j, k, i
        twice = inner.diagonal(dim1=1, dim2=2)
        first, end, empty = next_unit[0, 0, 1:], next_unit[:, 1:, 0], next_unit[0, 0, 0]
        sound = emit.new_zeros(B, V, V - 1)  # weights of what may follow each state
        rest, none = torch.zeros_like(sound), emit.new_zeros(B)
        occupied = torch.zeros_like(emit)
        for t in range(T - 1, -1, -1):
            last = frames == t + 1
            if last.any():
                sound = torch.where(last[:, None, None], end, sound)
                rest = torch.where(last[:, None, None], end, rest)
                none = torch.where(last, empty, none)
            here, resting, nothing = ctx.states[t]
            share, silent = here * sound, resting * rest
            total = (share.sum((1, 2)) + silent.sum((1, 2)) + nothing * none).clamp(min=LEAST)
            used = (t < frames) / total
            occupied[:, t, 1:] = share.sum(1) * used[:, None]
            occupied[:, t, 0] = (silent.sum((1, 2)) + nothing * none) * used
            e, blank = emit[:, t, 1:], emit[:, t, 0]
            scale = ctx.scales[t]
            after = sound[:, 1:] * e[:, None]  # B, j, k: going on to k
            moved = torch.bmm(after.transpose(0, 1), back).permute(1, 2, 0)  # B, i, j
            again = after.diagonal(dim1=1, dim2=2)[:, None] * twice  # to the same unit
            before_none = (sound[:, 0] * e * first).sum(1) + none * blank
            resting_next = rest * blank[:, None, None]
            sound = (moved - again + sound * e[:, None] + resting_next) / scale[:, None, None]
            rest = (moved + resting_next) / scale[:, None, None]
            none = before_none / scale
        return occupied * gradients[0][:, None, None], None, None
