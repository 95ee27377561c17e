"""A recipe is read exactly or refused by name: a misspelt setting must never train for a night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ConfigError, UsageError
from tests.training.miniature import ROOT, TINY
from training.recipe import read_recipe, recipe_of, recipe_tables
from training.settings import differences, override

if TYPE_CHECKING:
    from pathlib import Path

WHOLE: dict[str, Any] = {
    "name": "x",
    "heads": {"letters": {"kind": "characters"}},
    "data": [{"manifest": "a.jsonl"}],
    "validation": {"manifest": "b.jsonl"},
    "budget": {"steps": 10},
}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_a_recipe_survives_being_written_down(path: Path) -> None:
    """A checkpoint keeps the recipe as plain tables; they must mean the same recipe."""
    recipe = read_recipe(path)
    assert recipe_of(recipe_tables(recipe)) == recipe


@given(
    st.fixed_dictionaries(
        {
            "rate": st.floats(1e-6, 1),
            "warmup": st.integers(0, 1000),
            "decay": st.floats(0, 1),
            "clip": st.floats(0, 10),
        }
    )
)
def test_every_setting_can_be_given_on_the_command_line(values: dict[str, float]) -> None:
    """`--set` and the file say the same thing."""
    overrides = [f"optimiser.{key}={value!r}" for key, value in values.items()]
    by_hand = read_recipe(TINY, overrides)
    tables = recipe_tables(read_recipe(TINY))
    tables["optimiser"] |= values
    assert by_hand == recipe_of(tables)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "optimiser.rat=1",
            r"^optimiser\.rat=1: optimiser: unknown key 'rat'; known",
        ),
        ("colour=1", r"unknown key 'colour'; known are name, heads"),
        ("network.width=wide", r"network\.width: 'wide' is not a whole number"),
        ("network.width=1.5", r"network\.width: 1\.5 is not a whole number"),
        ("network.width=true", r"network\.width: True is not a whole number"),
        ("network.width=0", r"network\.width: 0; it must be at least 1"),
        ("network.cell=mamba", r"network\.cell: 'mamba' is none of rnn, gru, lstm"),
        ("network.dropout=1", r"network\.dropout: 1\.0; it must be at least 0 and at most 0\.95"),
        ("network.look_ahead=9", r"network\.look_ahead: 9"),
        ("optimiser.rate=0", r"optimiser\.rate: 0\.0; it must be above 0"),
        ("optimiser.rate=nan", r"optimiser\.rate: nan; it must be above 0"),
        ("optimiser.clip=inf", r"optimiser\.clip: inf"),
        ("optimiser=3", r"optimiser: 3 is not a table"),
        ("heads.characters.kind=runes", r"heads\.characters\.kind: 'runes' is none of"),
        ("heads.characters.frames=1.0", r"heads\.characters\.frames: only phones"),
        ("heads.characters.ctc=0", r"heads\.characters: ctc and frames are both 0"),
        ("heads.characters.layer=1", r"heads: one must read the last layer"),
        ("heads.a-b.kind=characters", r"heads: 'a-b' is no name"),
        ("heads.extra.kind=phones", r"heads\.extra: phones need `lexicon`"),
        ("heads.extra.size=300", r"heads\.extra: the key 'kind' is missing"),
        ("data.0.librispeech=there", r"data\.0: give either manifest or librispeech"),
        ("data.0.weight=0", r"data\.0\.weight: 0\.0; it must be above 0"),
        ("data.0.drop=[1]", r"data\.0\.drop: \[1\] is not a table"),
        ("data.2.weight=1", r"--set data\.2\.weight=1: there is no section 2"),
        ("data.first.weight=1", r"there is no section first"),
        ("name.x=1", r"--set name\.x=1: there is no setting name\.x"),
        ("name=", r"name: it must not be empty"),
        ("optimiser.rate", r"write it as section\.key=value"),
        ("validation.librispeech=there", r"validation: give either manifest or librispeech"),
        ("augmentation.speed=[1.1, 0.9]", r"augmentation\.speed: the lower value comes first"),
        ("augmentation.speed=[1.0]", r"augmentation\.speed: 1 values where 2 belong"),
        ("budget.hours=2", r"budget: give exactly one of steps, minutes, hours"),
        ("budget.steps=0", r"budget: give exactly one of steps, minutes, hours"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(assignment: str, message: str) -> None:
    """One line says which setting, what was found, and what would be right."""
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(TINY, [assignment])
    assert "\n" not in str(caught.value)


def test_a_file_that_makes_no_sense_is_named_whatever_is_set(tmp_path: Path) -> None:
    """What is wrong without `--set` is no fault of the command; what is missing can be set."""
    path, whole = tmp_path / "mine.toml", TINY.read_text()
    path.write_text(whole.replace("width", "girth"))
    with pytest.raises(ConfigError, match=r"mine\.toml: network: unknown key 'girth'") as caught:
        read_recipe(path, ["optimiser.rate=1e-3"])
    assert not isinstance(caught.value, UsageError)
    path.write_text(whole.replace("steps", "# steps"))
    assert read_recipe(path, ["budget.hours=2"]).budget.hours == 2


def test_a_list_grows_by_its_next_number() -> None:
    """A second source can be given for one run without another file."""
    recipe = read_recipe(TINY, ["data.1.manifest=more.jsonl", "data.1.weight=2"])
    assert [(s.manifest, s.weight) for s in recipe.data] == [("train.jsonl", 1), ("more.jsonl", 2)]
    tables: dict[str, Any] = {}
    override(tables, "data.0.manifest=first.jsonl")
    assert tables == {"data": [{"manifest": "first.jsonl"}]}


def test_values_are_toml_and_else_strings() -> None:
    """Paths need no quotes, lists and tables work."""
    tables: dict[str, Any] = {}
    for text in ("a=1", "b=[1, 2]", "c=/a/x.jsonl", 'd="7"', "e={f = true}"):
        override(tables, text)
    assert tables == {"a": 1, "b": [1, 2], "c": "/a/x.jsonl", "d": "7", "e": {"f": True}}


@pytest.mark.parametrize("content", [None, b"name = ", b"\xff\xfe"], ids=["no", "bad", "binary"])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, content: bytes | None) -> None:
    """The path stands in the message: several recipes may be in play."""
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.toml: (No such file|no valid TOML)"):
        read_recipe(path)


@pytest.mark.parametrize("key", ["heads", "data", "budget", "name"])
def test_a_recipe_without_an_essential_part_is_refused(key: str) -> None:
    """What has no sensible default must be said."""
    with pytest.raises(ConfigError, match=f"the key '{key}' is missing"):
        recipe_of({name: value for name, value in WHOLE.items() if name != key})


@pytest.mark.parametrize("key", ["heads", "data"])
def test_a_recipe_with_nothing_to_learn_is_refused(key: str) -> None:
    """An empty list is not the same as an absent one, and no better."""
    with pytest.raises(ConfigError, match="at least one"):
        recipe_of(WHOLE | {key: type(WHOLE[key])()})


def test_a_run_is_named_after_its_file_unless_it_says_otherwise(tmp_path: Path) -> None:
    """`asr train mine.toml` puts its files into runs/mine."""
    path = tmp_path / "mine.toml"
    path.write_text(TINY.read_text().replace('name = "tiny"\n', ""))
    assert read_recipe(path).name == "mine"


def test_changed_settings_are_found_by_name() -> None:
    """A resumed run says what was changed since it began."""
    before = recipe_tables(recipe_of(WHOLE))
    after = recipe_tables(recipe_of(WHOLE | {"budget": {"steps": 20}, "seed": 2}))
    assert differences(before, after) == ["budget.steps", "seed"]
    assert differences(before, before) == []
