"""Everything a stream remembers, as one frozen value, and the bytes it is saved in.

Saved form, little-endian: the magic `asr-state`, a byte for the version, the length of the head
(4 bytes), the head (JSON in UTF-8), the arrays as raw float32 one after another, and the SHA-256 of
all before it. Floats in the head are written so that they are read back exactly. Nothing is
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import FrozenInstanceError, dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from asr.errors import ConfigError, StateError
from asr.transcript import Alternative, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from asr.acoustic import AcousticState, Array
    from asr.decoding import Decoder

MAGIC = b"asr-state"
VERSION = 4
_START = struct.Struct(f"<{len(MAGIC)}sBI")
_CHECKSUM_BYTES = hashlib.sha256().digest_size
MIN_ENDPOINT_MS = 480  # a word is committed after that pause at the earliest
MAX_ENDPOINT_MS = 60_000
MAX_N_BEST = 10
_OPTIONS = ("endpoint_ms", "partials", "phrases", "n_best")
_COUNTERS = ("samples", "repaired", "blocks", "first_block", "silent_blocks", "segment")


@dataclass(frozen=True, slots=True)
class Options:
    """What a stream's listener wants.

    Attributes:
        endpoint_ms: the pause that ends a segment, 480 … 60000 ms.
        partials: whether `Partial` events are wanted.
        phrases: what is likely to be said: words that the model knows, in lower case, with single
            spaces. Only a model with a language can expect them.
        n_best: readings wanted of a segment, 1 … 10: its words and the likeliest alternatives. More
            than 1 only of a model with a language.
    """

    endpoint_ms: int = 800
    partials: bool = True
    phrases: tuple[str, ...] = ()
    n_best: int = 1

    def __post_init__(self) -> None:
        if type(self.endpoint_ms) is not int or not (
            MIN_ENDPOINT_MS <= self.endpoint_ms <= MAX_ENDPOINT_MS
        ):
            raise ConfigError(
                f"endpoint_ms is {self.endpoint_ms!r}; it must be an integer in "
                f"{MIN_ENDPOINT_MS} … {MAX_ENDPOINT_MS}"
            )
        if type(self.partials) is not bool:
            raise ConfigError(f"partials is {self.partials!r}; it must be true or false")
        if type(self.phrases) is not tuple or not all(type(p) is str for p in self.phrases):
            raise ConfigError(f"phrases is {self.phrases!r}; it must be a tuple of texts")
        if type(self.n_best) is not int or not 1 <= self.n_best <= MAX_N_BEST:
            raise ConfigError(
                f"n_best is {self.n_best!r}; it must be an integer in 1 … {MAX_N_BEST}"
            )


def plain(phrase: str) -> str:
    """A phrase as `Options.phrases` holds it: in lower case, with single spaces."""
    return " ".join(phrase.lower().split())


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What one stream remembers between two steps. Its arrays are never written to.

    So a copy is the state itself. It cannot be pickled, for a pickle would have to hold the model
    that it shares: `dump` gives its bytes, and `Recognizer.restore` takes them.

    Attributes:
        bundle_id: the model that it belongs to.
        options: what the listener wants.
        waiting: samples not yet done with, the 240 that the next block looks back to among them,
            float32 [240 … 1,519]; of a stream that has ended whole blocks, in which silence follows
            the audio, and none when all is done.
        acoustic: state of the network.
        decoder: state of the decoder.
        words: committed words of the open segment, at most 99.
        readings: of the open segment, if `options.n_best` is above 1: its words with score 0 and
            the alternatives, best first; at most so many.
        shown: `stable` and `tentative` of the last partial; empty in a new segment.
        samples: samples taken in so far.
        repaired: how many of them were no audio (not finite, or beyond ±1e6) and became zero.
        blocks: blocks done.
        first_block: the first block that was not silent, -1 before it.
        silent_blocks: silent blocks in a row at the end; counted up to where counting matters.
        segment: number of the open segment.
        ended: whether the audio has ended; then no more is taken.
        codec: the decoder that can write `decoder` down. Shared, and no part of the value.
    """

    bundle_id: str
    options: Options
    waiting: Array
    acoustic: AcousticState
    decoder: Any
    words: tuple[Word, ...] = ()
    readings: tuple[Alternative, ...] = ()
    shown: tuple[str, str] = ("", "")
    samples: int = 0
    repaired: int = 0
    blocks: int = 0
    first_block: int = -1
    silent_blocks: int = 0
    segment: int = 0
    ended: bool = False
    codec: Decoder = field(kw_only=True, repr=False)

    @property
    def finished(self) -> bool:
        """Whether all is said: the audio has ended, and its last block is done."""
        return self.ended and not self.waiting.size

    def __copy__(self) -> Self:
        """The state itself."""
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """The state itself."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "a State cannot be pickled, since it shares a model; send the bytes of State.dump(), "
            "and have Recognizer.restore() of the same model read them"
        )

    def dump(self) -> bytes:
        """The state as bytes for `Recognizer.restore`; equal bytes mean equal states."""
        arrays = [np.ascontiguousarray(a, "<f4") for a in (self.waiting, *self.acoustic)]
        head = {
            "bundle": self.bundle_id,
            "options": [getattr(self.options, name) for name in _OPTIONS],
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "finished": self.ended,
            "shown": self.shown,
            "words": _plain_words(self.words),
            "readings": [[_plain_words(r.words), r.score] for r in self.readings],
            "decoder": self.codec.dump(self.decoder),
            "shapes": [a.shape for a in arrays],
        }
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
        start = _START.pack(MAGIC, VERSION, len(text))
        body = b"".join([start, text, *(a.tobytes() for a in arrays)])
        return body + hashlib.sha256(body).digest()


def _refuse(kept: object, name: str, *_value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign or delete {name!r}: {type(kept).__name__} is frozen")


# Python's own refuses fields likewise, but stumbles over other names where there are slots.
State.__setattr__ = State.__delattr__ = _refuse  # type: ignore[method-assign]


def restore(
    saved: bytes,
    bundle_id: str,
    decoder_for: Callable[[Options], Decoder],
    initial: AcousticState,
    waiting_lengths: Callable[[State], Container[int]],
) -> State:
    """The state that `State.dump` wrote.

    Args:
        saved: those bytes.
        bundle_id: the model that is to go on.
        decoder_for: its decoder for a listener.
        initial: a state of its network, for the shapes.
        waiting_lengths: how many samples can wait in a stream.

    Raises:
        StateError: the bytes are damaged, of another version or of another model.
    """
    head, data = _open(saved)
    if head.get("bundle") != bundle_id:
        raise StateError(
            f"the saved state belongs to model {str(head.get('bundle'))[:12]}…, not to "
            f"{bundle_id[:12]}…: restore it with the model, precision and decoder that made it"
        )
    try:
        waiting, *acoustic = _arrays(head["shapes"], data)
        wanted = dict(zip(_OPTIONS, head["options"], strict=True))
        options = Options(**{**wanted, "phrases": tuple(wanted["phrases"])})
        codec = decoder_for(options)
        stable, tentative = head["shown"]
        state = State(
            bundle_id=bundle_id,
            options=options,
            waiting=waiting,
            acoustic=tuple(acoustic),
            decoder=codec.restore(head["decoder"]),
            words=_words(head["words"]),
            readings=tuple(Alternative(_words(words), score) for words, score in head["readings"]),
            shown=(stable, tentative),
            ended=head["finished"],
            codec=codec,
            **head["counters"],
        )
        lengths = waiting_lengths(state)
    except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"the saved state does not hold a state ({error})") from error
    if [a.shape for a in acoustic] != [a.shape for a in initial]:
        raise StateError("the saved state holds arrays of other shapes than the model's")
    if waiting.ndim != 1 or len(waiting) not in lengths:
        raise StateError("the saved state holds another number of waiting samples than it can")
    return state


def _plain_words(words: tuple[Word, ...]) -> list[list[Any]]:
    return [[w.text, w.start, w.end, w.confidence] for w in words]


def _words(plain_words: list[list[Any]]) -> tuple[Word, ...]:
    return tuple(Word(*word) for word in plain_words)


def _open(saved: bytes) -> tuple[dict[str, Any], memoryview]:
    """The head and the arrays' bytes of a saved state, once magic, checksum and version fit."""
    view = memoryview(saved)
    if len(view) < _START.size + _CHECKSUM_BYTES:
        raise StateError(f"the saved state is cut off: it has {len(view)} bytes")
    magic, version, length = _START.unpack_from(view)
    if magic != MAGIC:
        raise StateError("these bytes are no saved state: the first ones differ")
    if version != VERSION:
        raise StateError(f"the saved state is of version {version}; this program reads {VERSION}")
    body = view[:-_CHECKSUM_BYTES]
    if hashlib.sha256(body).digest() != view[-_CHECKSUM_BYTES:]:
        raise StateError("the saved state is damaged: its checksum does not fit")
    try:
        head = json.loads(bytes(body[_START.size : _START.size + length]))
    except ValueError as error:
        raise StateError("the saved state has a head that is not JSON") from error
    if not isinstance(head, dict):
        raise StateError("the saved state has a head that is not an object")
    return head, body[_START.size + length :]


def _arrays(shapes: list[list[int]], data: memoryview) -> list[Array]:
    """Arrays of those shapes out of the bytes, read-only; ValueError if they do not fill them."""
    flat = np.frombuffer(data, "<f4").astype(np.float32)
    flat.flags.writeable = False
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    if ends[-1] != len(flat):
        raise ValueError("arrays of another length")
    return [flat[a:b].reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False)]
