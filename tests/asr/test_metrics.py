"""Figures that decide what ships are only worth something if they count what they say."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr import metrics
from asr.metrics import Call, EditCounts, ErrorCounts, Percentiles, count_errors, hits, normalise
from asr.transcript import Event, Final, Partial, Word

WORDS = st.lists(st.sampled_from(["a", "b", "c", "don't", "d"]), max_size=8).map(" ".join)
COUNTS = st.builds(EditCounts, *[st.integers(0, 50)] * 4)


def distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein's distance by its recursion, row by row."""
    row = list(range(len(hypothesis) + 1))
    for i, r in enumerate(reference, 1):
        above, row = row, [i]
        for j, h in enumerate(hypothesis, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (r != h)))
    return row[-1]


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    """Else a figure would depend on how often a text had passed through the rules."""
    assert normalise(normalise(text)) == normalise(text)


@given(st.text())
def test_case_never_decides_an_error(text: str) -> None:
    """LibriSpeech writes capitals, other corpora do not."""
    assert normalise(text.lower()) == normalise(text)


@pytest.mark.parametrize(
    ("text", "scored"),
    [
        ("HELLO, World!", "hello world"),
        ("don\u2019t DON'T don`t", "don't don't don't"),
        ("'tis the boys' rock 'n' roll", "tis the boys rock n roll"),
        ("well-known\u2014so\tthey\n say", "well known so they say"),
        ("It cost 3.50, or 1,000. Or 3", "it cost 3.50 or 1,000 or 3"),
        ("cafe\u0301 CAF\u00c9", "caf\u00e9 caf\u00e9"),
        ("Mr. Smith & co", "mr smith co"),
        (" \u2026 - ' ", ""),
        ("", ""),
    ],
)
def test_the_rules_of_normalising_are_these(text: str, scored: str) -> None:
    """A changed rule moves every figure ever recorded: it needs a new NORMALISER version."""
    assert normalise(text) == scored
    assert metrics.NORMALISER == 1


@given(WORDS, WORDS)
def test_word_errors_are_the_levenshtein_distance(reference: str, hypothesis: str) -> None:
    """S + D + I is the least number of edits, by an independent computation."""
    counts = count_errors(reference, hypothesis)
    assert counts.words.errors == distance(reference.split(), hypothesis.split())
    assert counts.characters.errors == distance(list(reference), list(hypothesis))


@given(WORDS, WORDS)
def test_the_counts_account_for_every_word(reference: str, hypothesis: str) -> None:
    """Each reference word is a hit, substituted or deleted, each hypothesis word has its place."""
    words = count_errors(reference, hypothesis).words
    assert words.length == len(reference.split())
    assert words.hits + words.substitutions + words.insertions == len(hypothesis.split())


def test_hits_are_the_words_that_the_error_rate_calls_right() -> None:
    """Latency is measured on them: the same alignment, in normalised words."""
    assert hits("The cat, sat", "uh the hat SAT") == [(0, 1), (2, 3)]
    assert hits("a", "") == hits("", "a") == hits("", "") == []


@given(WORDS, WORDS)
def test_as_many_hits_as_are_counted(reference: str, hypothesis: str) -> None:
    """Each joins equal words, and both numbers rise."""
    found = hits(reference, hypothesis)
    assert len(found) == count_errors(reference, hypothesis).words.hits
    there, here = normalise(reference).split(), normalise(hypothesis).split()
    assert all(there[i] == here[j] for i, j in found)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(found))


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_our_rates_over_a_set_are_jiwers(pairs: list[tuple[str, str]]) -> None:
    """The rate of the summed counts equals jiwer's own over the whole set."""
    references, hypotheses = map(list, zip(*pairs, strict=True))
    ours = metrics.total(count_errors(r, h) for r, h in pairs)
    if ours.words.length:
        assert ours.wer == pytest.approx(jiwer.wer(references, hypotheses))
        assert ours.cer == pytest.approx(jiwer.cer(references, hypotheses))
    assert ours.utterances == len(pairs)


def test_each_kind_of_error_is_counted_as_itself() -> None:
    """A swap of deletions and insertions would mislead whoever tunes a model."""
    counts = count_errors("the cat sat on it", "a cat on it now")
    assert counts.words == EditCounts(hits=3, substitutions=1, deletions=1, insertions=1)
    assert counts.wer == pytest.approx(3 / 5)
    assert (counts.utterances, counts.wrong) == (1, 1)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "rate"),
    [
        ("", "", EditCounts(), 0.0),
        ("...", "a b", EditCounts(insertions=2), math.inf),
        ("a b", "", EditCounts(deletions=2), 1.0),
        ("a", "b c", EditCounts(substitutions=1, insertions=1), 2.0),
    ],
)
def test_empty_texts_are_decided(
    reference: str, hypothesis: str, words: EditCounts, rate: float
) -> None:
    """Recordings without speech belong into a test set: words invented there must count."""
    counts = count_errors(reference, hypothesis)
    assert (counts.words, counts.wer) == (words, rate)


@given(st.lists(COUNTS, max_size=6))
def test_the_order_of_utterances_never_changes_the_sum(counts: list[EditCounts]) -> None:
    """Parallel workers may finish in any order."""
    whole = [ErrorCounts(words=c, utterances=1) for c in counts]
    assert metrics.total(whole) == metrics.total(reversed(whole))


@given(st.lists(COUNTS, min_size=2, max_size=8), st.integers(0, 5))
def test_the_same_seed_gives_the_same_interval(counts: list[EditCounts], seed: int) -> None:
    """An interval printed twice must not move; and it spans no rate that cannot be drawn."""
    names = [str(i) for i in range(len(counts))]
    first = metrics.wer_interval(counts, names, samples=50, seed=seed)
    assert first == metrics.wer_interval(counts, names, samples=50, seed=seed)
    if first is not None:
        rates = [c.rate for c in counts]
        assert first.low <= first.high <= max(rates)


def test_the_interval_resamples_whole_speakers() -> None:
    """Utterances of one speaker are not independent: pretending so makes intervals too narrow."""
    good, bad = EditCounts(hits=10), EditCounts(hits=5, substitutions=5)
    counts, speakers = [good] * 20 + [bad] * 20, ["x"] * 20 + ["y"] * 20
    by_speaker = metrics.wer_interval(counts, speakers, samples=2000)
    by_utterance = metrics.wer_interval(counts, [str(i) for i in range(40)], samples=2000)
    assert by_speaker is not None
    assert by_utterance is not None
    assert (by_speaker.low, by_speaker.high, by_speaker.groups) == (0.0, 0.5, 2)
    assert 0.1 < by_utterance.low < 0.25 < by_utterance.high < 0.4


def test_the_interval_is_as_wide_as_the_normal_approximation() -> None:
    """For many equal utterances the bootstrap must agree with the textbook's standard error."""
    counts = [EditCounts(hits=9, substitutions=1), EditCounts(hits=7, substitutions=3)] * 200
    interval = metrics.wer_interval(counts, [str(i) for i in range(400)])
    error = 1.96 * 0.1 / math.sqrt(400)
    assert interval is not None
    assert interval.low == pytest.approx(0.2 - error, abs=0.001)
    assert interval.high == pytest.approx(0.2 + error, abs=0.001)


def test_nothing_to_resample_gives_no_interval() -> None:
    """One speaker says nothing about others; an interval of width zero would claim certainty."""
    assert metrics.wer_interval([EditCounts(hits=1)], ["one"]) is None
    assert metrics.wer_interval([EditCounts(), EditCounts(insertions=1)], ["a", "b"]) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 100))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(
    values: list[float], p: float
) -> None:
    """The definition, word for word."""
    found = metrics.percentile(values, p)
    assert found in values
    assert sum(v <= found for v in values) >= p / 100 * len(values) - 1e-6
    assert sum(v < found for v in values) <= p / 100 * len(values)


def test_percentiles_of_a_hundred_numbers_are_those_numbers() -> None:
    """No interpolation, no off-by-one; the order does not matter."""
    values = [float(v) for v in range(100, 0, -1)]
    assert Percentiles.of(values) == Percentiles(p50=50, p95=95, p99=99, max=100)
    assert Percentiles.of([3.0]) == Percentiles(3, 3, 3, 3)
    assert Percentiles.of([]) is None
    for order in permutations([1.0, 2.0, 3.0]):
        assert metrics.percentile(order, 50) == 2


@pytest.mark.parametrize(("values", "p"), [([], 50), ([1.0], -1), ([1.0], 100.5)])
def test_a_percentile_that_does_not_exist_is_refused(values: list[float], p: float) -> None:
    """A made-up figure is worse than none."""
    with pytest.raises(ValueError, match="percentile"):
        metrics.percentile(values, p)


def calls(*events: tuple[Event, ...]) -> list[Call]:
    """Calls of 80 ms and a `finish`, the first taking 1 ms, the next 2 ms, and so on."""
    last = len(events) - 1
    return [
        Call(1280 * min(i + 1, last), (i + 1) / 1000, returned) for i, returned in enumerate(events)
    ]


WORD = Final(0, (Word("hi", 640, 1280, 0.9),), "finish", 3840)


def test_first_partial_latency_counts_from_the_first_word_to_the_first_text() -> None:
    """Empty partials show nothing; the wait for the chunk and the look-ahead are felt."""
    stream = calls((Partial(0, "", "", 1280),), (Partial(0, "", "h", 2560),), (), (WORD,))
    assert metrics.first_partial_ms(stream) == (2560 - 640) / 16


def test_text_that_comes_only_as_a_final_counts_from_there() -> None:
    """With partials off, or one word at the very end, the final is the first text."""
    assert metrics.first_partial_ms(calls((), (), (), (WORD,))) == (3840 - 640) / 16


def test_a_stream_without_words_has_no_first_partial_latency() -> None:
    """Silence must not pull the percentiles down; a partial that was taken back is no word."""
    assert metrics.first_partial_ms(calls((Partial(0, "", "h", 1280),), ())) is None


def test_end_of_audio_to_final_is_the_last_chunk_and_the_finish() -> None:
    """What a user waits after the last sound, as far as computing goes."""
    assert metrics.end_to_final_ms(calls((), (), (), (WORD,))) == pytest.approx(3 + 4)
    assert metrics.end_to_final_ms([Call(0, 0.005, ())]) == pytest.approx(5)


def test_compute_seconds_add_up_all_calls() -> None:
    """The real-time factor leaves no call out."""
    assert metrics.compute_seconds(calls((), (), ())) == pytest.approx(0.006)
