"""API keys: made at random, kept as hashes, found wherever existing clients put them."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers

from asr.errors import ConfigError
from server import keys

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=64)


@given(st.lists(st.tuples(NAMES, st.text(max_size=40)), min_size=1, max_size=8))
def test_every_key_opens_under_its_name_and_no_other_does(pairs: list[tuple[str, str]]) -> None:
    """Whatever the keys are: a line admits exactly the key that it was made of."""
    known = dict((key, name) for name, key in pairs)  # noqa: C402 - the last name of a key counts
    kept = keys.parse("\n".join(keys.line_of(name, key) for name, key in pairs), "a file")
    assert len(kept) == len(pairs)
    for key, name in known.items():
        assert kept.holder(key) == name
        assert kept.holder(f"{key}x") == known.get(f"{key}x")


@given(st.text())
def test_nothing_opens_by_chance(key: str) -> None:
    """Any text at all can be offered; it neither opens nor breaks anything."""
    assert keys.parse(keys.line_of("one", keys.make_key()), "a file").holder(key) is None


def test_a_key_is_new_each_time_and_says_what_it_is() -> None:
    """256 random bits; the prefix lets scanners find a leaked one."""
    made = {keys.make_key() for _ in range(20)}
    assert len(made) == 20
    assert {(len(key), key[:4]) for key in made} == {(47, "asr_")}


def test_a_line_holds_no_key() -> None:
    """Who reads the file cannot connect."""
    key = keys.make_key()
    line = keys.line_of("shop", key)
    assert key not in line
    assert line.startswith("shop sha256:")
    assert keys.parse(line, "a file").holder(line.partition(":")[2]) is None


def test_a_variable_holds_lines_between_commas() -> None:
    """Where there are no files, as in many containers."""
    first, second = keys.make_key(), keys.make_key()
    text = f"{keys.line_of('a', first)}, {keys.line_of('b', second)}"
    kept = keys.read(None, {keys.ENVIRONMENT: text})
    assert kept is not None
    assert (kept.holder(first), kept.holder(second)) == ("a", "b")
    assert keys.read(None, {}) is None


def test_a_name_may_have_two_keys() -> None:
    """Keys are replaced without an interruption: the new one comes before the old one goes."""
    old, new = keys.make_key(), keys.make_key()
    lines = ["# of the shop", "", keys.line_of("shop", old), keys.line_of("shop", new)]
    kept = keys.parse("\n".join(lines), "a file")
    assert (kept.holder(old), kept.holder(new)) == ("shop", "shop")


@pytest.mark.parametrize(
    "text", ["asr_secret", "shop asr_secret", "shop sha256:12", f"a b sha256:{'0' * 64}"]
)
def test_a_line_that_is_none_is_named_by_number_and_not_shown(text: str) -> None:
    """It may be a key in the clear, and errors go to logs."""
    with pytest.raises(ConfigError, match=r"^keys\.txt: line 2 is not NAME sha256:HEX") as caught:
        keys.parse(f"# ours\n{text}", "keys.txt")
    assert "secret" not in str(caught.value)


def test_no_key_at_all_is_an_error(tmp_path: Path) -> None:
    """An empty file does not open the server to everybody, nor lock everybody out in silence."""
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="no key in there"):
        keys.read(tmp_path / "empty", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        keys.read(tmp_path / "absent", {keys.ENVIRONMENT: keys.line_of("a", "b")})
    with pytest.raises(ConfigError, match="no key in there"):
        keys.read(None, {keys.ENVIRONMENT: ""})


def test_a_new_file_of_keys_is_its_owners_alone(tmp_path: Path) -> None:
    """And a line is added to an old one, even where its last line is not ended."""
    path = tmp_path / "keys"
    first, second = keys.make_key(), keys.make_key()
    keys.append(path, keys.line_of("a", first))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text().rstrip("\n"))
    keys.append(path, keys.line_of("b", second))
    kept = keys.read(path, {})
    assert kept is not None
    assert (kept.holder(first), kept.holder(second)) == ("a", "b")
    with pytest.raises(ConfigError, match="cannot be added"):
        keys.append(tmp_path / "no" / "folder", "a")


@pytest.mark.parametrize("name", ["", "a b", "a,b", "ä", "x" * 65, "a\nb"])
def test_a_name_that_would_break_the_line_is_refused(name: str) -> None:
    """Names stand in the file and in the log."""
    with pytest.raises(ConfigError, match="key name"):
        keys.line_of(name, "key")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"Authorization": "Bearer KEY"}),
        ("/", {"Authorization": "Token KEY"}),
        ("/", {"authorization": "bearer  KEY"}),
        ("/", {"X-API-Key": "KEY"}),
        ("/?model=x&key=KEY", {}),
        ("/", {"Sec-WebSocket-Protocol": "token, KEY"}),
        ("/", {"Sec-WebSocket-Protocol": "bearer,KEY"}),
        ("/", {"Sec-WebSocket-Protocol": "realtime, openai-insecure-api-key.KEY"}),
    ],
)
def test_a_key_is_found_where_clients_put_it(path: str, headers: dict[str, str]) -> None:
    """Ours, Deepgram's and OpenAI's, for programs and for browsers."""
    assert list(keys.offered(path, Headers(headers))) == ["KEY"]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"Authorization": "Basic KEY"}),
        ("/", {"Authorization": "KEY"}),
        ("/?monkey=KEY", {}),
        ("/", {"Sec-WebSocket-Protocol": "realtime, KEY"}),
        ("/?" + "a=1&" * 200 + "key=KEY", {}),
    ],
)
def test_nothing_else_is_taken_for_a_key(path: str, headers: dict[str, str]) -> None:
    """Something that happens to stand there is not tried."""
    assert list(keys.offered(path, Headers(headers))) == []
