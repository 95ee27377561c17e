"""The largest number that passes, found with few trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

TOLERANCE: Final = 0.05


def largest(
    passes: Callable[[int], bool], first: int = 1, most: int = 100_000, tolerance: float = TOLERANCE
) -> int:
    """The largest number that passes, nearly.

    The number is doubled until it fails (or halved until it passes), then the gap is bisected.

    Args:
        passes: a trial. Where it is not monotone, some number is found that passed.
        first: what to try first, ≥ 1.
        most: the largest number to try, ≥ first.
        tolerance: how far above the result a number may have failed, as a fraction of it, ≥ 0. At 0
            the next number has failed.

    Returns:
        A number that passed, 0 if none did.
    """
    good, bad = 0, most + 1
    trial = min(first, most)
    while bad - good > max(1, tolerance * good):
        if passes(trial):
            good = trial
        else:
            bad = trial
        if bad > most:
            trial = min(2 * good, most)
        elif good == 0:
            trial = bad // 2
        else:
            trial = (good + bad) // 2
    return good
