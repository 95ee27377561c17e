"""A tiny bundle and a recording, which the commands are run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import soundfile

from tests.tiny import sound, write_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a tiny bundle, whose words are nonsense but always the same."""
    return str(write_bundle(tmp_path_factory.mktemp("tiny"), "gru").path)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording at 48 kHz, in stereo, in which that model hears many words."""
    path = tmp_path_factory.mktemp("speech") / "long talk.flac"
    mono = sound(12.0, 3).repeat(3) * 0.5
    soundfile.write(path, mono[:, None].repeat(2, 1), 48000)
    return path
