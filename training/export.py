"""From a checkpoint to the bundle that ships, and back to weights that training can start from.

What ships is what was measured: the weights are rounded to float16 first, and both graphs, the
float32 one (checked against PyTorch here) and the int8 one, are made of the rounded weights.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from asr import bundle
from asr.errors import BundleError
from asr.features import Normalisation
from asr.onnx_backend import OnnxModel
from training.agreement import Agreement, compare, random_features
from training.decoding import LanguageSource, write_language
from training.graph import PRECISIONS, write_graph
from training.graph_builder import WEIGHT_PREFIX
from training.quantise import round_weights
from training.torch_backend import TorchModel

if TYPE_CHECKING:
    from asr.decoding.settings import BeamSettings
    from training.checkpoint import Checkpoint
    from training.model import AcousticNetwork

TOLERANCE = 1e-4  # float32 graph against PyTorch, log-probabilities; 1e-5 is usual
UNKNOWN_LICENCE = "NOASSERTION"  # SPDX: nothing is said about it
UNKNOWN_LANGUAGE = "und"  # BCP 47: undetermined


@dataclass(frozen=True, slots=True)
class Names:
    """What people call a model.

    Attributes:
        name: such as `english`.
        language: BCP 47 code, `und` if undetermined.
        licence: SPDX name, `NOASSERTION` if nothing is said.
    """

    name: str
    language: str = UNKNOWN_LANGUAGE
    licence: str = UNKNOWN_LICENCE


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that was written.

    Attributes:
        bundle: the bundle, read back.
        agreement: of each graph with PyTorch, by precision.
    """

    bundle: bundle.Bundle
    agreement: dict[str, Agreement]


def export_bundle(
    checkpoint: Checkpoint,
    folder: str | Path,
    names: Names,
    card: str | None = None,
    language: LanguageSource | None = None,
) -> Exported:
    """Write a checkpoint's network as a bundle.

    Args:
        checkpoint: its averaged weights are what is exported.
        folder: becomes the bundle; an older bundle there is replaced once the new one is whole.
        names: name, language and licence.
        card: text of `MODEL_CARD.md`; by default what the checkpoint itself can say.
        language: becomes a part of the bundle, which then is searched instead of spelled.

    Raises:
        BundleError: the network has no head that can be exported, its weights do not fit into
            float16, the float32 graph differs from PyTorch by more than 1e-4, or the folder holds
            something else than a bundle. Nothing is changed then.
    """
    folder = Path(folder)
    _demand_room(folder)
    network = rounded(checkpoint.build())
    heads = network.config.exported_heads()
    if not heads:
        raise BundleError("no head reads the last layer, so there is nothing to export")
    description = describe(checkpoint, names)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as draft:
        new = Path(draft) / "new"
        new.mkdir()
        agreement = _write_graphs(network, new)
        units = {head: checkpoint.units[head] for head in heads}
        if language:
            description = replace(
                description, decoding=_write_language(language, new, description, units)
            )
        bundle.write(new, description, units, card or default_card(checkpoint, names))
        if folder.exists():
            folder.rename(Path(draft) / "old")
        new.rename(folder)
    return Exported(bundle.read(folder), agreement)


def read_weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """The weights of a bundle, for training to start from.

    Args:
        folder: of a bundle that holds `acoustic.float32.onnx`.

    Returns:
        A state dict in float32, whose values are exact in float16.

    Raises:
        BundleError: the file is missing, damaged, or was not written by this project.
    """
    path = Path(folder) / "acoustic.float32.onnx"
    try:
        model = onnx.load(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's DecodeError, which onnx does not name
        raise BundleError(f"{path}: damaged, not an ONNX file") from error
    weights = {
        tensor.name.removeprefix(WEIGHT_PREFIX): torch.from_numpy(
            onnx.numpy_helper.to_array(tensor).astype(np.float32)
        )
        for tensor in model.graph.initializer
        if tensor.name.startswith(WEIGHT_PREFIX)
    }
    if not weights:
        raise BundleError(f"{path}: holds no weights that training can start from")
    return weights


def rounded(network: AcousticNetwork) -> AcousticNetwork:
    """A copy of a network with its weights rounded to float16, on the CPU and in evaluation mode.

    Raises:
        BundleError: a weight does not fit into float16.
    """
    weights = {
        name: torch.from_numpy(value.astype(np.float32))
        for name, value in round_weights(network.state_dict()).items()
    }
    twin = copy.deepcopy(network).cpu().eval()
    twin.load_state_dict(weights)
    return twin


def describe(checkpoint: Checkpoint, names: Names) -> bundle.Description:
    """What the bundle's `model.toml` says."""
    config = checkpoint.network
    return bundle.Description(
        name=names.name,
        language=names.language,
        licence=names.licence,
        features=bundle.FeatureSettings(tuple(checkpoint.mean), tuple(checkpoint.deviation)),
        acoustic=bundle.AcousticSettings(
            cell=config.cell,
            width=config.width,
            depth=config.depth,
            look_ahead=config.look_ahead,
            heads=config.exported_heads(),
            waits={
                name: head.look_ahead for name, head in config.readers().items() if head.look_ahead
            },
        ),
        training=_plain({"progress": checkpoint.progress, "recipe": checkpoint.recipe}),
    )


def default_card(checkpoint: Checkpoint, names: Names) -> str:
    """A model card that says what the checkpoint knows of itself."""
    config = checkpoint.network
    heads = ", ".join(f"{name} ({units} units)" for name, units in config.exported_heads().items())
    progress = "\n".join(f"- {key}: {value}" for key, value in _plain(checkpoint.progress).items())
    return (
        f"# {names.name}\n\n"
        f"- language: {names.language}\n"
        f"- licence: {names.licence}\n"
        f"- network: {config.depth} layers of {config.cell}, width {config.width}, "
        f"look-ahead {40 * config.look_ahead} ms, heads: {heads}\n\n"
        f"## Training\n\n{progress or 'The checkpoint says nothing about it.'}\n\n"
        "The recipe, with the data that it names, stands in `model.toml` under `[training]`.\n"
    )


def _demand_room(folder: Path) -> None:
    """Refuse to replace anything but a bundle or an empty folder."""
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / bundle.HEADER).is_file()):
        return
    if folder.exists():
        raise BundleError(f"{folder}: holds something else than a bundle; choose another folder")


def _write_graphs(network: AcousticNetwork, folder: Path) -> dict[str, Agreement]:
    """Write all precisions and compare them with PyTorch; refuse a wrong float32 graph."""
    truth, agreement = TorchModel(network), dict[str, Agreement]()
    for precision in PRECISIONS:
        path = folder / f"acoustic.{precision}.onnx"
        write_graph(network, path, precision)
        graph = OnnxModel(path, truth.heads, truth.look_ahead)
        agreement[precision] = compare(graph, truth, random_features())
    error = agreement["float32"].largest
    if not error <= TOLERANCE:  # not a number is no agreement either
        raise BundleError(
            f"the float32 graph differs from PyTorch by {error:.1e} (at most {TOLERANCE:.0e}): "
            "the weights are unusual or this ONNX Runtime is faulty; nothing was written"
        )
    return agreement


def _write_language(
    source: LanguageSource,
    folder: Path,
    description: bundle.Description,
    units: dict[str, list[str]],
) -> BeamSettings:
    """Write a language's files beside the graphs; the settings that go with them."""
    head = source.settings.head
    if head not in units:
        raise BundleError(f"decoding.head is {head!r}; the network has {', '.join(units)}")
    acoustic, features = description.acoustic, description.features
    graph = OnnxModel(
        folder / "acoustic.float32.onnx", acoustic.heads, acoustic.look_ahead_of(head)
    )
    normalisation = Normalisation(
        np.array(features.mean, np.float32), np.array(features.deviation, np.float32)
    )
    return write_language(source, folder, graph, units[head], normalisation)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Those values that TOML can hold: no None, no number that is not finite; paths as text."""
    return {str(key): _plain_value(value) for key, value in values.items() if _writable(value)}


def _plain_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value if _writable(item)]
    return str(value) if isinstance(value, Path) else value


def _writable(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | Path | dict | list | tuple)
