"""Snapshots and tokens: what was written down is read back, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError, ProtocolError
from asr.transcript import Final, Word
from server.dialogue import AudioFormat
from server.intake import Intake
from server.snapshot import KEPT_WORDS, Record, Seal, Snapshot
from tests.server.tones import recognizer, sing

if TYPE_CHECKING:
    from asr.transcript import Event

SECRET = bytes(range(32))
START = '{"type":"start","version":1}'


def snapshot(song: str = "ab c", length: int = 20_000, rate: int = 8000) -> Snapshot:
    """A session in the middle of a song."""
    listens = recognizer()
    intake = Intake(AudioFormat("f32le", rate))
    (samples,) = intake.take([(sing(song, rate)[:length].tobytes(), 0.0)])
    state, events = listens.step(listens.start(), samples)
    finals = tuple(e for e in events if isinstance(e, Final))
    return Snapshot(START, (state,), intake.saved, (finals,))


def said(of: Snapshot, rest: str = "a d") -> list[Event]:
    """What follows from a snapshot."""
    listens = recognizer()
    state, events = listens.step(of.states[0], sing(rest))
    return [*events, *listens.finish(state)[1]]


@settings(max_examples=15)
@given(st.text("abcd ", max_size=5), st.integers(0, 40_000), st.sampled_from([8000, 16000, 44100]))
def test_a_session_that_was_written_down_goes_on_identically(
    song: str, length: int, rate: int
) -> None:
    """In another process, on another machine: everything is in the bytes, and nothing else."""
    before = snapshot(song, length, rate)
    seal = Seal(SECRET)
    token = seal.token()
    data = seal.close(token, before)
    after = Seal(SECRET).open(token, data, recognizer())
    assert (after.start, after.finals) == (before.start, before.finals)
    assert after.position == before.position == min(length, len(sing(song, rate)))
    assert said(after) == said(before)
    assert seal.close(token, after) == data


@settings(max_examples=40)
@given(st.data())
def test_no_damaged_snapshot_is_gone_on_with(data: st.DataObject) -> None:
    """One changed byte, a missing end, bytes behind it: one clear error each, never a guess."""
    seal = Seal(SECRET)
    token = seal.token()
    whole = seal.close(token, snapshot())
    place = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.integers(1, 255))
    flipped = whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :]
    for damaged in (flipped, whole[:place], whole + b"\0", b""):
        error = refused(seal, token, damaged)
        assert error.code == "resume_damaged"


def refused(seal: Seal, token: str, data: bytes, bundle: str = "70e5") -> ProtocolError:
    """The one line that a client gets."""
    listens = recognizer()
    listens.bundle_id = bundle
    with pytest.raises(ProtocolError) as caught:
        seal.open(token, data, listens)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("start a new session")
    return caught.value


def test_what_somebody_else_signed_is_not_gone_on_with() -> None:
    """Whoever can write to the store cannot make a server go on with what he likes."""
    seal, other = Seal(SECRET), Seal()
    token = seal.token()
    error = refused(seal, token, other.close(token, snapshot()))
    assert error.code == "resume_damaged"
    assert "another secret" in str(error)


def test_one_session_s_snapshot_is_not_another_s() -> None:
    """Snapshots that change places in the store are known."""
    seal = Seal(SECRET)
    error = refused(seal, seal.token(), seal.close(seal.token(), snapshot()))
    assert "for another session" in str(error)


def test_another_model_does_not_go_on() -> None:
    """Its numbers would mean something else."""
    seal = Seal(SECRET)
    token = seal.token()
    error = refused(seal, token, seal.close(token, snapshot()), bundle="0therm0del")
    assert error.code == "resume_model"
    assert "70e5" in str(error)
    assert "0therm0del" in str(error)


def test_tokens_cannot_be_guessed_or_made() -> None:
    """128 random bits, and a mark that only the secret makes."""
    seal = Seal(SECRET)
    tokens = {seal.token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {43}
    assert all(seal.knows(token) and Seal(SECRET).knows(token) for token in tokens)
    assert not any(Seal().knows(token) for token in tokens)


@settings(max_examples=30)
@given(st.text(max_size=50))
def test_what_is_no_token_is_known_without_a_look_into_the_store(text: str) -> None:
    """Whatever a stranger sends."""
    assert not Seal(SECRET).knows(text)


@settings(max_examples=30)
@given(st.integers(0, 42), st.integers(1, 127))
def test_a_changed_token_is_forged(place: int, change: int) -> None:
    """Down to the last bit that counts."""
    seal = Seal(SECRET)
    token = seal.token()
    other = token[:place] + chr(ord(token[place]) ^ change) + token[place + 1 :]
    if seal.knows(other):  # the last letter has two bits that mean nothing
        assert place == 42


def test_a_short_secret_is_refused() -> None:
    """It could be guessed from a single token."""
    with pytest.raises(ConfigError, match=r"has 31 bytes; .* 32 or more: openssl rand"):
        Seal(bytes(31))


def final(segment: int, words: int) -> Final:
    """A final of so many words."""
    return Final(segment, (Word("w", 0, 1, 0.5),) * words, "endpoint", 1)


def test_finals_are_kept_until_they_are_acknowledged() -> None:
    """What the client has need not be said again."""
    record = Record.new(START, 2)
    for segment in range(4):
        record.keep(final(segment, 3), 1)
    record.acknowledge((0, 2))
    assert [kept.segment for kept in record.finals[1]] == [2, 3]
    record.acknowledge((9, 1))
    assert [kept.segment for kept in record.finals[1]] == [2, 3]
    record.acknowledge((0, 9))
    assert record.finals == ((), ())


@settings(max_examples=30)
@given(st.lists(st.integers(1, 100), max_size=40))
def test_what_is_kept_for_a_client_that_acknowledges_nothing_is_bounded(sizes: list[int]) -> None:
    """The last finals of at most 1000 words, whatever it says or does not say."""
    record = Record.new(START, 2)
    for segment, words in enumerate(sizes):
        record.keep(final(segment, words), 1)
    kept = [f.segment for f in record.finals[1]]
    assert kept == list(range(len(sizes)))[len(sizes) - len(kept) :]
    assert record.finals[0] == ()
    assert sum(len(f.words) for f in record.finals[1]) <= KEPT_WORDS
    dropped = len(sizes) - len(kept)
    assert not dropped or sum(sizes[dropped - 1 :]) > KEPT_WORDS


def test_the_open_segment_is_shown_as_it_was() -> None:
    """A client that lost partials sees the open words again at once."""
    shown = snapshot().shown(0)
    assert shown is not None
    assert (shown.segment, shown.stable or shown.tentative) == (1, "c")
    listens = recognizer()
    finished = replace(snapshot(), states=(listens.finish(snapshot().states[0])[0],))
    assert finished.shown(0) is None
