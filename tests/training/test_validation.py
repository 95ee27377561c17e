"""A run is judged by what ships: the figures are those of the exported recogniser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import asr
from asr.evaluate import validate
from tests.training.miniature import write_manifest
from tests.training.small_networks import small_network
from training.checkpoint import Checkpoint
from training.data import Rule, Utterance, load, manifest_rows
from training.export import Names, export_bundle
from training.features import LogMel
from training.units import ALPHABET, Pieces
from training.validation import best_path, head_results, summary, word_error_rate

if TYPE_CHECKING:
    from pathlib import Path

UNITS = ["<blank>", "▁", *ALPHABET]


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    """Eight recordings."""
    rows = manifest_rows(write_manifest(tmp_path, "validation"), {})
    rule = Rule(1, 1 << 40, 1.0, 0.5, any_text=True)
    return load(rows, {"pieces": Pieces(UNITS)}, rule, "here")[0]


def checkpoint() -> Checkpoint:
    """A network that says a lot of nonsense."""
    network = small_network(width=12, front=8)
    with torch.no_grad():
        network.get_parameter("heads.pieces.weight").mul_(20)
    others = {
        name: ["<blank>", *(f"{name}{k}" for k in range(1, count))]
        for name, count in (("phones", 11), ("helper", 7))
    }
    return Checkpoint(
        network.config,
        network.state_dict(),
        {"pieces": UNITS, **others},
        [-6.0] * 80,
        [3.0] * 80,
    )


def test_the_word_error_rate_is_that_of_the_bundle(
    tmp_path: Path, utterances: list[Utterance]
) -> None:
    """To the word: validation may not be kinder than `asr evaluate` will be."""
    made = checkpoint()
    export_bundle(made, tmp_path / "model", Names("x"))
    counts = validate(asr.load(tmp_path / "model"), utterances)
    assert counts.words.errors > 0
    assert word_error_rate(made, utterances) == counts.wer


def test_every_head_is_measured(utterances: list[Utterance]) -> None:
    """Loss per unit and errors per unit, for targets it has; company changes nothing."""
    made = checkpoint()
    log_mel = LogMel(np.array(made.mean, np.float32), np.array(made.deviation, np.float32))
    whole = head_results(made.build(), log_mel, utterances)
    assert set(whole) == {"pieces", "phones", "helper"}
    assert (whole["phones"].loss, whole["phones"].errors) == (0, 0)
    alone = [head_results(made.build(), log_mel, [one])["pieces"] for one in utterances]
    units = [len(one.targets["pieces"]) for one in utterances]
    for name in ("loss", "errors"):
        mean = np.average([getattr(result, name) for result in alone], weights=units)
        assert getattr(whole["pieces"], name) == pytest.approx(mean, rel=1e-4)
    assert whole["pieces"].loss > 0


@given(st.lists(st.integers(0, 3), max_size=12))
def test_a_path_is_read_without_repeats_and_blanks(path: list[int]) -> None:
    """As CTC defines it."""
    kept = [b for a, b in zip([0, *path], path, strict=False) if b not in (0, a)]
    assert best_path(np.array(path, np.int64)) == kept


def test_figures_have_the_names_that_the_curves_know(utterances: list[Utterance]) -> None:
    """`….loss` is drawn above, everything else below."""
    made = checkpoint()
    log_mel = LogMel(np.array(made.mean, np.float32), np.array(made.deviation, np.float32))
    results = head_results(made.build(), log_mel, utterances[:1])
    assert {"pieces.loss", "pieces.errors", "wer"} <= set(summary(results, 0.5))
