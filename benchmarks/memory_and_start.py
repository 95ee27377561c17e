"""What a user waits for and gives: first word and memory of `asr transcribe`, and `asr --help`.

Targets: the first word at most 2 s after typing `asr transcribe`, at most 200 MB of memory (largest
resident set of the process), help within 0.3 s. A first run of each, not counted, lets Python write
its byte code and the system read the files. Needs a system with wait4: Linux, macOS, BSD.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import inputs, program
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    from collections.abc import Sequence

MEGABYTE = 1_000_000
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command.

    Attributes:
        first: seconds from its start to its first character on standard output.
        whole: seconds until it had ended.
        memory: largest resident set, in MB of 1,000,000 bytes.
        processor: seconds of processor time; much less than `whole` where the machine was busy.
    """

    first: float
    whole: float
    memory: float
    processor: float


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if a target was missed."""
    parser = inputs.parser("memory_and_start", str(__doc__))
    parser.add_argument("--runs", type=int, default=5, help="counted runs (default: 5)")
    args = parser.parse_args(arguments)
    file = str(inputs.utterances(args)[0].path)
    model = ["--model", args.model] if args.model else []
    transcribe = ["transcribe", *model, "--precision", args.precision, file]
    runs = [run(transcribe) for _ in range(args.runs + 1)][1:]
    helps = [run(["--help"]) for _ in range(args.runs + 1)][1:]
    first_word = "From typing `asr transcribe` to the first word"
    figures = [
        _figure("memory", "Memory of `asr transcribe`", "MB", 200, [r.memory for r in runs], runs),
        _figure("first_word", first_word, "s", 2, [r.first for r in runs], runs),
        _figure("help", "`asr --help`", "s", 0.3, [r.whole for r in helps], helps),
    ]
    return report("memory_and_start", figures, arguments, args.results if args.record else None)


def _figure(
    name: str, title: str, unit: str, target: float, values: list[float], runs: Sequence[Run]
) -> Figure:
    details = {"processor_s": statistics.median(run.processor for run in runs)}
    spread = min(values), max(values)
    median = statistics.median(values)
    return Figure(name, title, median, unit, len(values), spread, target, details=details)


def run(arguments: Sequence[str]) -> Run:
    """Run the command line once.

    Raises:
        RuntimeError: it failed, or it printed nothing.
    """
    code = "import sys; from asr.commands import main; sys.exit(main())"
    begin = time.perf_counter()
    output, theirs = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=theirs)
    os.close(theirs)
    with os.fdopen(output, "rb") as file:
        first = file.read(1)
        seen = time.perf_counter()
        file.read()
    _, status, usage = os.wait4(process.pid, 0)  # unlike wait(), it tells the memory
    process.returncode = os.waitstatus_to_exitcode(status)
    end = time.perf_counter()
    if process.returncode or not first:
        raise RuntimeError(f"asr {' '.join(arguments)}: failed or printed nothing")
    memory = usage.ru_maxrss * RSS_UNIT / MEGABYTE
    return Run(seen - begin, end - begin, memory, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    program.run(main)
