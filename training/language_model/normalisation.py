"""Book text to sentences as they are read aloud: upper case, A-Z and inner apostrophes only.

Sentences that cannot be read out for certain (decimals, other fractions, small roman numerals,
symbols, letters of other scripts) are dropped: a mark is put where the doubt is, and lines with a
mark go at the end. Everything is done on whole texts, because a pass of a regular expression over
a book costs less than a thousand calls over its sentences.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from training.language_model.numbers import (
    FIRST_YEAR,
    LARGEST,
    LAST_YEAR,
    cardinal,
    decade,
    ordinal,
    roman,
    year,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DOUBT = "\x00"
LONGEST = 180  # words of a sentence; longer ones are split at ; and :

_CHARACTERS = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u02bc\u02b9\u2032`\u00b4"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212"), "-"),
    **dict.fromkeys(map(ord, "\u2014\u2015"), "--"),
    **dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2009\u202f\t"), " "),
    **dict.fromkeys(map(ord, "\u00ad\u200b\ufeff_*"), ""),
    **dict.fromkeys(map(ord, "[]{}"), " "),
    ord("…"): "...",
    ord("½"): " 1/2",
    ord("¼"): " 1/4",
    ord("¾"): " 3/4",
    **str.maketrans({"æ": "ae", "œ": "oe", "Æ": "Ae", "Œ": "Oe", "ß": "ss", "ø": "o", "Ø": "O"}),
    **str.maketrans({"ł": "l", "Ł": "L", "ð": "d", "Þ": "Th", "þ": "th"}),
}
_ALWAYS = (
    ("Mrs.", "Missus"),
    ("Mrs ", "Missus "),
    ("Mr.", "Mister"),
    ("Mr ", "Mister "),
    ("Dr.", "Doctor"),
    ("Dr ", "Doctor "),
    ("&c.", "et cetera"),
    ("&c", "et cetera"),
    ("&", " and "),
)
_DOTTED = {
    "St": "Saint",
    "Capt": "Captain",
    "Col": "Colonel",
    "Gen": "General",
    "Lieut": "Lieutenant",
    "Lt": "Lieutenant",
    "Maj": "Major",
    "Sergt": "Sergeant",
    "Sgt": "Sergeant",
    "Prof": "Professor",
    "Rev": "Reverend",
    "Hon": "Honorable",
    "Esq": "Esquire",
    "Jr": "Junior",
    "Sr": "Senior",
    "Mme": "Madame",
    "Mlle": "Mademoiselle",
    "Messrs": "Messrs",
    "Gov": "Governor",
    "Mt": "Mount",
    "Ft": "Fort",
    "Co": "Company",
    "Bros": "Brothers",
    "Vol": "Volume",
    "vol": "volume",
    "vols": "volumes",
    "etc": "et cetera",
    "viz": "namely",
    "lb": "pounds",
    "lbs": "pounds",
    "oz": "ounces",
    "Wm": "William",
    "Geo": "George",
    "Chas": "Charles",
    "Thos": "Thomas",
    "Jas": "James",
    "Jan": "January",
    "Feb": "February",
    "Aug": "August",
    "Sept": "September",
    "Oct": "October",
    "Nov": "November",
    "Dec": "December",
}
_RULERS = (
    "Henry Charles Louis Edward George James William Richard Philip Francis Frederick Henri Otto "
    "Leo Pius Clement Gregory Innocent Alexander Paul Benedict John Urban Boniface Sixtus Adrian "
    "Napoleon Ferdinand Joseph Leopold Robert Malcolm David Ptolemy Ramses Peter Nicholas Ivan "
    "Gustavus Christian Alfonso Alphonso Catherine Elizabeth Mary Victor Amadeus Maximilian "
    "Sigismund Albert Conrad Theodosius Constantine Justinian Philippe Carlos Pedro Julius Eugene"
)
_OPENING = "(\"'"  # what may stand before a word without a space
_NUMERO = re.compile(r"\b(No|Nos|no)\. ?(?=\d)")
_LETTERS = re.compile(r"\b(?:[A-Za-z]\. ?)*[A-Za-z]\.[A-Za-z]\b\.?")  # a.m., i.e., U.S.A.
_INITIAL = re.compile(r"\b([A-HJ-Z])\. ?(?=[A-Z][\w.'])")  # I. is the end of a sentence
_HAS_FIGURE = re.compile(r"[\d£$%]")
_HAS_NUMERAL = re.compile(r"[ (\"](?:[VXLC]|[ivxl]{2,7}|[IVXLCDM]{2,9})(?![A-Za-z'])")
_FIGURES = re.compile(
    r"(?P<money>[£$]) ?(?P<amount>\d[\d,]*)(?:\.(?P<cents>\d\d))?(?![\d.]*\d)"
    r"|(?<![\d.:/])(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)(?![\d:])"
    r"|(?<![\d./])(?:(?P<whole>\d[\d,]*)[ -])?(?P<fraction>[13]/[24])(?![\d/])"
    r"|(?<![\d.])(?P<decade>\d{3}0)'?s\b"
    r"|(?<![\d.])(?P<ordinal>\d[\d,]*)(?:st|nd|rd|th|d)\b"
    r"|(?<![\d.])(?P<from>\d[\d,]*) ?- ?(?P<to>\d[\d,]*)(?![\d/]|\.\d)"
    r"|(?P<doubt>\d[\d,]*(?:[.:/·]\d[\d,.:/]*)+|[£$])"
    r"|(?P<plain>\d[\d,]*)"
)
_FRACTIONS = {"1/2": "A HALF", "1/4": "A QUARTER", "3/4": "THREE QUARTERS"}
_ROMAN_NUMERAL = r"(?!I\b)[IVXLCDM]+"  # a lone I is the pronoun
_RULER = re.compile(rf"\b({'|'.join(_RULERS.split())}) ({_ROMAN_NUMERAL})\b(?!')")
_NUMBERED = re.compile(
    r"\b(Chapter|Book|Act|Scene|Part|Volume|Canto|Section|Letter|Article|Psalm|Number|Class|Plate|"
    rf"chapter|book|act|scene|part|volume|canto|section|page|plate) ({_ROMAN_NUMERAL})\b(?!')"
)
_ROMAN_ALONE = re.compile(r"\b[IVXLCDM]{2,}\b(?!')")
_SMALL_ROMAN = re.compile(r"\b(?=[ivxl]{2})(?:xl|l?x{0,3})(?:ix|iv|v?i{0,3})(?<=[ivxl])\b")
_LARGEST_ROMAN = 200  # larger ones are years or words
_SENTENCE_END = re.compile(r"([.!?]+[\"')]*) +(?=[\"'(]*[A-Z0-9])")
_CLAUSE_END = re.compile(r"[;:] ")
_NO_ASCII = re.compile(r"[^\x00-\x7f]")


def _class_of(code: int) -> int:
    """What a byte becomes: capital, space, or a mark of doubt."""
    character = chr(code)
    if character.isalpha():
        return ord(character.upper())
    if character in "\n'" or code == 0:
        return code
    return 0 if character.isdigit() or character in "+=<>|~^@#\\/%" else 32


_TABLE = bytes(_class_of(code) if code < 128 else 0 for code in range(256))


def plain_characters(text: str) -> str:
    """Straight quotes, plain dashes, no accents, no markup, brackets as spaces."""
    if text.isascii():
        for mark in "_*":
            text = text.replace(mark, "")
        for mark in "[]{}\t":
            text = text.replace(mark, " ")
        return text.replace("`", "'")
    decomposed = unicodedata.normalize("NFKD", text.translate(_CHARACTERS))
    return "".join([c for c in decomposed if not unicodedata.combining(c)])


def sentences_of(paragraphs: list[str]) -> list[str]:
    """Normalised sentences of paragraphs, each of which is one line of text as printed."""
    text = plain_characters("\n".join(paragraphs))
    text = spell_out(text)
    text = _SENTENCE_END.sub(r"\1\n", text)
    lines = [part for line in text.split("\n") for part in _short(line)]
    text = _NO_ASCII.sub(DOUBT, "\n".join(lines))
    upper = text.encode("ascii").translate(_TABLE).decode("ascii")
    found = [
        " ".join(_inner_apostrophes(line).split())
        for line in upper.split("\n")
        if DOUBT not in line
    ]
    return [line for line in found if line]


def _inner_apostrophes(line: str) -> str:
    """A line without the apostrophes that begin or end a word."""
    if "'" not in line:
        return line
    line = f" {line} ".replace("''", " ")
    while " '" in line or "' " in line:
        line = line.replace(" '", " ").replace("' ", " ")
    return line


def _short(line: str) -> list[str]:
    """A sentence, at ; and : split if it is too long."""
    return _CLAUSE_END.split(line) if line.count(" ") >= LONGEST else [line]


def spell_out(text: str) -> str:
    """Abbreviations and numbers as words; what cannot be told gets a mark of doubt."""
    for form, words in _ALWAYS:
        text = text.replace(form, words)
    return "\n".join([_numbers_spelled_out(_dots_spelled_out(line)) for line in text.split("\n")])


def _dots_spelled_out(line: str) -> str:
    """A line without the dots of abbreviations and initials."""
    parts = line.split(".")
    letters = False
    for i, part in enumerate(parts[:-1]):
        word = part.rpartition(" ")[2].lstrip(_OPENING)
        if len(word) == 1:
            letters = True
        elif word in _DOTTED and not parts[i + 1][:1].isalnum():
            parts[i] = part[: len(part) - len(word)] + _DOTTED[word]
            continue
        parts[i] += "."
    line = "".join(parts)
    if letters:
        line = _LETTERS.sub(lambda m: " ".join(re.findall("[A-Za-z]", m[0])), line)
        line = _INITIAL.sub(r"\1 ", line)
    return line


def _numbers_spelled_out(line: str) -> str:
    """A line with its figures and roman numerals as words; most lines have none."""
    if _HAS_FIGURE.search(line):
        line = _NUMERO.sub("number ", line)
        line = _FIGURES.sub(_figure, line).replace("%", " PER CENT")
    if _HAS_NUMERAL.search(line):
        line = _RULER.sub(_ruler, line)
        line = _NUMBERED.sub(_numbered, line)
        line = _ROMAN_ALONE.sub(_roman_alone, line)
        line = _SMALL_ROMAN.sub(DOUBT, line)
    return line


def _figure(match: re.Match[str]) -> str:
    """Whatever begins with a figure, spelled out."""
    texts = {name: text for name, text in match.groupdict().items() if text}
    if any(_whole(text) > LARGEST for text in texts.values()):
        return DOUBT
    for name, spell in _SPELL.items():
        if name in texts:
            return spell(texts)
    return DOUBT


def _whole(digits: str) -> int:
    digits = digits.replace(",", "")
    return int(digits) if digits.isdigit() else 0


def _number(digits: str) -> str:
    """A whole number, or a year where it looks like one; a comma behind it stays."""
    comma = "," if digits.endswith(",") else ""
    value = _whole(digits)
    alike = FIRST_YEAR <= value <= LAST_YEAR and "," not in digits.rstrip(",")
    return (year(value) if alike else cardinal(value)) + comma


def _money(texts: dict[str, str]) -> str:
    amount, cents = _whole(texts["amount"]), _whole(texts.get("cents", ""))
    sterling = texts["money"] == "£"
    if sterling and "cents" in texts:
        return DOUBT  # shillings or a decimal part
    whole = f"{cardinal(amount)} {'POUND' if sterling else 'DOLLAR'}{'' if amount == 1 else 'S'}"
    return f"{whole} AND {cardinal(cents)} CENT{'' if cents == 1 else 'S'}" if cents else whole


def _time(texts: dict[str, str]) -> str:
    hour, minute = cardinal(_whole(texts["hour"])), _whole(texts["minute"])
    if minute == 0:
        return hour
    return f"{hour} {'O ' if minute < 10 else ''}{cardinal(minute)}"


def _fraction(texts: dict[str, str]) -> str:
    part = _FRACTIONS.get(texts["fraction"], DOUBT)
    return f"{_number(texts['whole'])} AND {part}" if "whole" in texts else part


# By the groups of _FIGURES; the first that has matched decides.
_SPELL: dict[str, Callable[[dict[str, str]], str]] = {
    "money": _money,
    "hour": _time,
    "fraction": _fraction,
    "decade": lambda texts: decade(_whole(texts["decade"])),
    "ordinal": lambda texts: ordinal(_whole(texts["ordinal"])),
    "from": lambda texts: f"{_number(texts['from'])} TO {_number(texts['to'])}",
    "plain": lambda texts: _number(texts["plain"]),
}


def _ruler(match: re.Match[str]) -> str:
    value = roman(match[2])
    return f"{match[1]} THE {ordinal(value)}" if value else match[0]


def _numbered(match: re.Match[str]) -> str:
    value = roman(match[2])
    return f"{match[1]} {cardinal(value)}" if value else match[0]


def _roman_alone(match: re.Match[str]) -> str:
    value = roman(match[0])
    if value is None or value > _LARGEST_ROMAN:
        return DOUBT if value else match[0]
    return cardinal(value)
