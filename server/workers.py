"""Several processes behind one port: each has its own event loop, engine and core.

One process, the supervisor, opens the port, forks the workers and waits. All of them accept from
the same listening socket, an idle one first; nothing that waits there is lost with a worker. A
worker that dies is replaced; where they keep dying, the supervisor stops the others in order and
gives up. The supervisor loads no model and starts no thread, so that forking is safe at any time.
Workers notice when it is gone, and drain.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import sys
import time
import traceback
from collections import deque
from typing import TYPE_CHECKING, Final

from asr.errors import ConfigError, Error
from server import metrics
from server.logs import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.metrics import Board

_log = logging.getLogger(__name__)

DEATHS: Final = 5  # deaths of workers
DEATHS_SECONDS: Final = 60.0  # within so long are too many
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)  # that we act on
TOLD: Final = {0, -signal.SIGTERM, -signal.SIGINT}  # exit codes of a worker that was told to stop


class Supervisor:
    """Starts workers, replaces those that die, and stops all of them.

    Args:
        count: workers, ≥ 1.
        work: what each does, in its own process: it gets its number, what to call when it takes
            sessions, and the lifeline, a file that can be read when the supervisor is gone. It
            returns the exit code.
        board: where they count; the supervisor notes their deaths.
        ready: called once, when all of them take sessions.
        patience: seconds that a worker may take to stop before it is killed.

    Raises:
        ConfigError: this system cannot fork.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int, Callable[[], None], int], int],
        board: Board,
        ready: Callable[[], None],
        patience: float,
    ) -> None:
        if not hasattr(os, "fork"):
            raise ConfigError("this system cannot fork: start several servers instead of workers")
        self._count = count
        self._work = work
        self._board = board
        self._ready = ready
        self._patience = patience
        self._workers: dict[int, int] = {}  # number by process id
        self._loaded: set[int] = set()  # process ids of those that have taken sessions
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._said_ready = False
        self._stop_by: float | None = None  # when the patience ends; None while running
        self._code = 0
        self._reports, self._report = os.pipe()  # a worker writes its process id when it is ready
        self._lifeline, self._alive = os.pipe()  # nobody writes; readable when we are gone
        self._wakeup, self._signals = os.pipe()  # the numbers of signals, a byte each

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT, and until all workers are gone.

        Returns:
            0 after an orderly stop; 1 when workers could not start or kept dying.
        """
        for pipe in (self._signals, self._reports):
            os.set_blocking(pipe, False)
        signal.set_wakeup_fd(self._signals)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        for worker in range(self._count):
            self._start(worker)
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup, selectors.EVENT_READ, self._on_signals)
            selector.register(self._reports, selectors.EVENT_READ, self._on_reports)
            while self._workers:
                for key, _ in selector.select(self._remaining()):
                    key.data()
                if self._remaining() == 0:
                    self._send(signal.SIGKILL)
        return self._code

    def _remaining(self) -> float | None:
        return None if self._stop_by is None else max(0.0, self._stop_by - time.monotonic())

    def _start(self, number: int) -> None:
        # A signal that a worker gets before it has handlers of its own must not be taken for ours:
        # it has a copy of them, and of the pipe that they write to.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        child = os.fork()
        if child:
            self._workers[child] = number
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for inherited in SIGNALS:
                signal.signal(inherited, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is about to read everything anyway
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for ours in (self._alive, self._reports, self._wakeup, self._signals):
                os.close(ours)
            code = self._work(number, self._report_ready, self._lifeline)
        except Error as error:
            print(f"asr: {error}", file=sys.stderr)  # noqa: T201 - as the command itself would
        except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(code)

    def _report_ready(self) -> None:
        os.write(self._report, os.getpid().to_bytes(8, "little"))

    def _on_reports(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._loaded.add(int.from_bytes(os.read(self._reports, 8), "little"))
        if not self._said_ready and self._loaded.issuperset(self._workers):
            self._said_ready = True
            self._ready()

    def _on_signals(self) -> None:
        for number in os.read(self._wakeup, 64):
            if number == signal.SIGCHLD:
                self._bury()
            elif number == signal.SIGHUP:
                self._send(signal.SIGHUP)
            elif self._stop_by is None:
                self._stop(0)
            else:  # a second one: at once
                self._send(signal.SIGKILL)
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

    def _stop(self, code: int) -> None:
        """Have all workers drain and end."""
        self._code = code
        self._stop_by = time.monotonic() + self._patience
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for child in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def _bury(self) -> None:
        """Take leave of workers that are gone, and replace them unless we stop."""
        for child in list(self._workers):
            gone, status = os.waitpid(child, os.WNOHANG)
            if gone:
                self._on_reports()  # what it said before: only now it is certain to be there
                self._mourn(child, self._workers.pop(child), os.waitstatus_to_exitcode(status))

    def _mourn(self, child: int, number: int, code: int) -> None:
        self._board.clear_gauges(number)
        started = child in self._loaded
        self._loaded.discard(child)
        if self._stop_by is not None:
            self._code = self._code or (0 if code in TOLD else 1)
            return
        self._board.rows[number][metrics.FIRST[metrics.RESTARTS.name]] += 1
        now = time.monotonic()
        self._deaths.append(now)
        often = len(self._deaths) == DEATHS and now - self._deaths[0] < DEATHS_SECONDS
        if often or not (started or self._said_ready):
            why = f"{DEATHS} workers died within a minute" if often else "a worker cannot start"
            tell(_log, f"{why}; giving up", logging.ERROR, worker=number, code=code)
            self._stop(1)
        else:
            tell(_log, "worker died; it is replaced", logging.ERROR, worker=number, code=code)
            self._start(number)
