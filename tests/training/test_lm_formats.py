"""Models on disk: ARPA and the compact form say the same, and KenLM agrees."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.ngram import SCALE, NGram
from asr.errors import DataError
from tests.training.test_lm_build import in_memory, seeded_text
from tests.training.textbook_ngrams import Table
from training.language_model.arpa import read_arpa, write_arpa
from training.language_model.build import Builder, Settings
from training.language_model.compact import quantise, read_compact, write_compact
from training.language_model.model import Level, Model
from training.language_model.scoring import perplexity, token_scores
from training.language_model.vocabulary import SPECIAL, Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

WORDS = 300
VOCABULARY = Vocabulary((*SPECIAL, *(f"w{i}" for i in range(WORDS))))


def ids_of(text: list[list[int]]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Sentences in a row, with their marks."""
    return np.array([i for sentence in text for i in (1, *sentence, 2)], np.uint32)


@pytest.fixture(scope="module", params=[(1, 0.0), (2, 1e-5), (3, 0.0), (3, 2e-5)])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Models of all orders, pruned and not; a tenth of the words is unknown to them."""
    order, prune = request.param
    text = [[i if i % 10 else 0 for i in s] for s in seeded_text(9_000, WORDS, seed=1)]
    folder = tmp_path_factory.mktemp("build")
    return in_memory(Builder(VOCABULARY, Settings(order, (prune,)), folder).build([ids_of(text)]))


@pytest.fixture(scope="module")
def unseen() -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Another text, with sentences of no, one and two words among the others."""
    return ids_of([[], [5], [0], [5, 4], [4, 5, 6], *seeded_text(2_000, WORDS, seed=2)])


def test_arpa_and_back_is_the_same_model(model: Model, tmp_path: Path) -> None:
    """Seven digits, plain or packed, and the ids stay."""
    for name in ("lm.arpa", "lm.arpa.gz"):
        write_arpa(model, tmp_path / name)
        again = read_arpa(tmp_path / name)
        assert again.vocabulary == model.vocabulary
        assert again.sizes() == model.sizes()
        np.testing.assert_allclose(again.log_probs, model.log_probs, rtol=1e-6)
        np.testing.assert_allclose(again.back_offs, model.back_offs, rtol=1e-5, atol=1e-6)
        for one, other in zip(again.levels, model.levels, strict=True):
            assert np.array_equal(one.keys, other.keys)
            np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=1e-6)
            np.testing.assert_allclose(one.back_offs, other.back_offs, rtol=1e-5, atol=1e-6)


def test_the_compact_form_errs_by_no_more_than_its_codes(model: Model, tmp_path: Path) -> None:
    """Half the widest step of the codebook for n-grams, half of 1/1024 nat for words."""
    write_compact(model, tmp_path / "lm.ngram", tmp_path / "lm.words.txt")
    again = read_compact(tmp_path / "lm.ngram", tmp_path / "lm.words.txt")
    assert again.vocabulary == model.vocabulary
    assert again.sizes() == model.sizes()
    assert np.abs(again.log_probs - model.log_probs)[2:].max() <= 0.51 / SCALE
    for one, other in zip(again.levels, model.levels, strict=True):
        assert np.array_equal(one.keys, other.keys)
        for found, true in (
            (one.log_probs, other.log_probs),
            (one.back_offs, other.back_offs),
        ):
            book = np.unique(found)
            limit = np.diff(book).max() / 2 if len(book) > 1 else 0.0
            inside = (true >= book[0]) & (true <= book[-1])
            assert np.abs(found - true)[inside].max() <= limit + 0.51 / SCALE
            assert np.mean((found - true) ** 2) <= 0.02**2


def test_the_reader_of_the_decoder_scores_alike(
    model: Model, unseen: np.ndarray[tuple[int], np.dtype[np.uint32]], tmp_path: Path
) -> None:
    """State after state, whole numbers: the sum that the arrays give, token by token."""
    write_compact(model, tmp_path / "lm.ngram", tmp_path / "lm.words.txt")
    compact = NGram.open(tmp_path / "lm.ngram")
    scores, _ = token_scores(read_compact(tmp_path / "lm.ngram", tmp_path / "lm.words.txt"), unseen)
    state = compact.start
    for token, score in zip(unseen.tolist(), scores.tolist(), strict=True):
        if token == 1:
            state = compact.start
            continue
        found, state = compact.score(state, token)
        assert found == pytest.approx(score * SCALE, abs=0.01)


def test_scores_are_those_of_the_recursion(
    model: Model, unseen: np.ndarray[tuple[int], np.dtype[np.uint32]]
) -> None:
    """The fast way over arrays against the definition of a back-off model."""
    table = Table(model)
    scores, orders = token_scores(model, unseen)
    history: tuple[int, ...] = ()
    for token, score, order in zip(unseen.tolist(), scores.tolist(), orders.tolist(), strict=True):
        if token == 1:
            assert (score, order) == (0, 0)
            history = (1,)
            continue
        history = history[-(model.order - 1) :] if model.order > 1 else ()
        assert score == pytest.approx(table.log_prob(token, history), abs=1e-5)
        assert order == max(
            n for n in range(1, len(history) + 2)
            if (*history[len(history) - n + 1 :], token) in table.probs
        )  # fmt: skip
        history = (*history, token)


def test_kenlm_gives_the_same_probabilities(
    model: Model, unseen: np.ndarray[tuple[int], np.dtype[np.uint32]], tmp_path: Path
) -> None:
    """A reader that is not ours, on the ARPA file that is, token by token."""
    kenlm = pytest.importorskip("kenlm", reason="needs kenlm==0.3.0, which builds with a compiler")
    write_arpa(model, tmp_path / "lm.arpa")
    if model.order == 1:  # KenLM reads none of these
        with pytest.raises(OSError, match="at least a bigram"):
            kenlm.Model(str(tmp_path / "lm.arpa"))
        return
    theirs = kenlm.Model(str(tmp_path / "lm.arpa"))
    known = "".join(f" {VOCABULARY.words[i]}" for i in unseen[unseen > 2])
    assert "w4" in known
    sentences = " ".join(VOCABULARY.words[i] for i in unseen).split("<s>")[1:]
    total = tokens = 0.0
    scores, orders = token_scores(model, unseen)
    ours = iter(zip(scores[unseen != 1].tolist(), orders[unseen != 1].tolist(), strict=True))
    for sentence in sentences:
        text = sentence.replace("</s>", "").strip()
        for log10, length, _ in theirs.full_scores(text, bos=True, eos=True):
            score, order = next(ours)
            assert log10 * math.log(10) == pytest.approx(score, abs=2e-5)
            assert length >= order  # it fills in the bigrams that pruning has left out
            total += log10
            tokens += 1
    assert next(ours, None) is None
    assert perplexity(model, [unseen]).with_unknown == pytest.approx(10 ** (-total / tokens))


def test_perplexity_counts_what_it_says() -> None:
    """By hand: two sentences, three words of which one is unknown, a model of single words."""
    log_probs = np.log(np.array([0.25, 1, 0.5, 0.125, 0.125], np.float32))
    model = Model(Vocabulary((*SPECIAL, "a", "b")), log_probs, np.zeros(5, np.float32), ())
    found = perplexity(model, [np.array([1, 3, 0, 2], np.uint32), np.array([1, 4, 2], np.uint32)])
    assert (found.sentences, found.words, found.unknown, found.hits) == (2, 3, 1, (5,))
    assert found.unknown_share == pytest.approx(1 / 3)
    assert found.known == pytest.approx((0.5 * 0.5 / 64) ** (-1 / 4))
    assert found.with_unknown == pytest.approx((0.25 * 0.5 * 0.5 / 64) ** (-1 / 5))


@given(values=st.lists(st.integers(-20_000, 300), max_size=700))
@settings(max_examples=60, deadline=None)
def test_codes_name_the_nearest_value(values: list[int]) -> None:
    """Few values are kept exactly; of many each gets the nearest of the book; 0 stays 0."""
    array = np.array(values, np.float64)
    book, codes = quantise(array)
    assert len(book) == 256
    assert np.all(np.diff(book) >= 0)
    assert codes.max(initial=0) < 255
    coded = book[codes].astype(np.float64)
    if len({*values, 0}) <= 255:
        assert np.array_equal(coded, array)
    else:
        nearest = np.abs(array[:, None] - book[None, :255]).min(1)
        assert np.all(np.abs(coded - array)[array != 0] <= nearest[array != 0] + 0.5)
    assert not coded[array == 0].any()


def test_values_of_many_sizes_share_the_book_well() -> None:
    """The error of 255 codes on values as a model has them is below 1 % of their spread."""
    values = np.round(np.random.default_rng(0).gamma(4, 2, 50_000) * -SCALE)
    book, codes = quantise(values)
    error = np.sqrt(np.mean((book[codes] - values) ** 2))
    assert error < 0.01 * values.std()


def test_a_trigram_needs_its_history_in_the_compact_form(tmp_path: Path) -> None:
    """An ARPA file of another tool may lack it; there is no place for such a trigram."""
    one = np.array([3 << 6 | 3 << 3 | 3], np.uint64)
    zero = np.zeros(1, np.float32)
    none = Level(one[:0], zero[:0], zero[:0])
    words = Vocabulary((*SPECIAL, *"abcde"))
    flat = np.zeros(8, np.float32)
    with pytest.raises(DataError, match="no bigram"):
        write_compact(
            Model(words, flat, flat, (none, Level(one, zero, zero))),
            tmp_path / "lm.ngram",
            tmp_path / "lm.words.txt",
        )


def test_another_models_words_are_refused(model: Model, tmp_path: Path) -> None:
    """Ids without their words would be other words."""
    write_compact(model, tmp_path / "lm.ngram", tmp_path / "lm.words.txt")
    (tmp_path / "lm.words.txt").write_text("<unk>\n<s>\n</s>\na\n")
    with pytest.raises(DataError, match="4 words"):
        read_compact(tmp_path / "lm.ngram", tmp_path / "lm.words.txt")


ARPA = r"""\data\
ngram 1=4
ngram 2=1

\1-grams:
-1	<unk>
-99	<s>	-0.5
-1	</s>
-1	a

\2-grams:
-0.5	<s> a

\end\
"""


def test_an_arpa_file_of_another_tool_is_read(tmp_path: Path) -> None:
    """Missing back-off weights are 1; words keep their order behind the special ones."""
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    model = read_arpa(path)
    assert model.vocabulary.words == (*SPECIAL, "a")
    assert model.back_offs.tolist() == pytest.approx([0, -0.5 * math.log(10), 0, 0])
    scores, orders = token_scores(model, np.array([1, 3, 2], np.uint32))
    assert scores.tolist() == pytest.approx([0, -0.5 * math.log(10), -math.log(10)])
    assert orders.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("\\end\\\n", ""), "cut off"),
        (("\\1-grams:", "\\one-grams:"), "sections"),
        (("<s> a", "<s> b"), "no unigram"),
        (("<s> a", "<s>"), "2 words"),
        (("-0.5\t<s> a", "-0.5\t<s> a\n-0.6\t<s> a"), "twice"),
        (("-0.5\t<s> a", "x\t<s> a"), "lm.arpa:12"),
        (("\\2-grams:", "\\4-grams:"), "sections"),
    ],
)
def test_damaged_arpa_files_are_refused(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    """One line says what is wrong, and where."""
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA.replace(*change))
    with pytest.raises(DataError, match=told):
        read_arpa(path)
