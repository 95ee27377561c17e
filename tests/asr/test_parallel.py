"""Many things are worked on as one after the other would be, only sooner."""

from __future__ import annotations

import os
from functools import partial

import pytest

from asr.errors import DataError
from asr.parallel import THREADS, each


def tool(number: int) -> int:
    """What every process loads."""
    return number


def multiply(factor: int, thing: int) -> tuple[int, str | None]:
    """The work, and how many threads the process may use."""
    if thing == 13:
        raise DataError("13 cannot be multiplied")
    return factor * thing, os.environ.get(THREADS)


def test_results_come_in_the_order_of_the_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is done first; each process has one thread, this one keeps its own."""
    monkeypatch.setenv(THREADS, "7")
    alone = list(each(partial(tool, 3), multiply, range(5), 1))
    together = list(each(partial(tool, 3), multiply, range(5), 2))
    assert alone == [(3 * n, "7") for n in range(5)]
    assert together == [(3 * n, "1") for n in range(5)]
    assert os.environ[THREADS] == "7"


def test_the_tool_is_made_once() -> None:
    """Loading a model for each recording would take longer than the work."""
    made: list[int] = []

    def load() -> int:
        made.append(1)
        return 2

    assert [value for value, _ in each(load, multiply, [1, 2, 3], 1)] == [2, 4, 6]
    assert list(each(load, multiply, [], 4)) == []
    assert len(made) == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_the_work_comes_through(jobs: int) -> None:
    """As it is, from any process."""
    with pytest.raises(DataError, match="13 cannot"):
        list(each(partial(tool, 3), multiply, [1, 13], jobs))


def test_without_a_bound_on_threads_there_is_none_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The processes' setting is theirs."""
    monkeypatch.delenv(THREADS, raising=False)
    assert list(each(partial(tool, 1), multiply, [1, 2], 2)) == [(1, "1"), (2, "1")]
    assert THREADS not in os.environ
