"""The screen: stable words plain, tentative ones dim, nothing left behind; plain in a pipe."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.commands.screen import CLEAR, DIM, PLAIN, Screen
from asr.transcript import Event, Final, Partial, Word

EVENTS: list[Event] = [
    Partial(0, "", "he", 10),
    Partial(0, "hello", "wor", 20),
    Partial(0, "hello world", "", 30),
    Final(0, tuple(Word(text, 0, 1, 1.0) for text in ("hello", "world", "again")), "endpoint", 40),
    Partial(1, "good", "day", 50),
]


def terminal(written: str) -> list[str]:
    """What a terminal shows after that: its lines, with dim words in brackets."""
    lines = [""]
    for part in re.split(r"(\r|\n)", written.replace(DIM, "[").replace(PLAIN, "]")):
        if part == "\n":
            lines.append("")
        elif part not in {"", "\r"}:
            assert part.endswith(CLEAR), "every write to a line replaces all of it"
            lines[-1] = part.removesuffix(CLEAR)
    return lines


def test_a_terminal_shows_stable_words_plain_and_tentative_ones_dim():
    """After each event, as it stands."""
    out = io.StringIO()
    screen = Screen(out, live=True, columns=lambda: 80)
    shown = []
    for event in EVENTS:
        screen.show(event)
        shown.append(terminal(out.getvalue()))
    assert shown == [
        ["[he]"],
        ["hello [wor]"],
        ["hello world"],
        ["hello world again", ""],
        ["hello world again", "good [day]"],
    ]
    screen.close()
    assert terminal(out.getvalue()) == ["hello world again", "good", ""]


def test_a_pipe_gets_stable_words_once_and_a_line_a_segment():
    """No escape sequences, nothing twice, nothing that is taken back later."""
    out = io.StringIO()
    screen = Screen(out, live=False, prefix="a.wav: ")
    written = []
    for event in EVENTS:
        screen.show(event)
        written.append(out.getvalue())
    whole = "a.wav: hello world again\n"
    assert written == ["", "a.wav: hello", "a.wav: hello world", whole, f"{whole}a.wav: good"]
    screen.close()
    assert out.getvalue() == f"{whole}a.wav: good\n"


@given(
    words=st.lists(st.text("abc", min_size=1, max_size=8), min_size=1, max_size=40),
    columns=st.integers(16, 60),
)
def test_long_segments_wrap_before_the_edge(words, columns):
    """A line that the terminal wraps by itself, or by the ^C behind it, could not be redrawn."""
    out = io.StringIO()
    screen = Screen(out, live=True, columns=lambda: columns)
    screen.level(0.1)
    for count in range(len(words)):
        screen.show(Partial(0, " ".join(words[:count]), "tentative " * 9, 0))
        lines = terminal(out.getvalue().replace("\r\r", "\r"))
        visible = [line.replace("[", "").replace("]", "") for line in lines]
        assert max(map(len, visible)) + len("^C") < columns
    screen.show(Final(0, tuple(Word(word, 0, 1, 1.0) for word in words), "finish", 0))
    assert " ".join(terminal(out.getvalue())).split()[: len(words)] == words


@pytest.mark.parametrize(("power", "sign"), [(0.0, " "), (1e-6, " "), (1.0, "█"), (9.0, "█")])
def test_the_meter_stands_in_front_and_leaves_with_the_line(power, sign):
    """One character; finished lines do not carry it."""
    out = io.StringIO()
    screen = Screen(out, live=True, columns=lambda: 80)
    screen.show(EVENTS[1])
    screen.level(power)
    assert terminal(out.getvalue()) == [f"{sign} hello [wor]"]
    screen.close()
    assert terminal(out.getvalue()) == ["hello", ""]


def test_the_meter_rises_with_the_sound():
    """Each step is 7.5 dB."""
    signs = []
    for decibel in range(-60, 1, 4):
        out = io.StringIO()
        Screen(out, live=True, columns=lambda: 80).level(10 ** (decibel / 10))
        signs.append(terminal(out.getvalue())[0][0])
    assert sorted(set(signs), key=signs.index) == list(" ▁▂▃▄▅▆▇█")


def test_a_note_does_not_disturb_the_open_line():
    """A loss is told on standard error while words stand on the screen."""
    out, notes = io.StringIO(), io.StringIO()
    screen = Screen(out, live=True, notes=notes, columns=lambda: 80)
    screen.show(EVENTS[1])
    screen.note("audio was lost")
    assert notes.getvalue() == "audio was lost\n"
    assert terminal(out.getvalue()) == ["hello [wor]"]
