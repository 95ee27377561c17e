"""`asr loadtest`, against `asr serve` as a process of its own."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

from asr import commands
from server import keys
from tests.server.command import serve
from tests.server.tones import sing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# However busy the machine is that runs the tests: nothing here is about speed.
PATIENT = ("--late-ms", "60000", "--p99-ms", "60000")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that takes two sessions at a time."""
    with serve("--max-sessions", "2", "--max-connects", "1000") as command:
        yield command.url


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two recordings of less than a second."""
    folder = tmp_path_factory.mktemp("songs")
    for song in ("ab", "cab"):
        soundfile.write(folder / f"{song}.wav", sing(song), 16_000)
    return [str(path) for path in sorted(folder.glob("*.wav"))]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are for servers to settle are not for tests."""
    monkeypatch.setattr("asr.loadtest.run.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("asr.loadtest.run.AGAIN_SECONDS", 0.1)


def loadtest(*arguments: str) -> int:
    """Run it for a moment."""
    return commands.main(["loadtest", *arguments, "--seconds", "0.8", "--ramp", "0.1"])


def test_streams_are_held_and_their_words_compared(
    url: str, songs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that a report needs, as JSON, and a picture."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    picture = tmp_path / "load.png"
    call = ("--url", url, *songs, "--streams", "2", *PATIENT, "--json", "--plot", str(picture))
    code = loadtest(*call)
    said = capsys.readouterr()
    found: dict[str, Any] = json.loads(said.out)
    assert (found["errors"], found["differing"], found["void"]) == ({}, 0, False)
    assert code == (0 if found["sound"] else 1)
    assert found["sessions"] >= 2
    assert found["compared"] >= 4
    for name in ("partial_ms", "final_ms", "late_ms"):
        assert 0 <= found[name]["p50"] <= found[name]["p99"] <= found[name]["max"]
    assert found["server"]["processes"] == 1
    assert found["server"]["processor"] > 0
    assert 20 < found["server"]["idle_mb"] <= found["server"]["memory_mb"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "2 recordings, first one session alone" in said.err


def test_the_report_for_people_tells_the_same(
    url: str, songs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In lines; without an option one stream speaks."""
    loadtest("--url", url, *songs, *PATIENT)
    said = capsys.readouterr().out.splitlines()
    lines = {line[:19].strip(): line[19:] for line in said}
    assert lines["streams"].startswith("1 asked for")
    assert lines["failed"] == "none"
    assert lines["words"].startswith("0 of ")
    assert lines["feeder"].startswith("fine")
    assert lines["server"].endswith("before")


def test_refused_sessions_are_counted_and_fail_the_test(
    url: str, songs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The server takes two; of three, one is refused."""
    assert loadtest("--url", url, *songs, "--streams", "3", *PATIENT, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert set(found["errors"]) <= {"HTTP 503", "HTTP 429"}
    assert sum(found["errors"].values()) >= 1
    assert not found["sound"]
    assert found["differing"] == 0


def test_the_most_streams_are_found(
    url: str, songs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two, since the third is refused; each trial is told."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    picture = tmp_path / "find.png"
    call = ("--url", url, songs[0], "--find", "--streams", "3", *PATIENT, "--json")
    loadtest(*call, "--plot", str(picture))
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["streams"] <= 2
    assert found["trials"][0]["streams"] == 3
    assert all(trial["errors"] for trial in found["trials"] if trial["streams"] > 2)
    assert "3 streams: fail" in said.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_late_clients_are_told_and_fail_the_test(
    url: str, songs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No timer rings within a nanosecond."""
    assert loadtest("--url", url, songs[0], "--late-ms", "1e-6") == 1
    assert "VOID: the clients were late" in capsys.readouterr().out
    assert loadtest("--url", url, songs[0], "--find", "--late-ms", "1e-6", "--p99-ms", "9e5") == 1
    said = capsys.readouterr()
    assert "the most streams at p99 ≤ 900000 ms: 0" in said.out
    assert "void" in said.err


def test_the_key_of_the_environment_opens_the_server(
    songs: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it stands in no address; without it, it is told where it belongs."""
    key = keys.make_key()
    monkeypatch.delenv("ASR_KEY", raising=False)
    with serve(ASR_KEYS=keys.line_of("shop", key)) as command:
        assert loadtest("--url", command.url, songs[0]) == 1
        assert "HTTP 401 (no valid key in ASR_KEY)" in capsys.readouterr().err
        monkeypatch.setenv("ASR_KEY", key)
        assert loadtest("--url", command.url, songs[0], *PATIENT) == 0


def test_a_server_that_is_not_there_is_one_line(
    songs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first thing that goes wrong."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert loadtest("--url", f"ws://shop:SECRET@127.0.0.1:{port}?key=SECRET", *songs) == 1
    told = capsys.readouterr().err
    assert "connection refused" in told.splitlines()[-1]
    assert "SECRET" not in told


@pytest.mark.parametrize(
    "wrong",
    [
        ("--streams", "0"),
        ("--streams", "1000000"),
        ("--seconds", "0"),
        ("--seconds", "nan"),
        ("--ramp", "-1"),
        ("--p99-ms", "x"),
        ("--limit", "0"),
    ],
)
def test_senseless_numbers_are_refused(
    wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the usage, before anything runs."""
    with pytest.raises(SystemExit) as left:
        commands.main(["loadtest", *wrong])
    assert left.value.code == 2
    assert wrong[0] in capsys.readouterr().err
