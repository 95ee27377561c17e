"""A training run from beginning to end: folder, validations, checkpoints, stopping."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from asr.errors import BundleError, ConfigError, DataError, Error
from training.assembly import make_trainer
from training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from training.journal import LOG_EVERY, Files, Journal
from training.preparation import download as fetch
from training.preparation import prepare
from training.processes import Processes
from training.recipe import Recipe, recipe_tables
from training.settings import differences
from training.validation import head_results, summary, word_error_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from training.loop import Report, Trainer
    from training.preparation import Material
    from training.start import Start

STANDARD_ERROR = 2
STOPPING = b"\nstopping after this step; the checkpoint is being kept\n"


class Run:
    """One run in one folder.

    Args:
        recipe: what to do.
        folder: where its files go.
        start: weights to begin from (`--init`), or None.
        resume: go on from the folder's checkpoint.
        download: fetch missing LibriSpeech parts.

    Attributes:
        material: the data.
        trainer: makes the steps.
        watch: is told of each step.

    Raises:
        ConfigError, DataError, BundleError: something that cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        start: Start | None = None,
        *,
        resume: bool = False,
        download: bool = False,
    ) -> None:
        torch.set_num_threads(recipe.budget.threads)
        self.recipe, self.files = recipe, Files(folder)
        self.watch: Callable[[Report], None] = lambda _report: None
        self._stop, self._faults_told = False, 0
        checkpoint = self._old_checkpoint(resume=resume)
        self.processes = Processes()
        if download:
            if self.processes.first:
                fetch(recipe)
            self.processes.wait()
        begin = checkpoint or start
        self.material: Material = prepare(recipe, begin.units if begin else {})
        for line in self.material.lines() + self._changes(checkpoint):
            self._say(line)
        self.trainer: Trainer = make_trainer(
            recipe, self.material, self.processes, begin, self._say
        )
        self._validated_minutes = self._saved_minutes = self.trainer.progress.minutes
        self._validated_step = self.trainer.progress.step

    def train(self) -> bool:
        """Train until the budget is spent, validation gets no better, or somebody asks to stop.

        Returns:
            Whether the run is over; False when it was asked to stop before.

        Raises:
            DataError: too much of the data turned out to be unusable. The checkpoint is kept.
        """
        self._begin_folder()
        journal = Journal(self.files, self.trainer.progress, writes=self.processes.first)
        try:
            with self._signals():
                return self._train(journal)
        except Error:
            self._save()
            raise
        finally:
            self.trainer.close()
            journal.close()
            self.processes.close()

    def request_stop(self) -> None:
        """Let the run save and stop after the step that it is in."""
        self._stop = True

    def _train(self, journal: Journal) -> bool:
        trainer, progress = self.trainer, self.trainer.progress
        count = sum(parameter.numel() for parameter in trainer.network.parameters())
        journal.say(f"{count / 1e6:.2f} million parameters, {self.processes.size} process(es)")
        journal.begin(trainer.share_done())
        trainer.start_clock()
        asked = self._asked_to_stop()
        while not (asked or self._is_over()):
            report = trainer.step()
            self.watch(report)
            journal.step(report, trainer.share_done())
            self._refuse_bad_data(report)
            if self._validation_due():
                self._validate(journal)
            if progress.minutes - self._saved_minutes >= self.recipe.budget.checkpoint_minutes:
                self._save()
            if progress.step % LOG_EVERY == 0:
                self._tell_faults(journal)
            asked = self._asked_to_stop()
        self._save()
        if trainer.share_done() >= 1 and self._validated_step != progress.step:
            self._validate(journal)
            self._save()
        self.processes.wait()  # nobody leaves before the files are whole
        self._tell_faults(journal)
        if self._patience_spent():
            journal.say("no lower error for a while: the run is over")
        return self._is_over()

    def _old_checkpoint(self, *, resume: bool) -> Checkpoint | None:
        where = self.files.folder
        if resume and not self.files.checkpoint.exists():
            raise BundleError(f"{self.files.checkpoint}: nothing to resume; start without --resume")
        if not resume and self.files.hold_a_run():
            raise ConfigError(
                f"{where}: a run is here already; go on with it (--resume), delete the folder, or "
                "choose another (--run)"
            )
        return read_checkpoint(self.files.checkpoint) if resume else None

    def _changes(self, checkpoint: Checkpoint | None) -> list[str]:
        if checkpoint is None:
            return []
        names = differences(checkpoint.recipe, recipe_tables(self.recipe))
        return [f"changed since the run began: {', '.join(names)}"] if names else []

    def _begin_folder(self) -> None:
        if not self.processes.first:
            return
        text = json.dumps(recipe_tables(self.recipe), indent=2)
        try:
            self.files.folder.mkdir(parents=True, exist_ok=True)
            self.files.recipe.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{self.files.folder}: cannot be written: {error.strerror}"
            ) from error

    def _is_over(self) -> bool:
        return self.trainer.share_done() >= 1 or self._patience_spent()

    def _patience_spent(self) -> bool:
        patience = self.recipe.validation.patience
        return bool(patience) and self.trainer.progress.without_better >= patience

    def _validation_due(self) -> bool:
        chosen, progress = self.recipe.validation, self.trainer.progress
        if chosen.every_steps and progress.step % chosen.every_steps == 0:
            return True
        since = progress.minutes - self._validated_minutes
        return bool(chosen.every_minutes) and since >= chosen.every_minutes

    def _validate(self, journal: Journal) -> None:
        progress = self.trainer.progress
        self._validated_minutes, self._validated_step = progress.minutes, progress.step
        with self.trainer.clock_stopped():
            if self.processes.first:
                self._judge(journal)
            progress.best_error, waited = self.processes.from_first(
                progress.best_error, progress.without_better
            )
            progress.without_better = int(waited)
            progress.validations += 1

    def _judge(self, journal: Journal) -> None:
        progress, utterances = self.trainer.progress, self.material.validation
        checkpoint = self.trainer.checkpoint(self._units(), complete=False)
        network = checkpoint.build().to(self.processes.device)
        results = head_results(network, self.trainer.make.log_mel, utterances)
        head, chosen = next(iter(self.recipe.heads.items()))
        spells = chosen.kind != "phones"
        wer = word_error_rate(checkpoint, utterances) if spells else None
        figures = summary(results, wer)
        error = figures[f"{head}.errors"] if wer is None else wer
        if error < progress.best_error:
            progress.best_error, progress.without_better = error, 0
            checkpoint.progress["best_error"] = error
            write_checkpoint(self.files.best, checkpoint)
        else:
            progress.without_better += 1
        journal.validation(figures)

    def _save(self) -> None:
        self._saved_minutes = self.trainer.progress.minutes
        if self.processes.first:
            checkpoint = self.trainer.checkpoint(self._units(), complete=True)
            write_checkpoint(self.files.checkpoint, checkpoint)

    def _units(self) -> dict[str, list[str]]:
        return {name: units.units for name, units in self.material.units.items()}

    def _refuse_bad_data(self, report: Report) -> None:
        """Stop, in all processes, when too much turns out to be unusable only as it is read."""
        if report.bad_share > self.recipe.batches.bad_share:
            lines = self.trainer.make.faults.lines()
            raise DataError(
                f"{100 * report.bad_share:.1f} % of a source cannot be used: "
                f"{'; '.join(lines) or 'another process says which'}"
            )

    def _tell_faults(self, journal: Journal) -> None:
        """Say what was left out while training, if there is something new."""
        faults = self.trainer.make.faults
        if faults.counts.total() > self._faults_told:
            self._faults_told = faults.counts.total()
            for line in faults.lines():
                journal.say(f"left out while training: {line}")

    def _asked_to_stop(self) -> bool:
        return self.processes.largest(float(self._stop))[0] > 0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask to stop."""
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # torchrun passes a Ctrl-C on to processes that have had it from the terminal already
        if self._stop and self.processes.size == 1:
            raise KeyboardInterrupt
        if not self._stop and self.processes.first:
            os.write(STANDARD_ERROR, STOPPING)  # print() may be what was interrupted
        self._stop = True

    def _say(self, line: str) -> None:
        if self.processes.first:
            print(line, file=sys.stderr)  # noqa: T201 - before there is a bar
