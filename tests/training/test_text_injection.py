"""A head that reads another learns to write from text, and nothing else changes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

import asr
from tests.training.miniature import TEXTS, settings, tones
from training import text_injection
from training.assembly import make_trainer
from training.checkpoint import read_checkpoint, write_checkpoint
from training.export import Names, export_bundle
from training.model import AcousticNetwork, HeadConfig, NetworkConfig
from training.preparation import prepare
from training.processes import Processes
from training.recipe import Budget, Head, Optimiser, Recipe, Source, Validation, read_recipe
from training.segments import Heard
from training.text_injection import Author, Sentence, Teacher, in_places, lesson
from training.units import Phones, Pieces
from training.validation import best_path

if TYPE_CHECKING:
    from pathlib import Path

LETTERS = "abcdefst"
LEXICON = {word: [letter.upper() for letter in word] for text in TEXTS for word in text.split()}
PHONES = Phones(["<blank>", *LETTERS.upper()], LEXICON)
WRITTEN = Pieces(["<blank>", "▁", *LETTERS])


def said(text: str) -> Heard:
    """What a head without any doubt says of a text."""
    path = [0, 0, 0, 0]
    for unit in PHONES.encode(text):
        path += [unit, unit, 0]
    path += [0, 0, 0, 0]
    frames = np.full((len(path), len(PHONES.units)), -12.0, np.float16)
    frames[np.arange(len(path)), path] = 0
    return Heard(frames, PHONES.encode(text), WRITTEN.encode(text))


def sentence(text: str) -> Sentence:
    """The same, to be learned from."""
    heard = said(text)
    return Sentence(heard.log_probs, heard.written)


def make_recipe(folder: Path, *more: str) -> Path:
    """A recipe in which characters are spelled from phones."""
    lexicon = "".join(f"{word}\t{' '.join(phones)}\n" for word, phones in LEXICON.items())
    (folder / "lexicon.txt").write_text(lexicon)
    own = "\n".join(more or ('reads = "phones"', "width = 12", "look_ahead = 2"))
    manifests = [setting.split("=", 1)[1] for setting in settings(folder)]
    (folder / "recipe.toml").write_text(
        f"""name = "reads"
[network]
cell = "lstm"
width = 16
depth = 1
front = 8
look_ahead = 1
[heads.letters]
kind = "characters"
{own}
[heads.phones]
kind = "phones"
lexicon = ["{folder / "lexicon.txt"}"]
[[data]]
manifest = "{manifests[0]}"
[validation]
manifest = "{manifests[1]}"
[batches]
shortest = 0.1
[budget]
steps = 3
"""
    )
    return folder / "recipe.toml"


def write_start(recipe: Path, path: Path) -> None:
    """A checkpoint of the recipe's network as it is before training."""
    parsed = read_recipe(recipe)
    material = prepare(parsed, {})
    trainer = make_trainer(parsed, material, Processes(), None, print)
    units = {name: kind.units for name, kind in material.units.items()}
    write_checkpoint(path, trainer.checkpoint(units, complete=False))


def test_it_learns_to_write_sentences_that_nobody_spoke() -> None:
    """From single words that were heard to sentences of them, spelled nearly without error."""
    torch.manual_seed(1)
    heads = {
        "letters": HeadConfig(len(WRITTEN.units), 1, "phones", 24, 2),
        "phones": HeadConfig(len(PHONES.units), 1),
    }
    network = AcousticNetwork(NetworkConfig(width=8, depth=1, front=8, heads=heads))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recipe = Recipe(
        "quick",
        {"letters": Head("characters")},
        (Source("a"),),
        Budget(steps=1),
        validation=Validation("a"),
        optimiser=Optimiser(rate=1e-2, warmup=5, average=0.9),
    )
    author = Author(list(TEXTS), PHONES, WRITTEN, [said(word) for word in LEXICON], 0.0, 2)
    teacher = Teacher(recipe, network, "letters", Processes())
    lessons = author.lessons(1, 0, 20.0)
    for one in itertools.islice(author.lessons(1, 0, 20.0, placed=True), 50):
        teacher.learn(one, 0.0)
    losses = [teacher.learn(one, 0.0) for one in itertools.islice(lessons, 250)]
    assert losses[-1] < 0.1 * losses[0]
    logits, _ = network.spell("letters", lesson([sentence("fade a bee")], 2).log_probs)
    path = [int(unit) for unit in logits[0, 2:].argmax(-1)]
    spelled = "".join(WRITTEN.units[unit] for unit, _ in itertools.groupby(path) if unit)
    assert Levenshtein.distance(spelled, "fade▁a▁bee") <= 2
    own = {name for name in before if ".letters." in name}
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name not in own)
    assert not any(torch.equal(before[name], after[name]) for name in own)


def test_what_was_not_understood_is_left_out(tmp_path: Path) -> None:
    """A network that has learned nothing understands nothing, so nothing is left of its speech."""
    recipe = read_recipe(make_recipe(tmp_path))
    material = prepare(recipe, {})
    trainer = make_trainer(recipe, material, Processes(), None, print)
    assert text_injection.hear(trainer, "phones", "letters", 0.002)
    assert not text_injection.hear(trainer, "phones", "letters", 0.002, 0.1)


words_of_units = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), max_size=5)


@given(words_of_units, st.lists(st.integers(0, 9), min_size=5, max_size=5))
def test_words_are_written_in_order_when_they_have_been_said(
    units: list[list[int]], gaps: list[int]
) -> None:
    """None before its time; where a place is taken, behind it. Merged, it is the text."""
    begins = np.cumsum(gaps)[: len(units)].tolist()
    frames = in_places(units, begins, 80)
    assert best_path(frames) == [unit for word in units for unit in word] or any(
        before[-1] == after[0] for before, after in itertools.pairwise(units)
    )
    left = sum(map(len, units))
    for word, begin in zip(units[::-1], begins[::-1], strict=True):
        assert np.count_nonzero(frames[begin:]) >= len(word)
        left -= len(word)
        assert np.count_nonzero(frames[:begin]) <= left
    assert np.count_nonzero(in_places(units, begins, 3)) <= 3


def test_the_same_seed_gives_the_same_lessons_and_each_process_its_own() -> None:
    """What is learned can be learned again."""
    author = Author(list(TEXTS), PHONES, WRITTEN, [said(word) for word in LEXICON], 0.5)
    first, again, other = (next(author.lessons(7, rank, 20.0)).log_probs for rank in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_a_model_that_was_taught_is_exported_and_says_the_rest_as_before(tmp_path: Path) -> None:
    """From the command to a bundle; phones to the bit as without it."""
    recipe = make_recipe(tmp_path)
    (tmp_path / "text.txt").write_text("# a book\nsee a cat\nBE A BAD BEE\nno such words\n")
    write_start(recipe, tmp_path / "start.pt")
    command = [str(recipe), "--init", str(tmp_path / "start.pt"), "--out", str(tmp_path / "out.pt")]
    command += ["--text", str(tmp_path / "text.txt"), "--heard-hours", "0.003"]
    command += ["--most-wrong", "99"]  # the network has learned nothing
    assert text_injection.main([*command, "--hours", "0.01", "--seconds", "5"]) == 0
    before, after = (read_checkpoint(tmp_path / name) for name in ("start.pt", "out.pt"))
    changed = {n for n, v in after.weights.items() if not torch.equal(v, before.weights[n])}
    assert changed
    assert {name.split(".")[1] for name in changed} == {"letters"}
    go_on = [*command, "--head", str(tmp_path / "out.pt"), "--out", str(tmp_path / "more.pt")]
    assert text_injection.main([*go_on, "--hours", "0.001", "--set", "optimiser.rate=1e-9"]) == 0
    more = read_checkpoint(tmp_path / "more.pt")
    for name in changed:  # nothing was learned, so it is what it had been taught before
        torch.testing.assert_close(more.weights[name], after.weights[name], atol=1e-5, rtol=0)
    export_bundle(after, tmp_path / "bundle", Names("reads"))
    recogniser = asr.load(str(tmp_path / "bundle"))
    assert isinstance(recogniser.transcribe(tones("see a cat")).text, str)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("ctc = 1.0",), "heads: 0 of them have `reads`; text can teach one"),
        (('reads = "ears"', "width = 4"), "heads.letters.reads: 'ears'"),
    ],
)
def test_a_recipe_that_nothing_can_be_taught_of_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    """By name, before anything is written."""
    write_start(make_recipe(tmp_path, "ctc = 1.0"), tmp_path / "start.pt")
    recipe = make_recipe(tmp_path, *more)
    (tmp_path / "text.txt").write_text("see a cat\n")
    command = [str(recipe), "--init", str(tmp_path / "start.pt"), "--out", str(tmp_path / "out.pt")]
    assert text_injection.main([*command, "--text", str(tmp_path / "text.txt")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()
