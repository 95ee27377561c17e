"""The order of training: complete, bounded, and a function of the seed alone."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.batching import BatchStream, plan

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=40)
BOUNDS = st.integers(1, 1500)


def stream(sources: list[list[int]], bound: int, seed: int, **more: bool) -> BatchStream:
    """Batches of sources of equal weight."""
    return BatchStream(sources, [1.0] * len(sources), bound, seed, **{"short_first": True} | more)


@given(LENGTHS, BOUNDS, st.integers(0, 99))
def test_a_pass_holds_every_utterance_once(lengths: list[int], bound: int, seed: int) -> None:
    """Nothing is lost in the cutting, nothing is favoured, in whichever order."""
    for ordered in (False, True):
        batches = plan(lengths, bound, np.random.default_rng(seed), short_first=ordered)
        assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))


@given(LENGTHS, BOUNDS, st.integers(0, 99))
def test_no_batch_is_larger_than_the_bound(lengths: list[int], bound: int, seed: int) -> None:
    """The bound is what keeps a run within memory; only a single utterance may exceed it."""
    for batch in plan(lengths, bound, np.random.default_rng(seed), short_first=False):
        padded = len(batch) * max(lengths[number] for number in batch)
        assert padded <= bound or len(batch) == 1


@given(st.lists(LENGTHS, min_size=1, max_size=3), BOUNDS, st.integers(0, 99), st.integers(0, 60))
def test_skipping_is_drawing(sources: list[list[int]], bound: int, seed: int, count: int) -> None:
    """A resumed run goes on with the batches that an uninterrupted one would have seen."""
    drawn, skipped = stream(sources, bound, seed), stream(sources, bound, seed)
    list(islice(drawn, count))
    skipped.skip(count)
    assert skipped.drawn == drawn.drawn == count
    assert list(islice(drawn, 10)) == list(islice(skipped, 10))


@given(LENGTHS, BOUNDS)
def test_each_pass_is_another_order_of_the_same(lengths: list[int], bound: int) -> None:
    """`rounds` counts the passes; a pass begins when the one before is complete."""
    seen: dict[int, Counter[int]] = {}
    batches = stream([lengths], bound, 1)
    while len(seen) < 4:
        batch = next(batches)
        seen.setdefault(batch.rounds, Counter()).update(batch.members)
    assert all(seen[rounds] == Counter(range(len(lengths))) for rounds in range(3))


def test_the_first_pass_goes_from_short_to_long() -> None:
    """Short utterances teach alignment first; the jitter is at most 15 % either way."""
    lengths = list(range(100, 1100, 10))
    batches = stream([lengths], 4000, 1)
    first = [next(batches) for _ in range(10)]
    means = [np.mean([lengths[number] for number in batch.members]) for batch in first]
    assert means == sorted(means)


def test_sources_are_drawn_by_weight() -> None:
    """Weight 3 against 1 is three batches of four."""
    batches = BatchStream([[10] * 50, [10] * 50], [3.0, 1.0], 50, 1, short_first=False)
    drawn = Counter(batch.source for batch in islice(batches, 2000))
    assert 0.72 < drawn[0] / 2000 < 0.78


def test_another_seed_is_another_order() -> None:
    """Otherwise a second seed would measure nothing."""
    sources = [[100] * 50]
    first, second = (
        list(islice(stream(sources, 300, seed, short_first=False), 20)) for seed in (1, 2)
    )
    assert first != second
