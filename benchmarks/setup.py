"""Setting up: time and space of `make demo` in a fresh clone, without any cache of packages.

The commit that is checked out is cloned into a folder of its own, which is removed afterwards. The
space is everything in that folder at the end: clone, history, environment. The time holds the
download, so it depends on the line. Targets: at most 3 minutes, at most 600 MB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import inputs, program
from benchmarks.figure import ROOT, Figure, report

if TYPE_CHECKING:
    from collections.abc import Sequence

MEGABYTE = 1_000_000
STANDARD_ERROR = 2  # what make says is no data


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if a target was missed.

    Raises:
        RuntimeError: git or make are missing, or the set-up failed.
    """
    parser = inputs.parser("setup", str(__doc__), data=False)
    parser.add_argument(
        "--source", type=Path, default=ROOT, help="repository to clone (default: this one)"
    )
    args = parser.parse_args(arguments)
    seconds, megabytes = set_up(args.source)
    figures = [
        Figure(f"setup.{name}", title, value, unit, 1, (value, value), at_most=target)
        for name, title, value, unit, target in (
            ("time", "`make demo` in a fresh clone, time", seconds, "s", 180),
            ("space", "`make demo` in a fresh clone, space", megabytes, "MB", 600),
        )
    ]
    return report("setup", figures, arguments, args.results if args.record else None)


def set_up(source: Path) -> tuple[float, float]:
    """Seconds and megabytes of `make demo` in a fresh clone of a repository."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("MAKE", "VIRTUAL_ENV"))}
    environment |= {"PIP_NO_CACHE_DIR": "1", "PYTHONPATH": ""}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        begin = time.perf_counter()
        for command in (
            [_tool("git"), "clone", "--quiet", "--no-hardlinks", str(source), str(clone)],
            [_tool("make"), "-C", str(clone), "demo", f"PYTHON={sys.executable}"],
        ):
            done = subprocess.run(command, env=environment, stdout=STANDARD_ERROR, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command[1:3])} failed")
        seconds = time.perf_counter() - begin
        return seconds, _bytes_in(clone) / MEGABYTE


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed")
    return found


def _bytes_in(folder: Path) -> int:
    """What the files of a folder occupy on the disk."""
    files = (path.lstat() for path in folder.rglob("*"))
    return sum(status.st_blocks * 512 for status in files)


if __name__ == "__main__":
    program.run(main)
