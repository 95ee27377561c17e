"""Cutting aligned recordings: nothing is lost, nothing is cut through, lengths are as asked."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from tests import tiny
from training.cutting import CutRule, cut_rows, cuts, pieces

if TYPE_CHECKING:
    from pathlib import Path

RULE = CutRule(wanted=8000, longest=16000, pause=800)


@st.composite
def spoken(draw: st.DrawFn) -> tuple[list[list[object]], np.ndarray]:
    """Words with times, between pauses of any length, and samples of that length."""
    at, words = 0, []
    for _ in range(draw(st.integers(1, 12))):
        start = at + draw(st.integers(0, 3000))
        at = start + draw(st.integers(1, 6000))
        words.append([draw(st.sampled_from(["a", "be", "sea"])), start, at])
    length = at + draw(st.integers(0, 3000))
    return words, np.random.default_rng(draw(st.integers(0, 99))).random(length, np.float32)


@settings(max_examples=60)
@given(spoken())
def test_every_word_is_in_one_piece_at_its_place(
    speech: tuple[list[list[object]], np.ndarray],
) -> None:
    """Pieces put end to end are the recording, but for parts without words; so are their words."""
    words, samples = speech
    row = {"id": "u", "text": " ".join(str(word[0]) for word in words), "words": words}
    found = list(pieces(row, samples, RULE))
    edges = [0, *cuts([tuple(word) for word in words], samples, RULE), len(samples)]  # type: ignore[misc]
    assert sum(b - a for a, b in pairwise(edges)) == len(samples)
    starts = {f"u.{number}": start for number, start in enumerate(edges[:-1])}
    restored = [
        [word, starts[piece["id"]] + start, starts[piece["id"]] + end]
        for piece, _ in found
        for word, start, end in piece["words"]
    ]
    assert restored == words
    assert " ".join(piece["text"] for piece, _ in found) == row["text"]
    for piece, part in found:
        start = starts[piece["id"]]
        assert piece["samples"] == len(part)
        assert np.array_equal(part, samples[start : start + len(part)])


@settings(max_examples=60)
@given(spoken())
def test_a_piece_is_longer_than_asked_only_where_no_pause_allows_another(
    speech: tuple[list[list[object]], np.ndarray],
) -> None:
    """Within a piece that is too long, every pause is too short for a cut."""
    words, samples = speech
    for piece, _ in pieces({"id": "u", "text": "", "words": words}, samples, RULE):
        if piece["samples"] > RULE.longest:
            assert all(b[1] - a[2] < RULE.pause for a, b in pairwise(piece["words"]))


def test_the_cut_lies_in_the_quietest_part_of_the_longest_pause() -> None:
    """Two pauses would do; the longer is taken, where it is silent."""
    samples = np.full(16000, 0.5, np.float32)
    samples[8500:9000] = 0
    words = [("a", 0, 6000), ("be", 6900, 8000), ("sea", 10000, 16000)]
    (cut,) = cuts(words, samples, RULE)
    assert 8500 + 160 <= cut <= 9000 - 160


def test_pieces_become_files(tmp_path: Path) -> None:
    """A manifest is cut; what has no times or cannot be read is counted and named."""
    samples = tiny.sound(2, 0)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    words = [["a", 0, 12000], ["be", 20000, 30000]]
    good = {"id": "u", "audio": tmp_path / "a.wav", "text": "a be", "words": words, "sex": "F"}
    untimed = {key: value for key, value in good.items() if key != "words"}
    rows = [good, good | {"audio": tmp_path / "none.wav"}, untimed]
    cut = cut_rows(rows, tmp_path / "out", RULE)
    assert [row["text"] for row in cut.rows] == ["a", "be", "a be"]
    assert all(row["sex"] == "F" for row in cut.rows)
    read = [soundfile.read(row["audio"], dtype="float32")[0] for row in cut.rows]
    assert np.allclose(np.concatenate(read[:2]), samples, atol=1 / 32768)
    assert np.allclose(read[2], samples, atol=1 / 32768)
    assert sum(cut.faults.counts.values()) == 2
    with pytest.raises(DataError, match="asr align"):
        cut_rows(rows[2:], tmp_path / "out", RULE)
