"""The figures that are published come from here: the same for everybody who measures again."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.emission import Flicker
from asr.errors import AudioError, BundleError, DataError, Error
from asr.evaluate import Evaluation, evaluate, validate
from asr.manifest import Utterance
from asr.measure import Settings
from asr.metrics import EditCounts, ErrorCounts
from asr.together import transcribe_together
from tests.asr.fake_recognizer import (
    HALF,
    WORDS,
    FakeRecognizer,
    die_in_workers,
    load,
    refuse,
    sound,
    spoken,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asr.audio import Samples

TEXTS = {"a1": "the cat sat", "a2": "on it", "b1": "don't", "b2": "the cat"}
SENTENCES = st.lists(st.sampled_from(WORDS[1:]), max_size=5).map(" ".join)


def without_times(evaluation: Evaluation) -> list[tuple[object, ...]]:
    """What must not depend on the machine."""
    return [
        (r.utterance, r.words, r.counts, r.samples, len(r.chunk_ms), r.first_partial_ms)
        for r in evaluation.results
    ]


def test_any_number_of_jobs_gives_the_same_words(tmp_path: Path) -> None:
    """Who has more cores gets the figures sooner, not others; in the set's order."""
    utterances = spoken(tmp_path, TEXTS)
    utterances.insert(2, Utterance("lost", tmp_path / "lost.wav", "gone"))
    make = functools.partial(load, chatty=True)
    one = evaluate(make, utterances, Settings("random"))
    three = evaluate(make, utterances, Settings("random"), jobs=3)
    assert without_times(one) == without_times(three)
    assert one.failures == three.failures
    assert [r.utterance.id for r in one.results] == list(TEXTS)


def test_a_bad_file_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    """An hour of measuring is not lost to one file, and the file is not passed over in silence."""
    utterances = spoken(tmp_path, TEXTS)
    (tmp_path / "a2.wav").write_text("no sound")
    found = evaluate(load, utterances, Settings())
    assert [failure.utterance.id for failure in found.failures] == ["a2"]
    assert "a2.wav" in found.failures[0].message
    assert found.summary()["failed"] == 1
    assert (found.counts.utterances, found.counts.words.length) == (3, 6)


def test_nothing_measured_is_an_error(tmp_path: Path) -> None:
    """A rate over nothing would read as perfect."""
    lost = [Utterance("lost", tmp_path / "lost.wav", "gone")]
    with pytest.raises(DataError, match=r"none of 1 recordings could be measured: .*lost\.wav"):
        evaluate(load, lost, Settings())
    with pytest.raises(DataError, match="no recordings"):
        evaluate(load, [], Settings())


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_model_that_cannot_be_loaded_is_told_once(tmp_path: Path, jobs: int) -> None:
    """Not as the death of a worker."""
    with pytest.raises(BundleError, match=r"model\.toml"):
        evaluate(refuse, spoken(tmp_path, TEXTS), Settings(), jobs=jobs)


def test_a_worker_that_dies_is_one_clear_line(tmp_path: Path) -> None:
    """Too many jobs run out of memory; that must neither hang nor end in a trace."""
    with pytest.raises(Error, match="fewer --jobs"):
        evaluate(die_in_workers, spoken(tmp_path, TEXTS), Settings(), jobs=2)


def test_progress_tells_the_errors_so_far(tmp_path: Path) -> None:
    """Who sees a rate of 100 % after a minute stops the run."""
    told: list[tuple[int, int]] = []
    utterances = spoken(tmp_path, {"a": "the", "b": "cat"})
    evaluate(
        functools.partial(load, chatty=True),
        utterances,
        Settings(),
        progress=lambda done, counts: told.append((done, counts.words.errors)),
    )
    assert told == [(1, 1), (2, 2)]


def test_the_summary_holds_every_promised_figure(tmp_path: Path) -> None:
    """Scripts read these names; rates are fractions of the sums."""
    utterances = [replace(u, text=f"{u.text} sat") for u in spoken(tmp_path, TEXTS)]
    summary = evaluate(load, utterances, Settings(100)).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["wer"] == pytest.approx(4 / 12)
    assert (summary["substitutions"], summary["deletions"], summary["insertions"]) == (0, 4, 0)
    assert (summary["words"], summary["utterances"], summary["wrong_utterances"]) == (12, 4, 4)
    assert summary["audio_seconds"] == 4.0
    assert isinstance(summary["cer"], float)
    assert isinstance(summary["rtf"], float)
    for name in ("chunk_ms", "first_partial_ms", "end_to_final_ms"):
        figures = summary[name]
        assert isinstance(figures, dict)
        assert set(figures) == {"p50", "p95", "p99", "max"}
    assert summary["wer_interval"] == {"low": 2 / 7, "high": 2 / 5, "groups": 2}


def test_emission_latency_is_counted_where_word_times_are_known(tmp_path: Path) -> None:
    """The fake says each word half a second after it began, when it ends; chunks are 100 ms."""
    spoken_words = spoken(tmp_path, {"a": "the cat", "b": "sat"})
    assert evaluate(load, spoken_words, Settings(100)).summary()["emission_ms"] is None
    known = [
        replace(spoken_words[0], words=(("the", 0, 4000), ("cat", HALF, 12_800))),
        spoken_words[1],
        replace(spoken_words[1], id="c", words=(("mat", 0, 10),)),
    ]
    found = evaluate(load, known, Settings(100))
    assert "`words` spell 'mat'" in found.failures[0].message
    summary = found.summary()
    assert summary["emission_ms"] == {"p50": 200.0, "p90": 250.0, "p95": 250.0, "words": 2}
    assert summary["emission_stable_ms"] == summary["emission_ms"] == summary["emission_first_ms"]
    whole = evaluate(load, known[:1], Settings("whole")).summary()
    assert whole["emission_ms"] is None


def test_flicker_is_counted_over_all_recordings(tmp_path: Path) -> None:
    """The fake takes nothing back; its words are counted, whoever knows their times or not."""
    found = evaluate(load, spoken(tmp_path, {"a": "the cat", "b": "sat"}), Settings(100))
    assert found.flicker == Flicker(0, 0, 3)
    assert found.summary()["flicker"] == {"taken_back": 0, "returned": 0, "words": 3}


def test_figures_that_do_not_exist_are_null(tmp_path: Path) -> None:
    """JSON knows no infinity, and zero would be a claim."""
    utterances = [replace(u, text="") for u in spoken(tmp_path, {"a": ""})]
    summary = evaluate(functools.partial(load, chatty=True), utterances, Settings()).summary()
    rates = ("wer", "cer", "rtf", "rtf_cpu", "late_chunks", "wer_interval")
    names = (*rates, "chunk_ms", "emission_first_ms", "emission_ms", "emission_stable_ms")
    assert [summary[name] for name in names] == [None] * len(names)
    assert summary["insertions"] == 1


def test_the_interval_is_by_utterance_where_a_speaker_is_unknown(tmp_path: Path) -> None:
    """Half-known speakers would make groups of unequal kind."""
    utterances = [replace(u, speaker="") for u in spoken(tmp_path, TEXTS)]
    interval = evaluate(load, utterances, Settings()).interval()
    assert interval is not None
    assert interval.groups == 4


def test_validation_counts_what_evaluation_counts(tmp_path: Path) -> None:
    """Early stopping must follow the figure that is published."""
    utterances = [replace(u, text=f"{u.text} sat") for u in spoken(tmp_path, TEXTS)]
    counts = validate(FakeRecognizer(), utterances, streams=3)
    assert counts == evaluate(load, utterances, Settings()).counts


def test_validation_leaves_nothing_out(tmp_path: Path) -> None:
    """A shrinking validation set would look like progress; and readers may come from a cache."""
    utterances = [Utterance("lost", tmp_path / "lost.wav", "the cat")]
    with pytest.raises(AudioError):
        validate(FakeRecognizer(), utterances)
    counts = validate(FakeRecognizer(), utterances, read=lambda _path: sound("the cat"))
    assert counts.words == EditCounts(hits=2)
    assert validate(FakeRecognizer(), []) == ErrorCounts()


@given(st.lists(SENTENCES, max_size=7), st.integers(1, 4), st.integers(HALF // 8, 3 * HALF))
def test_recordings_together_have_the_words_they_have_alone(
    texts: list[str], streams: int, chunk: int
) -> None:
    """Each in its place, whatever their lengths and however many go together."""
    recognizer = FakeRecognizer()
    recordings = (sound(text) for text in texts)
    heard = transcribe_together(recognizer, recordings, streams=streams, chunk_samples=chunk)
    assert [" ".join(word.text for word in words) for words in heard] == texts
    assert max(recognizer.company, default=0) == min(streams, len(texts))


def test_recordings_are_drawn_only_when_there_is_a_place() -> None:
    """Hours of audio must not lie in memory at once."""
    steps_before: list[int] = []
    recognizer = FakeRecognizer()

    def recordings() -> Iterator[Samples]:
        for _ in range(6):
            steps_before.append(len(recognizer.company))
            yield np.zeros(HALF, np.float32)

    transcribe_together(recognizer, recordings(), streams=2)
    assert steps_before == [0, 0, 1, 1, 2, 2]
    assert recognizer.company == [2, 2, 2]
