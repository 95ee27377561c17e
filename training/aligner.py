"""Align a whole manifest: add to each row where its words, and its phones, are.

Rule for rows that cannot be aligned: they are kept without times, counted by kind and named; words
that lack a pronunciation are counted, too. What a model of little training knows of real speech can
so teach the next one frame by frame (`phone_times`), and latency can be measured against the words'
ends (`words`).
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from asr import parallel
from asr.decoding import WORD_BEGIN
from asr.errors import AudioError, ConfigError, DataError
from asr.features import Normalisation
from asr.manifest import named
from asr.measure import read_samples
from training.alignment import align_words, head_log_probs, joined, samples_of
from training.data import Faults, row_text
from training.units import Phones, Pieces, read_lexicon

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from asr.acoustic import AcousticModel
    from training.units import Units

    Load = Callable[[], "Aligner"]
    # Network, units of its heads, normalisation, and by how much a head lags.
    _Parts = tuple[AcousticModel, Mapping[str, Sequence[str]], Normalisation, Callable[[str], int]]

TIMES = ("words", "phone_times")
"""The keys that an alignment writes. Old ones are dropped: they were another alignment's."""


@dataclass(frozen=True, slots=True)
class Aligner:
    """A network, one of its heads, and how to spell words in that head's units."""

    model: AcousticModel
    normalisation: Normalisation
    head: str
    units: Units

    def times(self, samples: NDArray[np.float32], text: str) -> dict[str, list[list[Any]]]:
        """Where the words and phones of a text are in a recording.

        Args:
            samples: float32 [n], 16 kHz.
            text: words, spelled as they are to be returned; looked up in lower case.

        Returns:
            `words` and, if the units are phones, `phone_times`: each `[text, first sample, last
            sample + 1]`.

        Raises:
            DataError: the text cannot be written, or not in so short a recording.
        """
        words = text.split()
        phones = isinstance(self.units, Phones)
        if not words:
            return {key: [] for key in TIMES[: 1 + phones]}
        lowered = " ".join(text.lower().split())
        if not len(samples):
            raise DataError("an empty recording")
        scores = head_log_probs(self.model, self.normalisation, samples, self.head)
        found, units = align_words(scores, lowered, self.units)
        times = {
            "words": [
                [word, *samples_of(span, len(samples))]
                for word, span in zip(words, found, strict=True)
            ]
        }
        if phones:
            times["phone_times"] = [list(unit) for unit in joined(found, units, len(samples))]
        return times

    def unknown(self, text: str) -> list[str]:
        """The words of a text that these units cannot write."""
        return [word for word in text.lower().split() if not self._writes(word)]

    def _writes(self, word: str) -> bool:
        try:
            return bool(self.units.encode(word))
        except DataError:
            return False


def load_aligner(
    model: str | None, precision: str, head: str | None, lexicon: Sequence[str]
) -> Aligner:
    """The aligner of a checkpoint (`.pt`, which needs PyTorch) or of a bundle.

    Args:
        model: path, or name of a shipped bundle.
        precision: of a bundle: `int8` or `float32`.
        head: which one; by default the first that writes phones if there is a lexicon, else the
            first.
        lexicon: files of pronunciations, of which the first known one of a word counts.

    Raises:
        BundleError: there is no such model.
        ConfigError: it has no such head, or head and lexicon do not go together.
        DataError: a lexicon cannot be read.
    """
    if model is not None and model.endswith(".pt"):
        network, units, normalisation, look_ahead_of = _of_checkpoint(model)
    else:
        network, units, normalisation, look_ahead_of = _of_bundle(model, precision)
    phones = [name for name in network.heads if _writes_phones(units[name])]
    name = head or next(iter(phones if lexicon else network.heads), None)
    if name not in network.heads:
        wanted = f"head {head!r}" if head else "head of phones for the lexicon"
        raise ConfigError(f"this model has no {wanted}; it has {', '.join(network.heads)}")
    network.look_ahead = look_ahead_of(name)
    if name not in phones:
        if lexicon:
            raise ConfigError(f"head {name!r} spells words itself; leave the lexicon out")
        return Aligner(network, normalisation, name, Pieces(units[name]))
    if not lexicon:
        raise ConfigError(f"head {name!r} writes phones: name the lexicon that it was trained with")
    return Aligner(network, normalisation, name, Phones(units[name], read_lexicon(lexicon)))


def _writes_phones(units: Sequence[str]) -> bool:
    return not any(unit.startswith(WORD_BEGIN) for unit in units)


def _of_bundle(model: str | None, precision: str) -> _Parts:
    from asr import bundle
    from asr.onnx_backend import OnnxModel

    found = bundle.read(bundle.find(model))
    features, acoustic = found.description.features, found.description.acoustic
    network = OnnxModel(found.acoustic_file(precision), acoustic.heads, acoustic.look_ahead)
    normalisation = _normalisation(features.mean, features.deviation)
    return network, found.units, normalisation, acoustic.look_ahead_of


def _of_checkpoint(model: str) -> _Parts:
    from pathlib import Path

    from training.checkpoint import read_checkpoint
    from training.torch_backend import TorchModel

    checkpoint = read_checkpoint(Path(model))
    normalisation = _normalisation(checkpoint.mean, checkpoint.deviation)
    network = TorchModel(checkpoint.build())
    return network, checkpoint.units, normalisation, checkpoint.network.look_ahead_of


def _normalisation(mean: Sequence[float], deviation: Sequence[float]) -> Normalisation:
    return Normalisation(np.array(mean, np.float32), np.array(deviation, np.float32))


@dataclass(slots=True)
class Alignment:
    """An aligned manifest.

    Attributes:
        rows: those that came in, in order, with times where they could be found.
        faults: why the others have none.
        missing: words without a pronunciation (or of characters that no unit writes), how often
            each.
        aligned: rows with times.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    missing: Counter[str] = field(default_factory=Counter)
    aligned: int = 0


UNWRITABLE = "words that the head cannot write"
UNREADABLE = "unreadable audio"


@dataclass(frozen=True, slots=True)
class _Outcome:
    times: dict[str, list[list[Any]]] | None = None
    kind: str = ""
    detail: str = ""
    missing: tuple[str, ...] = ()


def align_rows(
    load: Load,
    rows: Sequence[dict[str, Any]],
    *,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda _done: None,
) -> Alignment:
    """Align the rows of a manifest.

    Args:
        load: makes the aligner; must be picklable for several jobs.
        rows: with `audio` (a path) and `text`; other keys are kept.
        jobs: processes, ≥ 1, with one thread each.
        progress: called after each row with the number done.

    Raises:
        DataError: not one row could be aligned.
        Error: the aligner cannot be made, or a process died.
    """
    found = Alignment()
    work = functools.partial(_align_row)
    for row, outcome in zip(rows, parallel.each(load, work, rows, jobs), strict=True):
        kept = {key: value for key, value in row.items() if key not in TIMES}
        if outcome.times is None:
            name = row.get("id") or row["audio"]
            found.faults.add(outcome.kind, named(name, row["audio"], outcome.detail))
            found.missing.update(outcome.missing)
        else:
            found.aligned += 1
        found.rows.append(kept | (outcome.times or {}))
        progress(len(found.rows))
    if not found.aligned:
        raise DataError(
            f"none of {len(rows)} rows could be aligned: {'; '.join(found.faults.lines())}"
        )
    return found


def _align_row(aligner: Aligner, row: dict[str, Any]) -> _Outcome:
    if not isinstance(row.get("text"), str):
        return _Outcome(kind="no text", detail="no string `text`")
    missing = tuple(aligner.unknown(row_text(row)))
    if missing:
        return _Outcome(kind=UNWRITABLE, detail=", ".join(missing), missing=missing)
    try:
        samples = read_samples(row["audio"])
    except AudioError as error:
        return _Outcome(kind=UNREADABLE, detail=str(error))
    try:
        return _Outcome(aligner.times(samples, row["text"]))
    except DataError as error:
        return _Outcome(kind="a text that does not fit the recording", detail=str(error))
