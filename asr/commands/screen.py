"""Words on a screen or in a pipe, as they come.

On a terminal the stable words stand plain and the tentative ones dim behind them, redrawn in
place, with the level of the microphone in front. In a pipe or file, stable words are written once,
when they are stable; each segment ends its line.
"""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, TextIO

from asr.transcript import Event, Partial

if TYPE_CHECKING:
    from collections.abc import Callable

DIM, PLAIN, CLEAR = "\x1b[2m", "\x1b[22m", "\x1b[K"
METER = " ▁▂▃▄▅▆▇█"
QUIETEST_DB = -60.0
MARGIN = 5  # columns without words: 2 of the meter; 1 at the end, where cursors wrap; 2 for a ^C


def terminal_columns() -> int:
    """Width of the terminal in characters, as it is now."""
    return shutil.get_terminal_size().columns


class Screen:
    """Shows the events of one stream after another.

    Args:
        out: where to write.
        live: whether `out` is a terminal that understands ANSI sequences.
        prefix: begins every line; where several files are told apart.
        notes: where `note` writes; by default to `out`.
        columns: width of the terminal; asked before each redraw, since windows change.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        live: bool,
        prefix: str = "",
        notes: TextIO | None = None,
        columns: Callable[[], int] = terminal_columns,
    ) -> None:
        self.prefix = prefix
        self._out = out
        self._notes = notes or out
        self._live = live
        self._columns = columns
        self._told = ""  # stable text of the open segment that is out
        self._line = ""  # what stands on the open line
        self._tentative = ""
        self._meter = ""

    def show(self, event: Event) -> None:
        """Show a partial or a final."""
        if isinstance(event, Partial):
            self._tell(event.stable)
            self._tentative = event.tentative
        else:
            self._tell(event.text)
            self._told = self._tentative = ""
            self._end_line()
        self._redraw()
        self._out.flush()

    def level(self, power: float) -> None:
        """Show how loud it is.

        Args:
            power: mean of the squared samples, ≥ 0.
        """
        if self._live:
            step = 10 * math.log10(power + 1e-12) - QUIETEST_DB
            place = round(step / -QUIETEST_DB * (len(METER) - 1))
            self._meter = METER[min(max(place, 0), len(METER) - 1)] + " "
            self._redraw()
            self._out.flush()

    def note(self, line: str) -> None:
        """Tell something that is not a word, without disturbing the open line."""
        if self._live:
            self._out.write(f"\r{CLEAR}")
            self._out.flush()
        self._notes.write(f"{line}\n")
        self._notes.flush()
        self._redraw()

    def close(self) -> None:
        """Leave the screen tidy: end an open line, take the tentative words and the meter away."""
        self._tentative = ""
        if self._line:
            self._end_line()
        elif self._live:
            self._out.write(f"\r{CLEAR}")
        self._meter = self._told = ""
        self._out.flush()

    def _tell(self, text: str) -> None:
        """Add what is new in a text that begins with what has been told."""
        for word in text[len(self._told) :].split():
            self._add(word)
        self._told = text

    def _add(self, word: str) -> None:
        room = self._columns() - MARGIN
        if self._live and self._line and len(self._line) + 1 + len(word) > room:
            self._end_line()
        part = f" {word}" if self._line else f"{self.prefix}{word}"
        self._line += part
        if not self._live:
            self._out.write(part)

    def _end_line(self) -> None:
        if self._live:
            self._out.write(f"\r{self._line}{CLEAR}\n")
        else:
            self._out.write("\n")
        self._line = ""

    def _redraw(self) -> None:
        if not self._live:
            return
        gap = " " if self._line and self._tentative else ""
        room = self._columns() - MARGIN - len(self._line) - len(gap)
        fitting = self._tentative[: max(room, 0)]
        dim = f"{gap}{DIM}{fitting}{PLAIN}" if fitting else ""
        self._out.write(f"\r{self._meter}{self._line}{dim}{CLEAR}")
