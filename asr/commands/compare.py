"""`asr compare`: recurrent cells, or any settings of a recipe, compared by training each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.arguments import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.comparison import Comparison, Trial

SUMMARY = "compare recurrent cells, or settings, by training runs (needs the [train] extra)"
CELLS = ("rnn", "gru", "lstm")
OWN = "own"
FOLLOWED = 75  # frames of 40 ms: 3 s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="recipe that all trials follow")
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="folder of the comparison; what is there already is not made again",
    )
    parser.add_argument(
        "--cells",
        metavar="A,B,C",
        type=_cells,
        default=CELLS,
        help="cells to compare; own: the recipe's own alone (default: rnn,gru,lstm)",
    )
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="SECTION.KEY=A,B,C",
        help="values of a setting to try; given again, every combination is tried, for each cell",
    )
    parser.add_argument(
        "--budget",
        metavar="KEY=VALUE",
        help="budget of each trial instead of the recipe's: steps=N, minutes=M or hours=H",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a setting of the recipe for all trials; may be given again",
    )
    parser.add_argument(
        "--lm",
        metavar="FOLDER",
        type=Path,
        help="language model (lm.ngram, lm.words.txt) to recognise with; the lexicon is that of "
        "the recipe's head of phones",
    )
    parser.add_argument(
        "--gradients",
        action="store_true",
        help="also follow the gradient over time lags, and train each cell's best trial once more "
        "without clipping",
    )
    parser.add_argument(
        "--follow",
        metavar="FRAMES",
        type=count,
        default=FOLLOWED,
        help=f"with --gradients: lags, in frames of 40 ms (default: {FOLLOWED})",
    )
    parser.add_argument(
        "--lags",
        metavar="A,B,C",
        type=_counts,
        help="also train each cell on a task that needs memory over so many frames",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=count,
        default=3,
        help="with --lags: networks for each cell, lag and rate (default: 3)",
    )
    parser.add_argument(
        "--lag-steps",
        metavar="N",
        type=count,
        default=1500,
        help="with --lags: steps of each network at most (default: 1500)",
    )


def run(args: argparse.Namespace) -> int:
    """Train and measure what is not there yet; then write table and pictures, and print the table.

    Returns:
        0, or 130 when it was asked to stop; the same call goes on.
    """
    from asr.commands import INTERRUPTED
    from asr.errors import ConfigError, install

    try:
        from training.comparison import Comparison, Wanted, budget_overrides, plan
        from training.comparison_report import report
        from training.sweep import parse_sweep
    except ModuleNotFoundError as error:
        raise ConfigError(f"comparing needs {error.name}: {install('train')}") from error
    overrides = [*args.set, *(budget_overrides(args.budget) if args.budget else [])]
    trials = plan(args.recipe, args.cells, [parse_sweep(text) for text in args.sweep], overrides)
    for trial in trials:
        _refuse_in_vain(args, trial)
    wanted = Wanted(args.lm, args.follow if args.gradients else 0)
    comparison = Comparison(args.out, wanted, _say)
    if not comparison.make(trials):
        return INTERRUPTED
    unclipped = _unclipped(comparison, trials, args.recipe, overrides) if args.gradients else []
    if not comparison.make(unclipped):
        return INTERRUPTED
    lags = _long_lags(args, list(dict.fromkeys(trial.cell for trial in trials)))
    print(report(comparison, trials, unclipped, lags), end="")
    return 0


def _refuse_in_vain(args: argparse.Namespace, trial: Trial) -> None:
    """Say now what would be found out after the training.

    Raises:
        ConfigError: what is asked for cannot be had of this trial.
    """
    from asr.errors import ConfigError
    from training.measured import searched_head

    if args.lm:
        searched_head(trial.recipe)
    if args.gradients and not trial.recipe.optimiser.clip:
        raise ConfigError(
            f"--gradients: {trial.name} is trained without clipping already; set optimiser.clip "
            "above 0"
        )


def _unclipped(
    comparison: Comparison, trials: Sequence[Trial], recipe: Path, overrides: Sequence[str]
) -> list[Trial]:
    from training.comparison import best_of_each_cell

    best = {row["trial"] for row in best_of_each_cell([comparison.result(t) for t in trials])}
    chosen = [trial for trial in trials if trial.name in best]
    return [trial.without_clipping(recipe, overrides) for trial in chosen]


def _long_lags(args: argparse.Namespace, cells: Sequence[str]) -> list[dict[str, object]]:
    from training.long_lag import Effort, train_all

    if not args.lags:
        return []
    effort = Effort(args.lags, seeds=args.seeds, steps=args.lag_steps)
    return train_all(cells, effort, args.out / "lag-trials.jsonl", _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _cells(text: str) -> tuple[str, ...]:
    """The cells that are named; none for the recipe's own."""
    if text == OWN:
        return ()
    cells = tuple(text.split(","))
    for cell in cells:
        if cell not in CELLS:
            raise argparse.ArgumentTypeError(f"{cell!r} is none of {', '.join(CELLS)}, {OWN}")
    return cells


def _counts(text: str) -> tuple[int, ...]:
    return tuple(count(part) for part in text.split(","))
