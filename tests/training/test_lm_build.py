"""Language models: counted, smoothed and pruned as the papers say, in any amount of memory."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError, DataError
from tests.training.textbook_ngrams import START, Table, Textbook, loss_without
from training.language_model.build import Builder, Settings
from training.language_model.counting import KeyCounter, reduce_counts, reduce_ones
from training.language_model.kneser_ney import FALLBACK, count_of_counts, discounts
from training.language_model.model import Model, Packing, context_chunks
from training.language_model.vocabulary import SPECIAL, Vocabulary

LETTERS = "abcdefg"
VOCABULARY = Vocabulary((*SPECIAL, *LETTERS))
SENTENCE = st.lists(st.integers(3, 2 + len(LETTERS)), max_size=6)
TEXT = st.lists(SENTENCE, min_size=1, max_size=25)
UNKNOWN = 0


def model_of(text: list[list[int]], config: Settings, vocabulary: Vocabulary = VOCABULARY) -> Model:
    """A model of sentences of ids, with its arrays in memory."""
    ids = np.array([i for sentence in text for i in (1, *sentence, 2)], np.uint32)
    with tempfile.TemporaryDirectory() as folder:
        return in_memory(Builder(vocabulary, config, Path(folder)).build([ids]))


def in_memory(model: Model) -> Model:
    """Mapped arrays outlive their folder only as copies."""
    levels = tuple(
        type(level)(np.array(level.keys), np.array(level.log_probs), np.array(level.back_offs))
        for level in model.levels
    )
    return Model(model.vocabulary, model.log_probs, model.back_offs, levels)


def seeded_text(tokens: int, words: int, seed: int = 7) -> list[list[int]]:
    """Sentences of words with falling frequencies."""
    rng = np.random.default_rng(seed)
    ids = 3 + np.minimum(rng.geometric(6 / words, tokens), words) - 1
    return [part.tolist() for part in np.array_split(ids, tokens // 9)]


@given(text=TEXT, order=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_probabilities_are_those_of_the_textbook(text: list[list[int]], order: int) -> None:
    """Every word after every history, seen or not, as plain loops over dictionaries have it."""
    textbook = Textbook.of(text, order, len(VOCABULARY))
    table = Table(model_of(text, Settings(order)))
    for history in table.histories():
        for word in range(len(VOCABULARY)):
            if word != START:
                assert math.exp(table.log_prob(word, history)) == pytest.approx(
                    textbook.prob(word, history), rel=2e-6
                )


@given(text=TEXT, order=st.integers(1, 3), prune=st.sampled_from([0.0, 1e-4, 3e-3, 0.05]))
@settings(max_examples=60, deadline=None)
def test_probabilities_after_each_history_sum_to_one(
    text: list[list[int]], order: int, prune: float
) -> None:
    """A model that pruning has not made whole again favours whatever it has kept."""
    table = Table(model_of(text, Settings(order, (prune,))))
    for history in table.histories():
        assert table.total(history) == pytest.approx(1, abs=1e-6)


@given(text=TEXT, prune=st.sampled_from([1e-3, 1e-2, 5e-2]))
@settings(max_examples=40, deadline=None)
def test_pruning_drops_what_the_definition_says(text: list[list[int]], prune: float) -> None:
    """Trigrams go by the relative entropy over all words, summed up one by one."""
    textbook = Textbook.of(text, 3, len(VOCABULARY))
    whole = Table(model_of(text, Settings(3)))
    pruned = Table(model_of(text, Settings(3, (0.0, prune))))
    for gram in textbook.grams(3):
        occurrences = sum(c for g, c in textbook.counts[2].items() if g[:2] == gram[:2])
        loss = loss_without(whole, gram, occurrences / textbook.tokens)
        if abs(loss - prune) > 1e-5 * prune + 1e-8:
            assert (gram in pruned.probs) == (loss >= prune)
    assert {g for g in whole.probs if len(g) < 3} == {g for g in pruned.probs if len(g) < 3}


@given(text=TEXT, prune=st.sampled_from([1e-3, 1e-2, 5e-2]))
@settings(max_examples=30, deadline=None)
def test_pruned_bigrams_are_needed_by_no_trigram(text: list[list[int]], prune: float) -> None:
    """A trigram's history must be there to carry its back-off weight; the rest goes by θ."""
    textbook = Textbook.of(text, 3, len(VOCABULARY))
    whole = Table(model_of(text, Settings(3)))
    pruned = Table(model_of(text, Settings(3, (prune,))))
    histories = {gram[:2] for gram in pruned.probs if len(gram) == 3}
    for gram in textbook.grams(2):
        loss = loss_without(whole, gram, textbook.raw[gram[:1]] / textbook.tokens)
        if gram in histories:
            assert gram in pruned.probs
        elif abs(loss - prune) > 1e-5 * prune + 1e-8:
            assert (gram in pruned.probs) == (loss >= prune)
    kept = {g: p for g, p in pruned.probs.items() if len(g) > 1}
    assert kept == {g: whole.probs[g] for g in kept}


@pytest.mark.parametrize("prune", [0.0, 1e-6])
@pytest.mark.parametrize("order", [2, 3])
def test_a_build_that_spills_is_the_same_to_the_bit(
    tmp_path: Path, order: int, prune: float
) -> None:
    """300 million words on a small machine give the model that a large one gives."""
    vocabulary = Vocabulary((*SPECIAL, *(f"w{i}" for i in range(400))))
    text = seeded_text(20_000, 400)
    ids = [np.array([i for s in text[j::3] for i in (1, *s, 2)], np.uint32) for j in range(3)]
    models = []
    for name, memory in (("large", 1 << 30), ("small", 1)):
        folder = tmp_path / name
        folder.mkdir()
        builder = Builder(vocabulary, Settings(order, (prune,), memory), folder)
        models.append(builder.build(ids))
        assert (builder.runs > 10) == (name == "small")
    large, small = models
    assert np.array_equal(large.back_offs, small.back_offs)
    assert len(large.levels) == len(small.levels) == order - 1
    for one, other in zip(large.levels, small.levels, strict=True):
        assert len(one) > 1000
        assert np.array_equal(one.keys, other.keys)
        assert np.array_equal(one.log_probs, other.log_probs)
        assert np.array_equal(one.back_offs, other.back_offs)


@given(
    parts=st.lists(st.lists(st.integers(0, 3000), max_size=900), max_size=8),
    counted=st.lists(st.integers(0, 3000), max_size=50),
)
@settings(max_examples=30, deadline=None)
def test_counting_in_runs_is_counting(parts: list[list[int]], counted: list[int]) -> None:
    """However keys come, each is counted as often as it came, in ascending order."""
    with tempfile.TemporaryDirectory() as folder:
        counter = KeyCounter(Path(folder), "keys", 1)
        for part in parts:
            counter.add(np.array(part, np.uint64))
        counter.add_counts(*reduce_ones(np.array(counted, np.uint64)))
        keys, counts = counter.stored()
        every = np.array([key for part in [*parts, counted] for key in part], np.uint64)
        expected, numbers = np.unique(every, return_counts=True)
        assert keys.tolist() == expected.tolist()
        assert counts.tolist() == numbers.tolist()
        assert {path.name for path in Path(folder).iterdir()} == {"keys.keys", "keys.counts"}


def test_sums_of_counts_belong_to_their_keys() -> None:
    """Merging runs adds counts of the same key only."""
    keys = np.array([9, 2, 9, 5], np.uint64)
    found, sums = reduce_counts(keys, np.array([1, 10, 100, 1000], np.uint32))
    assert found.tolist() == [2, 5, 9]
    assert sums.tolist() == [10, 1000, 101]


@given(
    histories=st.lists(st.integers(0, 9), max_size=60).map(sorted),
    size=st.integers(1, 20),
)
def test_chunks_never_cut_a_history_apart(histories: list[int], size: int) -> None:
    """Sums over a history's n-grams need all of them at once."""
    bits = 8
    keys = np.array([(h << bits) + i for i, h in enumerate(histories)], np.uint64)
    chunks = list(context_chunks(keys, bits, size))
    assert [i for start, stop in chunks for i in range(start, stop)] == list(range(len(keys)))
    for start, stop in chunks:
        assert stop > start
        if stop < len(keys):
            assert histories[stop] != histories[stop - 1]


def test_discounts_follow_the_formula() -> None:
    """By hand: n1 … n4 = 10, 4, 2, 1 gives Y = 10/18."""
    found = discounts((10, 4, 2, 1))
    y = 10 / 18
    assert found.estimated
    assert found.values == pytest.approx((1 - 2 * y * 0.4, 2 - 3 * y * 0.5, 3 - 4 * y * 0.5))


def test_a_text_too_small_for_the_formula_says_so() -> None:
    """The discounts of KenLM's fallback, and a line that tells."""
    assert discounts((3, 0, 1, 1)).values == FALLBACK
    assert not discounts((3, 0, 1, 1)).estimated
    assert not discounts((10, 1, 10, 1)).estimated  # D2 would be below 0
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(VOCABULARY, Settings(2), Path(folder))
        builder.build([np.array([1, 3, 2], np.uint32)])
    assert builder.notes[1].endswith("(the text is too small to estimate them)")


def test_counts_of_counts_stop_at_four() -> None:
    """Larger counts share one discount and are not needed."""
    assert count_of_counts([np.array([1, 1, 2]), np.array([4, 5, 90, 3, 1])]) == (3, 1, 1, 1)


def test_unknown_words_are_a_word_like_another() -> None:
    """The decoder spells words that it does not know, at the price that `<unk>` has here."""
    text = [[3, UNKNOWN, 4], [UNKNOWN, 4], [3, 4, 5, 6]]
    table = Table(model_of(text, Settings(2)))
    assert table.log_prob(UNKNOWN, (3,)) > table.log_prob(7, (3,))
    assert (UNKNOWN, 4) in table.probs


def test_texts_without_a_sentence_are_refused() -> None:
    """An empty model would be a mistake in the arguments that nobody sees."""
    with tempfile.TemporaryDirectory() as folder, pytest.raises(DataError, match="no sentence"):
        Builder(VOCABULARY, Settings(3), Path(folder)).build([np.zeros(0, np.uint32)])


@pytest.mark.parametrize("values", [{"order": 0}, {"order": 4}, {"prune": ()}, {"prune": (-1.0,)}])
def test_settings_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    """Before hours of counting."""
    with pytest.raises(ConfigError):
        Settings(**values)  # type: ignore[arg-type]


def test_a_vocabulary_too_large_for_the_keys_is_refused() -> None:
    """Three ids share 64 bits; a wrong model would be worse."""
    assert Packing.of(1 << 21).bits == 21
    with pytest.raises(DataError, match="too large"):
        Packing.of((1 << 21) + 1)
