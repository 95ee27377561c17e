"""What a run needs before its first step: units, utterances, statistics of the features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from asr.errors import ConfigError
from training import units as unit_kinds
from training.data import (
    SAMPLE_RATE,
    AudioStore,
    Faults,
    Rule,
    Utterance,
    librispeech_rows,
    load,
    manifest_rows,
)
from training.features import neutral, statistics
from training.recipe import Head, Recipe, Source, Validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.units import Units

STATISTICS_UTTERANCES = 400


@dataclass(slots=True)
class Material:
    """Everything a run works on.

    Attributes:
        units: of each head.
        stores: audio and utterances of each source.
        validation: unseen utterances.
        faults: per source, what could not be used.
    """

    units: dict[str, Units]
    stores: list[AudioStore]
    validation: list[Utterance]
    faults: dict[str, Faults]


def prepare(
    recipe: Recipe, known_units: dict[str, list[str]], *, download: bool = False
) -> Material:
    """Read the recipe's data and choose its units.

    Args:
        recipe: the recipe.
        known_units: unit strings by head from weights that training starts from; they are kept.
        download: fetch missing LibriSpeech parts.

    Raises:
        DataError, ConfigError: data or settings that cannot be used.
    """
    rows = [list(_limited(_rows(source, download=download), source)) for source in recipe.data]
    texts = [str(row.get("text", "")).lower() for part in rows for row in part]
    units = {
        name: make_units(head, known_units.get(name), texts) for name, head in recipe.heads.items()
    }
    rule = Rule(
        shortest=int(recipe.batches.shortest * SAMPLE_RATE),
        longest=int(recipe.batches.longest * SAMPLE_RATE),
        fastest=recipe.augmentation.speed[1],
        bad_share=recipe.batches.bad_share,
    )
    stores, faults = [], {}
    for source, part in zip(recipe.data, rows, strict=True):
        where = source_name(source)
        utterances, faults[where] = load(part, units, rule, where)
        cache = Path(recipe.cache) if recipe.cache else None
        stores.append(AudioStore(utterances, cache, where.replace("/", "-").strip(".-")))
    validation, faults["validation"] = _validation(recipe.validation, units, rule)
    return Material(units, stores, validation, faults)


def source_name(source: Source | Validation) -> str:
    """How a source is called in messages and cache files."""
    return source.manifest or f"{source.librispeech}/{source.split}"


def make_units(head: Head, known: list[str] | None, texts: Sequence[str]) -> Units:
    """The units of a head: those known before, or chosen now."""
    if head.kind == "characters":
        return unit_kinds.characters()
    if head.kind == "pieces":
        return unit_kinds.Pieces(known) if known else unit_kinds.pieces(texts, head.size)
    if head.kind == "phones":
        return unit_kinds.phones(unit_kinds.read_lexicon(head.lexicon), known)
    raise ConfigError(f"heads: kind {head.kind!r} is none of characters, pieces, phones")


def feature_statistics(recipe: Recipe, material: Material) -> tuple[list[float], list[float]]:
    """Mean and deviation of each mel band over undistorted utterances, drawn by weight."""
    rng = np.random.default_rng((recipe.seed, 4))
    shares = np.array([source.weight for source in recipe.data])
    log_mel, sums = neutral(), []
    for _ in range(STATISTICS_UTTERANCES):
        store = material.stores[int(rng.choice(len(shares), p=shares / shares.sum()))]
        samples = store.read(int(rng.integers(len(store.utterances))))
        sums.append(statistics(torch.from_numpy(samples), log_mel))
    count = sum(part[0] for part in sums)
    mean = torch.stack([part[1] for part in sums]).sum(0) / count
    square = torch.stack([part[2] for part in sums]).sum(0) / count
    return mean.tolist(), (square - mean**2).clamp(min=1e-6).sqrt().tolist()


def _rows(source: Source | Validation, *, download: bool) -> Iterator[dict[str, Any]]:
    if source.manifest:
        drop = source.drop if isinstance(source, Source) else {}
        return manifest_rows(Path(source.manifest), drop)
    return librispeech_rows(Path(source.librispeech), source.split, download=download)


def _limited(rows: Iterator[dict[str, Any]], source: Source) -> Iterator[dict[str, Any]]:
    if not source.limit_hours:
        yield from rows
        return
    seconds = 0.0
    for row in rows:
        seconds += row.get("samples", 0) / SAMPLE_RATE
        if seconds > source.limit_hours * 3600:
            return
        yield row


def _validation(
    chosen: Validation, units: dict[str, Units], rule: Rule
) -> tuple[list[Utterance], Faults]:
    if not chosen.manifest and not chosen.librispeech:
        raise ConfigError("validation: give either manifest or librispeech")
    all_lengths = Rule(1, 1 << 62, 1.0, rule.bad_share, any_text=True)
    utterances, faults = load(
        _rows(chosen, download=False), units, all_lengths, source_name(chosen)
    )
    if chosen.utterances:
        order = np.random.default_rng(1).permutation(len(utterances))[: chosen.utterances]
        utterances = [utterances[number] for number in sorted(order.tolist())]
    return utterances, faults
