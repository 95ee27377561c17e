"""What recognises for a command: a bundle, a fresh checkpoint or a server, all called alike."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asr.commands.arguments import websocket

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from asr.resampling import Samples
    from asr.state import Options
    from asr.transcript import Event, Transcript

    Recognition = Callable[
        [Iterable[Samples], int, Callable[[Event], None] | None], tuple[Transcript, int]
    ]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose a model."""
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help="model to use: a shipped one's name, a bundle's folder or a checkpoint (.pt) "
        "(default: the one that ships)",
    )
    parser.add_argument(
        "--precision",
        choices=("int8", "float32"),
        default="int8",
        help="arithmetic of the model (default: int8)",
    )
    add_decoder_argument(parser)


def add_decoder_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the option that chooses how words are found."""
    parser.add_argument(
        "--decoder",
        choices=("beam", "greedy"),
        help="beam: search with lexicon and language model; greedy: spell what is heard (default: "
        "beam where the model has a language)",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose what recognises: a model here or a server."""
    add_model_arguments(parser)
    parser.add_argument(
        "--url",
        type=websocket,
        metavar="WS_URL",
        help="let a server recognise, such as ws://127.0.0.1:8765, instead of a model here; "
        "with the API key of the variable ASR_KEY",
    )
    parser.add_argument(
        "--phrase",
        action="append",
        default=[],
        metavar="TEXT",
        help="words that are likely to be said, such as a name; may be given several times",
    )
    parser.add_argument(
        "--n-best",
        type=_n_best,
        default=1,
        metavar="N",
        help="readings of each segment, 1 to 10: its words and the likeliest alternatives, which "
        "json tells (default: 1)",
    )
    parser.add_argument(
        "--endpoint-ms",
        type=_endpoint_ms,
        metavar="MS",
        help="the pause that ends a segment, 480 to 60000 (default: 800); it changes no word",
    )


def _endpoint_ms(text: str) -> int:
    import argparse

    from asr.state import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS

    if text.isdecimal() and MIN_ENDPOINT_MS <= int(text) <= MAX_ENDPOINT_MS:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"{text} is no pause of {MIN_ENDPOINT_MS} to {MAX_ENDPOINT_MS} ms"
    )


def _n_best(text: str) -> int:
    import argparse

    from asr.state import MAX_N_BEST

    if text.isdecimal() and 1 <= int(text) <= MAX_N_BEST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no number of 1 to {MAX_N_BEST}")


def options(args: argparse.Namespace) -> Options:
    """What the arguments want of the recogniser.

    Raises:
        UsageError: a phrase has no words.
    """
    from asr.errors import UsageError
    from asr.state import Options, plain

    phrases = tuple(map(plain, args.phrase))
    if not all(phrases):
        raise UsageError("--phrase needs words; drop the empty one")
    if args.endpoint_ms is None:
        return Options(phrases=phrases, n_best=args.n_best)
    return Options(args.endpoint_ms, phrases=phrases, n_best=args.n_best)


def tell(line: str) -> None:
    """Tell something that is no word."""
    print(f"asr: {line}", file=sys.stderr, flush=True)


def choose(args: argparse.Namespace, notice: Callable[[str], None] = tell) -> Recognition:
    """What the arguments ask for, ready to recognise.

    Args:
        args: as `add_arguments` has it.
        notice: called with a line for people where the connection to a server was lost.

    Returns:
        A function of mono chunks (float32 [n] each), their sample rate, and what to call with every
        event; it gives the transcript, and how many samples were no audio.

    Raises:
        UsageError: the arguments contradict each other.
        Error: the model cannot be loaded.
    """
    from asr.errors import UsageError

    if args.url is not None:
        if args.model is not None or args.precision != "int8" or args.decoder is not None:
            raise UsageError(
                "--url leaves --model, --precision and --decoder to the server; drop them"
            )
        return _remote(args.url, options(args), notice)
    wanted = options(args)
    return _local(load(args.model, args.precision, args.decoder), wanted)


@dataclass(frozen=True, slots=True)
class Model:
    """A choice of model that other processes and machines can load: call it.

    Attributes:
        name: as `--model` has it; a path must be absolute for others to find it.
        precision: `int8` or `float32`.
        decoder: `beam` or `greedy`; None is the model's best.
    """

    name: str | None
    precision: str
    decoder: str | None

    def __call__(self) -> Any:
        """The recogniser; errors as in `load`."""
        return load(self.name, self.precision, self.decoder)


def load(model: str | None, precision: str, decoder: str | None = None) -> Any:
    """The recogniser of a bundle, or of a checkpoint if the name ends in `.pt`.

    Raises:
        Error: it cannot be loaded, or the packages that a checkpoint needs are not installed.
    """
    import asr
    from asr.errors import install

    if model is None or not model.endswith(".pt"):
        return asr.load(model, precision=precision, decoder=decoder)
    if decoder == "beam":
        raise asr.ConfigError(
            f"{model}: a checkpoint has no language to search; make a bundle with asr export --lm"
        )
    try:
        from training.torch_backend import load_checkpoint_recognizer
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise asr.ConfigError(
            f"{model}: a checkpoint runs through PyTorch, which is not installed: "
            f"{install('train')}; or make a bundle of it with asr export"
        ) from None
    return load_checkpoint_recognizer(model)


def _local(recognizer: Any, options: Options) -> Recognition:
    from asr.live import transcribe

    def recognise(
        chunks: Iterable[Samples], rate: int, on_event: Callable[[Event], None] | None
    ) -> tuple[Transcript, int]:
        return transcribe(recognizer, chunks, rate, options, on_event)

    return recognise


def _remote(url: str, options: Options, notice: Callable[[str], None]) -> Recognition:
    """A server, which is sent 16 kHz: so it takes every rate, and hears what a model here would."""
    from asr import client
    from asr.live import Conversion
    from asr.resampling import SAMPLE_RATE
    from asr.transcript import Final, Transcript

    def recognise(
        chunks: Iterable[Samples], rate: int, on_event: Callable[[Event], None] | None
    ) -> tuple[Transcript, int]:
        conversion = Conversion(rate)
        finals: list[Final] = []

        def show(event: Event) -> None:
            event = conversion.at_input(event)
            if isinstance(event, Final):
                finals.append(event)
            if on_event is not None:
                on_event(event)

        audio = conversion.all(chunks)
        _, repaired = client.transcribe(url, audio, SAMPLE_RATE, options, show, notice)
        transcript = Transcript(tuple(finals), rate, conversion.received)
        return transcript, conversion.replaced + repaired

    return recognise
