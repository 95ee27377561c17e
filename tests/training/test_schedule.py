"""The course of the learning rate: up, level, down, never out of its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.recipe import Budget, Optimiser
from training.schedule import learning_rate, share_done

OPTIMISERS = st.builds(
    Optimiser,
    rate=st.floats(1e-5, 1),
    warmup=st.integers(0, 500),
    decay=st.floats(0, 1),
    final=st.floats(0, 1),
)


@given(OPTIMISERS, st.integers(0, 2000), st.floats(0, 1.2))
def test_the_rate_stays_within_its_bounds(chosen: Optimiser, step: int, done: float) -> None:
    """Also when a run overshoots its budget by a step."""
    assert learning_rate(chosen, step, done) > 0 or chosen.final == 0
    assert learning_rate(chosen, step, done) <= chosen.rate * (1 + 1e-12)


@given(OPTIMISERS, st.floats(0, 1), st.floats(0, 1))
def test_it_never_rises_after_the_warm_up(chosen: Optimiser, a: float, b: float) -> None:
    """Less of the budget left, no higher rate."""
    early, late = sorted((a, b))
    rates = [learning_rate(chosen, chosen.warmup + 1, done) for done in (early, late)]
    assert rates[1] <= rates[0] * (1 + 1e-12)


@given(OPTIMISERS, st.integers(1, 499))
def test_it_rises_in_a_line_while_warming_up(chosen: Optimiser, step: int) -> None:
    """Step n of the warm-up has n / warmup of the rate."""
    wanted = chosen.rate * min(1, step / max(1, chosen.warmup))
    if chosen.decay < 1:
        assert learning_rate(chosen, step - 1, 0) == pytest.approx(wanted)


def test_plateau_and_end_are_where_the_recipe_says() -> None:
    """Level until the last `decay` of the budget, half way down in the middle of that."""
    chosen = Optimiser(rate=1, warmup=10, decay=0.4, final=0.1)
    rates = [learning_rate(chosen, 50, done) for done in (0, 0.6, 0.8, 1)]
    assert rates == pytest.approx([1, 1, 0.55, 0.1])


@pytest.mark.parametrize(
    ("budget", "share"),
    [(Budget(steps=40), 0.25), (Budget(minutes=30), 0.1), (Budget(hours=8), 0.5)],
)
def test_the_budget_counts_what_it_is_given_in(budget: Budget, share: float) -> None:
    """10 steps, 3 minutes and 4 hours of audio are done."""
    assert share_done(budget, 10, 3, 4) == share
