"""An Ogg-Opus stream (RFC 3533, RFC 7845), decoded by libopus as its pages come.

A decoder of Opus remembers what came before, and libopus cannot write that down. So that a stream
can go on elsewhere and say the same to the bit, it is decoded in stretches of 2 s: every stretch
begins with a fresh decoder, which hears the last 480 ms of the stretch before once more to settle
(RFC 7845, section 4.6 wants 80 ms). So the samples are a function of the packets of 2.5 s, which
are kept, a few kB; and they are the same whether anything was written down or not.

Everything that comes out is at 48 kHz, the clock of Opus.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import struct
import weakref
import zlib
from collections import deque
from functools import cache
from typing import Any, Final

import numpy as np

from asr.errors import ProtocolError, StateError
from server.formats import (
    Samples,
    Saved,
    Stepwise,
    check_sound,
    damaged,
    silence,
    unusable,
)

RATE: Final = 48_000
STRETCH: Final = 2 * RATE  # samples after which decoding begins afresh
SETTLING: Final = 48 * 480  # samples that a fresh decoder hears beforehand
_STRETCH_BYTES = 2**19  # or bytes, whichever come first; honest packets of 2 s have a quarter of it
_LONGEST = RATE * 120 // 1000  # samples of a packet
_FRAME_BYTES = 1275  # of an Opus frame at most (RFC 6716, section 3.2)
_PAGE = struct.Struct("<4sBBqIIIB")  # without its segments' sizes
_CONTINUED, _FIRST, _LAST = 1, 2, 4  # flags of a page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FRAMES = {0: (480, 960, 1920, 2880), 1: (480, 960), 2: (120, 240, 480, 960)}


@cache
def _library() -> Any:
    """Libopus.

    Raises:
        ProtocolError: it is not installed.
    """
    name = ctypes.util.find_library("opus")
    try:
        library = ctypes.CDLL(name or "libopus.so.0")
    except OSError:
        raise ProtocolError(
            "encoding ogg-opus needs libopus, which this server lacks (Debian: apt install "
            "libopus0); send another encoding",
            "bad_format",
            1003,
        ) from None
    pointer, integer, bytes_in = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    library.opus_multistream_decoder_create.restype = pointer
    library.opus_multistream_decoder_create.argtypes = [
        ctypes.c_int32,
        *[integer] * 3,
        bytes_in,
        ctypes.POINTER(integer),
    ]
    library.opus_multistream_decode_float.restype = integer
    library.opus_multistream_decode_float.argtypes = [
        pointer,
        bytes_in,
        ctypes.c_int32,
        pointer,
        integer,
        integer,
    ]
    library.opus_multistream_decoder_destroy.restype = None
    library.opus_multistream_decoder_destroy.argtypes = [pointer]
    return library


class _Head:
    """What the first packet says (RFC 7845, section 5.1)."""

    def __init__(self, packet: bytes) -> None:
        """Read it.

        Raises:
            ProtocolError: it is damaged, or of another version.
        """
        if len(packet) < 19 or not packet.startswith(b"OpusHead"):
            raise damaged("the Ogg stream does not begin as Opus does; check the encoding")
        version, self.channels, self.skip, _, gain, family = struct.unpack_from(
            "<BBHIhB", packet, 8
        )
        if version > 15:
            raise unusable(
                f"Opus of version {version >> 4} in Ogg is not supported; send version 1"
            )
        check_sound(RATE, self.channels, "Opus header")
        self.gain = np.float32(10 ** (gain / 5120))
        if family == 0:
            self.streams, self.coupled = 1, self.channels - 1
            self.mapping = bytes(range(self.channels))
            if self.channels > 2:
                raise damaged("the Opus header has more channels than its mapping; encode it anew")
        else:
            if len(packet) < 21 + self.channels:
                raise damaged("the Opus header is cut off; encode it anew")
            self.streams, self.coupled = packet[19], packet[20]
            self.mapping = packet[21 : 21 + self.channels]
            if not 1 <= self.streams <= self.channels or self.coupled > self.streams:
                raise damaged("the Opus header has a mapping that cannot be; encode it anew")

    def largest(self, packet: bytes) -> int:
        """Bytes that a packet like this has at most, if it is not made larger by padding."""
        frames = max(1, duration(packet) // 120)
        return self.streams * (frames * (_FRAME_BYTES + 2) + 2)


class _LibOpus:
    """A decoder of libopus, freed with its object."""

    def __init__(self, head: _Head) -> None:
        library = _library()
        error = ctypes.c_int()
        self._handle = library.opus_multistream_decoder_create(
            RATE, head.channels, head.streams, head.coupled, head.mapping, ctypes.byref(error)
        )
        if not self._handle:
            raise damaged(f"the Opus header cannot be met (libopus says {error.value})")
        weakref.finalize(self, library.opus_multistream_decoder_destroy, self._handle)
        self._decode = library.opus_multistream_decode_float
        self._channels = head.channels

    def decode(self, packet: bytes) -> Samples:
        """The samples of a packet [n, C]."""
        samples = np.empty((_LONGEST, self._channels), np.float32)
        n = self._decode(self._handle, packet, len(packet), samples.ctypes.data, _LONGEST, 0)
        if n < 0:
            raise damaged(f"an Opus packet is damaged (libopus says {n}); send what was encoded")
        return samples[:n]


class OggOpus(Stepwise):
    """An Ogg-Opus stream; see `server.formats.Decoder`."""

    def __init__(self) -> None:
        super().__init__()
        _library()
        self._head: _Head | None = None
        self._head_packet = b""
        self._waiting = bytearray()  # from the next page on
        self._serial = 0
        self._pages = 0
        self._stage = 0  # packets of the header that have come, 2 when all have
        self._partial: bytes | None = None  # of a packet that goes on in the next page
        self._packets: deque[bytes] = deque()  # of the page at hand, not decoded
        self._origin = -1  # what the first page with audio counts as samples before its own
        self._end = -1  # sample at which the stream ends, once its last page has come
        self._over = False  # the last page has come
        self._decoded = 0  # samples of the stream; the first `skip` are not given out
        self._kept: list[bytes] = []  # packets of the stretch, and those it settled on
        self._since = 0  # samples of the stretch
        self._ready: Samples = silence(1)  # decoded, not given out
        self._decoder: _LibOpus | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Take in bytes."""
        self._waiting += data

    def _next(self, most: int) -> Samples | None:
        while not len(self._ready):
            if not self._decode_next():
                return None
        samples, self._ready = self._ready[:most], self._ready[most:]
        return samples

    def check_end(self) -> None:
        """Make sure that the stream ends behind a page."""
        if self._over or not (self._pages or self._waiting):
            return
        if self._waiting or self._partial is not None or self._stage < 2:
            raise damaged("the Ogg stream ends in the middle of a page; send the whole stream")

    def save(self) -> Saved:
        """See `server.formats.Decoder`."""
        return {
            "head": self._head_packet,
            "waiting": bytes(self._waiting),
            "pages": [self._serial, self._pages, self._stage],
            "partial": self._partial,
            "packets": list(self._packets),
            "counts": [self._origin, self._end, self._decoded, self._since, len(self._ready)],
            "over": self._over,
            "kept": list(self._kept),
        }

    def restore(self, saved: Saved) -> None:
        """See `server.formats.Decoder`."""
        self._waiting[:] = saved["waiting"]
        self._serial, self._pages, self._stage = saved["pages"]
        self._partial = saved["partial"]
        self._packets = deque(saved["packets"])
        self._over = saved["over"]
        self._origin, self._end, self._decoded, self._since, ready = saved["counts"]
        self._kept = list(saved["kept"])
        if packet := saved["head"]:
            self._read_head(packet)
        heard = self._settle()
        # Of what has been decoded only the end is left to be given out; the last packet has it.
        if not 0 <= ready <= len(heard):
            raise StateError("the saved audio stream lacks packets that it had")
        cut = 0 if self._end < 0 else max(0, self._decoded - self._end)
        stop = len(heard) - cut
        self._ready = heard[max(0, stop - ready) : stop]

    # Packets to samples

    def _decode_next(self) -> bool:
        """Decode a packet; False if there is none, or the stream is over."""
        while not self._packets:
            if self._over or not self._next_page():
                return False
        packet = self._packets.popleft()
        if self._since >= STRETCH or sum(map(len, self._kept)) >= _STRETCH_BYTES:
            self._kept = _settling(self._kept)
            self._since = 0
            self._settle()
        if self._decoder is None:
            self._settle()
        assert self._decoder is not None  # noqa: S101 - just made
        samples = self._sound(self._decoder, packet)
        self._kept.append(packet)
        self._since += len(samples)
        self._ready = self._trimmed(samples)
        self._decoded += len(samples)
        return True

    def _settle(self) -> Samples:
        """A fresh decoder that has heard what is kept; what it made of the last packet [n, C]."""
        samples = silence(max(self.channels, 1))
        if self._head is None:
            return samples
        self._decoder = _LibOpus(self._head)
        for packet in self._kept:
            samples = self._sound(self._decoder, packet)
        return samples

    def _sound(self, decoder: _LibOpus, packet: bytes) -> Samples:
        assert self._head is not None  # noqa: S101 - the decoder was made for it
        samples = decoder.decode(packet)
        return samples if self._head.gain == 1 else samples * self._head.gain

    def _trimmed(self, samples: Samples) -> Samples:
        """The samples, which come next, without what lies before the beginning or after the end."""
        assert self._head is not None  # noqa: S101 - there are samples
        first = max(0, self._head.skip - self._decoded)
        last = len(samples) if self._end < 0 else max(0, self._end - self._decoded)
        return samples[first:last]

    # Pages to packets

    def _next_page(self) -> bool:
        """Take the next page apart; False if it has not come whole."""
        waiting = self._waiting
        if not b"OggS".startswith(waiting[:4]):
            raise damaged("an Ogg page does not begin where it should; send the stream as it was")
        if len(waiting) < _PAGE.size or len(waiting) < _PAGE.size + waiting[26]:
            return False
        sizes = waiting[_PAGE.size : _PAGE.size + waiting[26]]
        start = _PAGE.size + len(sizes)
        end = start + sum(sizes)
        if len(waiting) < end:
            return False
        page = bytes(waiting[:end])
        del waiting[:end]
        flags, granule = self._check_page(page)
        self._over = bool(flags & _LAST)
        audio = self._take_packets(page[start:], sizes, continued=bool(flags & _CONTINUED))
        self._count(audio, granule)
        return True

    def _check_page(self, page: bytes) -> tuple[int, int]:
        """Make sure that a page is the next of this stream; its flags and position."""
        _, version, flags, granule, serial, number, checksum, _ = _PAGE.unpack_from(page)
        if version or _checksum(page[:22] + bytes(4) + page[26:]) != checksum:
            raise damaged("an Ogg page is damaged; send the stream as it was encoded")
        if not self._pages:
            self._serial = serial
        if serial != self._serial or bool(flags & _FIRST) != (not self._pages):
            raise unusable("the Ogg stream holds more than one stream; send one alone")
        if number != self._pages:
            raise damaged(f"Ogg page {self._pages} is missing; send all pages in order")
        if bool(flags & _CONTINUED) != (self._partial is not None):
            raise damaged("an Ogg page does not go on where the one before ended; send all pages")
        self._pages += 1
        return flags, granule

    def _take_packets(self, data: bytes, sizes: bytearray, *, continued: bool) -> list[bytes]:
        """The packets of audio that end in a page."""
        packet = self._partial if continued and self._partial is not None else b""
        audio = []
        first = 0
        for size in sizes:
            if self._stage != 1:  # of the comments in the header nothing is kept
                packet += data[first : first + size]
            first += size
            if size < 255:
                if self._stage == 2:
                    audio.append(self._checked(packet))
                else:
                    self._header(packet)
                packet = b""
        self._partial = packet if sizes and sizes[-1] == 255 else None
        if len(packet) > 8 * 48 * (_FRAME_BYTES + 2):
            raise damaged("an Opus packet is larger than can be; send the stream as it was encoded")
        self._packets.extend(audio)
        return audio

    def _header(self, packet: bytes) -> None:
        if self._stage == 0:
            self._read_head(packet)
        self._stage += 1

    def _read_head(self, packet: bytes) -> None:
        self._head = _Head(packet)
        self._head_packet = packet
        self.rate, self.channels = RATE, self._head.channels
        self._ready = silence(self.channels)

    def _checked(self, packet: bytes) -> bytes:
        assert self._head is not None  # noqa: S101 - the header comes first
        if not 0 < duration(packet) <= _LONGEST or len(packet) > self._head.largest(packet):
            raise damaged("an Opus packet is damaged; send the stream as it was encoded")
        return packet

    def _count(self, audio: list[bytes], granule: int) -> None:
        """Learn where the stream begins, and where it ends."""
        length = sum(map(duration, audio))
        before = self._decoded + sum(map(duration, self._packets)) - length
        if audio and self._origin < 0:
            self._origin = 0 if self._over else max(0, granule - length)
        if self._over and granule >= 0 and self._stage == 2:
            end = granule - max(0, self._origin)
            self._end = max(before, min(end, before + length))


def duration(packet: bytes) -> int:
    """Samples at 48 kHz in a packet, 0 if it is none (RFC 6716, section 3.1)."""
    if not packet:
        return 0
    kind, code = packet[0] >> 3, packet[0] & 3
    sizes = _FRAMES[0 if kind < 12 else 1 if kind < 16 else 2]
    frames = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    return frames * sizes[kind % len(sizes)]


def _settling(packets: list[bytes]) -> list[bytes]:
    """The last packets, as many as a fresh decoder needs to settle."""
    length = size = 0
    for number in range(len(packets) - 1, -1, -1):
        length += duration(packets[number])
        size += len(packets[number])
        if length >= SETTLING or size >= _STRETCH_BYTES // 4:
            return packets[number:]
    return packets


def _checksum(data: bytes) -> int:
    """Ogg's CRC-32: zlib's with bits the other way round, begun with zero, not inverted."""
    value = ~zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)
