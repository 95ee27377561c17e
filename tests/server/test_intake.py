"""From bytes on the wire to samples at 16 kHz, and back to times on the wire."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import audio, resampling
from asr.errors import ProtocolError, StateError
from asr.transcript import Final, Partial, Word
from server.dialogue import AudioFormat
from server.intake import SLICE_MS, Intake, restore_state
from server.line import CONTAINER_BYTES
from tests.server.sounds import KINDS, announced, encode, noise, pieces, whole

if TYPE_CHECKING:
    from asr.resampling import Samples

RATES = st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000])


def hear(intake: Intake, data: bytes, arrived: float = 0.0) -> list[Samples]:
    """All that bytes bring: S streams at 16 kHz."""
    heard = [[np.zeros(0, np.float32)] for _ in range(intake.streams)]
    for first in range(0, len(data), CONTAINER_BYTES):
        brought = take(intake, data[first : first + CONTAINER_BYTES], arrived)
        for stream, samples in zip(heard, brought, strict=True):
            stream.append(samples)
    return [np.concatenate(stream) for stream in heard]


def take(intake: Intake, data: bytes, arrived: float) -> list[Samples]:
    """The same of a few bytes, as the engine does it."""
    taken = [intake.take([(data, arrived)])]
    while intake.pending:
        taken.append(intake.take([]))
    return [np.concatenate(streams) for streams in zip(*taken, strict=True)]


@settings(max_examples=30)
@given(RATES, st.sampled_from(["s16le", "f32le"]), st.integers(0, 3000), st.data())
def test_how_messages_fall_never_changes_the_samples(
    rate: int, encoding: str, length: int, data: st.DataObject
) -> None:
    """Any cutting of the bytes into whole samples gives what the whole gives, bit for bit."""
    audio_format = AudioFormat(encoding, rate)
    samples = np.random.default_rng(length).integers(-9000, 9000, length)
    sent = (
        samples.astype("<i2") if encoding == "s16le" else (samples / 9e3).astype("<f4")
    ).tobytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=5)))
    edges = [c * audio_format.frame_bytes for c in [0, *cuts, length]]
    intake, entire = Intake(audio_format), Intake(audio_format)
    got = [intake.take([(sent[a:b], 0.0)])[0] for a, b in pairwise(edges)]
    expected = np.concatenate([*entire.take([(sent, 0.0)]), *entire.end()])
    (preview,) = intake.preview()
    assert np.array_equal(np.concatenate([*got, *intake.end()]), expected)
    assert np.array_equal(preview, expected[len(expected) - len(preview) :])
    assert len(expected) == resampling.output_length(length, rate)
    assert intake.position == length


@settings(max_examples=40)
@given(st.sampled_from(KINDS), st.booleans(), st.integers(1, 3), st.integers(1, 3000), st.data())
def test_an_intake_goes_on_from_what_was_written_down(
    kind: str,
    apart: bool,  # noqa: FBT001 - hypothesis passes it by position
    channels: int,
    length: int,
    data: st.DataObject,
) -> None:
    """After any byte; what the client must send again is where it says. Nothing else changes."""
    channels = min(channels, 2) if kind == "ogg-opus" else channels
    stream = encode(noise(length, channels), 24_000, kind)
    known = announced(kind, 24_000, channels)
    audio_format = AudioFormat(known.encoding, known.sample_rate, channels, channels_apart=apart)
    entire = Intake(audio_format)
    expected = join(hear(entire, stream), entire.end())
    first = Intake(audio_format)
    heard = hear(first, stream[: data.draw(st.integers(0, len(stream)), "cut")])
    second = Intake(audio_format, restore_state(first.saved.dump()))
    unit = audio_format.frame_bytes if audio_format.raw else 1
    heard = join(heard, hear(second, stream[second.received * unit :]), second.end())
    assert [one.tobytes() for one in heard] == [one.tobytes() for one in expected]
    assert (second.position, second.received) == (entire.position, entire.received)
    assert second.cut_off() is None


def join(*parts: list[Samples]) -> list[Samples]:
    """Streams, one part after another."""
    return [np.concatenate(streams) for streams in zip(*parts, strict=True)]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"streams":[{"base64":"?"}]}'])
def test_damaged_states_are_refused(data: bytes) -> None:
    """They come from elsewhere."""
    with pytest.raises(StateError, match="damaged"):
        restore_state(data)


def test_a_state_of_another_format_is_refused() -> None:
    """Two channels cannot go on as one."""
    stereo = Intake(AudioFormat("s16le", 8000, 2, channels_apart=True))
    with pytest.raises(StateError, match="another number of channels"):
        Intake(AudioFormat("s16le", 8000), stereo.saved)


@settings(max_examples=20)
@given(st.sampled_from(KINDS), st.integers(1, 8), st.integers(1, 2000))
def test_channels_are_mixed_or_heard_apart(kind: str, channels: int, length: int) -> None:
    """Mixed as files are, to their mean; or each as if the others were not there."""
    channels = min(channels, 2) if kind == "ogg-opus" else channels
    stream = encode(noise(length, channels), 16_000, kind)
    samples = whole(kind, stream, 16_000, channels)
    known = announced(kind, 16_000, channels)
    (mixed,) = hear(Intake(known), stream)
    separate = AudioFormat(known.encoding, known.sample_rate, channels, channels_apart=True)
    apart = hear(Intake(separate), stream)
    if kind == "ogg-opus":
        samples = np.stack([to_16k(column, len(apart[0])) for column in samples.T], 1)
        assert mixed == pytest.approx(audio.mono(samples), abs=1e-6)
    else:
        assert np.array_equal(mixed, audio.mono(samples))
    assert len(apart) == channels
    assert all(np.array_equal(one, column) for one, column in zip(apart, samples.T, strict=True))


def to_16k(samples: Samples, length: int) -> Samples:
    """The first samples at 16 kHz of a channel of Opus."""
    return resampling.resample(np.ascontiguousarray(samples), 48_000)[:length]


@pytest.mark.parametrize("kind", ["flac-16", "wav-s16le", "ogg-opus"])
def test_a_container_is_decoded_a_slice_at_a_time(kind: str) -> None:
    """So nobody waits for nobody's long frames."""
    intake = Intake(announced(kind, 0, 0))
    stream = encode(noise(9600, 1), 48_000, kind)
    sizes = []
    for first in range(0, len(stream), CONTAINER_BYTES):
        before = intake.position
        intake.take([(stream[first : first + CONTAINER_BYTES], 0.0)])
        sizes.append(intake.position - before)
        while intake.pending:
            before = intake.position
            intake.take([])
            sizes.append(intake.position - before)
    assert max(sizes) <= 48 * SLICE_MS
    assert sum(sizes) == intake.position == 9600


@pytest.mark.parametrize(
    ("rate", "channels", "named"),
    [(16_000, 0, "16000 Hz and any channels"), (0, 2, "any Hz and 2 channels")],
)
def test_a_container_must_hold_what_was_announced(rate: int, channels: int, named: str) -> None:
    """Who says 16 kHz and sends another counts other samples than the server."""
    intake = Intake(AudioFormat("wav", rate, channels))
    with pytest.raises(ProtocolError, match=named) as caught:
        hear(intake, encode(noise(100, 1), 8000, "wav-s16le"))
    assert caught.value.code == "bad_format"


def test_a_stream_that_breaks_off_says_so() -> None:
    """Its last words are missing, and the client should know."""
    intake = Intake(AudioFormat("flac", 0, 0))
    hear(intake, encode(noise(5000, 1), 16_000, "flac-16")[:-1])
    error = intake.cut_off()
    assert error is not None
    assert "middle of a frame" in str(error)
    assert Intake(AudioFormat("flac", 0, 0)).cut_off() is None


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
        produced += len(intake.take([(bytes(10 * sample), number / 100)])[0])
        if produced >= 16_000 and not expected:
            expected = number / 100
    assert intake.arrival(16_000) == pytest.approx(expected, abs=0.0101 if rate != 16000 else 0)


def test_latency_of_a_frame_counts_from_its_last_byte() -> None:
    """All samples of a frame arrive at once, and have their turn later."""
    intake = Intake(AudioFormat("flac", 0, 0))
    stream = encode(noise(3 * 4096, 1), 16_000, "flac-16")
    for number in range(len(stream)):
        intake.take([(stream[number : number + 1], float(number))])
        if intake.pending:
            break
    arrived = intake.arrived
    while intake.pending:
        intake.take([])
    assert [intake.arrival(place) for place in (1, 2000, 4096)] == [arrived] * 3


def test_the_log_of_arrivals_stays_short() -> None:
    """One-sample messages for ever take no memory."""
    intake = Intake(AudioFormat("s16le", 8000))
    for number in range(10_000):
        intake.take([(b"\0\0", number / 8000)])
    assert len(intake._arrivals) <= 1002  # noqa: SLF001 - memory has no public face


def test_samples_that_are_not_finite_become_zero_and_are_counted() -> None:
    """NaN and infinities cannot reach the network, and the client is told how many there were."""
    intake = Intake(AudioFormat("f32le", 16000))
    sent = np.array([1, np.nan, np.inf, -np.inf, 0.5], "<f4").tobytes()
    assert intake.take([(sent, 0.0)])[0].tolist() == [1, 0, 0, 0, 0.5]
    assert intake.repaired == 3


def test_how_long_waiting_bytes_last() -> None:
    """Exactly where a sample has a size; elsewhere as long as those before them did."""
    assert Intake(AudioFormat("s16le", 8000, 2)).milliseconds(32_000) == 1000
    intake = Intake(AudioFormat("flac", 0, 0))
    assert intake.milliseconds(1000) == 0
    stream = encode(noise(8000, 1), 8000, "flac-16")
    hear(intake, stream)
    assert intake.milliseconds(2 * len(stream)) == 2000


def test_what_is_written_down_is_small() -> None:
    """Tens of kB a session, whatever the format: snapshots are written every second."""
    for kind in ("s16le", "flac-16", "ogg-opus"):
        intake = Intake(announced(kind, 16_000, 1))
        for piece in pieces(encode(noise(40_000, 1), 16_000, kind), range(0, 80_000, 500)):
            take(intake, piece, 0.0)
            written = intake.saved.dump()
            assert len(written) < 70_000
            json.loads(written)
