"""A training run from beginning to end: folder, log, validations, checkpoints, stopping."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from asr.errors import BundleError, ConfigError
from training.augment import Augmenter
from training.batching import BatchStream
from training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from training.curves import draw_curves
from training.examples import ExampleMaker, Wanted
from training.features import LogMel
from training.loop import Report, Trainer
from training.model import AcousticNetwork, HeadConfig, NetworkConfig
from training.preparation import feature_statistics, prepare
from training.processes import Processes
from training.recipe import Recipe, recipe_tables
from training.start import Start, take_over
from training.validation import head_results, summary, word_error_rate

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

LOG_EVERY = 25  # steps between lines of metrics.jsonl


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run keeps what."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """All that is needed to go on."""
        return self.folder / "checkpoint.pt"

    @property
    def best(self) -> Path:
        """The weights with the lowest word-error rate."""
        return self.folder / "best.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: steps and validations."""
        return self.folder / "metrics.jsonl"


class Run:
    """One run in one folder.

    Args:
        recipe: what to do.
        folder: where its files go.
        start: weights to begin from (`--init`), or None.
        resume: go on from the folder's checkpoint.
        download: fetch missing LibriSpeech parts.

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
        self.processes = Processes()
        checkpoint = self._old_checkpoint(resume=resume)
        known = checkpoint.units if checkpoint else start.units if start else {}
        self.material = prepare(recipe, known, download=download)
        self.units = {name: units.units for name, units in self.material.units.items()}
        self.trainer = self._trainer(checkpoint, start)
        self._stop = False
        self._validated_minutes = self._saved_minutes = self.trainer.progress.minutes
        if self.processes.first:
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(recipe_tables(recipe), indent=2)
            (folder / "recipe.json").write_text(text + "\n", encoding="utf-8")
            self._tell_material()

    def train(self) -> None:
        """Train until the budget is spent, validation gets no better, or a signal asks to stop."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        trainer, progress = self.trainer, self.trainer.progress
        bar = tqdm(
            total=100.0,
            initial=round(100 * min(1.0, trainer.share_done()), 2),
            bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}",
            disable=not self.processes.first,
            file=sys.stderr,
        )
        reports: list[Report] = []
        with bar, self._board() as board:
            while trainer.share_done() < 1 and not self._asked_to_stop():
                report = trainer.step()
                self._refuse_bad_data()
                reports.append(report)
                if progress.step % LOG_EVERY == 0:
                    self._log(bar, board, reports)
                    reports = []
                if self._validation_due():
                    self._validate(board)
                    if self._patience_spent():
                        self._say("no better word-error rate for a while: stopping")
                        break
                if progress.minutes - self._saved_minutes >= self.recipe.budget.checkpoint_minutes:
                    self._save()
            if trainer.share_done() >= 1:
                self._validate(board)
            self._save()
        self.processes.close()

    def _old_checkpoint(self, *, resume: bool) -> Checkpoint | None:
        there = self.files.checkpoint.exists()
        if resume and not there:
            raise BundleError(f"{self.files.checkpoint}: nothing to resume; start without --resume")
        if there and not resume:
            where = self.files.folder
            raise ConfigError(f"{where}: a run is here already; use --resume, or another --run")
        return read_checkpoint(self.files.checkpoint) if resume else None

    def _trainer(self, checkpoint: Checkpoint | None, start: Start | None) -> Trainer:
        recipe, material = self.recipe, self.material
        torch.manual_seed(recipe.seed)
        network = AcousticNetwork(network_config(recipe, self.units))
        if checkpoint:
            statistics = checkpoint.mean, checkpoint.deviation
        elif start:
            statistics = start.mean, start.deviation
            for line in take_over(network, start.weights):
                self._say(line)
        else:
            statistics = feature_statistics(recipe, material)
        mean, deviation = (np.array(values, np.float32) for values in statistics)
        frame_heads = {
            name: {unit: number for number, unit in enumerate(self.units[name])}
            for name, head in recipe.heads.items()
            if head.frames
        }
        make = ExampleMaker(
            material.stores,
            LogMel(mean, deviation),
            Augmenter(recipe.augmentation),
            Wanted(recipe.network.look_ahead, tuple(recipe.heads), frame_heads),
            recipe.seed,
        )
        batches = BatchStream(
            [[u.samples for u in store.utterances] for store in material.stores],
            [source.weight for source in recipe.data],
            int(recipe.batches.seconds * 16000),
            recipe.seed,
            short_first=recipe.batches.short_first,
        )
        trainer = Trainer(recipe, network, batches, make, self.processes)
        if checkpoint:
            trainer.resume(checkpoint)
        return trainer

    def _validation_due(self) -> bool:
        chosen, progress = self.recipe.validation, self.trainer.progress
        if chosen.every_steps and progress.step % chosen.every_steps == 0:
            return True
        since = progress.minutes - self._validated_minutes
        return bool(chosen.every_minutes) and since >= chosen.every_minutes

    def _validate(self, board: Any) -> None:
        go_on = self.trainer.pause_clock()
        self._validated_minutes = self.trainer.progress.minutes
        if self.processes.first:
            checkpoint = self.trainer.checkpoint(self.units, complete=False)
            self._judge(checkpoint, board)
        progress = self.trainer.progress
        progress.best_wer, waited = self._from_first(progress.best_wer, progress.without_better)
        progress.without_better = int(waited)
        progress.validations += 1
        go_on()

    def _judge(self, checkpoint: Checkpoint, board: Any) -> None:
        progress, utterances = self.trainer.progress, self.material.validation
        network = checkpoint.build().to(self.processes.device)
        results = head_results(network, self.trainer.make.log_mel, utterances)
        figures = summary(results, word_error_rate(checkpoint, utterances))
        if figures["wer"] < progress.best_wer:
            progress.best_wer, progress.without_better = figures["wer"], 0
            checkpoint.progress["best_wer"] = figures["wer"]
            write_checkpoint(self.files.best, checkpoint)
        else:
            progress.without_better += 1
        for name, value in figures.items():
            board.add_scalar(f"validation/{name}", value, progress.step)
        self._write({"validation": figures})
        draw_curves(self.files.metrics, self.files.folder / "curves.png")
        self._say("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))

    def _from_first(self, *values: float) -> list[float]:
        """The first process's values, in every process."""
        return self.processes.sums(*(value if self.processes.first else 0.0 for value in values))

    def _patience_spent(self) -> bool:
        patience = self.recipe.validation.patience
        return bool(patience) and self.trainer.progress.without_better >= patience

    def _log(self, bar: Any, board: Any, reports: list[Report]) -> None:
        progress, last = self.trainer.progress, reports[-1]
        loss = sum(report.loss for report in reports) / len(reports)
        speed = progress.hours / max(1e-9, progress.minutes / 60)
        bar.n = round(100 * min(1.0, last.done), 2)
        bar.set_postfix_str(
            f"step {progress.step}, loss {loss:.3f}, rate {last.rate:.1e}, {speed:.0f} h of audio/h"
        )
        if not self.processes.first:
            return
        figures = {
            "loss": loss,
            "rate": last.rate,
            "gradient_norm": last.gradient_norm,
            "hours_per_hour": speed,
        }
        figures |= {f"loss.{name}": value for name, value in last.losses.items()}
        for name, value in figures.items():
            board.add_scalar(f"training/{name}", value, progress.step)
        self._write({"training": figures})

    def _write(self, line: dict[str, Any]) -> None:
        progress = asdict(self.trainer.progress)
        kept = {name: progress[name] for name in ("step", "hours", "minutes")}
        with self.files.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(kept | line) + "\n")

    def _save(self) -> None:
        self._saved_minutes = self.trainer.progress.minutes
        if self.processes.first:
            checkpoint = self.trainer.checkpoint(self.units, complete=True)
            write_checkpoint(self.files.checkpoint, checkpoint)

    def _refuse_bad_data(self) -> None:
        """Stop when too many utterances turn out to be unusable only now, as they are read."""
        faults = self.trainer.make.faults
        bad = sum(faults.counts.values())
        known = sum(len(store.utterances) for store in self.material.stores)
        if bad > max(100, self.recipe.batches.bad_share * known):
            raise ConfigError(f"too much bad data: {'; '.join(faults.lines())}")

    def _board(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.files.folder / "tensorboard"))

    def _asked_to_stop(self) -> bool:
        return self.processes.largest(float(self._stop))[0] > 0

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self._stop:
            self._say("stopping after this step; the checkpoint is being kept")
        self._stop = True

    def _tell_material(self) -> None:
        for store, (where, faults) in zip(
            self.material.stores, self.material.faults.items(), strict=False
        ):
            hours = float(store.starts[-1]) / 16000 / 3600
            self._say(f"{where}: {len(store.utterances)} utterances, {hours:.2f} h")
            for line in faults.lines():
                self._say(f"  left out: {line}")
        count = sum(p.numel() for p in self.trainer.network.parameters())
        self._say(f"{count / 1e6:.2f} million parameters, {self.processes.size} process(es)")

    def _say(self, line: str) -> None:
        if self.processes.first:
            tqdm.write(line, file=sys.stderr)


def network_config(recipe: Recipe, units: dict[str, list[str]]) -> NetworkConfig:
    """Shape of the recipe's network, with as many outputs as there are units."""
    chosen = recipe.network
    heads = {
        name: HeadConfig(len(units[name]), head.layer or chosen.depth)
        for name, head in recipe.heads.items()
    }
    return NetworkConfig(
        chosen.cell,
        chosen.width,
        chosen.depth,
        chosen.look_ahead,
        chosen.front,
        chosen.dropout,
        heads,
    )
