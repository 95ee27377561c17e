"""What a run needs before its first step: units, utterances, statistics of the features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from asr.errors import DataError
from training import units as unit_kinds
from training.audio_store import AudioStore, decode
from training.data import (
    SAMPLE_RATE,
    Faults,
    Rule,
    Utterance,
    librispeech_rows,
    load,
    manifest_rows,
    row_text,
)
from training.features import neutral, statistics
from training.recipe import Head, Recipe, Source, Validation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.units import Units

STATISTICS_UTTERANCES = 400


@dataclass(slots=True)
class Material:
    """Everything a run works on.

    Attributes:
        units: of each head.
        names: of each source.
        stores: audio and utterances of each source.
        faults: of each source, what could not be used.
        validation: unseen utterances.
        validation_faults: what of them could not be used.
    """

    units: dict[str, Units]
    names: list[str]
    stores: list[AudioStore]
    faults: list[Faults]
    validation: list[Utterance]
    validation_faults: Faults

    def lines(self) -> list[str]:
        """What there is, and what was left out, for people."""
        told = []
        for name, store, faults in zip(self.names, self.stores, self.faults, strict=True):
            told.append(f"{name}: {len(store.utterances)} utterances, {store.hours:.2f} h")
            told += [f"  left out: {line}" for line in faults.lines()]
        hours = sum(utterance.samples for utterance in self.validation) / SAMPLE_RATE / 3600
        told.append(f"validation: {len(self.validation)} utterances, {hours:.2f} h")
        return told + [f"  left out: {line}" for line in self.validation_faults.lines()]


def prepare(recipe: Recipe, known_units: dict[str, list[str]]) -> Material:
    """Read the recipe's data and choose its units.

    Args:
        recipe: the recipe.
        known_units: unit strings by head from weights that training starts from; they are kept.

    Raises:
        DataError, ConfigError: data or settings that cannot be used.
    """
    rows = [_rows(source) for source in recipe.data]
    texts = [text for part in rows for row in part if (text := row_text(row))]
    units = {
        name: make_units(head, known_units.get(name), texts) for name, head in recipe.heads.items()
    }
    names = [source_name(source) for source in recipe.data]
    stores, faults = [], []
    for source, name, part in zip(recipe.data, names, rows, strict=True):
        rule = Rule(
            shortest=int(recipe.batches.shortest * SAMPLE_RATE),
            longest=int(recipe.batches.longest * SAMPLE_RATE),
            fastest=recipe.augmentation.speed[1],
            bad_share=recipe.batches.bad_share,
            most=int(source.limit_hours * 3600 * SAMPLE_RATE),
        )
        utterances, found = load(part, units, rule, name)
        cache = Path(recipe.cache) if recipe.cache else None
        stores.append(AudioStore(utterances, cache, name.replace("/", "-").strip(".-")))
        faults.append(found)
    validation = _validation(recipe.validation, units, recipe.batches.bad_share)
    return Material(units, names, stores, faults, *validation)


def download(recipe: Recipe) -> None:
    """Fetch the parts of LibriSpeech that the recipe names and that are not there.

    Raises:
        ConfigError, DataError: no such part, or it cannot be fetched.
    """
    from training.librispeech import LibriSpeech

    sources: list[Source | Validation] = [*recipe.data, recipe.validation]
    for source in sources:
        if source.librispeech:
            LibriSpeech(source.librispeech, source.split, download=True)


def read_all(recipe: Recipe, material: Material) -> list[str]:
    """Decode every recording once (`--check`).

    Returns:
        What cannot be used, for people.

    Raises:
        DataError: more than the recipe's `bad_share` of a source cannot be read.
    """
    lines = []
    for name, store in zip(material.names, material.stores, strict=True):
        _, faults = readable(store.utterances, recipe.batches.bad_share, name)
        lines += [f"{name}: {line}" for line in faults.lines()]
    return lines


def readable(
    utterances: Sequence[Utterance], bad_share: float, where: str
) -> tuple[list[Utterance], Faults]:
    """Those utterances whose audio can be read, by reading it, and what is wrong with the others.

    Raises:
        DataError: none can, or more than `bad_share` cannot.
    """
    good, faults = [], Faults()
    for utterance in utterances:
        try:
            decode(utterance)
        except DataError as error:
            faults.add("unreadable audio", str(error))
        else:
            good.append(utterance)
    bad = len(utterances) - len(good)
    if not good or bad > bad_share * len(utterances):
        what = "; ".join(faults.lines())
        raise DataError(f"{where}: {bad} of {len(utterances)} utterances cannot be read: {what}")
    return good, faults


def source_name(source: Source | Validation) -> str:
    """How a source is called in messages and cache files."""
    return source.manifest or f"{source.librispeech}/{source.split}"


def make_units(head: Head, known: list[str] | None, texts: Sequence[str]) -> Units:
    """The units of a head: those known before, or chosen now."""
    if head.kind == "characters":
        return unit_kinds.characters()
    if head.kind == "pieces":
        return unit_kinds.Pieces(known) if known else unit_kinds.pieces(texts, head.size)
    return unit_kinds.phones(unit_kinds.read_lexicon(head.lexicon), known)


def feature_statistics(recipe: Recipe, material: Material) -> tuple[list[float], list[float]]:
    """Mean and deviation of each mel band over undistorted utterances, drawn by weight.

    Raises:
        DataError: none of those drawn can be read.
    """
    rng = np.random.default_rng((recipe.seed, 4))
    shares = np.array([source.weight for source in recipe.data])
    log_mel, sums, reason = neutral(), [], ""
    known = sum(len(store.utterances) for store in material.stores)
    for _ in range(min(STATISTICS_UTTERANCES, known)):
        store = material.stores[int(rng.choice(len(shares), p=shares / shares.sum()))]
        number = int(rng.integers(len(store.utterances)))
        try:
            samples = store.read(number)
        except DataError as error:  # training will count it
            reason = str(error)
            continue
        sums.append(statistics(torch.from_numpy(samples), log_mel))
    if not sums:
        raise DataError(f"no audio can be read: {reason}")
    count = sum(part[0] for part in sums)
    mean = torch.stack([part[1] for part in sums]).sum(0) / count
    square = torch.stack([part[2] for part in sums]).sum(0) / count
    return mean.tolist(), (square - mean**2).clamp(min=1e-6).sqrt().tolist()


def _rows(source: Source | Validation) -> list[dict[str, Any]]:
    if source.manifest:
        drop = source.drop if isinstance(source, Source) else {}
        return manifest_rows(Path(source.manifest), drop)
    return list(librispeech_rows(Path(source.librispeech), source.split))


def _validation(
    chosen: Validation, units: dict[str, Units], bad_share: float
) -> tuple[list[Utterance], Faults]:
    rule = Rule(1, 1 << 62, 1.0, bad_share, any_text=True)
    utterances, faults = load(_rows(chosen), units, rule, source_name(chosen))
    if chosen.utterances:
        order = np.random.default_rng(1).permutation(len(utterances))[: chosen.utterances]
        utterances = [utterances[number] for number in sorted(order.tolist())]
    # read now: a file that stops every validation should stop the run before it begins
    utterances, unread = readable(utterances, bad_share, source_name(chosen))
    return utterances, faults + unread
