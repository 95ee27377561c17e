"""`asr compare`: one command from recipe to table, and its wrong usage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from asr import commands
from tests.training.miniature import TINY, settings
from training.run import Run

if TYPE_CHECKING:
    from pathlib import Path


def command(folder: Path, *arguments: str) -> list[str]:
    """`asr compare` over miniature recordings, without a validation on the way."""
    sets = [part for setting in settings(folder) for part in ("--set", setting)]
    return ["compare", str(TINY), str(folder / "out"), "--budget", "steps=2", *sets, *arguments]


def test_one_command_compares_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table on standard output; the second call, for another cell, trains that one alone.

    Interrupted, it leaves with 130.
    """
    lags = ("--lags", "2", "--seeds", "1", "--lag-steps", "3")
    assert commands.main(command(tmp_path, "--cells", "rnn", *lags)) == 0
    first = capsys.readouterr()
    assert first.out == (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "| **rnn** |" in first.out
    assert "rnn, lag 2, seed 1, rate 0.001: " in first.err
    both = command(tmp_path, "--cells", "rnn,gru")
    monkeypatch.setattr(Run, "_asked_to_stop", lambda _run: True)
    assert commands.main(both) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert commands.main(both) == 0
    second = capsys.readouterr()
    assert "trial 2 of 2: gru" in second.err
    assert "trial 1 of 2" not in second.err
    assert "| **rnn** |" in second.out
    assert "| **gru** |" in second.out
    rows = [json.loads(row) for row in (tmp_path / "out" / "table.jsonl").open(encoding="utf-8")]
    assert [row["cell"] for row in rows] == ["rnn", "gru"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep", "rate"], "--sweep rate: write it as section.key=a,b,c"),
        (["--sweep", "optimiser.rat=1,2"], "unknown key 'rat'"),
        (["--sweep", "network.cell=gru"], "cells are given by --cells"),
        (["--cells", "own", "--sweep", "network.cell=mamba"], "network.cell: 'mamba' is none of"),
        (["--budget", "days=1"], "--budget days=1: write it as"),
        (["--lm", "."], "--lm: a head of phones on the last layer is needed"),
        (["--gradients", "--set", "optimiser.clip=0"], "is trained without clipping already"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is trained, for whoever comes back in the morning."""
    usage = not any(part in message for part in ("--lm", "without clipping"))
    assert commands.main(command(tmp_path, *arguments)) == (2 if usage else 1)
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [["--cells", "mamba"], ["--lags", "0"], ["--lags", "5,"], ["--seeds", "x"]]
)
def test_wrong_usage_is_two(tmp_path: Path, arguments: list[str]) -> None:
    """As of every command."""
    with pytest.raises(SystemExit) as left:
        commands.main(command(tmp_path, *arguments))
    assert left.value.code == 2
