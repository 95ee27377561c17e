"""Examples in the order of their batches, made here or ahead of time by processes beside.

A GPU goes through a batch in less time than one core needs to read it, distort it and compute its
features. What an example is like depends on its batch alone, so it does not matter who makes it.
"""

from __future__ import annotations

import pickle
import signal
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from training.batching import Batch
    from training.examples import ExampleMaker, Examples

AHEAD = 2  # batches that each process has ready, at most


def prepared(
    make: ExampleMaker, batches: Iterator[Batch], workers: int
) -> Generator[Examples | None]:
    """The examples of batches, in order; of one that has none that can be used, None.

    Args:
        make: makes them, and counts what was left out when its turn has come.
        batches: endless; drawn from ahead of time if there are workers.
        workers: processes that make them; 0: this one does. They end when the generator is closed,
            and only then: a signal does not end them.
    """
    if not workers:
        yield from map(make, batches)
        return
    loader: DataLoader[bytes] = DataLoader(
        _Batches(make),
        batch_size=None,
        sampler=batches,  # what it yields is handed to the data set as it is
        num_workers=workers,
        prefetch_factor=AHEAD,
        collate_fn=bytes,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # it draws a seed that nobody uses: not from the one in use
    )
    for packed in loader:
        examples, left_out = pickle.loads(packed)  # noqa: S301 - of our own process
        make.note(left_out)
        yield examples


class _Batches(Dataset[bytes]):
    """The examples of any batch, pickled.

    PyTorch would put every tensor into shared memory, with a file for each: a batch has hundreds.
    """

    def __init__(self, make: ExampleMaker) -> None:
        self._make = make

    def __getitem__(self, batch: Batch) -> bytes:
        return pickle.dumps(self._make.prepare(batch))


def _leave_signals(_worker: int) -> None:
    """Let the process that trains decide what is to be done: a terminal tells all of them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
