"""The well-behaved client beside those that are not, in a process of its own.

    python -m benchmarks.observer URL AUDIO…

It holds one session after the other in real time. `ready` is printed when it knows what it is to
hear; at the end of its standard input it finishes and prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from asr.loadtest import recordings
from asr.loadtest.client import address_of, speak
from asr.loadtest.figures import summary
from asr.loadtest.run import Run, Settings, alone
from benchmarks import program
from benchmarks.figure import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from asr.loadtest.recordings import Recording


def main(arguments: Sequence[str]) -> int:
    """Watch until nobody wants it any more."""
    url, *files = arguments
    said = recordings.read(map(Path, files))
    references = alone(url, said)
    print("ready", flush=True)
    print(json.dumps(summary(asyncio.run(_watch(url, said, references))).fields()))
    return 0


async def _watch(url: str, said: list[Recording], references: dict[str, Any]) -> Run:
    now = asyncio.get_running_loop().time
    wanted = threading.Thread(target=sys.stdin.read, daemon=True)
    wanted.start()
    begin, sessions, number = now(), [], 0
    while wanted.is_alive():
        sessions.append(await speak(address_of(url), said[number % len(said)]))
        number += 1
    end = now()
    return Run(Settings(1, end - begin), references, begin, end, sessions)


class Observer:
    """Runs one, for `with`.

    Args:
        url: of the server.
        files: what it says.

    Attributes:
        found: what it saw, as `Summary.fields` has it; there after the end.
    """

    def __init__(self, url: str, files: Sequence[Path]) -> None:
        command = [sys.executable, "-m", "benchmarks.observer", url, *map(str, files)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.found: dict[str, Any] = {}

    def __enter__(self) -> Self:
        assert self._process.stdout is not None  # noqa: S101 - piped
        if self._process.stdout.readline() != "ready\n":
            self._process.kill()
            raise RuntimeError("the observer heard nothing even before the others came")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        said, _ = self._process.communicate()  # closes its standard input
        if kind is None:
            self.found = json.loads(said)


if __name__ == "__main__":
    program.run(main)
