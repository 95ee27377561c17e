"""What a stream is saved in: exact, checked, bound to its model."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import struct
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asr
from asr.errors import ConfigError, StateError
from tests.tiny import normalisation, recognizer, sound

MADE = recognizer("plain", "numpy")


def saved(seconds: float = 2.0) -> bytes:
    """A state in mid-speech."""
    return MADE.step(MADE.start(), sound(seconds, 4))[0].dump()


def forged(**changes: Any) -> bytes:
    """A saved state with another head under a right checksum."""
    data = saved()
    length = struct.unpack_from("<I", data, 10)[0]
    head = json.loads(data[14 : 14 + length]) | changes
    text = json.dumps(head).encode()
    body = data[:10] + struct.pack("<I", len(text)) + text + data[14 + length : -32]
    return body + hashlib.sha256(body).digest()


@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_damaged_byte_is_noticed(position: int, flip: int) -> None:
    """A state from a store that lost a bit never becomes other words."""
    data = bytearray(saved())
    data[position % len(data)] ^= flip
    with pytest.raises(StateError) as told:
        MADE.restore(bytes(data))
    assert "\n" not in str(told.value)


@given(length=st.integers(0, 10**6))
def test_a_cut_off_state_is_noticed(length: int) -> None:
    """A store that keeps half a value is told from one that keeps all."""
    data = saved()
    with pytest.raises(StateError):
        MADE.restore(data[: length % len(data)])


@given(data=st.binary(max_size=200))
def test_other_bytes_are_no_state(data: bytes) -> None:
    """Whatever a key of the store holds: a state or one clear error."""
    with pytest.raises(StateError):
        MADE.restore(data)
    with pytest.raises(StateError):
        MADE.restore(b"asr-state" + data)


def test_a_state_is_copied_by_itself_and_sent_as_bytes() -> None:
    """It never changes, so it is its own copy; a pickle would hold the model, or fail at it."""
    state = MADE.restore(saved())
    assert copy.copy(state) is state
    assert copy.deepcopy([state])[0] is state
    with pytest.raises(TypeError, match=r"State\.dump\(\), and have Recognizer\.restore\(\)"):
        pickle.dumps(state)


def test_a_state_of_another_version_is_told() -> None:
    """After an update of the program, not after an hour of search."""
    data = bytearray(saved())
    data[9] = 3
    with pytest.raises(StateError, match="version 3; this program reads 4"):
        MADE.restore(bytes(data))


def test_a_state_of_another_model_is_told() -> None:
    """Going on with other weights would give other words."""
    other = asr.Recognizer(MADE.acoustic, MADE.decoder, normalisation(), bundle_id="other")
    with pytest.raises(StateError, match=r"belongs to model plain…, not to other…"):
        other.restore(saved())
    with pytest.raises(StateError, match="belongs to model"):
        other.step(MADE.start(), np.zeros(1, np.float32))


@pytest.mark.parametrize(
    "changes",
    [
        {"shapes": [[10], [8], [8]]},
        {"shapes": "x"},
        {"options": [1, True]},
        {"options": None},
        {"counters": {"samples": 1, "hours": 1}},
        {"words": [["a"]]},
        {"decoder": None},
        {"decoder": {"frame": 1}},
        {"shown": ["a"]},
        {"finished": True},
        {"finished": True, "counters": {"samples": "many"}},
    ],
)
def test_a_forged_state_is_refused(changes: dict[str, Any]) -> None:
    """A right checksum is no proof of sense."""
    assert MADE.restore(forged()).dump() == saved()
    with pytest.raises(StateError):
        MADE.restore(forged(**changes))


def test_a_state_is_small() -> None:
    """A few kB for the tiny network: what grows with the model is h, c and the tails."""
    assert len(saved(8.0)) < 12_000


def test_a_state_cannot_be_changed() -> None:
    """Whoever holds a state may rely on it."""
    state = MADE.start()
    with pytest.raises(FrozenInstanceError):
        state.samples = 1  # type: ignore[misc]  # that is the point
    with pytest.raises(FrozenInstanceError, match="'noted': State is frozen"):
        state.noted = 1  # type: ignore[attr-defined]
    restored = MADE.restore(saved())
    with pytest.raises(ValueError, match="read-only"):
        restored.acoustic[0][0] = 1.0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"endpoint_ms": 479}, "480 … 60000"),
        ({"endpoint_ms": 60_001}, "480 … 60000"),
        ({"endpoint_ms": 800.0}, "integer"),
        ({"endpoint_ms": True}, "integer"),
        ({"partials": 1}, "true or false"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], complaint: str) -> None:
    """At the moment they are given, by the setting's name."""
    with pytest.raises(ConfigError, match=complaint):
        asr.Options(**options)
