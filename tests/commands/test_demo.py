"""`asr demo`: words appear, then figures that were measured and not made up."""

from __future__ import annotations

import io
import re
import time

import numpy as np
import pytest

import asr
from asr import audio, commands, demo
from asr.audio import Audio
from asr.commands.demo import Outcome, play, report
from asr.commands.screen import Screen
from asr.live import LiveStream
from asr.metrics import Call
from asr.transcript import Final, Partial, Word


def test_the_demo_tells_words_and_figures(model, capsys):
    """Words on standard output as they come; then text, errors, speed, latencies."""
    assert commands.main(["demo", "--fast", "--model", model]) == 0
    out, err = capsys.readouterr()
    said = asr.load(model).transcribe(demo.RECORDING)
    assert out.startswith(said.segments[0].text)
    assert f"recognised:  {said.text}\n" in out
    assert f"said:        {demo.reference()}\n" in out
    for title in ("word error rate", "real-time factor", "chunk of 80 ms", "last word"):
        assert re.search(rf"^{title} +[a-z ]*\d", out, re.MULTILINE), title
    assert "20.1 s of audio" in err


def test_real_time_is_paced_by_the_audio(model):
    """Each chunk comes when its last sample would have been spoken, never earlier."""
    recording = Audio(np.zeros(16000 // 2, np.float32), 16000, 1)
    stream = LiveStream(asr.load(model), 16000)
    begin = time.perf_counter()
    outcome = play(stream, recording, Screen(io.StringIO(), live=False), paced=True)
    assert time.perf_counter() - begin >= 0.5
    assert len(outcome.delays_ms) == 7
    assert min(outcome.delays_ms) > 0
    assert [call.position for call in outcome.calls] == [*range(1280, 8000, 1280), 8000, 8000]


def test_the_report_says_what_was_measured():
    """Each figure from its own numbers."""
    words = Word("good", 1600, 4800, 1.0), Word("dog", 4800, 8000, 1.0)
    calls = [
        Call(1280, 0.001, ()),
        Call(6400, 0.002, (Partial(0, "", "good", 6000),)),
        Call(6400, 0.003, (Final(0, words, "finish", 6400),)),
    ]
    lines = report(Outcome(calls, [1.5, 2.5], 0.4), "good day sir")
    assert lines[:2] == ["said:        good day sir", "recognised:  good dog"]
    assert lines[3:] == [
        "word error rate   66.7 % of 3 words: 1 substituted, 1 missing, 0 added",
        "real-time factor  0.0150: 0.01 s of computing for 0.4 s of audio",
        "chunk of 80 ms    computed in 1.0 ms (median), 2.0 ms (p95), 2.0 ms (most)",
        "chunk to screen   1.5 ms (median), 2.5 ms (p95), 2.5 ms (most) after its last sample came",
        "first word        on the screen 300 ms of audio after it begins",
        "last word         final 5.0 ms after the end of the audio",
    ]


def test_a_model_that_hears_nothing_is_reported_too():
    """All words are missing; there is no first word to measure."""
    lines = report(Outcome([Call(1280, 0.001, ()), Call(1280, 0.001, ())], [], 0.1), "good day")
    assert any("100.0 % of 2 words" in line for line in lines)
    assert not any(line.startswith("first word") for line in lines)


@pytest.mark.parametrize("fact", ["16 kHz mono", "short", "in one line"])
def test_the_recording_is_what_the_demo_needs(fact):
    """Its own, 20 seconds, with a reference of words alone."""
    recording = audio.read(demo.RECORDING)
    facts = {
        "16 kHz mono": (recording.sample_rate, recording.channels) == (16000, 1),
        "short": 10 < recording.duration_s < 30,
        "in one line": re.fullmatch(r"[a-z' ]+", demo.reference()) is not None,
    }
    assert facts[fact]
