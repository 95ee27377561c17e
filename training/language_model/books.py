"""Books as plain files: who wrote what, and the text without what others put around it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".txt", ".md")
_HEAD = 20_000  # characters in which a header's fields are looked for
_HEADER_LIMIT = 60_000  # and those in which a header ends at the latest
_STARTS = re.compile(
    r"^.*\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG.*$|^.*\*END\*? ?THE SMALL PRINT.*$",
    re.MULTILINE | re.IGNORECASE,
)
_END = re.compile(
    r".*\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG"
    r"|\W*(?:Here ends|End of) (?:the |this )?Project Gutenberg",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^(?:#+ )?(Title|Author|Language): *(\S.*)$", re.MULTILINE)
_NUMBER = re.compile(r"\b[Ee](?:[Bb]ook|[Tt]ext) ?#(\d+)")
_BRACKETS = re.compile(r"[\[(].*?[\])]")
_NO_SURNAME = {"jr", "sr", "esq", "md", "phd", "sir", "lady", "mrs", "baron", "graf", "ii", "iii"}
_TITLE_END = re.compile(
    r"[;:\[(—]|--|, (?:vol|complete|or|part|book)\b| (?:vol|volume|part)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Book:
    """A book as it was found.

    Attributes:
        author, title: as the header or else the file's name tells them; may be empty.
        number: that of Project Gutenberg, where told.
        language: as the header tells it, else empty.
        text: without header and footer.
    """

    author: str
    title: str
    number: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """For lists: number, author and title."""
        return f"{self.number} {self.author}: {self.title}".strip()

    @property
    def key(self) -> tuple[str, str]:
        """Equal for editions and volumes of a book: the author's surname, the title's core."""
        return author_key(self.author), title_key(self.title)


def author_key(author: str) -> str:
    """A surname in lower case; empty if there is no name."""
    author = _BRACKETS.sub("", author)
    first, comma, _ = author.partition(",")
    names = re.findall(r"[^\W\d_]+", (first if comma else author).replace("'", "").lower())
    names = [name for name in names if name not in _NO_SURNAME]
    return names[-1] if names else ""


def title_key(title: str) -> str:
    """A title's letters and digits, without article, subtitle and volume."""
    core = _TITLE_END.split(title.strip(), maxsplit=1)[0]
    core = re.sub(r"^(?:the|an?) ", "", core.lower().strip())
    return re.sub(r"[\W_]+", "", core)


def read_book(path: Path) -> Book:
    """Read a file in UTF-8 or, failing that, Windows-1252.

    Raises:
        DataError: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the book cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    head = text[:_HEAD]
    fields = {name: value.strip() for name, value in reversed(_FIELD.findall(head))}
    number = _NUMBER.search(head)
    author, title = _of_name(path)
    return Book(
        fields.get("Author", author),
        fields.get("Title", title),
        number[1] if number else "",
        fields.get("Language", ""),
        strip_frame(text),
    )


def strip_frame(text: str) -> str:
    """A text without Project Gutenberg's header, footer and licence."""
    for start in reversed(list(_STARTS.finditer(text, 0, min(_HEADER_LIMIT, len(text))))):
        text = text[start.end() :]
        break
    folded = text.lower()
    at = folded.find("gutenberg", len(text) // 4)
    while at >= 0:
        first = text.rfind("\n", 0, at) + 1
        last = text.find("\n", at)
        if _END.match(text, first, last if last >= 0 else len(text)):
            return text[:first]
        at = folded.find("gutenberg", at + 1)
    return text


def _of_name(path: Path) -> tuple[str, str]:
    """Author and title by the forms that collections use.

    `Author___Title`, `Surname_Title_Year`, or `Title` in a folder of the author's name.
    """
    author, mark, title = path.stem.partition("___")
    if mark:
        return author.strip(), title.strip()
    short = re.fullmatch(r"([A-Z]\w*?)_(.+)_(?:1[5-9]|20)\d\d", path.stem)
    if short:
        return short[1], short[2]
    if path.stem.isdigit():
        return "", ""
    return path.parent.name, path.stem.strip()
