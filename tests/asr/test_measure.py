"""One recording is fed as a live client feeds it, and nothing of it is lost or counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import AudioError, ConfigError
from asr.manifest import Utterance
from asr.measure import Settings, chunk_lengths, measure, read_samples, stream
from asr.metrics import EditCounts
from tests.asr.fake_recognizer import HALF, FakeRecognizer, record, sound

if TYPE_CHECKING:
    from pathlib import Path

CHUNKS: st.SearchStrategy[int | Literal["random", "whole"]] = st.one_of(
    st.integers(1, 2000), st.sampled_from(["random", "whole"])
)


@given(st.integers(0, 100_000), CHUNKS, st.integers(0, 3), st.text(max_size=3))
def test_chunks_cover_the_recording_exactly(
    samples: int, chunk: int | Literal["random", "whole"], seed: int, name: str
) -> None:
    """No sample lost, none twice, no empty chunk; the same call cuts the same way."""
    settings = Settings(chunk, seed)
    lengths = chunk_lengths(samples, settings, name)
    assert sum(lengths) == samples
    assert all(length >= 1 for length in lengths)
    assert lengths == chunk_lengths(samples, settings, name)


def test_chunk_sizes_are_what_was_asked_for() -> None:
    """80 ms are 1,280 samples; the last chunk takes what is left."""
    assert chunk_lengths(3000, Settings(80), "") == [1280, 1280, 440]
    assert chunk_lengths(3000, Settings("whole"), "") == [3000]
    assert chunk_lengths(0, Settings("whole"), "") == []


def test_random_chunks_differ_by_seed_and_by_recording() -> None:
    """All recordings cut alike would test one cutting."""
    cuts = {
        tuple(chunk_lengths(50_000, Settings("random", seed), name))
        for seed in (0, 1)
        for name in ("a", "b")
    }
    assert len(cuts) == 4
    lengths = chunk_lengths(10_000_000, Settings("random"), "a")
    assert max(lengths) > 7900
    assert min(lengths) < 100


@pytest.mark.parametrize(
    ("chunk", "seed"), [(0, 0), (-80, 0), (600_001, 0), ("often", 0), (80, -1)]
)
def test_a_chunking_that_makes_no_sense_is_refused(chunk: int, seed: int) -> None:
    """One line that says what there is, before an hour of computing."""
    with pytest.raises(ConfigError, match="give"):
        Settings(chunk, seed)


@given(st.lists(st.integers(1, 9000), max_size=8))
def test_a_stream_is_fed_whole_and_finished_once(lengths: list[int]) -> None:
    """The calls carry the positions that latencies are counted from."""
    samples = np.resize(sound("the cat"), sum(lengths))
    calls = stream(FakeRecognizer(), samples, lengths)
    assert [call.position for call in calls] == [*np.cumsum(lengths).tolist(), sum(lengths)]
    assert all(call.seconds >= 0 for call in calls)


def test_a_measured_recording_tells_words_errors_and_latencies(tmp_path: Path) -> None:
    """The figures of one utterance, all known beforehand."""
    utterance = Utterance("u", record(tmp_path / "u.wav", "the cat sat"), "THE CAT SITS", "s")
    result = measure(FakeRecognizer(), utterance, Settings(100))
    assert result.text == "the cat sat"
    assert [(word.start, word.end) for word in result.words] == [
        (0, HALF),
        (HALF, 2 * HALF),
        (2 * HALF, 3 * HALF),
    ]
    assert result.counts.words == EditCounts(hits=2, substitutions=1)
    assert (result.samples, len(result.chunk_ms)) == (3 * HALF, 15)
    assert result.first_partial_ms == 500
    assert result.seconds >= sum(result.chunk_ms) / 1000
    assert 0 < result.end_to_final_ms <= 1000 * result.seconds


def test_a_whole_recording_has_no_first_partial_latency(tmp_path: Path) -> None:
    """All text comes at the end of a single chunk: that latency is the recording's length."""
    utterance = Utterance("u", record(tmp_path / "u.wav", "the cat"), "the cat")
    assert measure(FakeRecognizer(), utterance, Settings("whole")).first_partial_ms is None


def test_a_recording_without_samples_is_measured(tmp_path: Path) -> None:
    """It is a recording in which nothing is said; invented words would still count."""
    soundfile.write(tmp_path / "u.wav", np.zeros(0, np.float32), 16000)
    result = measure(
        FakeRecognizer(chatty=True), Utterance("u", tmp_path / "u.wav", ""), Settings()
    )
    assert (result.samples, result.chunk_ms, result.counts.words.insertions) == (0, (), 1)


def test_recordings_of_any_rate_become_16_khz(tmp_path: Path) -> None:
    """As everywhere else: one way through."""
    soundfile.write(tmp_path / "a.wav", np.zeros((44100, 2), np.float32), 44100)
    samples = read_samples(tmp_path / "a.wav")
    assert samples.shape == (16000,)
    assert samples.dtype == np.float32


def test_an_unreadable_recording_says_so(tmp_path: Path) -> None:
    """`evaluate` counts it; whoever measures one recording is told."""
    with pytest.raises(AudioError):
        measure(FakeRecognizer(), Utterance("u", tmp_path / "none.wav", ""), Settings())
