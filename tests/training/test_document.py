"""docs/training.md keeps its word: its commands parse, its files and kinds of bad data exist."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from asr.commands import export, train
from tests.training.miniature import ROOT
from training.journal import Files
from training.recipe import read_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (.+)$", TEXT, re.MULTILINE)
SOURCES = [(ROOT / "training" / name).read_text("utf-8") for name in ("data.py", "examples.py")]


def parsed(module: object, arguments: list[str]) -> argparse.Namespace:
    """Arguments as the command reads them."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    return parser.parse_args(arguments)


@pytest.mark.parametrize("line", [line for line in COMMANDS if "asr train" in line])
def test_every_training_command_is_one(line: str) -> None:
    """The recipe exists, and takes the settings."""
    arguments = shlex.split(line.split("asr train ", 1)[1])
    args = parsed(train, arguments)
    assert read_recipe(ROOT / args.recipe, args.set)


def test_torchrun_takes_its_command() -> None:
    """Its parser would read `--run` as an abbreviation of its own options."""
    from torch.distributed import run

    parse = cast("Callable[[list[str]], argparse.Namespace]", run.parse_args)
    (line,) = (line for line in COMMANDS if line.startswith("torchrun"))
    args = parse(shlex.split(line)[1:])
    assert "--run" in line
    assert (args.module, args.training_script) == (True, "asr")
    assert parsed(train, args.training_script_args[1:]).run == Path("runs/together")


def test_there_are_commands_for_everything() -> None:
    """Train, check, resume, start from weights, several processes, export."""
    together = "\n".join(COMMANDS)
    for part in ("--download", "--check", "--resume", "--init", "torchrun"):
        assert part in together
    lines = [line for line in COMMANDS if line.startswith("asr export")]
    exported = [parsed(export, shlex.split(line)[2:]).checkpoint for line in lines]
    assert exported == [Path("runs/librispeech-100h/best.pt"), Path("runs/mine/best.pt")]


def test_the_files_of_a_run_are_told() -> None:
    """All of them (`test_a_run_fills_its_folder` holds that there are no others)."""
    files = Files(Path())
    properties = ("recipe", "checkpoint", "best", "metrics", "curves", "tensorboard")
    for name in properties:
        assert f"| `{getattr(files, name).name}" in TEXT


def test_every_kind_of_bad_data_is_told() -> None:
    """Who reads a line about bad data can look it up."""
    raised = re.findall(r'_Unusable\(\s*f?"([^"{]+)', SOURCES[0])
    raised += re.findall(r'"(unreadable audio)"|kind = "([^"]+)"', SOURCES[1])[0]
    assert len(raised) > 8
    for kind in filter(None, raised):
        known = kind if not kind.startswith("phone times") else "phone times that"
        assert known.strip() in TEXT, kind


def test_every_key_of_a_manifest_is_told() -> None:
    """Those that the program reads."""
    keys = set(re.findall(r'row(?:\.get\(|\[)"(\w+)"', SOURCES[0]))
    assert {"audio", "text", "samples", "id", "phones", "frames", "cut"} <= keys
    assert {key for key in keys if f"| `{key}` |" not in TEXT} == set()
