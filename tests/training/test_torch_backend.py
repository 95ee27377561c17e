"""A fresh checkpoint runs through PyTorch under the same contract as the graphs that ship."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import asr
from asr.errors import ConfigError
from tests.training.small_networks import random_blocks, small_network
from training.checkpoint import Checkpoint, write_checkpoint
from training.export import Names, export_bundle
from training.torch_backend import TorchModel, load_checkpoint_recognizer

if TYPE_CHECKING:
    from pathlib import Path

each_cell = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])


@each_cell
@pytest.mark.parametrize("look_ahead", [0, 3])
def test_blocks_give_what_the_whole_utterance_gives(cell: str, look_ahead: int) -> None:
    """Training sees whole utterances, recognition sees blocks: they must be one network."""
    network = small_network(cell, look_ahead=look_ahead)
    model, blocks = TorchModel(network), random_blocks(10, 1)
    states, frames = [model.initial()], []
    for features in blocks:
        log_probs, states = model.step(features, states)
        frames.append(log_probs["pieces"][0])
    whole = torch.from_numpy(np.concatenate(blocks, 1))
    with torch.inference_mode():
        expected = network(whole)["pieces"].log_softmax(-1)[0].numpy()
    heard = np.concatenate(frames)[look_ahead:]
    np.testing.assert_allclose(heard, expected[: len(heard)], atol=1e-5)


@each_cell
@pytest.mark.parametrize("streams", [2, 5, 16])
def test_neighbours_change_no_bit_on_the_cpu(cell: str, streams: int) -> None:
    """Law 3 holds for PyTorch too: results and states are those of each stream alone."""
    model = TorchModel(small_network(cell, width=96))
    states = [model.initial()] * streams
    for features in random_blocks(3, streams):
        together, after = model.step(features, states)
        for k in range(streams):
            alone, state = model.step(features[k : k + 1], [states[k]])
            assert all(np.array_equal(together[name][k], alone[name][0]) for name in model.heads)
            assert all(map(np.array_equal, after[k], state[0]))
        states = after


def test_a_step_changes_none_of_its_arguments() -> None:
    """States are values: a stream may be continued twice from the same one."""
    model, features = TorchModel(small_network()), random_blocks(1, 2)[0]
    _, states = model.step(features, [model.initial()] * 2)
    before = [[part.copy() for part in state] for state in states]
    given = features.copy()
    first, _ = model.step(features, states)
    second, _ = model.step(features, states)
    assert np.array_equal(first["pieces"], second["pieces"])
    assert np.array_equal(features, given)
    for state, copy in zip(states, before, strict=True):
        assert all(map(np.array_equal, state, copy))


def test_states_do_not_hold_on_to_the_batch_they_came_from() -> None:
    """A stream that outlives its neighbours must not keep their memory."""
    model = TorchModel(small_network())
    _, states = model.step(random_blocks(1, 4)[0], [model.initial()] * 4)
    assert all(part.base is None for state in states for part in state)


def test_only_heads_behind_the_look_ahead_are_offered() -> None:
    """Heads on lower layers help training; recognition cannot read them."""
    model = TorchModel(small_network())
    assert model.heads == {"pieces": 29, "phones": 11}
    assert model.look_ahead == 2


def test_dropout_is_off_even_if_the_network_was_training() -> None:
    """A checkpoint taken out of the training loop must recognise, not drop units."""
    model, features = TorchModel(small_network().train()), random_blocks(1, 1)[0]
    runs = [model.step(features, [model.initial()])[1][0] for _ in range(2)]
    assert all(map(np.array_equal, *runs))


def test_a_checkpoint_recognises_as_its_bundle_does(tmp_path: Path) -> None:
    """`asr transcribe --model best.pt` says the same words at the same times as the export."""
    path = tmp_path / "best.pt"
    network = small_network()
    units = {
        name: ["<blank>", *(f"▁{name}{k}" for k in range(1, head.units))]
        for name, head in network.config.heads.items()
    }
    checkpoint = Checkpoint(
        network.config, network.state_dict(), units, mean=[-5.0] * 80, deviation=[3.0] * 80
    )
    write_checkpoint(path, checkpoint)
    export_bundle(checkpoint, tmp_path / "model", Names("small"))
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    words = [
        [(word.text, word.start, word.end) for word in recognizer.transcribe(noise).words]
        for recognizer in (
            load_checkpoint_recognizer(path),
            asr.load(tmp_path / "model", precision="float32"),
        )
    ]
    assert words[0]
    assert words[0] == words[1]


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    """One clear line instead of PyTorch's trace."""
    network = small_network()
    units = {name: ["<blank>"] for name in network.config.heads}
    write_checkpoint(
        tmp_path / "best.pt",
        Checkpoint(network.config, network.state_dict(), units, [0.0] * 80, [1.0] * 80),
    )
    with pytest.raises(ConfigError, match="device 'nowhere' cannot be used"):
        load_checkpoint_recognizer(tmp_path / "best.pt", "nowhere")


@each_cell
def test_streams_stepped_together_as_on_a_gpu_agree_with_each_alone(cell: str) -> None:
    """The batched way must pair states and features rightly; only its last bits may differ."""
    model = TorchModel(small_network(cell))
    states = [model.initial()] * 5
    for features in random_blocks(4, 5):
        alone, after = model.step(features, states)
        # What `step` does on a GPU, run on the CPU here.
        together, batched = model._step_together(features, states)  # noqa: SLF001
        for name in model.heads:
            np.testing.assert_allclose(together[name], alone[name], atol=1e-5)
        for one, other in zip(after, batched, strict=True):
            for part, value in zip(one, other, strict=True):
                np.testing.assert_allclose(part, value, atol=1e-5)
        states = after
