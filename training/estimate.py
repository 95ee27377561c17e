"""Memory and time of a recipe on GPUs, by arithmetic: `python -m training.estimate RECIPE…`.

Nothing is run. What is counted, per output frame of 40 ms:

- *arithmetic*: 2 operations for each weight of a product, forward; backward twice as much. For a
  cell of g gates and H units 4 g H² forward (g = 4 for LSTM). The GPU is assumed to reach a share
  (`--utilisation`) of its rated speed (`--tflops`): recurrent products are small.
- *waiting*: the frames of a batch come one after the other in every layer, forward and backward,
  each no faster than a GPU starts work (`--step-us`). It is the same for small and large batches.
- *preparation*: reading, distorting and log-mel, by the recipe's `batches.workers` processes beside
  each GPU, or one after the other with it where there are none (`--prepared`: seconds of audio that
  a process prepares in a second, `python -m benchmarks.examples`).
- *memory*: 4 bytes each for weights, gradients, two moments and the running average; and what the
  backward pass needs of the forward one (`activations`), in bfloat16 where autocast computes in it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from asr.acoustic import BLOCK_OUTPUTS
from training.model import BANDS, FIRST_KERNEL, SECOND_KERNEL, AcousticNetwork, NetworkConfig
from training.recipe import Recipe, read_recipe
from training.units import characters

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAMES = 25  # output frames a second
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
PHONES = 40  # of the English lexicon, and the blank
FILLED = 0.95  # of a batch: the rest is padding
OVERHEAD_S = 0.025  # of a step: losses, clipping, AdamW, average
STATE_BYTES = 20  # of a parameter: weight, gradient, two moments, average
FIXED_BYTES = 1.5e9  # CUDA's context, cuDNN's working space
SLACK = 1.3  # what the allocator holds beyond what is used
HALF, FULL = 2, 4  # bytes of bfloat16 and float32


@dataclass(frozen=True, slots=True)
class Hardware:
    """What is assumed of one GPU and of the process that feeds it.

    Attributes:
        tflops: rated dense bfloat16 speed, TFLOP/s.
        utilisation: share of it that is reached.
        step_us: microseconds of one frame in one layer, forward and backward together.
        prepared: seconds of audio that a process prepares in a second.
        utterance: length of the longest utterance of a usual batch, seconds.
    """

    tflops: float = 400.0
    utilisation: float = 0.25
    step_us: float = 45.0
    prepared: float = 1000.0
    utterance: float = 15.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run needs.

    Attributes:
        parameters: of the network.
        gigabytes: of GPU memory, each GPU.
        steps: optimiser steps.
        operations: a second of audio, forward and backward.
        arithmetic: hours.
        waiting: hours.
        preparation: hours.
        beside: whether the preparation goes on beside the rest.
    """

    parameters: int
    gigabytes: float
    steps: int
    operations: float
    arithmetic: float
    waiting: float
    preparation: float
    beside: bool

    @property
    def hours(self) -> float:
        """The whole run, validations left out."""
        computing = self.arithmetic + self.waiting
        if self.beside:
            return max(computing, self.preparation)
        return computing + self.preparation


def estimate(recipe: Recipe, hardware: Hardware, gpus: int) -> Estimate:
    """What a recipe needs, each GPU taking a batch of its own in every step.

    Args:
        recipe: with a budget in hours or steps.
        hardware: assumptions.
        gpus: how many, ≥ 1.

    Raises:
        ValueError: the budget is in minutes, so the time is known and the work is not.
    """
    config, seconds, workers = shape(recipe), recipe.batches.seconds, recipe.batches.workers
    step_seconds = seconds * FILLED
    if recipe.budget.minutes:
        raise ValueError(f"{recipe.name}: its budget is in minutes: that is how long it takes")
    steps = recipe.budget.steps or round(recipe.budget.hours * 3600 / step_seconds / gpus)
    operations = 3 * FRAMES * forward_operations(config)
    computing = seconds * operations / (hardware.tflops * 1e12 * hardware.utilisation)
    in_line = config.depth + len(config.readers())
    waiting = hardware.utterance * FRAMES * in_line * hardware.step_us * 1e-6 + OVERHEAD_S
    with torch.device("meta"):  # shapes alone
        parameters = sum(p.numel() for p in AcousticNetwork(config).parameters())
    held = seconds * FRAMES * activations(config)
    return Estimate(
        parameters=parameters,
        gigabytes=(STATE_BYTES * parameters + SLACK * held + FIXED_BYTES) / 1e9,
        steps=steps,
        operations=operations,
        arithmetic=steps * computing / 3600,
        waiting=steps * waiting / 3600,
        preparation=steps * step_seconds / hardware.prepared / max(1, workers) / 3600,
        beside=workers > 0,
    )


def shape(recipe: Recipe) -> NetworkConfig:
    """The recipe's network, with as many outputs as it will have."""
    from training.assembly import network_config

    sizes = {"characters": len(characters().units), "phones": PHONES}
    units = {
        name: [""] * sizes.get(head.kind, head.size + 1) for name, head in recipe.heads.items()
    }
    return network_config(recipe, units)


def forward_operations(config: NetworkConfig) -> float:
    """Operations of one output frame, forward."""
    H, C = config.width, config.front
    front = 2 * (2 * FIRST_KERNEL * BANDS * C) + 2 * SECOND_KERNEL * C * C + 2 * C * H
    layers = config.depth * 4 * GATES[config.cell] * H * H
    ahead = 2 * (config.look_ahead + 1) * H
    heads = sum(2 * H * head.units for head in config.heads.values() if not head.reads)
    readers = sum(
        2 * GATES[config.cell] * head.width * head.width / BLOCK_OUTPUTS
        + 2 * GATES[config.cell] * head.width * config.heads[head.reads].units
        + 2 * head.width * head.units
        for head in config.readers().values()
    )
    return front + layers + ahead + heads + readers


def activations(config: NetworkConfig) -> float:
    """Bytes that one output frame of one utterance holds until the backward pass.

    Features and convolutions; the projection and its normalisation; of each layer the gates, cell
    and output of the recurrence, normalisation, dropout and sum; the windows of the look-ahead; and
    of each head logits, log-probabilities, CTC's forward variables (as many as units, at most) and
    gradients.
    """
    H, C = config.width, config.front
    front = 4 * BANDS * FULL + 3 * C * HALF + H * (HALF + 2 * FULL)
    cell = (GATES[config.cell] + 3) * HALF
    layer = H * (cell + FULL + 2 * FULL + FULL)  # cast, normalisation in and out, dropout
    ahead = (config.look_ahead + 2) * H * FULL
    heads = sum(head.units * (HALF + 4 * FULL) for head in config.heads.values())
    readers = sum(head.width * (cell + 3 * FULL) for head in config.readers().values())
    return front + config.depth * layer + ahead + heads + readers


def table(recipes: Sequence[Path], hardware: Hardware, counts: Sequence[int]) -> str:
    """A Markdown table of recipes on so many GPUs."""
    columns = (
        *("recipe", "GPUs", "parameters", "memory of each", "steps", "GFLOP a second of audio"),
        *("hours", "arithmetic", "waiting", "preparation"),
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for path in recipes:
        recipe = read_recipe(path)
        for gpus in counts:
            found = estimate(recipe, hardware, gpus)
            parts = (found.hours, found.arithmetic, found.waiting, found.preparation)
            lines.append(
                f"| `{recipe.name}` | {gpus} | {found.parameters / 1e6:.1f} M "
                f"| {found.gigabytes:.0f} GB | {found.steps:,} | {found.operations / 1e9:.1f} "
                f"| {' | '.join(f'{part:.1f}' for part in parts)} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    assumed = Hardware()
    parser = argparse.ArgumentParser(
        "python -m training.estimate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipes", type=Path, nargs="+", metavar="RECIPE")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 4], help="default: 1 4")
    for name in Hardware.__dataclass_fields__:
        option, value = f"--{name.replace('_', '-')}", getattr(assumed, name)
        parser.add_argument(option, type=float, default=value, help=f"default: {value:g}")
    args = parser.parse_args(arguments)
    hardware = Hardware(**{name: getattr(args, name) for name in Hardware.__dataclass_fields__})
    print(table(args.recipes, hardware, args.gpus))  # noqa: T201 - what it is for
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
