"""The server over real networks in ONNX Runtime: law 3 (company) from socket to socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from asr.client import stream
from asr.transcript import Event, Final
from tests import tiny
from tests.server.sockets import in_a_loop, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asr.acoustic import Array


async def pieces(samples: Array, seed: int) -> AsyncIterator[Array]:
    """Samples in pieces of random sizes, every speaker at its own pace."""
    random = np.random.default_rng(seed)
    first = 0
    while first < len(samples):
        size = int(random.integers(1, 8000))
        yield samples[first : first + size]
        first += size
        for _ in range(int(random.integers(5))):
            await asyncio.sleep(0)


async def heard(url: str, samples: Array, seed: int) -> list[Event]:
    """All finals that a server says to these samples."""
    return [e async for e in stream(url, pieces(samples, seed), 16000) if isinstance(e, Final)]


@pytest.mark.parametrize("cell", tiny.CELLS)
@in_a_loop
async def test_sessions_in_company_hear_what_each_hears_offline(cell: str) -> None:
    """Eight at once, int8: words, times and confidences are those of `transcribe`, to the bit."""
    recognizer = tiny.recognizer(cell, "int8")
    recordings = [tiny.sound(1 + number % 3, number) for number in range(8)]
    async with serving(recognizer) as service:
        said = await asyncio.gather(
            *(heard(service.url, samples, n) for n, samples in enumerate(recordings))
        )
    for samples, events in zip(recordings, said, strict=True):
        assert tuple(events) == recognizer.transcribe(samples).segments
    assert sum(len(events) for events in said) >= 5
