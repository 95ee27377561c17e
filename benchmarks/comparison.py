"""Record what `asr compare` found in `results/comparison.jsonl`, and show it in a document.

Each trial of the table, and each cell and lag of the long-lag task, becomes a row without the key
`figure`: they are told in `docs/cells.md`, between `<!-- comparison: begin -->` and its end, not in
the table of figures. `--document` writes that block anew from the rows that were recorded last.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import program
from benchmarks.figure import RESULTS, commit, machine
from training.comparison_report import table

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = re.compile(r"(<!-- comparison: begin.*?-->\n)(.*?)(<!-- comparison: end -->)", re.DOTALL)
NAME = "comparison.jsonl"
ORIGIN = ("comparison", "date", "commit", "machine", "command")


def main(arguments: Sequence[str]) -> int:
    """Print the rows; with `--record`, append them; with `--document`, show them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.comparison", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("out", type=Path, nargs="?", help="folder of the comparison")
    parser.add_argument("--command", default="", help="the call of asr compare that made it")
    parser.add_argument("--commit", help="what was run (default: this checkout's)")
    parser.add_argument("--record", action="store_true", help=f"append them to results/{NAME}")
    parser.add_argument("--document", type=Path, help="document to show the recorded rows in")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to record in")
    args = parser.parse_args(arguments)
    if args.out:
        lines = [json.dumps(row) for row in rows_of(args.out, args.command, args.commit)]
        if args.record:
            with (args.results / NAME).open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
        print("\n".join(lines))
    if args.document:
        text = filled(args.document.read_text("utf-8"), recorded(args.results))
        args.document.write_text(text, "utf-8")
    return 0


def rows_of(out: Path, command: str, commit_run: str | None = None) -> list[dict[str, Any]]:
    """The rows of one comparison, each with where it comes from.

    Args:
        out: its folder.
        command: what made it.
        commit_run: of the code that was run, or None for that of this checkout.
    """
    today = datetime.now(UTC).date().isoformat()
    values = (out.name, today, commit_run or commit(), machine(), command)
    origin = dict(zip(ORIGIN, values, strict=True))
    found = [{**origin, "kind": "trial", **row} for row in _lines(out / "table.jsonl")]
    lags = out / "lags.jsonl"
    if lags.exists():
        found += [{**origin, "kind": "lag", **row} for row in _lines(lags)]
    return found


def recorded(results: Path) -> list[dict[str, Any]]:
    """The rows of the comparison that was recorded last."""
    rows = _lines(results / NAME)
    return [row for row in rows if all(row[key] == rows[-1][key] for key in ORIGIN)]


def filled(document: str, rows: Sequence[dict[str, Any]]) -> str:
    """A document whose block shows some rows: trials, long lags, and how they were made."""
    return BLOCK.sub(lambda match: f"{match[1]}{shown(rows)}{match[3]}", document)


def shown(rows: Sequence[dict[str, Any]]) -> str:
    """Rows in Markdown."""
    trials = [row for row in rows if row["kind"] == "trial"]
    lags = [row for row in rows if row["kind"] == "lag"]
    first = rows[0]
    made = f"By `{first['command']}` at {first['commit']} on {first['machine']}."
    return "\n".join(["", table(trials), *([_lag_table(lags)] if lags else []), made, ""])


def _lag_table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean accuracy at each lag, lowest and highest in brackets, one line a cell."""
    lags = sorted({row["lag"] for row in rows})
    lines = [
        f"| long-lag task | {' | '.join(f'{lag} frames' for lag in lags)} |",
        f"|{'---|' * (1 + len(lags))}",
    ]
    for cell in dict.fromkeys(row["cell"] for row in rows):
        own = {row["lag"]: row for row in rows if row["cell"] == cell}
        name = f"{cell}, rate {next(iter(own.values()))['rate']:g}"
        values = [
            f"{own[lag]['mean']:.0%} ({own[lag]['lowest']:.0%} … {own[lag]['highest']:.0%})"
            for lag in lags
        ]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    program.run(main)
