"""What a run writes down: lines, TensorBoard, a picture, a bar; and lines that a crash left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from training.curves import draw_curves
from training.journal import LOG_EVERY, Files, Journal, trim
from training.loop import Progress, Report

if TYPE_CHECKING:
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a metrics file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def advance(journal: Journal, progress: Progress, steps: int) -> None:
    """Some steps of 36 s of audio in 0.6 s each."""
    for _ in range(steps):
        progress.step += 1
        progress.hours += 0.01
        progress.minutes += 0.01
        journal.step(Report(2.0, {"letters": 1.5}, 1e-3, 0.7, 0.0), progress.step / 100)


def test_steps_and_validations_become_lines_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for every 25 steps, one for the rest, one for the validation."""
    progress, files = Progress(), Files(tmp_path)
    journal = Journal(files, progress, writes=True)
    journal.begin(0)
    advance(journal, progress, LOG_EVERY + 3)
    journal.validation({"letters.loss": 1.0, "letters.errors": 0.5, "wer": 0.75})
    journal.close()
    first, second, third = lines(files.metrics)
    assert (first["step"], second["step"], third["step"]) == (25, 28, 28)
    assert first["training"]["loss"] == 2
    assert first["training"]["loss.letters"] == 1.5
    assert first["training"]["hours_per_hour"] == pytest.approx(60)
    assert third["validation"]["wer"] == 0.75
    assert files.curves.read_bytes().startswith(PNG)
    assert list(files.tensorboard.glob("events.out.tfevents.*"))
    assert "wer 0.750" in capsys.readouterr().err


def test_the_bar_shows_what_one_wants_to_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loss, learning rate, hours of audio per hour, time gone and left."""
    progress = Progress()
    journal = Journal(Files(tmp_path), progress, writes=True)
    journal.begin(0)
    advance(journal, progress, 10)
    journal.close()
    bar = capsys.readouterr().err.split("\r")[-1]
    assert " 10.0 %|" in bar
    assert "step 10, loss 2.000, rate 1.0e-03, 60 h of audio/h" in bar
    assert "<" in bar.split("|")[2]
    assert "?" not in bar


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    """Two processes in one folder would mix their lines."""
    progress = Progress()
    journal = Journal(Files(tmp_path), progress, writes=False)
    journal.begin(0)
    advance(journal, progress, 30)
    journal.validation({"wer": 1.0})
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_lines_after_the_checkpoint_are_removed(tmp_path: Path) -> None:
    """After a crash the steps since the last checkpoint are made, and written, again."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 25}\n{"step": 50}\n{"step": 75}\n{"step": 1')
    trim(path, 50)
    assert lines(path) == [{"step": 25}, {"step": 50}]


@pytest.mark.parametrize("content", ["", '{"step": 1, "hours": 0.1, "validation": {"wer": 0.5}}\n'])
def test_a_picture_can_be_drawn_of_little(
    tmp_path: Path, content: str, recwarn: pytest.WarningsRecorder
) -> None:
    """A run that has only just begun has curves too, without complaints."""
    (tmp_path / "metrics.jsonl").write_text(content)
    draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    assert [str(w.message) for w in recwarn.list] == []
