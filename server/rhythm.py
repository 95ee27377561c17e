"""When those who speak will send more.

Whoever sends what a microphone hears sends it piece by piece, as they fill: after 80 ms the next
80 ms. So it is known when audio will come, and what can wait need not have begun just before.
"""

from __future__ import annotations

import heapq
from typing import Final

EARLY_SECONDS: Final = 0.004  # before a piece is due, from which on it is expected
LATE_SECONDS: Final = 0.003  # after it was due, until which it is
LONGEST_SECONDS: Final = 0.5  # of a piece that tells when the next one comes


class Rhythm:
    """Remembers when pieces are due. All times are in seconds on one clock that never goes back."""

    def __init__(self) -> None:
        self._due: list[float] = []  # a heap

    def sent(self, seconds: float, now: float) -> None:
        """Somebody who speaks has sent so much audio just now."""
        self._forget(now)
        if 0 < seconds <= LONGEST_SECONDS:
            heapq.heappush(self._due, now + seconds)

    def expects(self, now: float) -> bool:
        """Whether a piece is due about now."""
        self._forget(now)
        return bool(self._due) and self._due[0] <= now + EARLY_SECONDS

    def _forget(self, now: float) -> None:
        """Let go of what should have come: nobody waits for a microphone that was switched off."""
        while self._due and self._due[0] < now - LATE_SECONDS:
            heapq.heappop(self._due)
