"""What the laws are tried on: sounds, pauses, and ways to cut them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from tests.tiny import sound

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asr
    from asr.acoustic import Array

law = settings(settings.get_profile("laws"))
SIZES = [0, 1, 2, 159, 160, 639, 640, 1279, 1280, 1281, 2559, 2560, 8000]


@st.composite
def pieces(draw: st.DrawFn) -> Array:
    """A piece of a sound: mostly something to hear, else digital silence or a quiet hiss."""
    kind = draw(st.sampled_from(["speech", "speech", "silence", "hiss"]))
    length = draw(st.integers(0, 40000))
    if kind == "silence":
        return np.zeros(length, np.float32)
    heard = sound(length / 16000, draw(st.integers(0, 10**6)))
    return heard * np.float32(1e-4) if kind == "hiss" else heard


sounds = st.lists(pieces(), min_size=1, max_size=4).map(np.concatenate)
cuts = st.lists(st.one_of(st.sampled_from(SIZES), st.integers(0, 4000)), min_size=1, max_size=12)


def cut(samples: Array, sizes: list[int]) -> Iterator[Array]:
    """The samples in pieces of these sizes, over and over, until nothing is left."""
    sizes = sizes if any(sizes) else [*sizes, 1280]
    position = turn = 0
    while position < len(samples):
        size = sizes[turn % len(sizes)]
        yield samples[position : position + size]
        position, turn = position + size, turn + 1


def hear(
    recognizer: asr.Recognizer, state: asr.State, samples: Array, sizes: list[int]
) -> tuple[asr.State, list[asr.Event]]:
    """Step through a sound in pieces."""
    events: list[asr.Event] = []
    for piece in cut(samples, sizes):
        state, new = recognizer.step(state, piece)
        events += new
    return state, events
