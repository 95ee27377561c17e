"""A stream at its own rate: the recogniser's words, told in the samples that came in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import resampling
from asr.errors import DeviceError
from asr.live import LiveStream, transcribe
from asr.transcript import Event, Final, Partial
from tests.tiny import recognizer, sound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asr.audio import Samples

SOUND = sound(4.0, 3)


def events_of(samples: Samples, rate: int, cuts: list[int]) -> list[Event]:
    """All events of a sound that comes in these pieces."""
    stream = LiveStream(recognizer("plain", "numpy"), rate)
    events = [event for piece in np.split(samples, sorted(cuts)) for event in stream.feed(piece)]
    return events + stream.finish()


@given(
    cuts=st.lists(st.integers(0, len(SOUND)), max_size=8),
    rate=st.sampled_from([8000, 16000, 44100, 48000]),
)
@settings(max_examples=25)
def test_how_audio_arrives_never_changes_an_event(cuts, rate):
    """Neither words nor times, whatever the rate."""
    assert events_of(SOUND, rate, cuts) == events_of(SOUND, rate, [])


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_words_are_those_of_the_converted_audio_in_the_input_s_time(rate):
    """Times go back by the ratio of the rates, and never beyond the input."""
    stream = recognizer("plain", "numpy").stream()
    converted = [*stream.feed(resampling.resample(SOUND, rate)), *stream.finish()]
    events = events_of(SOUND, rate, [])
    assert len(events) == len(converted) > 5
    for told, exact in zip(events, converted, strict=True):
        assert told.position == min(round(exact.position * rate / 16000), len(SOUND))
        if isinstance(told, Final) and isinstance(exact, Final):
            assert told.text == exact.text
            assert all(0 <= w.start < w.end <= len(SOUND) for w in told.words)
            assert abs(told.start - exact.start * rate / 16000) <= 1
        else:
            assert isinstance(told, Partial)


def test_a_source_that_breaks_gives_its_words_first():
    """A microphone is unplugged: what was said until then is told, then what happened."""
    told: list[Event] = []

    def source() -> Iterator[Samples]:
        yield SOUND
        raise DeviceError("gone")

    with pytest.raises(DeviceError, match="gone"):
        transcribe(recognizer("plain", "numpy"), source(), 16000, on_event=told.append)
    assert told == events_of(SOUND, 16000, [])
    assert isinstance(told[-1], Final)


def test_samples_that_are_no_audio_are_counted_once():
    """Also where they were converted first."""
    holes = SOUND.copy()
    holes[[100, 200, 300]] = np.nan
    for rate in (16000, 48000):
        transcript, repaired = transcribe(recognizer("plain", "numpy"), [holes], rate)
        assert repaired == 3
        assert (transcript.duration, transcript.sample_rate) == (len(SOUND), rate)
