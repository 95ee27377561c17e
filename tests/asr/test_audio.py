"""Reading audio: every format, every rate, and one clear line for what is no audio."""

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from asr import audio
from asr.audio import Samples
from asr.errors import AudioError

FORMATS: dict[str, dict[str, str]] = {
    "wav": {},
    "float.wav": {"subtype": "FLOAT"},
    "24.wav": {"subtype": "PCM_24"},
    "ulaw.wav": {"subtype": "ULAW"},
    "extensible.wav": {"format": "WAVEX"},
    "flac": {},
    "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {},
    "aiff": {},
    "au": {},
    "caf": {},
    "w64": {},
    "rf64": {"format": "RF64"},
}
LOSSY = {"ogg": 0.01, "opus": 0.05, "mp3": 0.02, "ulaw.wav": 0.01}  # root mean square error


def recording(seconds: float = 2.0, rate: int = 16000, channels: int = 1) -> Samples:
    """A tone in each channel, float32 [n, channels]."""
    instants = np.arange(round(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * (300 + 200 * c) * instants) * 0.3 for c in range(channels)]
    return np.stack(tones, 1).astype(np.float32)


def written(folder: Path, kind: str, samples: Samples, rate: int = 16000) -> Path:
    """A file of that format."""
    path = folder / f"speech.{kind}"
    soundfile.write(path, samples, rate, **FORMATS[kind])
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_in_full(tmp_path, kind):
    """Sample for sample, within what the format itself loses."""
    samples = recording()
    heard = audio.read(written(tmp_path, kind, samples))
    assert (heard.sample_rate, heard.channels, heard.duration_s) == (16000, 1, 2.0)
    assert heard.samples.dtype == np.float32
    error = np.sqrt(((heard.samples - samples[:, 0]) ** 2).mean())
    assert error < LOSSY.get(kind, 3e-5)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_file_cut_off_is_refused_in_one_line(tmp_path, kind, part, capfd):
    """A transcript that silently lacks the end is worse than none; and libraries stay quiet."""
    path = written(tmp_path, kind, recording())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_the_refusal_says_what_was_promised_and_found(tmp_path):
    """So that one sees at once how much is missing."""
    path = written(tmp_path, "wav", recording(1.0))
    path.write_bytes(path.read_bytes()[: 44 + 10000])
    with pytest.raises(AudioError, match="promises 32000 bytes, 10000 are there"):
        audio.read(path)


@pytest.mark.parametrize("kind", ["wav", "float.wav", "extensible.wav"])
@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0])
@pytest.mark.parametrize("riff_size", [None, 0xFFFFFFFF, 0])
def test_a_size_unknown_to_a_pipe_promises_nothing(tmp_path, kind, size, riff_size):
    """ffmpeg, sox and GStreamer write such headers into pipes; the audio is all there.

    So it is where a recorder was killed, which leaves size zero: an empty transcript would hide it.
    """
    path = written(tmp_path, kind, recording(1.0))
    whole = audio.read(path).samples
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    if riff_size is not None:
        data[4:8] = riff_size.to_bytes(4, "little")
    path.write_bytes(data)
    assert audio.read(path).samples.tobytes() == whole.tobytes()
    assert audio.read(io.BytesIO(data)).samples.tobytes() == whole.tobytes()


def test_a_header_that_was_never_completed_is_refused(tmp_path):
    """An empty transcript would hide the audio; of a wav it is known how to read it."""
    path = written(tmp_path, "aiff", recording(1.0))
    data = bytearray(path.read_bytes())
    data[22:26] = bytes(4)  # numSampleFrames
    at = data.index(b"SSND") + 4
    data[at : at + 4] = (8).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(AudioError, match="promises no samples"):
        audio.read(path)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_rate_and_channel_count_becomes_the_mean(tmp_path, rate, channels):
    """The rate is told, not changed; channels are averaged."""
    samples = recording(0.2, rate, channels)
    heard = audio.read(written(tmp_path, "float.wav", samples, rate))
    assert (heard.sample_rate, heard.channels) == (rate, channels)
    assert np.allclose(heard.samples, samples.mean(1), atol=1e-7)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "mp3"])
@pytest.mark.parametrize("seconds", [0.01, 0.3, 60.0])
def test_blocks_joined_are_the_whole_to_the_bit(tmp_path, kind, seconds):
    """Hours of audio need not lie in memory, and the words do not notice."""
    path = written(tmp_path, kind, recording(channels=2))
    pieces = list(audio.blocks(path, seconds))
    assert all(len(p.samples) == round(seconds * 16000) for p in pieces[:-1])
    joined = np.concatenate([piece.samples for piece in pieces])
    assert joined.tobytes() == audio.read(path).samples.tobytes()


def test_a_recording_of_zero_length_is_empty_audio(tmp_path):
    """Nobody spoke: that is an empty transcript, not an error."""
    path = written(tmp_path, "wav", recording(0.0))
    assert len(audio.read(path).samples) == 0
    assert [len(piece.samples) for piece in audio.blocks(path)] == [0]


def test_samples_that_are_not_finite_are_left_to_the_recogniser(tmp_path):
    """It counts them; hiding them here would hide a broken recorder."""
    samples = recording(0.1)
    samples[5] = np.nan
    samples[6] = np.inf
    heard = audio.read(written(tmp_path, "float.wav", samples)).samples
    assert np.isnan(heard[5])
    assert np.isinf(heard[6])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [8, 30, 50])
def test_a_file_cut_off_in_its_header_is_refused_in_one_line(tmp_path, kind, size, capfd):
    """There libsndfile seeks before the start: no trace of that may reach the screen."""
    path = written(tmp_path, kind, recording())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pipe" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_pipe_is_read_like_a_file(tmp_path):
    """`cat speech.flac | asr transcribe -` works though a pipe cannot seek."""
    data = written(tmp_path, "flac", recording()).read_bytes()
    reading, writing = os.pipe()

    def fill():
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=fill)
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        heard = audio.read(pipe)
    writer.join()
    assert len(heard.samples) == 32000


def test_a_file_object_is_read_from_where_it_stands(tmp_path):
    """Audio inside a larger stream, without copying it out first."""
    data = written(tmp_path, "wav", recording(0.5)).read_bytes()
    stream = io.BytesIO(b"prefix" + data)
    stream.seek(6)
    assert len(audio.read(stream).samples) == 8000


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac", "ogg", "raw"])
@pytest.mark.parametrize("content", [b"this is a text\n" * 400, b"\0" * 5000, b"x", b"RIFF"])
def test_what_is_no_audio_is_refused_in_one_line(tmp_path, kind, content, capfd):
    """A text named .wav: the line names the file and the cure."""
    path = tmp_path / f"letter.{kind}"
    path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert str(path) in str(caught.value)
    assert "ffmpeg" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_missing_empty_and_directory_are_told_apart(tmp_path):
    """Each has another cure."""
    (tmp_path / "empty.wav").touch()
    for name, reason in {"no.wav": "no such file", "empty.wav": "0 bytes", "": "directory"}.items():
        with pytest.raises(AudioError, match=reason):
            audio.read(tmp_path / name)


@pytest.mark.parametrize("source", [[0.0, 0.1], b"RIFF", None], ids=str)
def test_what_is_neither_path_nor_file_is_refused(source):
    """A list of samples is easily given to `Recognizer.transcribe`."""
    with pytest.raises(AudioError, match=f"a {type(source).__name__} is no recording; give"):
        audio.read(source)


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    """Patched, since the superuser may read everything."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match="no permission"):
        audio.read(tmp_path / "secret.wav")


@given(st.binary(max_size=400).filter(lambda data: len(data) % 2 == 0))
def test_16_bit_samples_survive_the_way_there_and_back(data):
    """Nothing is lost between the wire, the recogniser and a file."""
    samples = audio.from_s16le(data)
    assert samples.dtype == np.float32
    assert np.abs(samples).max(initial=0) <= 1
    assert audio.to_s16le(samples) == data


@given(hnp.arrays(np.float32, st.integers(0, 100), elements=st.floats(width=32)))
def test_float_samples_survive_bit_for_bit(samples):
    """Also what is not finite."""
    assert audio.from_f32le(audio.to_f32le(samples)).tobytes() == samples.tobytes()


@pytest.mark.parametrize(
    ("name", "decode"), [("ULAW", audio.from_mulaw), ("ALAW", audio.from_alaw)]
)
def test_the_laws_of_g711_are_those_of_libsndfile(name, decode):
    """All 256 of each; telephones send nothing else."""
    data = bytes(range(256))
    about = {"samplerate": 8000, "channels": 1, "format": "RAW", "subtype": name}
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", **about)
    assert np.array_equal(decode(data), expected)


def test_samples_beyond_the_range_are_limited_not_wrapped():
    """A loud peak must not become a click of the other sign."""
    loud = np.array([2.0, -2.0, np.inf, -np.inf, np.nan], np.float32)
    limited = np.frombuffer(audio.to_s16le(loud), "<i2")
    assert limited.tolist() == [32767, -32768, 32767, -32768, 0]


def test_bytes_that_hold_no_whole_samples_are_refused():
    """An odd byte count means that the two sides do not agree on the format."""
    with pytest.raises(AudioError, match="not a multiple of 2"):
        audio.from_s16le(b"abc")
    with pytest.raises(AudioError, match="not a multiple of 4"):
        audio.from_f32le(b"abcdef")
