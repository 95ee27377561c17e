"""Laws 4, 5, 8, 9 and 11: what words there are, when, and what may not move them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asr
from asr.decoding.greedy import GreedyDecoder
from asr.features import log_mel_block, output_frames
from tests.laws.sounds import cuts, hear, law, sounds
from tests.tiny import UNITS, listen, normalisation, searching, sound, words

if TYPE_CHECKING:
    from asr.acoustic import AcousticState, Array
    from asr.decoding import Decoder


def test_the_tiny_recognisers_say_many_words(made: asr.Recognizer) -> None:
    """The laws would be empty for models that say nothing."""
    heard = [listen(made, sound(4.0, seed)) for seed in range(8)]
    assert sum(map(len, map(words, heard))) > 32
    assert min(map(len, map(words, heard))) > 0
    texts = {word.text for events in heard for word in words(events)}
    assert len(texts) >= 3


@law
@given(samples=sounds, other=sounds, part=st.floats(0, 1))
def test_what_comes_later_changes_nothing_before(
    made: asr.Recognizer, samples: Array, other: Array, part: float
) -> None:
    """Law 4: an event rests on the samples up to its position, whatever follows them."""
    now = int(part * len(samples))
    events = made.step(made.start(), samples[:now])[1]
    assert all(event.position <= now for event in events)
    for future in (samples[now:], other):
        whole = made.step(made.start(), np.concatenate([samples[:now], future]))[1]
        assert [event for event in whole if event.position <= now] == events


@law
@given(samples=sounds)
def test_every_frame_is_out_after_the_declared_look_ahead(
    made: asr.Recognizer, samples: Array
) -> None:
    """Law 4: latency is what the recogniser says it is; a word waits no longer for its sound."""
    state, _ = made.step(made.start(), samples)
    surely = (len(samples) - made.look_ahead_samples) // 640
    assert state.decoder.frame >= surely
    assert state.decoder.frame <= len(samples) // 640


@law
@given(samples=sounds, cut=st.integers(0, 1300))
def test_every_sample_is_used_once_and_no_time_lies_beyond(
    made: asr.Recognizer, samples: Array, cut: int
) -> None:
    """Law 5: a stream of n samples has ceil(n / 640) frames, and words lie in order within them."""
    samples = samples[cut:]
    state, events = made.step(made.start(), samples)
    end, last = made.finish(state)
    assert end.samples == len(samples)
    assert end.decoder.frame == output_frames(len(samples))
    said = words([*events, *last])
    assert all(0 <= word.start < word.end <= len(samples) for word in said)
    assert all(one.end <= two.start for one, two in pairwise(said))
    assert all(0 <= word.confidence <= 1 for word in said)
    assert all(event.position <= len(samples) for event in [*events, *last])


@law
@given(samples=sounds, sizes=cuts)
def test_the_network_hears_each_block_once_in_order(
    made: asr.Recognizer, samples: Array, sizes: list[int]
) -> None:
    """Law 5: what the network is given is the audio, whole, but for long digital silence."""
    spy = Spy(made)
    state, _ = hear(spy.recognizer, spy.recognizer.start(), samples, sizes)
    spy.recognizer.finish(state)
    expected = audible_blocks(samples, made.acoustic.look_ahead)
    assert len(spy.heard) == len(expected)
    assert all(map(np.array_equal, spy.heard, expected))


def audible_blocks(samples: Array, look_ahead: int) -> list[Array]:
    """The blocks that a network of that look-ahead is to be given, by the words of the rule."""
    count = -(-(output_frames(len(samples)) + look_ahead) // 2) if len(samples) else 0
    padded = np.concatenate([np.zeros(240), samples, np.zeros(20_000)]).astype(np.float32)
    blocks: list[Array] = []
    in_a_row = 0
    for first in range(0, 1280 * count, 1280):
        in_a_row = 0 if padded[first + 240 : first + 1520].any() else in_a_row + 1
        if in_a_row == 0 or (blocks and in_a_row < 20):
            blocks.append(normalisation()(log_mel_block(padded[first : first + 1520])))
    return blocks


class Spy:
    """A recogniser whose network notes the blocks that it is given."""

    def __init__(self, made: asr.Recognizer) -> None:
        self.acoustic = made.acoustic
        self.look_ahead = made.acoustic.look_ahead
        self.heads = made.acoustic.heads
        self.heard: list[Array] = []
        self.recognizer = asr.Recognizer(self, made.decoder, normalisation(), bundle_id="spy")

    def initial(self) -> AcousticState:
        """As the network's."""
        return self.acoustic.initial()

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """As the network's."""
        self.heard.extend(features)
        return self.acoustic.step(features, states)


@law
@given(samples=sounds, pauses=st.lists(st.integers(480, 3000), min_size=2, max_size=2))
def test_endpoints_only_cut_the_list_of_words(
    made: asr.Recognizer, samples: Array, pauses: list[int]
) -> None:
    """Law 8: who wants longer segments gets the same words at the same times."""
    one, two = (listen(made, samples, asr.Options(endpoint_ms=ms)) for ms in pauses)
    assert words(one) == words(two)
    silent = listen(made, samples, asr.Options(endpoint_ms=pauses[0], partials=False))
    assert silent == [event for event in one if isinstance(event, asr.Final)]


@law
@given(samples=sounds)
def test_stable_words_are_never_taken_back(made: asr.Recognizer, samples: Array) -> None:
    """Law 9: `stable` only grows, word by word, and the final begins with it."""
    stable: list[str] = []
    segment = 0
    shown: asr.Partial | None = None
    for event in listen(made, samples):
        assert event.segment == segment
        if isinstance(event, asr.Final):
            assert [word.text for word in event.words][: len(stable)] == stable
            stable, segment, shown = [], segment + 1, None
        else:
            assert event.stable.split()[: len(stable)] == stable
            assert shown is None or (shown.stable, shown.tentative) != (
                event.stable,
                event.tentative,
            )
            stable, shown = event.stable.split(), event


@law
@given(seconds=st.integers(0, 20), rest=st.integers(0, 20000))
def test_digital_silence_yields_no_word(made: asr.Recognizer, seconds: int, rest: int) -> None:
    """Law 11: a muted microphone is silent however long."""
    assert listen(made, np.zeros(seconds * 16000 + rest, np.float32)) == []


@law
@given(samples=sounds, blocks=st.integers(1, 60))
def test_silence_before_the_first_sound_only_moves_the_words(
    made: asr.Recognizer, samples: Array, blocks: int
) -> None:
    """Law 11: whether one speaks at once or later does not matter.

    No time lies before the audio, so a word in the very first frame begins at 0.
    """
    late = words(listen(made, np.concatenate([np.zeros(1280 * blocks, np.float32), samples])))
    back = [(w.text, max(0, w.start - 1280 * blocks), w.end - 1280 * blocks) for w in late]
    at_once = words(listen(made, samples))
    assert back == [(w.text, w.start, w.end) for w in at_once]
    assert [w.confidence for w in late] == [w.confidence for w in at_once]


@law
@given(before=sounds, after=sounds, pause=st.integers(0, 1279), blocks=st.integers(1, 60))
def test_a_longer_pause_only_moves_the_words_behind_it(
    made: asr.Recognizer, before: Array, after: Array, pause: int, blocks: int
) -> None:
    """Law 11: after two seconds it does not matter how long somebody still says nothing."""
    heard = np.flatnonzero(before)
    # Two seconds of whole blocks, and what lies before and behind them in half-filled ones.
    short = np.zeros(25 * 1280 + 2 * 1280 + pause, np.float32)
    more = np.zeros(1280 * blocks, np.float32)
    one = words(listen(made, np.concatenate([before, short, after])))
    two = words(listen(made, np.concatenate([before, short, more, after])))
    # The network rests from the 20th silent block on; what it said before has not moved.
    split = heard[-1] + 22 * 1280 if len(heard) else 0
    assert two == [
        *(word for word in one if word.start < split),
        *_moved([word for word in one if word.start >= split], 1280 * blocks),
    ]


class Babbler:
    """A network that never falls silent by itself: it says a script over and over."""

    def __init__(self, look_ahead: int, script: list[int]) -> None:
        self.look_ahead = look_ahead
        self.heads = {"pieces": len(UNITS)}
        self.script = script

    def initial(self) -> AcousticState:
        """Blocks done."""
        return (np.zeros(1, np.float32),)

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """The next two units of the script."""
        rows = np.full((len(features), 2, len(UNITS)), -5.0, np.float32)
        for row, (done,) in zip(rows, states, strict=True):
            for frame in range(2):
                row[frame, self.script[(2 * int(done[0]) + frame) % len(self.script)]] = -0.1
        return {"pieces": rows}, [(done + 1,) for (done,) in states]


@pytest.mark.parametrize(
    "decoder", [GreedyDecoder(UNITS, "pieces"), searching()], ids=["greedy", "beam"]
)
@law
@given(
    look_ahead=st.integers(0, 8),
    script=st.lists(st.integers(0, len(UNITS) - 1), min_size=1, max_size=5),
    blocks=st.integers(1, 60),
)
def test_even_a_network_that_babbles_in_silence_changes_nothing(
    decoder: Decoder, look_ahead: int, script: list[int], blocks: int
) -> None:
    """Law 11 does not rest on the network's good will."""
    babbler = Babbler(look_ahead, script)
    made = asr.Recognizer(babbler, decoder, normalisation(), bundle_id="babbler")
    before, pause = np.ones(12_800, np.float32), np.zeros(25 * 1280, np.float32)
    more, after = np.zeros(1280 * blocks, np.float32), np.ones(12_800, np.float32)
    one = words(listen(made, np.concatenate([before, pause, after])))
    two = words(listen(made, np.concatenate([before, pause, more, after])))
    behind = len(before) + 20 * 1280  # where the network has rested for one block
    assert two == [
        *(word for word in one if word.start < behind),
        *_moved([word for word in one if word.start >= behind], 1280 * blocks),
    ]


def _moved(said: list[asr.Word], samples: int) -> list[asr.Word]:
    return [asr.Word(w.text, w.start + samples, w.end + samples, w.confidence) for w in said]
