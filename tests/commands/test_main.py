"""The command line as a whole: help at once, exit codes, one line for a failure, quiet endings."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import soundfile

from asr import audio, commands
from asr.errors import AudioError, UsageError
from tests.tiny import sound

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).parents[2]
ASR = [sys.executable, "-m", "asr"]


def pretend(monkeypatch: pytest.MonkeyPatch, work: object) -> None:
    """Let `asr info` do something else."""
    fake = SimpleNamespace(SUMMARY="tell", add_arguments=lambda _: None, run=work)
    monkeypatch.setattr(commands, "find", lambda _: fake)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_a_summary_and_help(name, capsys):
    """One line in the list, and more on request."""
    with pytest.raises(SystemExit) as left:
        commands.main([name, "--help"])
    assert left.value.code == 0
    assert f"asr {name}" in capsys.readouterr().out
    assert re.fullmatch(r"[a-z][^\n]{10,90}[^.\n]", commands.find(name).SUMMARY)


def test_help_lists_all_commands_at_once():
    """Quick, since nothing heavy is loaded: at most 0.3 s of CPU, NumPy left alone."""
    code = (
        "import sys, time\n"
        "from asr.commands import main\n"
        "try: main(['--help'])\n"
        "finally:\n"
        "    heavy = {'numpy', 'torch', 'onnxruntime', 'soundfile'} & set(sys.modules)\n"
        "    print(heavy, time.process_time(), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    heavy, seconds = done.stderr.decode().rsplit(maxsplit=1)
    assert heavy == "set()"
    assert float(seconds) < 0.3
    assert all(name in done.stdout.decode() for name in commands.COMMANDS)


def test_wrong_usage_is_told_with_exit_code_2(capsys):
    """An unknown command, an unknown option, no command at all."""
    for arguments in (["transcrib"], ["info", "--jason"]):
        with pytest.raises(SystemExit) as left:
            commands.main(arguments)
        assert left.value.code == 2
    assert commands.main([]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("lm build text --order 4 --out lm.arpa", "order is 1 to 3"),
        ("lm build text --prune=-1 --out lm.arpa", "thresholds are numbers from 0"),
        ("train configs/english.toml --set foo", "--set foo: write it as"),
        ("train configs/english.toml --init best.pt --resume", "give only one"),
        ("compare configs/english.toml out --sweep foo", "--sweep foo: write it as"),
        ("compare configs/english.toml out --budget days=3", "--budget days=3: write it as"),
        ("transcribe a.wav --url nonsense?key=SECRET", "nonsense: no websocket address"),
        ("mic --url nonsense?key=SECRET", "nonsense: no websocket address"),
        ("loadtest a.wav --url nonsense?key=SECRET", "nonsense: no websocket address"),
        ("serve --trusted-proxy foo", "--trusted-proxy: 'foo'"),
        ("serve --store redis://127.0.0.1:1/0", "--resume-secret FILE"),
    ],
)
def test_values_that_are_wrong_on_any_day_are_usage(arguments, told):
    """Scripts tell by the exit code whether to try again; with the way to help, and no secret."""
    run = subprocess.run(
        [*ASR, *arguments.split()], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert told in run.stderr
    assert re.search("--help|^usage:", run.stderr)
    assert "SECRET" not in run.stderr.replace("ASR_RESUME_SECRET", "")


def test_a_users_own_package_named_server_is_not_taken_for_ours(tmp_path):
    """`python -m` looks where it was called first, and half of all projects have such a folder."""
    for name in ("server", "training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('this is not ours')")
    for command in ("serve", "train"):
        done = subprocess.run(
            [*ASR, command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_option_is_told_with_the_usage_of_its_command(capsys):
    """Not with that of `asr`, which knows no options."""
    with pytest.raises(SystemExit) as left:
        commands.main(["info", "english", "--jason"])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: asr info [-h]")
    assert err.endswith("asr info: error: unknown arguments: --jason\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.parametrize(
    ("encoding", "told"), [("utf-8:strict", b"\xff\xc3\xbc"), ("ascii:strict", b"\\udcff\\xfc")]
)
def test_every_name_can_be_told(encoding, told, model, tmp_path):
    """Bytes that are no UTF-8, and letters that the terminal does not know, end nothing."""
    soundfile.write(tmp_path / "talk.wav", sound(2.0, 0), 16000)
    name = str(tmp_path / os.fsdecode(b"\xff\xc3\xbc.wav"))
    (tmp_path / "talk.wav").rename(name)
    done = subprocess.run(
        [*ASR, "transcribe", "--format", "tsv", name, "--model", model],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert told + b".wav\t" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_output_that_cannot_be_written_is_one_line():
    """A full disk: exit code 1, and no trace, neither now nor at exit."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*ASR, "completion", "bash"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"asr: output: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes streams")
@pytest.mark.parametrize(
    ("closed", "code", "told"),
    [
        ("<&-", 1, b"asr: audio stream: the file is empty (0 bytes); record or copy it again\n"),
        (">&-", 1, b"asr: output: Bad file descriptor\n"),
        ("2>&-", 0, b""),
    ],
)
def test_a_stream_that_is_closed_is_no_bug_of_ours(closed, code, told, model, speech):
    """As services and scheduled jobs may have it: no trace, and lost words are a failure."""
    command = f'"$0" -m asr transcribe "$1" --model "$2" {closed}'
    file = "-" if closed == "<&-" else speech
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, file, model],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, told)


def test_the_version_is_data(capsys):
    """On standard output, for scripts."""
    assert commands.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("asr ")


def test_a_failed_job_is_one_line_and_exit_code_1(monkeypatch, capsys):
    """No trace for a user's mistake."""

    def fail(_: argparse.Namespace) -> int:
        raise AudioError("talk.wav: no such file; check the path")

    pretend(monkeypatch, fail)
    assert commands.main(["info"]) == 1
    assert capsys.readouterr() == ("", "asr: talk.wav: no such file; check the path\n")


def test_arguments_that_make_no_sense_together_are_usage(monkeypatch, capsys):
    """Exit code 2, with the way to help."""

    def fail(_: argparse.Namespace) -> int:
        raise UsageError("a and b contradict each other")

    pretend(monkeypatch, fail)
    assert commands.main(["info"]) == 2
    assert "contradict each other; see asr info --help" in capsys.readouterr().err


def test_our_own_bugs_keep_their_trace(monkeypatch):
    """Only errors that are not ours become one line."""

    def fail(_: argparse.Namespace) -> int:
        raise ZeroDivisionError

    pretend(monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        commands.main(["info"])


@pytest.mark.parametrize("command", ["info", "transcribe"])
def test_a_reader_who_leaves_is_no_error_to_talk_about(command, model, speech):
    """`asr info | head -1`: quiet."""
    arguments = [model] if command == "info" else [str(speech), "--model", model]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [*ASR, command, *arguments],
            cwd=ROOT,
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b""


def test_ctrl_c_is_quiet_with_exit_code_130(model, speech):
    """In the middle of a stream that would never end."""
    arguments = [*ASR, "transcribe", "--raw", "48000", "-", "--model", model]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(audio.to_s16le(audio.read(speech).samples))
        process.stdin.flush()
        assert process.stdout.read(1)  # blocks until words come, so it is at work
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == b""
