"""What a run tells: the files in its folder and a progress bar. Only the first process writes."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from training.curves import draw_curves

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from training.loop import Progress, Report

LOG_EVERY = 25  # steps that a line of metrics.jsonl stands for
TERMINAL, FILE = 0.2, 30.0  # seconds between two pictures of the bar


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run keeps what."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """The recipe with every setting, as JSON."""
        return self.folder / "recipe.json"

    @property
    def checkpoint(self) -> Path:
        """All that is needed to go on."""
        return self.folder / "checkpoint.pt"

    @property
    def best(self) -> Path:
        """The weights with the lowest word errors (of units where the first head spells none)."""
        return self.folder / "best.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: steps and validations."""
        return self.folder / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        """A picture of them."""
        return self.folder / "curves.png"

    @property
    def tensorboard(self) -> Path:
        """The same for TensorBoard."""
        return self.folder / "tensorboard"

    def hold_a_run(self) -> bool:
        """Whether a run has left anything that a new one would mix with or overwrite."""
        return any(file.exists() for file in (self.checkpoint, self.best, self.metrics))


class Journal:
    """Writes down how a run goes.

    Args:
        files: of the run; `recipe` must be written by then.
        progress: where the run is; lines about later steps, which a crash has left, are removed.
        writes: whether this process is the one that writes.
    """

    def __init__(self, files: Files, progress: Progress, *, writes: bool) -> None:
        self._files, self._progress, self._writes = files, progress, writes
        self._reports: list[Report] = []
        self._hours, self._minutes = progress.hours, progress.minutes
        self._speed = 0.0
        self._board = self._open_board() if writes else None
        if writes and files.metrics.exists():
            trim(files.metrics, progress.step)
        self._bar = tqdm(
            total=100.0,
            smoothing=0,
            mininterval=TERMINAL if sys.stderr.isatty() else FILE,
            miniters=0,
            bar_format="{percentage:5.1f} %|{bar:20}| {elapsed}<{remaining} {postfix}",
            disable=not writes,
            file=sys.stderr,
        )

    def begin(self, done: float) -> None:
        """Start the bar's clock at a share of the budget, 0 … 1."""
        self._bar.initial = self._bar.n = 100 * min(1.0, done)
        self._bar.unpause()

    def step(self, report: Report, done: float) -> None:
        """Take down a step; `done` is the share of the budget that is used now."""
        self._reports.append(report)
        if len(self._reports) == LOG_EVERY:
            self.write_steps()
        progress, speed = self._progress, self._speed or self._speed_since_line()
        text = (
            f"step {progress.step}, loss {report.loss:.3f}, rate {report.rate:.1e}, "
            f"{speed:.0f} h of audio/h"
        )
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(100 * min(1.0, done) - self._bar.n)

    def write_steps(self) -> None:
        """Write the line about the steps since the last one, if there were any."""
        if not self._reports:
            return
        reports, last = self._reports, self._reports[-1]
        self._speed = self._speed_since_line()
        self._reports, progress = [], self._progress
        self._hours, self._minutes = progress.hours, progress.minutes
        figures = {
            "loss": sum(report.loss for report in reports) / len(reports),
            "rate": last.rate,
            "gradient_norm": last.gradient_norm,
            "hours_per_hour": self._speed,
            "skipped": float(progress.skipped),
        }
        figures |= {f"loss.{name}": value for name, value in last.losses.items()}
        self._write("training", figures)

    def validation(self, figures: Mapping[str, float]) -> None:
        """Take down a validation, and draw the curves."""
        self.write_steps()
        self._write("validation", figures)
        if self._writes:
            draw_curves(self._files.metrics, self._files.curves)
        self.say("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))

    def say(self, line: str) -> None:
        """Show a line above the bar."""
        if self._writes:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Finish bar and files."""
        self.write_steps()
        self._bar.close()
        if self._board:
            self._board.close()

    def _speed_since_line(self) -> float:
        hours = self._progress.hours - self._hours
        return hours / max(1e-9, (self._progress.minutes - self._minutes) / 60)

    def _write(self, kind: str, figures: Mapping[str, float]) -> None:
        if not self._board:
            return
        progress = self._progress
        for name, value in figures.items():
            self._board.add_scalar(f"{kind}/{name}", value, progress.step)
        kept = {"step": progress.step, "hours": progress.hours, "minutes": progress.minutes}
        with self._files.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**kept, kind: dict(figures)}) + "\n")

    def _open_board(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        purged = self._progress.step + 1 if self._progress.step else None
        return SummaryWriter(str(self._files.tensorboard), purge_step=purged)


def trim(metrics: Path, step: int) -> None:
    """Keep the lines of a `metrics.jsonl` up to a step, and of these the whole ones."""
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        draft = metrics.with_name(metrics.name + ".part")
        draft.write_text("".join(kept), encoding="utf-8")
        draft.replace(metrics)
