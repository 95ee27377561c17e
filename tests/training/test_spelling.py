"""How phones are written is learned from a lexicon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from asr import DataError
from asr.decoding.spelling import MODEL, PAIRS, read_speller
from training.spelling import division, pair_probabilities, write_speller

if TYPE_CHECKING:
    from pathlib import Path

UNITS = ["<blank>", "K", "S", "AE", "T", "IY"]
LETTERS = {"K": "c", "S": "s", "AE": "a", "T": "t", "IY": "ee"}


def lexicon(words: int) -> list[tuple[str, list[str]]]:
    """Words in which every phone is always written the same way, but K S, which is x."""
    random = np.random.default_rng(0)
    said = [[UNITS[n] for n in random.integers(1, 6, random.integers(2, 6))] for _ in range(words)]
    return [("".join(map(LETTERS.get, phones)).replace("cs", "x"), phones) for phones in said]  # type: ignore[arg-type]


def test_a_regular_spelling_is_learned(tmp_path: Path) -> None:
    """Words that are in no lexicon are written by what others taught."""
    write_speller(lexicon(400), UNITS, tmp_path)
    speller = read_speller(tmp_path, UNITS)
    assert speller is not None
    assert speller.spell((3, 1, 2, 5, 4, 3)) == "axeeta"


def test_learning_gives_the_same_files(tmp_path: Path) -> None:
    """A bundle's id is made of its files."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    write_speller(lexicon(50), UNITS, tmp_path / "one")
    write_speller(reversed(lexicon(50)), UNITS, tmp_path / "other")
    for name in (MODEL, PAIRS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_word_is_divided_in_its_likeliest_way() -> None:
    """The letter x is K S, so what else could each letter be."""
    probable = pair_probabilities(sorted({(w, tuple(p)) for w, p in lexicon(200)}))
    pairs = [(("AE",), "a"), (("K", "S"), "x"), (("IY",), "ee")]
    assert division(("axee", ("AE", "K", "S", "IY")), probable) == pairs
    assert division(("zzz", ("T",)), probable) == []


@pytest.mark.parametrize("said", [[], [("a", ["QQ"])], [("a", [])], [("abcdefgh", ["K"])]])
def test_a_lexicon_that_teaches_nothing_is_refused(
    tmp_path: Path, said: list[tuple[str, list[str]]]
) -> None:
    """Units of another model, most likely."""
    with pytest.raises(DataError, match="teaches no spelling"):
        write_speller(said, UNITS, tmp_path)
