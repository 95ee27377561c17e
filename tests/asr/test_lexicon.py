"""The lexicon tree holds what was put in, and a damaged file is refused."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr import BundleError, DataError
from asr.decoding import lexicon as lexicons
from asr.decoding.beam import BeamDecoder
from asr.decoding.language import Language
from asr.decoding.settings import BeamSettings
from tests.asr.small_language import SmallLanguage, frames, language

if TYPE_CHECKING:
    from pathlib import Path

    from asr.decoding.lexicon import Lexicon

languages = st.builds(
    language,
    st.integers(0, 10**6),
    words=st.integers(1, 40),
    phones=st.integers(1, 6),
    longest=st.integers(1, 6),
)


def spelled(lexicon: Lexicon, units: list[str], words: list[str]) -> set[tuple[str, ...]]:
    """All words with their phones, read from the tree."""
    found = set()

    def visit(node: int, phones: tuple[str, ...]) -> None:
        for word in lexicon.words[lexicon.first_word[node] : lexicon.first_word[node + 1]]:
            found.add((words[word], *phones))
        for child in range(lexicon.first_child[node], lexicon.first_child[node + 1]):
            visit(child, (*phones, units[lexicon.phone[child]]))

    visit(0, ())
    return found


@given(spoken=languages)
def test_the_tree_holds_every_pronunciation_and_no_other(spoken: SmallLanguage) -> None:
    """A word that is not in the tree can never be recognised."""
    wanted = {(word, *phones) for word, phones in spoken.pronunciations}
    assert spelled(spoken.lexicon, spoken.units, spoken.words) == wanted


@given(spoken=languages)
def test_every_prefix_has_one_node(spoken: SmallLanguage) -> None:
    """Hypotheses meet in nodes; two nodes for one prefix would split their probability."""
    prefixes = {
        tuple(phones[:n]) for _, phones in spoken.pronunciations for n in range(len(phones) + 1)
    }
    assert len(spoken.lexicon.phone) == len(prefixes)


@given(spoken=languages)
def test_looking_ahead_sees_the_best_word_below(spoken: SmallLanguage) -> None:
    """Too high a bound only costs time; too low a one prunes what would have won."""
    lexicon, scores = spoken.lexicon, spoken.lm.unigram_prob
    ahead = lexicons.look_ahead(lexicon, scores)

    def below(node: int) -> list[int]:
        children = range(lexicon.first_child[node], lexicon.first_child[node + 1])
        own: list[int] = lexicon.words[
            lexicon.first_word[node] : lexicon.first_word[node + 1]
        ].tolist()
        return own + [word for child in children for word in below(child)]

    assert ahead.score[0] == 0
    for node in range(len(lexicon.phone)):
        words = below(node)
        best = min(words, key=lambda word: (-scores[word], word))
        assert node == 0 or ahead.score[node] == scores[best]
        assert ahead.word[node] == best


@given(spoken=languages)
def test_what_is_written_is_read(
    spoken: SmallLanguage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The file is what ships."""
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.tree"
    lexicons.write(spoken.lexicon, path, len(spoken.units), len(spoken.words))
    found = lexicons.read(path)
    for name in ("phone", "first_child", "first_word", "words"):
        assert np.array_equal(getattr(found, name), getattr(spoken.lexicon, name))
    found.demand(spoken.units, spoken.words)
    with pytest.raises(BundleError, match="other units"):
        found.demand([*spoken.units[:-1], "X"], spoken.words)
    with pytest.raises(BundleError, match="other words"):
        found.demand(spoken.units, spoken.words[::-1])


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    """A download that broke off is the most common damage."""
    spoken = language(5, words=30)
    path = tmp_path / "lexicon.tree"
    lexicons.write(spoken.lexicon, path, len(spoken.units), len(spoken.words))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=r"lexicon\.tree: "):
            lexicons.read(path)
    with pytest.raises(BundleError, match="cannot be read"):
        lexicons.read(tmp_path / "nothing")


def test_a_changed_file_is_refused_or_harmless(tmp_path: Path) -> None:
    """The kernel trusts the numbers: none may lead it out of the arrays."""
    spoken = language(6, words=12)
    path = tmp_path / "lexicon.tree"
    lexicons.write(spoken.lexicon, path, len(spoken.units), len(spoken.words))
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        for change in (1, 0x80):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            try:
                changed = lexicons.read(path)
            except BundleError:
                refused += 1
                continue
            parts = Language(changed, spoken.lm, spoken.words)
            decoder = BeamDecoder(parts, BeamSettings(beam=5), len(spoken.units))
            decoder.finish(decoder.advance(decoder.start(), frames(1, 20, len(spoken.units)))[0])
    assert refused > len(whole) // 4


def test_files_of_pronunciations_are_read(tmp_path: Path) -> None:
    """CMUdict's form, plain or compressed, any number of lines a word."""
    (tmp_path / "a.txt").write_text("READ\tR IY D\nREAD\tR EH D\n")
    (tmp_path / "b.txt.xz").write_bytes(lzma.compress(b"RED\tR EH D\n"))
    found = lexicons.read_pronunciations([tmp_path / "a.txt", tmp_path / "b.txt.xz"])
    assert found == [
        ("read", ["R", "IY", "D"]),
        ("read", ["R", "EH", "D"]),
        ("red", ["R", "EH", "D"]),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"READ R IY D\n", "is not WORD<TAB>phones"),
        ("a.txt", b"READ\t\n", "is not WORD<TAB>phones"),
        ("a.txt", b"\xff\tA\n", "cannot be read"),
        ("a.txt.xz", b"READ\tR IY D\n", "cannot be read"),
    ],
)
def test_other_files_are_no_pronunciations(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """A lexicon that is read wrongly makes a recogniser that is deaf to words."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        lexicons.read_pronunciations([tmp_path / name])


def test_a_lexicon_needs_a_word_that_can_be_said() -> None:
    """Nothing could ever be recognised."""
    useless: list[list[tuple[str, list[str]]]]
    useless = [[], [("a", ["X"])], [("b", ["A"])], [("a", [])]]
    for pronunciations in useless:
        with pytest.raises(DataError, match="no word"):
            lexicons.build(pronunciations, ["a"], ["<blank>", "A"])
    alike = [f"w{n}" for n in range(65)]
    with pytest.raises(DataError, match="more than 64"):
        lexicons.build([(word, ["A"]) for word in alike], alike, ["<blank>", "A"])
