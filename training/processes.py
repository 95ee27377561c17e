"""Data-parallel training: one process or several under `torchrun`, with the same code."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from collections.abc import Iterable

# The others wait while the first one downloads or validates. `torchrun` ends all of them when one
# has died, so nothing hangs for so long.
PATIENCE = timedelta(days=1)


class Processes:
    """The processes that train together; alone when not started by `torchrun`.

    Processes on one machine use its GPUs, one each, or the CPU where it has none.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        device: where this process computes.
    """

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = (
            torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        )
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.size > 1:
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter], *, counts: bool) -> int:
        """Replace each gradient by its mean over those processes that have one.

        Args:
            parameters: those that are trained, in the same order everywhere.
            counts: whether this process had anything to train on.

        Returns:
            How many processes had; with 0 there is nothing to learn from.
        """
        if self.size == 1:
            return int(counts)
        wanted = list(parameters)
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in wanted]
        share = torch.tensor([float(counts)], device=self.device)
        flat = torch.cat([*(part.flatten() for part in parts), share])
        distributed.all_reduce(flat)
        contributors = round(float(flat[-1]))
        flat /= max(1, contributors)
        means = torch.split(flat[:-1], [p.numel() for p in wanted])
        for parameter, mean in zip(wanted, means, strict=True):
            parameter.grad = mean.view_as(parameter)
        return contributors

    def sums(self, *values: float) -> list[float]:
        """Each value summed over the processes."""
        return self._reduce(values, distributed.ReduceOp.SUM if self.size > 1 else None)

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over the processes."""
        return self._reduce(values, distributed.ReduceOp.MAX if self.size > 1 else None)

    def from_first(self, *values: float) -> list[float]:
        """The first process's values, in every process."""
        return self.sums(*(value if self.first else 0.0 for value in values))

    def wait(self) -> None:
        """Let the others catch up."""
        if self.size > 1:
            distributed.barrier()

    def close(self) -> None:
        """Part from the others."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    def _reduce(self, values: tuple[float, ...], how: Any) -> list[float]:
        if how is None:
            return list(values)
        together: Tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(together, how)
        return [float(value) for value in together]
