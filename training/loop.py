"""One step after the other: batches, gradients, weights, their running average.

Everything random comes from the seed, the step and the process's number, so a run that was stopped
and resumed makes the same steps as one that was not (as long as the budget is counted in steps or
hours, and on a CPU to the bit).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from asr.errors import BundleError
from training.checkpoint import Checkpoint
from training.loading import prepared
from training.losses import ctc, ctc_crf, disagreement, frame_cross_entropy
from training.recipe import Recipe, recipe_tables
from training.schedule import learning_rate, share_done

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from training.batching import Batch, BatchStream
    from training.crf import UnitTrigram
    from training.examples import ExampleMaker, Examples
    from training.losses import Labels
    from training.model import AcousticNetwork
    from training.processes import Processes
    from training.recipe import Head


@dataclass(slots=True)
class Progress:
    """Where a run is.

    Attributes:
        step: optimiser steps made.
        hours: of audio gone through, all processes together.
        minutes: of wall time spent training, all parts of the run together.
        processor_minutes: of processor time meanwhile, in the process that used most; on a shared
            machine it tells more than `minutes`.
        skipped: steps left out because the gradient was not finite or there was nothing to learn.
        validations: made so far.
        best_error: lowest error so far: of words, or of units where no head spells.
        without_better: validations since then.
        batches: drawn so far, by all processes.
    """

    step: int = 0
    hours: float = 0.0
    minutes: float = 0.0
    skipped: int = 0
    validations: int = 0
    best_error: float = float("inf")
    without_better: int = 0
    batches: int = 0
    processor_minutes: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What one step did.

    Attributes:
        loss: mean over the processes.
        losses: of each part, in this process.
        rate: learning rate.
        gradient_norm: before clipping.
        bad_share: largest share of a source that turned out to be unusable in any process.
    """

    loss: float
    losses: Mapping[str, float]
    rate: float
    gradient_norm: float
    bad_share: float


class Trainer:
    """Makes optimiser steps on a network.

    Args:
        recipe: the recipe.
        network: is trained in place, on `processes.device`.
        batches: the endless order of batches, the same in every process.
        make: makes examples of them.
        trigrams: over the units of each head that is trained with CTC-CRF.
        processes: those that train together.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: AcousticNetwork,
        batches: BatchStream,
        make: ExampleMaker,
        trigrams: Mapping[str, UnitTrigram],
        processes: Processes,
    ) -> None:
        self.recipe, self.batches, self.make, self.processes = recipe, batches, make, processes
        self.trigrams = trigrams
        self._examples = prepared(make, self._own_batches(), recipe.batches.workers)
        self.network = network.to(processes.device)
        self.optimiser = _optimiser(recipe, self.network)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.progress = Progress()
        self.autocast = uses_bfloat16(recipe.budget.precision, processes.device)
        self._clock, self._processor = time.monotonic(), time.process_time()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint of the same network stopped.

        Raises:
            BundleError: it was kept for recognition only, or is damaged.
        """
        if not checkpoint.live:
            raise BundleError("this checkpoint holds weights, but no run to go on with; use --init")
        groups = [dict(group) for group in self.optimiser.param_groups]
        try:
            self.network.load_state_dict(checkpoint.live)
            self.optimiser.load_state_dict(checkpoint.optimiser)
            self.progress = Progress(**checkpoint.progress)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise BundleError(f"the checkpoint is damaged: {error}") from error
        for group, wanted in zip(self.optimiser.param_groups, groups, strict=True):
            group.update({name: wanted[name] for name in ("betas", "weight_decay")})
        self.average = {k: v.to(self.processes.device) for k, v in checkpoint.weights.items()}
        if not self.progress.batches:  # checkpoints did not always say
            self.progress.batches = self.progress.step * self.processes.size
        self.batches.skip(self.progress.batches)

    def checkpoint(self, units: dict[str, list[str]], *, complete: bool) -> Checkpoint:
        """This moment; with `complete` all that is needed to go on."""
        log_mel = self.make.log_mel
        return Checkpoint(
            network=self.network.config,
            weights={name: value.detach().cpu().clone() for name, value in self.average.items()},
            units=units,
            mean=log_mel.mean.tolist(),
            deviation=log_mel.deviation.tolist(),
            recipe=recipe_tables(self.recipe),
            progress=asdict(self.progress),
            live=dict(self.network.state_dict()) if complete else {},
            optimiser=self.optimiser.state_dict() if complete else {},
        )

    def share_done(self) -> float:
        """Share of the budget used, the same in every process."""
        progress = self.progress
        return share_done(self.recipe.budget, progress.step, progress.minutes, progress.hours)

    def step(self) -> Report:
        """Train on one batch per process."""
        progress, processes = self.progress, self.processes
        torch.manual_seed(seed_of(self.recipe.seed, progress.step, processes.rank))
        self.network.train()
        examples = next(self._examples)
        progress.batches += processes.size
        self.optimiser.zero_grad()
        losses = self._backward(examples) if examples else {}
        parameters = list(self.network.parameters())
        contributors = processes.average_gradients(parameters, counts=examples is not None)
        norm = self._clip()
        rate = learning_rate(self.recipe.optimiser, progress.step, self.share_done())
        if contributors and norm < float("inf"):  # False for NaN
            self._update(rate)
        else:
            progress.skipped += 1
        seconds = examples.seconds if examples else 0.0
        total, heard = processes.sums(sum(losses.values()), seconds)
        elapsed, worked, bad_share = processes.largest(*self._elapsed(), self.make.bad_share())
        progress.step += 1
        progress.hours += heard / 3600
        progress.minutes += elapsed / 60
        progress.processor_minutes += worked / 60
        return Report(total / max(1, contributors), losses, rate, norm, bad_share)

    def _own_batches(self) -> Iterator[Batch]:
        """Of every so many batches as there are processes, the one of this process."""
        while True:
            yield [next(self.batches) for _ in range(self.processes.size)][self.processes.rank]

    def close(self) -> None:
        """End the processes that make examples; no step can be made any more."""
        self._examples.close()

    def start_clock(self) -> None:
        """Begin to count time now."""
        self._clock, self._processor = time.monotonic(), time.process_time()

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Do not count the time meanwhile (for validation)."""
        stopped, worked = time.monotonic(), time.process_time()
        yield
        self._clock += time.monotonic() - stopped
        self._processor += time.process_time() - worked

    def _elapsed(self) -> tuple[float, float]:
        """Seconds of wall and of processor time since it was last asked."""
        clock, processor = self._clock, self._processor
        self.start_clock()
        return self._clock - clock, self._processor - processor

    def _backward(self, examples: Examples) -> dict[str, float]:
        device, labels = self.processes.device, examples.labels
        enabled = self.autocast
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            logits = self.network(examples.features.to(device))
        parts = loss_parts(self.recipe.heads, logits, labels, self.trigrams)
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        return {name: float(part.detach()) for name, part in parts.items()}

    def _clip(self) -> float:
        bound = self.recipe.optimiser.clip or float("inf")
        return float(nn.utils.clip_grad_norm_(self.network.parameters(), bound))

    def _update(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        # The average follows faster in the beginning, so that it forgets the random start.
        step = self.progress.step
        decay = min(self.recipe.optimiser.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)


def loss_parts(
    heads: Mapping[str, Head],
    logits: Mapping[str, Tensor],
    labels: Labels,
    trigrams: Mapping[str, UnitTrigram],
) -> dict[str, Tensor]:
    """What is minimised, part by part, each with its weight: the loss is their sum."""
    parts: dict[str, Tensor] = {}
    for name, head in heads.items():
        given = logits[name]
        if head.ctc:
            parts[name] = head.ctc * ctc(given, labels.frames, labels.targets[name])
        if head.crf:
            loss = ctc_crf(given, labels.frames, labels.targets[name], trigrams[name])
            parts[f"{name}.crf"] = head.crf * loss
        if head.frames:
            labelled = labels.frame_targets[name].to(given.device)
            parts[f"{name}.frames"] = head.frames * frame_cross_entropy(given, labelled)
        if head.consistency and labels.views > 1:
            apart = disagreement(given, labels.frames, labels.targets[name])
            parts[f"{name}.views"] = head.consistency * apart
    return parts


def seed_of(seed: int, step: int, rank: int) -> int:
    """Seed of PyTorch's generator for one step of one process."""
    return int(np.random.SeedSequence((seed, 5, step, rank)).generate_state(1, np.uint64)[0])


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: where asked for, or where the hardware is made for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001 - no public way to ask


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.AdamW:
    chosen = recipe.optimiser
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": chosen.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    betas = (chosen.beta1, chosen.beta2)
    return torch.optim.AdamW(groups, lr=chosen.rate, betas=betas, fused=True)
