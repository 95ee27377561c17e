"""The resampler: the same bits however audio is cut, the right length, a clean band."""

import time
from collections.abc import Iterable

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import resampling
from asr.errors import AudioError, StateError
from asr.resampling import Samples

COMMON = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000]
RATES = st.sampled_from(COMMON) | st.integers(resampling.MIN_RATE, resampling.MAX_RATE)


def noise(samples: int, seed: int = 0) -> Samples:
    """White noise, float32 [samples]."""
    return (np.random.default_rng(seed).standard_normal(samples) * 0.2).astype(np.float32)


def in_pieces(samples: Samples, rate: int, cuts: Iterable[int]) -> Samples:
    """The whole conversion, step by step."""
    state, outputs = resampling.start(rate), []
    for piece in np.split(samples, sorted(cuts)):
        state, output = resampling.step(state, piece)
        outputs.append(output)
    state, output = resampling.finish(state)
    assert state.produced == resampling.output_length(len(samples), rate)
    return np.concatenate([*outputs, output])


def tone(frequency: float, rate: int, seconds: float = 1.0) -> Samples:
    """A sine of power 0.125, float32."""
    instants = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * instants)).astype(np.float32)


def decibels(ratio: float) -> float:
    """Ten times the logarithm of a ratio of powers."""
    return float(10 * np.log10(ratio + 1e-30))


@given(rate=RATES, length=st.integers(0, 3000), data=st.data())
@settings(deadline=None, max_examples=100)
def test_how_audio_is_cut_never_changes_a_bit(rate, length, data):
    """Otherwise the words of a stream would depend on the sizes of its packets."""
    samples = noise(length, seed=rate)
    cuts = data.draw(st.lists(st.integers(0, length), max_size=12))
    whole = resampling.resample(samples, rate)
    assert in_pieces(samples, rate, cuts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_single_samples_give_the_bits_of_the_whole(rate):
    """The finest cut there is, past several groups of each phase."""
    samples = noise(1500)
    single = in_pieces(samples, rate, range(1, len(samples)))
    assert single.tobytes() == resampling.resample(samples, rate).tobytes()


def test_a_second_at_once_gives_the_bits_of_packets():
    """Products of many groups must equal products of one: a BLAS that mixes rows would differ."""
    samples = noise(48000 * 2)
    packets = in_pieces(samples, 48000, range(0, len(samples), 317))
    assert packets.tobytes() == resampling.resample(samples, 48000).tobytes()


@given(rate=RATES, length=st.integers(0, 5000))
@settings(deadline=None, max_examples=50)
def test_the_length_is_a_closed_formula(rate, length):
    """Times and frames are computed from it before any audio has been converted."""
    expected = -(-length * 16000 // rate)
    assert resampling.output_length(length, rate) == expected
    assert len(resampling.resample(noise(length), rate)) == expected


@given(rate=RATES, first=st.integers(0, 2000), data=st.data())
@settings(deadline=None, max_examples=50)
def test_a_restored_state_goes_on_to_the_bit(rate, first, data):
    """A server may move a stream to another process in the middle of a word."""
    samples = noise(2000)
    state, _ = resampling.step(resampling.start(rate), samples[:first])
    again = resampling.restore(resampling.dump(state))
    rest = samples[first : first + data.draw(st.integers(0, 2000))]
    one, two = resampling.step(state, rest), resampling.step(again, rest)
    assert one[1].tobytes() == two[1].tobytes()
    assert resampling.dump(one[0]) == resampling.dump(two[0])


def test_a_call_changes_neither_its_state_nor_its_samples():
    """State is a value: the same call twice gives the same."""
    samples, state = noise(1000), resampling.start(44100)
    state, _ = resampling.step(state, samples)
    before = resampling.dump(state), samples.copy()
    first, second = resampling.step(state, samples)[1], resampling.step(state, samples)[1]
    resampling.finish(state)
    assert first.tobytes() == second.tobytes()
    assert resampling.dump(state) == before[0]
    assert np.array_equal(samples, before[1])
    with pytest.raises(ValueError, match="read-only"):
        state.tail[0] = 1


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 192000])
def test_the_delay_stays_within_three_milliseconds(rate):
    """What is held back adds to every word's latency."""
    state, received, worst = resampling.start(rate), 0, 0.0
    for size in np.random.default_rng(1).integers(1, 500, 60):
        state, _ = resampling.step(state, noise(size))
        received += size
        worst = max(worst, received / rate - state.produced / 16000)
    assert worst <= 0.003


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 32000, 44100, 48000, 96000, 47999])
@pytest.mark.parametrize("frequency", [100, 1000, 3400, 7000])
def test_speech_frequencies_pass_unchanged(rate, frequency):
    """At least 60 dB below 7 kHz, against the tone itself: so there is no shift in time either."""
    output = resampling.resample(tone(frequency, rate), rate)[500:-500]
    exact = tone(frequency, 16000)[500:-500]
    assert -decibels(((output - exact) ** 2).mean() / (exact**2).mean()) >= 60


@pytest.mark.parametrize("rate", [8000, 11025])
def test_telephone_frequencies_pass_unchanged(rate):
    """Upsampled audio keeps what a telephone carries, and no images above it."""
    output = resampling.resample(tone(3400, rate), rate)[500:-500]
    exact = tone(3400, 16000)[500:-500]
    assert decibels((exact**2).mean() / ((output - exact) ** 2).mean()) >= 60


@pytest.mark.parametrize("rate", [22050, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("frequency", [9000, 10500, 15000])
def test_what_16_khz_cannot_hold_is_removed(rate, frequency):
    """At least 70 dB: what is left would fold back into the speech band."""
    if frequency >= rate / 2:
        frequency = rate / 2 - 100
    output = resampling.resample(tone(frequency, rate), rate)[500:-500]
    assert decibels((output**2).mean() / 0.125) <= -70


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_soxr_agrees(rate):
    """An independent resampler as oracle, on noise below the transition band."""
    spectrum = np.fft.rfft(noise(rate))
    spectrum[int(min(7000, rate * 0.42)) :] = 0
    samples = np.fft.irfft(spectrum).astype(np.float32)
    ours = resampling.resample(samples, rate)
    theirs = soxr.resample(samples, rate, 16000, quality="VHQ")
    ours, theirs = ours[1000:15000], theirs[1000:15000]
    assert decibels((theirs**2).mean() / ((ours - theirs) ** 2).mean()) >= 60


def test_16_khz_passes_bit_for_bit():
    """Audio at the recogniser's own rate is not touched, nor held back."""
    samples = noise(777)
    state, output = resampling.step(resampling.start(16000), samples)
    assert output.tobytes() == samples.tobytes()
    assert len(resampling.finish(state)[1]) == 0


@pytest.mark.parametrize("rate", COMMON)
def test_digital_silence_stays_digital_silence(rate):
    """The recogniser skips blocks that are exactly zero; the filter must not warm them."""
    assert not resampling.resample(np.zeros(2000, np.float32), rate).any()


@pytest.mark.parametrize("rate", COMMON)
def test_a_constant_stays_as_it_is(rate):
    """Every phase of the filter has the same gain; else there would be tones at their rate."""
    output = resampling.resample(np.full(4000, 0.5, np.float32), rate)
    assert np.abs(output[200:-200] - 0.5).max() < 1e-6


@pytest.mark.parametrize("rate", [16000, 44100])
def test_samples_that_are_not_finite_are_zero_and_counted(rate):
    """One NaN would otherwise spread over the filter's length, and over the words there."""
    samples = noise(1000)
    holes = samples.copy()
    samples[[10, 20, 30]] = 0
    holes[[10, 20, 30]] = np.nan, np.inf, -np.inf
    state, output = resampling.step(resampling.start(rate), holes)
    assert state.replaced == 3
    assert output.tobytes() == resampling.step(resampling.start(rate), samples)[1].tobytes()


@given(rate=RATES, position=st.integers(1, 5000))
@settings(deadline=None)
def test_what_an_output_needs_is_what_it_waits_for(rate, position):
    """With one sample less it is not there yet."""
    needed = resampling.input_needed(position, rate)
    for length, there in ((needed - 1, False), (needed, True)):
        _, output = resampling.step(resampling.start(rate), np.zeros(length, np.float32))
        assert (len(output) >= position) is there
    assert resampling.input_needed(0, rate) == 0


@given(position=st.integers(0, 10**12), rate=RATES)
def test_times_go_back_to_the_input_and_never_beyond(position, rate):
    """Words are told in samples of the audio as it was given."""
    exact = position * rate / 16000
    assert abs(resampling.input_position(position, rate, 10**15) - exact) <= 0.5 + exact * 1e-15
    assert resampling.input_position(position, rate, 100) <= 100


@pytest.mark.parametrize("rate", [0, -1, 3999, 192001, 16000.5, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate):
    """The message says what is allowed."""
    with pytest.raises(AudioError, match="4000 to 192000"):
        resampling.start(rate)


@pytest.mark.parametrize("samples", [np.zeros(4), np.zeros((2, 2), np.float32), np.zeros(4, "i2")])
def test_samples_of_another_type_or_shape_are_refused(samples):
    """Never guessed: integers are not quietly taken for floats."""
    with pytest.raises(AudioError, match="float32"):
        resampling.step(resampling.start(48000), samples)


@given(position=st.integers(0), bit=st.integers(0, 7))
def test_damaged_saved_state_is_refused(position, bit):
    """Any flipped bit: a stream must not go on from a wrong past."""
    data = bytearray(resampling.dump(resampling.step(resampling.start(48000), noise(400))[0]))
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(StateError):
        resampling.restore(bytes(data))


def test_it_costs_less_than_five_milliseconds_a_second():
    """CPU time for 48 kHz in packets of 20 ms: a quarter of the recogniser's own budget."""
    samples, state = noise(960), resampling.start(48000)
    state, _ = resampling.step(state, samples)
    costs = []
    for _ in range(5):
        begin = time.process_time()
        for _ in range(50):
            state, _ = resampling.step(state, samples)
        costs.append(time.process_time() - begin)
    assert min(costs) < 0.005


@pytest.mark.parametrize("rates", [(47_999, 44_101), (44_101, 47_999, 8001, 22_051)])
def test_odd_rates_at_once_make_each_matrix_once(rates, monkeypatch):
    """At an odd rate every millisecond of a second needs its own: they are kept, block by block."""
    made = []
    make = resampling._make_matrix  # noqa: SLF001 - nothing else shows what is computed

    def counted(rate, phase):
        made.append((rate, phase))
        return make(rate, phase)

    monkeypatch.setattr(resampling, "_make_matrix", counted)
    for cache in (resampling._usual, resampling._odd):  # noqa: SLF001
        cache.cache_clear()
    states = {rate: resampling.start(rate) for rate in rates}
    for _ in range(2 * 1000 // 80 + 1):  # two seconds and a bit
        for rate in rates:
            states[rate], _ = resampling.step(states[rate], noise(rate * 80 // 1000))
    assert len(made) == len(set(made)) == 1000 * len(rates)


def test_what_is_kept_of_odd_rates_is_bounded():
    """Whoever sends one odd rate after another does not fill the memory."""
    for rate in range(47_981, 47_999, 2):
        resampling.step(resampling.start(rate), noise(rate // 100))
    kept = resampling._odd.cache_info().currsize  # noqa: SLF001 - nothing else shows it
    assert 0 < kept <= resampling.ODD_RATES
