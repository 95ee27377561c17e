"""A recipe: everything that decides what a training run does, read from one TOML file.

Each table of the file is one frozen dataclass below; an unknown key, a missing one or a value of
the wrong kind is refused by name, never guessed. `docs/training.md` explains each setting.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from asr.errors import ConfigError

if typing.TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Network:
    """Shape of the network; see `training.model.NetworkConfig`."""

    cell: str = "lstm"
    width: int = 512
    depth: int = 4
    look_ahead: int = 4
    front: int = 256
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class Head:
    """One CTC output.

    Attributes:
        kind: `characters`, `pieces` (parts of words) or `phones`.
        layer: the recurrent layer it reads, from 1; the last one unless said.
        size: number of pieces (kind `pieces` only), the blank not counted.
        lexicon: pronunciations, `WORD<TAB>phones` a line, plain or .xz (kind `phones` only).
        ctc: weight of its CTC loss.
        frames: weight of frame-level cross-entropy, for utterances whose phone times are known.
    """

    kind: str
    layer: int | None = None
    size: int = 256
    lexicon: tuple[str, ...] = ()
    ctc: float = 1.0
    frames: float = 0.0


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
    weight: float = 1.0
    drop: dict[str, list[str]] = field(default_factory=dict)
    limit_hours: float = 0.0


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
        patience: stop after that many validations without a better word-error rate; 0 never stops.
    """

    manifest: str = ""
    librispeech: str = ""
    split: str = ""
    utterances: int = 200
    every_minutes: float = 10.0
    every_steps: int = 0
    patience: int = 0


@dataclass(frozen=True, slots=True)
class Batches:
    """How utterances are put together.

    Attributes:
        seconds: bound on the padded length of a batch (per process).
        shortest: seconds below which an utterance is left out.
        longest: seconds above which an utterance is left out.
        short_first: go through each source from short to long in its first pass.
        bad_share: the run refuses to start when more than this share of a source cannot be used.
    """

    seconds: float = 100.0
    shortest: float = 0.5
    longest: float = 20.0
    short_first: bool = True
    bad_share: float = 0.05


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Distortion of the training speech; every probability is per utterance.

    Attributes:
        speed: slowest and fastest playing speed (moves pitch too), 1 is none.
        gain_db: lowest and highest change of level.
        noise: manifest of noise recordings (`audio`, `split`); empty: no noise.
        noise_probability: how often noise is added.
        snr_db: lowest and highest ratio of speech to noise.
        rooms: folder of impulse responses; empty: none.
        room_probability: how often an utterance is heard through a room.
        silence: seconds of digital silence put before and behind, at most.
        silence_probability: how often.
        frequency_masks: number of masks over mel bands (SpecAugment, Park et al. 2019).
        frequency_mask_bands: bands of a mask, at most.
        time_masks: masks over time, per second of speech.
        time_mask_seconds: length of a mask, at most.
    """

    speed: tuple[float, float] = (0.9, 1.1)
    gain_db: tuple[float, float] = (-12.0, 6.0)
    noise: str = ""
    noise_probability: float = 0.3
    snr_db: tuple[float, float] = (5.0, 30.0)
    rooms: str = ""
    room_probability: float = 0.2
    silence: float = 1.0
    silence_probability: float = 0.1
    frequency_masks: int = 2
    frequency_mask_bands: int = 20
    time_masks: float = 0.6
    time_mask_seconds: float = 0.3


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

    rate: float = 2e-3
    warmup: int = 200
    decay: float = 0.5
    final: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    clip: float = 5.0
    average: float = 0.998


@dataclass(frozen=True, slots=True)
class Budget:
    """When the run ends: after `steps`, `minutes` or `hours`, exactly one of them positive.

    Attributes:
        steps: optimiser steps.
        minutes: of wall time, over all resumed parts together (for machines of unknown speed).
        hours: of audio gone through, over all processes.
        checkpoint_minutes: time between checkpoints.
        precision: `float32`, `bfloat16` (autocast) or `auto`: bfloat16 where the hardware has it.
        threads: PyTorch threads per process.
    """

    steps: int = 0
    minutes: float = 0.0
    hours: float = 0.0
    checkpoint_minutes: float = 10.0
    precision: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        if sum(amount > 0 for amount in (self.steps, self.minutes, self.hours)) != 1:
            raise ConfigError("budget: give exactly one of steps, minutes, hours, above 0")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(
                f"budget.precision: {self.precision!r} is none of auto, float32, bfloat16"
            )


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
    seed: int = 1
    language: str = "en"
    cache: str = ""
    network: Network = field(default_factory=Network)
    validation: Validation = field(default_factory=Validation)
    batches: Batches = field(default_factory=Batches)
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimiser: Optimiser = field(default_factory=Optimiser)

    def __post_init__(self) -> None:
        if not self.heads or not self.data:
            raise ConfigError(
                f"recipe {self.name}: it needs at least one [heads.…] and one [[data]]"
            )
        for number, source in enumerate(self.data, 1):
            if bool(source.manifest) == bool(source.librispeech):
                raise ConfigError(f"data {number}: give either manifest or librispeech")


def read_recipe(path: Path, overrides: typing.Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file.

    Args:
        path: the file.
        overrides: settings that take the place of the file's, such as `optimiser.rate=1e-3`; the
            value
            is read as TOML, or as a string where it is none.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a missing one or a value of the wrong
            kind.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: no valid TOML: {error}") from error
    tables.setdefault("name", path.stem)
    for override in overrides:
        _set(tables, override)
    return recipe_of(tables, str(path))


def recipe_of(tables: dict[str, Any], where: str = "recipe") -> Recipe:
    """The recipe described by plain tables (what `recipe_tables` gives back)."""
    return typing.cast("Recipe", _build(Recipe, tables, where))


def recipe_tables(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain dicts, lists and scalars."""
    return typing.cast("dict[str, Any]", _plain(dataclasses.asdict(recipe)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _set(tables: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, key = name.strip().split(".")
    for section in sections:
        tables = tables.setdefault(section, {})
    tables[key] = value


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` as an instance of the annotated type `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin is types.UnionType:
        return None if value is None else _build(arguments[0], value, where)
    if origin is dict and isinstance(value, dict):
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin in (tuple, list) and isinstance(value, list):
        if origin is tuple and arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{where}: {len(value)} values where {len(arguments)} belong")
        return origin(_build(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    wanted = getattr(kind, "__name__", str(kind))
    raise ConfigError(f"{where}: {value!r} is no {wanted}")


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: a table is wanted, not {value!r}")
    types_of = typing.get_type_hints(kind)
    unknown = sorted(set(value) - set(types_of))
    if unknown:
        known = ", ".join(types_of)
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are {known}")
    for part in dataclasses.fields(kind):
        required = (
            part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
        )
        if required and part.name not in value:
            raise ConfigError(f"{where}: the key {part.name!r} is missing")
    return kind(
        **{key: _build(types_of[key], item, f"{where}.{key}") for key, item in value.items()}
    )
