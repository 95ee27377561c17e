"""What travels: the wheel, the recording, the versions, and nothing of our machines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import soundfile

from asr import demo
from asr.errors import install
from server import webpage

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def tracked() -> list[Path]:
    """The files of the repository, as git lists them."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


ROOMS = {"asr", "training", "server", "tests", "configs"}
BESIDE = {"docs", "benchmarks", "results", "examples", "deploy"}


def test_nothing_else_stands_at_the_top() -> None:
    """What a command left behind where it was tried is no part of the project."""
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if path.parent != ROOT}
    assert {name for name in folders if not name.startswith(".")} == ROOMS | BESIDE


def wheel_of(folder: Path, **environment: str) -> zipfile.ZipFile:
    """The wheel, built from a copy of the sources so that no build folder lands in the checkout."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    unwanted = shutil.ignore_patterns("__pycache__", "*.so")
    for package in ("asr", "training", "server"):
        shutil.copytree(ROOT / package, folder / package, ignore=unwanted)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('out'))"
    done = subprocess.run(
        [sys.executable, "-c", build],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = (folder / "out").glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as it is built here."""
    return wheel_of(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_source_and_the_demo(wheel: zipfile.ZipFile) -> None:
    """Who installs from the index gets the same program as who clones."""
    inside = set(wheel.namelist())
    wanted = {
        p.relative_to(ROOT).as_posix()
        for name in ("asr", "training", "server")
        for p in (ROOT / name).rglob("*.py")
    }
    wanted |= {f"asr/demo/{name}" for name in ("recording.flac", "reference.txt", "NOTE.md")}
    wanted |= {f"server/page/{name}" for name in webpage.FILES.values()}
    assert sorted((wanted | {"asr/py.typed"}) - inside) == []


def test_the_wheel_holds_the_shipped_model(wheel: zipfile.ZipFile) -> None:
    """A recogniser without its model recognises nothing."""
    inside = {Path(name) for name in wheel.namelist()}
    bundles = {path.parent for path in inside if path.match("asr/models/*/model.toml")}
    assert bundles, "no model in the wheel"
    for bundle in bundles:
        assert bundle / "acoustic.int8.onnx" in inside
        assert bundle / "acoustic.float32.onnx" in inside
        assert bundle / "MODEL_CARD.md" in inside
        assert any(path.parent == bundle and path.match("units.*.txt") for path in inside)


@pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler: wheels hold no kernel"
)
def test_the_wheel_holds_the_compiled_search(wheel: zipfile.ZipFile) -> None:
    """Without it the wheel works, many times slower, and nobody who built it would notice."""
    assert any(Path(name).match("asr/decoding/_kernel*.so") for name in wheel.namelist())


def test_without_a_compiler_there_is_a_wheel_all_the_same(tmp_path: Path) -> None:
    """Recognition must be installable everywhere; the search then runs in Python."""
    inside = wheel_of(tmp_path, CC="/nonexistent/cc").namelist()
    assert "asr/decoding/reference.py" in inside
    assert not [name for name in inside if Path(name).match("*.so")]


def test_the_wheel_holds_no_tests_and_names_its_licence(wheel: zipfile.ZipFile) -> None:
    """`tests` at the top of a wheel would shadow everybody else's."""
    assert {name.split("/")[0] for name in wheel.namelist()} - {"asr", "training", "server"} == {
        f"asr-{PROJECT['version']}.dist-info"
    }
    metadata = wheel.read(f"asr-{PROJECT['version']}.dist-info/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata


def test_the_demo_recording_is_small_and_of_the_models_own_rate() -> None:
    """It is cloned by everyone and must play as it is."""
    found = soundfile.info(demo.RECORDING)
    assert (found.samplerate, found.channels, found.subtype) == (16000, 1, "PCM_16")
    assert 10 < found.duration < 25
    assert demo.RECORDING.stat().st_size < 400_000


def test_the_demo_reference_is_plain_words() -> None:
    """The error rate of the demo is counted on words alone."""
    assert re.fullmatch(r"[a-z']+( [a-z']+)+", demo.reference())


def test_the_change_log_has_the_current_version() -> None:
    """A version without an entry tells its users nothing."""
    assert re.search(rf"^## {re.escape(PROJECT['version'])}\b", read("CHANGELOG.md"), re.MULTILINE)


def test_every_dependency_has_a_tested_version() -> None:
    """`make` must give everybody what was tested."""
    pinned = {
        line.split("==")[0].lower() for line in read("constraints.txt").splitlines() if "==" in line
    }
    extras = PROJECT["optional-dependencies"]
    wanted = {
        re.split(r"[<>=!~; \[]", d)[0].lower()
        for d in sum(extras.values(), PROJECT["dependencies"])
    }
    assert wanted - pinned == set()


def test_torch_is_not_needed_for_recognition() -> None:
    """Recognition installs in seconds and 200 MB; torch is gigabytes."""
    assert not any(d.startswith(("torch", "onnx>", "scipy")) for d in PROJECT["dependencies"])


@pytest.mark.parametrize("room", ["asr", "training"])
def test_nobody_is_sent_to_another_program_for_an_extra(room: str) -> None:
    """PyPI's `asr` is not this one: it would be installed over it."""
    sources = sorted((ROOT / room).rglob("*.py"))
    assert [p.name for p in sources if "pip install 'asr" in p.read_text("utf-8")] == []
    assert "'.[train]'" in install("train")
    assert ".whl[train]'" in install("train")


def test_no_file_names_a_folder_of_our_machines() -> None:
    """What works only where it was written does not work."""
    ours = re.compile(r"(?<![\w./~])/(?:home|Users|root|work|workspace|mnt)/\w+")
    wrong = []
    for path in tracked():
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # a picture, sound or model; or a deletion that is not committed yet
        wrong += [f"{path.relative_to(ROOT)}: {found.group()}" for found in ours.finditer(text)]
    assert wrong == []


def test_no_large_file_is_tracked() -> None:
    """A clone stays small: models are the largest files, and no corpus is among them."""
    sizes = {p.relative_to(ROOT).as_posix(): p.stat().st_size for p in tracked() if p.exists()}
    limits = {name: 60e6 if name.startswith("asr/models/") else 1e6 for name in sizes}
    assert {name: size for name, size in sizes.items() if size > limits[name]} == {}


def read(name: str) -> str:
    """A file of the checkout."""
    return (ROOT / name).read_text("utf-8")
