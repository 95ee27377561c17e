"""Audio files and raw sample formats to float32 mono, at the rate they have.

Files are whatever libsndfile reads: wav, flac, ogg, opus, mp3, aiff, au, caf, w64, rf64. Channels
are averaged. Samples that are not finite are left alone: the recogniser replaces and counts them.

Rules:

* A file that holds less than it promises is refused, never read in part: its end is missing, and a
  transcript that silently lacks the end is worse than none. The promise is the size in the header
  (wav, aiff, au, w64, rf64, flac, mp3 with a Xing or Info tag) or the end page of an Ogg stream.
  Sizes that writers to a pipe leave (2 GiB and more) promise nothing; nor does an mp3 without a
  tag. A header of no samples before kilobytes of data is one of such a writer, or was never
  completed: a wav is read to the end of the file, others are refused.
* A recording without a sample is a recording: it is read, and its transcript is empty. A file
  without a byte is no recording: it is refused.
* Input that cannot seek (a pipe) is read into memory first.

Sizes: n samples per channel.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

Samples = NDArray[np.float32]
Source = str | os.PathLike[str] | IO[bytes]

READABLE = "wav, flac, ogg, opus, mp3, aiff, au, caf, w64 or rf64"

_HEAD = 1 << 16  # bytes at either end of a file in which to look for marks
_UNKNOWN_SIZE = 0x7FFFF000  # from here on a chunk size is a pipe's "until the end"
_NOT_EMPTY = 4096  # bytes of a file, from which on there is more than a header
_XING = re.compile(rb"(Xing|Info)\x00\x00\x00[\x01-\x0f]")
_SHORTER = re.compile(
    r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE
)
_RF64 = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A recording, or a piece of one.

    Attributes:
        samples: float32 [n], the mean over the channels, nominally in [-1, 1].
        sample_rate: samples per second.
        channels: number of channels that were averaged.
    """

    samples: Samples
    sample_rate: int
    channels: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def read(source: Source) -> Audio:
    """Read a whole recording.

    Args:
        source: a path, or a binary file object, which is read from where it stands.

    Raises:
        AudioError: the source is missing, may not be read, is not audio, or is cut off or damaged.
    """
    pieces = list(blocks(source, seconds=60.0))
    samples = np.concatenate([piece.samples for piece in pieces])
    return Audio(samples, pieces[0].sample_rate, pieces[0].channels)


def blocks(source: Source, seconds: float = 1.0) -> Iterator[Audio]:
    """Read a recording in pieces, so that hours of it never lie in memory.

    Joined, the pieces are bit for bit what `read` gives. A cut that the header reveals is told
    before the first piece; damage that only decoding reveals, when it is met.

    Args:
        source: as in `read`.
        seconds: length of a piece, > 0; the last one is shorter.

    Yields:
        At least one piece; exactly one, without samples, for a recording of zero length.

    Raises:
        AudioError: as in `read`.
    """
    name = _name(source)
    with _opened(source, name) as (file, head, tail), _decoder(file, head, name) as sound:
        promised = _promise(sound, head, tail, name)
        size = max(1, round(seconds * sound.samplerate))
        found = 0
        while True:
            part = _decode(sound, size, head, name, found)
            found += len(part)
            if len(part) or not found:
                yield Audio(mono(part), sound.samplerate, sound.channels)
            if len(part) < size:
                break
        if found < promised:
            raise _cut(name, f"its header promises {promised} samples, {found} could be decoded")


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """A file to read from, as `open` gives it.

    Raises:
        OSError: it cannot be opened, also because no file can have such a name.
    """
    try:
        return Path(path).open("rb")
    except ValueError:  # a NUL, or half a surrogate pair
        raise OSError(errno.EINVAL, "no file can have such a name") from None


def from_s16le(data: bytes) -> Samples:
    """Signed 16-bit little-endian samples as float32 in [-1, 1): value / 32768, exact.

    Raises:
        AudioError: the number of bytes is odd.
    """
    return _from_pcm(data, "<i2", "s16le").astype(np.float32) / np.float32(32768)


def to_s16le(samples: Samples) -> bytes:
    """Float32 samples [n] as signed 16-bit little-endian: the nearest step, limited to the range.

    `from_s16le` and back changes nothing. What is not a number becomes zero.
    """
    scaled = np.where(np.isnan(samples), 0, samples).astype(np.float64) * 32768
    return np.clip(np.rint(scaled), -32768, 32767).astype("<i2").tobytes()


def from_f32le(data: bytes) -> Samples:
    """32-bit little-endian floats as they are.

    Raises:
        AudioError: the number of bytes is not a multiple of four.
    """
    return _from_pcm(data, "<f4", "f32le").astype(np.float32)


def to_f32le(samples: Samples) -> bytes:
    """Float32 samples [n] as 32-bit little-endian floats; `from_f32le` reads them back exactly."""
    return samples.astype("<f4").tobytes()


def from_mulaw(data: bytes) -> Samples:
    """Samples in μ-law, a byte each (ITU-T G.711, table 2), as float32 in (-1, 1), exact."""
    return _MULAW[np.frombuffer(data, np.uint8)]


def from_alaw(data: bytes) -> Samples:
    """Samples in A-law, a byte each (ITU-T G.711, table 1), as float32 in (-1, 1), exact."""
    return _ALAW[np.frombuffer(data, np.uint8)]


def mono(samples: Samples) -> Samples:
    """Mean over channels [n, C] → [n], channel after channel, so that n cannot change a bit."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    total = samples[:, 0].copy()
    for channel in range(1, samples.shape[1]):
        total += samples[:, channel]
    return total / np.float32(samples.shape[1])


def _mulaw_table() -> Samples:
    """What each byte means: sign, exponent and mantissa, all bits inverted."""
    code = ~np.arange(256, dtype=np.uint8)
    size = ((((code & 15) << 3).astype(np.int32) + 132) << (code >> 4 & 7)) - 132
    return np.where(code & 128, -size, size).astype(np.float32) / np.float32(32768)


def _alaw_table() -> Samples:
    """What each byte means: sign, exponent and mantissa, every other bit inverted."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = (code >> 4 & 7).astype(np.int32)
    steps = ((code & 15) << 4).astype(np.int32) + 8
    size = np.where(exponent, (steps + 256) << np.maximum(exponent - 1, 0), steps)
    return np.where(code & 128, size, -size).astype(np.float32) / np.float32(32768)


_MULAW, _ALAW = _mulaw_table(), _alaw_table()


def _from_pcm(data: bytes, dtype: str, name: str) -> NDArray[Any]:
    width = np.dtype(dtype).itemsize
    if len(data) % width:
        raise AudioError(
            f"{len(data)} bytes of {name}: not a multiple of {width}; "
            "send whole samples, and check the encoding"
        )
    return np.frombuffer(data, dtype)


def _name(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "audio stream"


@contextlib.contextmanager
def _opened(source: Source, name: str) -> Iterator[tuple[IO[bytes], bytes, bytes]]:
    """A seekable file that stands where the audio begins, its first bytes and its last ones."""
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(source, str | os.PathLike):
                file: IO[bytes] = stack.enter_context(open_file(source))
            elif hasattr(source, "seekable"):
                file = source
            else:  # what the types rule out, and what is easily given: a list of samples
                raise AudioError(
                    f"a {type(source).__name__} is no recording; give the path of a file, an open "
                    "binary file, or samples as a NumPy array, float32 [n]"
                )
            if not file.seekable() or file.tell():
                file = io.BytesIO(file.read())
            head = file.read(_HEAD)
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _HEAD))
            tail = file.read(_HEAD)
            file.seek(0)
            if not head:
                raise AudioError(f"{name}: the file is empty (0 bytes); record or copy it again")
            yield file, head, tail
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file; check the path") from None
    except IsADirectoryError:
        raise AudioError(f"{name}: is a directory; name the audio files in it") from None
    except PermissionError:
        raise AudioError(f"{name}: no permission to read it; see chmod") from None
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({error.strerror or error})") from None


class _Tolerant:
    """A file for libsndfile, which seeks before the start where sizes in a header are nonsense.

    An exception in a callback from C goes nowhere but, with its trace, to standard error; so the
    position stays where it is instead, and libsndfile says what is wrong with the file.
    """

    def __init__(self, file: IO[bytes], size_at: int | None = None) -> None:
        """Give out a file as it is, or with an unknown size (4 bytes) at some place in it."""
        self.tell = file.tell
        self._file = file
        self._size_at = size_at

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if self._size_at is None:
            return self._file.read(size)
        at = self._size_at - self._file.tell()
        data = bytearray(self._file.read(size))
        data[max(0, at) : max(0, at + 4)] = b"\xff" * len(data[max(0, at) : max(0, at + 4)])
        return bytes(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there, if there is such a place."""
        with contextlib.suppress(OSError, ValueError):
            self._file.seek(offset, whence)
        return self._file.tell()


@contextlib.contextmanager
def _decoder(file: IO[bytes], head: bytes, name: str) -> Iterator[Any]:
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc]
        """soundfile seeks after every read, which upsets mp3's bit reservoir; this one does not."""

        def seekable(self) -> bool:
            return False

    try:
        with _quiet(head):
            sound = Forward(_Tolerant(file))
            no_size = head.find(b"data\0\0\0\0")
            if sound.format.startswith("WAV") and _seems_empty(sound, head) and no_size >= 0:
                file.seek(0)
                sound = Forward(_Tolerant(file, no_size + 4))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        # TypeError: libsndfile saw raw data, which has no header to tell its rate
        reason = getattr(error, "error_string", "").strip().rstrip(".")
        if not reason or "pipe" in reason:  # its guess where an mp3 ends in its header
            reason = "no known header"
        raise AudioError(
            f"{name}: not audio that can be read ({reason}); it must be {READABLE}: "
            "convert it with ffmpeg (raw 16-bit PCM: asr transcribe --raw RATE)"
        ) from None
    with sound:
        yield sound


def _decode(sound: Any, size: int, head: bytes, name: str, found: int) -> Samples:
    """The next samples [n, C], n ≤ size; fewer than size only at the end."""
    import soundfile

    try:
        with _quiet(head):
            part: Samples = sound.read(size, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise _cut(
            name, f"decoding fails between sample {found} and {found + size}: {reason}"
        ) from None
    return part


def _promise(sound: Any, head: bytes, tail: bytes, name: str) -> int:
    """Samples per channel that the header promises, 0 where it promises none.

    libsndfile quietly shortens chunks to what is there, and says so only in its log.
    """
    for promised, present in _SHORTER.findall(sound.extra_info):
        if int(present) < int(promised) < _UNKNOWN_SIZE:
            raise _cut(name, f"its header promises {promised} bytes, {present} are there")
    if match := _RF64.search(sound.extra_info):
        present, promised = match.groups()
        if int(present) < int(promised):
            raise _cut(name, f"its header promises {promised} samples, {present} are there")
    if _seems_empty(sound, head):
        raise _cut(name, "its header promises no samples, though data follows it")
    if sound.format == "OGG":
        page = tail[max(0, tail.rfind(b"OggS")) :]  # RFC 3533, section 6
        size = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) >= 27 else 27
        if len(page) < size or not page[5] & 4:
            raise _cut(name, "its Ogg stream has no whole end page")
    if sound.format == "MP3" and not _XING.search(head):
        return 0
    return int(sound.frames)


def _seems_empty(sound: Any, head: bytes) -> bool:
    """Whether a header says that there are no samples, though something follows it."""
    return not sound.frames and len(head) >= _NOT_EMPTY


def _cut(name: str, facts: str) -> AudioError:
    return AudioError(
        f"{name}: cut off or damaged: {facts}; copy it again, or keep what is there with "
        "ffmpeg -i IN OUT.wav"
    )


@contextlib.contextmanager
def _quiet(head: bytes) -> Iterator[None]:
    """Keep libmpg123 from its notes on standard error, where the audio is MPEG."""
    mpeg = head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)
    with quiet_stderr() if mpeg else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Silence C libraries that write straight to file descriptor 2.

    The descriptor is the whole process's: only for one call into such a library, or while our own
    lines go elsewhere.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is none: nobody can write to it
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
