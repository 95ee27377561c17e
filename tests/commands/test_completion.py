"""`asr completion`: the scripts load in their shells and know every command, option and choice."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from asr import commands
from asr.commands import completion

DESCRIBED = completion.describe(commands.make_parser())


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_command_option_and_choice_is_completed(shell, capsys):
    """They are read from the parsers, so a new option is known at once."""
    assert commands.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert [command.name for command in DESCRIBED] == list(commands.COMMANDS)
    for command in DESCRIBED:
        assert command.name in script
        for option in command.options:
            assert (option.name if shell != "fish" else f"-l {option.name[2:]}") in script
            assert all(choice in script for choice in option.choices)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("asr tr", {"transcribe", "train"}),
        ("asr transcribe --for", {"--format"}),
        ("asr transcribe --format ", {"text", "json", "srt", "vtt", "tsv", "ctm"}),
        ("asr completion ", {"bash", "zsh", "fish"}),
        ("asr lm ", {"build", "prepare", "convert", "perplexity", "check"}),
        ("asr info my", {"my.wav"}),
    ],
)
def test_bash_offers_what_fits(typed, offered, tmp_path):
    """In bash itself, as the Tab key does it; files where no choice is due."""
    (tmp_path / "my.wav").touch()
    words = typed.split(" ")
    line = " ".join(f"'{word}'" for word in words)
    tab = f"COMP_WORDS=({line})\nCOMP_CWORD={len(words) - 1}\n_asr\n"
    script = completion.bash(DESCRIBED) + tab + "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = set(done.stdout.split())
    assert offered <= found
    assert all(one.startswith("--") for one in found - offered)


def test_bash_offers_a_file_with_spaces_as_one(tmp_path):
    """Recordings are called so."""
    (tmp_path / "my talk.wav").touch()
    script = completion.bash(DESCRIBED) + "COMP_WORDS=(asr transcribe my)\nCOMP_CWORD=2\n_asr\n"
    script += "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "my talk.wav\n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_right_for_its_shell(shell):
    """Syntax checked by the shell where it is installed; else quotes are at least balanced."""
    script = getattr(completion, shell)(DESCRIBED)
    if shutil.which(shell):
        done = subprocess.run(
            [shell, "-n"], input=script.encode(), capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert script.replace("'\\''", "").count("'") % 2 == 0


def test_apostrophes_in_help_do_not_end_the_quotes():
    """`the system's` stands in the help of a real option."""
    option = completion.Option("--odd", "it's [a] test: really", (), takes_value=False)
    command = completion.Described("info", "tell", (option,), ())
    assert "'it'\\''s [a] test: really'" in completion.fish([command])
    assert "'--odd[it'\\''s  a  test  really]'" in completion.zsh([command])
