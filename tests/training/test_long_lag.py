"""The long-lag task: what it asks, that it can be learnt, and that no trial is made twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training import long_lag
from training.long_lag import CHANCE, SYMBOLS, Effort, Trial, sequences, train, train_all, trials
from training.model import CELLS

if TYPE_CHECKING:
    from pathlib import Path


@given(count=st.integers(1, 20), lag=st.integers(1, 50), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_first_frame_alone_tells_the_answer(count: int, lag: int, seed: int) -> None:
    """One marked symbol in front, unmarked ones behind it, nothing else."""
    shown, wanted = sequences(count, lag, np.random.default_rng(seed))
    assert shown.shape == (count, lag + 1, SYMBOLS + 1)
    assert torch.equal(shown[..., :SYMBOLS].sum(-1), torch.ones(count, lag + 1))
    assert torch.equal(shown[:, 0, :SYMBOLS].argmax(-1), wanted)
    assert shown[:, 0, SYMBOLS].min() == 1
    assert not shown[:, 1:, SYMBOLS].any()


def test_distractors_say_nothing_of_the_answer() -> None:
    """Otherwise memory would not be needed: the last frame agrees with the first by chance."""
    shown, wanted = sequences(8000, 3, np.random.default_rng(1))
    agree = (shown[:, -1, :SYMBOLS].argmax(-1) == wanted).float().mean()
    assert float(agree) == pytest.approx(CHANCE, abs=0.02)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_a_short_lag(cell: str) -> None:
    """An LSTM, and the others, in a second; a task that nobody learns compares nothing."""
    found = train(Trial(cell, 3, seed=1, rate=1e-2), Effort((3,), steps=300, width=16))
    assert found["accuracy"] > 0.95
    assert 0 < found["steps"] < 300


def test_the_same_trial_gives_the_same_figures() -> None:
    """Figures that nobody can repeat are worth little."""
    trial, effort = Trial("lstm", 4, seed=2, rate=1e-3), Effort((4,), steps=30, width=8)
    first, second = train(trial, effort), train(trial, effort)
    assert first["accuracy"] == second["accuracy"]


def test_each_cell_gets_the_same_trials() -> None:
    """The same lags, seeds and rates: the same effort."""
    found = trials(("rnn", "lstm"), Effort((5, 2), seeds=2, rates=(1e-3, 1e-2)))
    assert len(found) == len(set(found)) == 2 * 2 * 2 * 2
    by_cell = [
        {(t.lag, t.seed, t.rate) for t in found if t.cell == cell} for cell in ("rnn", "lstm")
    ]
    assert by_cell[0] == by_cell[1]


def test_what_was_trained_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is half a line, which a crash has left, taken for a result."""
    path, told = tmp_path / "lags.jsonl", list[str]()
    effort = Effort((2,), seeds=1, rates=(1e-3,), steps=2, width=4)
    first = train_all(("rnn", "gru"), effort, path, told.append)
    assert len(told) == 2
    path.write_text(path.read_text() + '{"trial": {"ce')
    monkeypatch.setattr(long_lag, "train", lambda *_: pytest.fail("trained again"))
    assert train_all(("rnn", "gru"), effort, path, told.append) == first
    assert [json.loads(line) for line in path.read_text().splitlines()] == first
    with pytest.raises(pytest.fail.Exception):  # another effort is another trial
        train_all(("rnn",), Effort((2,), 1, (1e-3,), steps=3, width=4), path, told.append)
