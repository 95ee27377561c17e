"""Streaming mean normalisation: what voice, microphone and room add to every frame is taken off.

The mean spectrum of the speech so far, without its loudness, is subtracted from each block of
features. It begins at that of the training speech (0, features being normalised), which counts as
`PRIOR_BLOCKS` heard ones, and follows the last seconds once so many were heard. Blocks of silence
hardly count. A block's own features do not take part in its mean: nothing is waited for.

Cumulative mean normalisation with a prior, Prabhavalkar et al. 2013, "Automatic gain control and
multi-style training for robust small-footprint keyword spotting with deep neural networks" tells of
the like; Kaldi's `online-cmvn` has the prior and the forgetting (Povey et al. 2011).

Sizes: B utterances or streams, K blocks, M mel bands.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from asr.acoustic import BLOCK_FRAMES

BLOCK_SECONDS: Final = 0.08
PRIOR_BLOCKS: Final = 25.0  # 2 s
SPEECH: Final = -0.5  # level of a block, mean of its normalised features, that counts by half
STEEPNESS: Final = 4.0  # of what a block counts, per unit of its level


def spectra(features: Tensor) -> tuple[Tensor, Tensor]:
    """What each block adds to the mean, and how much it counts.

    Args:
        features: normalised log-mel [B, 8 K, M].

    Returns:
        Mean spectra without their level [B, K, M], and shares from 0 to 1 [B, K, 1].
    """
    B, F, M = features.shape
    blocks = features.reshape(B, F // BLOCK_FRAMES, BLOCK_FRAMES, M).mean(2)
    level = blocks.mean(-1, keepdim=True)
    return blocks - level, torch.sigmoid(STEEPNESS * (level - SPEECH))


def follow(
    mean: Tensor, heard: Tensor, spectrum: Tensor, share: Tensor, longest: float
) -> tuple[Tensor, Tensor]:
    """The mean and the blocks it stands for, after one more block.

    Args:
        mean: [B, M].
        heard: blocks that count in it, beside the prior [B, 1].
        spectrum: of the block [B, M].
        share: how much it counts [B, 1].
        longest: blocks, beyond which what was heard before is forgotten.
    """
    heard = torch.clamp(heard + share, max=longest)
    return mean + share / (heard + PRIOR_BLOCKS) * (spectrum - mean), heard


@torch.no_grad()
def without_mean(features: Tensor, longest: float, *, warm: Tensor | None = None) -> Tensor:
    """Whole utterances, each block without the mean spectrum of those before it.

    Args:
        features: normalised log-mel [B, F, M], F a multiple of 4.
        longest: as in `follow`.
        warm: utterances that begin as if the same voice had been heard for long [B], boolean; the
            others begin with nothing heard.

    Returns:
        Features of the same shape.
    """
    odd = -features.shape[1] % BLOCK_FRAMES
    whole = torch.cat([features, features[:, -1:].expand(-1, odd, -1)], 1) if odd else features
    each, shares = spectra(whole)
    mean, heard = torch.zeros_like(each[:, 0]), torch.zeros_like(shares[:, 0])
    if warm is not None:
        known = warm[:, None].to(each.dtype)
        mean = known * (each * shares).sum(1) / shares.sum(1).clamp(min=1e-3)
        heard = known * longest
    means = []
    for spectrum, share in zip(each.unbind(1), shares.unbind(1), strict=True):
        means.append(mean)
        mean, heard = follow(mean, heard, spectrum, share, longest)
    taken = torch.stack(means, 1).repeat_interleave(BLOCK_FRAMES, 1)
    return features - taken[:, : features.shape[1]]
