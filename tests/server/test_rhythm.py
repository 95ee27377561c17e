"""Pieces are expected about when they are due, and at no other time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.rhythm import EARLY_SECONDS, LATE_SECONDS, LONGEST_SECONDS, Rhythm

SENT = st.tuples(st.integers(0, 2000), st.integers(0, 700))  # when and how much, in ms


@given(st.lists(SENT, max_size=30), st.lists(st.integers(0, 3000), max_size=30))
def test_a_piece_is_expected_about_when_the_one_before_ends(
    sent: list[tuple[int, int]], asked: list[int]
) -> None:
    """Whoever sends, and in whatever order the ends of what they sent come."""
    rhythm = Rhythm()
    due: list[int] = []
    moments: list[tuple[float, int | None]] = [*sent, *((at + 0.5, None) for at in asked)]
    for at, length in sorted(moments, key=lambda moment: moment[0]):
        if length is None:
            late, early = 1000 * LATE_SECONDS, 1000 * EARLY_SECONDS
            wanted = any(at - late <= end <= at + early for end in due)
            assert rhythm.expects(at / 1000) is wanted
        else:
            rhythm.sent(length / 1000, at / 1000)
            if 0 < length <= 1000 * LONGEST_SECONDS:
                due.append(int(at) + length)


def test_who_falls_silent_is_not_waited_for() -> None:
    """Nor remembered: what was due is forgotten with the next question or the next piece."""
    rhythm = Rhythm()
    for n in range(100):
        rhythm.sent(0.08, n * 0.08)
    assert rhythm.expects(99 * 0.08 + 0.08)
    assert not rhythm.expects(99 * 0.08 + 0.09)
    for n in range(1000):
        rhythm.sent(0.001, 100 + n)
        assert len(rhythm._due) == 1  # noqa: SLF001 - memory is what is promised
