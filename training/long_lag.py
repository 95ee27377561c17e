"""A task that only memory solves: name the symbol that was marked, many frames ago.

The first frame shows one of 8 symbols with a mark; `lag` frames of random symbols without it
follow; after the last, the network has to name the marked one. Chance names it once in 8. Whatever
solves it keeps 3 bits through `lag` frames that drive the state at random: a "latch" (Bengio,
Simard and Frasconi 1994, section II), with distractors.

One recurrent layer as in `training.model` (same modules, same first weights) without layer norm and
residual, and a linear layer on its last output. Sizes: N sequences, T = lag + 1 frames.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's custom

from training.model import CELLS, reset_recurrence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SYMBOLS = 8
CHANCE = 1 / SYMBOLS
HELD_OUT = 512  # sequences that accuracy is counted on
SOLVED = 0.99
CHECK_EVERY = 50  # steps


@dataclass(frozen=True, slots=True)
class Effort:
    """What each cell may spend at each lag: the same for all.

    Attributes:
        lags: frames between the symbol and the question, each ≥ 1.
        seeds: of weights and sequences, 1 … this number.
        rates: learning rates of Adam that are tried.
        steps: at most; a network that solves the task earlier stops.
        width: units of the recurrent layer.
        batch: sequences a step.
        clip: bound on the norm of the gradient.
    """

    lags: tuple[int, ...]
    seeds: int = 3
    rates: tuple[float, ...] = (1e-3, 4e-3)
    steps: int = 1500
    width: int = 64
    batch: int = 32
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One network to train."""

    cell: str
    lag: int
    seed: int
    rate: float


class Memory(nn.Module):
    """A recurrent layer, and a linear one that reads its last output."""

    def __init__(self, cell: str, width: int) -> None:
        super().__init__()
        self.layer = CELLS[cell](SYMBOLS + 1, width, batch_first=True)
        self.read = nn.Linear(width, SYMBOLS)
        reset_recurrence(self.layer)

    def forward(self, sequences: Tensor) -> Tensor:
        """Logits [N, 8] of sequences [N, T, 9]."""
        logits: Tensor = self.read(self.layer(sequences)[0][:, -1])
        return logits


def sequences(count: int, lag: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Some sequences [N, lag + 1, 9] (symbols one-hot, the mark last) and the symbols to name [N].

    Args:
        count: N.
        lag: frames of distraction, ≥ 1.
        random: draws them.
    """
    symbols = torch.from_numpy(random.integers(SYMBOLS, size=(count, lag + 1)))
    shown = F.one_hot(symbols, SYMBOLS).float()
    mark = torch.zeros(count, lag + 1, 1)
    mark[:, 0] = 1
    return torch.cat([shown, mark], -1), symbols[:, 0]


def train(trial: Trial, effort: Effort) -> dict[str, Any]:
    """Train one network.

    Returns:
        The trial, `accuracy` on 512 sequences that it was not trained on, `steps` made and
        `processor_seconds`.
    """
    torch.manual_seed(trial.seed)
    network = Memory(trial.cell, effort.width)
    optimiser = torch.optim.Adam(network.parameters(), lr=trial.rate)
    random = np.random.default_rng((trial.seed, trial.lag, 1))
    held_out = sequences(HELD_OUT, trial.lag, np.random.default_rng((trial.seed, trial.lag, 2)))
    begin, accuracy, step = time.process_time(), 0.0, 0
    while step < effort.steps and accuracy < SOLVED:
        given, wanted = sequences(effort.batch, trial.lag, random)
        optimiser.zero_grad()
        F.cross_entropy(network(given), wanted).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), effort.clip)
        optimiser.step()
        step += 1
        if step % CHECK_EVERY == 0 or step == effort.steps:
            accuracy = _accuracy(network, *held_out)
    seconds = round(time.process_time() - begin, 3)
    return asdict(trial) | {"accuracy": accuracy, "steps": step, "processor_seconds": seconds}


@torch.inference_mode()
def _accuracy(network: Memory, given: Tensor, wanted: Tensor) -> float:
    return float((network(given).argmax(-1) == wanted).float().mean())


def trials(cells: Sequence[str], effort: Effort) -> list[Trial]:
    """Every combination, short lags first."""
    return [
        Trial(cell, lag, seed, rate)
        for lag in sorted(effort.lags)
        for seed in range(1, effort.seeds + 1)
        for rate in effort.rates
        for cell in cells
    ]


def train_all(
    cells: Sequence[str], effort: Effort, path: Path, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train every combination; what a file already holds is not trained again.

    Args:
        cells: to compare.
        effort: what each may spend.
        path: JSON lines, one a trial, appended as they are done.
        tell: is told of each.

    Returns:
        The rows of all combinations, those of other efforts left out.
    """
    known = {json.dumps(row["trial"], sort_keys=True): row for row in _rows(path)}
    rows = []
    spent = {key: value for key, value in asdict(effort).items() if key in _SPENT}
    for trial in trials(cells, effort):
        name = asdict(trial) | spent
        row = known.get(json.dumps(name, sort_keys=True))
        if row is None:
            row = {"trial": name, **_outcome(train(trial, effort))}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            tell(
                f"{trial.cell}, lag {trial.lag}, seed {trial.seed}, rate {trial.rate:g}: "
                f"{100 * row['accuracy']:.1f} % after {row['steps']} steps"
            )
        rows.append(row)
    return rows


_SPENT = ("steps", "width", "batch", "clip")


def _outcome(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("accuracy", "steps", "processor_seconds")}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of a file; a crash may have left half of one, which is taken off."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if whole != lines:
        path.write_text("".join(whole), encoding="utf-8")
    yield from map(json.loads, whole)
