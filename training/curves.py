"""A picture of a run: loss while training, and what validation said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw `metrics.jsonl` of a run as a PNG.

    Args:
        metrics: lines with `step`, `hours`, and either `training` or `validation` figures.
        picture: the file to write.
    """
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(8, 8), dpi=110)
    losses, errors = figure.subplots(2, 1, sharex=True)
    training = [(row["hours"], row["training"]["loss"]) for row in rows if "training" in row]
    if training:
        losses.plot(*zip(*training, strict=True), label="training, all heads", linewidth=0.8)
    validation = [row for row in rows if "validation" in row]
    for name in sorted({name for row in validation for name in row["validation"]}):
        axis = losses if name.endswith(".loss") else errors
        points = [
            (row["hours"], row["validation"][name])
            for row in validation
            if name in row["validation"]
        ]
        axis.plot(*zip(*points, strict=True), marker=".", label=f"validation, {name}")
    losses.set_ylabel("nats per unit")
    errors.set_ylabel("error rate")
    errors.set_xlabel("hours of audio gone through")
    for axis in (losses, errors):
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    figure.tight_layout()
    figure.savefig(picture)
