"""`asr serve`: many recognisers behind one port."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from asr.commands import arguments, recognition
from asr.errors import UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from asr.recognizer import Recognizer
    from server.admission import Access
    from server.app import Server
    from server.limits import Limits
    from server.resume import Resumption
    from server.tls import Certificate

SUMMARY = "serve recognition to other programs over websockets"
BACKLOG_SECONDS = 60.0  # that a worker which stops may take for what it had accepted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument(
        "--port", type=_port, default=8765, help="TCP port; 0 takes a free one (default: 8765)"
    )
    _add_model(parser)
    _add_access(parser.add_argument_group("who may connect"))
    _add_limits(parser.add_argument_group("how much"))
    _add_resumption(parser.add_argument_group("sessions whose connection is lost"))
    _add_foreign(parser.add_argument_group("clients of other recognisers"))
    log = parser.add_argument_group("log, on standard error")
    log.add_argument(
        "--log-format",
        choices=("human", "json"),
        default="human",
        help="lines for people, or a JSON object a line (default: human)",
    )
    log.add_argument(
        "--log-transcripts",
        action="store_true",
        help="log what was said, too (default: never)",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
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
        "--threads", type=arguments.count, default=1, help="threads inside the network (default: 1)"
    )
    parser.add_argument(
        "--workers",
        type=arguments.count,
        default=1,
        help="processes that share the port; best as many as there are cores (default: 1)",
    )


def _add_access(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="certificate chain in PEM: serve wss"
    )
    group.add_argument(
        "--tls-key", type=Path, metavar="FILE", help="its private key in PEM, not encrypted"
    )
    group.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="hashes of the API keys that open the server (default: the variable ASR_KEYS)",
    )
    group.add_argument(
        "--make-key",
        metavar="NAME",
        help="make an API key, print it, add its hash to --keys if given, and leave",
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        type=_origin,
        default=[],
        metavar="ORIGIN",
        help="web page that may connect from another host, as https://example.org; repeatable",
    )
    group.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="NETWORK",
        help="load balancer whose X-Forwarded-For is believed, as 10.0.0.0/8; repeatable",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-sessions",
        type=arguments.count,
        default=64,
        help="sessions at a time; others are told to come back (default: 64)",
    )
    group.add_argument(
        "--max-sessions-per-address",
        type=arguments.count,
        help="of them from one address (default: as many as there may be)",
    )
    group.add_argument(
        "--max-connects",
        type=arguments.count,
        default=50,
        help="connections a second from one address (default: 50)",
    )
    group.add_argument(
        "--max-message-bytes",
        type=arguments.count,
        default=2**20,
        help="size of one message (default: 1048576)",
    )
    group.add_argument(
        "--max-session-seconds",
        type=arguments.seconds,
        default=43200.0,
        help="time that a session may last in all (default: 43200)",
    )
    group.add_argument(
        "--drain-seconds",
        type=arguments.seconds,
        default=5.0,
        help="time that sessions have for finishing by themselves when stopped (default: 5)",
    )


def _add_foreign(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--root-protocol",
        choices=("vosk", "sherpa"),
        default="vosk",
        help="whose protocol a client without a path speaks where its first message does not tell "
        "(default: vosk)",
    )
    group.add_argument(
        "--wyoming-port",
        type=_port,
        help="TCP port on which to speak the Wyoming protocol, too; 10300 is usual (default: none)",
    )
    group.add_argument(
        "--wyoming-host",
        default="127.0.0.1",
        help="its address; it knows no key and no encryption (default: this machine only)",
    )


def _add_resumption(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--resume-seconds",
        type=arguments.seconds,
        default=300.0,
        help="how long a session waits for its client to come back (default: 300)",
    )
    group.add_argument(
        "--store",
        metavar="URL",
        help="Redis where sessions wait, as redis://HOST:PORT/DATABASE, so that other servers can "
        "go on with them (default: in this process)",
    )
    group.add_argument(
        "--resume-secret",
        type=Path,
        metavar="FILE",
        help="secret of 32 bytes or more that all servers with one store share (default: the "
        "variable ASR_RESUME_SECRET)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    Returns:
        0 after an orderly stop; 1 when workers cannot start or keep dying.

    Raises:
        Error: the model, the address, a key or a certificate cannot be used, or a limit makes no
            sense.
        UsageError: a certificate without its key, or the other way round; the same of a secret and
            a store; a proxy that is no address.
    """
    if args.make_key is not None:
        return _make_key(args.make_key, args.keys)
    if (args.tls_cert is None) != (args.tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together")
    if args.resume_secret is not None and args.store is None:
        raise UsageError("--resume-secret is for servers that share a --store")

    import asyncio

    from server import app, lifetime, logs, turns
    from server.admission import is_loopback
    from server.listener import listen
    from server.metrics import Board, Metrics
    from server.routes import with_root
    from server.workers import Supervisor

    logs.configure(args.log_format)
    limits, access, certificate = _limits(args), _access(args), _certificate(args)
    load, resumption = _loader(args), _resumption(args, limits)
    listener = listen(args.host, args.port)
    _warn(args.host, is_loopback(listener.getsockname()[0]), access, certificate)
    board = Board(args.workers)
    wyoming = None
    if args.wyoming_port is not None:
        wyoming = listen(args.wyoming_host, args.wyoming_port)

    def work(worker: int, ready: Callable[[], None], lifeline: int | None) -> int:
        server = app.Server(
            limits=limits,
            access=access,
            metrics=Metrics(board, worker),
            tls=certificate.context if certificate else None,
            transcripts=args.log_transcripts,
        )
        server.resumption = resumption()
        server.routes = with_root(args.root_protocol)
        server.wyoming_listener = wyoming
        events = lifetime.Events(ready, partial(_renew, args, server, certificate), lifeline)
        with asyncio.Runner(loop_factory=turns.new_loop) as runner:
            runner.run(lifetime.run(server, listener, load, events))
        return 0

    ready = partial(_tell_listening, listener, secure=certificate is not None)
    if args.workers == 1:
        return work(0, ready, None)
    patience = limits.drain_seconds + limits.finish_seconds + BACKLOG_SECONDS
    return Supervisor(args.workers, work, board, ready, patience).run()


def _loader(args: argparse.Namespace) -> Callable[[], Recognizer]:
    import asr

    return lambda: asr.load(
        args.model, precision=args.precision, threads=args.threads, decoder=args.decoder
    )


def _resumption(args: argparse.Namespace, limits: Limits) -> Callable[[], Resumption]:
    """What makes the keeper of sessions, in each process: the store is its own connection."""
    from asr.errors import ConfigError
    from server import resume

    if args.store is not None:
        try:
            secret = resume.read_secret(args.resume_secret, os.environ)
        except ConfigError as error:
            raise (UsageError(str(error)) if args.resume_secret is None else error) from None
        resume.keep_in(args.store, secret, limits)  # so that what cannot be is told now, and once
        return lambda: resume.keep_in(args.store, secret, limits)
    # A client that comes back may come to any worker, and they share no memory.
    return lambda: resume.keep_here(limits) if args.workers == 1 else resume.keep_nowhere()


def _limits(args: argparse.Namespace) -> Limits:
    from server.limits import Limits

    return Limits(
        sessions=args.max_sessions,
        address_sessions=args.max_sessions_per_address or args.max_sessions,
        connects_per_second=args.max_connects,
        connects_burst=4 * args.max_connects,
        message_bytes=args.max_message_bytes,
        session_seconds=args.max_session_seconds,
        drain_seconds=args.drain_seconds,
        resume_seconds=args.resume_seconds,
    )


def _access(args: argparse.Namespace) -> Access:
    from asr.errors import ConfigError
    from server import keys
    from server.admission import Access, networks

    try:
        proxies = networks(args.trusted_proxy)
    except ConfigError as error:
        raise UsageError(f"--trusted-proxy: {error}") from None
    return Access(keys.read(args.keys, os.environ), tuple(args.allow_origin), proxies)


def _certificate(args: argparse.Namespace) -> Certificate | None:
    from server.tls import Certificate

    if args.tls_cert is None:
        return None
    certificate = Certificate(args.tls_cert, args.tls_key)
    certificate.load()
    return certificate


def _renew(args: argparse.Namespace, server: Server, certificate: Certificate | None) -> None:
    """Read keys and certificate again; what cannot be read leaves everything as it was."""
    import logging

    from asr.errors import Error
    from server.logs import tell

    log = logging.getLogger(__name__)
    try:
        access = _access(args)
        if certificate is not None:
            certificate.load()
    except Error as error:
        tell(log, f"keys and certificate stay as they were: {error}", logging.ERROR)
        return
    server.admission.access = access
    tell(log, "keys and certificate were read again")


def _warn(host: str, loopback: bool, access: Access, certificate: Certificate | None) -> None:  # noqa: FBT001
    """One line about what a public server lacks."""
    import logging

    from server.logs import tell

    missing = [
        what
        for what, there in (
            ("a key (--keys)", access.keys is not None),
            ("encryption (--tls-cert)", certificate is not None),
        )
        if not there
    ]
    if missing and not loopback:
        tell(
            logging.getLogger(__name__),
            f"{host} can be reached from outside, without {' and without '.join(missing)}",
            logging.WARNING,
        )


def _tell_listening(listener: socket.socket, *, secure: bool) -> None:
    import logging

    from server.logs import tell

    address, port, *_ = listener.getsockname()
    shown = f"[{address}]" if ":" in address else address
    secured = "s" if secure else ""
    tell(
        logging.getLogger(__name__),
        f"listening on ws{secured}://{shown}:{port}/v1/stream "
        f"(captions in a browser: http{secured}://{shown}:{port}/)",
    )


def _make_key(name: str, file: Path | None) -> int:
    """Print a new key, which is shown this once; its hash goes into the file or is shown, too."""
    from server import keys

    key = keys.make_key()
    line = keys.line_of(name, key)
    if file is not None:
        keys.append(file, line)
    else:
        print(f"put this line into the file of --keys, or into ASR_KEYS:\n{line}", file=sys.stderr)
    print(key)
    return 0


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme in {"http", "https"} and parts.netloc and not parts.path.strip("/"):
        return text.rstrip("/")
    raise argparse.ArgumentTypeError(f"{text} is no origin, such as https://example.org")
