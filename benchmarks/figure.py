"""A measured figure: how it is told to people, to scripts and to `results/`.

Every benchmark prints a line for people and then, last, one JSON object a figure: name, title,
value, unit, runs, spread, target, whether it was met, machine, commit, date, command and details.
`--record` appends the same objects to `results/<benchmark>.jsonl`; `results/README.md` explains
them.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        name: of the figure, such as `realtime_factor`; unique among all benchmarks.
        title: what it is, for the table of figures.
        value: the median of the runs, if there were several.
        unit: such as `s`, `MB`, `words`; `fraction` is shown in percent, empty is a plain number.
        runs: how often it was measured.
        spread: smallest and largest value, or the interval that `details` names.
        at_most: target: the value must not exceed it.
        at_least: target: the value must reach it. A figure has one target or none.
        details: more that was measured, as JSON values.
    """

    name: str
    title: str
    value: float
    unit: str
    runs: int
    spread: tuple[float, float]
    at_most: float | None = None
    at_least: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def target(self) -> str | None:
        """The target as it is written, such as `≤ 0.02`."""
        if self.at_most is not None:
            return f"≤ {shown(self.at_most, self.unit)}"
        if self.at_least is not None:
            return f"≥ {shown(self.at_least, self.unit)}"
        return None

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    def line(self) -> str:
        """One line for people."""
        low, high = (shown(value, self.unit) for value in self.spread)
        told = f"{self.title}: {shown(self.value, self.unit)} ({low} to {high}, runs: {self.runs})"
        if self.target is None:
            return told
        return f"{told}; target {self.target}: {'met' if self.met else 'missed'}"

    def row(self, command: str) -> dict[str, object]:
        """What is recorded."""
        return {
            "figure": self.name,
            "title": self.title,
            "value": self.value,
            "unit": self.unit,
            "runs": self.runs,
            "spread": list(self.spread),
            "target": self.target,
            "met": self.met,
            "machine": machine(),
            "commit": commit(),
            "date": datetime.now(UTC).date().isoformat(),
            "command": command,
            "details": dict(self.details),
        }


def shown(value: float, unit: str) -> str:
    """A value with its unit, for people."""
    if unit == "fraction":
        return f"{100 * value:.2f} %"
    number = f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{number} {unit}".rstrip()


def report(
    benchmark: str, figures: Sequence[Figure], arguments: Sequence[str], results: Path | None
) -> int:
    """Print the figures, last those for scripts, and record them.

    Args:
        benchmark: the module's name.
        figures: at least one.
        arguments: with which it was called; paths are recorded by their last part only.
        results: the folder in which to record, or None.

    Returns:
        Exit code: 0, or 1 if a target was missed.
    """
    kept = [
        a
        for before, a in zip(["", *arguments], arguments, strict=False)
        if a != "--record" and not a.startswith("--results") and before != "--results"
    ]
    named = [Path(a).name if "/" in a or Path(a).exists() else a for a in kept]
    command = " ".join(["python -m", f"benchmarks.{benchmark}", *named])
    lines = [json.dumps(figure.row(command), ensure_ascii=False) for figure in figures]
    for figure in figures:
        print(figure.line())
    print("\n".join(lines))
    if results:
        results.mkdir(parents=True, exist_ok=True)
        with (results / f"{benchmark}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    return 1 if any(figure.met is False for figure in figures) else 0


def machine() -> str:
    """Processor, cores, system and Python; no name of a computer, no path."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # no Linux
        system = f"{platform.system()} {platform.release()}"
    return f"{cpu}, {os.cpu_count()} cores, {system}, Python {platform.python_version()}"


def commit() -> str:
    """The commit that was measured, `+` behind it if tracked files were changed since."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    asked = [
        subprocess.run([git, *ask], cwd=ROOT, capture_output=True, text=True, check=False)
        for ask in (["rev-parse", "--short=12", "HEAD"], ["diff", "--quiet", "HEAD", "--", "asr"])
    ]
    name = asked[0].stdout.strip()
    return f"{name}{'+' if asked[1].returncode else ''}" if name else "unknown"
