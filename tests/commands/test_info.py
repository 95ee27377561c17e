"""`asr info`: everything about a bundle, for people and for programs."""

from __future__ import annotations

import json
import shutil

from asr import bundle, commands


def test_json_tells_what_the_bundle_is(model, capsys):
    """One object on one line."""
    assert commands.main(["info", model, "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert out.count("\n") == 1
    assert err == ""
    assert told["model"]["id"] == bundle.read(model).id
    assert told["model"]["licence"] == "CC0-1.0"
    assert told["acoustic"] == {"cell": "gru", "width": 16, "depth": 2, "units": {"pieces": 10}}
    assert told["latency"] == {"block_ms": 80, "look_ahead_ms": 120, "algorithmic_ms": 200}
    assert told["training"]["data"] == "none"
    assert told["model"]["files_bytes"]["acoustic.int8.onnx"] > 1000
    assert set(told["program"]) >= {"asr", "python", "platform", "numpy", "onnxruntime"}


def test_people_get_the_same_in_lines(model, capsys):
    """Every value of the JSON stands in the text."""
    commands.main(["info", model, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert commands.main(["info", model]) == 0
    text = capsys.readouterr().out
    assert "acoustic\n  cell " in text
    for value in (told["model"]["id"], told["model"]["path"], "gru", "algorithmic_ms", "200"):
        assert str(value) in text


def test_a_damaged_bundle_is_one_line(model, capsys, tmp_path):
    """A flipped byte in the weights is found before anybody trusts them."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    weights = bytearray((copy / "acoustic.int8.onnx").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "acoustic.int8.onnx").write_bytes(weights)
    assert commands.main(["info", str(copy)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(copy) in err
