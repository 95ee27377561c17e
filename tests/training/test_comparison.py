"""A comparison in miniature: the trials, going on after a kill, and what is told in the end."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from asr.errors import ConfigError
from tests.training.miniature import TINY, settings
from training import comparison as module
from training import run as run_module
from training.checkpoint import read_checkpoint
from training.comparison import (
    Comparison,
    Trial,
    Wanted,
    best_of_each_cell,
    budget_overrides,
    plan,
    read_lines,
)
from training.comparison_report import lag_rows, report, table
from training.recipe import recipe_tables
from training.run import Run
from training.settings import differences
from training.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STEPS = 3
RATES = Sweep("optimiser.rate", ("1e-2", "3e-2"))
PNG = b"\x89PNG\r\n\x1a\n"


def overrides(folder: Path) -> list[str]:
    """Three steps on miniature recordings."""
    return settings(folder, f"budget.steps={STEPS}", "optimiser.clip=1", "validation.every_steps=2")


def trials(folder: Path, cells: Sequence[str] = ("lstm",), *sweeps: Sweep) -> list[Trial]:
    """Trials of such a recipe."""
    return plan(TINY, cells, sweeps, overrides(folder))


@pytest.fixture(autouse=True)
def _no_recogniser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation within the runs is tested elsewhere and takes most of their time."""
    monkeypatch.setattr(run_module, "word_error_rate", lambda _checkpoint, _utterances: 0.5)


def test_trials_differ_in_what_is_compared_and_in_nothing_else(tmp_path: Path) -> None:
    """The same data, budget and seed for each; the same number of trials for every cell."""
    found = trials(tmp_path, ("rnn", "gru", "lstm"), RATES)
    assert [trial.cell for trial in found] == ["rnn", "rnn", "gru", "gru", "lstm", "lstm"]
    assert found[1].name == "rnn,optimiser.rate=3e-2"
    tables = [recipe_tables(trial.recipe) for trial in found]
    different = {name for t in tables for name in differences(tables[0], t)}
    assert different == {"network.cell", "optimiser.rate"}
    assert {trial.recipe.optimiser.rate for trial in found} == {1e-2, 3e-2}


def test_without_cells_the_recipe_has_its_own(tmp_path: Path) -> None:
    """A plain grid search over two settings."""
    found = trials(tmp_path, (), RATES, Sweep("network.width", ("4", "8")))
    assert [trial.cell for trial in found] == ["gru"] * 4
    assert {(t.recipe.optimiser.rate, t.recipe.network.width) for t in found} == {
        (rate, width) for rate in (1e-2, 3e-2) for width in (4, 8)
    }


@pytest.mark.parametrize(
    ("cells", "sweep", "message"),
    [
        (("lstm",), Sweep("network.cell", ("rnn",)), "cells are given by --cells"),
        (("lstm", "lstm"), RATES, "a cell stands there twice"),
        (("lstm",), Sweep("optimiser.rat", ("1",)), "unknown key 'rat'"),
        (("lstm",), Sweep("network.width", ("0",)), r"network\.width: 0"),
        (("lstm",), Sweep("language", ("a/b", "a:b")), "two trials would have the folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(
    tmp_path: Path, cells: Sequence[str], sweep: Sweep, message: str
) -> None:
    """Not after the first hours of training."""
    with pytest.raises(ConfigError, match=message):
        trials(tmp_path, cells, sweep)


@pytest.mark.parametrize("kind", ["steps", "minutes", "hours"])
def test_a_budget_takes_the_place_of_any_other(tmp_path: Path, kind: str) -> None:
    """The recipe's is gone, whatever it was counted in."""
    (trial,) = plan(TINY, (), (), [*settings(tmp_path), *budget_overrides(f"{kind}=7")])
    budget = trial.recipe.budget
    assert {name: getattr(budget, name) for name in ("steps", "minutes", "hours")} == {
        "steps": 0, "minutes": 0, "hours": 0, kind: 7
    }  # fmt: skip


@pytest.mark.parametrize("text", ["7", "days=7", "hours", "hours="])
def test_another_budget_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ConfigError, match="--budget"):
        budget_overrides(text)


def test_it_goes_on_where_it_was_stopped_and_makes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to stop in the second trial: the first stays, the second goes on to the same weights.

    A folder that a kill has left before its first checkpoint is begun anew. Each step's gradient is
    written down once.
    """
    planned = trials(tmp_path, ("rnn", "lstm"))
    straight = Comparison(tmp_path / "straight", Wanted(), lambda _line: None)
    assert straight.make(planned)
    cut, told = tmp_path / "cut", list[str]()
    (cut / "runs" / "rnn").mkdir(parents=True)
    (cut / "runs" / "rnn" / "metrics.jsonl").write_text('{"step": 1')
    stepped = Comparison(cut, Wanted(), told.append)
    asked = Run._asked_to_stop  # noqa: SLF001 - a Ctrl-C at a known step

    def after_two(run: Run) -> bool:
        progress = run.trainer.progress
        return run.recipe.network.cell == "lstm" and progress.step == 2

    monkeypatch.setattr(Run, "_asked_to_stop", after_two)
    assert not stepped.make(planned)
    monkeypatch.setattr(Run, "_asked_to_stop", asked)
    assert stepped.make(planned)
    assert told == [
        "trial 1 of 2: rnn", "trial 2 of 2: lstm", "trial 2 of 2: lstm"
    ]  # fmt: skip
    for trial in planned:
        one, other = (
            read_checkpoint(c.files(trial).folder / "checkpoint.pt") for c in (straight, stepped)
        )
        assert all(bool((value == other.live[name]).all()) for name, value in one.live.items())
        norms = [read_lines(c.files(trial).norms) for c in (straight, stepped)]
        assert norms[0] == norms[1]
        assert [row["step"] for row in norms[0]] == [1, 2, 3]
    monkeypatch.setattr(module, "Run", lambda *_, **__: pytest.fail("made again"))
    assert stepped.make(planned)
    changed = [replace(t, recipe=replace(t.recipe, seed=5)) for t in planned]
    with pytest.raises(ConfigError, match=r"rnn: this run was made with other settings \(seed\)"):
        stepped.make(changed)


def test_what_is_found_is_told(tmp_path: Path) -> None:
    """Table and pictures with their rows, of a real comparison with gradients."""
    planned = trials(tmp_path, ("gru", "lstm"))
    made = Comparison(tmp_path / "out", Wanted(lags=5), lambda _line: None)
    unclipped = [trial.without_clipping(TINY, overrides(tmp_path)) for trial in planned]
    assert [trial.recipe.optimiser.clip for trial in unclipped] == [0, 0]
    assert made.make([*planned, *unclipped])
    lags = [
        {"trial": {"cell": cell, "lag": lag, "rate": 0.1, "seed": 1}, "accuracy": 0.5}
        for cell in ("gru", "lstm")
        for lag in (3, 30)
    ]
    told = report(made, planned, unclipped, lags)
    assert told == (made.out / "table.md").read_text()
    for name in ("runs", "gradients", "lags"):
        assert (made.out / f"{name}.png").read_bytes().startswith(PNG)
        assert read_lines(made.out / f"{name}.jsonl")
    rows = read_lines(made.out / "table.jsonl")
    assert [(row["trial"], row["best"]) for row in rows] == [
        ("gru", True), ("lstm", True), ("gru,optimiser.clip=0", False),
        ("lstm,optimiser.clip=0", False),
    ]  # fmt: skip
    for row in rows:
        _demand_a_real_trial(row)
        assert f"| {'**' * row['best']}{row['trial']}{'**' * row['best']} |" in told
    curves = {(row["trial"], row["kind"]) for row in read_lines(made.out / "runs.jsonl")}
    assert curves == {
        (cell, kind) for cell in ("gru", "lstm") for kind in ("training_loss", "validation_error")
    }
    fades = [row for row in read_lines(made.out / "gradients.jsonl") if row["kind"] == "fade"]
    networks = {(row["cell"], row["when"], row["clip"]) for row in fades}
    assert networks == {
        (cell, *how)
        for cell in ("gru", "lstm")
        for how in (("before", 1.0), ("after", 1.0), ("after", 0.0))
    }


def _demand_a_real_trial(row: dict[str, Any]) -> None:
    assert row["steps"] == STEPS
    assert row["error"] == row["errors"]["characters"]
    assert row["recordings"] == 3
    assert row["wer"] >= 0
    assert row["rtf"] > 0
    assert row["processor_seconds_per_hour"] > 0
    assert row["recurrent_parameters"] == 2 * {"gru": 3, "lstm": 4}[row["cell"]] * (2 * 256 + 32)


def test_the_best_is_that_of_lowest_error() -> None:
    """One of each cell; of equals the first."""
    rows = [
        {"trial": name, "cell": name[0], "error": error}
        for name, error in (("a1", 0.5), ("a2", 0.4), ("b1", 0.3), ("b2", 0.3))
    ]
    assert [row["trial"] for row in best_of_each_cell(rows)] == ["a2", "b1"]


def test_what_was_not_measured_is_a_dash() -> None:
    """A head of phones without a language model writes no words."""
    row = {
        "trial": "lstm", "best": False, "parameters": 1_000_000, "recurrent_parameters": 500_000,
        "hours": 1.0, "steps": 10, "training_loss": 1.0, "loss": {"phones": 2.0},
        "errors": {"phones": 0.5}, "wer": None, "wer_interval": None, "rtf_processor": 0.01,
        "processor_seconds_per_hour": 9.0, "emission_ms": None,
    }  # fmt: skip
    line = table([row]).splitlines()[-1]
    assert line == (
        "| lstm | 1.00 M (0.50 M) | 1.00, 10 | 1.000 | phones 2.000 | phones 50.0% | – | 9.0 "
        "| 0.0100 | – |"
    )


def test_a_cell_is_shown_at_the_rate_that_suits_it_over_all_lags() -> None:
    """One rate for each cell, chosen among the same ones."""
    accuracies = {("rnn", 0.1): (1.0, 0.2), ("rnn", 0.2): (0.9, 0.5), ("gru", 0.1): (0.6, 0.4)}
    rows = [
        {"trial": {"cell": cell, "rate": rate, "lag": lag, "seed": seed}, "accuracy": accuracy}
        for (cell, rate), pair in accuracies.items()
        for lag, value in zip((5, 50), pair, strict=True)
        for seed, accuracy in ((1, value - 0.1), (2, value + 0.1))
    ]
    found = json.loads(json.dumps(lag_rows(rows)))
    assert [(row["cell"], row["rate"], row["lag"]) for row in found] == [
        ("rnn", 0.2, 5), ("rnn", 0.2, 50), ("gru", 0.1, 5), ("gru", 0.1, 50)
    ]  # fmt: skip
    assert found[1] == pytest.approx(
        {
            "cell": "rnn",
            "rate": 0.2,
            "lag": 50,
            "mean": 0.5,
            "lowest": 0.4,
            "highest": 0.6,
            "seeds": 2,
        }
    )
