"""Phone and word times of synthetic speech: the synthesiser says how long each phone lasts.

A manifest row of such speech has `phones` (a string in the alphabet of Kokoro-82M, one character
a token), `frames` (tokens' lengths in units of 400 samples at 16 kHz: a start mark, the phones,
an end mark) and `cut` (samples taken off at the front). Here they become ARPAbet phones with their
samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FRAME = 400  # samples per unit of `frames`
LENGTHENING = "ˈˌː"  # stress and length marks belong to the phone before or behind them

_SOUNDS = {
    "A": "EY", "I": "AY", "O": "OW", "Q": "OW", "W": "AW", "Y": "OY", "ə": "AH", "ᵊ": "AH",
    "ɐ": "AH", "ʌ": "AH", "ɑ": "AA", "ɒ": "AA", "æ": "AE", "a": "AE", "ɔ": "AO", "ɛ": "EH",
    "ɪ": "IH", "ᵻ": "IH", "i": "IY", "ʊ": "UH", "u": "UW", "ɜ": "ER", "ɹ": "R", "r": "R",
    "ʤ": "JH", "ʧ": "CH", "T": "T", "ɾ": "T", "ʔ": "T", "ð": "DH", "θ": "TH", "ʃ": "SH",
    "ʒ": "ZH", "ŋ": "NG", "ɡ": "G", "g": "G", "h": "HH", "j": "Y",
}  # fmt: skip
ARPABET = _SOUNDS | {letter: letter.upper() for letter in "wlmnpbtdkfvsz"}


def phone_times(phones: str, frames: Sequence[int], cut: int) -> Iterator[tuple[str, int, int]]:
    """ARPAbet phones with first sample and last sample + 1; silence is left out."""
    position = frames[0] * FRAME - cut
    before = ""
    for character, length in zip(phones, frames[1:], strict=False):
        end = position + length * FRAME
        phone = before if character in LENGTHENING else ARPABET.get(character, "")
        if phone and length and end > 0:
            yield phone, max(0, position), end
        position, before = end, phone


def word_times(
    text: str, phones: str, frames: Sequence[int], cut: int
) -> list[tuple[str, int, int]]:
    """Words with first sample and last sample + 1, from a word's first phone to its last.

    The last phone before a pause lasts, for the synthesiser, until its sound has died away: up to
    half a second after what is heard of it (`audible_end`).

    Args:
        text: the words that are spoken.
        phones: with a space or a punctuation mark between any two words.
        frames: the tokens' lengths.
        cut: samples taken off at the front.

    Returns:
        One entry a word; none where the phones are of more or fewer words than the text (such as
        `half way`, spoken as one), so that it is unknown which is which.
    """
    spoken: list[tuple[int, int]] = []
    position, inside = frames[0] * FRAME - cut, False
    for character, length in zip(phones, frames[1:], strict=False):
        end = position + length * FRAME
        sounds = character in ARPABET or character in LENGTHENING
        if sounds and inside:
            spoken[-1] = (spoken[-1][0], end)
        elif sounds:
            spoken.append((position, end))
        position, inside = end, sounds
    words = text.split()
    if len(words) != len(spoken) or any(end <= max(0, start) for start, end in spoken):
        return []
    return [(word, max(0, start), end) for word, (start, end) in zip(words, spoken, strict=True)]
