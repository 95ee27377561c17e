"""`asr serve` as a process of its own, with the recogniser of tones in place of the model."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds
_CODE = """
import argparse, sys
import asr
from asr.commands import serve
from tests.server.tones import recognizer
asr.load = lambda *args, **kwargs: recognizer()
parser = argparse.ArgumentParser()
serve.add_arguments(parser)
sys.exit(serve.run(parser.parse_args(sys.argv[1:])))
"""


class Command:
    """A running `asr serve`.

    Attributes:
        process: to be signalled.
        said: lines that it wrote to standard error before and with `listening on`.
        url: where it listens.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self.url = self.read_until(r"(?<=listening on )wss?://[^\s\"]+")

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.url.split(":")[2].partition("/")[0])

    def read_until(self, pattern: str) -> str:
        """Read lines of its log up to the first in which that is found; what was found."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(pattern, line):
                return found[0]
        raise AssertionError(f"it never said {pattern!r}, but:\n{''.join(self.said)}")

    def end(self) -> tuple[int, str]:
        """Wait for its end; the exit code, and what it said last."""
        assert self.process.stderr is not None
        rest = self.process.stderr.read()
        return self.process.wait(PATIENCE), rest


@contextlib.contextmanager
def serve(*arguments: str, **environment: str) -> Iterator[Command]:
    """Run it on a free port; it is ended with what it started, if it is still there."""
    with subprocess.Popen(
        [sys.executable, "-c", _CODE, "--port", "0", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Command(process)
        finally:
            process.kill()
