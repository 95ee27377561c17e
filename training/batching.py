"""Which utterances are seen when: batches of like length, sources mixed by weight, one seed.

The order is a function of the seed and the number of batches drawn before, so a resumed run goes
on with exactly the batches that an uninterrupted one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Batch:
    """Numbers of utterances of one source that are trained on together.

    Attributes:
        source: number of the source.
        rounds: how often the source had been gone through before.
        members: numbers of its utterances.
    """

    source: int
    rounds: int
    members: tuple[int, ...]


def plan(
    lengths: Sequence[int], bound: int, rng: np.random.Generator, *, short_first: bool
) -> list[tuple[int, ...]]:
    """Cut one pass over a source into batches.

    Args:
        lengths: samples of each utterance.
        bound: on members × longest member, in samples; a longer utterance is a batch of its own.
        rng: lengths are jittered by it before sorting, and the batches shuffled.
        short_first: leave the batches in order of length.

    Returns:
        Every utterance once.
    """
    jittered = np.asarray(lengths) * rng.uniform(0.85, 1.15, len(lengths))
    batches: list[tuple[int, ...]] = []
    current: list[int] = []
    longest = 0
    for number in np.argsort(jittered, kind="stable").tolist():
        longest = max(longest, int(lengths[number]))
        if current and longest * (len(current) + 1) > bound:
            batches.append(tuple(current))
            current, longest = [], int(lengths[number])
        current.append(number)
    if current:
        batches.append(tuple(current))
    if short_first:
        return batches
    return [batches[number] for number in rng.permutation(len(batches))]


class BatchStream:
    """An endless stream of batches from several sources.

    Args:
        sources: lengths in samples of the utterances of each source.
        weights: share of the batches from each source.
        bound: see `plan`.
        seed: of all choices.
        short_first: each source's first pass goes from short to long.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[int]],
        weights: Sequence[float],
        bound: int,
        seed: int,
        *,
        short_first: bool,
    ) -> None:
        self.sources, self.bound, self.seed, self.short_first = sources, bound, seed, short_first
        self.shares = np.asarray(weights, float) / sum(weights)
        self.drawn = 0
        self._passes = [self._batches(source) for source in range(len(sources))]

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        rng = np.random.default_rng((self.seed, 1, self.drawn))
        self.drawn += 1
        return next(self._passes[int(rng.choice(len(self.shares), p=self.shares))])

    def skip(self, batches: int) -> None:
        """Go past that many batches, as when a run is resumed."""
        for _ in range(batches):
            next(self)

    def _batches(self, source: int) -> Iterator[Batch]:
        rounds = 0
        while True:
            rng = np.random.default_rng((self.seed, 2, source, rounds))
            ordered = self.short_first and rounds == 0
            for members in plan(self.sources[source], self.bound, rng, short_first=ordered):
                yield Batch(source, rounds, members)
            rounds += 1
