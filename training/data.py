"""Training and validation speech: where it lies, what is said in it, and what of it cannot be used.

Bad data is counted by kind and named by its first examples. A source of which more than
`bad_share` cannot be used stops the run; otherwise the rest is used.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from asr.errors import DataError
from training.model import frames_of
from training.synthetic import phone_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from training.units import Units

SAMPLE_RATE = 16000
EXAMPLES = 3  # names kept of each kind of fault


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one transcript.

    Attributes:
        name: what it is called in messages.
        path: the audio file, 16 kHz.
        samples: its length.
        text: lower-case words with single spaces.
        targets: for each head that can write `text` the numbers of its units.
        phones: phone, first sample and last sample + 1, where the times are known exactly.
    """

    name: str
    path: Path
    samples: int
    text: str
    targets: Mapping[str, NDArray[np.int64]]
    phones: tuple[tuple[str, int, int], ...] = ()


@dataclass(slots=True)
class Faults:
    """Bad data by kind: how often, and the first few by name."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Count one more utterance that cannot be used."""
        self.counts[kind] += 1
        names = self.examples.setdefault(kind, [])
        if len(names) < EXAMPLES:
            names.append(name)

    def lines(self) -> list[str]:
        """One line for each kind of fault."""
        return [
            f"{count} × {kind} (such as {', '.join(self.examples[kind])})"
            for kind, count in self.counts.most_common()
        ]


@dataclass(frozen=True, slots=True)
class Rule:
    """What an utterance must be like to be used.

    Attributes:
        shortest: samples, at least.
        longest: samples, at most.
        fastest: highest playing speed it will be given: its transcript must still fit the frames
            then.
        bad_share: the largest share of a source that may be unusable.
        any_text: also take text that no head can write (for validation, where every word counts).
    """

    shortest: int
    longest: int
    fastest: float
    bad_share: float
    any_text: bool = False


def manifest_rows(path: Path, drop: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines manifest, with `audio` made a path.

    Raises:
        DataError: no such file, or a line that is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["audio"] = path.parent / row["audio"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: no JSON object with the key `audio`") from error
        if not any(row.get(key) in values for key, values in drop.items()):
            yield row


def librispeech_rows(root: Path, split: str, *, download: bool) -> Iterator[dict[str, Any]]:
    """Rows of one part of LibriSpeech in the same form, fetched first where asked for."""
    from training.librispeech import LibriSpeech

    for row in LibriSpeech(root, split, download=download).utterances():
        yield {"id": row.id, "audio": row.path, "text": row.text, "speaker": row.speaker}


def load(
    rows: Iterable[dict[str, Any]], heads: Mapping[str, Units], rule: Rule, where: str
) -> tuple[list[Utterance], Faults]:
    """The usable utterances of a source, and what was wrong with the others.

    Raises:
        DataError: nothing is usable, or more than `rule.bad_share` is not.
    """
    faults, good = Faults(), []
    for row in rows:
        name = str(row.get("id") or row["audio"])
        try:
            good.append(_utterance(row, name, heads, rule))
        except _Unusable as error:
            faults.add(error.kind, f"{name}{error.detail}")
    bad = sum(count for kind, count in faults.counts.items() if kind not in OUT_OF_BOUNDS)
    if not good or bad > rule.bad_share * (len(good) + bad):
        share = f"{bad} of {len(good) + bad} utterances cannot be used"
        raise DataError(f"{where}: {share}: {'; '.join(faults.lines()) or 'it is empty'}")
    return good, faults


OUT_OF_BOUNDS = ("shorter than wanted", "longer than wanted")  # left out by choice, no fault


class _Unusable(Exception):  # noqa: N818 - never leaves this file
    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind, self.detail = kind, f": {detail}" if detail else ""
        super().__init__(kind)


def _utterance(row: dict[str, Any], name: str, heads: Mapping[str, Units], rule: Rule) -> Utterance:
    text = " ".join(str(row.get("text", "")).lower().split())
    if not text:
        raise _Unusable("empty text")
    path = Path(row["audio"])
    if not path.exists():
        raise _Unusable("missing file")
    samples = int(row["samples"]) if "samples" in row else _length(path)
    if samples < rule.shortest:
        raise _Unusable("shorter than wanted")
    if samples > rule.longest:
        raise _Unusable("longer than wanted")
    targets, reason = {}, ""
    for head, units in heads.items():
        try:
            targets[head] = np.array(units.encode(text), np.int64)
        except DataError as error:
            reason = str(error)
    if not targets and not rule.any_text:
        raise _Unusable("text that no head can write", reason)
    for head, target in targets.items():
        if needed_frames(target) > frames_of(int(samples / rule.fastest)):
            raise _Unusable("transcript longer than the frames allow", head)
    times = phone_times(row["phones"], row["frames"], row.get("cut", 0)) if "frames" in row else ()
    return Utterance(name, path, samples, text, targets, tuple(times))


def _length(path: Path) -> int:
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise _Unusable("unreadable audio", str(error)) from error
    if info.samplerate != SAMPLE_RATE:
        raise _Unusable(f"a rate other than {SAMPLE_RATE} Hz", f"{info.samplerate} Hz")
    return int(info.frames)


def needed_frames(target: NDArray[np.int64]) -> int:
    """Fewest frames in which CTC can write a target: a blank must part equal neighbours."""
    return len(target) + int(np.count_nonzero(target[1:] == target[:-1]))


class AudioStore:
    """Samples of utterances, decoded once and kept on disk as 16-bit integers if a folder is given.

    Several processes may share the folder: each writes an utterance whole before marking it as
    there.
    """

    def __init__(self, utterances: list[Utterance], folder: Path | None, name: str) -> None:
        self.utterances = utterances
        self.starts = np.concatenate([[0], np.cumsum([u.samples for u in utterances])])
        self._samples: NDArray[np.int16] | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._samples = _shared(folder / f"{name}.i16", np.int16, int(self.starts[-1]))
        self._there = _shared(folder / f"{name}.there", np.uint8, len(utterances))

    def read(self, number: int) -> NDArray[np.float32]:
        """Samples of one utterance in [-1, 1].

        Raises:
            DataError: the file cannot be read, has another rate, or another length than was
                announced.
        """
        if self._samples is None:
            return decode(self.utterances[number])
        part = self._samples[self.starts[number] : self.starts[number + 1]]
        if not self._there[number]:
            part[:] = np.clip(np.rint(decode(self.utterances[number]) * 32767), -32768, 32767)
            self._there[number] = 1
        return part.astype(np.float32) / np.float32(32767)


def _shared(path: Path, kind: type, length: int) -> Any:
    with path.open("ab") as file:
        if file.tell() != length * np.dtype(kind).itemsize:
            file.truncate(0)
            file.truncate(length * np.dtype(kind).itemsize)
    return np.memmap(path, kind, "r+", shape=(length,))


def decode(utterance: Utterance) -> NDArray[np.float32]:
    """Read an utterance's file.

    Raises:
        DataError: see `AudioStore.read`.
    """
    try:
        samples, rate = soundfile.read(str(utterance.path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{utterance.name}: {utterance.path} cannot be read: {error}") from error
    if rate != SAMPLE_RATE:
        raise DataError(f"{utterance.name}: {rate} Hz, but {SAMPLE_RATE} Hz is needed; convert it")
    mono = samples.mean(1)
    if len(mono) != utterance.samples:
        raise DataError(f"{utterance.name}: {len(mono)} samples, {utterance.samples} announced")
    return np.asarray(mono, np.float32)
