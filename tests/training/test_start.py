"""Transfer: every weight that fits is taken over, and what does not fit is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from asr.errors import BundleError
from tests.training.small_networks import small_network
from training.checkpoint import Checkpoint, write_checkpoint
from training.export import Names, export_bundle
from training.start import Start, read_start, take_over

if TYPE_CHECKING:
    from pathlib import Path

    from training.model import AcousticNetwork


def units_of(network: AcousticNetwork) -> dict[str, list[str]]:
    """Unit strings for every head."""
    return {
        name: ["<blank>", *(f"▁{k}" for k in range(1, head.units))]
        for name, head in network.config.heads.items()
    }


def checkpoint_of(network: AcousticNetwork) -> Checkpoint:
    """What a run of it would keep."""
    return Checkpoint(
        network.config, network.state_dict(), units_of(network), [1.0] * 80, [2.0] * 80
    )


def test_a_checkpoint_and_its_bundle_start_alike(tmp_path: Path) -> None:
    """Weights, units and normalisation; a bundle lacks only heads that cannot recognise."""
    checkpoint = checkpoint_of(small_network())
    write_checkpoint(tmp_path / "best.pt", checkpoint)
    export_bundle(checkpoint, tmp_path / "model", Names("x"))
    first, second = read_start(tmp_path / "best.pt"), read_start(tmp_path / "model")
    assert (first.mean, first.deviation) == (second.mean, second.deviation)
    assert second.units == {name: first.units[name] for name in ("pieces", "phones")}
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in second.weights)
    assert {name for name in first.weights if name not in second.weights} == {
        "heads.helper.weight",
        "heads.helper.bias",
    }


def test_what_fits_is_taken_over_and_the_rest_told() -> None:
    """Another look-ahead and one more layer keep their own weights."""
    old, new = small_network(), small_network(look_ahead=4, depth=3)
    with torch.no_grad():
        new.project.weight.zero_()
    start = Start(old.state_dict(), units_of(old), [], [])
    told = take_over(new, start, units_of(new))
    assert torch.equal(new.project.weight, old.project.weight)
    assert "not taken over: ahead" in told
    assert "not taken over: layers.2.weight_ih_l0" in told
    assert not any("heads.pieces" in line for line in told)


def test_a_head_with_other_units_starts_anew() -> None:
    """Equal numbers of units are not equal units."""
    network = small_network()
    units = units_of(network)
    start = Start(network.state_dict(), units | {"phones": units["phones"][::-1]}, [], [])
    told = take_over(network, start, units)
    assert told == ["not taken over: heads.phones.weight", "not taken over: heads.phones.bias"]


def test_weights_of_which_nothing_fits_are_refused() -> None:
    """Starting from nothing while believing otherwise would waste a night."""
    other = small_network(width=12, front=8, depth=1)
    start = Start({"conv.weight": torch.zeros(1)}, {}, [], [])
    with pytest.raises(BundleError, match="none of the weights to start from fits"):
        take_over(other, start, units_of(other))


@pytest.mark.parametrize("kind", ["nothing", "folder", "file"])
def test_what_is_neither_checkpoint_nor_bundle_is_named(tmp_path: Path, kind: str) -> None:
    """The path stands in the message."""
    path = tmp_path / "start"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("no weights")
    with pytest.raises(BundleError, match="start: "):
        read_start(path)
