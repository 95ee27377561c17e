"""`asr serve`: many recognisers behind one port."""

from __future__ import annotations

import argparse
import sys

from asr.commands import recognition

SUMMARY = "serve recognition to other programs over websockets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument(
        "--port", type=_port, default=8765, help="TCP port; 0 takes a free one (default: 8765)"
    )
    parser.add_argument(
        "--model", metavar="NAME_OR_PATH", help="model to use (default: the one that ships)"
    )
    parser.add_argument(
        "--precision",
        choices=("int8", "float32"),
        default="int8",
        help="arithmetic of the model (default: int8)",
    )
    recognition.add_decoder_argument(parser)
    parser.add_argument(
        "--threads", type=_count, default=1, help="threads inside the network (default: 1)"
    )
    parser.add_argument(
        "--max-sessions",
        type=_count,
        default=64,
        help="sessions at a time; others are told to come back (default: 64)",
    )
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=5.0,
        help="time to finish running sessions when stopped (default: 5)",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web page that may connect from another host, as https://example.org; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    Returns:
        0 after an orderly stop.

    Raises:
        Error: the model or the address cannot be used, or a limit makes no sense.
    """
    import asyncio

    import asr
    from server.app import Server, is_loopback
    from server.app import run as serve
    from server.limits import Limits

    limits = Limits(sessions=args.max_sessions, drain_seconds=args.drain_seconds)
    recognizer = asr.load(
        args.model, precision=args.precision, threads=args.threads, decoder=args.decoder
    )
    server = Server(recognizer, limits, tuple(args.allow_origin))

    def listening(address: str, port: int) -> None:
        shown = f"[{address}]" if ":" in address else address
        if not is_loopback(address):
            print(
                f"warning: {shown} can be reached from outside; there is neither a key nor "
                "encryption, so put a proxy with both before it",
                file=sys.stderr,
            )
        print(f"listening on ws://{shown}:{port}/v1/stream", file=sys.stderr, flush=True)

    asyncio.run(serve(server, args.host, args.port, listening))
    return 0


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")


def _count(text: str) -> int:
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
