"""A recogniser whose words are known: it hears half seconds of constant sound as one word each.

A half second of value k / 100 is word k of `WORDS`, of value 0 no word. It obeys the laws, so that
what measures it can be tested to the sample; and it can be made by name in another process.
"""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from asr.errors import BundleError
from asr.transcript import Event, Final, Partial, Word

if TYPE_CHECKING:
    from pathlib import Path

    from asr.audio import Samples
    from asr.manifest import Utterance
    from asr.state import Options

WORDS = ("", "the", "cat", "sat", "on", "it", "don't")
HALF = 8000  # samples


def sound(words: str) -> Samples:
    """Samples that the fake hears as these words."""
    levels = [WORDS.index(word) / 100 for word in words.split()]
    return np.repeat(np.array(levels, np.float32), HALF)


def record(path: Path, words: str) -> Path:
    """The same as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(words), 16000, subtype="FLOAT")
    return path


@dataclass(frozen=True)
class FakeState:
    """Samples so far and the words shown."""

    options: Options
    samples: tuple[Samples, ...] = ()
    words: tuple[Word, ...] = ()


class FakeRecognizer:
    """Stands in for `asr.recognizer.Recognizer`; a `chatty` one adds a word at each end."""

    def __init__(self, *, chatty: bool = False) -> None:
        self.chatty = chatty
        self.company: list[int] = []  # streams of each step_many

    def start(self, options: Options) -> FakeState:
        """See `Recognizer.start`."""
        return FakeState(options)

    def step(self, state: FakeState, samples: Samples) -> tuple[FakeState, list[Event]]:
        """One partial whenever a word was completed."""
        state = replace(state, samples=(*state.samples, samples))
        heard = np.concatenate(state.samples)
        words = []
        for begin in range(0, len(heard) - HALF + 1, HALF):
            text = WORDS[round(float(heard[begin]) * 100)]
            if text:
                words.append(Word(text, begin, begin + HALF, 1.0))
        changed = len(words) > len(state.words) and state.options.partials
        shown = " ".join(word.text for word in words)
        events: list[Event] = [Partial(0, shown, "", len(heard))] if changed else []
        return replace(state, words=tuple(words)), events

    def step_many(
        self, states: list[FakeState], samples: list[Samples]
    ) -> list[tuple[FakeState, list[Event]]]:
        """See `Recognizer.step_many`."""
        self.company.append(len(states))
        return [self.step(state, chunk) for state, chunk in zip(states, samples, strict=True)]

    def finish(self, state: FakeState) -> tuple[FakeState, list[Event]]:
        """All words as one final."""
        total = sum(map(len, state.samples))
        extra = (Word("and", total, total + 1, 0.1),) if self.chatty else ()
        words = state.words + extra
        return state, [Final(0, words, "finish", total)] if words else []


def load(*, chatty: bool = False) -> FakeRecognizer:
    """For `evaluate`, in any process."""
    return FakeRecognizer(chatty=chatty)


def die_in_workers() -> FakeRecognizer:
    """A model that takes every process down but the first, as too little memory does."""
    if multiprocessing.parent_process() is not None:
        os._exit(1)
    return FakeRecognizer()


def refuse() -> FakeRecognizer:
    """A model that cannot be loaded."""
    raise BundleError("model.toml: no such file; give a bundle")


def spoken(folder: Path, texts: dict[str, str]) -> list[Utterance]:
    """Utterances with these ids, recorded as they read; speaker: the id's first letter."""
    from asr.manifest import Utterance

    return [
        Utterance(name, record(folder / f"{name}.wav", text), text, name[0])
        for name, text in texts.items()
    ]
