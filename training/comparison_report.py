"""What a comparison found, as rows (JSON lines), a table (Markdown) and pictures (PNG)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from training.comparison import best_of_each_cell, read_lines
from training.comparison_pictures import Row, draw_gradients, draw_lags, draw_runs
from training.journal import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from training.comparison import Comparison, Trial

COLUMNS = (
    "trial",
    "parameters (recurrent)",
    "hours, steps",
    "training loss",
    "validation loss",
    "unit errors",
    "WER",
    "training, processor s per h of audio",
    "real-time factor",
    "emission p50 / p90",
)


def report(
    comparison: Comparison, trials: Sequence[Trial], unclipped: Sequence[Trial], lags: Sequence[Row]
) -> str:
    """Write table and pictures into the comparison's folder.

    Args:
        comparison: all of whose trials are done.
        trials: of the table and the curves.
        unclipped: for each cell its best trial without clipping, for the pictures of gradients;
            they end the table and are the best of nothing.
        lags: rows of the long-lag task, or none.

    Returns:
        The table in Markdown.
    """
    out = comparison.out
    results = [comparison.result(trial) for trial in trials]
    best = {row["trial"] for row in best_of_each_cell(results)}
    results += [comparison.result(trial) for trial in unclipped]
    rows = [row | {"best": row["trial"] in best} for row in results]
    _write(out / "table.jsonl", rows)
    told = table(rows)
    (out / "table.md").write_text(told, encoding="utf-8")
    _picture(out / "runs.png", draw_runs, run_rows(comparison, trials, best))
    if unclipped:
        clipped = [trial for trial in trials if trial.name in best]
        _picture(
            out / "gradients.png", draw_gradients, gradient_rows(comparison, [*clipped, *unclipped])
        )
    if lags:
        _picture(out / "lags.png", draw_lags, lag_rows(lags))
    return told


def table(rows: Sequence[Row]) -> str:
    """The rows of `table.jsonl` in Markdown; the best trial of each cell in bold."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for row in rows:
        name = f"**{row['trial']}**" if row["best"] else row["trial"]
        cells = (
            name,
            f"{row['parameters'] / 1e6:.2f} M ({row['recurrent_parameters'] / 1e6:.2f} M)",
            f"{row['hours']:.2f}, {row['steps']}",
            f"{row['training_loss']:.3f}",
            _each(row["loss"], "{:.3f}"),
            _each(row["errors"], "{:.1%}"),
            _wer(row),
            f"{row['processor_seconds_per_hour']:.1f}",
            f"{row['rtf_processor']:.4f}",
            _emission(row["emission_ms"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _each(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items())


def _wer(row: Row) -> str:
    if row["wer"] is None:
        return "–"
    interval = row["wer_interval"]
    spread = f" ({interval['low']:.1%} … {interval['high']:.1%})" if interval else ""
    return f"{row['wer']:.1%}{spread}"


def _emission(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{found['p50']:.0f} / {found['p90']:.0f} ms"


def run_rows(comparison: Comparison, trials: Sequence[Trial], best: set[str]) -> list[Row]:
    """One row for each curve: training loss, and unit errors of the first head in validation."""
    rows = []
    for trial in trials:
        result = comparison.result(trial)
        common = {
            "trial": trial.name,
            "cell": trial.cell,
            "best": trial.name in best,
            "hours_of_data": result["hours_of_data"],
        }
        lines = read_lines(Files(comparison.files(trial).folder).metrics)
        name = f"{result['error_of']}.errors"
        for kind, part, key in (
            ("training_loss", "training", "loss"),
            ("validation_error", "validation", name),
        ):
            found = [(line["hours"], line[part][key]) for line in lines if part in line]
            hours, values = zip(*found, strict=True) if found else ((), ())
            rows.append({**common, "kind": kind, "hours": hours, "values": values})
    return rows


def gradient_rows(comparison: Comparison, trials: Sequence[Trial]) -> list[Row]:
    """How the gradient fades (`kind` fade), and its norm in each step (`kind` norms).

    A network before training is the same with and without clipping: it is told once.
    """
    rows: list[Row] = []
    for trial in trials:
        files, recipe = comparison.files(trial), trial.recipe
        clip = recipe.optimiser.clip
        common = {"trial": trial.name, "cell": trial.cell, "clip": clip}
        depth = {"depth": recipe.network.depth}
        rows += [
            {**common, "kind": "fade", **depth, **row}
            for row in read_lines(files.fades)
            if clip or row["when"] == "after"
        ]
        norms = read_lines(files.norms)
        rows.append(
            {
                **common,
                "kind": "norms",
                "steps": [row["step"] for row in norms],
                "norms": [float(f"{row['norm']:.4g}") for row in norms],
            }
        )
    return rows


def lag_rows(rows: Sequence[Row]) -> list[Row]:
    """Accuracy by cell and lag over the seeds, at the rate that is best for the cell over all lags.

    Args:
        rows: of `training.long_lag.train_all`.
    """
    cells = list(dict.fromkeys(row["trial"]["cell"] for row in rows))
    found = []
    for cell in cells:
        own = [row for row in rows if row["trial"]["cell"] == cell]
        rates = dict.fromkeys(row["trial"]["rate"] for row in own)
        rate = max(rates, key=lambda rate: _mean(_accuracies(own, rate=rate)))
        for lag in sorted({row["trial"]["lag"] for row in own}):
            values = _accuracies(own, rate=rate, lag=lag)
            found.append(
                {
                    "cell": cell,
                    "rate": rate,
                    "lag": lag,
                    "mean": _mean(values),
                    "lowest": min(values),
                    "highest": max(values),
                    "seeds": len(values),
                }
            )
    return found


def _accuracies(rows: Sequence[Row], **wanted: float) -> list[float]:
    return [row["accuracy"] for row in rows if all(row["trial"][k] == v for k, v in wanted.items())]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _picture(path: Path, draw: Callable[[Sequence[Row], Path], None], rows: list[Any]) -> None:
    """Write the rows of a picture, then draw it of what was written."""
    lines = path.with_suffix(".jsonl")
    _write(lines, rows)
    draw(read_lines(lines), path)


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
