"""The model bundle: a folder that holds all of a recogniser and can prove that nothing is missing.

`model.toml` describes it, `acoustic.<precision>.onnx` are the network, `units.<head>.txt` name the
units of each head, `MODEL_CARD.md` tells people about it. With a table `[decoding]` in `model.toml`
it also holds a language: `lm.ngram`, `lm.words.txt`, `lexicon.tree`, and perhaps what spells other
words: `spelling.ngram`, `spelling.pairs.txt`. The id is a SHA-256 over all
that can change a result: the names and contents of all files but the card and `model.toml` itself,
and the tables `[features]`, `[acoustic]` and `[decoding]` of that. It is checked whenever a bundle
is read.

Nothing here is ever unpickled or evaluated.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.decoding.settings import BeamSettings
from asr.errors import BundleError, ConfigError
from asr.features import BANDS, SAMPLE_RATE
from asr.toml_writer import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT = 1
DEFAULT = "english"
SHIPPED = Path(__file__).parent / "models"
PRECISIONS = ("int8", "float32")
CELLS = ("rnn", "gru", "lstm")
BLANK = "<blank>"
MAX_LOOK_AHEAD = 8  # output frames
HEADER = "model.toml"
CARD = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """What the features need to know.

    Attributes:
        mean: of each of the 80 mel bands over the training data; any sequence of numbers goes in.
        deviation: of each band, > 0.
        sample_rate: always 16000.
        bands: always 80.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    sample_rate: int = SAMPLE_RATE
    bands: int = BANDS

    def __post_init__(self) -> None:
        _demand(self.sample_rate == SAMPLE_RATE, f"features.sample_rate is not {SAMPLE_RATE}")
        _demand(self.bands == BANDS, f"features.bands is not {BANDS}")
        for name in ("mean", "deviation"):
            values = tuple(float(value) for value in getattr(self, name))
            finite = all(map(math.isfinite, values))
            _demand(len(values) == BANDS and finite, f"features.{name} is not {BANDS} numbers")
            object.__setattr__(self, name, values)  # NumPy's numbers have become Python's
        _demand(min(self.deviation) > 0, "features.deviation has a number that is not positive")


@dataclass(frozen=True, slots=True)
class AcousticSettings:
    """Shape of the network.

    Attributes:
        cell: `rnn`, `gru` or `lstm`.
        width: units of each recurrent layer.
        depth: recurrent layers.
        look_ahead: output frames of 40 ms, 0 … 8.
        heads: number of units of each head by name, the blank included; the first is decoded.
        waits: output frames that a head waits for beyond `look_ahead`, 0 … 8, where it does.
    """

    cell: str
    width: int
    depth: int
    look_ahead: int
    heads: dict[str, int]
    waits: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _demand(self.cell in CELLS, f"acoustic.cell {self.cell!r} is none of {', '.join(CELLS)}")
        _demand(_is_integer(self.width, 1), "acoustic.width is not a positive integer")
        _demand(_is_integer(self.depth, 1), "acoustic.depth is not a positive integer")
        _demand(
            _is_integer(self.look_ahead, 0) and self.look_ahead <= MAX_LOOK_AHEAD,
            f"acoustic.look_ahead is not an integer in 0 … {MAX_LOOK_AHEAD}",
        )
        _demand(bool(self.heads), "acoustic.heads is empty")
        for head, units in self.heads.items():
            plain = head.isascii() and head.replace("_", "").replace("-", "").isalnum()
            _demand(plain, f"acoustic.heads: {head!r} is not a plain name")
            _demand(_is_integer(units, 2), f"acoustic.heads.{head} is not an integer of 2 or more")
        for head, frames in self.waits.items():
            _demand(head in self.heads, f"acoustic.waits: {head!r} is no head")
            _demand(
                _is_integer(frames, 0) and frames <= MAX_LOOK_AHEAD,
                f"acoustic.waits.{head} is not an integer in 0 … {MAX_LOOK_AHEAD}",
            )

    def look_ahead_of(self, head: str) -> int:
        """Output frames by which the results of a head lag their input."""
        return self.look_ahead + self.waits.get(head, 0)


@dataclass(frozen=True, slots=True)
class Description:
    """What `model.toml` says, the id apart.

    Attributes:
        name: of the model, such as `english`.
        language: code of what it recognises, such as `en`.
        licence: SPDX name of the weights' licence.
        features: settings of the features.
        acoustic: shape of the network.
        training: anything worth keeping about how it was made: strings, numbers, lists, tables.
        decoding: how words are searched; None for a bundle without a language.
    """

    name: str
    language: str
    licence: str
    features: FeatureSettings
    acoustic: AcousticSettings
    training: dict[str, Any] = field(default_factory=dict)
    decoding: BeamSettings | None = None

    def __post_init__(self) -> None:
        if self.decoding is not None:
            head, priors = self.decoding.head, len(self.decoding.priors)
            units = self.acoustic.heads.get(head)
            _demand(units is not None, f"decoding.head is {head!r}, which is no head")
            _demand(priors in {0, units}, f"decoding.priors has {priors} numbers for {units} units")
        for key in ("name", "language", "licence"):
            value = getattr(self, key)
            _demand(isinstance(value, str) and bool(value), f"{key} is not a text")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and found whole.

    Attributes:
        path: its folder.
        id: 64 hexadecimal digits that stand for all that can change a result.
        description: what `model.toml` says.
        units: the units of each head in order, the blank first.
    """

    path: Path
    id: str
    description: Description
    units: dict[str, tuple[str, ...]]

    def acoustic_file(self, precision: str) -> Path:
        """The network's ONNX file.

        Raises:
            BundleError: the bundle does not hold that precision, or there is no such precision.
        """
        path = self.path / f"acoustic.{precision}.onnx"
        if precision not in PRECISIONS:
            raise BundleError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
        if not path.is_file():
            raise BundleError(
                f"{self.path}: the bundle holds no {path.name}; use another precision"
            )
        return path


def find(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a shipped bundle by its name, or of any bundle by its path.

    Args:
        name_or_path: name of a model that ships with the package, or a folder that holds a
            `model.toml`; None is the default model.

    Raises:
        BundleError: there is no such bundle.
    """
    wanted = DEFAULT if name_or_path is None else os.fspath(name_or_path)
    for folder in (SHIPPED / wanted, Path(wanted)):
        if (folder / HEADER).is_file():
            return folder
    if wanted.endswith(".pt"):
        raise BundleError(f"{wanted}: a checkpoint is no bundle; make one of it with asr export")
    shipped = sorted(path.parent.name for path in SHIPPED.glob(f"*/{HEADER}"))
    raise BundleError(
        f"{wanted}: no folder with a {HEADER} and no shipped model "
        f"(those are: {', '.join(shipped) or 'none'})"
    )


def read(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle's description and units, and check that the bundle is whole.

    Args:
        path: its folder.

    Raises:
        BundleError: the bundle is missing, partial, damaged or of another version.
    """
    folder = Path(path)
    try:
        header = tomllib.loads((folder / HEADER).read_bytes().decode())
    except OSError as error:
        raise BundleError(f"{folder}: no readable {HEADER} ({error.strerror})") from error
    except ValueError as error:  # of UTF-8 or TOML
        raise BundleError(f"{folder / HEADER}: damaged: {_one_line(error)}") from error
    if header.get("format") != FORMAT:
        raise BundleError(
            f"{folder / HEADER}: format {header.get('format')!r}; this program reads {FORMAT}: "
            "use the version of the program that belongs to the model"
        )
    try:
        description = _description(header)
        units = {
            head: _read_units(folder, head, n) for head, n in description.acoustic.heads.items()
        }
        found = compute_id(folder, description)
        _demand(
            header["id"] == found,
            "the id does not fit the files: some were changed, added or lost; fetch it again",
        )
    except (BundleError, KeyError, TypeError, ValueError, OSError) as error:
        raise BundleError(f"{folder}: {_explain(error)}") from error
    return Bundle(folder, found, description, units)


def write(
    folder: str | os.PathLike[str],
    description: Description,
    units: Mapping[str, Sequence[str]],
    card: str,
) -> Bundle:
    """Make a bundle of a folder in which the `acoustic.<precision>.onnx` files already lie.

    `model.toml` comes last, so that an interrupted call leaves no bundle that can be read.

    Args:
        folder: that folder; anything else in it becomes a part of the bundle.
        description: goes into `model.toml`.
        units: the units of each head of `description.acoustic.heads`, `<blank>` first.
        card: text of `MODEL_CARD.md`.

    Returns:
        The bundle as `read` gives it.

    Raises:
        BundleError: the parts do not fit together.
    """
    folder = Path(folder)
    (folder / HEADER).unlink(missing_ok=True)
    for head in description.acoustic.heads:
        lines = units.get(head, ())
        _check_units(lines, head, description.acoustic.heads[head])
        (folder / f"units.{head}.txt").write_bytes("".join(f"{u}\n" for u in lines).encode())
    (folder / CARD).write_bytes(card.encode())
    _demand(
        any((folder / f"acoustic.{precision}.onnx").is_file() for precision in PRECISIONS),
        f"{folder}: no acoustic.<precision>.onnx; write it before the bundle",
    )
    unfinished = folder / f".{HEADER}"
    unfinished.write_bytes(_header(description, compute_id(folder, description)).encode())
    unfinished.replace(folder / HEADER)
    return read(folder)


def compute_id(folder: Path, description: Description) -> str:
    """The id of a bundle, 64 hexadecimal digits, computed from its files and description.

    Hidden files and folders are left out.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name in {HEADER, CARD} or path.name.startswith(".") or not path.is_file():
            continue
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.name}\0{content}\n".encode())
    features, acoustic, *decoding = _tables(description)
    acoustic["heads"] = list(acoustic["heads"].items())  # their order counts
    canonical = json.dumps([features, acoustic, *decoding], sort_keys=True, separators=(",", ":"))
    whole.update(canonical.encode())
    return whole.hexdigest()


def _tables(description: Description) -> list[dict[str, Any]]:
    """`[features]`, `[acoustic]` and perhaps `[decoding]` as they stand in `model.toml`."""
    f, a = description.features, description.acoustic
    features = {
        "sample_rate": f.sample_rate,
        "bands": f.bands,
        "mean": list(f.mean),
        "deviation": list(f.deviation),
    }
    acoustic = {
        "cell": a.cell,
        "width": a.width,
        "depth": a.depth,
        "look_ahead": a.look_ahead,
        "heads": dict(a.heads),
        **({"waits": dict(a.waits)} if a.waits else {}),  # else the ids of older bundles
    }
    return [
        features,
        acoustic,
        *([] if description.decoding is None else [description.decoding.table()]),
    ]


def _header(description: Description, bundle_id: str) -> str:
    """The text of `model.toml`."""
    top = {
        "format": FORMAT,
        "id": bundle_id,
        "name": description.name,
        "language": description.language,
        "licence": description.licence,
    }
    names = ("features", "acoustic", "decoding")
    parts = [table(*part) for part in zip(names, _tables(description), strict=False)]
    return "\n".join([table(None, top), *parts, table("training", description.training)])


def _description(header: dict[str, Any]) -> Description:
    """What the header describes; KeyError, TypeError or BundleError where it does not fit."""
    top = {"format", "id", "name", "language", "licence", "features", "acoustic", "training"}
    _known(header, top | {"decoding"}, "")
    features, acoustic, training = (header[key] for key in ("features", "acoustic", "training"))
    _known(features, {"sample_rate", "bands", "mean", "deviation"}, "features.")
    _known(acoustic, {"cell", "width", "depth", "look_ahead", "heads", "waits"}, "acoustic.")
    _known(acoustic.get("waits", {}), set(acoustic["heads"]), "acoustic.waits.")
    _known(training, set(training), "training.")
    _known(acoustic["heads"], set(acoustic["heads"]), "acoustic.heads.")
    vectors = {key: tuple(features[key]) for key in ("mean", "deviation")}
    return Description(
        name=header["name"],
        language=header["language"],
        licence=header["licence"],
        features=FeatureSettings(**{**features, **vectors}),
        acoustic=AcousticSettings(**acoustic),
        training=training,
        decoding=_decoding(header["decoding"]) if "decoding" in header else None,
    )


def _decoding(values: dict[str, Any]) -> BeamSettings:
    _known(values, {setting.name for setting in fields(BeamSettings)}, "decoding.")
    try:
        return BeamSettings(**values)
    except ConfigError as error:
        raise BundleError(str(error)) from error


def _known(values: object, keys: set[str], where: str) -> None:
    """Refuse what is no table, and unknown keys: they would be settings that nobody obeys."""
    _demand(isinstance(values, dict), f"{HEADER}: [{where.rstrip('.')}] is not a table")
    for key in values:  # type: ignore[attr-defined]  # a dict, as was just demanded
        _demand(key in keys, f"{HEADER}: unknown key {where}{key}")


def _read_units(folder: Path, head: str, count: int) -> tuple[str, ...]:
    path = folder / f"units.{head}.txt"
    try:
        lines = path.read_bytes().decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path.name} is not UTF-8") from error
    _check_units(lines, head, count)
    return tuple(lines)


def _check_units(units: Sequence[str], head: str, count: int) -> None:
    name = f"units.{head}.txt"
    _demand(len(units) == count, f"{name} has {len(units)} units; acoustic.heads says {count}")
    _demand(units[0] == BLANK, f"{name} does not begin with {BLANK}")
    _demand(all(units) and len(set(units)) == count, f"{name} has an empty unit or one unit twice")
    _demand(not any("\n" in unit for unit in units), f"{name} would have a unit with a line break")


def _demand(condition: bool, otherwise: str) -> None:  # noqa: FBT001  # an assertion for data
    if not condition:
        raise BundleError(otherwise)


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _explain(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{HEADER} lacks {error.args[0]}"
    if isinstance(error, OSError):
        return f"{Path(str(error.filename)).name} cannot be read ({error.strerror})"
    if isinstance(error, TypeError | ValueError):
        return f"{HEADER}: a value is of the wrong kind ({_one_line(error)})"
    return _one_line(error)
