"""The n-gram reader: exact scores and states, and no damaged file is read."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.ngram import ALIGNMENT, CODES, HEADER_BYTES, MAGIC, SCALE, NGram
from asr.errors import BundleError
from tests.asr.small_language import language

if TYPE_CHECKING:
    from pathlib import Path

# Words: 0 <unk>, 1 <s>, 2 </s>, 3 a, 4 b, 5 c. Bigrams: <s> a, a b, a c, b c. Trigrams: <s> a b,
# a b b (whose last two words are no bigram), a b c.
A, B, C = 3, 4, 5
SECTIONS: list[np.ndarray] = [
    np.zeros((3, CODES), "<i4"),
    np.array([-9000, -99999, -3000, -1000, -2000, -4000], "<i4"),
    np.array([-10, -20, 0, -30, -40, 0], "<i4"),
    np.array([0, 0, 1, 1, 3, 4, 4], "<u4"),
    np.array([[A, 0, 0], [B, 0, 0], [C, 0, 0], [C, 0, 0]], "u1"),
    np.array([0, 1, 2, 3], "u1"),
    np.array([1, 2, 0, 0], "u1"),
    np.array([0, 1, 3, 3, 3], "<u4"),
    np.array([[B, 0, 0], [B, 0, 0], [C, 0, 0]], "u1"),
    np.array([0, 1, 2], "u1"),
]
SECTIONS[0][:, :4] = [[-100, -200, -300, -400], [0, -7, -8, 0], [-11, -12, -13, 0]]
SIZES = (3, 6, 4, 3)


def file_of(sections: list[np.ndarray] = SECTIONS, sizes: tuple[int, ...] = SIZES) -> bytes:
    """A model's file, written by hand."""
    body, offsets = b"", []
    for section in sections:
        offsets.append(HEADER_BYTES + len(body))
        body += section.tobytes().ljust(-(-section.nbytes // ALIGNMENT) * ALIGNMENT, b"\0")
    header = MAGIC + struct.pack("<6I", *sizes, SCALE, 0)
    header += struct.pack("<11Q", *offsets, HEADER_BYTES + len(body))
    return header.ljust(HEADER_BYTES, b"\0") + body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small model."""
    path = tmp_path / "lm.ngram"
    path.write_bytes(file_of())
    return path


@pytest.fixture
def model(path: Path) -> NGram:
    """The same, opened."""
    return NGram.open(path)


def with_section(index: int, values: np.ndarray) -> bytes:
    """The file with another section of the same size."""
    sections = list(SECTIONS)
    sections[index] = values.astype(sections[index].dtype)
    return file_of(sections)


def test_a_sentence_begins_at_the_start_state(model: NGram) -> None:
    """`<s>` is a history; the bigram behind it becomes the state."""
    assert model.score(model.start, A) == (-100, 6 + 0)


def test_a_trigram_gives_its_own_score(model: NGram) -> None:
    """And the state behind it is the bigram of its last two words."""
    assert model.score(6, B) == (-11, 6 + 1)


def test_behind_a_trigram_without_its_bigram_stands_the_word_alone(model: NGram) -> None:
    """A b b is there, b b is not."""
    assert model.score(7, B) == (-12, B)


def test_backing_off_adds_the_weights_of_both_histories(model: NGram) -> None:
    """From `a b` to `b`, and from that to the word alone."""
    assert model.score(7, A) == (-8 - 40 - 1000, A)


def test_backing_off_to_a_bigram_makes_it_the_state(model: NGram) -> None:
    """From `<s> a` to `a c`."""
    assert model.score(6, C) == (-7 - 300, 6 + 2)


def test_unknown_words_have_a_score_too(model: NGram) -> None:
    """Id 0 is a word like another."""
    assert model.score(A, 0) == (-30 - 9000, 0)


def test_ids_beyond_a_byte_are_read_whole() -> None:
    """Ids have three bytes, the least first."""
    assert NGram.word(np.array([[1, 2, 3]], np.uint8), 0) == 1 + 2 * 256 + 3 * 65536


def test_the_arrays_are_those_of_the_file(model: NGram) -> None:
    """The compiled decoder takes their addresses: nothing is copied, all begins aligned."""
    assert (model.order, model.words, model.bigrams, model.trigrams) == SIZES
    assert model.unigram_prob.tolist() == SECTIONS[1].tolist()
    assert model.trigram_word.tolist() == SECTIONS[8].tolist()
    for array in (model.first_bigram, model.bigram_word, model.first_trigram, model.trigram_prob):
        assert array.base is not None
        assert array.ctypes.data % ALIGNMENT == 0
        assert not array.flags.writeable


DAMAGED = {
    "empty": b"",
    "another file": b"RIFF" + file_of()[4:],
    "cut off": file_of()[:-1],
    "longer": file_of() + b"\0",
    "header only": file_of()[:HEADER_BYTES],
    "another scale": file_of()[:24] + struct.pack("<I", 1000) + file_of()[28:],
    "order 4": file_of(sizes=(4, 6, 4, 3)),
    "no words": file_of(sizes=(3, 0, 4, 3)),
    "more bigrams than there are": file_of(sizes=(3, 6, 400, 3)),
    "contexts that run backwards": with_section(3, np.array([0, 2, 1, 1, 3, 4, 4])),
    "contexts beyond the bigrams": with_section(3, np.array([0, 0, 1, 1, 3, 4, 5])),
    "bigrams beyond the trigrams": with_section(7, np.array([0, 1, 3, 3, 9])),
    "words beyond the vocabulary": with_section(8, np.array([[B, 0, 0], [B, 0, 0], [C, 9, 0]])),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files_are_refused(tmp_path: Path, what: str) -> None:
    """In C a wrong offset would read somebody else's memory."""
    path = tmp_path / "lm.ngram"
    path.write_bytes(DAMAGED[what])
    with pytest.raises(BundleError, match=r"lm\.ngram"):
        NGram.open(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(BundleError, match=r"gone\.ngram.*No such file"):
        NGram.open(tmp_path / "gone.ngram")


@given(seed=st.integers(0, 10**6), order=st.integers(1, 3))
def test_no_word_scores_higher_than_its_highest(seed: int, order: int) -> None:
    """The search passes over words by that bound; one too low would lose what should have won."""
    lm = language(seed, order=order).lm
    for word in range(lm.words):
        scores = [lm.score(state, word)[0] for state in range(lm.words + lm.bigrams)]
        assert max(scores) <= lm.highest[word]


def test_a_word_that_ends_no_ngram_has_its_own_score_as_the_highest(model: NGram) -> None:
    """Most words are such, and are passed over most often."""
    assert model.highest[0] == -9000
