"""When a segment closes: a table of a rule."""

from __future__ import annotations

import pytest

from asr.endpoint import MAX_WORDS, closing_reason


@pytest.mark.parametrize(
    ("committed", "open_words", "silent_frames", "expected"),
    [
        (0, False, 10**6, None),  # nothing was said
        (1, False, 20, "endpoint"),  # 800 ms
        (1, False, 19, None),  # 760 ms
        (1, True, 20, None),  # a word may still change
        (MAX_WORDS - 1, True, 0, None),
        (MAX_WORDS, True, 0, "length"),
        (MAX_WORDS + 1, False, 50, "length"),  # the endpoint follows, for what is left
    ],
)
def test_a_segment_closes_by_the_rule(
    *, committed: int, open_words: bool, silent_frames: int, expected: str | None
) -> None:
    """Words, all committed, and a pause; or a hundred words."""
    reason = closing_reason(
        committed, open_words=open_words, silent_frames=silent_frames, endpoint_ms=800
    )
    assert reason == expected
