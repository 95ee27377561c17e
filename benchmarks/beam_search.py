"""Beam search: word errors and processor time of the decoder alone, by width and weights.

    python -m benchmarks.beam_search --model FOLDER DATA
    python -m benchmarks.beam_search --model FOLDER DATA --sweep beam=50,100 --sweep lm_weight=0.9,1

The network is run once over the recordings; then every combination of the swept settings (those of
`[decoding]` in the bundle's model.toml otherwise) decodes its output in blocks of two frames, as it
does live. `--phrases 50` also expects 50 phrases: random ones, which nobody says and which should
change nothing, then rare ones that are said, which should be found. `--calibrate` measures and fits
the words' confidence (benchmarks/calibration.py). Where words are spelled (`--sweep spelling=1,2`)
it also tells what became of those that the lexicon lacks (benchmarks/spelled_words.py).

Times are processor time of the search on one core, without the network. The last figures are those
of the bundle's own settings.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from asr import bundle, metrics
from asr.decoding.beam import BeamDecoder
from asr.decoding.language import Language, read_language
from asr.errors import ConfigError
from asr.features import Normalisation
from asr.onnx_backend import OnnxModel
from benchmarks import inputs, program
from benchmarks.calibration import BLOCK, FRAMES_PER_SECOND, calibrations
from benchmarks.figure import Figure, report
from benchmarks.spelled_words import spelled_words
from training.decoding import log_probabilities

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from asr.decoding import DecodedWord
    from asr.decoding.settings import BeamSettings
    from asr.manifest import Utterance


FREQUENT_WORDS, COMMON_WORDS = 20_000, 5_000  # ranks in the language model


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting gave.

    Attributes:
        wer: word error rate, a fraction.
        seconds: processor time per second of audio.
        hypotheses: mean number alive.
        bytes: largest state.
        waited: committed words' mean frames from their end to their commitment.
    """

    wer: float
    seconds: float
    hypotheses: float
    bytes: int
    waited: float


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record."""
    parser = inputs.parser("beam_search", str(__doc__))
    parser.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=A,B,…", help="values to try"
    )
    parser.add_argument("--phrases", type=int, default=0, metavar="N", help="expect so many, too")
    parser.add_argument("--calibrate", action="store_true", help="fit the words' confidence, too")
    args = parser.parse_args(arguments)
    utterances = inputs.utterances(args)
    found = bundle.read(bundle.find(args.model))
    settings = found.description.decoding
    if settings is None:
        raise ConfigError(f"{found.path}: the bundle has no language to search")
    language = read_language(found.path, found.units[settings.head])
    swept = [parsed(sweep, settings) for sweep in args.sweep]
    frames = frames_of(found, args, utterances, settings.head)
    texts = [utterance.text for utterance in utterances]
    with inputs.one_core():
        for chosen in itertools.product(*swept):
            changes: dict[str, Any] = dict(chosen)
            if not changes:
                break
            told = ", ".join(f"{key} {value:g}" for key, value in changes.items())
            tell(told, language, replace(settings, **changes), frames, texts, args.phrases)
        own, expected = tell(
            "the bundle's own settings", language, settings, frames, texts, args.phrases
        )
    calibrated = calibrations(language, settings, frames, utterances) if args.calibrate else []
    for calibration in calibrated:
        print(calibration.line)
    details: dict[str, object] = {
        "data": inputs.data_name(args),
        "model_id": found.id[:12],
        "beam": settings.beam,
        "hypotheses": round(own.hypotheses, 1),
        "state_bytes": own.bytes,
        "frames_to_commit": round(own.waited, 1),
    }
    figures = [
        Figure(
            "beam_search.wer",
            f"WER with lexicon and language model, {args.precision}",
            own.wer,
            "fraction",
            1,
            (own.wer, own.wer),
            details=details,
        ),
        Figure(
            "beam_search.time",
            "Processor time of the beam search per second of audio",
            own.seconds,
            "s",
            1,
            (own.seconds, own.seconds),
            at_most=0.008,
            details=details,
        ),
    ]
    if expected:
        figures += expected.figures(details)
    figures += [calibration.figure(details) for calibration in calibrated]
    return report("beam_search", figures, arguments, args.results if args.record else None)


def tell(
    told: str,
    language: Language,
    settings: BeamSettings,
    frames: Sequence[NDArray[np.float32]],
    texts: Sequence[str],
    phrases: int,
) -> tuple[Outcome, Expectation | None]:
    """Measure settings and print what they give, a line each."""
    outcome = measure(language, settings, frames, texts)
    print(f"{told}: {line(outcome)}", flush=True)
    if settings.spelling is not None:
        print(f"{told}: {spelled_words(language, settings, frames, texts).line()}")
    expected = expecting(language, settings, frames, texts, phrases) if phrases else None
    if expected:
        print(f"{told}: {expected.line()}")
    return outcome, expected


def parsed(sweep: str, settings: BeamSettings) -> list[tuple[str, float]]:
    """The values of one `KEY=A,B,…`, of the setting's own type."""
    key, _, values = sweep.partition("=")
    if key not in type(settings).__slots__ or key in {"head", "priors"}:
        raise ConfigError(f"--sweep {key}: no such setting")
    kind = float if key == "spelling" else type(getattr(settings, key))  # None spells none
    try:
        return [(key, kind(value)) for value in values.split(",")]
    except ValueError as error:
        raise ConfigError(f"--sweep {sweep}: {error}") from error


def frames_of(
    found: bundle.Bundle, args: argparse.Namespace, utterances: Sequence[Utterance], head: str
) -> list[NDArray[np.float32]]:
    """What the network says of each recording."""
    about = found.description
    acoustic = OnnxModel(
        found.acoustic_file(args.precision), about.acoustic.heads, about.acoustic.look_ahead
    )
    normalisation = Normalisation(
        np.array(about.features.mean, np.float32), np.array(about.features.deviation, np.float32)
    )
    return log_probabilities(acoustic, normalisation, head, utterances)


def measure(
    language: Language,
    settings: BeamSettings,
    frames: Sequence[NDArray[np.float32]],
    texts: Sequence[str],
) -> Outcome:
    """Decode everything with these settings."""
    decoder = BeamDecoder(language, settings, frames[0].shape[1])
    counts, alive, sizes, waited = [], [], [0], []
    spent = 0.0
    for rows, text in zip(frames, texts, strict=True):
        state = decoder.start()
        words: list[DecodedWord] = []
        for first in range(0, len(rows), BLOCK):
            begin = time.process_time()
            state, said = decoder.advance(state, rows[first : first + BLOCK])
            decoder.tentative(state)
            spent += time.process_time() - begin
            words += said
            waited += [state.frame - word.end for word in said]
            alive.append(len(state.hypotheses) // 32)
            sizes.append(len(state.hypotheses) + len(state.arena))
        begin = time.process_time()
        words += decoder.finish(state)
        spent += time.process_time() - begin
        counts.append(metrics.count_errors(text, " ".join(word.text for word in words)))
    audio = sum(map(len, frames)) / FRAMES_PER_SECOND
    return Outcome(
        metrics.total(counts).wer,
        spent / audio,
        float(np.mean(alive)),
        max(sizes),
        float(np.mean(waited or [0])),
    )


@dataclass(frozen=True, slots=True)
class Expectation:
    """What expected phrases cost where nobody says them, and gain where somebody does.

    Attributes:
        unsaid: number of phrases that nobody says.
        said: number of phrases that are said.
        wers: word error rates, fractions: without phrases, with the unsaid, with the said ones.
        changed: recordings that the unsaid ones change.
        times: how often the said ones are said.
        found: how often they are heard without and with being expected.
    """

    unsaid: int
    said: int
    wers: tuple[float, float, float]
    changed: int
    times: int
    found: tuple[int, int]

    def line(self) -> str:
        """For people."""
        plain, beside, helped = self.wers
        return (
            f"{self.unsaid} phrases that nobody says: WER {plain:.2%} → {beside:.2%}, "
            f"{self.changed} recordings changed; {self.said} rare ones that are said "
            f"{self.times} times: found {self.found[0]} → {self.found[1]}, WER → {helped:.2%}"
        )

    def figures(self, details: dict[str, object]) -> list[Figure]:
        """For the tables."""
        cost, recall = self.wers[1] - self.wers[0], self.found[1] / max(1, self.times)
        before = self.found[0] / max(1, self.times)
        return [
            Figure(
                "beam_search.phrases_cost",
                f"WER added by {self.unsaid} expected phrases that nobody says",
                cost,
                "fraction",
                1,
                (cost, cost),
                at_most=0.001,
                details=details,
            ),
            Figure(
                "beam_search.phrases_found",
                f"Rare phrases found when expected ({before:.0%} when not)",
                recall,
                "fraction",
                1,
                (recall, recall),
                details=details,
            ),
        ]


def expecting(
    language: Language,
    settings: BeamSettings,
    frames: Sequence[NDArray[np.float32]],
    texts: Sequence[str],
    number: int,
) -> Expectation:
    """Decode with phrases that nobody says, and with rare ones that are said."""
    random = np.random.default_rng(0)
    plain = BeamDecoder(language, settings, frames[0].shape[1])
    spoken = [metrics.normalise(text) for text in texts]
    unsaid = unsaid_phrases(plain, language, spoken, number, random)
    said = rare_phrases(plain, language, spoken, number, random)
    heard, beside, helped = (
        [transcript(decoder, rows) for rows in frames]
        for decoder in (plain, plain.boosted(unsaid), plain.boosted(said))
    )
    without, with_unsaid, with_said = (
        metrics.total(list(map(metrics.count_errors, texts, lines))).wer
        for lines in (heard, beside, helped)
    )
    return Expectation(
        len(unsaid),
        len(said),
        (without, with_unsaid, with_said),
        sum(map(str.__ne__, heard, beside)),
        sum(occurrences(said, [line]) for line in spoken),
        (occurrences(said, heard), occurrences(said, helped)),
    )


def transcript(decoder: BeamDecoder, rows: NDArray[np.float32]) -> str:
    """What a decoder makes of a recording."""
    state, words = decoder.advance(decoder.start(), rows)
    return " ".join(word.text for word in (*words, *decoder.finish(state)))


def occurrences(phrases: Sequence[str], lines: Sequence[str]) -> int:
    """How often phrases stand in lines."""
    return sum(f" {line} ".count(f" {phrase} ") for line in lines for phrase in phrases)


def unsaid_phrases(
    decoder: BeamDecoder,
    language: Language,
    texts: Sequence[str],
    number: int,
    random: np.random.Generator,
) -> list[str]:
    """Random pairs of frequent words that stand in no text."""
    frequent = [word for word in language.words[3:FREQUENT_WORDS] if decoder.knows(word)]
    pairs = (" ".join(random.choice(frequent, 2)) for _ in itertools.repeat(None))
    return list(itertools.islice((p for p in pairs if not occurrences([p], texts)), number))


def rare_phrases(
    decoder: BeamDecoder,
    language: Language,
    texts: Sequence[str],
    number: int,
    random: np.random.Generator,
) -> list[str]:
    """Neighbours in the texts, a rare word among them."""
    common = set(language.words[:COMMON_WORDS])
    pairs = {
        pair for text in texts for pair in itertools.pairwise(text.split()) if not {*pair} <= common
    }
    known = sorted(phrase for phrase in map(" ".join, pairs) if decoder.knows(phrase))
    return sorted(random.choice(known, min(number, len(known)), replace=False).tolist())


def line(outcome: Outcome) -> str:
    """One outcome for people."""
    return (
        f"WER {outcome.wer:.2%}, {outcome.seconds:.5f} s per second of audio, "
        f"{outcome.hypotheses:.0f} hypotheses alive, state {outcome.bytes} bytes at most, "
        f"words committed {outcome.waited / FRAMES_PER_SECOND:.2f} s after their end"
    )


if __name__ == "__main__":
    program.run(main)
