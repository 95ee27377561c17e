"""Music for training, played with recorded notes: `python -m training.orchestra NOTES OUT …`.

Whoever never heard an orchestra takes it for speech: strings swell, slide and resound as voices do.
Recordings that may be used are few, but the Philharmonia Orchestra has given away its notes, one
by one (docs/data.md). Here they are put together to pieces of a minute: an ensemble of one to five
parts, each of one to six players who are never quite together nor quite in tune, plays chords and
melodies of a scale, in a room. The manifest has the form that `[augmentation]` reads; the rows of
another one can be put before it.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asr.errors import DataError, Error
from asr.manifest import write_manifest
from training.augment import reverberate
from training.found_speech import Repository
from training.generated import RATE, generated_room

if TYPE_CHECKING:
    from collections.abc import Sequence

Samples = NDArray[np.float32]

COMMIT: Final = "717b7de2"
SOURCE: Final = "Philharmonia Orchestra's sound samples (skratchdot/philharmonia-samples), played"
LICENCE: Final = "CC BY-SA 3.0"
NAME: Final = re.compile(
    r"audio/([^/]+)/[^/]+_([A-G]s?)(\d)_(1|15|long|very-long)_[^_]+_([^_]+)\.mp3"
)
PITCHES: Final = ("C", "Cs", "D", "Ds", "E", "F", "Fs", "G", "Gs", "A", "As", "B")
STYLES: Final = ("normal", "vibrato", "tremolo", "legato", "non-vibrato", "nonlegato", "tenuto")
STRINGS: Final = ("violin", "viola", "cello", "double bass")
SCALES: Final = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 8, 11))
FARTHEST: Final = 2  # semitones that a note is played higher or lower than it was recorded
SECONDS: Final = 60.0  # of a piece


@dataclass(frozen=True, slots=True)
class Note:
    """A recorded note.

    Attributes:
        pitch: semitones, 0 is the lowest C.
        path: in the repository.
    """

    pitch: int
    path: str


def notes_of(paths: Sequence[str]) -> dict[str, list[Note]]:
    """The notes that can be held, by instrument."""
    found: dict[str, list[Note]] = {}
    for path in paths:
        named = NAME.fullmatch(path)
        if named and named[5].removeprefix("arco-") in STYLES:
            note = Note(PITCHES.index(named[2]) + 12 * int(named[3]), path)
            found.setdefault(named[1], []).append(note)
    return found


class Orchestra:
    """Plays.

    Args:
        repository: of recorded notes.

    Raises:
        DataError: it has none.
    """

    def __init__(self, repository: Repository) -> None:
        self._notes = notes_of(repository.paths())
        if not self._notes:
            raise DataError(f"{repository.folder}: no notes named as Philharmonia's are")
        self._repository = repository
        self._recorded = lru_cache(4096)(self._decoded)

    def piece(self, rng: np.random.Generator, seconds: float) -> Samples:
        """A piece of music, float32 [seconds * 16000], at most 1 in size."""
        length = int(seconds * RATE)
        played = np.zeros(length, np.float32)
        key, scale = int(rng.integers(12)), SCALES[rng.integers(len(SCALES))]
        beat = float(np.exp(rng.uniform(np.log(0.25), np.log(1.5))))  # seconds
        chords = [int(rng.integers(7)) for _ in range(8)]
        for instrument in self._ensemble(rng):
            played += self._part(instrument, (key, scale, beat, chords), length, rng)
        if rng.random() < 0.7:
            played = reverberate(played, generated_room(rng))
        return np.asarray(played / max(1e-6, float(np.abs(played).max())) * 0.5, np.float32)

    def _ensemble(self, rng: np.random.Generator) -> list[str]:
        """Instruments of the parts: often strings."""
        kinds = sorted(self._notes)
        strings = [kind for kind in STRINGS if kind in self._notes]
        chosen = strings if strings and rng.random() < 0.5 else kinds
        return [chosen[rng.integers(len(chosen))] for _ in range(rng.integers(1, 6))]

    def _part(
        self,
        instrument: str,
        music: tuple[int, Sequence[int], float, Sequence[int]],
        length: int,
        rng: np.random.Generator,
    ) -> Samples:
        """What the players of one part play."""
        key, scale, beat, chords = music
        notes = self._notes[instrument]
        lowest, highest = min(n.pitch for n in notes), max(n.pitch for n in notes)
        allowed = [p for p in range(lowest, highest + 1) if (p - key) % 12 in scale]
        if not allowed:
            allowed = [lowest]
        place = int(rng.integers(len(allowed)))
        melodious, pace = rng.random() < 0.5, float(rng.choice((0.5, 1, 1, 2, 4)))
        players = int(rng.integers(1, 7))
        detuned = rng.normal(0, 0.06, players)  # semitones
        late = rng.uniform(0, 0.04, players)
        played, now = np.zeros(length, np.float32), 0.0
        while now * RATE < length:
            lasts = beat * pace * float(rng.choice((0.5, 1, 1, 1, 2)))
            if rng.random() > 0.1:  # else a rest
                if melodious:
                    place = int(np.clip(place + rng.integers(-2, 3), 0, len(allowed) - 1))
                else:
                    root = chords[int(now / (4 * beat)) % len(chords)]
                    tones = {(key + scale[(root + step) % len(scale)]) % 12 for step in (0, 2, 4)}
                    places = [k for k, p in enumerate(allowed) if p % 12 in tones] or [place]
                    place = places[int(np.argmin(np.abs(np.array(places) - place)))]
                for off, delay in zip(detuned, late, strict=True):
                    self._play(played, notes, allowed[place] + off, (now + delay, lasts), rng)
            now += lasts
        return played * np.float32(10 ** (-rng.uniform(0, 12) / 20))

    def _play(
        self,
        played: Samples,
        notes: Sequence[Note],
        pitch: float,
        when: tuple[float, float],
        rng: np.random.Generator,
    ) -> None:
        """Add a note at some seconds that lasts for some."""
        distance = min(abs(note.pitch - pitch) for note in notes)
        if distance > FARTHEST:
            return
        near = [note for note in notes if abs(note.pitch - pitch) <= distance + 0.5]
        note = near[rng.integers(len(near))]
        sound = self._recorded(note.path)
        step = 2 ** ((pitch - note.pitch) / 12)
        first, count = int(when[0] * RATE), int((when[1] + 0.1) * RATE)
        count = min(count, int((len(sound) - 1) / step), len(played) - first)
        if count <= 0:
            return
        sound = np.interp(step * np.arange(count), np.arange(len(sound)), sound)
        fade = min(count, int(rng.uniform(0.05, 0.2) * RATE))
        sound[count - fade :] *= np.linspace(1, 0, fade)
        played[first : first + count] += sound.astype(np.float32)

    def _decoded(self, path: str) -> Samples:
        """A note at 16 kHz from where it begins, its peak at 1; one file is empty, and silent."""
        content = self._repository.read(path)
        if not content:
            return np.zeros(2, np.float32)
        try:
            samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        except soundfile.LibsndfileError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        samples = samples if samples.ndim == 1 else samples.mean(axis=1)
        samples = soxr.resample(samples, rate, RATE)
        peak = float(np.abs(samples).max(initial=0))
        if peak == 0:
            return np.zeros(2, np.float32)
        begin = int(np.argmax(np.abs(samples) > 0.05 * peak))
        return np.asarray(samples[begin:] / peak, np.float32)


def main(arguments: Sequence[str]) -> int:
    """Play, and write recordings and manifest."""
    args = _parsed(arguments)
    try:
        rows = _rows(args.beside) if args.beside else []
        args.out.mkdir(parents=True, exist_ok=True)
        with Repository(args.notes, args.commit) as repository:
            orchestra = Orchestra(repository)
            for number in range(args.pieces):
                piece = orchestra.piece(np.random.default_rng((args.seed, number)), SECONDS)
                path = args.out / f"piece-{number:03}.flac"
                soundfile.write(path, piece, RATE)
                rows.append(
                    {
                        "audio": str(path),
                        "kind": "music (played)",
                        "duration": len(piece) / RATE,
                        "split": "train",
                        "source": SOURCE,
                        "licence": LICENCE,
                    }
                )
                print(f"\r{number + 1} of {args.pieces} pieces", end="", file=sys.stderr)  # noqa: T201
        write_manifest(args.out / "noise.jsonl", rows)
    except (Error, OSError) as error:
        print(f"python -m training.orchestra: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(file=sys.stderr)  # noqa: T201
    return 0


def _rows(manifest: Path) -> list[dict[str, object]]:
    """The rows of another manifest, their `audio` as seen from here."""
    try:
        rows = [json.loads(line) for line in manifest.read_text("utf-8").split("\n") if line]
        return [row | {"audio": str(manifest.parent / row["audio"])} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest}: no readable manifest of noise: {error}") from error


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m training.orchestra",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("notes", type=Path, metavar="NOTES", help="clone or mirror of the notes' repository")
    add("out", type=Path, metavar="OUT", help="folder for recordings and noise.jsonl")
    add("--beside", type=Path, metavar="NOISE.jsonl", help="put its rows before ours")
    add("--pieces", type=int, default=60, help="of a minute each (default: 60)")
    add("--seed", type=int, default=0, help="of all that is chosen (default: 0)")
    add("--commit", default=COMMIT, help=f"of the repository (default: {COMMIT})")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
