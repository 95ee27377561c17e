"""A recipe: everything that decides what a training run does, read from one TOML file.

Each table of the file is one frozen dataclass below; an unknown key, a missing one or a value of
the wrong kind is refused by name, never guessed. `docs/recipes.md` explains each setting.
"""

from __future__ import annotations

import copy
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from asr.errors import ConfigError, UsageError
from training.settings import Limits, build, override, plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Share = Annotated[float, Limits(0, 1)]
Amount = Annotated[float, Limits(0)]
Positive = Annotated[float, Limits(above=0)]
Count = Annotated[int, Limits(0)]
Number = Annotated[int, Limits(1)]
Decay = Annotated[float, Limits(0, 0.999999)]


@dataclass(frozen=True, slots=True)
class Network:
    """Shape of the network; see `training.model.NetworkConfig`."""

    cell: Literal["rnn", "gru", "lstm"] = "lstm"
    width: Number = 512
    depth: Number = 4
    look_ahead: Annotated[int, Limits(0, 8)] = 4
    front: Number = 256
    dropout: Annotated[float, Limits(0, 0.95)] = 0.1


@dataclass(frozen=True, slots=True)
class Head:
    """One CTC output.

    Attributes:
        kind: `characters`, `pieces` (parts of words) or `phones`.
        layer: the recurrent layer it reads, from 1; the last one unless said.
        reads: the head whose probabilities it reads instead, through a recurrent layer of its own.
        width: units of that layer.
        look_ahead: output frames that it waits for beyond those of the network, an even number.
        size: number of pieces (kind `pieces` only), the blank not counted.
        lexicon: pronunciations, `WORD<TAB>phones` a line, plain or .xz (kind `phones` only).
        ctc: weight of its CTC loss.
        frames: weight of frame-level cross-entropy, for utterances whose phone times are known.
        crf: weight of the CTC-CRF loss: CTC against all sequences of units, which are weighted by a
            trigram of the training texts. It wants a network that CTC has trained already.
        consistency: weight of the difference between what it says of two views of an utterance,
            distorted in two ways (CR-CTC; Yao et al. 2025). If any head has it, every utterance
            comes in two views, and a batch holds half as many.
    """

    kind: Literal["characters", "pieces", "phones"]
    layer: int | None = None
    reads: str = ""
    width: Count = 0
    look_ahead: Annotated[int, Limits(0, 8)] = 0
    size: Annotated[int, Limits(64)] = 256
    lexicon: tuple[str, ...] = ()
    ctc: Amount = 1.0
    frames: Amount = 0.0
    crf: Amount = 0.0
    consistency: Amount = 0.0


@dataclass(frozen=True, slots=True)
class Source:
    """One set of recordings.

    Attributes:
        manifest: JSON lines with `audio` (relative to the file), `text` and, if known, `samples`.
        librispeech: instead of a manifest: the folder that holds (or is to hold) LibriSpeech.
        split: with `librispeech`: a part such as `train-clean-100`.
        weight: share of the batches that come from this source, relative to the others.
        drop: leave out the rows of the manifest that have one of these values, such as
            `{source = ["mp3-24k"]}`.
        limit_hours: take only that many hours (the first rows); 0 takes all.
    """

    manifest: str = ""
    librispeech: str = ""
    split: str = ""
    weight: Positive = 1.0
    drop: dict[str, list[str]] = field(default_factory=dict)
    limit_hours: Amount = 0.0


@dataclass(frozen=True, slots=True)
class Validation:
    """What the run is judged by: the word errors of the streaming recogniser on unseen speakers.

    Attributes:
        manifest: as in `Source`.
        librispeech: as in `Source`.
        split: as in `Source`.
        utterances: take that many, drawn once at random; 0 takes all.
        every_minutes: minutes between validations (0: never by time).
        every_steps: steps between validations (0: never by steps).
        patience: stop after that many validations without a lower error; 0 never stops.
    """

    manifest: str = ""
    librispeech: str = ""
    split: str = ""
    utterances: Count = 200
    every_minutes: Amount = 10.0
    every_steps: Count = 0
    patience: Count = 0


@dataclass(frozen=True, slots=True)
class Batches:
    """How utterances are put together.

    Attributes:
        seconds: bound on the padded length of a batch, before distortion (per process).
        shortest: seconds below which an utterance is left out.
        longest: seconds above which an utterance is left out.
        short_first: go through each source from short to long in its first pass.
        bad_share: the run stops when more than this share of a source cannot be used, be it seen
            when the data is listed or when it is read.
        workers: processes beside each one that trains that make its examples ahead of time; 0: it
            makes them itself. With a GPU as many as there are cores for it; the steps are the same.
    """

    seconds: Positive = 100.0
    shortest: Amount = 0.5
    longest: Positive = 20.0
    short_first: bool = True
    bad_share: Share = 0.05
    workers: Count = 0


Decibels = Annotated[float, Limits(-200, 200)]
Speed = Annotated[float, Limits(0.1, 10)]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Distortion of the training speech; every probability is per utterance.

    Attributes:
        speed: slowest and fastest playing speed (moves pitch too), 1 is none.
        gain_db: lowest and highest change of level.
        noise: manifest of noise recordings (`audio`, `split`); empty: no noise.
        noise_probability: how often noise is added.
        wordless_probability: how often noise takes the place of the speech, with nothing to be
            written, so that noise is not taken for words. Needs `noise`, whose voices (kinds that
            begin with `babble`, `crowd` or `music (with singing)`) are left out.
        generated_music: how much of the noise is made-up music instead of taken from `noise`.
        snr_db: lowest and highest ratio of speech to noise.
        rooms: folder of impulse responses; empty: none.
        room_probability: how often an utterance is heard through a room.
        generated_rooms: how many of these rooms are made up instead of taken from `rooms`.
        equaliser_db: how far a smooth curve over frequency lifts or lowers parts of the spectrum,
            at most, as other microphones do; 0: not at all.
        telephone_probability: how often an utterance is heard through a telephone (8 kHz).
        silence: seconds of digital silence put before and behind, at most.
        silence_probability: how often.
        warp: how far frequencies are stretched or squeezed, at most, as by longer and shorter vocal
            tracts (Jaitly and Hinton 2013); 0.1 is a tenth, 0: not at all.
        frequency_masks: number of masks over mel bands (SpecAugment, Park et al. 2019).
        frequency_mask_bands: bands of a mask, at most.
        time_masks: masks over time, per second of speech.
        time_mask_seconds: length of a mask, at most.
    """

    speed: tuple[Speed, Speed] = (0.9, 1.1)
    gain_db: tuple[Decibels, Decibels] = (-12.0, 6.0)
    noise: str = ""
    noise_probability: Share = 0.3
    wordless_probability: Share = 0.0
    generated_music: Share = 0.0
    snr_db: tuple[Decibels, Decibels] = (5.0, 30.0)
    rooms: str = ""
    room_probability: Share = 0.2
    generated_rooms: Share = 0.0
    equaliser_db: Amount = 0.0
    telephone_probability: Share = 0.0
    silence: Amount = 1.0
    silence_probability: Share = 0.1
    warp: Annotated[float, Limits(0, 0.5)] = 0.0
    frequency_masks: Count = 2
    frequency_mask_bands: Annotated[int, Limits(0, 80)] = 20
    time_masks: Amount = 0.6
    time_mask_seconds: Amount = 0.3

    def __post_init__(self) -> None:
        for name in ("speed", "gain_db", "snr_db"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"augmentation.{name}: the lower value comes first")
        if self.wordless_probability and not self.noise:
            raise ConfigError("augmentation.wordless_probability: needs `noise`, a manifest")


@dataclass(frozen=True, slots=True)
class Optimiser:
    """AdamW (Loshchilov and Hutter 2019) and the course of its learning rate.

    Attributes:
        rate: highest learning rate.
        warmup: steps from 0 to `rate`.
        decay: last share of the budget in which the rate falls (half a cosine) to `final`.
        final: share of `rate` that is left at the end.
        beta1: first moment's decay.
        beta2: second moment's decay.
        weight_decay: on matrices alone.
        clip: bound on the norm of the gradient; 0 for none.
        average: decay of the running average of the weights, which is what is validated and kept.
    """

    rate: Positive = 2e-3
    warmup: Count = 200
    decay: Share = 0.5
    final: Share = 0.02
    beta1: Decay = 0.9
    beta2: Decay = 0.98
    weight_decay: Amount = 0.01
    clip: Amount = 5.0
    average: Decay = 0.998


@dataclass(frozen=True, slots=True)
class Budget:
    """When the run ends: after `steps`, `minutes` or `hours`, exactly one of them positive.

    Attributes:
        steps: optimiser steps.
        minutes: of wall time spent training (validations not counted), over all resumed parts
            together (for machines of unknown speed).
        hours: of audio gone through, over all processes.
        checkpoint_minutes: time between checkpoints.
        precision: `float32`, `bfloat16` (autocast) or `auto`: bfloat16 where the hardware has it.
        threads: PyTorch threads per process.
    """

    steps: Count = 0
    minutes: Amount = 0.0
    hours: Amount = 0.0
    checkpoint_minutes: Amount = 10.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Number = 1

    def __post_init__(self) -> None:
        if sum(amount > 0 for amount in (self.steps, self.minutes, self.hours)) != 1:
            raise ConfigError("budget: give exactly one of steps, minutes, hours, above 0")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole training run.

    Attributes:
        name: the run's folder is `runs/<name>` unless told otherwise.
        seed: of every random choice; the same recipe and seed give the same run.
        language: of the transcripts, as a tag such as `en`.
        cache: folder for decoded audio (16-bit samples), filled as utterances are used; empty:
            none.
    """

    name: str
    heads: dict[str, Head]
    data: tuple[Source, ...]
    budget: Budget
    seed: Count = 1
    language: str = "en"
    cache: str = ""
    network: Network = field(default_factory=Network)
    validation: Validation = field(default_factory=Validation)
    batches: Batches = field(default_factory=Batches)
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimiser: Optimiser = field(default_factory=Optimiser)

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("name: it must not be empty")
        if not self.heads or not self.data:
            raise ConfigError("a recipe needs at least one [heads.NAME] and one [[data]]")
        for number, source in enumerate(self.data):
            if bool(source.manifest) == bool(source.librispeech):
                raise ConfigError(f"data.{number}: give either manifest or librispeech")
        if bool(self.validation.manifest) == bool(self.validation.librispeech):
            raise ConfigError("validation: give either manifest or librispeech")
        for name, head in self.heads.items():
            self._check_head(name, head)
        if all(head.layer not in (None, self.network.depth) for head in self.heads.values()):
            raise ConfigError("heads: one must read the last layer, or nothing can be recognised")

    @property
    def views(self) -> int:
        """How often each utterance comes in a batch."""
        return 2 if any(head.consistency for head in self.heads.values()) else 1

    def _check_head(self, name: str, head: Head) -> None:
        if not name.isidentifier():  # it becomes a part of names in PyTorch and in the bundle
            raise ConfigError(f"heads: {name!r} is no name of letters, digits and underscores")
        if not head.ctc and not head.frames:
            raise ConfigError(f"heads.{name}: ctc and frames are both 0, so it learns nothing")
        if head.frames and head.kind != "phones":
            raise ConfigError(f"heads.{name}.frames: only phones have known times")
        if head.kind == "phones" and not head.lexicon:
            raise ConfigError(f"heads.{name}: phones need `lexicon`, a list of pronunciation files")


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file.

    Args:
        path: the file.
        overrides: settings that take the place of the file's, such as `optimiser.rate=1e-3`; see
            `training.settings.override`.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a missing one or a value of the wrong
            kind.
        UsageError: an override is none, or what it asks for does not exist.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"{path}: no valid TOML: {error}") from error
    tables.setdefault("name", path.stem)
    changed = copy.deepcopy(tables)
    for assignment in overrides:
        override(changed, assignment)
    try:
        return recipe_of(changed)
    except ConfigError as error:
        if overrides and _is_recipe(tables):
            raise UsageError(f"{', '.join(overrides)}: {error}") from error
        raise ConfigError(f"{path}: {error}") from error


def _is_recipe(tables: dict[str, Any]) -> bool:
    try:
        recipe_of(tables)
    except ConfigError:
        return False
    return True


def recipe_of(tables: dict[str, Any]) -> Recipe:
    """The recipe described by plain tables (what `recipe_tables` gives back).

    Raises:
        ConfigError: see `read_recipe`.
    """
    return cast("Recipe", build(Recipe, tables))


def recipe_tables(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain dicts, lists and scalars."""
    return cast("dict[str, Any]", plain(recipe))
