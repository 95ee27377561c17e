"""What a channel adds is taken off; loudness, silence and the future play no part in it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.mean_spectrum import PRIOR_BLOCKS, follow, spectra, without_mean

LONGEST = 50.0


def speech(blocks: int, level: float = 1.0, seed: int = 0, frames: int = 8) -> torch.Tensor:
    """Features [1, F, 80] of a loudness."""
    generator = torch.Generator().manual_seed(seed)
    return level + 0.5 * torch.randn(1, frames * blocks, 80, generator=generator)


def channel(seed: int = 1) -> torch.Tensor:
    """What a microphone adds to every frame [80], no louder and no quieter on the whole."""
    shape = torch.randn(80, generator=torch.Generator().manual_seed(seed))
    return shape - shape.mean()


@given(blocks=st.integers(1, 30), missing=st.sampled_from([0, 4]), level=st.floats(-2, 2))
@settings(max_examples=25)
def test_utterances_and_blocks_agree(blocks: int, missing: int, level: float) -> None:
    """A stream that is stepped block by block gets the features of the whole utterance."""
    x = speech(blocks, level)
    x = x[:, : x.shape[1] - missing]
    mean, heard = torch.zeros(1, 80), torch.zeros(1, 1)
    parts = []
    for block in torch.split(x, 8, 1):
        parts.append(block - mean[:, None])
        if block.shape[1] == 8:
            each, share = spectra(block)
            mean, heard = follow(mean, heard, each[:, 0], share[:, 0], LONGEST)
    torch.testing.assert_close(without_mean(x, LONGEST), torch.cat(parts, 1), atol=1e-5, rtol=0)


@given(seed=st.integers(1, 99), blocks=st.integers(1, 40))
@settings(max_examples=25)
def test_a_channel_is_taken_off_as_speech_is_heard(seed: int, blocks: int) -> None:
    """What is left of it is the share of the prior, and less the longer somebody speaks."""
    x, added = speech(blocks + 1), channel(seed)
    share = spectra(x)[1].sum() - spectra(x)[1][:, -1].sum()
    left = without_mean(x + added, 1e9)[:, -8:] - without_mean(x, 1e9)[:, -8:]
    torch.testing.assert_close(
        left, (added * PRIOR_BLOCKS / (PRIOR_BLOCKS + share)).expand(1, 8, 80), atol=1e-4, rtol=0
    )


def test_silence_is_no_speech() -> None:
    """However long, it says next to nothing of the channel, and what was known stays known."""
    silence = speech(1000, -5.0)
    assert without_mean(silence, LONGEST).sub(silence).abs().max() < 1e-3
    x = torch.cat([speech(60) + channel(), silence], 1)
    taken = x - without_mean(x, LONGEST)
    torch.testing.assert_close(taken[:, -8:], taken[:, 8 * 60 : 8 * 61], atol=1e-2, rtol=0)


def test_loudness_is_left_as_it_is() -> None:
    """The mean of every frame stays: whether somebody speaks is heard by it."""
    x = speech(40, 0.7) + channel()
    torch.testing.assert_close(without_mean(x, LONGEST).mean(-1), x.mean(-1), atol=1e-5, rtol=0)


def test_another_voice_is_followed() -> None:
    """What was heard long ago is forgotten: after it the new channel is what is taken off."""
    x = torch.cat([speech(200) + channel(1), speech(400, seed=5) + channel(2)], 1)
    taken = (x - without_mean(x, LONGEST))[0, -1]
    assert (taken - channel(2)).abs().mean() < 0.1 * channel(2).abs().mean()


def test_an_utterance_may_begin_as_if_its_voice_were_known() -> None:
    """So a network learns both: what the first words of a stream are like, and all later ones."""
    x = torch.cat([speech(20) + channel()] * 2)
    cold, warm = without_mean(x, LONGEST, warm=torch.tensor([False, True]))
    torch.testing.assert_close(cold, without_mean(x, LONGEST)[0])
    taken = x[1, 0] - warm[0]
    assert (taken - channel()).abs().max() < 0.2
