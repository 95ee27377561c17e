"""Decoders: every encoding, however its bytes fall, and whatever they are."""

from __future__ import annotations

import ctypes
import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import audio
from asr.errors import ProtocolError
from server import formats, opus
from server.decoders import open_decoder
from server.dialogue import AudioFormat
from server.flac import MAX_BLOCK, MIN_BLOCK
from server.formats import ENCODINGS, Samples
from tests.server.sounds import (
    KINDS,
    announced,
    decode,
    drain,
    encode,
    noise,
    pieces,
    truth,
    wav,
    whole,
)

LOSSLESS = [kind for kind in KINDS if kind != "ogg-opus"]
RATES = [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000]
OPUS_RATES = [8000, 16_000, 24_000, 48_000]
Change = Callable[[bytes], bytes]
kinds = st.sampled_from(KINDS)
data = st.data


def made(kind: str, draw: st.DataObject, longest: int = 5000) -> tuple[bytes, int, int]:
    """A stream of that kind, its rate and channels."""
    rate = draw.draw(st.sampled_from(OPUS_RATES if kind == "ogg-opus" else RATES), "rate")
    channels = draw.draw(st.integers(1, 8 if kind != "ogg-opus" else 2), "channels")
    length = draw.draw(st.integers(0 if "flac" not in kind else 1, longest), "length")
    return encode(noise(length, channels, length), rate, kind), rate, channels


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=6)
@given(data())
def test_a_lossless_stream_is_heard_as_the_file_would_be(kind: str, draw: st.DataObject) -> None:
    """Bit for bit what libsndfile reads, so a socket and a file can have one transcript."""
    stream, rate, channels = made(kind, draw)
    assert np.array_equal(whole(kind, stream, rate, channels), truth(stream, rate, channels, kind))


@settings(max_examples=40)
@given(kinds, data())
def test_how_the_bytes_fall_changes_no_sample(kind: str, draw: st.DataObject) -> None:
    """Any cutting gives the same samples; and each byte brings as much, whatever came with it."""
    stream, rate, channels = made(kind, draw)
    expected = whole(kind, stream, rate, channels)
    cuts = draw.draw(st.lists(st.integers(0, len(stream)), max_size=8), "cuts")
    decoder = open_decoder(announced(kind, rate, channels))
    brought = decode(decoder, pieces(stream, cuts), draw.draw(st.integers(1, 3000), "most"))
    assert np.array_equal(joined(brought), expected)
    assert decoder.rate == (48_000 if kind == "ogg-opus" else rate)
    place = draw.draw(st.sampled_from([0, *sorted(cuts)]), "place")
    alone = open_decoder(announced(kind, rate, channels))
    alone.feed(stream[:place])
    ends = [*sorted(cuts), len(stream)]
    early = [b for b, end in zip(brought, ends, strict=True) if end <= place]
    assert len(drain(alone)) == sum(map(len, early))


@pytest.mark.parametrize("kind", KINDS)
def test_one_byte_at_a_time_is_enough(kind: str) -> None:
    """The hardest cutting of all."""
    channels = 2
    stream = encode(noise(150, channels), 16_000, kind)
    decoder = open_decoder(announced(kind, 16_000, channels))
    brought = decode(decoder, [stream[n : n + 1] for n in range(len(stream))])
    assert np.array_equal(joined(brought), whole(kind, stream, 16_000, channels))


@settings(max_examples=40)
@given(kinds, data())
def test_a_stream_goes_on_from_what_was_saved(kind: str, draw: st.DataObject) -> None:
    """Saved after any byte and any take; of a raw one, behind any sample."""
    stream, rate, channels = made(kind, draw)
    expected = whole(kind, stream, rate, channels)
    cut = draw.draw(st.integers(0, len(stream)), "cut")
    audio_format = announced(kind, rate, channels)
    if audio_format.raw:
        cut -= cut % audio_format.frame_bytes
    first = open_decoder(audio_format)
    first.feed(stream[:cut])
    heard = first.take(draw.draw(st.integers(0, 5000), "taken"))
    second = open_decoder(audio_format)
    second.restore(first.save())
    second.feed(stream[cut:])
    assert np.array_equal(joined([heard, drain(second)]), expected)
    second.check_end()


@settings(max_examples=8)
@given(st.integers(0, 250_000), st.integers(0, 5000))
def test_opus_goes_on_from_what_was_saved_in_any_stretch(cut: int, taken: int) -> None:
    """Decoding begins afresh every two seconds, whether the stream was moved or not."""
    stream, expected = long_opus()
    cut = min(cut, len(stream))
    first = open_decoder(announced("ogg-opus", 0, 0))
    first.feed(stream[:cut])
    heard = [drain(first), first.take(taken)]
    second = open_decoder(announced("ogg-opus", 0, 0))
    second.restore(first.save())
    second.feed(stream[cut:])
    assert np.array_equal(joined([*heard, drain(second)]), expected)


def long_opus() -> tuple[bytes, Samples]:
    """Five seconds of it, and what our decoder makes of them."""
    stream = encode(noise(40_000, 1), 8000, "ogg-opus")
    return stream, whole("ogg-opus", stream, 48_000, 1)


def test_opus_sounds_as_libsndfile_makes_it() -> None:
    """The same in the first stretch; beyond it the fresh decoders settle to within 1 in 500."""
    samples = np.sin(np.arange(5 * 48_000)[:, None] * np.array([0.03, 0.05])).astype(np.float32) / 3
    stream = encode(samples, 48_000, "ogg-opus")
    ours, theirs = whole("ogg-opus", stream, 48_000, 2), truth(stream, 48_000, 2, "ogg-opus")
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs)[: opus.STRETCH - 1000].max() < 1e-4  # another build of libopus
    assert np.abs(ours - theirs).max() < 2e-3


fuzz = st.binary(max_size=300) | st.builds(
    lambda kind, length, holes: broken(encode(noise(length, 2), 16_000, kind), holes),
    st.sampled_from([kind for kind in KINDS if kind not in formats.SAMPLE_BYTES]),
    st.integers(1, 2000),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=4)), min_size=1, max_size=3),
)


def broken(stream: bytes, holes: list[tuple[int, bytes]]) -> bytes:
    """The stream with other bytes at some places."""
    changed = bytearray(stream)
    for place, filling in holes:
        at = place % len(stream)
        changed[at : at + len(filling) + 1] = filling
    return bytes(changed)


@settings(max_examples=150)
@given(st.sampled_from(ENCODINGS), fuzz, st.lists(st.integers(0, 300), max_size=3))
def test_any_bytes_are_samples_or_a_protocol_error(
    encoding: str, stream: bytes, cuts: list[int]
) -> None:
    """The decoders' law: no bytes can do anything else to the server, however they are cut."""
    audio_format = AudioFormat(encoding, 16_000, 1)
    outcomes = [outcome(audio_format, parts) for parts in ([stream], pieces(stream, cuts))]
    assert outcomes[0] == outcomes[1]


def outcome(audio_format: AudioFormat, parts: list[bytes]) -> tuple[bytes, str]:
    """The samples of a stream, and the error that it meets or nothing."""
    decoder = open_decoder(audio_format)
    samples: list[Samples] = []
    error: ProtocolError | None = None
    try:
        for part in parts:
            decoder.feed(part)
            while len(found := decoder.take(1000)):
                samples.append(found)
        decoder.check_end()
    except ProtocolError as refusal:
        error = refusal
    assert error is None or error.close_code in {1003, 1007}
    assert "\n" not in str(error)
    return joined(samples).tobytes(), str(error)


def joined(brought: list[Samples]) -> Samples:
    """All samples, in one piece."""
    found = [samples for samples in brought if len(samples)]
    return np.concatenate(found or brought[-1:] or [formats.silence(1)])


# WAV


@pytest.mark.parametrize("promised", [0, 0xFFFFFFFF, 0x7FFFF000, None])
def test_a_wav_of_unknown_length_lasts_until_its_end(promised: int | None) -> None:
    """Who writes to a pipe cannot know the length."""
    samples = audio.to_s16le(noise(100, 1)[:, 0])
    assert len(whole("wav", wav(samples, promised=promised), 16_000, 1)) == 100


def test_other_chunks_of_a_wav_are_no_audio() -> None:
    """Before the data and behind it; with an odd length, a filling byte follows."""
    samples = audio.to_s16le(noise(100, 1)[:, 0])
    before = struct.pack("<4sI", b"LIST", 5) + b"title\0" + struct.pack("<4sI", b"PEAK", 0)
    stream = wav(samples, before) + b"LIST\4\0\0\0loud"
    assert np.array_equal(whole("wav", stream, 16_000, 1)[:, 0], audio.from_s16le(samples))


def test_the_header_of_a_wav_says_what_it_is() -> None:
    """Rate and channels are known as soon as the header has come, not before."""
    stream = encode(noise(100, 3), 44_100, "wav-s16le")
    decoder = open_decoder(AudioFormat("wav", 0, 0))
    decoder.feed(stream[:20])
    assert (len(decoder.take(9)), decoder.rate, decoder.channels) == (0, 0, 0)
    decoder.feed(stream[20:44])
    assert (len(decoder.take(9)), decoder.rate, decoder.channels) == (0, 44_100, 3)


@pytest.mark.parametrize(
    ("stream", "code", "named"),
    [
        (wav(bytes(50), promised=100), "bad_payload", "promises 100 bytes of audio, 50 came"),
        (wav(bytes(51), promised=0), "bad_payload", "middle of a sample"),
        (wav(b"")[:30], "bad_payload", "within its header"),
        (b"RIFF\0\0\0\0AVI ", "bad_payload", "does not begin as WAV"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "bad_payload", "before its format"),
        (wav(b"", tag=2), "bad_format", "format 2 with 16 bits"),
        (encode(noise(9, 1), 96_000, "wav-s16le"), "bad_format", "sample_rate 96000"),
        (encode(noise(9, 9), 8000, "wav-s16le"), "bad_format", "9 channels"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0\0\0", "bad_payload", "a format of 2 bytes"),
        (wav(b"").replace(b"\2\0\x10\0data", b"\4\0\x10\0data"), "bad_payload", "4 bytes for a"),
    ],
)
def test_a_wav_that_cannot_be_heard_is_refused(stream: bytes, code: str, named: str) -> None:
    """What is missing or not supported is named."""
    assert named in str(refused("wav", stream, code))


def refused(encoding: str, stream: bytes, code: str) -> ProtocolError:
    """The error that a stream meets."""
    decoder = open_decoder(AudioFormat(encoding, 16_000, 1))
    decoder.feed(stream)
    with pytest.raises(ProtocolError) as caught:
        drain_and_check(decoder)
    assert caught.value.code == code
    return caught.value


def drain_and_check(decoder: formats.Decoder) -> None:
    """Everything that can fail."""
    drain(decoder)
    decoder.check_end()


# Raw


@pytest.mark.parametrize("kind", ["wav-s16le", "flac-16", "ogg-opus"])
def test_a_file_sent_as_samples_is_noticed(kind: str) -> None:
    """It would be noise for hours; the error says what to announce."""
    stream = encode(noise(100, 1), 16_000, kind)
    encoding = announced(kind, 0, 0).encoding
    assert f"say encoding {encoding}" in str(refused("s16le", stream, "bad_payload"))


def test_half_a_sample_at_the_end_is_noticed() -> None:
    """It means that the two sides do not agree on the format."""
    assert "middle of a sample" in str(refused("f32le", bytes(10), "bad_payload"))


# FLAC


@settings(max_examples=10)
@given(st.integers(1, 40), st.sampled_from([1, 7, 16, 192, 4096, 4097]))
def test_frames_of_any_size_are_found(seed: int, length: int) -> None:
    """The last frame of a stream may be as short as one sample."""
    for loudness in (0.0, 0.01, 1.0):
        samples = noise(length, 1, seed, loudness)
        stream = encode(samples, 16_000, "flac-16")
        ours, theirs = (read(stream) for read in (flac, flac_truth))
        assert np.array_equal(ours, theirs)


def flac(stream: bytes) -> Samples:
    """What our decoder makes of a stream of 16 kHz, mono."""
    return whole("flac-16", stream, 16_000, 1)


def flac_truth(stream: bytes) -> Samples:
    """What libsndfile reads in it."""
    return truth(stream, 16_000, 1, "flac-16")


def test_a_frame_is_heard_when_its_last_byte_comes() -> None:
    """Not only when the next frame shows where it ended: that would be 256 ms later."""
    stream = encode(noise(4096, 1), 16_000, "flac-16")
    decoder = open_decoder(AudioFormat("flac", 0, 0))
    decoder.feed(stream[:-1])
    assert not len(decoder.take(9))
    decoder.feed(stream[-1:])
    assert len(drain(decoder)) == 4096


def test_a_frame_is_decoded_only_when_its_turn_has_come() -> None:
    """A stream of silence that stands for hours takes no more memory than its bytes."""
    stream = encode(np.zeros((4_000_000, 1), np.float32), 8000, "flac-16")
    assert len(stream) < 20_000
    decoder = open_decoder(AudioFormat("flac", 0, 0))
    decoder.feed(stream)
    decoder.take(1)
    tracemalloc.start()
    for _ in range(200):
        assert len(decoder.take(640)) == 640
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000


def test_a_frame_that_never_ends_is_refused_and_not_kept() -> None:
    """Its header says how many bytes it can have at most."""
    stream = encode(noise(4096, 1), 16_000, "flac-16")
    start = stream.index(b"\xff\xf8", 42)
    random = np.random.default_rng(1)
    endless = stream[: start + 100] + random.integers(0, 256, 20_000, np.uint8).tobytes()
    assert "does not end within" in str(refused("flac", endless, "bad_payload"))


def test_places_that_look_like_ends_are_not_tried_for_ever() -> None:
    """Behind a remainder of zero, bytes of zero keep it: each would cost a decoding."""
    stream = encode(noise(4096, 1), 16_000, "flac-16")
    start = stream.index(b"\xff\xf8", 42)
    frame = bytearray(stream[start : start + 100])
    remainder = 0
    for byte in frame:
        for bit in range(7, -1, -1):
            carry = remainder >> 15 ^ byte >> bit & 1
            remainder = (remainder << 1 & 0xFFFF) ^ (0x8005 if carry else 0)
    frame += remainder.to_bytes(2) + bytes(3000)
    assert "damaged" in str(refused("flac", stream[:start] + frame, "bad_payload"))


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (lambda s: s[:-9], "bad_payload", "in the middle of a frame"),
        (lambda s: s[:20], "bad_payload", "within its header"),
        (lambda s: b"fLaX" + s[4:], "bad_payload", "does not begin as FLAC"),
        (lambda s: s[:4] + b"\1" + s[5:], "bad_payload", "STREAMINFO"),
        (lambda s: s + b"tail", "bad_payload", "does not begin where it should"),
        (lambda s: s[: s.index(b"\xff\xf8", 42)], "bad_payload", "promises 5000 samples, 0 came"),
    ],
)
def test_a_flac_stream_that_cannot_be_heard_is_refused(
    change: Change, code: str, named: str
) -> None:
    """What is missing or not supported is named."""
    stream = encode(noise(5000, 1), 16_000, "flac-16")
    assert named in str(refused("flac", change(stream), code))


def test_the_bounds_of_a_frame_are_those_of_the_subset() -> None:
    """RFC 9639, section 7: encoders keep to it unless told otherwise."""
    assert (MIN_BLOCK, MAX_BLOCK) == (16, 16_384)


# Opus


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (lambda s: s[:-9], "bad_payload", "middle of a page"),
        (lambda s: s[:10], "bad_payload", "middle of a page"),
        (lambda s: b"\0" + s, "bad_payload", "does not begin where it should"),
        (lambda s: s[:300] + b"\x55" + s[301:], "bad_payload", "page is damaged"),
        (lambda s: s[: page(s, 2)] + s[page(s, 3) :], "bad_payload", "Ogg page 2 is missing"),
        (lambda s: s + s, "bad_payload", ""),
        (lambda s: repaged(s, b"\x90", 8), "bad_format", "version 9"),
        (lambda s: repaged(s, b"\3", 9), "bad_payload", "more channels"),
        (lambda s: repaged(s, b"\1", 18), "bad_payload", "cut off"),
    ],
)
def test_an_opus_stream_that_cannot_be_heard_is_refused(
    change: Change, code: str, named: str
) -> None:
    """What is missing or not supported is named; pages behind the last one are no audio."""
    stream = encode(noise(9000, 1), 8000, "ogg-opus")
    if named:
        assert named in str(refused("ogg-opus", change(stream), code))
    else:
        assert np.array_equal(
            whole("ogg-opus", change(stream), 48_000, 1), whole("ogg-opus", stream, 48_000, 1)
        )


def page(stream: bytes, number: int) -> int:
    """Where a page begins."""
    at = -1
    for _ in range(number + 1):
        at = stream.index(b"OggS", at + 1)
    return at


def repaged(stream: bytes, filling: bytes, place: int) -> bytes:
    """The stream with other bytes in its first packet, and a checksum that fits."""
    first = bytearray(stream[: page(stream, 1)])
    start = first.index(b"OpusHead") + place
    first[start : start + len(filling)] = filling
    first[22:26] = bytes(4)
    first[22:26] = opus._checksum(bytes(first)).to_bytes(4, "little")  # noqa: SLF001 - as encoders do
    return bytes(first) + stream[page(stream, 1) :]


def test_the_gain_in_the_header_is_applied() -> None:
    """RFC 7845, section 5.1: decoders must."""
    stream = encode(noise(3000, 1), 8000, "ogg-opus")
    plain = whole("ogg-opus", stream, 48_000, 1)
    louder = whole("ogg-opus", repaged(stream, (256 * 6).to_bytes(2, "little"), 16), 48_000, 1)
    assert louder == pytest.approx(plain * 10 ** (6 / 20), rel=1e-5)


def test_a_packet_swollen_by_padding_is_refused() -> None:
    """Packets are kept for two seconds; what nobody encodes must not fill the memory."""
    stream = encode(noise(9000, 1), 8000, "ogg-opus")
    head = stream[: page(stream, 2)]
    packet = b"\x03\x41" + b"\xff" * 250 + bytes(60_000)
    sizes = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    swollen = bytearray(stream[page(stream, 2) :][:26] + bytes([len(sizes)]) + sizes + packet)
    swollen[22:26] = bytes(4)
    swollen[22:26] = opus._checksum(bytes(swollen)).to_bytes(4, "little")  # noqa: SLF001
    assert "packet is damaged" in str(refused("ogg-opus", head + swollen, "bad_payload"))


def test_without_libopus_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one format that needs something which pip does not bring."""

    def missing(_: str) -> None:
        raise OSError

    opus._library.cache_clear()  # noqa: SLF001 - as in a new process
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ProtocolError, match="apt install libopus0"):
        open_decoder(AudioFormat("ogg-opus", 0, 0))
