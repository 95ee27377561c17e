"""Put a language into a bundle: language model, lexicon tree, and how to search them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from asr import manifest, measure
from asr.decoding import Decoder, language, lexicon
from asr.decoding.settings import LOWEST, BeamSettings
from asr.errors import ConfigError, DataError
from asr.recognizer import Recognizer
from asr.state import Options
from training.spelling import write_speller

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from asr.acoustic import AcousticModel
    from asr.decoding import DecodedWord
    from asr.features import Normalisation
    from asr.manifest import Utterance

RECORDINGS = 100  # that label priors are measured on


@dataclass(frozen=True, slots=True)
class LanguageSource:
    """What a bundle's language is made of.

    Attributes:
        folder: holds `lm.ngram` and `lm.words.txt`.
        lexicons: files of `WORD<TAB>PH ON ES` lines, plain or .xz, all of whose pronunciations
            count.
        settings: of the search; without priors.
        priors: a manifest of speech on which the units' priors are measured; needed where
            `settings.prior_weight` is not 0.
        spelling: a lexicon that teaches how other words are written; needed where
            `settings.spelling` is set.
    """

    folder: Path
    lexicons: tuple[Path, ...]
    settings: BeamSettings = field(default_factory=BeamSettings)
    priors: Path | None = None
    spelling: Path | None = None

    def __post_init__(self) -> None:
        if not self.lexicons:
            raise ConfigError("a language model needs a lexicon: how its words sound")
        if self.settings.prior_weight and self.priors is None:
            raise ConfigError("decoding.prior_weight needs speech to measure priors on")
        if self.settings.spelling is not None and self.spelling is None:
            raise ConfigError("decoding.spelling needs a lexicon to learn spelling from")


def write_language(
    source: LanguageSource,
    folder: Path,
    acoustic: AcousticModel,
    units: Sequence[str],
    normalisation: Normalisation,
) -> BeamSettings:
    """Write a language's files into a folder.

    Args:
        source: what it is made of.
        folder: of the bundle in the making.
        acoustic: its network, to measure priors with.
        units: of the head that the lexicon spells words in.
        normalisation: of its features.

    Returns:
        The settings, with priors if they have a weight.

    Raises:
        BundleError: the language model is missing or damaged.
        DataError: a lexicon or the speech cannot be used.
    """
    _, words = language.read_model(source.folder)
    tree = lexicon.build(lexicon.read_pronunciations(source.lexicons), words, units)
    lexicon.write(tree, folder / language.LEXICON, len(units), len(words))
    if source.spelling:
        write_speller(lexicon.read_pronunciations([source.spelling]), units, folder)
    for name in (language.MODEL, language.WORDS):
        shutil.copyfile(source.folder / name, folder / name)
    if not source.settings.prior_weight or source.priors is None:
        return source.settings
    utterances = manifest.read_utterances(source.priors)
    if not utterances:
        raise DataError(f"{source.priors}: no recording to measure priors on")
    spread = utterances[:: max(1, len(utterances) // RECORDINGS)]
    rows = log_probabilities(acoustic, normalisation, source.settings.head, spread)
    return replace(source.settings, priors=log_priors(np.concatenate(rows)))


def log_priors(log_probs: NDArray[np.float32]) -> tuple[float, ...]:
    """Logarithm of each unit's mean probability over frames [T, V], rounded to 1/1000 nat."""
    means = np.log(np.exp(log_probs.astype(np.float64)).mean(0))
    return tuple(round(float(value), 3) for value in np.clip(means, -LOWEST, 0))


def log_probabilities(
    acoustic: AcousticModel,
    normalisation: Normalisation,
    head: str,
    utterances: Sequence[Utterance],
) -> list[NDArray[np.float32]]:
    """What a head says of recordings, [T, V] each.

    Raises:
        AudioError: a recording cannot be read.
    """
    listener = Recognizer(acoustic, _Listener(head), normalisation, bundle_id="")
    found = []
    for utterance in utterances:
        state = listener.start(Options(partials=False))
        state, _ = listener.step(state, measure.read_samples(utterance.path))
        found.append(np.concatenate(listener.finish(state)[0].decoder))
    return found


class _Listener(Decoder):
    """A decoder that keeps the frames and says nothing."""

    def __init__(self, head: str) -> None:
        self.head = head

    def start(self) -> tuple[NDArray[np.float32], ...]:
        return ()

    def advance(
        self, state: tuple[NDArray[np.float32], ...], log_probs: NDArray[np.float32]
    ) -> tuple[tuple[NDArray[np.float32], ...], tuple[DecodedWord, ...]]:
        return (*state, log_probs.copy()), ()

    def tentative(self, state: Any) -> tuple[DecodedWord, ...]:  # noqa: ARG002  # a protocol's
        return ()

    def finish(self, state: Any) -> tuple[DecodedWord, ...]:  # noqa: ARG002  # a protocol's
        return ()

    def silence(self, state: Any) -> int:  # noqa: ARG002  # a protocol's
        return 0

    def dump(self, state: Any) -> dict[str, Any]:  # noqa: ARG002  # a protocol's
        return {}

    def restore(self, values: dict[str, Any]) -> tuple[NDArray[np.float32], ...]:  # noqa: ARG002
        return ()
