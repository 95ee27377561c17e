"""One network for training and recognition: utterances and blocks agree, and it is causal."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError
from tests.training.small_networks import small_network
from training.model import CELLS, HeadConfig, NetworkConfig

each_cell = pytest.mark.parametrize("cell", CELLS)


def features(frames: int, seed: int = 0) -> torch.Tensor:
    """Features [1, F, 80]."""
    return torch.randn(1, frames, 80, generator=torch.Generator().manual_seed(seed))


@each_cell
@pytest.mark.parametrize("look_ahead", range(9))
@torch.inference_mode()
def test_blocks_and_whole_utterances_agree(cell: str, look_ahead: int) -> None:
    """Every head that recognition can use, for every cell and look-ahead."""
    network = small_network(cell, reads=True, width=8, front=8, look_ahead=look_ahead)
    x, state, parts = features(8 * 9), network.initial(1), []
    for block in torch.chunk(x, 9, 1):
        log_probs, state = network.step(block, state)
        parts.append(log_probs)
    whole = network(x)
    assert set(parts[0]) == {"pieces", "phones", "spelled"}
    for name in parts[0]:
        lag = network.config.look_ahead_of(name)
        stepped = torch.cat([part[name] for part in parts], 1)[:, lag:]
        expected = whole[name].log_softmax(-1)[:, : stepped.shape[1]]
        torch.testing.assert_close(stepped, expected, atol=1e-5, rtol=0)


@each_cell
@given(look_ahead=st.integers(0, 8), frame=st.integers(0, 14), seed=st.integers(0, 9))
@settings(max_examples=15)
@torch.inference_mode()
def test_an_output_depends_on_nothing_beyond_the_look_ahead(
    cell: str, look_ahead: int, frame: int, seed: int
) -> None:
    """Law 4 at its root: features from 4 (t + L + 1) on cannot change frame t."""
    network = small_network(cell, reads=True, width=8, front=8, look_ahead=look_ahead)
    x = features(60, seed)
    changed = x.clone()
    changed[:, 4 * (frame + look_ahead + 1) :] += 1
    before, after = network(x), network(changed)
    for name, head in network.config.heads.items():
        known = frame + 1 if head.layer == network.config.depth else frame + look_ahead + 1
        if head.reads:  # both frames of a block at a time
            known = max(0, known - (known + look_ahead) % 2 - head.look_ahead)
        torch.testing.assert_close(
            before[name][:, :known], after[name][:, :known], atol=1e-6, rtol=0
        )


@torch.inference_mode()
def test_the_look_ahead_is_used_up_to_its_end() -> None:
    """The bound above is tight: the last frame within it does change the output."""
    network = small_network(reads=True, look_ahead=3)
    x = features(60)
    changed = x.clone()
    changed[:, 4 * 8 : 4 * 8 + 4] += 1  # output frame 8 is the last that frame 5 may see
    difference = (network(x)["pieces"] - network(changed)["pieces"]).abs().amax(-1)[0]
    assert (difference[:5] < 1e-6).all()
    assert difference[5] > 1e-3


@torch.inference_mode()
def test_neighbours_in_a_batch_change_nothing() -> None:
    """Padding another utterance beside one leaves its logits (to rounding)."""
    network = small_network(reads=True)
    x = torch.cat([features(40, 1), features(40, 2)])
    torch.testing.assert_close(
        network(x)["pieces"][:1], network(x[:1])["pieces"], atol=1e-5, rtol=0
    )


def test_a_head_that_reads_another_changes_nothing_below_it() -> None:
    """It learns by itself, also from text alone, and what is read stays what it was."""
    network = small_network(reads=True)
    network(features(40))["spelled"].square().sum().backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name in moved} == {"spelled"}
    assert any(name.startswith("readers.") for name in moved)


def test_a_block_of_another_shape_is_refused() -> None:
    """State would silently go wrong otherwise."""
    network = small_network(reads=True)
    with pytest.raises(ValueError, match=r"a block is \[N, 8, 80\], got \[1, 4, 80\]"):
        network.step(features(4), network.initial(1))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"cell": "mamba"}, "network.cell: 'mamba' is none of rnn, gru, lstm"),
        ({"look_ahead": 9}, "network.look_ahead: 9 frames; it must lie in 0 … 8"),
        ({"width": 0}, "network.width: 0; it must be at least 1"),
        ({"heads": {"a": HeadConfig(3, 5)}}, "network.heads.a.layer: 5; there are 4 layers"),
        ({"heads": {"a": HeadConfig(3, 4, "b", 8)}}, "network.heads.a.reads: 'b'; both must lie"),
        (
            {"heads": {"a": HeadConfig(3, 4, "b", 8), "b": HeadConfig(3, 2)}},
            "network.heads.a.reads: 'b'; both must lie on the last layer",
        ),
        (
            {"heads": {"a": HeadConfig(3, 4, "b"), "b": HeadConfig(3, 4)}},
            "network.heads.a.width: 0; it must be at least 1",
        ),
        (
            {"heads": {"a": HeadConfig(3, 4, "b", 8, 1), "b": HeadConfig(3, 4)}},
            "network.heads.a.look_ahead: 1 frames; it must be an even number in 0",
        ),
    ],
)
def test_a_shape_that_makes_no_sense_is_named(sizes: dict[str, object], message: str) -> None:
    """Also when it comes out of a checkpoint rather than a recipe."""
    with pytest.raises(ConfigError, match=message):
        NetworkConfig(**sizes)  # type: ignore[arg-type]
