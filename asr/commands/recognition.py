"""What recognises for a command: a bundle, a fresh checkpoint or a server, all called alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from asr.resampling import Samples
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose what recognises: a model here or a server."""
    add_model_arguments(parser)
    parser.add_argument(
        "--url",
        metavar="WS_URL",
        help="let a server recognise, such as ws://127.0.0.1:8765, instead of a model here",
    )


def choose(args: argparse.Namespace) -> Recognition:
    """What the arguments ask for, ready to recognise.

    Returns:
        A function of mono chunks (float32 [n] each), their sample rate, and what to call with every
        event; it gives the transcript, and how many samples were no audio (0 where a server knows).

    Raises:
        UsageError: the arguments contradict each other.
        Error: the model cannot be loaded.
    """
    from asr.commands import UsageError

    if args.url is not None:
        if args.model is not None or args.precision != "int8":
            raise UsageError("--url leaves --model and --precision to the server; drop them")
        return _remote(args.url)
    return _local(load(args.model, args.precision))


def load(model: str | None, precision: str) -> Any:
    """The recogniser of a bundle, or of a checkpoint if the name ends in `.pt`.

    Raises:
        Error: it cannot be loaded, or the packages that a checkpoint needs are not installed.
    """
    import asr

    if model is None or not model.endswith(".pt"):
        return asr.load(model, precision=precision)
    try:
        from training.torch_backend import load_checkpoint_recognizer
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise asr.ConfigError(
            f"{model}: a checkpoint runs through PyTorch, which is not installed: "
            "pip install 'asr[train]', or make a bundle of it with asr export"
        ) from None
    return load_checkpoint_recognizer(model)


def _local(recognizer: Any) -> Recognition:
    from asr.live import transcribe

    def recognise(
        chunks: Iterable[Samples], rate: int, on_event: Callable[[Event], None] | None
    ) -> tuple[Transcript, int]:
        return transcribe(recognizer, chunks, rate, on_event=on_event)

    return recognise


def _remote(url: str) -> Recognition:
    from asr import client

    def recognise(
        chunks: Iterable[Samples], rate: int, on_event: Callable[[Event], None] | None
    ) -> tuple[Transcript, int]:
        return client.transcribe(url, chunks, rate, on_event=on_event), 0

    return recognise
