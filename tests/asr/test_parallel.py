"""Many things are worked on as one after the other would be, only sooner."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from asr.errors import DataError
from asr.parallel import AHEAD, THREADS, as_done, each

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def blocked(_tool: int, _thing: int) -> bool:
    """Whether Ctrl-C is kept from this process."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows blocks no signals")
def test_ctrl_c_never_reaches_a_worker() -> None:
    """Not even while it starts, when it would leave its trace; the parent gets it and ends them."""
    assert list(each(partial(tool, 3), blocked, range(3), 2)) == [True] * 3
    assert not blocked(0, 0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_is_handed_out_than_is_soon_worked_on(jobs: int) -> None:
    """A list of a million recordings must not lie in memory as a million tasks."""
    taken, most = 0, 0

    def things() -> Iterator[int]:
        nonlocal taken
        for taken in range(1, 21):  # noqa: UP028 - what is taken is counted
            yield taken

    done: list[int] = []
    for thing, (outcome, _) in as_done(
        partial(tool, 3), multiply, filter((13).__ne__, things()), jobs
    ):
        most = max(most, taken - len(done))
        done.append(thing)
        assert outcome == 3 * thing
    assert sorted(done) == [n for n in range(1, 21) if n != 13]
    assert most <= AHEAD * jobs + 1


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
