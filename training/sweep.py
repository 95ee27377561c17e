"""Grid search: every combination of some values of some settings of a recipe."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPEN, _CLOSE = "[{", "]}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """The values that one setting takes, one after the other.

    Attributes:
        key: name of the setting, such as `optimiser.rate`.
        values: as they are written in TOML, all different.
    """

    key: str
    values: tuple[str, ...]

    def assignments(self) -> list[str]:
        """One `section.key=value` for each value, as `training.settings.override` takes it."""
        return [f"{self.key}={value}" for value in self.values]


def parse_sweep(text: str) -> Sweep:
    """The sweep that `section.key=a,b,c` means.

    Commas inside quotes, brackets and braces do not part values:
    `augmentation.speed=[1, 1],[0.9, 1.1]` has two.

    Raises:
        UsageError: it has another form, an empty value, or one value twice.
    """
    key, equals, rest = text.partition("=")
    key, values = key.strip(), tuple(value.strip() for value in _parted(rest))
    if not equals or not key or not all(values):
        raise UsageError(f"--sweep {text}: write it as section.key=a,b,c")
    if len(set(values)) < len(values):
        raise UsageError(f"--sweep {text}: a value stands there twice")
    return Sweep(key, values)


def grid(sweeps: Sequence[Sweep]) -> list[tuple[str, ...]]:
    """The product of sweeps: for each combination one assignment per sweep, in their order.

    The last sweep's value changes fastest. Without sweeps there is one combination, of nothing.

    Raises:
        UsageError: a setting is swept twice.
    """
    keys = [sweep.key for sweep in sweeps]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"--sweep {key}: give all its values in one --sweep")
    return list(itertools.product(*(sweep.assignments() for sweep in sweeps)))


def _parted(text: str) -> list[str]:
    """Parts between the commas that stand outside quotes, brackets and braces."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
