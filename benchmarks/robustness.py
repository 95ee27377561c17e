"""Robustness: word errors on the same set heard badly, and words where nothing is said.

Heard badly: through a telephone line; in noise at 20, 10 and 5 dB; in rooms; at half and double
loudness and overdriven; after 30 s of digital silence; and each speaker's utterances end to end as
one recording, to be held against the same ones apart (`as recorded`). Every choice of noise, place
and room is a function of the seed and the utterance's id, and the same for every ratio.

Where nothing is said: digital silence (target: no word), music-like sound, the noises without
voices (target: at most 20 words an hour) and the noises of many voices, which are speech and have
no target. `benchmarks/degradations.py` says what each is.
"""

from __future__ import annotations

import functools
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr import measure
from asr.errors import DataError
from asr.evaluate import evaluate
from asr.manifest import Utterance
from benchmarks import degradations, inputs, program, wer
from benchmarks.figure import Figure, report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from asr.audio import Samples
    from asr.evaluate import Evaluation

    Hear = Callable[[Utterance], Samples]
    Degrade = Callable[[Samples, np.random.Generator], Samples]

SPLIT = "validation"  # of the noises and rooms: those that no model was trained with
VOICES = "babble"  # kind of noise that is made of voices
ROOM = "rir"
SNRS = (20, 10, 5)
SILENCE_SECONDS = 30.0
CLIPPED_SHARE = 0.01
PIECE_MINUTES = 10.0  # of made sounds, each a recording of its own
MOST_WORDS = 20.0  # an hour


@dataclass(frozen=True)
class Condition:
    """What is measured: recordings, and how they are heard.

    Attributes:
        name: behind `robustness.`.
        title: for the table.
        utterances: with texts; without any text, the words of an hour are counted.
        hear: an utterance's samples; can be pickled.
        at_most: words an hour that are few enough.
    """

    name: str
    title: str
    utterances: Sequence[Utterance]
    hear: Hear
    at_most: float | None = None


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; 1 if a target was missed or a recording could not be read."""
    parser = inputs.parser("robustness", str(__doc__))
    parser.add_argument(
        "--noise",
        type=Path,
        required=True,
        metavar="FILE",
        help="manifest of noises and rooms (audio, kind, split): its validation part is used",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of all choices (default: 0)")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="of silence and of music (default: 60)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this condition; repeatable"
    )
    args = parser.parse_args(arguments)
    conditions = chosen(all_conditions(args), args.only)
    load = inputs.loader(args)
    recognizer = load()
    figures, failed = [], False
    for condition in conditions:
        found = evaluate(
            load, condition.utterances, measure.Settings(), jobs=args.jobs, hear=condition.hear
        )
        wer.tell_failures(found)
        failed = failed or bool(found.failures)
        figures.append(_figure(condition, found, args, recognizer))
        print(f"{condition.name}: measured", file=sys.stderr, flush=True)
    code = report("robustness", figures, arguments, args.results if args.record else None)
    return 1 if failed else code


def chosen(conditions: Sequence[Condition], names: Sequence[str]) -> Sequence[Condition]:
    """Those of the names; all where there is none.

    Raises:
        DataError: a name is unknown.
    """
    known = [condition.name for condition in conditions]
    for name in names:
        if name not in known:
            raise DataError(f"--only {name}: none of {', '.join(known)}")
    return [c for c in conditions if not names or c.name in names]


def all_conditions(args: argparse.Namespace) -> list[Condition]:
    """Everything that is measured."""
    recordings = inputs.utterances(args)
    sounds = read_sounds(args.noise)
    return [*badly_heard(recordings, sounds, args.seed), *without_speech(sounds, args)]


def badly_heard(
    recordings: Sequence[Utterance], sounds: dict[str, list[Path]], seed: int
) -> list[Condition]:
    """The same set under every degradation."""
    noises = [path for kind, paths in sounds.items() if kind != ROOM for path in paths]
    ways: list[tuple[str, str, Degrade]] = [
        ("telephone", "through a telephone line (8 kHz, μ-law)", _telephone),
        *(
            (
                f"noise-{snr}",
                f"in noise at {snr} dB",
                functools.partial(degradations.noisy, noises=noises, snr_db=snr),
            )
            for snr in SNRS
        ),
        (
            "reverberant",
            "in reverberant rooms",
            functools.partial(degradations.reverberant, rooms=sounds[ROOM]),
        ),
        ("half", "at half loudness", functools.partial(_louder, factor=0.5)),
        (
            "double",
            "at double loudness, cut off at full scale",
            functools.partial(_louder, factor=2.0),
        ),
        ("overdriven", f"overdriven, {CLIPPED_SHARE:.0%} of the samples cut off", _overdriven),
        ("after-silence", f"after {SILENCE_SECONDS:.0f} s of digital silence", _after_silence),
    ]
    long, parts = end_to_end(recordings)
    return [
        Condition("as-recorded", "as recorded", recordings, measure.hear),
        *(
            Condition(name, title, recordings, functools.partial(hear_degraded, degrade, seed))
            for name, title, degrade in ways
        ),
        Condition(
            "end-to-end",
            "each speaker's utterances end to end",
            long,
            functools.partial(hear_together, parts),
        ),
    ]


def without_speech(sounds: dict[str, list[Path]], args: argparse.Namespace) -> list[Condition]:
    """Sounds in which no word is to be found."""
    pieces = max(1, round(args.minutes / PIECE_MINUTES))
    made = [Utterance(str(number), Path(), "") for number in range(pieces)]
    seconds = 60 * args.minutes / pieces
    quiet = [
        Utterance(path.name, path, "")
        for kind, paths in sounds.items()
        if kind not in (ROOM, VOICES)
        for path in paths
    ]
    voices = [Utterance(path.name, path, "") for path in sounds.get(VOICES, ())]
    conditions = [
        Condition(
            "silence", "digital silence", made, functools.partial(hear_silence, seconds), 0.0
        ),
        Condition("noise", "noise without voices", quiet, measure.hear, MOST_WORDS),
        Condition("voices", "noise of many voices at once", voices, measure.hear),
        Condition(
            "music",
            "music-like sound",
            made,
            functools.partial(hear_music, seconds, args.seed),
            MOST_WORDS,
        ),
    ]
    return [condition for condition in conditions if condition.utterances]


def read_sounds(manifest: Path) -> dict[str, list[Path]]:
    """The validation part of a manifest of noises and rooms, by kind.

    Raises:
        DataError: it cannot be read, or has no noise or no room in that part.
    """
    found: dict[str, list[Path]] = {}
    try:
        rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines() if line]
        for row in rows:
            if row["split"] == SPLIT:
                found.setdefault(row["kind"], []).append(manifest.parent / row["audio"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest}: no readable manifest of noise: {error}") from error
    if ROOM not in found or not found.keys() - {ROOM, VOICES}:
        raise DataError(
            f"{manifest}: needs noises and rooms (kind `{ROOM}`) of the split `{SPLIT}`"
        )
    return found


def generator(seed: int, name: str) -> np.random.Generator:
    """What chooses for one recording, whatever is measured beside it."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def hear_degraded(degrade: Degrade, seed: int, utterance: Utterance) -> Samples:
    """An utterance heard badly."""
    return degrade(measure.hear(utterance), generator(seed, utterance.id))


def end_to_end(
    recordings: Sequence[Utterance],
) -> tuple[list[Utterance], dict[str, list[Utterance]]]:
    """One long utterance for each speaker, and what it is made of; nameless speakers are one."""
    parts: dict[str, list[Utterance]] = {}
    for utterance in recordings:
        parts.setdefault(utterance.speaker, []).append(utterance)
    long = [
        Utterance(f"all of {speaker}", own[0].path, " ".join(u.text for u in own), speaker)
        for speaker, own in parts.items()
    ]
    return long, {whole.id: own for whole, own in zip(long, parts.values(), strict=True)}


def hear_together(parts: dict[str, list[Utterance]], utterance: Utterance) -> Samples:
    """What an utterance is made of, one behind the other, with nothing in between."""
    return np.concatenate([measure.hear(part) for part in parts[utterance.id]])


def hear_silence(seconds: float, _: Utterance) -> Samples:
    """Digital silence."""
    return degradations.silence(seconds)


def hear_music(seconds: float, seed: int, utterance: Utterance) -> Samples:
    """Music-like sound, another for every utterance."""
    return degradations.music(seconds, generator(seed, utterance.id))


def _telephone(samples: Samples, _: np.random.Generator) -> Samples:
    return degradations.telephone(samples)


def _louder(samples: Samples, _: np.random.Generator, factor: float) -> Samples:
    return degradations.louder(samples, factor)


def _overdriven(samples: Samples, _: np.random.Generator) -> Samples:
    return degradations.overdriven(samples, CLIPPED_SHARE)


def _after_silence(samples: Samples, _: np.random.Generator) -> Samples:
    return degradations.after_silence(samples, SILENCE_SECONDS)


def _figure(
    condition: Condition, found: Evaluation, args: argparse.Namespace, recognizer: Any
) -> Figure:
    decoding, data = inputs.decoding(recognizer), inputs.data_name(args)
    manner = f"{args.precision}, {wer.MANNERS[decoding]}"
    details: dict[str, object] = {"model_id": recognizer.bundle_id[:12], "seed": args.seed}
    suffix = f"{args.precision}.{decoding}"
    if found.counts.words.length:
        details |= {"data": data, "data_sha256": wer.texts_digest(condition.utterances)}
        name = f"robustness.{condition.name}.{data}.{suffix}"
        title = f"Word error rate, {data}, {condition.title}, {manner}"
        return wer.figure(found, name, title, details)
    words = found.counts.words.insertions
    rate = words / (found.audio_seconds / 3600)
    heard = {r.utterance.id: r.text for r in found.results if r.words}
    return Figure(
        f"robustness.{condition.name}.{suffix}",
        f"Words heard in {condition.title}, {manner}",
        rate,
        "words/h",
        1,
        (rate, rate),
        at_most=condition.at_most,
        details=details
        | {"words": words, "audio_seconds": found.audio_seconds, "heard": heard, "spread": "none"},
    )


if __name__ == "__main__":
    program.run(main)
