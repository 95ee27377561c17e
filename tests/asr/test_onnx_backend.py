"""The network behind ONNX Runtime: what is loaded is what the bundle says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from asr.errors import BundleError
from asr.onnx_backend import OnnxModel
from tests.tiny import LOOK_AHEAD, UNITS, network, normalised, sound, write_bundle
from training.torch_backend import TorchModel

if TYPE_CHECKING:
    from pathlib import Path

HEADS = {"pieces": len(UNITS)}


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("int8", 1.0)])
def test_it_says_what_pytorch_says(
    tmp_path: Path, cell: str, precision: str, tolerance: float
) -> None:
    """Training and recognition are one network; heads are scaled here, so int8 may be far off."""
    write_bundle(tmp_path, cell)
    model = OnnxModel(tmp_path / f"acoustic.{precision}.onnx", HEADS, LOOK_AHEAD[cell])
    torch = TorchModel(network(cell))
    ours, theirs = [model.initial()] * 2, [torch.initial()] * 2
    assert [a.shape for a in ours[0]] == [a.shape for a in theirs[0]]
    blocks = normalised(sound(4.0, 2), 0)[:384].reshape(-1, 2, 8, 80)
    for block in blocks:
        said, ours = model.step(block, ours)
        expected, theirs = torch.step(block, theirs)
        assert said["pieces"].shape == (2, 2, len(UNITS))
        assert said["pieces"].dtype == np.float32
        probability = np.exp(said["pieces"]) - np.exp(expected["pieces"])
        assert np.abs(probability).max() < tolerance
        assert np.abs(np.exp(said["pieces"]).sum(-1) - 1).max() < 1e-5


def test_a_stream_does_not_keep_its_company_alive(tmp_path: Path) -> None:
    """A state that is a slice of a batch would hold 64 streams' memory for an idle one."""
    write_bundle(tmp_path)
    model = OnnxModel(tmp_path / "acoustic.int8.onnx", HEADS, 4)
    _, after = model.step(np.zeros((5, 8, 80), np.float32), [model.initial()] * 5)
    assert all(array.base is None for state in after for array in state)


def test_what_is_no_network_is_told_in_one_line(tmp_path: Path) -> None:
    """ONNX Runtime's own messages run over lines and name no cure."""
    (tmp_path / "a.onnx").write_bytes(b"no network")
    for name in ("a.onnx", "missing.onnx"):
        with pytest.raises(BundleError) as told:
            OnnxModel(tmp_path / name, HEADS, 4)
        assert "\n" not in str(told.value)
        assert name in str(told.value)


@pytest.mark.parametrize("heads", [{"pieces": 9}, {"phones": 10}, {**HEADS, "phones": 10}])
def test_a_graph_of_other_heads_is_refused(tmp_path: Path, heads: dict[str, int]) -> None:
    """Unit 9 of ten must not be read as one of nine."""
    write_bundle(tmp_path)
    with pytest.raises(BundleError, match="other inputs or outputs"):
        OnnxModel(tmp_path / "acoustic.int8.onnx", heads, 4)
