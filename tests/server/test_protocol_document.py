"""docs/protocol.md keeps its word: every example goes through the real encoder and decoder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from asr.conversation import Conversation
from asr.errors import ProtocolError, ServerError
from asr.state import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS, Options
from asr.transcript import Alternative, Final, Partial, Word
from server import flac, formats, native, opus
from server.dialogue import (
    Configured,
    Done,
    Failed,
    Flushed,
    Heard,
    ModelInfo,
    Pong,
    Ready,
    Reply,
    Resume,
    Saved,
    SlowDown,
    Start,
)
from server.limits import Limits
from server.line import JOB_BYTES
from server.native import Native
from server.protocols import wire
from server.snapshot import KEPT_WORDS, Seal

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/protocol.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```json (client|server)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CLIENT = [text for side, text in EXAMPLES if side == "client"]
SERVER = [json.loads(text) for side, text in EXAMPLES if side == "server"]
WORD = Word("w", 0, 640, 0.5)
REPLIES: list[Reply] = [
    Ready(0, ModelInfo("m", "1", 80, 160), ("x",), "token", resumable=True),
    Saved(1),
    Heard(Partial(0, "a", "b", 1), 0.0),
    Heard(Final(0, (WORD,), "finish", 1, (Alternative((WORD,), -1.0),)), 0.0),
    Flushed(1, (WORD,), 1),
    Configured(("x",)),
    Pong(1),
    SlowDown(1),
    Done(1, 16000, 0, 0.0),
    Failed(ProtocolError("x")),
]


def kind(text: str) -> str:
    """The type of an example."""
    return str(json.loads(text)["type"])


def shape(value: Any) -> Any:
    """Names, order and kinds of a message, without its values."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value)


def test_no_example_is_untagged() -> None:
    """An example that no test reads may be wrong for years."""
    assert TEXT.count("```json") == len(EXAMPLES)


def test_every_message_of_the_client_has_an_example() -> None:
    """And no example shows a message that there is not."""
    kinds = [kind(text) for text in CLIENT]
    assert kinds == ["start", "start", "flush", "configure", "ping", "ack", "finish"]
    assert set(kinds) == {"start", *Native._handlers}  # noqa: SLF001 - the list itself


@pytest.mark.parametrize("text", CLIENT, ids=kind)
def test_the_server_understands_the_clients_example(text: str) -> None:
    """To the last field: nothing in an example is unsupported."""
    conversation = Native()
    if kind(text) != "start":
        conversation.receive(CLIENT[0])
    (command,) = conversation.receive(text)
    assert getattr(command, "unsupported", ()) == ()
    if isinstance(command, Resume):
        assert len(command.token) == len(Seal().token())
    if isinstance(command, Start):
        assert command.endpoint_ms == Options().endpoint_ms


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_the_servers_example_is_what_the_server_sends(reply: Reply) -> None:
    """Same fields, same order, same kinds of values."""
    conversation = Native()
    conversation.receive(CLIENT[0])
    sent = json.loads(conversation.encode(reply, 1.0))
    examples = [example for example in SERVER if example["type"] == sent["type"]]
    assert [shape(example) for example in examples] == [shape(sent)]


def test_every_example_of_the_server_is_one_that_it_sends() -> None:
    """Nothing is promised that never comes."""
    assert len(SERVER) == len(REPLIES)


@pytest.mark.parametrize("example", SERVER, ids=lambda example: example["type"])
def test_our_client_understands_the_servers_example(example: dict[str, Any]) -> None:
    """Both ends read the same page."""
    conversation = Conversation(16000, Options())
    if example["type"] == "error":
        with pytest.raises(ServerError, match=re.escape(example["message"])):
            conversation.receive(json.dumps(example))
        return
    event = conversation.receive(json.dumps(example))
    assert isinstance(event, Partial | Final) == (example["type"] in {"partial", "final"})
    if isinstance(event, Final):
        assert (event.text, event.start, event.end) == (
            example["text"],
            example["start"],
            example["end"],
        )


def test_the_error_example_is_a_real_one() -> None:
    """Word for word."""
    (example,) = [e for e in SERVER if e["type"] == "error"]
    start = json.loads(CLIENT[0])
    start["format"]["encoding"] = "mp3"
    with pytest.raises(ProtocolError) as caught:
        Native().receive(json.dumps(start))
    assert (str(caught.value), caught.value.code) == (example["message"], example["code"])


def test_the_table_of_errors_names_every_code_with_its_close() -> None:
    """Those in the sources, and no others."""
    listed = dict(re.findall(r"^\| `(\w+)` \| (1\d\d\d) \|", TEXT, re.MULTILINE))
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "server").glob("*.py"))
    raised = dict(re.findall(r'"(\w+)",\s*(10\d\d)\b', sources))
    assert listed == raised


def test_the_numbers_in_the_text_are_those_of_the_program() -> None:
    """Limits that a client must know."""
    limits = Limits()
    assert limits.message_bytes == limits.queue_bytes == 2**20
    assert "at most 1 MiB" in TEXT
    assert f"and {JOB_BYTES} more" in TEXT
    assert f"a whole number from {formats.MIN_RATE} to {formats.MAX_RATE};" in TEXT
    assert f"1 to {formats.MAX_CHANNELS}, interleaved" in TEXT
    assert f"{wire.MAX_PHRASES} texts of at most {wire.MAX_PHRASE} characters" in TEXT
    assert f"not longer than {flac.MAX_BLOCK} samples" in TEXT
    assert f"in stretches of {opus.STRETCH // opus.RATE} s" in TEXT
    assert f"the last {opus.SETTLING * 1000 // opus.RATE} ms before it" in TEXT
    for encoding in formats.ENCODINGS:
        assert f"`{encoding}`" in TEXT
    assert f"{MIN_ENDPOINT_MS} to {MAX_ENDPOINT_MS}; default {Options().endpoint_ms}" in TEXT
    assert f"at most {native.MAX_ID} characters" in TEXT
    assert f"nothing was sent within {limits.start_seconds:g} s" in TEXT
    assert f"for {limits.resume_seconds:g} s (`--resume-seconds`)" in TEXT
    assert f"the last {KEPT_WORDS} words" in TEXT
    assert f"of more than {native.MAX_START} characters" in TEXT
    assert f"takes nothing for {limits.write_seconds:g} s" in TEXT
    assert f"for {limits.silent_seconds:g} s after {limits.silent_seconds:g} s" in TEXT
