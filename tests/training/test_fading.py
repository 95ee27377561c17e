"""The gradient over time lags, held against finite differences of the textbook's equations."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor, nn

from asr.errors import DataError
from tests.training.small_networks import small_network
from tests.training.textbook_cells import State, step_of
from training.fading import INPUT, fade, unroll
from training.losses import ctc
from training.model import CELLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from training.model import AcousticNetwork

each_cell = pytest.mark.parametrize("cell", CELLS)
FRAMES = torch.tensor([12, 9])
TARGETS = [torch.tensor([1, 2, 3]), torch.tensor([4, 4])]


def network_of(cell: str) -> AcousticNetwork:
    """Two layers of width 3 in double precision, with a look-ahead of 2."""
    return small_network(cell, width=3, front=4).double()


def features() -> Tensor:
    """Of two utterances, of 12 and of 9 frames, with room for the look-ahead."""
    random = torch.Generator().manual_seed(2)
    return torch.randn(2, 4 * 14, 80, generator=random, dtype=torch.float64)


def loss(logits: Mapping[str, Tensor]) -> Tensor:
    """CTC over both heads that the network's top has."""
    return ctc(logits["pieces"], FRAMES, TARGETS) + ctc(logits["phones"], FRAMES, TARGETS)


def by_hand(
    network: AcousticNetwork, x: Tensor, nudge: Callable[[int, str, int, Tensor], Tensor]
) -> dict[str, Tensor]:
    """The network by the textbook's equations; `nudge` may change a state when it is there."""
    T = x.shape[1]
    x = torch.stack([nudge(0, INPUT, t, x[:, t]) for t in range(T)], 1)
    for number, (layer, norm) in enumerate(zip(network.layers, network.norms, strict=True), 1):
        step, h = step_of(cast("nn.RNNBase", layer)), torch.zeros_like(x[:, 0])
        state: State = (h, h) if isinstance(layer, nn.LSTM) else (h,)
        outputs = []
        for t in range(T):
            parts = zip("hc", step(x[:, t], state), strict=False)
            state = tuple(nudge(number, part, t, value) for part, value in parts)
            outputs.append(state[0])
        x = x + norm(torch.stack(outputs, 1))
    padded = torch.nn.functional.pad(x, (0, 0, 0, 2))
    x = sum((network.ahead[k] * padded[:, k : k + T] for k in range(3)), torch.zeros(()))
    return {name: network.heads[name](x) for name in ("pieces", "phones")}


@each_cell
@torch.no_grad()
def test_it_is_what_finite_differences_say(cell: str) -> None:
    """∂loss_t/∂h_{t−k}, ∂/∂c and ∂/∂input for lags of −2 … 4, at one frame of two utterances.

    loss_t is ⟨∂L/∂logits_t, logits_t⟩; each state is nudged on its own, by the equations alone.
    """
    network, t = network_of(cell), 8
    with torch.enable_grad():
        logits = network(features())
        heads = ("pieces", "phones")
        shares = torch.autograd.grad(loss(logits), [logits[name] for name in heads])
        found = fade(network, features(), FRAMES, loss, lags=t, probes=1)
    x = network.project_input(features())
    size = 1e-5

    def loss_of_frame(at: tuple[int, str, int], delta: Tensor) -> Tensor:
        def nudge(layer: int, part: str, s: int, value: Tensor) -> Tensor:
            return value + delta if (layer, part, s) == at else value

        given = by_hand(network, x, nudge)
        pairs = zip(heads, shares, strict=True)
        return sum(
            ((share[:, t] * given[name][:, t]).sum(1) for name, share in pairs), x.new_zeros(2)
        )

    for row in found:
        for lag in (-2, -1, 0, 1, 2, 4):
            at = row.layer, row.part, t - lag
            slopes = [
                (loss_of_frame(at, size * unit) - loss_of_frame(at, -size * unit)) / (2 * size)
                for unit in torch.eye(3, dtype=torch.float64)
            ]
            expected = torch.stack(slopes, 1).norm(dim=1).mean()
            assert row.norms[lag + 2] == pytest.approx(float(expected), rel=1e-4, abs=1e-9)
    assert {(row.layer, row.part) for row in found} == {
        (0, INPUT), (1, "h"), (2, "h"), *(((1, "c"), (2, "c")) if cell == "lstm" else ())
    }  # fmt: skip


@each_cell
def test_unrolling_changes_nothing(cell: str) -> None:
    """Frame by frame the network says what it says of whole utterances."""
    network = network_of(cell)
    for name, values in unroll(network, features()).logits.items():
        torch.testing.assert_close(values, network(features())[name], atol=1e-10, rtol=0)


@each_cell
def test_the_shares_of_all_frames_make_the_whole_gradient(cell: str) -> None:
    """So loss_t is truly a part of the loss: over t its gradients add up to the loss's own."""
    network = network_of(cell)
    unrolled = unroll(network, features())
    names = list(unrolled.logits)
    state = unrolled.places[1, "h"][3]
    given = [unrolled.logits[name] for name in names]
    shares: tuple[Tensor | None, ...] = torch.autograd.grad(
        loss(unrolled.logits), given, retain_graph=True, allow_unused=True
    )
    total = torch.zeros_like(state)
    for t in range(14):
        pairs = [(x, g) for x, g in zip(given, shares, strict=True) if g is not None]
        parts: tuple[Tensor | None, ...] = torch.autograd.grad(
            [x[:, t] for x, _ in pairs],
            state,
            [g[:, t] for _, g in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        total += 0 if parts[0] is None else parts[0]
    whole = torch.autograd.grad(loss(unrolled.logits), state)[0]
    torch.testing.assert_close(total, whole, atol=1e-12, rtol=1e-9)


def test_frames_that_an_utterance_does_not_have_do_not_count() -> None:
    """A mean over padding would fade for no reason of the network's."""
    network = network_of("gru")
    both = fade(network, features(), FRAMES, loss, lags=10, probes=2)
    assert {row.probes for row in both} == {2}  # frames 10 and 11, of the first one alone
    four = fade(network, features(), FRAMES, loss, lags=7, probes=5)
    assert {row.probes for row in four} == {5 + 2}  # frames 7 … 11 and 7, 8


def test_lags_beyond_the_speech_are_refused() -> None:
    """There is nothing to follow."""
    with pytest.raises(DataError, match="longest of 2 utterances has 12 frames"):
        fade(network_of("rnn"), features(), FRAMES, loss, lags=12)
