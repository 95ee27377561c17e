"""The pictures of a comparison: each a pure function of rows, which lie beside it as JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.long_lag import CHANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Row = dict[str, Any]
COLOURS = {"rnn": "tab:red", "gru": "tab:green", "lstm": "tab:blue"}
FRAME_MS = 40


def draw_runs(rows: Sequence[Row], picture: Path) -> None:
    """Training loss and validation error of all trials over the audio gone through.

    Args:
        rows: of `run_rows`; those of the best trial of a cell are drawn strongly.
        picture: the PNG to write.
    """
    figure = _figure(9, 7)
    losses, errors = figure.subplots(2, 1, sharex=True)
    for row in rows:
        axis = losses if row["kind"] == "training_loss" else errors
        style = "-" if row["best"] else ":"
        label = row["trial"] if row["kind"] == "training_loss" else None
        marker = None if row["kind"] == "training_loss" else "."
        axis.plot(
            row["hours"],
            row["values"],
            style,
            color=_colour(row, rows),
            marker=marker,
            label=label,
            linewidth=1.2 if row["best"] else 0.8,
        )
    losses.set_ylabel("training loss, nats per unit")
    errors.set_ylabel("validation error, best path")
    errors.set_xlabel("hours of audio gone through")
    data = rows[0]["hours_of_data"]
    passes = losses.secondary_xaxis("top", functions=(_over(data), _over(1 / data)))
    passes.set_xlabel(f"passes over {data:.2g} h of speech (epochs)")
    losses.legend(fontsize=7)
    _finish(figure, (losses, errors), picture)


def draw_gradients(rows: Sequence[Row], picture: Path) -> None:
    """Above how the gradient fades over lags, below its norm in each step of training.

    Args:
        rows: of `gradient_rows`.
        picture: the PNG to write.
    """
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    figure = _figure(3.6 * len(cells), 7)
    axes = figure.subplots(2, len(cells), sharey="row", squeeze=False)
    for column, cell in enumerate(cells):
        fading, norms = axes[:, column]
        own = [row for row in rows if row["cell"] == cell]
        top = [r for r in own if r["kind"] == "fade" and r["layer"] == r["depth"]]
        for row in top:
            _draw_fade(row, _of_frame_itself(row, top), fading)
        for row in own:
            if row["kind"] == "norms":
                _draw_norms(row, norms)
        fading.set(title=cell, yscale="log", xlabel="lag k, frames of 40 ms")
        norms.set(yscale="log", xlabel="step")
        for axis in (fading, norms):
            if axis.lines:
                axis.legend(fontsize=6)
    axes[0, 0].set_ylabel("‖∂loss$_t$/∂h$_{t-k}$‖ over that at k = 0\n(top layer; dashed: ∂/∂c)")
    axes[1, 0].set_ylabel("norm of the parameters' gradient,\nbefore clipping")
    _finish(figure, axes.flat, picture)


def _of_frame_itself(row: Row, rows: Sequence[Row]) -> float:
    """Norm of ∂loss_t/∂h_t in the same network: what both its h and its c are drawn against."""
    same = ("trial", "when", "layer")
    hidden = next(r for r in rows if r["part"] == "h" and all(r[k] == row[k] for k in same))
    return float(hidden["norms"][-hidden["first_lag"]])


def _draw_fade(row: Row, at_zero: float, axis: Any) -> None:
    lags = range(row["first_lag"], row["first_lag"] + len(row["norms"]))
    points = [(lag, norm / at_zero) for lag, norm in zip(lags, row["norms"], strict=True) if norm]
    clip = f"clipped at {row['clip']:g}" if row["clip"] else "not clipped"
    before = row["when"] == "before"
    label = "before training" if before else f"trained, {clip}"
    colour = "grey" if before else "tab:blue" if row["clip"] else "tab:orange"
    style = "--" if row["part"] == "c" else "-"
    axis.plot(
        *zip(*points, strict=True),
        style,
        color=colour,
        linewidth=1,
        label=label if row["part"] == "h" else None,
    )


def _draw_norms(row: Row, axis: Any) -> None:
    clip = row["clip"]
    share = sum(norm > clip for norm in row["norms"]) / len(row["norms"]) if clip else 0.0
    label = f"clipped at {clip:g}: {share:.0%} of steps" if clip else "not clipped"
    colour = "tab:blue" if clip else "tab:orange"
    axis.plot(row["steps"], row["norms"], color=colour, linewidth=0.6, label=label)
    if clip:
        axis.axhline(clip, color="black", linewidth=0.6, linestyle=":")


def draw_lags(rows: Sequence[Row], picture: Path) -> None:
    """Accuracy on the long-lag task: mean over seeds, with the lowest and the highest.

    Args:
        rows: of `lag_rows`.
        picture: the PNG to write.
    """
    figure = _figure(7, 4)
    axis = figure.subplots()
    for cell in dict.fromkeys(row["cell"] for row in rows):
        own = [row for row in rows if row["cell"] == cell]
        lags = [row["lag"] for row in own]
        colour = COLOURS[cell]
        label = f"{cell}, rate {own[0]['rate']:g}"
        axis.plot(lags, [row["mean"] for row in own], marker="o", color=colour, label=label)
        low, high = ([row[key] for row in own] for key in ("lowest", "highest"))
        axis.fill_between(lags, low, high, color=colour, alpha=0.15)
    axis.axhline(CHANCE, color="black", linewidth=0.6, linestyle=":", label="chance")
    lags = sorted({row["lag"] for row in rows})
    axis.set(xscale="log", ylim=(0, 1.03), xlabel="lag, frames", ylabel="symbols named rightly")
    axis.set_xticks(lags, labels=[str(lag) for lag in lags], minor=False)
    axis.minorticks_off()
    axis.legend(fontsize=8)
    _finish(figure, (axis,), picture)


def _colour(row: Row, rows: Sequence[Row]) -> str:
    """A cell's colour, or where there is one cell only the trial's."""
    if len({other["cell"] for other in rows}) > 1:
        return COLOURS[row["cell"]]
    trials = list(dict.fromkeys(other["trial"] for other in rows))
    return f"C{trials.index(row['trial'])}"


def _over(divisor: float) -> Callable[[Any], Any]:
    return lambda value: value / divisor


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=80)


def _finish(figure: Any, axes: Any, picture: Path) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(picture)
