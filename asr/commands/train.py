"""`asr train`: train an acoustic model by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SUMMARY = "train an acoustic model by a recipe (needs the [train] extra)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("recipe", type=Path, help="recipe file, such as configs/english.toml")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/NAME)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run where its checkpoint stopped"
    )
    parser.add_argument(
        "--init", type=Path, metavar="MODEL", help="begin from a bundle's or checkpoint's weights"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a setting of the recipe; may be given again",
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch missing parts of LibriSpeech first"
    )
    parser.add_argument(
        "--check", action="store_true", help="read the data, say what cannot be used, and stop"
    )


def run(args: argparse.Namespace) -> int:
    """Train; the weights are in the run's folder afterwards."""
    from asr.errors import ConfigError

    try:
        from training.recipe import read_recipe
        from training.run import Run
        from training.start import read_start
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs {error.name}: pip install 'asr[train]'") from error
    recipe = read_recipe(args.recipe, args.set)
    if args.init and args.resume:
        raise ConfigError("--init begins a run and --resume goes on with one: give only one")
    start = read_start(args.init) if args.init else None
    folder = args.run or Path("runs") / recipe.name
    job = Run(recipe, folder, start, resume=args.resume, download=args.download)
    if not args.check:
        job.train()
    return 0
