"""Checkpoints: the old file or the new one, never half of either; nothing foreign is trusted."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import BundleError
from tests.training.small_networks import small_network
from training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


def example(step: int = 3) -> Checkpoint:
    """A checkpoint with something in every part."""
    network = small_network(width=8, front=8)
    units = {name: ["<blank>"] * head.units for name, head in network.config.heads.items()}
    return Checkpoint(
        network.config,
        network.state_dict(),
        units,
        [0.5] * 80,
        [2.0] * 80,
        recipe={"name": "x", "data": [{"manifest": "m"}]},
        progress={"step": step, "best_error": float("inf")},
        live=network.state_dict(),
        optimiser={"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3}]},
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint file."""
    path = tmp_path_factory.mktemp("run") / "whole.pt"
    write_checkpoint(path, example())
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every part, exactly; the folder is made."""
    before = example()
    write_checkpoint(tmp_path / "run" / "checkpoint.pt", before)
    after = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    for name in ("network", "units", "mean", "deviation", "recipe", "progress"):
        assert getattr(after, name) == getattr(before, name)
    for part in ("weights", "live"):
        assert all(torch.equal(v, getattr(after, part)[k]) for k, v in before.weights.items())
    assert torch.equal(after.optimiser["state"][0]["exp_avg"], torch.ones(3))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A full disk is told; whatever happens, the run can be resumed from the file before."""
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, example(3))

    def half(_values: object, file: Any) -> None:
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises((BundleError, KeyboardInterrupt)) as caught:
        write_checkpoint(path, example(4))
    if isinstance(error, OSError):
        assert "checkpoint.pt: the checkpoint cannot be written: [Errno 28]" in str(caught.value)
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert read_checkpoint(path).progress["step"] == 3


def test_what_a_crash_left_is_overwritten(tmp_path: Path) -> None:
    """The draft of a killed process is in nobody's way."""
    (tmp_path / "checkpoint.pt.part").write_bytes(b"half of it")
    write_checkpoint(tmp_path / "checkpoint.pt", example())
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@given(data=st.data())
@settings(max_examples=30)
def test_a_truncated_file_is_refused(written: Path, data: st.DataObject) -> None:
    """Cut anywhere: one line, no trace."""
    whole, path = written.read_bytes(), written.with_name("checkpoint.pt")
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(BundleError, match=r"checkpoint\.pt: damaged, or no checkpoint"):
        read_checkpoint(path)


def save(path: Path, **changes: object) -> None:
    """A checkpoint file with some of its entries changed, or taken away where None."""
    write_checkpoint(path, example())
    values = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in values.items() if value is not None}, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "checkpoint of format 2; this version reads 1"),
        ({"format": None}, "no checkpoint of this project"),
        ({"optimiser": None}, "the checkpoint is not whole: 'optimiser'"),
        ({"network": {"cell": "lstm"}}, "the checkpoint is not whole: 'width'"),
        ({"network": 3}, "the checkpoint is not whole"),
    ],
)
def test_another_version_and_missing_parts_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """The message says what is there and what is needed."""
    save(tmp_path / "c.pt", **changes)
    with pytest.raises(BundleError, match=f"c.pt: {message}"):
        read_checkpoint(tmp_path / "c.pt")


class _Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "tensor", "pickle", "evil"])
def test_a_foreign_file_is_refused_and_never_run(tmp_path: Path, kind: str) -> None:
    """A file from elsewhere must not be able to run code, and gets one clear line."""
    path = tmp_path / "c.pt"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("these are no weights")
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"format": 1}))
    elif kind == "evil":
        torch.save({"format": 1, "weights": _Evil()}, path)
    with pytest.raises(BundleError, match=r"c\.pt: ") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused() -> None:
    """A checkpoint whose parts contradict each other cannot recognise."""
    checkpoint = example()
    checkpoint.weights = {
        name: value for name, value in checkpoint.weights.items() if name != "ahead"
    }
    with pytest.raises(BundleError, match=r"weights do not fit its network: .*ahead"):
        checkpoint.build()
