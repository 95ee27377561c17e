"""A bundle is whole, or it is refused in one line."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr import bundle, toml_writer
from asr.bundle import AcousticSettings, Description, FeatureSettings
from asr.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

UNITS = {"pieces": ("<blank>", "▁the", "s"), "phones": ("<blank>", "AH0")}


def description(**changes: Any) -> Description:
    """A description that fits `UNITS`."""
    made = Description(
        name="test",
        language="en",
        licence="CC0-1.0",
        features=FeatureSettings(np.linspace(-6, -5, 80), np.full(80, 2.5, np.float32)),  # type: ignore[arg-type]  # any sequence
        acoustic=AcousticSettings("gru", 8, 2, 3, {"pieces": 3, "phones": 2}),
        training={"hours": 1.5, "data": ["a", "b"], "recipe": {"seed": 3}},
    )
    return replace(made, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle's folder; the network in it is none."""
    (tmp_path / "acoustic.int8.onnx").write_bytes(b"network")
    bundle.write(tmp_path, description(), UNITS, "# Card\n")
    return tmp_path


def test_what_was_written_is_read(folder: Path) -> None:
    """Nothing of the description gets lost or rounded."""
    read = bundle.read(folder)
    assert read.description == description()
    assert read.units == UNITS
    assert read.acoustic_file("int8").read_bytes() == b"network"
    assert len(read.id) == 64
    assert list(read.description.acoustic.heads) == ["pieces", "phones"]


def test_a_head_that_waits_lags_further(tmp_path: Path) -> None:
    """And is part of the id; a bundle in which none does has the id that it had before."""
    network = AcousticSettings("gru", 8, 2, 3, {"pieces": 3, "phones": 2}, {"pieces": 2})
    (tmp_path / "acoustic.int8.onnx").write_bytes(b"network")
    waits = bundle.write(tmp_path, description(acoustic=network), UNITS, "# Card\n")
    read = bundle.read(tmp_path).description.acoustic
    assert read == network
    assert (read.look_ahead_of("pieces"), read.look_ahead_of("phones")) == (5, 3)
    assert "waits" in (tmp_path / "model.toml").read_text()
    assert bundle.write(tmp_path, description(), UNITS, "# Card\n").id != waits.id
    assert "waits" not in (tmp_path / "model.toml").read_text()


def test_the_id_stands_for_all_that_can_change_a_result(folder: Path, tmp_path: Path) -> None:
    """States are bound to it; a card or a licence changes no result, a mean or a unit does."""
    first = bundle.read(folder).id
    assert bundle.write(folder, description(licence="MIT"), UNITS, "other card").id == first
    other_mean = FeatureSettings((-5.0,) * 80, (2.5,) * 80)
    assert bundle.write(folder, description(features=other_mean), UNITS, "").id != first
    swapped = AcousticSettings("gru", 8, 2, 3, {"phones": 2, "pieces": 3})
    assert bundle.write(folder, description(acoustic=swapped), UNITS, "").id != first
    units = UNITS | {"phones": ("<blank>", "AH1")}
    assert bundle.write(folder, description(), units, "").id != first
    (tmp_path / "acoustic.int8.onnx").write_bytes(b"networks")
    assert bundle.write(folder, description(), UNITS, "").id != first


@pytest.mark.parametrize("name", ["acoustic.int8.onnx", "units.pieces.txt", "units.phones.txt"])
def test_a_lost_or_changed_file_is_told(folder: Path, name: str) -> None:
    """A half-finished download must not recognise nonsense."""
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"!")
    with pytest.raises(BundleError, match=r"^[^\n]*(id does not fit|units)[^\n]*$"):
        bundle.read(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=r"^[^\n]*(id does not fit|cannot be read)[^\n]*$"):
        bundle.read(folder)


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_never_passes(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    """Whatever byte of the header is damaged: an error of ours, or a text that means the same."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "acoustic.int8.onnx").write_bytes(b"network")
    whole = bundle.write(folder, description(), UNITS, "")
    header = bytearray((folder / "model.toml").read_bytes())
    header[position % len(header)] = value
    (folder / "model.toml").write_bytes(header)
    try:
        read = bundle.read(folder)
    except BundleError as error:
        assert "\n" not in str(error)  # noqa: PT017  # either way is fine
    else:
        assert (read.id, read.units) == (whole.id, whole.units)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("format = 1", "format = 2", "reads 1"),
        ("format = 1\n", "", "format None"),
        ('id = "', 'id = "0', "does not fit"),
        ('name = "test"\n', "", "lacks name"),
        ('language = "en"', "language = 3", "language is not a text"),
        ("[features]", "[feature]", "unknown key feature"),
        ("sample_rate = 16000", "sample_rate = 8000", "sample_rate"),
        ("bands = 80", "bands = 40", "bands"),
        ("bands = 80", "bands = 80\nhop = 160", "unknown key features.hop"),
        ("mean = [-6.0, ", "mean = [", "features.mean is not 80 numbers"),
        ("deviation = [2.5, ", "deviation = [0.0, ", "not positive"),
        ("deviation = [2.5, ", "deviation = [nan, ", "not 80 numbers"),
        ("deviation = [2.5, ", 'deviation = ["x", ', "wrong kind"),
        ('cell = "gru"', 'cell = "transformer"', "rnn, gru, lstm"),
        ("width = 8", "width = 0", "width"),
        ("depth = 2", "depth = true", "depth"),
        ("look_ahead = 3", "look_ahead = 9", "0 … 8"),
        (
            "look_ahead = 3",
            "look_ahead = 3\nwaits = { ears = 2 }",
            "unknown key acoustic.waits.ears",
        ),
        ("look_ahead = 3", "look_ahead = 3\nwaits = { pieces = -2 }", "acoustic.waits.pieces is"),
        ("pieces = 3", "pieces = 4", "has 3 units"),
        ("phones = 2", "letters = 2", "units.letters.txt cannot be read"),
        ("phones = 2", '"../x" = 2', "not a plain name"),
        ("[acoustic]", "[acoustic", "damaged"),
        ("hours = 1.5", "hours = 1.5\nhours = 1", "damaged"),
    ],
)
def test_what_does_not_fit_is_named(folder: Path, old: str, new: str, complaint: str) -> None:
    """One line that says what is wrong, so that nobody searches for it."""
    header = (folder / "model.toml").read_text(encoding="utf-8")
    assert old in header
    (folder / "model.toml").write_text(header.replace(old, new), encoding="utf-8")
    with pytest.raises(BundleError) as told:
        bundle.read(folder)
    assert complaint in str(told.value)
    assert str(folder) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("units", [("", "a", "b"), ("<blank>", "a"), ("<blank>", "a", "a"), ()])
def test_units_that_do_not_fit_are_refused(folder: Path, units: tuple[str, ...]) -> None:
    """A unit's number is its line: one line more or less garbles every word."""
    with pytest.raises(BundleError, match=r"units\.pieces\.txt"):
        bundle.write(folder, description(), UNITS | {"pieces": units}, "")


def test_odd_units_keep_their_lines(folder: Path) -> None:
    """Only the line feed separates units; Unicode's other line breaks may be inside one."""
    units = UNITS | {"pieces": ("<blank>", "a\u2028b", "\x0c")}
    assert bundle.write(folder, description(), units, "").units == units


def test_a_bundle_without_a_network_is_refused(tmp_path: Path) -> None:
    """Writing is the moment to notice."""
    with pytest.raises(BundleError, match="write it before"):
        bundle.write(tmp_path, description(), UNITS, "")


def test_an_unfinished_bundle_cannot_be_read(folder: Path) -> None:
    """An export that breaks off leaves no header, or the old files would pass for the new model."""
    (folder / "acoustic.int8.onnx").unlink()
    with pytest.raises(BundleError):
        bundle.write(folder, description(), UNITS, "")
    with pytest.raises(BundleError, match=r"no readable model\.toml"):
        bundle.read(folder)


def test_files_of_the_desktop_change_nothing(folder: Path) -> None:
    """A hidden file that a file manager left is not damage; any other stray file is."""
    (folder / ".DS_Store").write_bytes(b"x")
    assert bundle.read(folder).units == UNITS
    (folder / "lexicon.txt").write_bytes(b"x")
    with pytest.raises(BundleError, match="id does not fit"):
        bundle.read(folder)


def test_an_absent_precision_is_told(folder: Path) -> None:
    """A bundle may leave the large file out."""
    read = bundle.read(folder)
    with pytest.raises(BundleError, match=r"holds no acoustic\.float32\.onnx"):
        read.acoustic_file("float32")
    with pytest.raises(BundleError, match="none of int8, float32"):
        read.acoustic_file("int4")


def test_a_bundle_is_found_by_path_and_an_unknown_one_told(folder: Path) -> None:
    """Names are those of shipped models; the message lists them."""
    assert bundle.find(folder) == folder
    assert bundle.find(str(folder)) == folder
    with pytest.raises(BundleError, match="no shipped model"):
        bundle.find("klingon")
    with pytest.raises(BundleError, match="asr export"):
        bundle.find("runs/english/best.pt")


values = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.dates(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(content=st.dictionaries(st.text(), values, max_size=5))
def test_the_toml_we_write_is_read_back_exactly(content: dict[str, Any]) -> None:
    """Python's own reader is the judge: texts with any character, floats to the last bit."""
    assert tomllib.loads(toml_writer.table("training", content)) == {"training": content}


def test_what_toml_cannot_hold_is_refused() -> None:
    """No value turns into a text in silence."""
    for value in (None, float("nan"), {1, 2}, b"x"):
        with pytest.raises(TypeError):
            toml_writer.value(value)
