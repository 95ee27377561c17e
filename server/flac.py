"""A FLAC stream, frame by frame (RFC 9639), in the streamable subset's block sizes.

libsndfile reads files, not streams; but a FLAC frame stands for itself. So frames are found here
and each is given to libsndfile as a file of one frame, which makes the samples those that the whole
file would give, bit for bit.

A frame does not say how long it is. It ends with a CRC-16 over all of it, so the remainder up to
its end is zero (and up to one in 65,536 other places): where it is, the frame is decoded, and it is
whole if all of its samples come out. So nothing waits for the frame after it, and the samples
depend on the bytes so far alone.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from asr.errors import StateError
from server.formats import (
    Samples,
    Saved,
    Stepwise,
    check_sound,
    damaged,
    unusable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MARK: Final = b"fLaC"
_INFO_BYTES = 34  # of the STREAMINFO block
MAX_BLOCK: Final = 16_384  # samples in a frame: the bound of the streamable subset (section 7)
MIN_BLOCK: Final = 16  # but for the last frame
_PIECE = 4096  # bytes searched at a time
# Places in a frame where the remainder is zero by chance. One in eight frames of 8 kB has one; 64
# have only streams that are made to cost time.
_MISTAKES = 64
_RATES = (0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}
_ORDER = 32_767  # of x modulo the polynomial x^16 + x^15 + x^2 + 1


class _Frame(NamedTuple):
    """What the header of a frame says.

    Attributes:
        header_bytes: its length.
        block: samples per channel.
        most_bytes: more than the frame can have.
    """

    header_bytes: int
    block: int
    most_bytes: int


class Flac(Stepwise):
    """A FLAC stream; see `server.formats.Decoder`."""

    def __init__(self) -> None:
        super().__init__()
        self._bits = 0
        self._promised = 0  # samples per channel, 0 where the header promises none
        self._given = 0
        self._stage = "mark"  # mark, block, info, skip or frames
        self._left = len(MARK)  # bytes of the stage that have not come
        self._last = False  # whether the metadata block at hand is the last
        self._waiting = bytearray()  # from the frame on that is being given out
        self._taken = 0  # its samples that were given out
        self._ready: Samples | None = None  # its samples, once it is whole
        self._frame_bytes = 0  # its length, once it is whole
        self._frame: _Frame | None = None  # what the header of the next one says, once it has come
        self._search = _Search()

    def feed(self, data: bytes | memoryview) -> None:
        """Take in bytes."""
        self._waiting += data

    def _next(self, most: int) -> Samples | None:
        while self._stage != "frames":
            if not self._step():
                return None
        if not self._next_frame():
            return None
        assert self._ready is not None  # noqa: S101 - there is a frame
        samples = self._ready[self._taken : self._taken + most]
        self._taken += len(samples)
        self._given += len(samples)
        return samples

    def check_end(self) -> None:
        """Make sure that the stream ends behind a frame, the last one that the header promises."""
        if self._stage != "frames":
            if self._stage == "mark" and not self._waiting:
                return
            raise damaged("the FLAC stream ends within its header; send the whole stream")
        if len(self._waiting) > self._frame_bytes:
            raise damaged("the FLAC stream ends in the middle of a frame; send the whole stream")
        if self._given < self._promised:
            raise damaged(
                f"the FLAC stream breaks off: its header promises {self._promised} samples, "
                f"{self._given} came; send the whole stream"
            )

    def save(self) -> Saved:
        """See `server.formats.Decoder`."""
        return {
            "sound": [self.rate, self.channels, self._bits, self._promised],
            "stage": [self._stage, self._left, self._last],
            "given": self._given,
            "taken": self._taken if self._ready is not None else -1,
            "waiting": bytes(self._waiting),
        }

    def restore(self, saved: Saved) -> None:
        """See `server.formats.Decoder`."""
        self.rate, self.channels, self._bits, self._promised = saved["sound"]
        self._stage, self._left, self._last = saved["stage"]
        if self._stage not in {"mark", "block", "info", "skip", "frames"}:
            raise StateError(
                f"the saved audio stream is at {self._stage!r}: there is no such place"
            )
        self._given = saved["given"]
        self._waiting[:] = saved["waiting"]
        if saved["taken"] >= 0:
            if not self._next_frame():
                raise StateError("the saved audio stream lacks a frame that it had")
            self._taken = saved["taken"]

    # The header

    def _step(self) -> bool:
        """Do a stage of the header if its bytes have come; whether they had."""
        if self._stage == "skip":
            passed = min(self._left, len(self._waiting))
            del self._waiting[:passed]
            self._left -= passed
            if not self._left:
                self._after_block()
            return not self._left
        if len(self._waiting) < self._left:
            return False
        data = bytes(self._waiting[: self._left])
        del self._waiting[: self._left]
        if self._stage == "mark":
            if data != MARK:
                raise damaged("the audio does not begin as FLAC does; check the encoding")
            self._stage, self._left = "block", 4
        elif self._stage == "block":
            self._block(data[0], int.from_bytes(data[1:]))
        else:
            self._info(data)
            self._after_block()
        return True

    def _block(self, kind: int, size: int) -> None:
        self._last = bool(kind & 128)
        if not self.rate:
            if kind & 127 or size != _INFO_BYTES:
                raise damaged("the FLAC stream does not begin with its STREAMINFO; write it anew")
            self._stage, self._left = "info", size
        else:
            self._stage, self._left = "skip", size

    def _after_block(self) -> None:
        self._stage, self._left = ("frames", 0) if self._last else ("block", 4)

    def _info(self, data: bytes) -> None:
        packed = int.from_bytes(data[10:18])
        rate, channels = packed >> 44, (packed >> 41 & 7) + 1
        check_sound(rate, channels, "FLAC header")
        self.rate, self.channels = rate, channels
        self._bits = (packed >> 36 & 31) + 1
        self._promised = packed & (1 << 36) - 1

    # Frames

    def _next_frame(self) -> bool:
        """Make sure that samples are ready; False if the bytes of the next frame are missing."""
        if self._ready is not None:
            if self._taken < len(self._ready):
                return True
            del self._waiting[: self._frame_bytes]
            self._ready, self._taken, self._frame_bytes = None, 0, 0
            self._frame, self._search = None, _Search()
        frame = self._frame = self._frame or self._header()
        if frame is None:
            return False
        for end in self._search.ends(self._waiting, frame.header_bytes):
            samples = self._decode(bytes(self._waiting[:end]), frame.block)
            if samples is not None:
                self._ready, self._frame_bytes = samples, end
                return True
            self._search.mistakes += 1
            if self._search.mistakes > _MISTAKES:
                raise damaged("a FLAC frame is damaged; send the stream as it was encoded")
        if len(self._waiting) > frame.most_bytes:
            raise damaged(
                f"a FLAC frame is damaged: it does not end within {frame.most_bytes} bytes; send "
                "the stream as it was encoded"
            )
        return False

    def _header(self) -> _Frame | None:
        """What the header of the next frame says, None if it has not come whole."""
        head = bytes(self._waiting[:16])
        size = _header_bytes(head)
        if size is None or len(head) < size:
            return None
        if _crc8(head[:size]):
            raise damaged(
                "the header of a FLAC frame is damaged; send the stream as it was encoded"
            )
        block = _block_size(head, size)
        self._check_frame(head, size, block)
        raw = block * self.channels * (self._bits + 1)  # bits of a frame that nothing made smaller
        return _Frame(size, block, size + raw // 8 + 8 * self.channels + 16)

    def _check_frame(self, head: bytes, size: int, block: int) -> None:
        """Make sure that a frame is of the stream's kind, and not too long."""
        rate_code, side = head[2] & 15, head[3] >> 4
        rate = _RATES[rate_code] if rate_code < len(_RATES) else _written_rate(head, size)
        bits = _BITS.get(head[3] >> 1 & 7, self._bits)
        channels = side + 1 if side < 8 else 2
        if rate not in {0, self.rate} or channels != self.channels or bits != self._bits:
            raise unusable("the FLAC stream changes its sample rate, channels or bits; begin anew")
        if block > MAX_BLOCK:
            raise unusable(
                f"a FLAC frame of {block} samples is not supported; encode blocks of at most "
                f"{MAX_BLOCK}"
            )

    def _decode(self, frame: bytes, block: int) -> Samples | None:
        """The samples of a frame [n, C], or None if it is not whole or damaged."""
        import soundfile

        info = bytearray(_INFO_BYTES)
        info[0:2] = info[2:4] = max(block, MIN_BLOCK).to_bytes(2)
        packed = self.rate << 44 | (self.channels - 1) << 41 | (self._bits - 1) << 36 | block
        info[10:18] = packed.to_bytes(8)
        file = io.BytesIO(MARK + b"\x80\0\0\x22" + info + frame)
        try:
            with soundfile.SoundFile(file) as sound:
                samples: Samples = sound.read(dtype="float32", always_2d=True)
        except soundfile.SoundFileError:
            return None
        return samples if len(samples) == block else None


class _Search:
    """Finds where a frame may end.

    The remainder of the bytes 0 … i is r(i) = Σ b(j) x^(16 + 8 (i - j)) modulo the CRC's
    polynomial. r(i) is zero where r(i) x^(-8 i) is, and those are the running sums (exclusive or)
    of b(j) x^(16 - 8 j): so the places are found without a loop over the bytes.

    Attributes:
        mistakes: places that turned out to be no end.
    """

    def __init__(self) -> None:
        self.mistakes = 0
        self._searched = 0  # bytes
        self._sum = np.uint16(0)
        self._found: list[int] = []

    def ends(self, data: bytearray, after: int) -> Iterator[int]:
        """Lengths that the frame may have, beyond a header of `after` bytes; each comes once."""
        while self._found or self._searched < len(data):
            if not self._found:
                self._go_on(data)
            while self._found:
                end = self._found.pop(0)
                if end > after + 2:
                    yield end

    def _go_on(self, data: bytearray) -> None:
        first = self._searched
        piece = np.frombuffer(bytes(data[first : first + _PIECE]), np.uint8)
        bits = np.unpackbits(piece).reshape(-1, 8)  # the highest power first
        exponents = (16 - 8 * np.arange(first, first + len(piece))) % _ORDER
        terms = np.bitwise_xor.reduce(np.where(bits, _POWERS_DOWN[exponents], 0), axis=1)
        terms = terms.astype(np.uint16)
        terms[0] ^= self._sum
        sums = np.bitwise_xor.accumulate(terms)
        self._sum = sums[-1]
        self._searched += len(piece)
        self._found = [first + int(n) + 1 for n in np.flatnonzero(sums == 0)]


def _powers() -> NDArray[np.uint16]:
    """Row m: x^(m + 7) … x^m modulo x^16 + x^15 + x^2 + 1, uint16 [32767, 8]."""
    powers = np.empty(_ORDER + 8, np.uint16)
    value = 1
    for exponent in range(_ORDER + 8):
        powers[exponent] = value
        value = value << 1 ^ (0x18005 if value & 0x8000 else 0)
    rows = np.lib.stride_tricks.sliding_window_view(powers, 8)[:_ORDER, ::-1]
    return np.ascontiguousarray(rows)


_POWERS_DOWN = _powers()


def _header_bytes(head: bytes) -> int | None:
    """The length of the header of a frame, None if its first bytes do not tell yet.

    Raises:
        ProtocolError: it is no header.
    """
    if not (b"\xff\xf8".startswith(head[:2]) or b"\xff\xf9".startswith(head[:2])):
        raise damaged(
            "a FLAC frame does not begin where it should; send the stream as it was encoded"
        )
    if len(head) < 5:
        return None
    block_code, rate_code, number = head[2] >> 4, head[2] & 15, head[4]
    leading = 8 - (number ^ 255).bit_length()  # ones before the first zero, as in UTF-8
    if not block_code or rate_code == 15 or head[3] >> 4 > 10 or head[3] & 1 or leading in {1, 8}:
        raise damaged("the header of a FLAC frame is damaged; send the stream as it was encoded")
    numbers = max(leading, 1)
    block_bytes = {6: 1, 7: 2}.get(block_code, 0)
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    return 4 + numbers + block_bytes + rate_bytes + 1


def _block_size(head: bytes, size: int) -> int:
    """Samples per channel that a header of `size` bytes announces."""
    code, rate_bytes = head[2] >> 4, {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    end = size - 1 - rate_bytes
    if code in {6, 7}:
        return int.from_bytes(head[end - code + 5 : end]) + 1
    if code == 1:
        return 192
    return 576 << code - 2 if code < 6 else 256 << code - 8


def _written_rate(head: bytes, size: int) -> int:
    """The sample rate that stands at the end of a header of `size` bytes."""
    match head[2] & 15:
        case 12:
            return 1000 * head[size - 2]
        case 13:
            return int.from_bytes(head[size - 3 : size - 1])
        case _:
            return 10 * int.from_bytes(head[size - 3 : size - 1])


def _crc8(data: bytes) -> int:
    """The remainder modulo x^8 + x^2 + x + 1: zero for a header with its checksum."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 128 else 0)
    return value
