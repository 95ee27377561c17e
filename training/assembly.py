"""From a recipe and its data to a trainer that is ready for its first (or next) step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from asr.errors import ConfigError
from training.augment import Augmenter
from training.batching import BatchStream
from training.crf import UnitTrigram
from training.data import SAMPLE_RATE
from training.examples import ExampleMaker, Wanted
from training.features import LogMel
from training.loop import Trainer
from training.model import AcousticNetwork, HeadConfig, NetworkConfig
from training.preparation import feature_statistics
from training.start import take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.checkpoint import Checkpoint
    from training.preparation import Material
    from training.processes import Processes
    from training.recipe import Recipe
    from training.start import Start


def make_trainer(
    recipe: Recipe,
    material: Material,
    processes: Processes,
    begin: Checkpoint | Start | None,
    say: Callable[[str], None],
) -> Trainer:
    """The trainer of a run.

    Args:
        recipe: the recipe.
        material: its data and units.
        processes: those that train together.
        begin: a checkpoint to go on from, weights to start from, or None for random ones.
        say: is told which weights were not taken over.

    Raises:
        ConfigError: the checkpoint is of another network or other heads than the recipe's.
        BundleError: none of the weights to start from fits.
        DataError: no audio can be read.
    """
    from training.start import Start

    units = {name: kind.units for name, kind in material.units.items()}
    config = network_config(recipe, units)
    torch.manual_seed(recipe.seed)
    network = AcousticNetwork(config)
    if begin is None:
        mean, deviation = feature_statistics(recipe, material)
    else:
        mean, deviation = begin.mean, begin.deviation
    if isinstance(begin, Start):
        for line in take_over(network, begin, units):
            say(line)
    log_mel = LogMel(np.array(mean, np.float32), np.array(deviation, np.float32))
    trainer = Trainer(
        recipe,
        network,
        _batches(recipe, material),
        _examples(recipe, material, log_mel),
        _trigrams(recipe, material),
        processes,
    )
    if begin is not None and not isinstance(begin, Start):
        if (begin.network, begin.units) != (config, units):
            raise ConfigError(
                "--resume: the recipe's network or heads are not those of the run; start another "
                "run with --init"
            )
        trainer.resume(begin)
    return trainer


def network_config(recipe: Recipe, units: dict[str, list[str]]) -> NetworkConfig:
    """Shape of the recipe's network, with as many outputs as there are units."""
    chosen = recipe.network
    heads = {
        name: HeadConfig(
            len(units[name]), head.layer or chosen.depth, head.reads, head.width, head.look_ahead
        )
        for name, head in recipe.heads.items()
    }
    return NetworkConfig(
        chosen.cell,
        chosen.width,
        chosen.depth,
        chosen.look_ahead,
        chosen.front,
        chosen.dropout,
        heads,
    )


def _examples(recipe: Recipe, material: Material, log_mel: LogMel) -> ExampleMaker:
    frame_heads = {
        name: {unit: number for number, unit in enumerate(material.units[name].units)}
        for name, head in recipe.heads.items()
        if head.frames
    }
    further = max(head.look_ahead for head in recipe.heads.values())
    look_ahead = recipe.network.look_ahead + further
    wanted = Wanted(look_ahead, tuple(recipe.heads), frame_heads, recipe.views)
    return ExampleMaker(
        material.stores, log_mel, Augmenter(recipe.augmentation), wanted, recipe.seed
    )


def _trigrams(recipe: Recipe, material: Material) -> dict[str, UnitTrigram]:
    """How units follow one another in the transcripts, for the heads that want to know."""
    return {
        name: UnitTrigram(
            (
                utterance.targets[name].tolist()
                for store in material.stores
                for utterance in store.utterances
                if name in utterance.targets
            ),
            len(material.units[name].units),
        )
        for name, head in recipe.heads.items()
        if head.crf
    }


def _batches(recipe: Recipe, material: Material) -> BatchStream:
    return BatchStream(
        [[utterance.samples for utterance in store.utterances] for store in material.stores],
        [source.weight for source in recipe.data],
        int(recipe.batches.seconds * SAMPLE_RATE / recipe.views),
        recipe.seed,
        short_first=recipe.batches.short_first,
    )
