"""The training loop: steps, validations, checkpoints, until the budget is used up.

A run is a folder: `recipe.json` (resolved), `metrics.jsonl`, `curves.png`, `tensorboard/`,
`checkpoint.pt` (to go on) and `best.pt` (to recognise). Everything random comes from the seed,
the step and the process's number, so a run that was stopped and resumed makes the same steps as
one that was not (as long as the budget is counted in steps or hours).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.checkpoint import Checkpoint
from training.losses import ctc, frame_cross_entropy
from training.recipe import Recipe, recipe_tables
from training.schedule import learning_rate, share_done

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from training.batching import BatchStream
    from training.examples import ExampleMaker, Examples
    from training.model import AcousticNetwork
    from training.processes import Processes


@dataclass(slots=True)
class Progress:
    """Where a run is.

    Attributes:
        step: optimiser steps made.
        hours: of audio gone through, all processes together.
        minutes: of wall time, all parts of the run together.
        skipped: steps left out because the gradient was not finite.
        validations: made so far.
        best_wer: lowest word-error rate so far.
        without_better: validations since then.
    """

    step: int = 0
    hours: float = 0.0
    minutes: float = 0.0
    skipped: int = 0
    validations: int = 0
    best_wer: float = float("inf")
    without_better: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What one step did."""

    loss: float
    losses: Mapping[str, float]
    rate: float
    gradient_norm: float
    done: float


class Trainer:
    """Makes optimiser steps on a network.

    Args:
        recipe: the recipe.
        network: is trained in place, on `processes.device`.
        batches: the endless order of batches, the same in every process.
        make: makes examples of them.
        processes: those that train together.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: AcousticNetwork,
        batches: BatchStream,
        make: ExampleMaker,
        processes: Processes,
    ) -> None:
        self.recipe, self.batches, self.make, self.processes = recipe, batches, make, processes
        self.network = network.to(processes.device)
        self.optimiser = _optimiser(recipe, self.network)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.progress = Progress()
        self.autocast = uses_bfloat16(recipe.budget.precision, processes.device)
        self._clock = time.monotonic()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint of the same recipe stopped."""
        self.network.load_state_dict(checkpoint.live)
        self.average = {k: v.to(self.processes.device) for k, v in checkpoint.weights.items()}
        self.optimiser.load_state_dict(checkpoint.optimiser)
        self.progress = Progress(**checkpoint.progress)
        self.batches.skip(self.progress.step * self.processes.size)

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
        torch.manual_seed(hash((self.recipe.seed, progress.step, processes.rank)) % (1 << 63))
        self.network.train()
        own = [next(self.batches) for _ in range(processes.size)][processes.rank]
        examples = self.make(own)
        self.optimiser.zero_grad()
        losses = self._backward(examples) if examples else {}
        processes.average_gradients(self.network.parameters())
        norm = self._clip()
        done = self.share_done()
        rate = learning_rate(self.recipe.optimiser, progress.step, done)
        self._update(rate, norm)
        now = time.monotonic()
        elapsed, self._clock = now - self._clock, now
        seconds = examples.seconds if examples else 0.0
        total, heard = processes.sums(sum(losses.values()), seconds)
        progress.step += 1
        progress.hours += heard / 3600
        progress.minutes += processes.largest(elapsed)[0] / 60
        return Report(total / processes.size, losses, rate, norm, done)

    def pause_clock(self) -> Callable[[], None]:
        """Stop counting time (for validation); call what is returned to go on."""
        stopped = time.monotonic()

        def go_on() -> None:
            self._clock += time.monotonic() - stopped

        return go_on

    def _backward(self, examples: Examples) -> dict[str, float]:
        device, labels = self.processes.device, examples.labels
        enabled = self.autocast
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            logits = self.network(examples.features.to(device))
        parts: dict[str, Tensor] = {}
        for name, head in self.recipe.heads.items():
            if head.ctc:
                loss = ctc(logits[name], labels.frames, labels.targets[name])
                parts[name] = head.ctc * loss
            if head.frames:
                labelled = labels.frame_targets[name].to(device)
                parts[f"{name}.frames"] = head.frames * frame_cross_entropy(logits[name], labelled)
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        return {name: float(part.detach()) for name, part in parts.items()}

    def _clip(self) -> float:
        bound = self.recipe.optimiser.clip or float("inf")
        return float(nn.utils.clip_grad_norm_(self.network.parameters(), bound))

    def _update(self, rate: float, norm: float) -> None:
        if not norm < float("inf"):  # NaN too
            self.progress.skipped += 1
            return
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        # The average follows faster in the beginning, so that it forgets the random start.
        step = self.progress.step
        decay = min(self.recipe.optimiser.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)


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
