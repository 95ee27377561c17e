"""The recogniser's log-mel features in PyTorch, for batches of whole utterances.

Tested equal to `asr.features`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's custom

from asr.features import BANDS, FFT, FLOOR, HOP, LOOK_BACK, WINDOW, mel_filters

MARGIN = (FFT - WINDOW) // 2  # zeros of the window on either side inside the FFT


class LogMel(torch.nn.Module):
    """Normalised log-mel of padded batches of samples.

    Args:
        mean: of each band, float32 [80].
        deviation: of each band.
    """

    window: Tensor
    filters: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        super().__init__()
        window = torch.hann_window(WINDOW, periodic=True)
        self.register_buffer("window", F.pad(window, (MARGIN, MARGIN)))
        self.register_buffer("filters", torch.from_numpy(mel_filters().copy()))
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.as_tensor(deviation, dtype=torch.float32))

    def forward(self, samples: Tensor, frames: int) -> Tensor:
        """Features [B, frames, 80] of samples [B, n]; zeros stand before and behind them."""
        before = LOOK_BACK + MARGIN
        needed = (frames - 1) * HOP + FFT
        padded = F.pad(samples, (before, max(0, needed - samples.shape[1] - before)))
        rows = padded.unfold(1, FFT, HOP)[:, :frames]
        power = torch.fft.rfft(rows * self.window).abs().square()
        mel: Tensor = power @ self.filters
        return (mel.clamp(min=FLOOR).log() - self.mean) / self.deviation


def statistics(samples: Tensor, log_mel: LogMel) -> tuple[float, Tensor, Tensor]:
    """Count, sum and sum of squares per band of the features of samples [n]."""
    frames = max(1, samples.shape[0] // HOP)
    x = log_mel(samples[None], frames)[0].double()
    return float(frames), x.sum(0), x.square().sum(0)


def neutral() -> LogMel:
    """Log-mel that is not normalised."""
    return LogMel(np.zeros(BANDS, np.float32), np.ones(BANDS, np.float32))
