"""A benchmark is a program: help without PyTorch, one line where it cannot measure."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.figure import ROOT


@pytest.mark.parametrize("name", ["wer", "realtime_factor", "company", "alignment"])
def test_a_set_that_is_not_there_is_one_line(name: str) -> None:
    """The README names sets that a checkout does not have."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "gone.jsonl"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("gone.jsonl: ")
    assert "Traceback" not in done.stderr


def test_help_needs_no_pytorch() -> None:
    """Whoever looks which figures there are need not install 2 GB."""
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv[1:] = ['--help']; "
        "runpy.run_module('benchmarks', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--synthetic" in done.stdout
