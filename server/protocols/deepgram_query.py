"""The address of Deepgram's `/v1/listen`: the options of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asr.errors import ProtocolError
from asr.state import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS, Options, plain
from server.dialogue import AudioFormat
from server.formats import MAX_CHANNELS, MAX_RATE, MIN_RATE
from server.protocols.wire import MAX_NAMES, MAX_PHRASE_WORDS, Fields, show, understood

if TYPE_CHECKING:
    from collections.abc import Iterable

ENCODINGS: Final = {"linear16": "s16le", "linear32": "f32le", "mulaw": "mulaw", "alaw": "alaw"}
FILES: Final = {"flac": "flac", "opus": "ogg-opus", "ogg-opus": "ogg-opus"}  # with a header
MIN_UTTERANCE_END_MS: Final = 1000
MAX_DIGITS: Final = 9  # of a number: all that are in bounds have fewer

# The reason and the code of the close, which the service's clients look for.
UNREADABLE: Final = "DATA-0000", 1008

# Parameters that change nothing here, whatever their value: the model is told in every answer.
_NEUTRAL: Final = frozenset({"model", "version", "tier", "tag", "extra", "mip_opt_out", "key"})
# Those whose work is done anyway, if asked for like this.
_PLAIN: Final = frozenset({"false", "0", "no", ""})


class Parameters:
    """The query of the address, of which whatever nobody asks for is unsupported."""

    def __init__(self, query: tuple[tuple[str, str], ...]) -> None:
        self._query = query
        self._left: dict[str, str] = dict(query)
        self._warned: list[tuple[str, str]] = []

    def text(self, name: str) -> str | None:
        """The value, or None where it is not given."""
        return self._left.pop(name, None)

    def texts(self, name: str) -> list[str]:
        """All values of a parameter that may be repeated."""
        self._left.pop(name, None)
        return [value for given, value in self._query if given == name and value.strip()]

    def flag(self, name: str, *, default: bool) -> bool:
        """A value that is true or false."""
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in {"true", "false"}:
            raise bad(f"{name} must be true or false, not {show(value)}")
        return value.lower() == "true"

    def number(self, name: str, least: int, most: int) -> int | None:
        """A whole number."""
        value = self.text(name)
        if value is None:
            return None
        if not _is_whole(value):
            raise bad(f"{name} must be a whole number, not {show(value)}")
        if not least <= int(value) <= most:
            raise bad(f"{name} is {value}; send {least} to {most}")
        return int(value)

    def warn(self, name: str, message: str) -> None:
        """Tell the client that an option does not do what it says."""
        self._warned.append((name, message))

    def warnings(self) -> list[Fields]:
        """One for each option that is not met, those included that nobody asked for."""
        language = self.text("language")
        if language is not None and language != "multi" and not understood(language):
            self.warn("language", "this server understands the language of its model alone")
        for name, value in self._left.items():
            if name not in _NEUTRAL and value.lower() not in _PLAIN:
                self.warn(name, "not supported by this server; it has no effect")
        return [warning(name, message) for name, message in self._warned[:MAX_NAMES]]


def read_format(wanted: Parameters) -> AudioFormat:
    """How the audio is written; a file's header says it itself, whatever stands here.

    Raises:
        ProtocolError: it cannot be heard like that.
    """
    encoding = wanted.text("encoding")
    if encoding is None or encoding in FILES:
        return _read_file_format(wanted, FILES[encoding] if encoding else "")
    if encoding not in ENCODINGS:
        known = " or ".join((*ENCODINGS, *FILES))
        raise bad(f"encoding {show(encoding)} is not supported; send {known}, or a file without it")
    rate = wanted.number("sample_rate", MIN_RATE, MAX_RATE)
    if rate is None:
        raise bad(
            f"sample_rate must say how many samples a second has; send {MIN_RATE} to {MAX_RATE}"
        )
    channels = wanted.number("channels", 1, MAX_CHANNELS) or 1
    apart = wanted.flag("multichannel", default=False) and channels > 1
    return AudioFormat(ENCODINGS[encoding], rate, channels, apart)


def _read_file_format(wanted: Parameters, encoding: str) -> AudioFormat:
    """What is said of a file. The encoding is empty if nothing is, the numbers are 0."""
    rate = wanted.number("sample_rate", 0, 10**9) or 0
    channels = wanted.number("channels", 0, 10**9) or 0
    apart = wanted.flag("multichannel", default=False)
    return AudioFormat(encoding, rate, channels, apart, cut_short=True)


def read_endpointing(wanted: Parameters) -> tuple[int, bool]:
    """The pause that makes a result final, and whether it is told as `speech_final`."""
    given = (wanted.text("endpointing") or "true").lower()
    if given == "false":
        return Options().endpoint_ms, False
    if given == "true":
        return MIN_ENDPOINT_MS, True
    if not (_is_whole(given) and int(given) <= MAX_ENDPOINT_MS):
        raise bad(f"endpointing must be false or 0 to {MAX_ENDPOINT_MS} ms, not {show(given)}")
    if int(given) < MIN_ENDPOINT_MS:
        wanted.warn("endpointing", f"{MIN_ENDPOINT_MS} ms is the least, and is taken")
    return max(MIN_ENDPOINT_MS, int(given)), True


def read_utterance_end(wanted: Parameters) -> int | None:
    """Milliseconds of pause after which an utterance is over, or None where nobody asks."""
    return wanted.number("utterance_end_ms", MIN_UTTERANCE_END_MS, MAX_ENDPOINT_MS)


def read_keyterms(wanted: Parameters) -> tuple[str, ...]:
    """Phrases that are likely to be said.

    Raises:
        ProtocolError: they are too many.
    """
    phrases = tuple(map(plain, wanted.texts("keyterm")))
    why = too_long(phrases)
    if why is not None:
        raise bad(f"keyterm: {why}")
    return phrases


def too_long(phrases: Iterable[str]) -> str | None:
    """Why no model expects so long a list of phrases, or None."""
    words = sum(len(phrase.split()) for phrase in phrases)
    return f"{words} words in all; at most {MAX_PHRASE_WORDS}" if words > MAX_PHRASE_WORDS else None


def warning(parameter: str, message: str) -> Fields:
    """What the client is told of an option that is not met."""
    return {"parameter": parameter[:64], "type": "unsupported", "message": message}


def bad(message: str) -> ProtocolError:
    """The error for an address that cannot be met."""
    return ProtocolError(message, *UNREADABLE)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
