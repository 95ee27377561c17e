"""Numbers as they are read aloud, in upper case: cardinals, ordinals, years, roman numerals."""

from __future__ import annotations

import re

_SMALL = [
    *("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"),
    *("TEN", "ELEVEN", "TWELVE", "THIRTEEN", "FOURTEEN", "FIFTEEN", "SIXTEEN", "SEVENTEEN"),
    *("EIGHTEEN", "NINETEEN"),
]
_TENS = ["-", "-", "TWENTY", "THIRTY", "FORTY", "FIFTY", "SIXTY", "SEVENTY", "EIGHTY", "NINETY"]
_GROUPS = ((10**9, "BILLION"), (10**6, "MILLION"), (1000, "THOUSAND"))
_ORDINALS = {
    "ONE": "FIRST",
    "TWO": "SECOND",
    "THREE": "THIRD",
    "FIVE": "FIFTH",
    "EIGHT": "EIGHTH",
    "NINE": "NINTH",
    "TWELVE": "TWELFTH",
}
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
LARGEST = 10**12 - 1
FIRST_YEAR, LAST_YEAR = 1100, 2029


def cardinal(number: int) -> str:
    """101 is ONE HUNDRED AND ONE.

    Args:
        number: 0 … LARGEST.

    Raises:
        ValueError: it is outside of that.
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"{number} has no name here")
    words: list[str] = []
    for size, name in _GROUPS:
        if number >= size:
            words += [_below_thousand(number // size), name]
            number %= size
    if number and words and number < 100:
        words.append("AND")
    if number or not words:
        words.append(_below_thousand(number))
    return " ".join(words)


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [_SMALL[hundreds], "HUNDRED"] if hundreds else []
    if hundreds and rest:
        words.append("AND")
    if rest < 20:
        words += [_SMALL[rest]] if rest or not hundreds else []
    else:
        words += [_TENS[rest // 10], *([_SMALL[rest % 10]] if rest % 10 else [])]
    return " ".join(words)


def ordinal(number: int) -> str:
    """21 is TWENTY FIRST."""
    *first, last = cardinal(number).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    else:
        last = f"{last[:-1]}IETH" if last.endswith("Y") else f"{last}TH"
    return " ".join([*first, last])


def year(number: int) -> str:
    """1872 is EIGHTEEN SEVENTY TWO, 1805 EIGHTEEN O FIVE, 1900 NINETEEN HUNDRED."""
    century, rest = divmod(number, 100)
    if not FIRST_YEAR <= number <= LAST_YEAR or 2000 <= number <= 2009:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} HUNDRED"
    return f"{cardinal(century)} {'O ' if rest < 10 else ''}{cardinal(rest)}"


def decade(number: int) -> str:
    """1840 (of 1840s) is EIGHTEEN FORTIES, 1800 EIGHTEEN HUNDREDS."""
    words = year(number)
    return f"{words[:-1]}IES" if words.endswith("Y") else f"{words}S"


def roman(text: str) -> int | None:
    """The value of a roman numeral in capitals, None if it is no well-formed one."""
    if not text or not _ROMAN.fullmatch(text):
        return None
    values = [_ROMAN_VALUES[letter] for letter in text]
    following = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, following, strict=True))
