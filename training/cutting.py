"""Cut aligned recordings into short ones, at pauses.

A recurrent network is trained frame after frame: 200 s of speech in 50 pieces of 4 s need a
quarter of the steps in time of 16 pieces of 12.5 s, and a batch that is one step wide holds more
speakers. The pieces must be whole words, so they are cut where an alignment (`asr align`) says
that none is being spoken.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from asr.errors import AudioError, DataError
from asr.manifest import named, timed
from asr.measure import read_samples
from training.data import SAMPLE_RATE, Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Times = Sequence[tuple[str, int, int]]

QUIET_SAMPLES = 320  # 20 ms: loudness is compared over windows of that length


@dataclass(frozen=True, slots=True)
class CutRule:
    """Where recordings may be cut.

    Attributes:
        wanted: samples of a piece, about.
        longest: samples of a piece; a longer one is made only where no pause allows another.
        pause: samples between two words, at least, for a cut between them.
    """

    wanted: int
    longest: int
    pause: int


def cuts(words: Times, samples: NDArray[np.float32], rule: CutRule) -> list[int]:
    """Where to cut a recording: sample numbers, rising, at the quietest point of chosen pauses.

    Of all choices the cheapest: a piece costs the square of its difference to the wanted length,
    relative to it, and a cut costs `rule.pause` over its pause's length.

    Args:
        words: word, first sample, last sample + 1.
        samples: float32 [n], 16 kHz.
        rule: what pieces should be like.
    """
    pauses = [(a[2], b[1]) for a, b in pairwise(words) if b[1] - a[2] >= rule.pause]
    places = [_quietest(samples, *pause) for pause in pauses]
    edges = [0, *places, len(samples)]
    prices = [0.0, *(rule.pause / (end - start) for start, end in pauses), 0.0]
    cost, before = [0.0], [0]
    for here in range(1, len(edges)):
        # A piece that is too long is taken only as the shortest of its kind.
        allowed = [k for k in range(here) if edges[here] - edges[k] <= rule.longest] or [here - 1]
        ways = [cost[k] + (1 - (edges[here] - edges[k]) / rule.wanted) ** 2 for k in allowed]
        best = int(np.argmin(ways))
        cost.append(ways[best] + prices[here])
        before.append(allowed[best])
    chosen, at = list[int](), before[-1]
    while at:
        chosen.append(edges[at])
        at = before[at]
    return chosen[::-1]


def pieces(
    row: Mapping[str, Any], samples: NDArray[np.float32], rule: CutRule
) -> Iterator[tuple[dict[str, Any], NDArray[np.float32]]]:
    """The pieces of an aligned row of a manifest, with their samples; those with words only.

    Args:
        row: with `id`, `text`, `words` and, if known, `phone_times`, as `asr align` writes them;
            one without `words` stays whole.
        samples: of its recording.
        rule: what pieces should be like.

    Yields:
        The row of a piece: `id` with the number of the piece behind it, `text`, `samples`,
        `duration`, its `words` and `phone_times`, and every other key as it was (but `audio`), and
        the piece's samples.
    """
    if "words" not in row:
        yield {key: value for key, value in row.items() if key != "audio"}, samples
        return
    words, phones = timed(row["words"]), timed(row.get("phone_times", ()))
    edges = [0, *cuts(words, samples, rule), len(samples)]
    for number, (start, end) in enumerate(pairwise(edges)):
        inside = _shifted(words, start, end)
        if not inside:
            continue
        yield (
            {
                **{key: value for key, value in row.items() if key != "audio"},
                "id": f"{row['id']}.{number}",
                "text": " ".join(word for word, _, _ in inside),
                "samples": end - start,
                "duration": (end - start) / SAMPLE_RATE,
                "words": inside,
                "phone_times": _shifted(phones, start, end),
            },
            samples[start:end],
        )


@dataclass(slots=True)
class CutManifest:
    """A manifest that was cut.

    Attributes:
        rows: of the pieces, `audio` being a path.
        faults: rows that were left out, or kept whole.
    """

    rows: list[dict[str, Any]]
    faults: Faults


def cut_rows(
    rows: Sequence[dict[str, Any]],
    folder: Path,
    rule: CutRule,
    progress: Callable[[int], None] = lambda _done: None,
) -> CutManifest:
    """Cut the recordings of a manifest; pieces become 16-bit FLAC files, numbered in order.

    Args:
        rows: as `asr align` writes them, `audio` being a path.
        folder: for the pieces; made if need be.
        rule: what pieces should be like.
        progress: called after each row with the number done.

    Raises:
        DataError: not one row could be cut.
        OSError: a piece cannot be written.
    """
    cut = CutManifest([], Faults())
    folder.mkdir(parents=True, exist_ok=True)
    for done, row in enumerate(rows, 1):
        name = str(row.get("id") or row["audio"])
        try:
            found = list(pieces({"id": name} | row, read_samples(row["audio"]), rule))
        except (AudioError, ValueError) as error:
            cut.faults.add("unreadable audio or times", named(name, row["audio"], str(error)))
        else:
            if "words" not in row:
                cut.faults.add("kept whole: no `words` with their times", name)
            for piece, samples in found:
                path = folder / f"{len(cut.rows):07d}.flac"
                soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
                cut.rows.append(piece | {"audio": path})
        progress(done)
    if not any("words" in row for row in cut.rows):
        lines = "; ".join(cut.faults.lines()) or "it is empty"
        raise DataError(f"nothing to cut: {lines} (asr align finds the words' times)")
    return cut


def _shifted(times: Times, start: int, end: int) -> list[list[Any]]:
    return [[text, a - start, b - start] for text, a, b in times if start <= a and b <= end]


def _quietest(samples: NDArray[np.float32], start: int, end: int) -> int:
    """The middle of the quietest 20 ms of a pause."""
    power = np.square(samples[start:end], dtype=np.float64)
    energy = np.concatenate([[0.0], np.cumsum(power)])  # of the samples before each
    width = min(QUIET_SAMPLES, end - start)
    return start + int(np.argmin(energy[width:] - energy[:-width])) + width // 2
