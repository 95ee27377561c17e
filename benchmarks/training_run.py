"""Record a training run, what it was to show and what it showed, in `results/training.jsonl`."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import program
from benchmarks.figure import RESULTS, commit, machine

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Print the row; with `--record`, append it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_run", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="folder of the run, such as runs/english")
    parser.add_argument("--hypothesis", required=True, help="what the run was to show")
    parser.add_argument("--outcome", required=True, help="what it showed, in a sentence")
    parser.add_argument("--record", action="store_true", help="append it to results/training.jsonl")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to record in")
    args = parser.parse_args(arguments)
    row = summary(args.run) | {"hypothesis": args.hypothesis, "outcome": args.outcome}
    line = json.dumps(row)
    if args.record:
        with (args.results / "training.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    print(line)
    return 0


def summary(run: Path) -> dict[str, Any]:
    """What a run's own files say of it.

    Args:
        run: its folder, with `recipe.json` and `metrics.jsonl`.
    """
    recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    last, validations = rows[-1], [row for row in rows if "validation" in row]
    kept = ("hours", "validation")
    return {
        "run": recipe["name"],
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "steps": last["step"],
        "hours": round(last["hours"], 2),
        "minutes": round(last["minutes"], 1),
        "network": recipe["network"],
        "heads": recipe["heads"],
        "data": [source.get("manifest") or source.get("split") for source in recipe["data"]],
        "last": {key: validations[-1][key] for key in kept} if validations else None,
        "best_wer": min(
            (row["validation"]["wer"] for row in validations if "wer" in row["validation"]),
            default=None,
        ),
    }


if __name__ == "__main__":
    program.run(main)
