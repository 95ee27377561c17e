"""The table of figures in README.md and docs/, made from `results/`.

Between `<!-- figures: begin … -->` and `<!-- figures: end -->` stands the latest recorded row of
every figure. Benchmarks or figures named behind `only:`, as in
`<!-- figures: begin only: wer company.words -->`, are shown alone, in that order. A figure that was
measured with another model than the one that ships is marked. With `--check` nothing is written:
exit code 1 if a table is stale.
"""

from __future__ import annotations

import argparse
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asr
from asr import bundle
from asr.errors import DataError
from asr.recognizer import DECODERS
from benchmarks import program
from benchmarks.figure import RESULTS, ROOT, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMER = " †"
BLOCK = re.compile(r"(<!-- figures: begin(.*?)-->\n)(.*?)(<!-- figures: end -->)", re.DOTALL)


def main(arguments: Sequence[str]) -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser("python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if one is stale")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: results")
    parser.add_argument(
        "documents", type=Path, nargs="*", help="default: README.md and all of docs/"
    )
    args = parser.parse_args(arguments)
    documents = args.documents or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    rows = latest(args.results)
    stale = False
    for document in documents:
        before = document.read_text("utf-8")
        after = filled(before, rows)
        if before == after:
            continue
        stale = True
        if args.check:
            print(f"{document.name}: the table of figures is stale; run make tables")
        else:
            document.write_text(after, "utf-8")
            print(f"{document.name}: wrote the table of figures")
    return 1 if args.check and stale else 0


def latest(results: Path) -> dict[str, list[dict[str, Any]]]:
    """The last row of every figure, by benchmark, in the order of first recording.

    Lines of a file in `results` that have no key `figure` belong to something else (training runs).
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(results.glob("*.jsonl")):
        rows: dict[str, dict[str, Any]] = {}
        for line in file.read_text("utf-8").splitlines():
            row = json.loads(line)
            if "figure" in row:
                rows[row["figure"]] = row
        if rows:
            found[file.stem] = list(rows.values())
    return found


@cache
def shipped() -> frozenset[str]:
    """The ids of what ships, as rows have them: the model in each arithmetic, with each decoder."""
    models = (
        asr.load(precision=precision, decoder=decoder)
        for precision in bundle.PRECISIONS
        for decoder in DECODERS
    )
    return frozenset(model.bundle_id[:12] for model in models)


def filled(document: str, rows: dict[str, list[dict[str, Any]]]) -> str:
    """The document with every block of figures made anew."""

    def block(match: re.Match[str]) -> str:
        _, _, names = match[2].partition("only:")
        chosen = [row for name in names.split() or rows for row in named(name, rows)]
        return f"{match[1]}{table(chosen)}{match[4]}"

    return BLOCK.sub(block, document)


def named(name: str, rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of a benchmark, or the one of a figure.

    Raises:
        DataError: nothing of that name was recorded.
    """
    if name in rows:
        return rows[name]
    figures = [row for benchmark in rows.values() for row in benchmark if row["figure"] == name]
    if not figures:
        raise DataError(f"figures: no benchmark and no figure named {name} is in results/")
    return figures


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of the rows and the machines they were measured on; empty without rows."""
    if not rows:
        return ""
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    former = [_former(row) for row in rows]
    lines = ["| what | figure | spread | target | commit | command |", "|---|---|---|---|---|---|"]
    for row, older in zip(rows, former, strict=True):
        low, high = (shown(value, row["unit"]) for value in row["spread"])
        target = f"{row['target']}: {'met' if row['met'] else 'missed'}" if row["target"] else ""
        mark = f" ({machines.index(row['machine']) + 1})" if len(machines) > 1 else ""
        lines.append(
            f"| {row['title']} | {shown(row['value'], row['unit'])}{mark} "
            f"| {low if low == high else f'{low} to {high}'} | {target} "
            f"| {row['commit']}{FORMER if older else ''} | `{row['command']}` |"
        )
    numbered = [
        f"({i}) {name}" if len(machines) > 1 else name for i, name in enumerate(machines, 1)
    ]
    told = f"Measured on {'; '.join(numbered)}."
    if any(former):
        told += f"{FORMER} With the model that shipped then."
    return "\n".join([*lines, "", told, ""])


def _former(row: dict[str, Any]) -> bool:
    """Whether it was measured with another model than the one that ships."""
    model = (row.get("details") or {}).get("model_id")
    return model is not None and model not in shipped()


if __name__ == "__main__":
    program.run(main)
