"""The losses against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.features import output_frames
from training.data import needed_frames
from training.losses import UNKNOWN, ctc, disagreement, frame_cross_entropy, frame_labels
from training.validation import best_path

UNITS = 3


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, list[int], int]:
    """Logits [T, 3], a target of units 1 and 2, and how many frames of them count."""
    T = draw(st.integers(1, 5))
    values = draw(st.lists(st.floats(-3, 3), min_size=T * UNITS, max_size=T * UNITS))
    target = draw(st.lists(st.integers(1, UNITS - 1), max_size=3))
    return (
        torch.tensor(values, dtype=torch.float64).reshape(T, UNITS),
        target,
        draw(st.integers(1, T)),
    )


def enumerated(logits: torch.Tensor, target: list[int], frames: int) -> float:
    """Minus the logarithm of the probability of all paths that read as the target."""
    log_probs = logits.log_softmax(-1)
    total = sum(
        math.exp(sum(float(log_probs[t, unit]) for t, unit in enumerate(path)))
        for path in itertools.product(range(UNITS), repeat=frames)
        if best_path(np.array(path)) == target
    )
    return -math.log(total) if total else math.inf


@given(problems())
def test_ctc_is_the_sum_over_all_paths(problem: tuple[torch.Tensor, list[int], int]) -> None:
    """Graves et al. 2006, equation 3, by brute force; frames beyond the length do not count."""
    logits, target, frames = problem
    loss = float(
        ctc(logits[None], torch.tensor([frames]), [torch.tensor(target, dtype=torch.int64)])
    )
    expected = enumerated(logits, target, frames)
    if needed_frames(np.array(target, int)) > frames:
        assert expected == math.inf
        assert loss == 0
    else:
        assert loss * max(1, len(target)) == pytest.approx(expected, abs=1e-6)


def test_rows_without_a_target_do_not_count() -> None:
    """A head that cannot write an utterance's text learns from the others."""
    logits = torch.randn(3, 6, UNITS, generator=torch.Generator().manual_seed(1))
    frames, one, two = torch.tensor([6, 4, 5]), torch.tensor([1, 2]), torch.tensor([2])
    both = ctc(logits, frames, [one, None, two])
    alone = [float(ctc(logits[k : k + 1], frames[k : k + 1], [t])) for k, t in ((0, one), (2, two))]
    assert float(both) == pytest.approx((2 * alone[0] + alone[1]) / 3, rel=1e-5)
    assert float(ctc(logits, frames, [None] * 3)) == 0


def test_a_target_that_does_not_fit_gives_no_infinite_gradient() -> None:
    """One bad transcript must not end a run."""
    logits = torch.zeros(1, 2, UNITS, requires_grad=True)
    ctc(logits, torch.tensor([2]), [torch.tensor([1, 1])]).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@given(problems(), st.integers(0, 99))
def test_views_are_drawn_to_each_other(
    problem: tuple[torch.Tensor, list[int], int], seed: int
) -> None:
    """Half of both divergences by their definition, over used frames, per unit; 0 if alike."""
    one, target, frames = problem
    other = torch.randn(one.shape, generator=torch.Generator().manual_seed(seed)).to(one)
    lengths, targets = torch.tensor([frames] * 2), [torch.tensor(target, dtype=torch.int64)] * 2
    p, q = (logits[:frames].softmax(-1) for logits in (one, other))
    expected = float(((p - q) * (p / q).log()).sum()) / 2 / max(1, len(target))
    for pair in ([one, other], [other, one]):
        found = float(disagreement(torch.stack(pair), lengths, targets))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    same = float(disagreement(torch.stack([one, one]), lengths, targets))
    assert same == pytest.approx(0, abs=1e-6)


def test_each_view_learns_from_the_other_as_it_is() -> None:
    """The gradient is that of a cross-entropy against what the other view says."""
    logits = torch.randn(2, 1, UNITS, generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    one = torch.tensor([1])
    disagreement(logits, torch.tensor([1, 1]), [one, one]).backward()  # type: ignore[no-untyped-call]
    p = logits.detach().softmax(-1)
    assert logits.grad is not None
    assert torch.allclose(logits.grad, (p - p.flip(0)) / 2, atol=1e-6)


def test_views_that_cannot_be_written_do_not_count() -> None:
    """As for the other losses of a head."""
    logits = torch.randn(4, 3, UNITS, generator=torch.Generator().manual_seed(1))
    frames, one = torch.tensor([3, 2, 3, 2]), torch.tensor([1])
    both = disagreement(logits, frames, [one, None] * 2)
    alone = disagreement(logits[::2], frames[::2], [one] * 2)
    assert float(both) == pytest.approx(float(alone), rel=1e-6)
    assert float(disagreement(logits, frames, [None] * 4)) == 0


def test_unknown_frames_teach_nothing() -> None:
    """Cross-entropy is the mean over known frames; none known is 0 with a gradient of 0."""
    logits = torch.randn(2, 4, UNITS, generator=torch.Generator().manual_seed(1))
    labels = torch.full((2, 3), UNKNOWN)
    assert float(frame_cross_entropy(logits, labels)) == 0
    labels[1, 2] = 2
    expected = -float(logits[1, 2].log_softmax(-1)[2])
    assert float(frame_cross_entropy(logits, labels)) == pytest.approx(expected)


@st.composite
def spoken(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Phones one after the other, with pauses."""
    phones, position = [], 0
    for name in draw(st.lists(st.sampled_from("AB"), min_size=1, max_size=6)):
        position += draw(st.integers(0, 1500))
        length = draw(st.integers(1, 4000))
        phones.append((name, position, position + length))
        position += length
    return phones


@given(spoken(), st.floats(0.8, 1.25), st.integers(0, 5000))
def test_a_frame_is_labelled_by_what_sounds_in_its_middle(
    phones: list[tuple[str, int, int]], speed: float, lead: int
) -> None:
    """Also when the recording was played faster and begins with silence."""
    number, samples = {"A": 1, "B": 2}, lead + int(phones[-1][2] / speed) + 700
    labels = frame_labels(phones, number, samples, speed, lead)
    assert len(labels) == output_frames(samples)
    for t, label in enumerate(labels.tolist()):
        middle = (640 * t - 240 + 320 - lead) * speed
        near = any(abs(middle - edge) < 1e-3 for _, *edges in phones for edge in edges)
        sounding = [number[name] for name, start, end in phones if start <= middle < end]
        assert near or label == (sounding or [0])[0]


def test_unknown_phones_and_recordings_are_unknown() -> None:
    """No phone times, or a phone that the lexicon does not have: no claim is made."""
    assert (frame_labels([], {}, 6400, 1, 0) == UNKNOWN).all()
    labels = frame_labels([("A", 0, 1280), ("X", 1280, 2560)], {"A": 1}, 3200, 1, 0)
    assert labels.tolist() == [1, 1, UNKNOWN, UNKNOWN, 0]
