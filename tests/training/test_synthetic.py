"""Phone times of synthetic speech, which a head may learn from frame by frame."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from training.synthetic import ARPABET, FRAME, LENGTHENING, phone_times, word_times

SYMBOLS = st.sampled_from([*ARPABET, *LENGTHENING, " ", ","])


@given(
    st.lists(st.tuples(SYMBOLS, st.integers(0, 9)), min_size=1, max_size=20),
    st.integers(0, 20),
    st.integers(0, 5000),
)
def test_phones_follow_each_other_in_time(
    spoken: list[tuple[str, int]], start: int, cut: int
) -> None:
    """No phone overlaps the next, none lies before the beginning or is empty."""
    phones = "".join(symbol for symbol, _ in spoken)
    frames = [start, *(length for _, length in spoken), 3]
    last = 0
    for phone, begin, end in phone_times(phones, frames, cut):
        assert phone in ARPABET.values()
        assert last <= begin < end
        last = end
    assert last <= max(0, FRAME * sum(frames[:-1]) - cut)


def test_a_word_is_timed_as_the_synthesiser_says() -> None:
    """Two words with a stressed, lengthened vowel; 100 samples were cut off in front."""
    stress, length = LENGTHENING[0], LENGTHENING[2]
    found = list(phone_times(f"s{stress}i{length} ɐ", [2, 3, 1, 4, 1, 2, 2, 5], 100))
    assert found == [
        ("S", 700, 1900),
        ("S", 1900, 2300),  # the stress mark's own length stretches the sound before it
        ("IY", 2300, 3900),
        ("IY", 3900, 4300),
        ("AH", 5100, 5900),
    ]


WORDS = st.lists(
    st.text(st.sampled_from([*ARPABET, *LENGTHENING]), min_size=1, max_size=5), min_size=1
)


@given(WORDS, st.data())
def test_a_word_lasts_from_its_first_phone_to_its_last(
    words: list[str], data: st.DataObject
) -> None:
    """Its phones lie in it, and what lies between words is a space or a mark."""
    marks = st.sampled_from([" ", ", ", "\u2014", '." '])
    phones = words[0] + "".join(data.draw(marks) + word for word in words[1:]) + "."
    frames = [data.draw(st.integers(1, 4)) for _ in range(len(phones) + 2)]
    cut = data.draw(st.integers(0, FRAME * frames[0]))
    text = " ".join(f"w{n}" for n in range(len(words)))
    found = word_times(text, phones, frames, cut)
    assert [word for word, _, _ in found] == text.split()
    assert found[0][1] == FRAME * frames[0] - cut
    assert found[-1][2] == FRAME * sum(frames[:-2]) - cut
    lengths = iter(frames[1:])
    at = found[0][1]
    sounding = []
    for character in phones:
        end = at + FRAME * next(lengths)
        sounding += [at] if character in ARPABET or character in LENGTHENING else []
        at = end
    assert all(any(s <= place < e for _, s, e in found) for place in sounding)
    assert sum((e - s) // FRAME for _, s, e in found) == sum(
        n for n, c in zip(frames[1:], phones, strict=False) if c in ARPABET or c in LENGTHENING
    )


def test_words_that_are_spoken_as_one_have_no_times() -> None:
    """Which is which would be a guess; nor has a word that was cut off in front."""
    assert word_times("half way", "hafwA", [1, 1, 1, 1, 1, 1, 1], 0) == []
    assert word_times("a b", "A bi", [1, 2, 1, 1, 1, 1], 1200) == []
    assert word_times("a b", "A bi", [1, 2, 1, 1, 1, 1], 900) == [("a", 0, 300), ("b", 700, 1500)]
