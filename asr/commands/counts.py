"""How numbers of things are told."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """So many of a thing, whose plural ends in s: `1 recording`, `2 recordings`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
