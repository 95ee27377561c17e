"""Sentences from files: one a line, lines that begin with `# ` being titles of books."""

from __future__ import annotations

import gzip
import lzma
from typing import IO, TYPE_CHECKING, cast

from asr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK = 1 << 24  # characters read at a time: blocks are large because work on them is vectorised
TITLE = "# "  # begins the line before each book


def open_text(path: Path) -> IO[str]:
    """Open a UTF-8 text for reading, unpacking .gz and .xz.

    Raises:
        DataError: there is no such file.
    """
    try:
        if path.suffix == ".gz":
            return cast("IO[str]", gzip.open(path, "rt", encoding="utf-8"))
        if path.suffix == ".xz":
            return cast("IO[str]", lzma.open(path, "rt", encoding="utf-8"))
        return path.open(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: the text cannot be read ({error.strerror})") from error


def create_text(path: Path) -> IO[str]:
    """Open a UTF-8 text for writing, packing .gz and .xz."""
    if path.suffix == ".gz":
        return cast("IO[str]", gzip.open(path, "wt", compresslevel=6, encoding="utf-8"))
    if path.suffix == ".xz":
        return cast("IO[str]", lzma.open(path, "wt", preset=6, encoding="utf-8"))
    return path.open("w", encoding="utf-8")


def line_blocks(path: Path, size: int = BLOCK) -> Iterator[list[str]]:
    """The lines of a text, titles too, about `size` characters of them at a time.

    Raises:
        DataError: the file is absent, damaged or not UTF-8.
    """
    with open_text(path) as file:
        try:
            while lines := file.readlines(size):
                yield [line.rstrip("\r\n") for line in lines]
        except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: the text is damaged or not UTF-8 ({error})") from error


def sentence_blocks(paths: Iterable[Path]) -> Iterator[list[str]]:
    """The sentences of texts in lower case, many at a time, without titles and empty lines."""
    for path in paths:
        for lines in line_blocks(path):
            sentences = [line for line in lines if line.strip() and not line.startswith(TITLE)]
            yield "\n".join(sentences).lower().split("\n") if sentences else []
