"""Data-parallel training: one process or several under `torchrun`, with the same code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from collections.abc import Iterable


class Processes:
    """The processes that train together; alone when not started by `torchrun`.

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
        if self.size > 1:
            distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes (a missing one counts as zero)."""
        if self.size == 1:
            return
        wanted = [p for p in parameters if p.requires_grad]
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in wanted]
        flat = torch.cat([part.flatten() for part in parts])
        distributed.all_reduce(flat)
        flat /= self.size
        for parameter, part in zip(
            wanted, torch.split(flat, [p.numel() for p in wanted]), strict=True
        ):
            parameter.grad = part.view_as(parameter)

    def sums(self, *values: float) -> list[float]:
        """Each value summed over the processes."""
        return self._reduce(values, distributed.ReduceOp.SUM if self.size > 1 else None)

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over the processes."""
        return self._reduce(values, distributed.ReduceOp.MAX if self.size > 1 else None)

    def wait(self) -> None:
        """Let the others catch up."""
        if self.size > 1:
            distributed.barrier()

    def close(self) -> None:
        """Part from the others."""
        if self.size > 1:
            distributed.destroy_process_group()

    def _reduce(self, values: tuple[float, ...], how: Any) -> list[float]:
        if how is None:
            return list(values)
        together: Tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(together, how)
        return [float(value) for value in together]
