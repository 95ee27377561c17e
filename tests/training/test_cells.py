"""What docs/cells.md says of the three cells is what the code does."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.training.small_networks import small_network
from tests.training.textbook_cells import step_of
from training.model import CELLS, AcousticNetwork, HeadConfig, NetworkConfig, reset_recurrence
from training.parameters import cell_parameters, network_parameters

each_cell = pytest.mark.parametrize("cell", CELLS)


@each_cell
@torch.inference_mode()
def test_the_equations_are_those_of_the_modules(cell: str) -> None:
    """Gate order, both biases and where the reset gate stands: all of it, over 20 frames."""
    torch.manual_seed(1)
    layer = CELLS[cell](5, 4, batch_first=True).double()
    x = torch.randn(3, 20, 5, dtype=torch.float64)
    state = tuple(torch.zeros(3, 4, dtype=torch.float64) for _ in range(1 + (cell == "lstm")))
    step, outputs = step_of(layer), []
    for t in range(20):
        state = step(x[:, t], state)
        outputs.append(state[0])
    torch.testing.assert_close(torch.stack(outputs, 1), layer(x)[0], atol=1e-12, rtol=0)


@each_cell
@torch.inference_mode()
def test_around_each_cell_stand_layer_norm_and_a_residual(cell: str) -> None:
    """Each layer adds layer_norm(cell(x)) to x; then come the look-ahead and the head."""
    network = small_network(cell)
    features = torch.randn(2, 40, 80)
    x = network.project_input(features)
    for layer, module in zip(network.layers, network.norms, strict=True):
        y, norm = layer(x)[0], cast("nn.LayerNorm", module)
        mean, variance = y.mean(-1, keepdim=True), y.var(-1, correction=0, keepdim=True)
        x = x + norm.weight * (y - mean) / (variance + 1e-5).sqrt() + norm.bias
    T = x.shape[1]
    x = torch.nn.functional.pad(x, (0, 0, 0, 2))
    x = sum((network.ahead[k] * x[:, k : k + T] for k in range(3)), torch.zeros(()))
    head = cast("nn.Linear", network.heads["pieces"])
    torch.testing.assert_close(
        x @ head.weight.T + head.bias, network(features)["pieces"], atol=1e-4, rtol=1e-4
    )


@each_cell
def test_the_first_weights_are_as_told(cell: str) -> None:
    """Each recurrent block is orthogonal, biases are 0, an LSTM's forget gate half open."""
    layer = CELLS[cell](8, 8)
    reset_recurrence(layer)
    weights = dict(layer.named_parameters())
    for block in torch.split(weights["weight_hh_l0"].data, 8):
        torch.testing.assert_close(block @ block.T, torch.eye(8), atol=1e-5, rtol=0)
    assert not weights["bias_hh_l0"].any()
    bias = weights["bias_ih_l0"].view(-1, 8)
    expected = [0, 1, 0, 0] if cell == "lstm" else [0] * len(bias)
    assert bias.tolist() == [[value] * 8 for value in expected]
    assert 1 / (1 + math.exp(-1)) == pytest.approx(0.731, abs=1e-3)  # as the document says


@each_cell
@given(
    width=st.integers(1, 9),
    depth=st.integers(1, 3),
    front=st.integers(1, 5),
    look_ahead=st.integers(0, 8),
    units=st.lists(st.integers(2, 9), min_size=1, max_size=2),
)
@settings(max_examples=10, deadline=None)
def test_the_formulas_count_every_parameter(
    cell: str, width: int, depth: int, front: int, look_ahead: int, units: list[int]
) -> None:
    """Of the whole network and of each recurrent layer."""
    heads = {f"h{n}": HeadConfig(count, depth) for n, count in enumerate(units)}
    heads["reads"] = HeadConfig(3, depth, "h0", width + 1)
    config = NetworkConfig(cell, width, depth, look_ahead, front, heads=heads)
    network = AcousticNetwork(config)
    assert network_parameters(config) == sum(p.numel() for p in network.parameters())
    layer = sum(p.numel() for p in network.layers[0].parameters())
    assert cell_parameters(cell, width, width) == layer
