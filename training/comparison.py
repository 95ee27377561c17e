"""Cells, or any settings of a recipe, compared: the same data, budget and seed for every trial.

A comparison is a folder. Each trial is a training run of its own in `runs/<trial>`; what is
measured of it lies beside the run's own files. Whatever is there is not made again: a comparison
that was stopped, or is asked for more values of a setting, goes on where it was.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asr.errors import ConfigError, DataError, UsageError
from training.fade_of_run import fades
from training.journal import LOG_EVERY, Files, trim
from training.measured import measure
from training.recipe import Recipe, read_recipe, recipe_tables
from training.run import Run
from training.settings import differences
from training.sweep import Sweep, grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from training.loop import Report

BUDGETS = ("steps", "minutes", "hours")
CELL = "network.cell"
NO_CLIP = "optimiser.clip=0"


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run of a comparison.

    Attributes:
        cell: its recurrent cell.
        settings: the assignments in which it differs from other trials of its cell.
        recipe: everything it does.
    """

    cell: str
    settings: tuple[str, ...]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Such as `lstm,optimiser.rate=2e-3`; also the name of its folder."""
        return ",".join([self.cell, *(re.sub(r"[^\w.=+-]", "_", s) for s in self.settings)])

    def without_clipping(self, path: Path, overrides: Sequence[str]) -> Trial:
        """The same trial with the gradient taken as it is.

        Args:
            path: the recipe's file.
            overrides: as `plan` was given them.
        """
        return _trial(path, self.cell, (*self.settings, NO_CLIP), overrides)


def plan(
    path: Path, cells: Sequence[str], sweeps: Sequence[Sweep], overrides: Sequence[str]
) -> list[Trial]:
    """The trials of a comparison: for each cell every combination of the swept values.

    Args:
        path: the recipe.
        cells: to compare; none: the recipe's own.
        sweeps: settings and their values.
        overrides: changes to the recipe that hold for all trials.

    Raises:
        ConfigError: a cell or setting does not exist, or is given twice.
    """
    if cells and any(sweep.key == CELL for sweep in sweeps):
        raise UsageError(f"--sweep {CELL}: cells are given by --cells")
    if len(set(cells)) < len(cells):
        raise UsageError(f"--cells {','.join(cells)}: a cell stands there twice")
    own = read_recipe(path, overrides).network.cell
    trials = [
        _trial(path, cell, settings, overrides)
        for cell in cells or (own,)
        for settings in grid(sweeps)
    ]
    names = [trial.name for trial in trials]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--sweep: two trials would have the folder {name}")
    return trials


def _trial(path: Path, cell: str, settings: tuple[str, ...], overrides: Sequence[str]) -> Trial:
    recipe = read_recipe(path, [*overrides, f"{CELL}={cell}", *settings])
    return Trial(recipe.network.cell, settings, recipe)


def budget_overrides(text: str) -> list[str]:
    """What makes `hours=3` the only budget of a recipe.

    Raises:
        UsageError: it is not `steps=N`, `minutes=M` or `hours=H`.
    """
    key, equals, value = text.partition("=")
    if key not in BUDGETS or not equals or not value:
        raise UsageError(f"--budget {text}: write it as steps=N, minutes=M or hours=H")
    return [*(f"budget.{name}=0" for name in BUDGETS if name != key), f"budget.{key}={value}"]


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """Where a trial keeps what it gave, beside the files of its run."""

    folder: Path

    @property
    def result(self) -> Path:
        """What was measured, one JSON object; it is there when the trial is done."""
        return self.folder / "result.json"

    @property
    def norms(self) -> Path:
        """`step` and `norm` (before clipping) of each step's gradient, JSON lines."""
        return self.folder / "norms.jsonl"

    @property
    def fades(self) -> Path:
        """How the gradient fades before and after training, JSON lines."""
        return self.folder / "fades.jsonl"

    @property
    def bundle(self) -> Path:
        """The exported model that was measured."""
        return self.folder / "bundle"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a comparison is to find out beside the training itself.

    Attributes:
        lm: folder of a language model to recognise with, or None to spell.
        lags: frames over which the gradient is followed; 0: not at all.
    """

    lm: Path | None = None
    lags: int = 0


class Comparison:
    """The trials of one comparison in one folder.

    Args:
        out: the folder.
        wanted: what is to be found out.
        say: is told what happens.
    """

    def __init__(self, out: Path, wanted: Wanted, say: Callable[[str], None]) -> None:
        self.out, self.wanted, self.say = out, wanted, say

    def files(self, trial: Trial) -> TrialFiles:
        """Where a trial's files are."""
        return TrialFiles(self.out / "runs" / trial.name)

    def result(self, trial: Trial) -> dict[str, Any]:
        """What was measured of a trial that is done."""
        found: dict[str, Any] = json.loads(self.files(trial).result.read_text(encoding="utf-8"))
        return found

    def make(self, trials: Sequence[Trial]) -> bool:
        """Train and measure all trials, but for what is there already.

        Returns:
            Whether all are done; False when one was asked to stop (Ctrl-C).

        Raises:
            ConfigError: a trial's folder holds a run with other settings.
            DataError, BundleError: see `training.run.Run`.
        """
        for trial in trials:
            self._refuse_other_settings(trial)
        for number, trial in enumerate(trials, 1):
            if self._is_done(trial):
                continue
            self.say(f"trial {number} of {len(trials)}: {trial.name}")
            if not self._make(trial):
                return False
        return True

    def _is_done(self, trial: Trial) -> bool:
        files = self.files(trial)
        return files.result.exists() and (not self.wanted.lags or files.fades.exists())

    def _refuse_other_settings(self, trial: Trial) -> None:
        files = Files(self.files(trial).folder)
        if not files.recipe.exists():
            return
        there = json.loads(files.recipe.read_text(encoding="utf-8"))
        names = differences(there, recipe_tables(trial.recipe))
        if names:
            raise ConfigError(
                f"{files.folder}: this run was made with other settings ({', '.join(names)}); "
                "choose another folder for the comparison, or delete this one"
            )

    def _make(self, trial: Trial) -> bool:
        files = self.files(trial)
        begun = Files(files.folder).checkpoint.exists()
        if not begun and files.folder.exists():
            shutil.rmtree(files.folder)  # it was killed before its first checkpoint
        run = Run(trial.recipe, files.folder, resume=begun)
        if not begun and trial.recipe.cache:
            _fill_cache(run, self.say)
        if not self._train(run, files):
            return False
        if self.wanted.lags and not files.fades.exists():
            _write_lines(files.fades, fades(run, self.wanted.lags))
        if not files.result.exists():
            found = measure(run, files.bundle, self.wanted.lm)
            _write_lines(
                files.result, [{"trial": trial.name, "settings": list(trial.settings), **found}]
            )
        return True

    def _train(self, run: Run, files: TrialFiles) -> bool:
        progress = run.trainer.progress
        if files.norms.exists():
            trim(files.norms, progress.step)
        waiting: list[str] = []

        def write() -> None:
            files.folder.mkdir(parents=True, exist_ok=True)
            with files.norms.open("a", encoding="utf-8") as file:
                file.writelines(waiting)
            waiting.clear()

        def watch(report: Report) -> None:
            waiting.append(json.dumps({"step": progress.step, "norm": report.gradient_norm}) + "\n")
            if len(waiting) == LOG_EVERY:
                write()

        run.watch = watch
        try:
            return run.train()
        finally:
            write()


def best_of_each_cell(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each cell the trial with the lowest `error`; the first of equals."""
    cells = dict.fromkeys(row["cell"] for row in results)
    return [
        min((row for row in results if row["cell"] == cell), key=lambda row: row["error"])
        for cell in cells
    ]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(path.name + ".part")
    draft.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    draft.replace(path)


def _fill_cache(run: Run, say: Callable[[str], None]) -> None:
    """Decode all training audio, lest the first trial pay for what the others find ready."""
    for store in run.material.stores:
        for number in range(len(store.utterances)):
            with suppress(DataError):  # training names and counts it
                store.read(number)
    say("decoded audio is in the cache")
