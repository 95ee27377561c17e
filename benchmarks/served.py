"""A server to be measured: `asr serve` as a process of its own, on a core of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from asr.loadtest import processes

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from asr.loadtest.processes import Usage

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
COMMAND: Final = "import sys; from asr.commands import main; sys.exit(main())"
LISTENING: Final = re.compile(r"listening on (ws://\S+:(\d+))/")
FAILED: Final = re.compile(
    r"(?m)^(?:error|critical): .*|^Traceback .*|^--- Logging error.*|.*exception was never.*"
)


class Served:
    """A server that runs.

    Attributes:
        url: for clients.
        port: its TCP port.
        process: the server.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        found = self._wait()
        self.url, self.port = found[1], int(found[2])

    def _wait(self) -> re.Match[str]:
        """Wait until it takes sessions.

        Raises:
            RuntimeError: it does not.
        """
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if found := LISTENING.search(self.log()):
                return found
            time.sleep(0.02)
        raise RuntimeError(f"asr serve did not start:\n{self.log()}")

    def log(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text("utf-8", "replace")

    def failures(self) -> list[str]:
        """Lines of its log that tell of a fault of its own."""
        return FAILED.findall(self.log())

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def usage(self) -> Usage:
        """What it has taken.

        Raises:
            RuntimeError: it is gone, or the system does not tell.
        """
        found = processes.usage((self.process.pid,))
        if found is None:
            raise RuntimeError("processor and memory of the server cannot be read; is it Linux?")
        return found

    def metrics(self) -> dict[str, float]:
        """Its own figures, by name and labels, such as `asr_errors_total{kind="internal"}`."""
        address = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(address, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


@contextlib.contextmanager
def serving(args: Namespace, *options: str, sessions: int = 64) -> Iterator[Served]:
    """Run `asr serve` on the last core that this process may use, and this process on the others.

    Args:
        args: with the model that was asked for; see `inputs.parser`.
        options: more of the command line.
        sessions: that it is to take at a time, and a few more.
    """
    command = [sys.executable, "-c", COMMAND, "serve", "--port", "0"]
    command += ["--precision", args.precision]
    command += ["--model", args.model] if args.model else []
    command += ["--decoder", args.decoder] if args.decoder else []
    places = str(sessions + sessions // 10 + 8)
    command += ["--max-sessions", places, "--max-connects", "2000", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with TemporaryDirectory() as folder, apart() as (server_core, _):
        log = Path(folder) / "log"
        with log.open("wb") as file, _on(server_core):
            process = subprocess.Popen(command, stderr=file, env=environment)
        try:
            yield Served(process, log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def apart() -> Iterator[tuple[set[int], set[int]]]:
    """Keep this process off the core that is the server's; the server's core, and ours.

    Where there is one core only, both share it.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield set(), set()
        return
    before = os.sched_getaffinity(0)
    theirs = {max(before)}
    ours = before - theirs or before
    with _on(ours):
        yield theirs, ours


@contextlib.contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """Run this process, and what it starts meanwhile, on these cores; none are all."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
