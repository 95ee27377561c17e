"""The recogniser by example: what it says when, what it refuses, and what it costs."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

import asr
from asr import bundle
from asr.decoding.greedy import GreedyDecoder
from asr.errors import AudioError, ConfigError, StateError
from asr.features import log_mel
from asr.recognizer import at_rate
from tests.tiny import UNITS, listen, normalisation, recognizer, sound, words, write_bundle

if TYPE_CHECKING:
    from asr.acoustic import AcousticState, Array


class Scripted:
    """A network that says what is played to it: the constant `level_of(k)` is unit k of `UNITS`."""

    def __init__(self) -> None:
        self.look_ahead = 0
        self.heads = {"pieces": len(UNITS)}
        self.calls: list[int] = []  # streams in each call

    def initial(self) -> AcousticState:
        """Blocks done."""
        return (np.zeros(1, np.float32),)

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """Read the units out of the energy of the lowest band."""
        self.calls.append(len(features))
        rows = np.full((len(features), 2, len(UNITS)), -10.0, np.float32)
        levels = [lowest_band(level_of(unit)) for unit in range(len(UNITS))]
        for stream, block in enumerate(features):
            for frame in range(2):
                # the last of its windows, which no longer reaches back to the frame before
                distance = np.abs(block[4 * frame + 3, 0] - np.array(levels))
                rows[stream, frame, distance.argmin()] = math.log(0.8)
        return {"pieces": rows}, [(count + 1,) for (count,) in states]


def play(script: list[int]) -> Array:
    """A sound that lets `Scripted` say unit script[t] in frame t."""
    return np.repeat(np.array([level_of(unit) for unit in script], np.float32), 640)


def level_of(unit: int) -> float:
    """The constant that stands for a unit; not zero, which would be digital silence."""
    return float(10.0 ** (unit / 4 - 2))


@cache
def lowest_band(level: float) -> float:
    """Normalised feature of a constant."""
    return float(normalisation()(log_mel(np.full(640, level, np.float32)))[3, 0])


@pytest.fixture
def scripted() -> asr.Recognizer:
    """A recogniser that says what is played to it."""
    decoder = GreedyDecoder(UNITS, "pieces")
    return asr.Recognizer(Scripted(), decoder, normalisation(), bundle_id="scripted")


AN, BE, CAT, ING = (UNITS.index(unit) for unit in ("▁an", "▁be", "▁cat", "ing"))


def test_words_and_partials_come_block_by_block(scripted: asr.Recognizer) -> None:
    """The whole story of a segment: tentative, stable, final."""
    events = listen(scripted, play([0, AN, AN, 0, BE, ING, 0, 0, CAT, *[0] * 30]))
    shown = [(e.stable, e.tentative) for e in events if isinstance(e, asr.Partial)]
    assert shown == [
        ("", "an"),
        ("an", "being"),  # frames 4 and 5 are one block
        ("an being", "cat"),
        ("an being cat", ""),  # 480 ms later
    ]
    (final,) = [e for e in events if isinstance(e, asr.Final)]
    assert (final.text, final.segment, final.reason) == ("an being cat", 0, "endpoint")
    assert [(w.start, w.end) for w in final.words] == [(400, 1680), (2320, 3600), (4880, 5520)]
    # 800 ms after frame 8 is frame 28, in block 14.
    assert final.position == 15 * 1280
    assert all(w.confidence == pytest.approx(0.8) for w in final.words)


def test_a_long_segment_is_cut_behind_its_100th_word(scripted: asr.Recognizer) -> None:
    """Who speaks without a pause gets finals all the same."""
    events = listen(scripted, play([AN, BE] * 60), asr.Options(partials=False))
    finals = [event for event in events if isinstance(event, asr.Final)]
    assert [(len(f.words), f.reason, f.segment) for f in finals] == [
        (100, "length", 0),
        (20, "finish", 1),
    ]


def test_a_later_endpoint_comes_later(scripted: asr.Recognizer) -> None:
    """`endpoint_ms` is the pause, to the block."""
    positions = {}
    for ms in (480, 800, 2000):
        events = listen(scripted, play([AN, *[0] * 80]), asr.Options(endpoint_ms=ms))
        (final,) = [event for event in events if isinstance(event, asr.Final)]
        positions[ms] = final.position
    assert positions == {ms: 1280 * -(-(1 + ms // 40) // 2) for ms in (480, 800, 2000)}


def test_no_audio_no_events(scripted: asr.Recognizer) -> None:
    """An empty stream has no frame, no block and no final."""
    assert listen(scripted, np.zeros(0, np.float32)) == []
    assert scripted.transcribe(np.zeros(0, np.float32)) == asr.Transcript((), 16000, 0)


def test_one_sample_is_one_frame(scripted: asr.Recognizer) -> None:
    """A word in the last, started frame ends with the audio."""
    events = listen(scripted, play([AN])[:1])
    assert all(word.end == 1 for word in words(events))
    end, _ = scripted.finish(scripted.step(scripted.start(), play([AN])[:1])[0])
    assert end.decoder.frame == 1


def test_digital_silence_is_not_computed(scripted: asr.Recognizer) -> None:
    """An hour of a muted microphone costs next to nothing."""
    stream = scripted.stream()
    stream.feed(np.zeros(16000 * 60, np.float32))
    network = scripted.acoustic
    assert isinstance(network, Scripted)
    assert network.calls == []
    stream.feed(np.concatenate([play([AN]), np.zeros(16000 * 60, np.float32)]))
    assert 19 <= len(network.calls) <= 21


def test_streams_are_stepped_together_in_bounded_batches(scripted: asr.Recognizer) -> None:
    """One call of the network for up to 64 streams; short streams drop out."""
    parts = [play([AN, BE] * 3)[: 1280 + 1280 * (n % 2)] for n in range(100)]
    scripted.step_many([scripted.start() for _ in parts], parts)
    network = scripted.acoustic
    assert isinstance(network, Scripted)
    assert network.calls == [64, 36, 50]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e7, -3e38])
def test_what_is_no_audio_becomes_zero_and_is_counted(bad: float) -> None:
    """One broken sample must not poison the network's state for ever."""
    made = recognizer("lstm", "int8")
    broken, mended = sound(3.0, 1), sound(3.0, 1)
    broken[[100, 20000]], mended[[100, 20000]] = bad, 0.0
    one, heard = made.step(made.start(), broken)
    two, expected = made.step(made.start(), mended)
    assert (one.repaired, two.repaired) == (2, 0)
    assert heard == expected
    assert all(map(np.array_equal, one.acoustic, two.acoustic))


@pytest.mark.parametrize(
    "bad",
    [np.zeros(5), np.zeros((5, 1), np.float32), np.zeros(5, np.int16), b"abcd", [0.0, 1.0], None],
)
def test_other_samples_are_refused_and_nothing_moves(bad: Any) -> None:
    """A wrong type is the caller's mistake, told before any stream of the call has moved."""
    made = recognizer("plain", "numpy")
    states = [made.start(), made.start()]
    with pytest.raises(AudioError):
        made.step_many(states, [sound(1.0, 1), bad])
    assert [state.dump() for state in states] == [made.start().dump()] * 2


def test_a_finished_stream_takes_nothing_more() -> None:
    """Also not nothing: the caller's book-keeping is wrong."""
    made = recognizer("plain", "numpy")
    stream = made.stream()
    stream.feed(sound(1.0, 1))
    stream.finish()
    with pytest.raises(StateError, match="finished"):
        stream.feed(np.zeros(0, np.float32))
    with pytest.raises(StateError, match="finished"):
        stream.flush()
    with pytest.raises(StateError, match="finished"):
        stream.finish()
    restored = made.restore(stream.state.dump())
    with pytest.raises(StateError, match="finished"):
        made.step(restored, sound(1.0, 1))


def test_states_and_samples_must_be_as_many() -> None:
    """A lost packet in a batch would shift everyone's audio by one stream."""
    made = recognizer("plain", "numpy")
    with pytest.raises(ValueError, match="step_many: 1 states, but samples for 0"):
        made.step_many([made.start()], [])


def test_a_decoder_for_another_head_is_refused() -> None:
    """When the recogniser is put together, not at the first word."""
    made = recognizer("plain", "numpy")
    with pytest.raises(ConfigError, match="head 'phones'"):
        asr.Recognizer(
            made.acoustic, GreedyDecoder(UNITS, "phones"), normalisation(), bundle_id="x"
        )


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_a_file_is_transcribed_in_its_own_time(tmp_path: Path, rate: int) -> None:
    """Times count the file's own samples; the words are those of the stream at 16 kHz."""
    from asr import resampling

    made = recognizer("gru", "int8")
    samples = np.round(sound(4.0, 3) * 32767) / 32768
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="PCM_16")
    told = made.transcribe(tmp_path / "a.wav")
    at_16k = resampling.resample(soundfile.read(tmp_path / "a.wav", dtype="float32")[0], rate)
    expected = made.transcribe(at_16k)
    assert (told.sample_rate, told.duration) == (rate, len(samples))
    assert told.text == expected.text
    assert told.words
    for word, original in zip(told.words, expected.words, strict=True):
        assert 0 <= word.start < word.end <= len(samples)
        assert abs(word.start - original.start * rate / 16000) <= 0.5
        end = min(original.end * rate / 16000, len(samples))  # 16 kHz may end a little later
        assert abs(word.end - end) <= 0.5


def test_times_at_another_rate_keep_a_sample() -> None:
    """The last word of a telephone call is not pushed out of it."""
    word = asr.Word("a", 1280, 1281, 1.0)
    told = at_rate(asr.Final(0, (word,), "finish", 1281), 8000, 641)
    assert [(w.start, w.end) for w in told.words] == [(640, 641)]
    assert told.position == 641


def test_a_bundle_is_loaded_in_both_precisions(tmp_path: Path) -> None:
    """From a folder to words in two lines."""
    write_bundle(tmp_path, "gru")
    for precision in ("int8", "float32"):
        made = asr.load(tmp_path, precision=precision)
        assert made.name == "tiny-gru"
        assert made.transcribe(sound(4.0, 3)).words
    with pytest.raises(ConfigError, match="threads is 0"):
        asr.load(tmp_path, threads=0)


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Help and shell completion start at once; servers choose what they load."""
    code = "import sys, asr; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "onnxruntime", "jiwer", "soundfile", "sounddevice", "websockets"}


def test_the_package_offers_what_it_lists() -> None:
    """`from asr import *` is the documented interface, no more and no less."""
    assert sorted(asr.__all__) == asr.__all__
    assert all(hasattr(asr, name) for name in asr.__all__)


def test_a_block_costs_little_beside_the_network() -> None:
    """Features, decoding, book-keeping: 60 us of 80 ms on an idle core; the bound is generous."""
    made = asr.Recognizer(
        Nothing(), GreedyDecoder(UNITS, "pieces"), normalisation(), bundle_id="nothing"
    )
    samples = sound(4.0, 1)
    best = math.inf
    for _ in range(5):
        state = made.start()
        began = time.process_time()
        for piece in np.split(samples, 50):
            state, _ = made.step(state, piece)
        best = min(best, (time.process_time() - began) / 50)
    assert best < 400e-6


class Nothing:
    """A network that costs nothing and says nothing."""

    look_ahead = 0

    def __init__(self) -> None:
        self.heads = {"pieces": len(UNITS)}
        self.rows = np.zeros((64, 2, len(UNITS)), np.float32)

    def initial(self) -> AcousticState:
        """No state."""
        return ()

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """Blank."""
        return {"pieces": self.rows[: len(features)]}, states


def test_a_state_does_not_go_on_in_another_precision(tmp_path: Path) -> None:
    """It would not go on identically, which is all that a saved state promises."""
    write_bundle(tmp_path, "gru")
    small, exact = (asr.load(tmp_path, precision=form) for form in ("int8", "float32"))
    assert small.bundle_id == bundle.read(tmp_path).id
    saved = small.start().dump()
    assert small.restore(saved).bundle_id == small.bundle_id
    with pytest.raises(StateError, match="model"):
        exact.restore(saved)
