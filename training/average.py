"""One model of several: the mean of their weights, each in its share.

    python -m training.average OUT.pt MODEL=SHARE MODEL=SHARE… CHECKPOINT.pt=SHARE

Runs that began from the same weights and learnt different things are often better together than
each of them, and as fast as one (Wortsman et al. 2022, "Model soups"). A MODEL is a checkpoint or a
bundle; the last must be a checkpoint, and what OUT.pt says of its recipe is that one's.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from asr.errors import ConfigError, Error
from training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from training.start import read_start

if TYPE_CHECKING:
    from collections.abc import Sequence

NEAR = 1e-4  # of means and deviations: a bundle writes them in decimals


def average(parts: Sequence[tuple[Path, float]]) -> Checkpoint:
    """The mean of models that differ in their weights alone.

    Args:
        parts: checkpoints or bundles, each with its share, above 0; shares need not sum to 1. The
            last is a checkpoint.

    Returns:
        A checkpoint to export or to start from, without a run to go on with.

    Raises:
        BundleError: one cannot be read.
        ConfigError: their networks, units or features differ.
    """
    last = read_checkpoint(parts[-1][0])
    whole = sum(share for _, share in parts)
    weights = {name: torch.zeros_like(value) for name, value in last.weights.items()}
    for path, share in parts:
        found = read_start(path)
        shapes = {name: value.shape for name, value in found.weights.items()}
        if shapes != {name: value.shape for name, value in weights.items()}:
            raise ConfigError(f"{path}: another network than that of {parts[-1][0]}")
        if found.units != last.units:
            raise ConfigError(f"{path}: other units than those of {parts[-1][0]}")
        theirs, own = (torch.tensor([m.mean, m.deviation]) for m in (found, last))
        if not torch.allclose(theirs, own, rtol=0, atol=NEAR):
            raise ConfigError(f"{path}: its features are scaled in another way")
        for name, value in found.weights.items():
            weights[name] += share / whole * value.to(weights[name].dtype)
    return replace(last, weights=weights, live={}, optimiser={})


def main(arguments: Sequence[str]) -> int:
    """Average, and write the checkpoint."""
    parser = argparse.ArgumentParser(
        "python -m training.average",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT.pt", help="where the checkpoint is written")
    parser.add_argument(
        "parts", type=_part, nargs="+", metavar="MODEL=SHARE", help="as bundle=0.4 best.pt=0.6"
    )
    args = parser.parse_args(arguments)
    try:
        write_checkpoint(args.out, average(args.parts))
    except Error as error:
        print(f"python -m training.average: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _part(text: str) -> tuple[Path, float]:
    path, _, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if path and 0 < value < math.inf:
        return Path(path), value
    raise argparse.ArgumentTypeError(f"{text} is no MODEL=SHARE with a share above 0")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
