"""Many things are worked on as one after the other would be, only sooner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asr.errors import DataError
from asr.parallel import AHEAD, THREADS, as_done, each

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


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


def work_without_end(_tool: int, thing: int) -> int:
    """The process that does it; but of the things above 1 it never comes to an end."""
    if thing > 1:
        os.write(1, f"{os.getpid()}\n".encode())
        threading.Event().wait()
    return os.getpid()


def have_worked_without_end() -> None:
    """What the tests below start, which ends only when it is made to."""
    try:
        list(as_done(partial(tool, 3), work_without_end, [2, 3, 4, 5], 2))
    except KeyboardInterrupt:
        sys.exit(130)


def there(process: int) -> bool:
    """Whether a process is there, and no mere entry that nobody has asked for."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc whether processes are there")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_workers_end_with_whoever_started_them(number: signal.Signals, code: int) -> None:
    """However it ends, and without the end of what they work on: a model holds much memory."""
    program = f"from {__name__} import have_worked_without_end as work; work()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout
        assert parent.stderr
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(number)
        until = time.monotonic() + 30
        while (parent.poll() is None or any(map(there, workers))) and time.monotonic() < until:
            os.sched_yield()
        left = [process for process in (parent.pid, *workers) if there(process)]
        for process in left:
            os.kill(process, signal.SIGKILL)
        told = parent.stderr.read()
    assert left == []
    assert parent.returncode == code
    assert number == signal.SIGKILL or told == ""


def test_who_takes_no_more_waits_for_nobody() -> None:
    """The work in hand is thrown away, so its end is not waited for; signals are as before."""
    before = signal.getsignal(signal.SIGTERM)
    with closing(as_done(partial(tool, 3), work_without_end, [1, 2, 3], 2)) as outcomes:
        assert next(outcomes)[0] == 1
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


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
