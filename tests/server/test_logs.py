"""The log: one line an event, whatever is in it, and nothing that was said."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import logs
from tests.server.sockets import in_a_loop, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was before afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], logger.level = handlers, level


def record(message: str, **fields: object) -> logging.LogRecord:
    """What `tell` makes."""
    made = logging.LogRecord("x", logging.INFO, "", 0, message, (), None)
    made.fields = fields
    return made


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_event_is_one_line_whatever_is_in_it(message: str, value: str) -> None:
    """Nobody can write lines into the log of others, with a name of control characters say."""
    assert "\n" not in logs.Human().format(record(message, a=value))
    line = logs.JsonLines().format(record(message, a=value))
    assert "\n" not in line
    read = json.loads(line)
    assert (read["message"], read["a"], read["level"]) == (message, value, "info")


def test_people_read_the_message_first() -> None:
    """Fields behind it, quoted where they would run together; warnings say so in front."""
    made = record("session closed", session="ab12", code=1000, seconds=1.23456, path="a b")
    expected = 'session closed session=ab12 code=1000 seconds=1.235 path="a b"'
    assert logs.Human().format(made) == expected
    made.levelno, made.levelname = logging.WARNING, "WARNING"
    assert logs.Human().format(made) == f"warning: {expected}"


@pytest.mark.parametrize("form", logs.FORMATS)
def test_a_failure_of_ours_comes_with_its_trace(form: str, root: logging.Logger) -> None:
    """In JSON it is a field: the line stays one."""
    stream = io.StringIO()
    logs.configure(form, stream)
    try:
        raise ArithmeticError("poison")  # noqa: TRY301
    except ArithmeticError:
        root.exception("recognition failed")
    said = stream.getvalue()
    assert "recognition failed" in said
    assert "ArithmeticError: poison" in said
    assert len(said.splitlines()) == 1 or form == "human"


@pytest.mark.parametrize("transcripts", [False, True])
@in_a_loop
async def test_what_was_said_is_logged_only_when_asked_for(*, transcripts: bool) -> None:
    """Speech is private; who is there, how long and how it ended, is not."""
    logger, stream = logging.getLogger("server.app"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        async with serving(transcripts=transcripts) as service:
            await service.recognise("ab c")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["message"] for event in said if event["message"] != "final"] == [
        "session opened",
        "session closed",
    ]
    assert (said[0]["path"], said[0]["address"]) == ("/v1/stream", "127.0.0.1")
    assert said[-1]["code"] == 1000
    texts = [event["text"] for event in said if event["message"] == "final"]
    assert texts == (["a b", "c"] if transcripts else [])
