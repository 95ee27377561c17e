"""The compiled search is the Python one, faster; where it is missing, recognition goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding import kernel
from asr.decoding.kernel import (
    ENTRY,
    HYPOTHESIS,
    CompiledEngine,
    Engine,
    PythonEngine,
    Waiting,
    pack,
)
from asr.decoding.reference import FLOOR, ROOT, Entry, Hypothesis, history
from asr.decoding.settings import BeamSettings
from tests.asr.small_language import frames, language

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from asr.decoding import DecodedWord
    from asr.decoding.beam import BeamDecoder, BeamState

pytestmark = pytest.mark.skipif(
    kernel.native is None,
    reason="the kernel was not compiled: no C compiler when asr was installed",
)


@st.composite
def searches(draw: st.DrawFn) -> tuple[BeamDecoder, BeamDecoder]:
    """One random search, in Python and compiled; some expect phrases."""
    spoken = language(
        draw(st.integers(0, 10**6)),
        words=draw(st.integers(1, 40)),
        phones=draw(st.integers(1, 6)),
        longest=draw(st.integers(1, 5)),
        order=draw(st.integers(1, 3)),
    )
    gap = draw(st.sampled_from([1, 3, 12]))
    chosen = BeamSettings(
        beam=draw(st.sampled_from([1, 2, 10, 60])),
        threshold=draw(st.sampled_from([0.5, 4, 12, 40])),
        lm_weight=draw(st.sampled_from([0.0, 0.7, 1.5])),
        word_bonus=draw(st.sampled_from([-1.0, 0.0, 2.0])),
        blank_bonus=draw(st.sampled_from([0.0, -0.5])),
        gap=gap,
        horizon=gap + draw(st.sampled_from([1, 6, 40])),
        certainty=draw(st.sampled_from([0.6, 0.99, 1.0])),
        spelling=draw(st.sampled_from([None, None, -4.0, 0.0, 3.0])),
        steadiness=draw(st.sampled_from([0.0, 0.5, 2.0, 10.0])),
    )
    pair = spoken.decoder(chosen, PythonEngine), spoken.decoder(chosen, CompiledEngine)
    phrases = draw(st.lists(st.lists(st.sampled_from(spoken.words[3:]), min_size=1), max_size=2))
    if phrases:
        plain, compiled = (one.boosted([" ".join(words) for words in phrases]) for one in pair)
        return plain, compiled
    return pair


@st.composite
def sounds(draw: st.DrawFn, units: int) -> NDArray[np.float32]:
    """Frames, among them silence, what is no number, and frames that all units share."""
    rows = frames(
        draw(st.integers(0, 10**6)),
        draw(st.integers(0, 150)),
        units,
        draw(st.sampled_from([0.0, 1.0, 3.0])),
    )
    if draw(st.booleans()):
        rows[len(rows) // 3 : len(rows) // 2] = [0.0, *[-80.0] * (units - 1)]
    if draw(st.booleans()):
        rows[: len(rows) // 5] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return rows


def decode(
    decoder: BeamDecoder, rows: NDArray[np.float32], cuts: list[int]
) -> tuple[BeamState, list[DecodedWord]]:
    """Take in rows in pieces that end at these places."""
    state = decoder.start()
    said: list[DecodedWord] = []
    for begin, end in pairwise([0, *cuts, len(rows)]):
        state, words = decoder.advance(state, rows[begin:end])
        said += words
    return state, said


@settings(max_examples=100)
@given(pair=searches(), data=st.data())
def test_the_kernel_gives_what_the_reference_gives_to_the_bit(
    pair: tuple[BeamDecoder, BeamDecoder], data: st.DataObject
) -> None:
    """Words must not depend on whether a compiler was there, nor on how frames are cut."""
    plain, compiled = pair
    rows = data.draw(sounds(plain.units))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    state, said = decode(plain, rows, [])
    assert decode(compiled, rows, cuts) == (state, said)
    packed = state.hypotheses, state.arena, state.shown
    assert compiled.engine.foremost(*packed) == plain.engine.foremost(*packed)
    assert compiled.tentative(state) == plain.tentative(state)
    assert compiled.finish(state) == plain.finish(state)
    assert compiled.n_best(state, 5) == plain.n_best(state, 5)
    if words := plain.finish(state):
        assert compiled.readings(state, words, 5) == plain.readings(state, words, 5)


@settings(max_examples=50)
@given(
    pair=searches(),
    data=st.data(),
    behind=st.integers(0, 20_000) | st.just(-FLOOR),
    within=st.integers(0, 20_000) | st.just(-FLOOR),
)
def test_both_end_in_the_same_ways(
    pair: tuple[BeamDecoder, BeamDecoder], data: st.DataObject, behind: int, within: int
) -> None:
    """Best first, and those left out that are too far behind, whose shares would be nothing."""
    plain, compiled = pair
    packed = decode(compiled, data.draw(sounds(plain.units)), [])[0].hypotheses
    endings = plain.engine.endings(packed, behind, within)
    assert compiled.engine.endings(packed, behind, within) == endings
    all_endings = plain.engine.endings(packed, behind, -FLOOR)
    assert [e for e in all_endings if e.score >= endings[0].score - within] == endings
    assert [-e.score for e in all_endings] == sorted(-e.score for e in all_endings)


@pytest.mark.parametrize("make_engine", [PythonEngine, CompiledEngine])
def test_what_most_of_the_probability_agrees_on_is_shown(make_engine: type[Engine]) -> None:
    """One reading that leads does not hide a word on which the others, taken together, agree."""
    decoder = language(3).decoder(BeamSettings(beam=4), make_engine)
    leads, agreed, one, other = range(3, 7)
    arena = [Entry(leads, 0, 4, -1, 0, 0), Entry(agreed, 0, 2, -1, 0, 0)]
    arena += [Entry(word, 2, 4, 1, 0, 0) for word in (one, other)]
    for behind, shown in ((600, [agreed, one]), (1000, [leads])):
        hypotheses = [
            Hypothesis(ROOT, lm, -total, FLOOR, entry, 0, 4, 0)
            for lm, (entry, total) in enumerate([(0, 0), (2, behind), (3, behind)])
        ]
        packed = pack(HYPOTHESIS, hypotheses), pack(ENTRY, arena), b""
        found = hypotheses[decoder.engine.foremost(*packed).hypothesis]
        assert [entry.word for entry in history(arena, found.history)] == shown


@settings(max_examples=30)
@given(pair=searches(), data=st.data())
def test_streams_searched_together_are_searched_as_if_alone(
    pair: tuple[BeamDecoder, BeamDecoder], data: st.DataObject
) -> None:
    """A server's streams go through the kernel in one call, however long or short their parts."""
    for decoder in pair:
        rows = [data.draw(sounds(decoder.units)) for _ in range(data.draw(st.integers(0, 4)))]
        states = [decode(decoder, some[: len(some) // 2], [])[0] for some in rows]
        parts = [some[len(some) // 2 :] for some in rows]
        expected = [decoder.advance(*one) for one in zip(states, parts, strict=True)]
        assert decoder.advance_many(states, parts) == expected


def test_threads_do_not_disturb_each_other() -> None:
    """The interpreter lock is released: two streams of a server really run at the same time."""
    decoder = language(1, words=30, phones=5).decoder(BeamSettings(), CompiledEngine)
    sounds_ = [frames(seed, 400, 6) for seed in range(8)]
    alone = [decode(decoder, rows, [100, 200, 300]) for rows in sounds_]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda rows: decode(decoder, rows, [100, 200, 300]), sounds_)) == alone


def test_without_the_kernel_python_takes_over_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing compiler costs speed, never recognition; in silence it would be a riddle."""
    monkeypatch.setattr(kernel, "native", None)
    monkeypatch.setattr(kernel, "_REGISTRY", {})
    spoken = language(2)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        first = spoken.decoder(BeamSettings())
        second = spoken.decoder(BeamSettings())
    assert ["was not compiled" in str(one.message) for one in told] == [True]
    assert isinstance(first.engine, PythonEngine)
    assert isinstance(second.engine, PythonEngine)


def test_a_kernel_of_other_sources_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After an update that was not built, it would take other arguments, or give other words."""
    changed = tmp_path / "_kernel.c"
    changed.write_bytes(kernel.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(kernel, "SOURCE", changed)
    monkeypatch.setattr(kernel, "_REGISTRY", {})
    with pytest.warns(RuntimeWarning, match="has changed since it was compiled"):
        assert isinstance(language(2).decoder(BeamSettings()).engine, PythonEngine)
    monkeypatch.setattr(kernel, "SOURCE", tmp_path / "gone.c")  # as in a wheel
    assert isinstance(language(2).decoder(BeamSettings()).engine, CompiledEngine)


@pytest.mark.parametrize(("value", "kind"), [("1", PythonEngine), ("0", CompiledEngine)])
def test_python_can_be_forced(
    monkeypatch: pytest.MonkeyPatch, value: str, kind: type[object]
) -> None:
    """To compare, or to rule the kernel out; that is no reason for a warning."""
    monkeypatch.setenv("ASR_PURE_PYTHON", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(language(2).decoder(BeamSettings()).engine, kind)


def test_the_warning_is_one_line() -> None:
    """It lands among a user's words on a screen."""
    code = (
        "from asr.decoding import kernel; kernel.native = None\n"
        "from asr.decoding.settings import BeamSettings\n"
        "from tests.asr.small_language import language\n"
        "language(1).decoder(BeamSettings()); language(1).decoder(BeamSettings())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_the_kernel_refuses_what_does_not_fit_together() -> None:
    """Whoever calls it wrongly gets an error, not memory that belongs to somebody else."""
    decoder = language(3).decoder(BeamSettings(beam=4), CompiledEngine)
    engine, state = decoder.engine, decoder.start()
    rows = np.zeros((3, decoder.units), np.int32)
    for wrong in (rows.ravel()[1:], np.zeros((65, rows.shape[1]), np.int32)):
        with pytest.raises(ValueError, match="shape"):
            engine.advance([Waiting(0, wrong, state.hypotheses, state.arena, b"")])
    for hypotheses in (b"", state.hypotheses * 5):
        with pytest.raises(ValueError, match="size"):
            engine.advance([Waiting(0, rows, hypotheses, state.arena, b"")])
        with pytest.raises(ValueError, match="size"):
            engine.foremost(hypotheses, state.arena, b"")
        with pytest.raises(ValueError, match="size"):
            engine.endings(hypotheses, 0, 0)
    for arena, shown in ((bytes(24 * 1000), b""), (b"", bytes(4 * 1000))):
        with pytest.raises(ValueError, match="size"):
            engine.advance([Waiting(0, rows, state.hypotheses, arena, shown)])
        with pytest.raises(ValueError, match="size"):
            engine.foremost(state.hypotheses, arena, shown)
    # One that fits does not help one that does not.
    good = Waiting(0, rows, state.hypotheses, state.arena, b"")
    with pytest.raises(ValueError, match="shape"):
        engine.advance([good, good._replace(frames=np.zeros((65, rows.shape[1]), np.int32))])
    assert engine.advance([]) == []
