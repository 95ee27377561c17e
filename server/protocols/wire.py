"""What the protocols have in common: JSON as clients write it, whole samples, seconds, wishes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asr.transcript import Word

Fields = dict[str, Any]

LANGUAGE: Final = "en"  # of the model
MAX_SHOWN: Final = 60  # characters of a client's value that an error repeats
MAX_NAMES: Final = 32  # unsupported options that are named back
MAX_PHRASES: Final = 100  # of what is likely to be said
MAX_PHRASE: Final = 100  # characters of one
MAX_PHRASE_WORDS: Final = 1000  # of all of them


def read_object(text: str | bytes) -> Fields:
    """A JSON object.

    Raises:
        ValueError: the text is something else; one short line says what.
    """
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({_line(error)})") from error
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object but {show(value)}")  # noqa: TRY004 - as bad JSON
    return value


def write(fields: Fields) -> str:
    """A JSON object without blanks."""
    return json.dumps(fields, separators=(",", ":"))


def show(value: object) -> str:
    """A value of the client's in one short line of plain characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, default=lambda _: "bytes")
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def whole_number(value: object, least: int, most: int) -> int | None:
    """The value if it is a whole number in these bounds (1.0 is one), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if least <= value <= most and value == int(value) else None


def seconds(samples: int, rate: int) -> float:
    """Samples in seconds, to the microsecond: no two samples of any rate are the same time."""
    return round(samples / rate, 6)


def not_expected(names: Iterable[str]) -> list[int] | None:
    """Which phrases of a list the model cannot expect, by number; None if it can expect none.

    Args:
        names: `unsupported` of `Ready` or `Configured`.
    """
    if "options.phrases" in names:
        return None
    numbers = (n.removeprefix("options.phrases[").removesuffix("]") for n in names)
    return [int(number) for number in numbers if number.isdecimal()]


def understood(language: object) -> bool:
    """Whether a language tag, as in `en-GB`, is of the language that the model understands."""
    return isinstance(language, str) and language.lower().split("-")[0] == LANGUAGE


def sureness(words: Sequence[Word]) -> float:
    """The confidence of a text: the mean of its words'; 0 of none."""
    return round(sum(word.confidence for word in words) / max(1, len(words)), 4)


class AppendedText:
    """A text that is only ever appended to: the stable words of one segment after another.

    Attributes:
        text: all of it.
    """

    def __init__(self) -> None:
        self.text = ""
        self._segment = ""  # stable words of the open segment

    def grow(self, stable: str) -> str:
        """Take in the stable words of the open segment; what they append, with a blank before."""
        new = stable[len(self._segment) :]
        if new and self.text and not self._segment:
            new = f" {new}"
        self._segment = stable
        self.text += new
        return new

    def close_segment(self) -> None:
        """What comes next is another segment."""
        self._segment = ""


class WholeSamples:
    """Cuts a stream of bytes between samples, wherever its messages are cut.

    Attributes:
        samples: so many have passed.
    """

    def __init__(self, frame_bytes: int) -> None:
        """Begin a stream.

        Args:
            frame_bytes: bytes that hold one sample of every channel.
        """
        self.samples = 0
        self._frame_bytes = frame_bytes
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """The whole samples in what has come by now and was not taken yet."""
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        self.samples += whole // self._frame_bytes
        return data[:whole]


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
