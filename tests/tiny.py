"""Tiny recognisers that say many words: random networks of every cell, behind every backend.

The weights are random but the same in every process; the blank's bias is set so that most frames
are blank, as with a trained network. `reading` is an LSTM whose pieces are spelled from sounds by a
head that reads another. `numpy` is a plain recurrent network without any library,
quick enough for long audio; it plays a cell of its own. `beam` is the same one, whose units are
searched for the words of a small language instead of spelled.

Sizes: N streams, T frames, V units, H width, L look-ahead.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import asr
from asr import bundle
from asr.decoding.greedy import GreedyDecoder, GreedyState
from asr.decoding.kernel import ENTRY, HYPOTHESIS, pack, unpack_arena, unpack_hypotheses
from asr.decoding.settings import BeamSettings
from asr.features import Normalisation, log_mel
from tests.asr.small_language import language

if TYPE_CHECKING:
    from asr.acoustic import AcousticState, Array
    from asr.decoding.beam import BeamDecoder
    from training.model import AcousticNetwork

Backend = Literal["float32", "int8", "torch", "numpy", "beam"]
CELLS = ("rnn", "gru", "lstm")
MODELS: list[tuple[str, Backend]] = [
    *((cell, backend) for cell in CELLS for backend in ("float32", "int8", "torch")),
    ("reading", "int8"),
    ("reading", "torch"),
    ("plain", "numpy"),
    ("plain", "beam"),
]
UNITS = ("<blank>", "▁", "▁an", "▁be", "▁cat", "d", "ing", "▁eye", "s", "▁far")
SOUNDS = ("<blank>", "A", "B", "C", "D")
LOOK_AHEAD = {"rnn": 0, "gru": 3, "lstm": 4, "reading": 3, "plain": 1}
MEAN, DEVIATION = -4.0, 4.0  # of the log-mel energies of `sound`, roughly
BLANK_SHARE = 0.5


def sound(seconds: float, seed: int) -> Array:
    """Something like speech: bursts of coloured noise and tones with pauses, float32 [n]."""
    random = np.random.default_rng(seed)
    pieces = [np.zeros(0)]
    while sum(map(len, pieces)) < seconds * 16000:
        length = int(random.integers(300, 4000))
        kind = random.integers(4)
        if kind == 0:
            pieces.append(random.standard_normal(length) * 1e-3)
        elif kind == 1:
            pieces.append(np.sin(np.arange(length) * random.uniform(0.02, 1.5)) * 0.3)
        else:
            noise = random.standard_normal(length) * 10 ** random.uniform(-2, -0.5)
            pieces.append(np.convolve(noise, random.standard_normal(8), "same"))
    return np.concatenate(pieces)[: int(seconds * 16000)].astype(np.float32)


def normalised(samples: Array, look_ahead: int) -> Array:
    """Features as the tiny networks take them, float32 [F, 80]."""
    return normalisation()(log_mel(samples, look_ahead))


def normalisation() -> Normalisation:
    """The tiny networks' own."""
    return Normalisation(np.full(80, MEAN, np.float32), np.full(80, DEVIATION, np.float32))


@cache
def network(cell: str) -> AcousticNetwork:
    """A random network whose best units change often. Not to be trained."""
    import torch

    from training.model import AcousticNetwork, HeadConfig, NetworkConfig

    heads = {"pieces": HeadConfig(len(UNITS), 2)}
    kind = cell
    if cell == "reading":
        heads = {
            "pieces": HeadConfig(len(UNITS), 2, "sounds", width=12, look_ahead=2),
            "sounds": HeadConfig(len(SOUNDS), 2),
        }
        kind = "lstm"
    config = NetworkConfig(kind, 16, 2, LOOK_AHEAD[cell], 12, 0.0, heads)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(CELLS.index(kind))
        made = AcousticNetwork(config).eval()
        weights = dict(made.named_parameters())
        for layer in range(2):
            weights[f"layers.{layer}.weight_ih_l0"].mul_(3)
        weights["ahead"].add_(0.3 * torch.randn_like(weights["ahead"]))
        for name in ("heads.pieces.weight", "heads.sounds.weight", "readers.pieces.weight_ih_l0"):
            if name in weights:
                weights[name].mul_(8)
        ahead = config.longest_look_ahead()
        logits = made(torch.from_numpy(normalised(sound(20, 0), ahead))[None])
        pieces = logits["pieces"][0]
        lead = pieces[:, 1:].amax(1) - pieces[:, 0]
        weights["heads.pieces.bias"][:: len(UNITS)] += torch.quantile(lead, BLANK_SHARE)
        for parameter in weights.values():
            parameter.copy_(parameter.half().float())  # the precision that ships
    return made


def write_bundle(folder: Path, cell: str = "lstm") -> bundle.Bundle:
    """A whole bundle of a tiny network, in an existing folder."""
    from training.graph import write_graph

    made = network(cell)
    write_graph(made, folder / "acoustic.float32.onnx", "float32")
    write_graph(made, folder / "acoustic.int8.onnx", "int8")
    c = made.config
    description = bundle.Description(
        name=f"tiny-{cell}",
        language="en",
        licence="CC0-1.0",
        features=bundle.FeatureSettings((MEAN,) * 80, (DEVIATION,) * 80),
        acoustic=bundle.AcousticSettings(
            c.cell,
            c.width,
            c.depth,
            c.look_ahead,
            c.exported_heads(),
            {name: head.look_ahead for name, head in c.readers().items()},
        ),
        training={"hours": 0.0, "data": "none"},
    )
    units = {name: {"pieces": UNITS, "sounds": SOUNDS}[name] for name in c.heads}
    return bundle.write(folder, description, units, "# Tiny\n\nRandom weights.\n")


@cache
def recognizer(cell: str = "lstm", backend: Backend = "int8") -> asr.Recognizer:
    """A tiny recogniser. All backends of a cell have the same weights and the same bundle id."""
    if backend in {"int8", "float32"}:
        with tempfile.TemporaryDirectory() as folder:
            return asr.load(write_bundle(Path(folder), cell).path, precision=backend)
    decoder = GreedyDecoder(UNITS, "pieces")
    if backend == "numpy":
        return asr.Recognizer(PlainModel(), decoder, normalisation(), bundle_id="plain")
    if backend == "beam":
        return asr.Recognizer(PlainModel(), searching(), normalisation(), bundle_id="searched")
    from training.torch_backend import TorchModel

    return asr.Recognizer(TorchModel(network(cell)), decoder, normalisation(), bundle_id=cell)


@cache
def searching() -> BeamDecoder:
    """A beam search over the tiny networks' units, for short words in a random language."""
    spoken = language(3, words=30, phones=len(UNITS) - 1, longest=2)
    return spoken.decoder(BeamSettings(head="pieces", beam=20, steadiness=1.2))


def later(state: Any, frames: int) -> Any:
    """A decoder's state as if that many frames more had come before."""
    if isinstance(state, GreedyState):
        moved = {name: getattr(state, name) + frames for name in ("frame", "start", "end")}
        return state._replace(**moved)
    hypotheses = [
        h._replace(start=h.start + frames if h.node else 0, end=h.end + frames)
        for h in unpack_hypotheses(state.hypotheses)
    ]
    arena = [
        e._replace(start=e.start + frames, end=e.end + frames) for e in unpack_arena(state.arena)
    ]
    return state._replace(
        frame=state.frame + frames,
        end=state.end + frames,
        hypotheses=pack(HYPOTHESIS, hypotheses),
        arena=pack(ENTRY, arena),
    )


class PlainModel:
    """A tanh network with a look-ahead of one frame, stream by stream, frame by frame, in NumPy."""

    def __init__(self, width: int = 8) -> None:
        random = np.random.default_rng(7)
        self.look_ahead = 1
        self.heads = {"pieces": len(UNITS)}
        self.width = width
        self.into = (random.standard_normal((width, 320)) * 0.05).astype(np.float32)
        self.around = (random.standard_normal((width, width)) * 0.4).astype(np.float32)
        self.out = (random.standard_normal((len(UNITS), width)) * 4).astype(np.float32)
        self.bias = np.zeros(len(UNITS), np.float32)
        self.bias[0] = 8

    def initial(self) -> AcousticState:
        """The recurrent state [H] and the frame before [H]."""
        return np.zeros(self.width, np.float32), np.zeros(self.width, np.float32)

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """See `asr.acoustic.AcousticModel.step`."""
        outputs: list[Array] = []
        after: list[AcousticState] = []
        for block, (h, before) in zip(features, states, strict=True):
            first, second = block.reshape(2, -1)
            h1 = np.tanh(self.into @ first + self.around @ h)
            h2 = np.tanh(self.into @ second + self.around @ h1)
            logits = np.stack([before + 0.5 * h1, h1 + 0.5 * h2]) @ self.out.T + self.bias
            outputs.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
            after.append((h2, h2))
        return {"pieces": np.stack(outputs)}, after


def words(events: list[asr.Event]) -> list[asr.Word]:
    """The words of all finals."""
    return [word for event in events if isinstance(event, asr.Final) for word in event.words]


def listen(
    made: asr.Recognizer, samples: Array, options: asr.Options | None = None
) -> list[asr.Event]:
    """All events of a sound given in one piece."""
    stream = made.stream(options or asr.Options())
    return [*stream.feed(samples), *stream.finish()]
