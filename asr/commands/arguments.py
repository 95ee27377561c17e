"""What several commands ask of their arguments, each told in one line where it is not so."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def count(text: str) -> int:
    """A whole number of 1 or more."""
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")


def whole(text: str) -> int:
    """A whole number of 0 or more."""
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a whole number of 0 or more")


def amount(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def seconds(text: str) -> float:
    """A finite number of 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, 0 or more")
    return value


def websocket(text: str) -> str:
    """A websocket address; the path may be left out."""
    from asr.errors import ServerError
    from asr.loadtest.client import address_of

    try:
        address_of(text)
    except ServerError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def check_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over what is read: it would be lost, partly before it has been read.

    Raises:
        UsageError: the output is one of the inputs, under whatever name.
    """
    from asr.errors import UsageError

    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise UsageError(f"{out} is read, and would be overwritten; name another output")
