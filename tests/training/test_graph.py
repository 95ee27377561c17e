"""The ONNX graphs say what the network says, to every stream for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import BundleError
from tests.training.small_networks import initial, random_blocks, run, session, small_network
from training.graph import write_graph
from training.quantise import quantise_weight, round_weights

if TYPE_CHECKING:
    from training.graph import Precision

CELLS = ["rnn", "gru", "lstm"]
HEADS = ["pieces", "phones", "spelled"]  # of the small networks, those that are exported
PRECISIONS: list[Precision] = ["float32", "int8"]
each_cell = pytest.mark.parametrize("cell", CELLS)
each_form = pytest.mark.parametrize("precision", PRECISIONS)


@each_cell
@pytest.mark.parametrize("look_ahead", [0, 1, 2, 5])
def test_the_float32_graph_says_what_the_network_says(
    tmp_path: Path, cell: str, look_ahead: int
) -> None:
    """Log-probabilities and states agree to 1e-5 over many carried blocks and several streams."""
    network = small_network(cell, reads=True, look_ahead=look_ahead)
    write_graph(network, tmp_path / "a.onnx", "float32")
    graph, expected_state = session(tmp_path / "a.onnx"), network.initial(3)
    states = initial(network, 3)
    for features in random_blocks(10, 3):
        with torch.inference_mode():
            heads, expected_state = network.step(torch.from_numpy(features), expected_state)
        results = run(graph, features, states)
        states = results[len(heads) :]
        expected = [part.numpy() for part in (*heads.values(), *expected_state)]
        for result, value in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, value, atol=1e-5, rtol=0)


@each_cell
def test_the_int8_graph_stays_near_the_float32_graph(tmp_path: Path, cell: str) -> None:
    """Quantising moves log-probabilities by a few percent of their spread, not more."""
    network = small_network(cell, reads=True)
    outputs = []
    for precision in PRECISIONS:
        write_graph(network, tmp_path / "a.onnx", precision)
        graph, states, rows = session(tmp_path / "a.onnx"), initial(network, 8), []
        for features in random_blocks(10, 8):
            results = run(graph, features, states)
            states = results[len(HEADS) :]
            rows.append(results[: len(HEADS)])
        outputs.append([np.stack(head) for head in zip(*rows, strict=True)])
    for name, exact, near in zip(HEADS, *outputs, strict=True):
        assert 0 < (near - exact).std() < 0.05 * exact.std(), name


@each_cell
@each_form
@pytest.mark.parametrize(("width", "front"), [(8, 8), (17, 12), (32, 16)])
def test_neighbours_change_no_bit(
    tmp_path: Path, cell: str, precision: Precision, width: int, front: int
) -> None:
    """Each of 40 streams gets the same bits alone and in the company of any number of others."""
    network = small_network(cell, reads=True, width=width, front=front)
    write_graph(network, tmp_path / "a.onnx", precision)
    graph, states = session(tmp_path / "a.onnx"), initial(network, 40)
    for features in random_blocks(2, 40):
        together = run(graph, features, states)
        alone = [
            run(graph, features[k : k + 1], [part[k : k + 1] for part in states]) for k in range(40)
        ]
        for k, result in enumerate(together):
            np.testing.assert_array_equal(result, np.concatenate([one[k] for one in alone]))
        for count in range(2, 40):
            some = run(graph, features[:count], [part[:count] for part in states])
            for result, value in zip(some, together, strict=True):
                np.testing.assert_array_equal(result, value[:count])
        states = together[len(HEADS) :]


@each_cell
@each_form
def test_a_loud_neighbour_does_not_drown_a_quiet_stream(
    tmp_path: Path, cell: str, precision: Precision
) -> None:
    """A scale shared between streams would round the quiet one to nothing."""
    network = small_network(cell, reads=True)
    write_graph(network, tmp_path / "a.onnx", precision)
    graph, features = session(tmp_path / "a.onnx"), random_blocks(1, 2)[0]
    features[1] *= 1e4
    together = run(graph, features, initial(network, 2))
    alone = run(graph, features[:1], initial(network, 1))
    for result, value in zip(together, alone, strict=True):
        np.testing.assert_array_equal(result[:1], value)


@each_cell
@each_form
def test_digital_silence_gives_finite_numbers(
    tmp_path: Path, cell: str, precision: Precision
) -> None:
    """A row of zeros has no peak to divide by."""
    network = small_network(cell, reads=True)
    write_graph(network, tmp_path / "a.onnx", precision)
    results = run(
        session(tmp_path / "a.onnx"), np.zeros((1, 8, 80), np.float32), initial(network, 1)
    )
    assert all(np.isfinite(result).all() for result in results)


@each_cell
@each_form
def test_inputs_and_outputs_are_named_as_the_bundle_promises(
    tmp_path: Path, cell: str, precision: Precision
) -> None:
    """The recogniser finds states by these names, and heads on lower layers are left out."""
    network = small_network(cell, reads=True)
    write_graph(network, tmp_path / "a.onnx", precision)
    graph = session(tmp_path / "a.onnx")
    memories = ["h", "c"] if cell == "lstm" else ["h"]
    states = ["conv1", "conv2", *memories, "ahead", *(f"spelled.{part}" for part in memories)]
    assert [value.name for value in graph.get_inputs()] == ["features", *states]
    assert [value.name for value in graph.get_outputs()] == [
        *(f"log_probs.{head}" for head in HEADS),
        *(f"{name}.next" for name in states),
    ]
    shapes = [value.shape[1:] for value in graph.get_inputs()[1:]]
    assert shapes == [list(part.shape[1:]) for part in network.initial(1)]


@each_form
def test_the_same_weights_give_the_same_bytes(tmp_path: Path, precision: Precision) -> None:
    """A bundle's id is a hash over its files: exporting twice must not make two models."""
    for name in ("a", "b"):
        write_graph(small_network(reads=True), tmp_path / name, precision)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    """Nor may the order in which Python happens to walk through a set make another model."""
    program = (
        "from tests.training.small_networks import small_network\n"
        "from training.graph import write_graph\n"
        f"write_graph(small_network(reads=True), {str(tmp_path / 'there')!r}, 'int8')\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    subprocess.run(command, check=True, env=environment, timeout=60, cwd=root)
    write_graph(small_network(reads=True), tmp_path / "here", "int8")
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_the_int8_file_takes_one_byte_for_each_recurrent_weight(tmp_path: Path) -> None:
    """Int8 is for small downloads too: nothing large may be stored in more than 8 bits."""
    network = small_network(width=128)
    write_graph(network, tmp_path / "a.onnx", "int8")
    recurrent = sum(parameter.numel() for parameter in network.layers.parameters())
    others = sum(parameter.numel() for parameter in network.parameters()) - recurrent
    structure = 25_000
    assert (tmp_path / "a.onnx").stat().st_size < 1.05 * recurrent + 2 * others + structure


def test_writing_a_graph_leaves_the_network_alone(tmp_path: Path) -> None:
    """Rounding for export must not round the weights that training goes on with."""
    network = small_network(reads=True)
    with torch.no_grad():
        network.project.weight.add_(1e-6)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    write_graph(network, tmp_path / "a.onnx", "int8")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_integer_weights_keep_to_seven_bits(tmp_path: Path) -> None:
    """With eight bits, CPUs without VNNI add pairs of products in 16 bits and saturate."""
    write_graph(small_network(reads=True), tmp_path / "a.onnx", "int8")
    tensors = onnx.load(tmp_path / "a.onnx").graph.initializer
    matrices = [onnx.numpy_helper.to_array(tensor) for tensor in tensors]
    integers = [matrix for matrix in matrices if matrix.dtype == np.int8]
    # two layers and the one that reads, each with its input's and its memory's weights
    assert len(integers) == 3 * 2
    assert max(np.abs(matrix).max() for matrix in integers) == 63


@given(seed=st.integers(0, 1000), outputs=st.integers(1, 9), inputs=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_a_quantised_weight_is_off_by_half_a_step_at_most(
    seed: int, outputs: int, inputs: int
) -> None:
    """Every output spends its 127 levels on its own range, outputs of zeros included."""
    generator = np.random.default_rng(seed)
    sizes = np.where(generator.random(outputs) < 0.2, 0, 10 ** generator.uniform(-4, 3, outputs))
    weight = (generator.standard_normal((outputs, inputs)) * sizes[:, None]).astype(np.float32)
    integers, scales = quantise_weight(weight)
    errors = np.abs(integers * scales[:, None] - weight)
    assert (errors <= 0.5001 * scales[:, None]).all()


@pytest.mark.parametrize("value", [7e4, float("nan"), float("inf")])
def test_a_weight_that_float16_cannot_hold_is_refused_by_name(value: float) -> None:
    """A diverged network must not become a bundle of infinities."""
    with pytest.raises(BundleError, match=r"weight project\.bias: .* does not fit into float16"):
        round_weights({"project.bias": torch.tensor([0.0, value])})
