"""What a stream is that was not announced, or not in full: its first bytes say it.

Protocols whose clients may send a file as it is need its rate before its first word. They keep the
beginning here until it is known, and begin the stream with all of it.
"""

from __future__ import annotations

from typing import Final

from server.decoders import open_decoder
from server.dialogue import AudioFormat
from server.formats import CONTAINERS, START_BYTES, Decoder, damaged, file_start

MAX_HEADER: Final = 65_536  # bytes in which rate and channels must have been said


class Beginning:
    """The first bytes of a stream in a container.

    Args:
        encoding: one of `CONTAINERS`, or empty where the stream is to say it.

    Attributes:
        data: what has come.
    """

    def __init__(self, encoding: str = "") -> None:
        self.data = b""
        self._encoding = encoding
        self._decoder: Decoder | None = None

    def take(self, data: bytes) -> AudioFormat | None:
        """Take in bytes.

        Returns:
            What the stream is, with its rate and its channels, once that is known. Then all of
            `data` has to be heard.

        Raises:
            ProtocolError: it is nothing that the server hears.
        """
        self.data += data
        if not self._encoding:
            if len(self.data) < START_BYTES:
                return None
            self._encoding, _ = file_start(self.data) or ("", 0)
        if not self._encoding:
            raise damaged(
                f"the audio begins as no {', '.join(CONTAINERS)} does; if it is samples without a "
                "header, their encoding and sample_rate must be said"
            )
        if self._decoder is None:
            self._decoder = open_decoder(AudioFormat(self._encoding, 0, 0))
            data = self.data
        self._decoder.feed(data)
        self._decoder.take(1)
        if self._decoder.rate:
            return AudioFormat(self._encoding, self._decoder.rate, self._decoder.channels)
        if len(self.data) > MAX_HEADER:
            raise damaged(f"the {self._encoding} stream has no end of its header")
        return None
