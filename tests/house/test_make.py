"""`make` sets up once, notices changes, and says what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
STAMPS = (".made", ".recognition", ".everything")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make looks at, with every step of the set-up done a minute ago."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".venv").mkdir()
    for age, name in enumerate(STAMPS, 1):
        (tmp_path / ".venv" / name).touch()
        os.utime(tmp_path / ".venv" / name, (age, age))
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user would, not as part of a make that runs these tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


def test_a_second_set_up_installs_nothing(checkout: Path) -> None:
    """The second `make demo` starts at once."""
    assert make(checkout, "--question", "setup").returncode == 0


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_dependencies_are_installed(checkout: Path, changed: str) -> None:
    """After an update nobody has to know that something must be installed."""
    (checkout / changed).touch()
    assert make(checkout, "--question", "setup").returncode == 1


def test_changed_sources_need_no_installation(checkout: Path) -> None:
    """Who changes the program runs what was changed."""
    (checkout / "asr").mkdir()
    (checkout / "asr" / "new.py").touch()
    assert make(checkout, "--question", "setup").returncode == 0


def test_changed_c_is_compiled(checkout: Path) -> None:
    """An old kernel beside new Python would be wrong, or not start at all."""
    kernel = checkout / "asr" / "decoding" / "_kernel.c"
    kernel.parent.mkdir(parents=True)
    kernel.touch()
    assert make(checkout, "--question", "setup").returncode == 1


@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_a_missing_or_old_python_is_one_clear_line(checkout: Path, python: str) -> None:
    """The first thing that goes wrong on a stranger's computer."""
    shutil.rmtree(checkout / ".venv")
    done = make(checkout, "demo", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"{python} is missing or older than Python 3.11; name a newer one" in done.stderr
    assert not (checkout / ".venv").exists()


def test_this_python_is_new_enough(checkout: Path) -> None:
    """The bound of the Makefile is that of the package."""
    minimum = re.search(
        r"sys\.version_info < \((\d+), (\d+)\)", (checkout / "Makefile").read_text()
    )
    assert minimum
    assert (
        f'requires-python = ">={minimum[1]}.{minimum[2]}"' in (ROOT / "pyproject.toml").read_text()
    )
    assert sys.version_info >= (int(minimum[1]), int(minimum[2]))


def test_help_is_the_default_and_lists_every_command(checkout: Path) -> None:
    """A bare `make` must not install gigabytes."""
    done = make(checkout)
    names = {"demo", "test", "lint", "bench", "clean", "help"}
    assert names <= {line.split()[0] for line in done.stdout.splitlines()}


def test_a_recipe_runs_from_download_to_report(checkout: Path) -> None:
    """One command each, on one GPU or several; a run that was stopped goes on."""
    done = make(checkout, "--dry-run", "recipe")
    lines = [" ".join(line.split()) for line in done.stdout.replace("\\\n", " ").splitlines()]
    assert lines[0] == (".venv/bin/python -m asr train configs/librispeech-100h.toml --download")
    assert [line.split()[1] for line in lines[1:]] == ["export", "-m", "evaluate"]
    several = make(checkout, "--dry-run", "recipe", "RECIPE=librispeech-960h", "GPUS=4").stdout
    assert ".venv/bin/torchrun --nproc-per-node 4 -m -- " in several
    assert "asr train configs/librispeech-960h.toml --download" in several
    (checkout / "runs/librispeech-100h").mkdir(parents=True)
    (checkout / "runs/librispeech-100h/checkpoint.pt").touch()
    assert "--download --resume" in make(checkout, "--dry-run", "recipe").stdout
