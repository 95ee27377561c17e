"""Documents keep their word: links lead somewhere, and every command and option has its place."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr import commands
from training import recipe

ROOT = Path(__file__).parents[2]
OURS = [
    path
    for pattern in ("*.md", "docs/**/*.md", "asr/**/*.md", "examples/*.md", "benchmarks/*.md")
    for path in sorted(ROOT.glob(pattern))
]
SECTIONS = {
    "At the top of the file": recipe.Recipe,
    "`[network]`": recipe.Network,
    "`[heads.NAME]`": recipe.Head,
    "`[[data]]`": recipe.Source,
    "`[validation]`": recipe.Validation,
    "`[batches]`": recipe.Batches,
    "`[augmentation]`": recipe.Augmentation,
    "`[optimiser]`": recipe.Optimiser,
    "`[budget]`": recipe.Budget,
}
NESTED = {
    "network",
    "heads",
    "data",
    "validation",
    "batches",
    "augmentation",
    "optimiser",
    "budget",
}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def text_of(name: str) -> str:
    """A document of the checkout."""
    return (ROOT / name).read_text("utf-8")


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help is not broken in the middle of an option."""
    monkeypatch.setenv("COLUMNS", "200")


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints for `--help`."""
    with pytest.raises(SystemExit) as left:
        commands.main([*arguments, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def names(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The commands that `asr --help` lists."""
    found = re.search(r"\{([a-z,]+)\}", help_of(capsys))
    assert found, "asr --help lists no commands"
    return found[1].split(",")


def section(document: str, title: str) -> str:
    """The part under a heading of the second level, empty when there is none."""
    found = re.search(
        rf"^## `?{re.escape(title)}`?$(.*?)(?=^## |\Z)", document, re.MULTILINE | re.DOTALL
    )
    return found[1] if found else ""


def test_every_command_and_option_is_documented(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads docs/commands.md has read everything there is."""
    document = text_of("docs/commands.md")
    missing = []
    for name in names:
        known = section(document, f"`asr {name}`")
        options = set(OPTION.findall(help_of(capsys, name))) - {"--help"}
        missing += [
            f"asr {name} {option}" for option in sorted(options - set(OPTION.findall(known)))
        ]
        missing += [] if known else [f"asr {name}"]
    assert missing == []


def test_no_document_names_an_option_that_is_gone(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A renamed option is renamed in the documents too."""
    document = text_of("docs/commands.md")
    stale = []
    for name in names:
        options = set(OPTION.findall(help_of(capsys, name)))
        told = OPTION.findall(section(document, f"`asr {name}`"))
        stale += [f"asr {name} {option}" for option in told if option not in options]
    assert stale == []
    titles = re.findall(r"^## `asr (\w+)`$", document, re.MULTILINE)
    assert sorted(titles) == sorted(names)


def test_every_option_has_a_word_of_help(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` explains each option; a bare name explains nothing."""
    bare = []
    for name in names:
        lines = help_of(capsys, name).splitlines()
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            if re.fullmatch(r"  (-\w, )?--[\w-]+( \S+)?", line) and not after.startswith("      "):
                bare.append(f"asr {name}: {line.strip()}")
    assert bare == []


def told_default(setting: dataclasses.Field[object]) -> str:
    """A default as docs/recipes.md writes it, in JSON."""
    if setting.default_factory is not dataclasses.MISSING:
        return f"`{json.dumps(setting.default_factory())}`"
    if setting.default is dataclasses.MISSING:
        return "required"
    return "–" if setting.default is None else f"`{json.dumps(setting.default)}`"


@pytest.mark.parametrize(("title", "table"), SECTIONS.items(), ids=SECTIONS)
def test_every_setting_of_a_recipe_is_documented_with_its_default(title: str, table: type) -> None:
    """A setting that only the source knows is found by nobody, and a wrong default misleads."""
    settings = [f for f in dataclasses.fields(table) if f.name not in NESTED]
    wanted = {(f"`{setting.name}`", told_default(setting)) for setting in settings}
    text = section(text_of("docs/recipes.md"), title)
    assert set(re.findall(r"^\| (`\w+`) \| (.*?) \| \S", text, re.MULTILINE)) == wanted


def test_every_section_of_a_recipe_is_documented() -> None:
    """A new table in the recipe gets its place in the documents."""
    assert {f.name for f in dataclasses.fields(recipe.Recipe)} >= NESTED
    assert len(SECTIONS) == len(NESTED) + 1


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_inside_the_project_leads_somewhere(path: Path) -> None:
    """A reader who follows a link must arrive."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_every_decision_is_in_the_index() -> None:
    """A decision that nobody finds will be made again, differently."""
    index = text_of("docs/decisions/README.md")
    files = {path.name for path in (ROOT / "docs/decisions").glob("*.md")} - {"README.md"}
    assert {name for name in files if f"({name})" not in index} == set()


def test_every_make_target_of_the_documents_exists() -> None:
    """The first thing that a stranger types must work."""
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    told = {
        target
        for path in OURS
        for target in re.findall(r"(?:^|`)make ([a-z]+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert told - targets == set()
    assert {"demo", "test"} <= told


def test_the_readme_serves_a_reader_with_one_minute() -> None:
    """What it is and the two commands stand on the first screen."""
    first_screen = "\n".join(text_of("README.md").splitlines()[:40])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_the_python_of_the_readme_runs() -> None:
    """A reader will paste it."""
    blocks = re.findall(r"```python\n(.*?)```", text_of("README.md"), re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
