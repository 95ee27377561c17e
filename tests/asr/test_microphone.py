"""The microphone through the real PortAudio and a virtual sound card: no loss goes unnoticed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from asr import audio, microphone
from asr.errors import DeviceError
from asr.microphone import Device, Microphone, find_device
from tests.virtual_sound_card import SoundCard, sound_card, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asr.audio import Samples

SOME = [
    Device(0, "HDA Intel PCH: ALC257 Analog (hw:0,0)", 2, 48000, default=False),
    Device(3, "USB Microphone: Audio (hw:1,0)", 1, 44100, default=False),
    Device(7, "default", 32, 44100, default=True),
]


@pytest.fixture(scope="module")
def card() -> Iterator[SoundCard]:
    """A sound card that is awake."""
    with tempfile.TemporaryDirectory() as folder, sound_card(Path(folder)) as made:
        made.hold_open()
        yield made


@pytest.fixture
def fresh_card() -> Iterator[SoundCard]:
    """One to pull the plug of, asleep until it is used."""
    with tempfile.TemporaryDirectory() as folder, sound_card(Path(folder)) as made:
        yield made


def noise(seconds: float) -> bytes:
    """White noise, s16le at 16 kHz: it occurs nowhere by chance."""
    values = np.random.default_rng(5).integers(-8000, 8000, round(seconds * 16000))
    return values.astype("<i2").tobytes()


def record_until(open_: Microphone, wanted: bytes, limit_s: float = 15.0) -> tuple[bytes, int]:
    """What is heard until it holds the wanted bytes, and how many blocks that were."""
    heard, count = b"", 0
    for block in open_.blocks():
        heard += audio.to_s16le(block)
        count += 1
        if wanted in heard[-len(wanted) - 65536 :] or len(heard) > limit_s * 32000:
            open_.stop()
    return heard, count


def test_what_is_played_is_what_is_heard_bit_for_bit(card):
    """Two seconds in one piece: not a sample lost, added or changed."""
    sound = noise(2.0)
    with Microphone() as heard:
        player = card.play(sound)
        recording, _ = record_until(heard, sound)
    assert player.wait(10) == 0
    assert sound in recording
    assert (heard.sample_rate, heard.channels) == (16000, 1)
    assert (heard.dropped, heard.overflows) == (0, 0)


def test_no_block_is_lost_at_the_beginning(card):
    """Sound that starts as soon as the device is open is all there, and the count is exact."""
    sound = noise(0.5)
    with Microphone() as heard:
        card.play(sound).wait(10)  # over before anybody reads
        recording, blocks = record_until(heard, sound)
    assert sound in recording
    assert len(recording) == 2 * heard.received
    assert blocks == heard.received // 320


@pytest.mark.usefixtures("card")
def test_a_reader_too_slow_loses_the_newest_and_is_told():
    """The queue is bounded: what is kept is in one piece from the start, the rest is counted."""
    with Microphone(queue_s=0.2) as heard:
        assert until(lambda: heard.dropped >= 1600)
        heard.stop()
        kept = sum(len(block) for block in heard.blocks())
    assert kept == heard.received == 10 * 320


def test_a_device_that_disappears_is_told_after_what_it_heard(fresh_card):
    """The words until then are not lost, and the line says what to do."""
    fresh_card.hold_open()
    samples: list[Samples] = []

    def listen(blocks: Iterator[Samples]) -> None:
        for block in blocks:
            samples.append(block)
            if len(samples) == 10:
                fresh_card.kill()

    with Microphone() as heard, pytest.raises(DeviceError, match="disappeared") as caught:
        listen(heard.blocks())
    assert "asr mic --list" in str(caught.value)
    assert sum(map(len, samples)) == heard.received >= 3200


@pytest.mark.usefixtures("card")
def test_a_device_that_falls_silent_is_not_waited_for_forever(monkeypatch):
    """Some drivers neither fail nor send: five seconds are enough to know."""
    monkeypatch.setattr(microphone, "PATIENCE_S", 0.2)
    with Microphone() as heard:
        next(heard.blocks())
        monkeypatch.setattr(heard, "_limit", 0)  # from now on nothing reaches the queue
        with pytest.raises(DeviceError, match="sent nothing"):
            list(heard.blocks())


@pytest.mark.usefixtures("card")
def test_the_virtual_card_is_listed():
    """The default input is marked, outputs are left out."""
    found = microphone.devices()
    assert [device.name for device in found if device.default] == ["default"]
    assert all(device.channels > 0 for device in found)


def test_a_device_is_meant_by_number_name_or_part_of_it():
    """Exact names win over parts; without a wish it is the default."""
    assert find_device(None, SOME).index == 7
    assert find_device("usb", SOME).index == 3
    assert find_device("default", SOME).index == 7
    assert find_device("0", SOME).index == find_device(0, SOME).index == 0


@pytest.mark.parametrize("wanted", ["webcam", "5", 5, "hw:", ""])
def test_a_device_that_is_not_there_or_not_clear_is_refused_with_the_list(wanted):
    """Never another one instead: one would speak into the wrong microphone."""
    with pytest.raises(DeviceError, match="USB Microphone") as caught:
        find_device(wanted, SOME)
    assert "\n" not in str(caught.value)


def test_a_machine_without_a_microphone_says_so():
    """A server in a rack."""
    with pytest.raises(DeviceError, match="no sound device"):
        find_device(None, [])


def test_a_machine_without_portaudio_names_the_cure(monkeypatch):
    """Installing a Python package cannot bring the library on Linux."""

    class Finder:
        def find_spec(self, name, *_):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(DeviceError, match="apt install libportaudio2"):
        microphone.devices()
