"""Where a segment of speech ends: a rule that cuts the list of words and touches nothing else."""

from __future__ import annotations

FRAME_MS = 40  # one output frame
MAX_WORDS = 100  # of a segment: bounds the state, and the delay of a final without a pause


def closing_reason(
    committed: int, *, open_words: bool, silent_frames: int, endpoint_ms: int
) -> str | None:
    """Why the open segment closes at the end of this block, or None if it stays open.

    Args:
        committed: words of the segment that are committed.
        open_words: whether words follow them that may still change.
        silent_frames: output frames since the last unit of the best hypothesis.
        endpoint_ms: the pause that ends a segment.

    Returns:
        `length` where the segment has 100 committed words (it is cut behind the 100th), `endpoint`
        where all its words, at least one, are committed and the pause lasts, None otherwise.
    """
    if committed >= MAX_WORDS:
        return "length"
    if committed and not open_words and silent_frames * FRAME_MS >= endpoint_ms:
        return "endpoint"
    return None
