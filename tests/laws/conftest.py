"""Every law is held over every cell and every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings

from tests.tiny import MODELS, recognizer

if TYPE_CHECKING:
    import asr

# Few examples of each law for each of ten recognisers: together many, in little time. Explaining a
# failure takes minutes and tells little about sounds.
settings.register_profile(
    "laws",
    settings.get_profile("ours"),
    max_examples=8,
    phases=[phase for phase in Phase if phase is not Phase.explain],
)


@pytest.fixture(scope="session", params=MODELS, ids="-".join)
def made(request: pytest.FixtureRequest) -> asr.Recognizer:
    """A tiny recogniser."""
    return recognizer(*request.param)
