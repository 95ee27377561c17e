"""Distortion: chosen by a seed, within its bounds, and never something that is not a number."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from tests.training.miniature import tones
from training.augment import (
    BAND_HZ,
    HIGHEST,
    RATE,
    Augmenter,
    add_noise,
    as_spoken,
    begun,
    equalised,
    mask,
    reverberate,
    telephone,
    varied,
    warp,
)
from training.generated import _resounding, generated_music, generated_room
from training.recipe import Augmentation

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = Augmentation(
    speed=(1, 1),
    gain_db=(0, 0),
    silence_probability=0,
    frequency_masks=0,
    time_masks=0,
)
SPEECH = tones("a bad deed")


def rng(seed: int = 1) -> np.random.Generator:
    """A generator of its own for each call."""
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Augmenter:
    """Everything at once: noise, rooms, telephone, speed, gain, silence."""
    folder = tmp_path_factory.mktemp("noise")
    (folder / "rooms").mkdir()
    response = np.exp(-np.arange(2000) / 300) * rng().standard_normal(2000)
    soundfile.write(folder / "rooms" / "hall.wav", 0.1 * response, 16000)
    soundfile.write(folder / "hiss.wav", 0.1 * rng().standard_normal(4000), 8000)
    rows = [
        {"audio": "hiss.wav", "split": "train"},
        {"audio": "gone.wav", "split": "validation"},
        {"audio": "gone.wav", "split": "train", "kind": "rir"},
    ]
    (folder / "noise.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return Augmenter(
        Augmentation(
            noise=str(folder / "noise.jsonl"),
            noise_probability=0.7,
            rooms=str(folder / "rooms"),
            room_probability=0.7,
            generated_music=0.5,
            generated_rooms=0.5,
            telephone_probability=0.5,
            silence_probability=0.5,
        )
    )


@given(seed=st.integers(0, 500), loud=st.sampled_from([0.0, 1e-6, 1.0, 3.0]))
@settings(max_examples=40)
def test_the_same_seed_distorts_the_same_way(full: Augmenter, seed: int, loud: float) -> None:
    """A resumed run must hear what an uninterrupted one hears; whatever the level, it is audio."""
    samples = np.float32(loud) * SPEECH
    first, second = full(samples, rng(seed)), full(samples, rng(seed))
    assert np.array_equal(first.samples, second.samples)
    assert (first.speed, first.lead) == (second.speed, second.lead)
    assert first.samples.dtype == np.float32
    assert np.abs(first.samples).max() <= 1
    assert 0.9 <= first.speed <= 1.1
    assert 0 <= first.lead <= 16000
    spoken = len(SPEECH) / first.speed
    assert first.lead + spoken - 2 <= len(first.samples) <= first.lead + spoken + 16002


@given(seed=st.integers(0, 500))
@settings(max_examples=30)
def test_views_of_one_course_agree_in_time(full: Augmenter, seed: int) -> None:
    """What is said in a frame of the one is said in that frame of the other."""
    course = full.course(rng(seed))
    one, other = full(SPEECH, rng(seed), course), full(SPEECH, rng(seed + 1), course)
    assert len(one.samples) == len(other.samples)
    assert (one.speed, one.lead, one.wordless) == (other.speed, other.lead, other.wordless)
    assert (one.speed, one.lead, one.wordless) == (course.speed, course.lead, course.wordless)
    assert not one.samples[: course.lead].any()
    assert not np.array_equal(one.samples, other.samples)


def test_no_distortion_is_no_change() -> None:
    """Every part can be switched off."""
    distorted = Augmenter(NOTHING)(SPEECH, rng())
    assert np.array_equal(distorted.samples, SPEECH)
    assert (distorted.speed, distorted.lead) == (1, 0)


@given(st.floats(-10, 40), st.integers(0, 50), st.integers(10, 60_000))
@settings(max_examples=30)
def test_noise_comes_at_the_wanted_level(snr_db: float, seed: int, length: int) -> None:
    """Whether the noise is longer or shorter than the speech."""
    noise = rng(seed).standard_normal(length).astype(np.float32)
    added = add_noise(SPEECH, noise, snr_db, rng(seed)).astype(float) - SPEECH
    ratio = 10 * np.log10(np.mean(SPEECH.astype(float) ** 2) / np.mean(added**2))
    assert ratio == pytest.approx(snr_db, abs=0.1)


def test_a_room_keeps_level_length_and_place() -> None:
    """The transcript's times must stay true: the direct sound stays where it was."""
    response = np.zeros(800, np.float32)
    response[0], response[700] = 1, 0.5
    wet = reverberate(SPEECH, response)
    assert len(wet) == len(SPEECH)
    assert np.mean(wet**2) == pytest.approx(np.mean(SPEECH**2), rel=1e-3)
    assert np.corrcoef(wet[:700], SPEECH[:700])[0, 1] > 0.999


@given(seed=st.integers(0, 200))
@settings(max_examples=20)
def test_a_generated_room_begins_with_the_direct_sound_and_dies_away(seed: int) -> None:
    """Its strength against the rest, and the rest's last tenth, lie within the stated bounds."""
    room = generated_room(rng(seed)).astype(float)
    assert room[0] == 1
    assert -12 <= 10 * np.log10(np.sum(room[1:] ** 2)) <= 6.01
    tail = room[320:]
    tenth = len(tail) // 10
    assert np.mean(tail[-tenth:] ** 2) < 1e-3 * np.mean(tail[:tenth] ** 2)


@given(seed=st.integers(0, 500), length=st.integers(1, 60_000))
@settings(max_examples=40)
def test_generated_music_is_sound_of_any_length(seed: int, length: int) -> None:
    """Finite, as long as asked for, never so loud that a mixture of it is lost."""
    music = generated_music(length, rng(seed))
    assert music.shape == (length,)
    assert music.dtype == np.float32
    assert np.abs(music).max() < 50
    assert np.array_equal(music, generated_music(length, rng(seed)))


def test_a_body_resounds_as_loud_as_what_is_played() -> None:
    """It changes the timbre and nothing else; of silence and of nothing it makes what they are."""
    played = rng(1).standard_normal(16_001)
    body = _resounding(played, rng(2))
    assert body.shape == played.shape
    assert np.linalg.norm(body) == pytest.approx(np.linalg.norm(played))
    assert abs(np.corrcoef(body, played)[0, 1]) < 0.9
    for silence in (np.zeros(100), np.zeros(0)):
        assert np.array_equal(_resounding(silence, rng(2)), silence)


def test_generated_music_holds_what_music_holds() -> None:
    """Of many pieces most sound, and some are tones where others are nearly noise."""
    flatness = []
    for seed in range(60):
        music = generated_music(32_000, rng(seed)).astype(float)
        power = np.abs(np.fft.rfft(music * np.hanning(len(music)))) ** 2 + 1e-9
        flatness.append(np.exp(np.mean(np.log(power))) / np.mean(power))
    assert np.mean(np.array(flatness) < 0.01) > 0.5
    assert max(flatness) > 0.05


@given(seed=st.integers(0, 50))
@settings(max_examples=10)
def test_a_telephone_carries_the_middle_alone_and_moves_nothing(seed: int) -> None:
    """As long as before, in step with it; nothing above 4 kHz."""
    noise = 0.1 * rng(seed).standard_normal(16001).astype(np.float32)
    heard = telephone(noise, rng(seed))
    assert heard.shape == noise.shape
    assert heard.dtype == np.float32
    before, after = (np.abs(np.fft.rfft(samples)) for samples in (noise, heard))
    assert np.sum(after[4100:] ** 2) < 1e-4 * np.sum(before[4100:] ** 2)
    assert np.median(after[500:2900] / before[500:2900]) == pytest.approx(1, abs=0.05)
    either = np.correlate(noise[1000:9000], heard[990:9010])
    assert int(np.argmax(either)) == 10


@given(seed=st.integers(0, 200), length=st.integers(20, 9000))
@settings(max_examples=20)
def test_varied_noise_is_noise_played_anew(seed: int, length: int) -> None:
    """A ramp shows how: its steps are as large as the speed, but where it starts over."""
    ramp = np.linspace(0, 1, 4001, dtype=np.float32)
    steps = np.diff(varied(ramp, length, rng(seed))) * 4000
    speed = np.median(np.abs(steps))
    assert 0.79 < speed < 1.26
    odd = np.abs(np.abs(steps) - speed) > 0.01
    assert odd.sum() <= 3 * (1 + length * 1.25 / 4001)


@given(st.integers(0, 200), st.integers(1, 300), st.integers(0, 80), st.floats(0, 3))
def test_masks_put_the_mean_and_nothing_else(
    seed: int, frames: int, bands: int, seconds: float
) -> None:
    """What is not masked keeps its bits; bands are masked whole, at most as wide as allowed."""
    chosen = Augmentation(
        frequency_masks=1, frequency_mask_bands=bands, time_masks=1, time_mask_seconds=seconds
    )
    before = torch.rand(frames, 80, generator=torch.Generator().manual_seed(seed)) + 1
    after = before.clone()
    mask(after, frames, chosen, rng(seed))
    assert torch.equal(after[after != 0], before[after != 0])
    masked_rows = (after == 0).all(1)
    if not bool(masked_rows.all()):
        assert int((after[~masked_rows] == 0).all(0).sum()) <= bands


@given(st.integers(0, 1000), st.floats(0.01, 0.5))
def test_a_warp_stretches_frequencies_by_one_factor(seed: int, most: float) -> None:
    """A band that holds its own frequency tells where it heard it: in rising order, from 0 Hz."""
    own = torch.from_numpy(BAND_HZ).expand(3, -1)
    warped = own.clone()
    warp(warped, most, rng(seed))
    factor = 1 + rng(seed).uniform(-most, most)
    low = HIGHEST * min(1, factor) > BAND_HZ
    reached = np.clip(BAND_HZ[low] / factor, BAND_HZ[0], BAND_HZ[-1])
    assert np.allclose(warped[:, low], reached, rtol=1e-6)
    assert bool((warped.diff(dim=1) >= 0).all())
    assert own[0, 0] <= warped.min() <= warped.max() <= own[0, -1]


@given(st.integers(0, 1000), st.floats(0.1, 20))
def test_another_microphone_is_as_loud_and_never_late(seed: int, most: float) -> None:
    """Of a click each frequency stays within the bounds, and all stay at their place."""
    click = np.zeros(4000, np.float32)
    click[2000] = 0.5
    heard = equalised(click, most, rng(seed))
    assert np.argmax(np.abs(heard)) == 2000
    assert np.allclose(heard[1:2000], heard[:2000:-1], atol=1e-6)  # before as behind
    assert np.isclose(np.sum(heard**2), 0.25, rtol=1e-4)
    gains = 20 * np.log10(np.abs(np.fft.rfft(heard)))
    assert np.ptp(gains) <= 2 * most + 0.1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no readable manifest of noise"),
        ("{", "no readable manifest of noise"),
        ('{"split": "train"}', "no readable manifest of noise"),
        ("[1]", "no readable manifest of noise"),
        ('{"audio": "a.wav", "split": "test"}', "no row has the split `train`"),
        ('{"audio": "gone.wav", "split": "train"}', "gone.wav: cannot be read"),
        ('{"audio": "silent.wav", "split": "train"}', "silent.wav: silent, empty or"),
    ],
)
def test_unusable_noise_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    """Before training begins."""
    soundfile.write(tmp_path / "silent.wav", np.zeros(500), 16000)
    if content is not None:
        (tmp_path / "noise.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        Augmenter(Augmentation(noise=str(tmp_path / "noise.jsonl")))


def test_a_folder_without_rooms_is_named(tmp_path: Path) -> None:
    """A path with a slip in it must not mean "no rooms"."""
    with pytest.raises(DataError, match="no impulse responses"):
        Augmenter(Augmentation(rooms=str(tmp_path)))


def test_noise_takes_the_place_of_speech_as_often_as_asked(full: Augmenter, tmp_path: Path) -> None:
    """As long and as loud as it, from noise without voices; and only where there is some."""
    rows = [
        {"audio": f"{kind}.wav", "split": "train", "kind": f"{kind} (mix)"}
        for kind in ("babble", "rain")
    ]
    for row in rows:  # babble is a square wave here
        wave = (
            np.sign(rng().standard_normal(4000))
            if "babble" in row["kind"]
            else rng().uniform(-1, 1, 4000)
        )
        soundfile.write(tmp_path / row["audio"], 0.1 * wave, 16000)
    manifest = tmp_path / "noise.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    some = Augmenter(replace(NOTHING, noise=str(manifest), wordless_probability=0.5))
    found = [some(SPEECH, rng(seed)) for seed in range(60)]
    noise = [distorted for distorted in found if distorted.wordless]
    assert 15 < len(noise) < 45
    for distorted in noise:
        assert len(distorted.samples) == len(SPEECH)
        assert np.std(distorted.samples) == pytest.approx(np.std(SPEECH), rel=0.01)
        assert len(np.unique(np.abs(distorted.samples))) > 100  # no square wave
    assert not any(full(SPEECH, rng(seed)).wordless for seed in range(20))
    manifest.write_text(json.dumps(rows[0]))
    with pytest.raises(DataError, match="without voices"):
        Augmenter(replace(NOTHING, noise=str(manifest), wordless_probability=0.5))


def test_noise_begins_in_every_way() -> None:
    """Out of quiet, slowly or suddenly, late or at once: its beginning does not tell what it is."""
    noise = np.ones(2 * RATE, np.float32)
    many = np.array([begun(noise, rng(seed)) for seed in range(200)])
    assert (np.diff(many, axis=1) >= -1e-6).all()
    assert np.allclose(many[:, -1], 1)
    at_once = (many == 1).all(axis=1)
    assert 0.15 < at_once.mean() < 0.35
    half = (many[~at_once] > 0.5).argmax(axis=1) / RATE  # when half of it is there
    assert half.min() < 0.05
    assert half.max() > 0.8
    quiet = many[~at_once][:, 0]
    assert 1e-4 <= quiet.min() < quiet.max() < 0.04


@given(st.integers(0, 99), st.integers(1, RATE))
def test_noise_swells_as_speech_does(seed: int, begin: int) -> None:
    """Silent where nobody speaks for longer than the window, and loud where somebody does."""
    speech = np.zeros(3 * RATE, np.float32)
    speech[begin : begin + RATE] = rng(seed).standard_normal(RATE)
    shaped = as_spoken(np.ones(3 * RATE, np.float32), speech)
    assert shaped.shape == speech.shape
    assert shaped.dtype == np.float32
    window = RATE // 20
    middle = shaped[begin + window : begin + RATE - window]
    assert middle.min() > 0.5 * middle.max()
    for silent in (shaped[: max(0, begin - window)], shaped[begin + RATE + window :]):
        assert silent.max(initial=0) < 1e-5 * middle.max()
