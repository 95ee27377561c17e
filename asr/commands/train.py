"""`asr train`: train an acoustic model by a recipe."""

from __future__ import annotations

import sys
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
        "--check", action="store_true", help="read all the data, say what cannot be used, and stop"
    )


def run(args: argparse.Namespace) -> int:
    """Train; the weights are in the run's folder afterwards.

    Returns:
        0, or 130 when the run was asked to stop before its end.
    """
    from asr.commands import INTERRUPTED
    from asr.errors import ConfigError, UsageError, install

    try:
        from training.preparation import download, prepare, read_all
        from training.recipe import read_recipe
        from training.run import Run
        from training.start import read_start
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs {error.name}: {install('train')}") from error
    recipe = read_recipe(args.recipe, args.set)
    if args.init and args.resume:
        raise UsageError("--init begins a run and --resume goes on with one: give only one")
    start = read_start(args.init) if args.init else None
    if args.check:
        if args.download:
            download(recipe)
        material = prepare(recipe, start.units if start else {})
        for line in material.lines() + read_all(recipe, material):
            print(line, file=sys.stderr)
        return 0
    folder = args.run or Path("runs") / recipe.name
    job = Run(recipe, folder, start, resume=args.resume, download=args.download)
    return 0 if job.train() else INTERRUPTED
