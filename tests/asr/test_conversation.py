"""The client's side of a session without I/O: what is sent, and sent again, is the audio."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import conversation as room
from asr.conversation import Conversation, PassingError
from asr.errors import AudioError, ServerError
from asr.state import Options
from asr.transcript import Final, Partial

NAME = "T"


def ready(position: int = 0, *, resumable: bool = True) -> str:
    """What a server says first."""
    fields = {"type": "ready", "position": position, "token": NAME, "resumable": resumable}
    return json.dumps(fields)


def saved(position: int) -> str:
    """What it says now and then."""
    return json.dumps({"type": "saved", "position": position})


def final(segment: int) -> str:
    """A segment's end."""
    word = {"word": "w", "start": 0, "end": 1, "confidence": 0.5}
    fields = {"segment": segment, "words": [word], "reason": "endpoint", "position": 1}
    return json.dumps({"type": "final", **fields})


def partial(segment: int) -> str:
    """A segment's middle."""
    fields = {"segment": segment, "stable": "a", "tentative": "", "position": 1}
    return json.dumps({"type": "partial", **fields})


def opened(**options: Any) -> Conversation:
    """A session at its beginning."""
    conversation = Conversation(16000, Options())
    conversation.start()
    conversation.receive(ready(**options))
    return conversation


@settings(max_examples=60)
@given(st.data())
def test_whatever_is_cut_and_saved_the_server_gets_every_sample_in_order(
    data: st.DataObject,
) -> None:
    """A server that keeps what it saved, and forgets what it did not: nothing twice, no hole."""
    conversation = opened()
    audio = np.arange(1000, dtype=np.float32)
    given_, server, kept = 0, np.zeros(0, np.float32), 0
    steps = data.draw(st.lists(st.sampled_from(["give", "send", "save", "cut"]), max_size=40))
    for step in [*steps, "give", "cut"]:
        if step == "give":
            size = data.draw(st.integers(0, 120))
            conversation.audio(audio[given_ : given_ + size])
            given_ = min(given_ + size, len(audio))
        elif step == "send":
            message = conversation.next_message()
            if isinstance(message, bytes):
                server = np.concatenate((server, np.frombuffer(message, np.float32)))
        elif step == "save":
            kept = data.draw(st.integers(kept, len(server)))
            conversation.receive(saved(kept))
        else:
            place = data.draw(st.integers(kept, len(server)))
            server = server[:place]
            asked = json.loads(conversation.start())["resume"]
            assert asked == {"token": NAME, "position": conversation.sent, "segments": 0}
            conversation.receive(ready(place))
    while isinstance(message := conversation.next_message(), bytes):
        server = np.concatenate((server, np.frombuffer(message, np.float32)))
    assert server.tolist() == audio[:given_].tolist()
    assert conversation.sent == conversation.heard == given_


def test_finish_is_said_again_on_every_connection_and_last() -> None:
    """An end that was lost is announced anew."""
    conversation = opened()
    conversation.audio(np.zeros(3, np.float32))
    conversation.finish()
    assert conversation.next_message() == bytes(12)
    assert conversation.next_message() == '{"type":"finish"}'
    assert conversation.next_message() is None
    conversation.start()
    conversation.receive(ready(3))
    assert conversation.next_message() == '{"type":"finish"}'


def test_finals_are_acknowledged_and_none_comes_twice() -> None:
    """What belongs to a segment that is there already is passed over."""
    conversation = opened()
    assert isinstance(conversation.receive(final(0)), Final)
    assert conversation.next_message() == '{"type":"ack","segments":1}'
    assert conversation.next_message() is None
    assert json.loads(conversation.start())["resume"]["segments"] == 1
    conversation.receive(ready())
    assert conversation.receive(final(0)) is None
    assert conversation.receive(partial(0)) is None
    assert isinstance(conversation.receive(partial(1)), Partial)
    assert isinstance(conversation.receive(final(1)), Final)


def test_a_server_that_cannot_resume_costs_no_memory() -> None:
    """What was sent to it is gone."""
    conversation = opened(resumable=False)
    conversation.audio(np.zeros(1000, np.float32))
    while conversation.next_message() is not None:
        pass
    assert not conversation._away  # noqa: SLF001 - nothing else tells
    assert "resume" not in json.loads(conversation.start())


def test_what_is_kept_is_bounded_and_a_cut_beyond_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that saves nothing for minutes does not fill the client's memory."""
    monkeypatch.setattr(room, "KEPT", 100)
    conversation = opened()
    for _ in range(50):
        conversation.audio(np.zeros(10, np.float32))
        conversation.next_message()
        assert sum(map(len, conversation._away)) <= 400  # noqa: SLF001 - bytes; nothing else tells
    conversation.start()
    with pytest.raises(ServerError, match=r"goes on at sample 399; those kept .* are 400 to 500"):
        conversation.receive(ready(399))
    assert not conversation.resumable


def test_a_server_that_is_ahead_of_the_client_is_not_believed() -> None:
    """It would skip what was never sent."""
    conversation = opened()
    conversation.audio(np.zeros(10, np.float32))
    with pytest.raises(ServerError, match="goes on at sample 1"):
        conversation.receive(ready(1))


@pytest.mark.parametrize(
    ("code", "passing"), [("resume_unavailable", True), ("resume_unknown", False)]
)
def test_errors_that_may_be_over_in_a_moment_are_told_from_others(
    code: str,
    *,
    passing: bool,
) -> None:
    """The first are worth another try."""
    error = json.dumps({"type": "error", "code": code, "message": "why"})
    with pytest.raises(ServerError, match=rf"server: why \({code}\)") as caught:
        opened().receive(error)
    assert isinstance(caught.value, PassingError) == passing


def test_samples_of_another_type_are_refused_where_they_are_given() -> None:
    """Not later, by the one who sends."""
    with pytest.raises(AudioError):
        opened().audio(np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    ("unsupported", "named"),
    [
        (["options.phrases"], "no language"),
        (["x", "options.phrases[1]"], "all words of 'xylo fon'"),
    ],
)
def test_phrases_that_the_server_cannot_expect_are_an_error(
    unsupported: list[str], named: str
) -> None:
    """As they are of a model here: in silence nobody would know why they are not found."""
    message = json.dumps({"type": "ready", "position": 0, "unsupported": unsupported})
    wished = Conversation(16000, Options(phrases=("new york", "xylo fon")))
    assert json.loads(wished.start())["options"]["phrases"] == ["new york", "xylo fon"]
    with pytest.raises(ServerError, match=named):
        wished.receive(message)
    plain = Conversation(16000, Options())
    plain.receive(message)
    assert plain.ready
