"""From bytes on the wire to samples at 16 kHz, and back to times on the wire."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import resampling
from asr.transcript import Final, Partial, Word
from server.dialogue import AudioFormat
from server.intake import Intake

RATES = st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000])


@settings(max_examples=30)
@given(RATES, st.sampled_from(["s16le", "f32le"]), st.integers(0, 3000), st.data())
def test_how_messages_fall_never_changes_the_samples(
    rate: int, encoding: str, length: int, data: st.DataObject
) -> None:
    """Any cutting of the bytes into whole samples gives what the whole gives, bit for bit."""
    audio_format = AudioFormat(encoding, rate)
    noise = np.random.default_rng(length).integers(-9000, 9000, length)
    sent = (noise.astype("<i2") if encoding == "s16le" else (noise / 9e3).astype("<f4")).tobytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=5)))
    edges = [c * audio_format.frame_bytes for c in [0, *cuts, length]]
    intake, whole = Intake(audio_format), Intake(audio_format)
    got = [intake.take([(sent[a:b], 0.0)]) for a, b in pairwise(edges)]
    expected = np.concatenate([whole.take([(sent, 0.0)]), whole.end()])
    preview = intake.preview()
    assert np.array_equal(np.concatenate([*got, intake.end()]), expected)
    assert np.array_equal(preview, expected[len(expected) - len(preview) :])
    assert len(expected) == resampling.output_length(length, rate)
    assert intake.position == length


@given(RATES, st.integers(1, 100_000), st.integers(0, 100_000))
def test_no_time_lies_beyond_the_input(rate: int, received: int, time: int) -> None:
    """Times map back to input samples that exist."""
    intake = Intake(AudioFormat("s16le", rate))
    intake.take([(bytes(2 * received), 0.0)])
    word = Word("x", time, time + 640, 1.0)
    final = intake.at_input_rate(Final(0, (word,), "finish", time))
    if rate != 16000:
        assert isinstance(final, Final)
        assert 0 <= final.start < final.end <= received
        assert 0 <= final.position <= received


def test_times_at_16_khz_are_left_alone() -> None:
    """The common case costs nothing."""
    event = Partial(0, "a", "b", 1520)
    assert Intake(AudioFormat("s16le", 16000)).at_input_rate(event) is event


def test_times_at_other_rates_count_input_samples() -> None:
    """A client never learns of 16 kHz."""
    intake = Intake(AudioFormat("s16le", 48000))
    intake.take([(bytes(2 * 9000), 0.0)])
    assert intake.at_input_rate(Partial(0, "a", "b", 1520)) == Partial(0, "a", "b", 4560)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_latency_counts_from_the_message_that_made_the_block_complete(rate: int) -> None:
    """Neither from an earlier message, which would flatter nobody, nor from a later one."""
    intake = Intake(AudioFormat("s16le", rate))
    sample = rate // 1000 * 2
    produced = 0
    expected = 0.0
    for number in range(200):  # 10 ms each
        produced += len(intake.take([(bytes(10 * sample), number / 100)]))
        if produced >= 16_000 and not expected:
            expected = number / 100
    assert intake.arrival(16_000) == pytest.approx(expected, abs=0.0101 if rate != 16000 else 0)


def test_the_log_of_arrivals_stays_short() -> None:
    """One-sample messages for ever take no memory."""
    intake = Intake(AudioFormat("s16le", 8000))
    for number in range(40_000):
        intake.take([(b"\0\0", number / 8000)])
    assert len(intake._arrivals) <= 1002  # noqa: SLF001 - memory has no public face


def test_samples_that_are_not_finite_become_zero_and_are_counted() -> None:
    """NaN and infinities cannot reach the network, and the client is told how many there were."""
    intake = Intake(AudioFormat("f32le", 16000))
    sent = np.array([1, np.nan, np.inf, -np.inf, 0.5], "<f4").tobytes()
    assert intake.take([(sent, 0.0)]).tolist() == [1, 0, 0, 0, 0.5]
    assert intake.repaired == 3
