"""Phone times of synthetic speech, which a head may learn from frame by frame."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from training.synthetic import ARPABET, FRAME, LENGTHENING, phone_times

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
