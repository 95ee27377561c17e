"""The rooms of docs/architecture.md: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import asr

ROOT = Path(__file__).parents[2]
SHELLS = {"asr/microphone.py", "asr/client.py"}  # rooms of asr/ that do move bytes
SHELLS |= {"asr/cluster.py", "asr/loadtest/client.py", "asr/loadtest/run.py"}
MOVES_BYTES = {"asyncio", "socket", "select", "selectors", "ssl", "http", "urllib", "subprocess"}
MOVES_BYTES |= {"sounddevice", "websockets"}
HAS_A_CLOCK = {"time", "datetime", "threading", "multiprocessing", "concurrent", "random"}
HEAVY = {"torch", "torchaudio", "onnxruntime", "sounddevice", "soundfile", "jiwer", "websockets"}
HEAVY |= {"distributed"}

# What each room may import beside the standard library, numpy and asr itself.
ALLOWED = {
    "asr/audio.py": {"soundfile"},
    "asr/onnx_backend.py": {"onnxruntime"},
    "asr/metrics.py": {"jiwer"},
    "asr/microphone.py": {"sounddevice"},
    "asr/client.py": {"websockets"},
    "asr/cluster.py": {"distributed"},
    "asr/loadtest/client.py": {"websockets"},
    "asr/loadtest/plot.py": {"matplotlib"},
}
# The core: no clock, no thread, no chance. Commands and measuring rooms are shells.
CORE = (
    "asr/acoustic.py",
    "asr/decoding",
    "asr/endpoint.py",
    "asr/errors.py",
    "asr/features.py",
    "asr/recognizer.py",
    "asr/resampling.py",
    "asr/state.py",
    "asr/transcript.py",
    "asr/writers.py",
)


@dataclass(frozen=True)
class Import:
    """One imported module, and where."""

    file: str
    line: int
    module: str
    lazy: bool

    @property
    def top(self) -> str:
        """The package it belongs to."""
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports(path: Path) -> list[Import]:
    """All imports of a file but those for types only."""
    found: list[Import] = []

    def visit(node: ast.AST, *, lazy: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return
        file = path.relative_to(ROOT).as_posix()
        if isinstance(node, ast.Import):
            found.extend(Import(file, node.lineno, alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append(Import(file, node.lineno, node.module, lazy))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, lazy=lazy or inside)

    visit(ast.parse(path.read_text("utf-8")), lazy=False)
    return found


def of(package: str) -> list[Import]:
    """All imports of a package, or of one file."""
    at = ROOT / package
    files = sorted(at.rglob("*.py")) if at.is_dir() else [at] if at.exists() else []
    return [found for file in files for found in imports(file)]


def named(wrong: list[Import]) -> list[str]:
    """For a readable failure."""
    return [str(found) for found in wrong]


def test_recognition_knows_neither_training_nor_server() -> None:
    """Recognition must run, and be read, without them; only commands call them, when called."""
    wrong = [i for i in of("asr") if i.top in {"training", "server"}]
    wrong = [i for i in wrong if not (i.file.startswith("asr/commands/") and i.lazy)]
    assert named(wrong) == []


def test_no_room_has_the_name_of_something_public() -> None:
    """Once a module `asr.load` is imported, `asr.load()` calls a module."""
    rooms = {path.stem for path in (ROOT / "asr").iterdir()}
    assert rooms & set(asr.__all__) == set()


def test_training_and_server_do_not_know_each_other() -> None:
    """A server without torch, a trainer without sockets."""
    wrong = [i for i in of("training") if i.top == "server"]
    wrong += [i for i in of("server") if i.top in {"training", "torch", "torchaudio"}]
    assert named(wrong) == []


def test_recognition_moves_no_bytes() -> None:
    """No socket, no device, no process in asr/ but in the shells that are named for it."""
    wrong = [i for i in of("asr") if i.top in MOVES_BYTES]
    wrong = [i for i in wrong if i.file not in SHELLS and not i.file.startswith("asr/commands/")]
    assert named(wrong) == []


@pytest.mark.parametrize("room", CORE)
def test_the_core_is_arithmetic(room: str) -> None:
    """Clocks, threads and chance would make the same samples give other words."""
    assert named([i for i in of(room) if i.top in HAS_A_CLOCK | MOVES_BYTES]) == []


def test_each_room_imports_only_the_packages_that_it_names() -> None:
    """The list of docs/architecture.md; a new dependency is a decision, not an accident."""
    wrong = []
    for found in of("asr"):
        if found.file.startswith("asr/commands/"):
            continue
        allowed = {"numpy", "asr"} | ALLOWED.get(found.file, set()) | sys.stdlib_module_names
        if found.top not in allowed:
            wrong.append(found)
    assert named(wrong) == []


def test_torchaudio_is_imported_in_one_place() -> None:
    """Elsewhere the import would fail beside a CPU build of torch."""
    wrong = [i for p in ("asr", "training", "server", "benchmarks", "examples") for i in of(p)]
    wrong = [i for i in wrong if i.top == "torchaudio" and i.file != "training/torchaudio_cpu.py"]
    assert named(wrong) == []


def test_nothing_is_ever_unpickled() -> None:
    """A model or a state from a stranger must not run code."""
    wrong = [
        i for p in ("asr", "server") for i in of(p) if i.top in {"pickle", "shelve", "marshal"}
    ]
    assert named(wrong) == []


@pytest.mark.parametrize(
    "action", ["import asr", "import asr.commands; asr.commands.main(['--help'])"]
)
def test_starting_loads_no_heavy_package(action: str) -> None:
    """`asr --help` must answer at once: torch alone takes a second, onnxruntime a tenth."""
    code = (
        f"import sys\ntry:\n {action}\nexcept SystemExit:\n pass\n"
        f"print(*sorted({HEAVY} & set(sys.modules)), file=sys.stderr, end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_reader_of_imports_sees_what_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules above are worth as much as this reader."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "room.py"
    file.write_text(
        "import a.b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import never\n"
        "def f():\n    from c.d import e\nclass G:\n    import g\n"
    )
    seen = [(i.module, i.lazy) for i in imports(file)]
    assert seen == [("a.b", False), ("typing", False), ("c.d", True), ("g", False)]
