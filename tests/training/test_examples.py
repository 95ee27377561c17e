"""From batches to what the network sees: what cannot be read is left out, and counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch

from asr.features import log_mel
from tests.training.miniature import TEXTS, recipe, tones, write_manifest
from training.assembly import make_trainer
from training.audio_store import AudioStore
from training.augment import Augmenter
from training.batching import Batch
from training.data import Rule, load, manifest_rows
from training.examples import ExampleMaker, Wanted
from training.features import neutral
from training.losses import UNKNOWN, ctc
from training.preparation import prepare
from training.processes import Processes
from training.recipe import Augmentation
from training.units import characters

if TYPE_CHECKING:
    from pathlib import Path

BATCH = Batch(0, 0, (1, 0, 4))
VIEWS = "heads.characters.consistency=1.0"
FASTER = Augmentation(speed=(1.0, 1.3), frequency_masks=0, time_masks=0)


def maker(
    folder: Path, augmenter: Augmenter | None = None, views: int = 1, **more: Any
) -> ExampleMaker:
    """Examples of eight recordings for one head of characters and one that learns from frames."""
    rows = manifest_rows(write_manifest(folder, "train", **more), {})
    rule = Rule(1, 1 << 40, 1.0, 0.5)
    utterances, _ = load(rows, {"letters": characters()}, rule, "here")
    wanted = Wanted(2, ("letters", "phones"), {"phones": {"T": 1}}, views)
    return ExampleMaker([AudioStore(utterances, None, "x")], neutral(), augmenter, wanted, 1)


def test_a_batch_holds_features_and_targets_of_its_members(tmp_path: Path) -> None:
    """In their order, padded with silence, the look-ahead's frames behind the longest."""
    examples = maker(tmp_path)(BATCH)
    assert examples is not None
    texts = [TEXTS[number] for number in BATCH.members]
    lengths = [len(tones(text)) for text in texts]
    assert examples.seconds == pytest.approx(sum(lengths) / 16000)
    assert examples.labels.frames.tolist() == [-(-n // 640) for n in lengths]
    assert examples.features.shape == (3, 4 * (-(-max(lengths) // 640) + 2), 80)
    expected = log_mel(tones(texts[1], 0), 2)
    found = examples.features[1, : len(expected)].numpy()
    # what is on disk has 16 bits: the quietest bands move
    assert np.abs(found - expected).mean() < 0.01
    targets = examples.labels.targets["letters"]
    assert [None if t is None else len(t) for t in targets] == [len(text) for text in texts]
    assert examples.labels.targets["phones"] == [None] * 3


def test_frame_labels_are_known_where_the_times_are(tmp_path: Path) -> None:
    """A phone of 0.1 s after 0.05 s; frames look 15 ms back. Without times nothing is claimed."""
    known = maker(tmp_path / "a", phones="t", frames=[2, 4, 1])(BATCH)
    unknown = maker(tmp_path / "b")(BATCH)
    assert known is not None
    assert unknown is not None
    labels = known.labels.frame_targets["phones"]
    assert labels[1, :6].tolist() == [0, 0, 1, 1, 0, 0]
    assert (labels[1, int(known.labels.frames[1]) :] == UNKNOWN).all()
    assert (unknown.labels.frame_targets["phones"] == UNKNOWN).all()


def test_noise_is_to_be_written_as_nothing(tmp_path: Path) -> None:
    """No unit for any head, the blank in every frame of known times, and a finite loss."""
    soundfile.write(tmp_path / "n.wav", np.random.default_rng(1).normal(0, 0.1, 9000), 16000)
    (tmp_path / "noise.jsonl").write_text('{"audio": "n.wav", "split": "train", "kind": "rain"}')
    noise = Augmentation(noise=str(tmp_path / "noise.jsonl"), wordless_probability=1.0)
    made = maker(tmp_path / "a", Augmenter(noise), phones="t", frames=[2, 4, 1])(BATCH)
    assert made is not None
    targets = [t for values in made.labels.targets.values() for t in values]
    assert [None if t is None else len(t) for t in targets] == [0] * len(targets)
    labels = made.labels.frame_targets["phones"]
    assert all((row[:n] == 0).all() for row, n in zip(labels, made.labels.frames, strict=True))
    logits = torch.zeros(len(labels), labels.shape[1], 5, requires_grad=True)
    loss = ctc(logits, made.labels.frames, made.labels.targets["letters"])
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss > 0
    assert (gradient[..., 0] <= 0).all()


def test_examples_depend_on_seed_utterance_and_pass_alone(tmp_path: Path) -> None:
    """Resuming makes them again; the next pass distorts anew."""
    make = maker(tmp_path, Augmenter(Augmentation()))
    first, again = make(BATCH), maker(tmp_path, Augmenter(Augmentation()))(BATCH)
    later = make(Batch(0, 1, BATCH.members))
    assert first is not None
    assert again is not None
    assert later is not None
    assert torch.equal(first.features, again.features)
    assert not torch.equal(first.features[:, :40], later.features[:, :40])


def test_views_of_an_utterance_differ_in_sound_alone(tmp_path: Path) -> None:
    """All utterances in one view, then in the other, with the same labels; two if undistorted."""
    plain = maker(tmp_path, None, 2)(BATCH)
    made = maker(tmp_path, Augmenter(Augmentation()), 2, phones="t", frames=[2, 4, 1])(BATCH)
    for examples in (plain, made):
        assert examples is not None
        labels, n = examples.labels, len(BATCH.members)
        assert labels.views == 2
        assert labels.frames[:n].equal(labels.frames[n:])
        rows = labels.frame_targets["phones"]
        assert rows[:n].equal(rows[n:])
        letters = [[] if t is None else t.tolist() for t in labels.targets["letters"]]
        assert letters[:n] == letters[n:]
        alike = examples.features[:n].equal(examples.features[n:])
        assert alike == (examples is plain)


def test_what_cannot_be_read_is_left_out_and_counted_once(tmp_path: Path) -> None:
    """However often its turn comes; the share decides whether the run may go on."""
    make = maker(tmp_path)
    (tmp_path / "train" / "0.wav").write_bytes(b"RIFF, and no more")
    soundfile.write(tmp_path / "train" / "4.wav", np.full(30_000, np.nan), 16000, subtype="FLOAT")
    for rounds in range(3):
        examples = make(Batch(0, rounds, BATCH.members))
        assert examples is not None
        assert len(examples.features) == 1
        assert torch.isfinite(examples.features).all()
    assert make.faults.counts == {"unreadable audio": 2}
    assert "train-0: " in make.faults.lines()[0]
    assert make.bad_share() == 2 / 8
    assert make(Batch(0, 3, (0, 4))) is None


def test_speech_that_became_too_fast_for_its_transcript_is_left_out(tmp_path: Path) -> None:
    """CTC would have no path; the rule's `fastest` should have prevented it."""
    make = maker(tmp_path, Augmenter(FASTER))
    long = make.stores[0].utterances[0].targets["letters"].repeat(4)
    make.stores[0].utterances[0].targets["letters"] = long  # type: ignore[index]
    for rounds in range(20):
        make(Batch(0, rounds, (0,)))
    assert make.faults.counts == {"transcript longer than the frames allow": 1}


def test_a_recipe_can_ask_for_views(tmp_path: Path) -> None:
    """Batches hold half as many utterances then, and what the views say comes together."""
    plain, wanted = (recipe(tmp_path / k, *more) for k, more in (("a", ()), ("b", (VIEWS,))))
    usual, paired = (
        make_trainer(chosen, prepare(chosen, {}), Processes(), None, print)
        for chosen in (plain, wanted)
    )
    assert paired.batches.bound == usual.batches.bound // 2
    assert not any(part.endswith(".views") for part in usual.step().losses)
    losses = [paired.step().losses for _ in range(20)][-1]
    assert 0 < losses["characters.views"] < 0.5 * losses["characters"]
