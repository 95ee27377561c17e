"""Laws 1, 2, 3, 6, 7 and 10: what a stream says depends on its audio alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import StateError
from asr.recognizer import NOTHING
from tests.laws.sounds import cuts, hear, law, sounds
from tests.tiny import MODELS, later, recognizer, sound, words

if TYPE_CHECKING:
    import asr
    from asr.acoustic import Array

WHOLE = [10**9]


@law
@given(samples=sounds, sizes=cuts)
def test_how_audio_is_cut_changes_nothing(
    made: asr.Recognizer, samples: Array, sizes: list[int]
) -> None:
    """Law 1: packets of a network, blocks of a device and whole files give the same events."""
    one, said = hear(made, made.start(), samples, WHOLE)
    other, heard = hear(made, made.start(), samples, sizes)
    assert heard == said
    assert other.dump() == one.dump()
    assert made.finish(other)[1] == made.finish(one)[1]


def test_one_sample_at_a_time_changes_nothing(made: asr.Recognizer) -> None:
    """Law 1 at its end: the finest cutting there is."""
    samples = sound(1.0, 5)
    one, said = hear(made, made.start(), samples, WHOLE)
    other, heard = hear(made, made.start(), samples, [1])
    assert heard == said
    assert other.dump() == one.dump()


@law
@given(samples=sounds, sizes=cuts, part=st.floats(0, 1))
def test_a_restored_state_goes_on_as_if_nothing_had_been(
    made: asr.Recognizer, samples: Array, sizes: list[int], part: float
) -> None:
    """Law 2: a server can hand a stream over in mid-word."""
    head, tail = np.split(samples, [int(part * len(samples))])
    state, _ = hear(made, made.start(), head, sizes)
    restored = made.restore(state.dump())
    assert restored.dump() == state.dump()
    assert made.flush(restored) == made.flush(state)
    one, said = hear(made, state, tail, sizes)
    other, heard = hear(made, restored, tail, sizes)
    assert heard == said
    assert other.dump() == one.dump()


def test_a_stream_can_be_restored_at_any_point_of_a_pause(made: asr.Recognizer) -> None:
    """Law 2 where counters matter most: before speech, and while the network rests."""
    quiet = np.zeros(40 * 1280, np.float32)
    samples = np.concatenate([quiet[:9000], sound(1.5, 3), quiet, sound(1.5, 6)])
    whole, expected = made.step(made.start(), samples)
    for position in range(700, len(samples), 6400):
        state, events = made.step(made.start(), samples[:position])
        state, more = made.step(made.restore(state.dump()), samples[position:])
        assert [*events, *more] == expected
        assert state.dump() == whole.dump()


ELSEWHERE = """
import json, sys
from dataclasses import asdict
import numpy as np
from tests.tiny import recognizer
for cell, backend, saved, samples in json.load(sys.stdin):
    made = recognizer(cell, backend)
    state = made.restore(bytes.fromhex(saved))
    samples = np.frombuffer(bytes.fromhex(samples), np.float32)
    state, events = made.step(state, samples)
    print(json.dumps([state.dump().hex(), *map(asdict, [*events, *made.flush(state)])]))
"""


def test_a_new_process_goes_on_as_if_nothing_had_been() -> None:
    """Law 2, really in another process, for every cell and backend."""
    head, tail = np.split(sound(6.0, 9), [50001])
    jobs, expected = [], []
    for cell, backend in MODELS:
        made = recognizer(cell, backend)
        state, _ = made.step(made.start(), head)
        jobs.append((cell, backend, state.dump().hex(), tail.tobytes().hex()))
        state, events = made.step(state, tail)
        events += made.flush(state)
        assert words(events)
        expected.append([state.dump().hex(), *map(asdict, events)])
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said == json.loads(json.dumps(expected))


@law
@given(
    streams=st.lists(st.tuples(sounds, cuts), min_size=2, max_size=4),
    data=st.data(),
)
def test_company_changes_nothing(
    made: asr.Recognizer, streams: list[tuple[Array, list[int]]], data: st.DataObject
) -> None:
    """Law 3: a server may step any streams together, in any order."""
    alone = [hear(made, made.start(), samples, WHOLE) for samples, _ in streams]
    states = [made.start() for _ in streams]
    events: list[list[asr.Event]] = [[] for _ in streams]
    left = [samples for samples, _ in streams]
    while any(map(len, left)):
        who = [n for n, samples in enumerate(left) if len(samples)]
        together = data.draw(st.permutations(who))
        sizes = [data.draw(st.integers(1, 40000)) for _ in together]
        arrived = [left[n][:size] for n, size in zip(together, sizes, strict=True)]
        results = made.step_many([states[n] for n in together], arrived)
        for n, size, (state, new) in zip(together, sizes, results, strict=True):
            left[n], states[n] = left[n][size:], state
            events[n] += new
    for state, said, (single, expected) in zip(states, events, alone, strict=True):
        assert said == expected
        assert state.dump() == single.dump()
    assert [r[1] for r in made.finish_many(states)] == [made.finish(s)[1] for s, _ in alone]


@law
@given(samples=sounds, more=sounds)
def test_an_end_in_company_says_what_finish_says(
    made: asr.Recognizer, samples: Array, more: Array
) -> None:
    """Laws 2 and 3: the blocks of an end go with other streams' audio, one by one, and save."""
    state, _ = made.step(made.start(), samples)
    ending, other = made.end(state), made.start()
    said: list[asr.Event] = []
    heard: list[asr.Event] = []
    pieces = iter(np.array_split(more, 4))
    while not ending.finished:
        ending = made.restore(ending.dump())
        piece = next(pieces, NOTHING)
        (ending, last), (other, new) = made.step_many([ending, other], [NOTHING, piece])
        said += last
        heard += new
    expected, events = made.finish(state)
    assert said == events
    assert ending.dump() == expected.dump()
    for piece in pieces:
        other, new = made.step(other, piece)
        heard += new
    assert heard == made.step(made.start(), more)[1]


def test_a_stream_that_has_ended_takes_no_audio(made: asr.Recognizer) -> None:
    """Its last frames rest on the silence behind it."""
    ending = made.end(made.start(), sound(0.4, 1))
    with pytest.raises(StateError, match="has ended"):
        made.step(ending, sound(0.1, 1))
    finished, _ = made.finish(ending)
    with pytest.raises(StateError, match="is finished"):
        made.end(finished)


def test_a_full_house_changes_nothing(made: asr.Recognizer) -> None:
    """Law 3 beyond the largest batch: 70 streams together, each as if alone."""
    parts = [sound(0.4, seed) for seed in range(70)]
    together = made.step_many([made.start() for _ in parts], parts)
    for part, (state, events) in zip(parts, together, strict=True):
        single, expected = made.step(made.start(), part)
        assert events == expected
        assert state.dump() == single.dump()


@law
@given(samples=sounds, more=sounds, length=st.one_of(st.integers(0, 3000), st.just(10**6)))
def test_a_step_leaves_its_arguments_alone_and_repeats(
    made: asr.Recognizer, samples: Array, more: Array, length: int
) -> None:
    """Law 6: a state is a value; a step can be retried, and its samples' memory used again."""
    given_first = samples[:length].copy()
    state, _ = made.step(made.start(), given_first)
    before = state.dump()
    given_first[:] = 1.0  # whoever gave the samples may overwrite them now
    assert state.dump() == before
    for array in (state.waiting, *state.acoustic, more):
        array.flags.writeable = False
    first, events = made.step(state, more)
    again, same = made.step(state, more)
    assert state.dump() == before
    assert same == events
    assert again.dump() == first.dump()


@law
@given(samples=sounds, more=sounds)
def test_a_flush_is_free_and_says_what_finish_says(
    made: asr.Recognizer, samples: Array, more: Array
) -> None:
    """Law 10: one may ask at any time for all that has been heard."""
    state, _ = made.step(made.start(), samples)
    before = state.dump()
    told = made.flush(state)
    assert state.dump() == before
    assert told == made.finish(state)[1] == made.flush(state)
    stream = made.stream()
    events = [*stream.feed(samples)]
    stream.flush()
    events += [*stream.feed(more), *stream.finish()]
    whole, expected = made.step(made.start(), np.concatenate([samples, more]))
    assert events == [*expected, *made.finish(whole)[1]]


def test_state_and_time_of_a_step_are_flat(made: asr.Recognizer) -> None:
    """Law 7: minutes of sound without a pause leave no more behind than seconds."""
    state = made.start()
    sizes, times = [], []
    for second in np.split(np.tile(sound(30.0, 11), 3), 90):
        began = time.process_time()
        state, _ = made.step(state, second)
        times.append(time.process_time() - began)
        sizes.append(len(state.dump()))
    assert max(sizes) < 64_000
    assert max(sizes[45:]) <= 1.2 * max(sizes[:45])
    assert np.median(times[60:]) < 3 * np.median(times[:30]) + 0.002  # seconds; machines are noisy


@pytest.mark.parametrize("hours", [1, 1000])
def test_hours_later_the_same_sound_gives_the_same_words(made: asr.Recognizer, hours: int) -> None:
    """Law 7: no counter overflows, no digit is lost; a late state differs in its times only."""
    blocks = hours * 45_000
    samples = sound(8.0, 12)
    state, _ = made.step(made.start(), samples[:30_000])
    late = replace(
        state,
        words=tuple(_later(word, blocks) for word in state.words),
        samples=state.samples + 1280 * blocks,
        blocks=state.blocks + blocks,
        first_block=state.first_block + blocks,
        decoder=later(state.decoder, 2 * blocks),
    )
    early, events = made.step(state, samples[30_000:])
    late, late_events = made.step(late, samples[30_000:])
    assert len(late.dump()) < len(early.dump()) + 1000
    expected = words([*events, *made.finish(early)[1]])
    assert len(expected) >= 3
    assert words([*late_events, *made.finish(late)[1]]) == [_later(w, blocks) for w in expected]


def _later(word: asr.Word, blocks: int) -> asr.Word:
    return replace(word, start=word.start + 1280 * blocks, end=word.end + 1280 * blocks)
