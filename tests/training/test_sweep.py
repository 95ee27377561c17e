"""`--sweep`: every combination once, and nothing that was not meant."""

from __future__ import annotations

import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ConfigError
from training.sweep import Sweep, grid, parse_sweep

VALUES = st.one_of(
    st.integers(-9, 9).map(str),
    st.floats(0, 1).map(repr),
    st.text("ab,]", max_size=4).map(lambda text: f'"{text}"'),
    st.lists(st.integers(0, 9), max_size=3).map(str),
)


@given(st.lists(VALUES, min_size=1, max_size=5, unique=True))
def test_values_come_apart_at_their_commas(values: list[str]) -> None:
    """Lists and strings may hold commas of their own."""
    assert parse_sweep(f"a.b={','.join(values)}") == Sweep("a.b", tuple(values))
    for assignment in parse_sweep(f"a.b={','.join(values)}").assignments():
        tomllib.loads(assignment)


@given(st.lists(st.integers(1, 4), max_size=4))
def test_a_grid_is_the_product(sizes: list[int]) -> None:
    """Every combination once, each with one value of every setting."""
    sweeps = [Sweep(f"s.k{n}", tuple(map(str, range(size)))) for n, size in enumerate(sizes)]
    found = grid(sweeps)
    assert len(found) == len(set(found)) == math.prod(sizes)
    for combination in found:
        assert [part.partition("=")[0] for part in combination] == [s.key for s in sweeps]


def test_the_last_setting_changes_fastest() -> None:
    """The order of the table."""
    first, last = Sweep("a", ("1", "2")), Sweep("b", ("3", "4"))
    assert grid([first, last]) == [
        ("a=1", "b=3"),
        ("a=1", "b=4"),
        ("a=2", "b=3"),
        ("a=2", "b=4"),
    ]


@pytest.mark.parametrize("text", ["", "rate", "=1,2", "rate=", "rate=1,,2", "rate=1,", "rate=1,1"])
def test_what_is_no_sweep_is_refused(text: str) -> None:
    """A value that is missing, or stands there twice, is a slip."""
    with pytest.raises(ConfigError, match="--sweep"):
        parse_sweep(text)


def test_a_setting_is_swept_once() -> None:
    """Of two sweeps of one setting the later would win in silence."""
    with pytest.raises(ConfigError, match="--sweep a: give all its values in one"):
        grid([Sweep("a", ("1",)), Sweep("a", ("2",))])
