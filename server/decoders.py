"""The decoder of each format that audio comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.flac import Flac
from server.opus import OggOpus
from server.pcm import Raw, Wav

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from server.dialogue import AudioFormat
    from server.formats import Decoder

_CONTAINERS: Final[dict[str, Callable[[], Decoder]]] = {
    "wav": Wav,
    "flac": Flac,
    "ogg-opus": OggOpus,
}


def open_decoder(audio_format: AudioFormat) -> Decoder:
    """A decoder at the beginning of a stream.

    Args:
        audio_format: what the client announced; its encoding is one of `formats.ENCODINGS`, and a
            raw one has a rate and a number of channels.

    Raises:
        ProtocolError: what reads this encoding is not installed.
    """
    if audio_format.raw:
        return Raw(audio_format.encoding, audio_format.sample_rate, audio_format.channels)
    return _CONTAINERS[audio_format.encoding]()
