"""The paragraphs of a book that are running text: no headings, tables, notes about the edition."""

from __future__ import annotations

import re

_NOTE = re.compile(r"\[[^\[\]]{0,2000}\]|\{\d{1,4}\}|<[^<>\n]{1,200}>")
_EDITION = (
    "gutenberg",
    "e-text",
    "etext",
    "ebook",
    "e-book",
    "copyright",
    "transcrib",
    "proofread",
    "http:",
    "https:",
    "www.",
    "scanned",
    "isbn",
)
_HEADING = re.compile(
    r"(?:chapter|book|part|act|scene|volume|canto|section|letter|appendix|contents|preface|"
    r"introduction|the end|finis)\b.{0,60}",
    re.IGNORECASE | re.DOTALL,
)
_LEADERS = ("....", ". . . .", "|")
_COLUMN = re.compile(r"\S {3,}\S.*")  # once a line
_TRAILING_NUMBER = re.compile(r"[\s.]\d{1,4}[ \t]*$", re.MULTILINE)
_MARKDOWN = re.compile(r"^(?:#+ .*|-{3,}|={3,}|>+ ?)$", re.MULTILINE)
_BREAK = re.compile(r"\n[ \t]*\n\s*")
_SHORT_LINE = 55  # characters; where no empty line parts paragraphs, a shorter one ends them
_MOST_CAPITALS = 0.4  # share of the letters; more is a heading or a list of names
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_END_OF_SENTENCE = tuple(".!?,;:\"'\u201d\u2019)-\u2014\u2026")


def paragraphs_of(text: str) -> list[str]:
    """The paragraphs worth reading out, each on one line."""
    text = _MARKDOWN.sub("", _NOTE.sub(" ", text))
    if text.count("\n\n") * 200 < text.count("\n"):
        text = _with_breaks(text)
    return [" ".join(part.split()) for part in _BREAK.split(text) if _is_prose(part.strip())]


def _with_breaks(text: str) -> str:
    """Empty lines behind short lines that end a sentence, for texts that have none."""
    lines = text.split("\n")
    ends = [len(line) < _SHORT_LINE and line.rstrip().endswith(_END_OF_SENTENCE) for line in lines]
    return "\n".join(f"{line}\n" if end else line for line, end in zip(lines, ends, strict=True))


def _is_prose(paragraph: str) -> bool:
    """Whether a paragraph is neither heading, table, list nor about the edition."""
    ascii_only = paragraph.encode("ascii", "ignore")
    capitals = len(ascii_only) - len(ascii_only.translate(None, _CAPITALS))
    small = ascii_only.lower()
    letters = len(small) - len(small.translate(None, _CAPITALS.lower()))
    if letters < 2 or capitals > _MOST_CAPITALS * letters:
        return False
    folded = small.decode("ascii")
    if any(word in folded for word in _EDITION) or any(mark in folded for mark in _LEADERS):
        return False
    if len(paragraph) < 80 and (
        _HEADING.fullmatch(paragraph) or not paragraph.endswith(_END_OF_SENTENCE)
    ):
        return False
    lines = paragraph.count("\n") + 1
    if lines == 1:
        return True
    columns = len(_COLUMN.findall(paragraph)) if "   " in paragraph else 0
    has_figures = len(ascii_only) > len(ascii_only.translate(None, b"0123456789"))
    numbers = len(_TRAILING_NUMBER.findall(paragraph)) if has_figures else 0
    return columns * 3 < lines and numbers * 2 < lines
