"""A bundle with a language is searched; one whose parts do not belong together is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import asr
from asr import BundleError, ConfigError, bundle, toml_writer
from asr.decoding import language as languages
from asr.decoding import lexicon as lexicons
from asr.decoding.beam import BeamDecoder
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.settings import BeamSettings
from tests.asr.small_language import SmallLanguage, language
from tests.tiny import UNITS, sound, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

PRIORS = tuple(-2.0 - n / 8 for n in range(len(UNITS)))
SETTINGS = BeamSettings("pieces", beam=40, lm_weight=0.5, prior_weight=0.25, priors=PRIORS)


def spoken() -> SmallLanguage:
    """A language over the tiny networks' units."""
    made = language(3, words=30, phones=len(UNITS) - 1, longest=2)
    named = {f"P{n}": unit for n, unit in enumerate(UNITS[1:])}
    said = [(word, [named[phone] for phone in phones]) for word, phones in made.pronunciations]
    return replace(made, lexicon=lexicons.build(said, made.words, UNITS))


def write(folder: Path, settings: BeamSettings = SETTINGS) -> bundle.Bundle:
    """A tiny bundle with a language, in an existing folder."""
    plain = write_bundle(folder, "gru")
    made = spoken()
    (folder / languages.MODEL).write_bytes(made.model)
    (folder / languages.WORDS).write_text("".join(f"{word}\n" for word in made.words))
    lexicons.write(made.lexicon, folder / languages.LEXICON, len(UNITS), len(made.words))
    description = replace(plain.description, decoding=settings)
    return bundle.write(folder, description, {"pieces": UNITS}, "# Tiny\n")


def test_a_bundle_with_a_language_is_searched(tmp_path: Path) -> None:
    """Who loads a model gets the best that it can do, with the weights it was tuned to."""
    write(tmp_path)
    made = asr.load(tmp_path)
    assert isinstance(made.decoder, BeamDecoder)
    assert made.decoder.settings == SETTINGS
    said = {word.text for seed in range(4) for word in made.transcribe(sound(4.0, seed)).words}
    assert said
    assert said <= set(spoken().words)


def test_a_later_setting_stands_in_a_bundle_only_where_it_is_set(tmp_path: Path) -> None:
    """Bundles from before it keep their id, which covers the settings."""
    write(tmp_path)
    text = (tmp_path / "model.toml").read_text()
    assert "certainty" not in text
    assert "phrase_reward" not in text
    assert "steadiness" not in text
    changed = replace(SETTINGS, certainty=0.75, phrase_reward=2.5, steadiness=0.5)
    write(tmp_path, changed)
    assert bundle.read(tmp_path).description.decoding == changed


def test_a_bundle_with_a_language_can_be_spelled(tmp_path: Path) -> None:
    """Names that no language model knows; then states belong to another recogniser."""
    whole = write(tmp_path)
    searched, spelled = asr.load(tmp_path), asr.load(tmp_path, decoder="greedy")
    assert isinstance(spelled.decoder, GreedyDecoder)
    assert searched.bundle_id == whole.id != spelled.bundle_id
    for one, other in ((searched, spelled), (spelled, searched)):
        with pytest.raises(asr.StateError, match="belongs to model"):
            one.restore(other.start().dump())
        with pytest.raises(asr.StateError, match="belongs to model"):
            one.step(other.start(), sound(0.1, 0))


def test_what_cannot_be_searched_is_said(tmp_path: Path) -> None:
    """Nobody must take spelled words for searched ones."""
    write_bundle(tmp_path, "gru")
    assert isinstance(asr.load(tmp_path).decoder, GreedyDecoder)
    with pytest.raises(ConfigError, match="no language to search"):
        asr.load(tmp_path, decoder="beam")
    with pytest.raises(ConfigError, match="'best' is none of beam, greedy"):
        asr.load(tmp_path, decoder="best")


def test_settings_are_part_of_the_id(tmp_path: Path) -> None:
    """Another weight gives other words."""
    first = write(tmp_path).id
    assert bundle.read(tmp_path).description.decoding == SETTINGS
    assert write(tmp_path, replace(SETTINGS, lm_weight=0.6)).id != first


@pytest.mark.parametrize("name", languages.FILES)
def test_a_damaged_or_missing_part_is_refused(tmp_path: Path, name: str) -> None:
    """As with every other file of a bundle."""
    write(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match="the id does not fit"):
        asr.load(tmp_path)
    path.unlink()
    with pytest.raises(BundleError, match="the id does not fit"):
        asr.load(tmp_path)


def test_parts_of_different_languages_are_refused(tmp_path: Path) -> None:
    """A lexicon whose word numbers mean others would recognise nonsense, without a sign."""
    whole = write(tmp_path)
    words = (tmp_path / languages.WORDS).read_text()
    for wrong, message in (
        (words + "more\n", "do not belong together"),
        ("\n".join(reversed(words.splitlines())) + "\n", "made for other words"),
        ("\xff", None),
    ):
        (tmp_path / languages.WORDS).write_bytes(wrong.encode("latin-1"))
        bundle.write(tmp_path, whole.description, {"pieces": UNITS}, "")
        with pytest.raises(BundleError, match=message or "not UTF-8"):
            asr.load(tmp_path)
    (tmp_path / languages.WORDS).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        languages.read_language(tmp_path, UNITS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beams": 3}, "unknown key decoding.beams"),
        ({"beam": 0}, "decoding.beam is not a whole number"),
        ({"beam": "wide"}, "decoding.beam is not a whole number"),
        ({"head": "phones"}, "decoding.head is 'phones', which is no head"),
        ({"priors": [-1.0]}, "decoding.priors has 1 numbers for 10 units"),
        ({"priors": ["x"]}, "decoding.priors has something else than numbers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    """A mistyped weight would be found out by worse words only."""
    write_bundle(tmp_path, "gru")
    header = tmp_path / "model.toml"
    changed = header.read_text() + toml_writer.table("decoding", {"head": "pieces", **values})
    header.write_text(changed)
    with pytest.raises(BundleError, match=message):
        bundle.read(tmp_path)
