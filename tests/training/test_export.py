"""A checkpoint becomes a bundle that recognises, and training can start from it again."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr import bundle
from asr.commands import export as command
from asr.errors import BundleError, ConfigError
from asr.onnx_backend import OnnxModel
from tests.training.small_networks import small_network
from training import export
from training.agreement import compare, random_features
from training.checkpoint import Checkpoint, write_checkpoint
from training.export import Names, export_bundle, read_weights, rounded
from training.model import AcousticNetwork, NetworkConfig
from training.torch_backend import TorchModel

if TYPE_CHECKING:
    from pathlib import Path

NAMES = Names("small", "en", "CC0-1.0")
each_cell = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])


def small_checkpoint(cell: str = "lstm") -> Checkpoint:
    """A checkpoint whose weights are not exact in float16."""
    network = small_network(cell)
    with torch.no_grad():
        network.project.weight.add_(1e-5)
    units = {
        name: ["<blank>", *(f"{name}{k}" for k in range(1, head.units))]
        for name, head in network.config.heads.items()
    }
    return Checkpoint(
        network.config,
        network.state_dict(),
        units,
        mean=[float(k) for k in range(80)],
        deviation=[2.0] * 80,
        recipe={"name": "tiny", "language": "eo", "seed": None, "data": [{"manifest": "a.jsonl"}]},
        progress={"step": 7, "hours": 0.5, "best_error": float("inf")},
    )


def parsed(*arguments: object) -> argparse.Namespace:
    """The command's arguments as a person would type them."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


@each_cell
def test_a_bundle_says_what_the_checkpoint_says(tmp_path: Path, cell: str) -> None:
    """Units, normalisation and shape travel along, and both forms are near PyTorch."""
    checkpoint = small_checkpoint(cell)
    exported = export_bundle(checkpoint, tmp_path / "model", NAMES)
    about = exported.bundle.description
    assert (about.name, about.language, about.licence) == ("small", "en", "CC0-1.0")
    assert about.acoustic.cell == cell
    assert about.acoustic.heads == {"pieces": 29, "phones": 11}
    assert about.features.mean == tuple(checkpoint.mean)
    assert list(exported.bundle.units["phones"]) == checkpoint.units["phones"]
    assert about.training["progress"] == {"step": 7, "hours": 0.5}
    assert about.training["recipe"] == {
        "name": "tiny",
        "language": "eo",
        "data": [{"manifest": "a.jsonl"}],
    }
    assert exported.agreement["float32"].largest < 3e-5
    assert exported.agreement["int8"].rms < 0.1


@each_cell
def test_training_can_start_from_a_bundle(tmp_path: Path, cell: str) -> None:
    """`--init` gets every weight back, exactly as it was rounded for shipping."""
    checkpoint = small_checkpoint(cell)
    export_bundle(checkpoint, tmp_path / "model", NAMES)
    found = read_weights(tmp_path / "model")
    expected = rounded(checkpoint.build()).state_dict()
    exported = {name for name in expected if not name.startswith("heads.helper.")}
    assert set(found) == exported
    assert all(torch.equal(found[name], expected[name]) for name in exported)


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-6, 1e3))
@settings(max_examples=25, deadline=None)
def test_rounding_keeps_half_precision(seed: int, scale: float) -> None:
    """Weights move by 2^-11 of themselves at most, and rounding again changes nothing."""
    network = small_network(width=8, depth=1, front=8)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    once = rounded(network)
    twice = rounded(once)
    for (name, value), given_value in zip(
        once.state_dict().items(), network.state_dict().values(), strict=True
    ):
        assert torch.equal(value, twice.state_dict()[name])
        assert ((value - given_value).abs() <= 2**-11 * given_value.abs() + 2**-25).all()


def test_the_same_checkpoint_makes_the_same_model(tmp_path: Path) -> None:
    """The id stands for everything that can change a result, and for nothing else."""
    first = export_bundle(small_checkpoint(), tmp_path / "a", NAMES)
    second = export_bundle(small_checkpoint(), tmp_path / "b", Names("other"), "# Another card\n")
    assert first.bundle.id == second.bundle.id


def test_an_exported_bundle_recognises(tmp_path: Path) -> None:
    """What export writes is what `asr.load` reads, in both precisions."""
    export_bundle(small_checkpoint(), tmp_path / "model", NAMES)
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    for precision in bundle.PRECISIONS:
        assert asr.load(tmp_path / "model", precision=precision).transcribe(noise) is not None


def test_a_new_export_replaces_the_old_one_whole(tmp_path: Path) -> None:
    """No file of an older model may remain in the folder and become a part of the new one."""
    folder = tmp_path / "model"
    export_bundle(small_checkpoint("gru"), folder, NAMES)
    (folder / "units.extra.txt").write_text("<blank>\nx\n")
    export_bundle(small_checkpoint("lstm"), folder, NAMES)
    assert bundle.read(folder).description.acoustic.cell == "lstm"
    assert {path.name for path in folder.iterdir()} == {
        "model.toml",
        "MODEL_CARD.md",
        "acoustic.int8.onnx",
        "acoustic.float32.onnx",
        "units.pieces.txt",
        "units.phones.txt",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_graph_that_disagrees_with_pytorch_is_not_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong graph is refused, and the older bundle stays as it is."""
    folder = tmp_path / "model"
    before = export_bundle(small_checkpoint("gru"), folder, NAMES).bundle.id
    monkeypatch.setattr(export, "TOLERANCE", 1e-12)
    with pytest.raises(BundleError, match=r"differs from PyTorch by .*nothing was written"):
        export_bundle(small_checkpoint("lstm"), folder, NAMES)
    assert bundle.read(folder).id == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path: Path) -> None:
    """`asr export best.pt ~` must not replace a home."""
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BundleError, match="something else than a bundle"):
        export_bundle(small_checkpoint(), tmp_path, NAMES)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_network_without_a_head_on_top_cannot_be_exported(tmp_path: Path) -> None:
    """A recogniser reads heads behind the look-ahead only."""
    checkpoint = small_checkpoint()
    heads = {"helper": checkpoint.network.heads["helper"]}
    checkpoint.network = NetworkConfig(width=8, depth=2, front=8, heads=heads)
    checkpoint.weights = AcousticNetwork(checkpoint.network).state_dict()
    with pytest.raises(BundleError, match="no head reads the last layer"):
        export_bundle(checkpoint, tmp_path / "model", NAMES)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "without weights"])
def test_weights_that_cannot_be_read_back_are_named(tmp_path: Path, damage: str) -> None:
    """`--init` with a broken bundle ends in one line that names the file."""
    path = tmp_path / "acoustic.float32.onnx"
    if damage == "without weights":
        graph = onnx.helper.make_graph([], "empty", [], [])
        onnx.save(onnx.helper.make_model(graph), path)
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else b"this is no graph")
    with pytest.raises(BundleError, match=r"acoustic\.float32\.onnx: "):
        read_weights(tmp_path)


def test_models_are_compared_by_their_log_probabilities() -> None:
    """A network agrees with itself entirely, and not at all with a stranger."""
    features = random_features(blocks=5)
    same = compare(TorchModel(small_network()), TorchModel(small_network()), features)
    assert (same.largest, same.rms, same.choices) == (0, 0, 0)
    stranger = small_network()
    with torch.no_grad():
        stranger.get_submodule("heads.pieces").get_parameter("weight").neg_()
    other = compare(TorchModel(stranger), TorchModel(small_network()), features)
    assert other.largest > other.rms > 0.1
    assert other.choices > 0.5


def test_the_command_writes_a_bundle_and_tells_sizes_and_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a person sees: each file with its size, each precision with its error; on stderr."""
    write_checkpoint(tmp_path / "best.pt", small_checkpoint())
    (tmp_path / "card.md").write_text("# Ours\n")
    arguments = parsed(
        *(tmp_path / "best.pt", tmp_path / "english"),
        *("--licence", "CC-BY-4.0", "--card", tmp_path / "card.md"),
    )
    assert command.run(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "model english, id " in printed.err
    assert "float32 against PyTorch on random blocks: largest error " in printed.err
    size = (tmp_path / "english" / "acoustic.int8.onnx").stat().st_size
    assert f"{size:,} bytes" in printed.err
    assert (tmp_path / "english" / "MODEL_CARD.md").read_text() == "# Ours\n"
    about = bundle.read(tmp_path / "english").description
    assert (about.name, about.language, about.licence) == ("english", "eo", "CC-BY-4.0")


def test_the_default_card_says_what_the_checkpoint_knows(tmp_path: Path) -> None:
    """Without a card of its own a bundle still says where it comes from."""
    export_bundle(small_checkpoint(), tmp_path / "model", NAMES)
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert card.startswith("# small\n")
    assert "licence: CC0-1.0" in card
    assert "2 layers of lstm, width 24, look-ahead 80 ms" in card
    assert "hours: 0.5" in card


def test_a_model_card_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """One clear line, before anything is written."""
    write_checkpoint(tmp_path / "best.pt", small_checkpoint())
    arguments = parsed(tmp_path / "best.pt", tmp_path / "out", "--card", tmp_path / "none.md")
    with pytest.raises(ConfigError, match=r"none\.md: the model card cannot be read"):
        command.run(arguments)
    assert not (tmp_path / "out").exists()


def test_the_exported_graph_is_run_by_the_recognisers_own_backend(tmp_path: Path) -> None:
    """`compare` steps the graph through `OnnxModel`, so names and shapes are checked, too."""
    exported = export_bundle(small_checkpoint(), tmp_path / "model", NAMES)
    model = OnnxModel(exported.bundle.acoustic_file("float32"), {"pieces": 29, "phones": 11}, 2)
    shapes = [part.shape for part in model.initial()]
    assert shapes == [(3, 80), (1, 16), (2, 24), (2, 24), (2, 24)]


def test_export_without_pytorch_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The light install has this command, too; it must not end in a trace."""
    monkeypatch.setitem(sys.modules, "training.checkpoint", None)
    with pytest.raises(ModuleNotFoundError):
        command.run(parsed(tmp_path / "best.pt", tmp_path / "out"))
    monkeypatch.delitem(sys.modules, "training.checkpoint")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"export needs torch: pip install '\.\[train\]'"):
        command.run(parsed(tmp_path / "best.pt", tmp_path / "out"))
