"""Training and validation speech: where it lies, what is said in it, and what of it cannot be used.

Bad data is counted by kind and named by its first examples. A source of which more than
`bad_share` cannot be used stops the run; otherwise the rest is used. The files themselves are
read later (`training.audio_store`), under the same rule.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from asr.errors import DataError
from asr.features import output_frames
from asr.manifest import read_rows, timed
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
        phones: phone, first sample and last sample + 1, where the times are known: exactly, or by
            alignment.
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

    def __add__(self, other: Faults) -> Faults:
        return Faults(self.counts + other.counts, self.examples | other.examples)

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
        most: samples in all; what comes after them is left out. 0: no bound.
    """

    shortest: int
    longest: int
    fastest: float
    bad_share: float
    any_text: bool = False
    most: int = 0


def manifest_rows(path: Path, drop: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Rows of a JSON-lines manifest (UTF-8), with `audio` made a path.

    Args:
        path: the manifest.
        drop: leave out the rows that have one of these values.

    Raises:
        DataError: no such file, nothing in it, a line that is no JSON object, or a key of `drop`
            that no row has.
    """
    rows = [row | {"audio": path.parent / row["audio"]} for _, row in read_rows(path, ("audio",))]
    if not rows:
        raise DataError(f"{path}: holds no rows; it needs a JSON object with `audio` a line")
    for key in drop:
        if not any(key in row for row in rows):
            raise DataError(f"{path}: no row has the key {key!r}, by which rows are to be dropped")
    return [row for row in rows if not any(row.get(key) in drop[key] for key in drop)]


def librispeech_rows(root: Path, split: str) -> Iterator[dict[str, Any]]:
    """Rows of one part of LibriSpeech in the same form.

    Raises:
        ConfigError: there is no such part.
        DataError: it is not there.
    """
    from training.librispeech import LibriSpeech

    for row in LibriSpeech(root, split).utterances():
        yield {"id": row.id, "audio": row.path, "text": row.text, "speaker": row.speaker}


def load(
    rows: Iterable[dict[str, Any]], heads: Mapping[str, Units], rule: Rule, where: str
) -> tuple[list[Utterance], Faults]:
    """The usable utterances of a source, and what was wrong with the others.

    Raises:
        DataError: nothing is usable, or more than `rule.bad_share` is not.
    """
    faults, good, total = Faults(), list[Utterance](), 0
    for row in rows:
        name = str(row.get("id") or row["audio"])
        try:
            utterance = _utterance(row, name, heads, rule)
        except _Unusable as error:
            faults.add(error.kind, f"{name}{error.detail}")
            continue
        total += utterance.samples
        if rule.most and total > rule.most:
            break
        good.append(utterance)
    bad = sum(count for kind, count in faults.counts.items() if kind not in OUT_OF_BOUNDS)
    if not good or bad > rule.bad_share * (len(good) + bad):
        left_out = faults.counts.total()
        share = f"{left_out} of {left_out + len(good)} utterances cannot be used"
        raise DataError(f"{where}: {share}: {'; '.join(faults.lines()) or 'it is empty'}")
    return good, faults


SHORTER, LONGER = "shorter than batches.shortest", "longer than batches.longest"
OUT_OF_BOUNDS = (SHORTER, LONGER)  # left out by choice, no fault


class _Unusable(Exception):  # noqa: N818 - never leaves this file
    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind, self.detail = kind, f": {detail}" if detail else ""
        super().__init__(kind)


def _utterance(row: dict[str, Any], name: str, heads: Mapping[str, Units], rule: Rule) -> Utterance:
    text = row_text(row)
    if not text:
        raise _Unusable("empty text")
    path = Path(row["audio"])
    if not path.exists():
        raise _Unusable("missing file")
    samples = row["samples"] if "samples" in row else _length(path)
    if type(samples) is not int or samples < 1:
        raise _Unusable("a length that is no number of samples", repr(samples))
    if samples < rule.shortest:
        raise _Unusable(SHORTER)
    if samples > rule.longest:
        raise _Unusable(LONGER)
    targets = _targets(text, samples, heads, rule)
    return Utterance(name, path, samples, text, targets, _phone_times(row, samples))


def row_text(row: Mapping[str, Any]) -> str:
    """The transcript of a row: lower case, single spaces; empty when it has none."""
    text = row.get("text")
    return " ".join(text.lower().split()) if isinstance(text, str) else ""


def _targets(
    text: str, samples: int, heads: Mapping[str, Units], rule: Rule
) -> dict[str, NDArray[np.int64]]:
    targets, reason = {}, ""
    for head, units in heads.items():
        try:
            targets[head] = np.array(units.encode(text), np.int64)
        except DataError as error:
            reason = str(error)
    if not targets and not rule.any_text:
        raise _Unusable("text that no head can write", reason)
    frames = output_frames(int(samples / rule.fastest))
    for head, target in targets.items():
        if needed_frames(target) > frames and not rule.any_text:
            raise _Unusable(
                "transcript longer than the frames allow",
                f"{needed_frames(target)} frames for {head}, {frames} there",
            )
    return targets


def _phone_times(row: Mapping[str, Any], samples: int) -> tuple[tuple[str, int, int], ...]:
    if "frames" not in row:  # a synthesiser's own times go before an aligner's
        return _aligned(row.get("phone_times", ()), samples)
    try:
        phones, frames = row["phones"], row["frames"]
        if len(frames) != len(phones) + 2:
            raise _Unusable("phone times that do not fit the phones", f"{len(frames)} lengths")
        return tuple(phone_times(phones, frames, row.get("cut", 0)))
    except (KeyError, TypeError) as error:
        raise _Unusable("phone times that make no sense") from error


def _aligned(values: object, samples: int) -> tuple[tuple[str, int, int], ...]:
    try:
        times = timed(values)
    except ValueError as error:
        raise _Unusable("phone times that make no sense", str(error)) from error
    if times and times[-1][2] > samples:
        raise _Unusable("phone times that lie beyond the end", f"{times[-1][2]} of {samples}")
    return times


def _length(path: Path) -> int:
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise _Unusable("unreadable audio", str(error)) from error
    if info.samplerate != SAMPLE_RATE:
        raise _Unusable(f"a rate other than {SAMPLE_RATE} Hz", f"{info.samplerate} Hz")
    return int(info.frames)


def needed_frames(target: NDArray[np.int64]) -> int:
    """Fewest frames in which CTC can write a target: a blank must part equal neighbours."""
    return len(target) + int(np.count_nonzero(target[1:] == target[:-1]))
