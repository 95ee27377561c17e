"""One job for each of many things, in several processes.

`each` gives results in the order of the things, `as_done` as they become known. What a job needs (a
model, mostly) is loaded once in every process. Each process has one thread, so that figures are
those of one core and processes do not get in each other's way.

No process outlives the work: each waits for the end of a pipe whose other end this process holds,
and which closes however this process ends. What a worker writes must therefore be written whole.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from asr.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection

Tool = TypeVar("Tool")
Thing = TypeVar("Thing")
Outcome = TypeVar("Outcome")

# BLAS and PyTorch read it when they are loaded.
THREADS = "OMP_NUM_THREADS"
AHEAD = 2  # things handed out for each process: one to work on, one that waits for it


def each(
    load: Callable[[], Tool],
    work: Callable[[Tool, Thing], Outcome],
    things: Sequence[Thing],
    jobs: int,
) -> Generator[Outcome, None, None]:
    """What `work` makes of each thing, in their order, as it becomes known.

    Args:
        load: makes the tool, once in every process; with several jobs also once in this one, so
            that what is wrong with a model is said once and not by dying workers.
        work: does one thing with the tool. With several jobs it and `load` must be picklable.
        things: what to work on.
        jobs: processes, ≥ 1; with one, everything is done in this process.

    Raises:
        Error: a process died. What `load` and `work` raise comes through.
    """
    jobs = min(jobs, len(things))
    if jobs <= 1:
        tool = load()
        yield from (work(tool, thing) for thing in things)
        return
    load()
    waiting: dict[int, Outcome] = {}
    due = 0
    numbered = partial(_work_on_numbered, work)
    for (number, _), outcome in as_done(load, numbered, enumerate(things), jobs):
        waiting[number] = outcome
        while due in waiting:
            yield waiting.pop(due)
            due += 1


def as_done(
    load: Callable[[], Tool],
    work: Callable[[Tool, Thing], Outcome],
    things: Iterable[Thing],
    jobs: int,
) -> Generator[tuple[Thing, Outcome], None, None]:
    """Each thing and what `work` makes of it, as it becomes known.

    However many things there are, no more than `AHEAD` for each process are handed out, and nothing
    but those is kept. With several processes SIGTERM does meanwhile what Ctrl-C does: the work in
    hand is thrown away at once, as it is whenever not all outcomes are taken.

    Args:
        load: makes the tool, once in every process that works.
        work: as in `each`.
        things: what to work on; taken one by one.
        jobs: processes, ≥ 1; with one, everything is done in this process.

    Raises:
        Error: as in `each`.
    """
    if jobs <= 1:
        tool = load()
        yield from ((thing, work(tool, thing)) for thing in things)
        return
    context = multiprocessing.get_context("spawn")  # forking is unsafe once a library has threads
    end, ours = context.Pipe(duplex=False)
    with (
        _sigterm_as_ctrl_c(),
        end,
        ours,
        _one_thread(),
        ProcessPoolExecutor(jobs, context, _prepare, (load, end)) as pool,
    ):
        rest = iter(things)
        pending: dict[Future[Outcome], Thing] = {}
        try:
            while True:
                for thing in islice(rest, AHEAD * jobs - len(pending)):
                    with _uninterrupted():  # a process may be started here
                        pending[pool.submit(_work_here, work, thing)] = thing
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
        except BrokenProcessPool as error:
            raise Error("a worker process died (out of memory?); try fewer --jobs") from error
        finally:
            if pending:
                ours.close()  # the workers end at once
            pool.shutdown(wait=True, cancel_futures=True)


_own = deque[Any](maxlen=1)  # a worker process's tool, once prepared


def _prepare(load: Callable[[], Any], end: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops the rest
    threading.Thread(target=_end_with, args=(end,), daemon=True).start()
    _own.append(load())


def _end_with(end: Connection) -> None:
    """End this process when nobody holds the other end of a pipe any more, whatever it is doing."""
    end.poll(None)
    os._exit(1)


def _work_on_numbered(work: Callable[[Any, Any], Any], tool: Any, numbered: tuple[int, Any]) -> Any:
    return work(tool, numbered[1])


def _work_here(work: Callable[[Any, Any], Any], thing: Any) -> Any:
    return work(_own[0], thing)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off meanwhile, and keep it from processes that are started meanwhile for good.

    A process inherits what its parent blocks, so it is safe from its first moment on; `_prepare`
    comes a second later. Windows knows no blocking.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM interrupt meanwhile, unless whoever calls deals with it or is no main thread."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(_number: int, _frame: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)  # put off where `_uninterrupted` puts it off


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes started meanwhile use one thread each."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before
