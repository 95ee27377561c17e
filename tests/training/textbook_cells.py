"""The three cells as docs/cells.md writes them, step by step, without PyTorch's modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

State = tuple["Tensor", ...]


def step_of(layer: nn.RNNBase) -> Callable[[Tensor, State], State]:
    """What takes x_t [B, D] and the state before to the state after: (h,), or (h, c)."""
    return {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}[type(layer).__name__](layer)


def _parts(layer: nn.RNNBase) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """W, U, b and d of each block of H rows, in order."""
    H = layer.hidden_size
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return list(zip(*(getattr(layer, name).split(H) for name in names), strict=True))


def _rnn(layer: nn.RNNBase) -> Callable[[Tensor, State], State]:
    ((W, U, b, d),) = _parts(layer)

    def step(x: Tensor, state: State) -> State:
        (h,) = state
        return (torch.tanh(x @ W.T + b + h @ U.T + d),)

    return step


def _gru(layer: nn.RNNBase) -> Callable[[Tensor, State], State]:
    (Wr, Ur, br, dr), (Wz, Uz, bz, dz), (Wn, Un, bn, dn) = _parts(layer)

    def step(x: Tensor, state: State) -> State:
        (h,) = state
        r = torch.sigmoid(x @ Wr.T + br + h @ Ur.T + dr)
        z = torch.sigmoid(x @ Wz.T + bz + h @ Uz.T + dz)
        n = torch.tanh(x @ Wn.T + bn + r * (h @ Un.T + dn))
        return ((1 - z) * n + z * h,)

    return step


def _lstm(layer: nn.RNNBase) -> Callable[[Tensor, State], State]:
    (Wi, Ui, bi, di), (Wf, Uf, bf, df), (Wg, Ug, bg, dg), (Wo, Uo, bo, do) = _parts(layer)

    def step(x: Tensor, state: State) -> State:
        h, c = state
        i = torch.sigmoid(x @ Wi.T + bi + h @ Ui.T + di)
        f = torch.sigmoid(x @ Wf.T + bf + h @ Uf.T + df)
        g = torch.tanh(x @ Wg.T + bg + h @ Ug.T + dg)
        o = torch.sigmoid(x @ Wo.T + bo + h @ Uo.T + do)
        c = f * c + i * g
        return o * torch.tanh(c), c

    return step
