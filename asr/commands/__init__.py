"""The command line: `asr COMMAND …`.

Each command is a module of this package with `SUMMARY` (its line of help), `add_arguments(parser)`
and `run(args) -> exit code`. At their top they import nothing heavy, so that help is instant.

Data goes to standard output, everything else to standard error. Exit codes: 0 all went well, 1 a
job failed (one line says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Protocol, cast

from asr.errors import Error, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    "transcribe",
    "mic",
    "serve",
    "loadtest",
    "evaluate",
    "train",
    "compare",
    "align",
    "synthesise",
    "cut",
    "export",
    "lm",
    "info",
    "demo",
    "completion",
)
DESCRIPTION = "Real-time streaming speech recognition: words come out while they are spoken."
FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Command(Protocol):
    """What a module of this package offers."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the command takes."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit code is returned."""
        ...


def find(name: str) -> Command:
    """The module of a command."""
    return cast("Command", importlib.import_module(f"asr.commands.{name}"))


def make_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the whole command line, or of some commands of it.

    Args:
        names: the commands to load; loading one takes about a millisecond.
    """
    parser = argparse.ArgumentParser(
        prog="asr",
        description=DESCRIPTION,
        epilog="asr COMMAND --help tells more about each. Exit codes: 0 fine, 1 failed, 2 usage, "
        "130 interrupted.",
    )
    parser.set_defaults(parser=parser)
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    commands = parser.add_subparsers(title="commands", dest="command")
    for name in names:
        command = find(name)
        child = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=f"{command.SUMMARY[:1].upper()}{command.SUMMARY[1:]}.",
        )
        child.set_defaults(parser=child)
        command.add_arguments(child)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those after `asr`; by default those of the process.

    Returns:
        The exit code. Help and wrong usage leave by `SystemExit`, as argparse does.
    """
    _open_missing_streams()
    _write_any_name()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # who read our output has left; what is still buffered would complain once more at exit
        _discard_output()
        return FAILED
    except OSError as error:
        # files of ours tell their own errors; what is left is the output, such as a full disk
        print(f"asr: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        _discard_output()
        return FAILED
    return code


def _open_missing_streams() -> None:
    """Replace the streams that were closed before we began (`>&-`), for which Python has None.

    Input is at its end, what is told goes nowhere, and data that is written is an error, as to a
    full disk: nobody gets it.
    """
    for name, mode, flags in (
        ("stdin", "r", os.O_RDONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            # in this order each gets the number that it should have
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _write_any_name() -> None:
    """Let standard output take every name that a file can have, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        # bytes that are no UTF-8 as they are; elsewhere letters that are not there as escapes
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _discard_output() -> None:
    """Let nothing be written at exit that could not be written before."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def version() -> str:
    """The installed version of the package."""
    from importlib import metadata

    try:
        return metadata.version("asr")
    except metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


def _run(arguments: Sequence[str]) -> int:
    known = [name for name in arguments[:1] if name in COMMANDS]
    parser = make_parser(known or COMMANDS)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        # by the parser of the command, whose usage then stands above the line
        args.parser.error(f"unknown arguments: {' '.join(unknown)}")
    if args.version:
        print(f"asr {version()}")
        return 0
    if args.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        return find(args.command).run(args)
    except UsageError as error:
        print(f"asr {args.command}: {error}; see asr {args.command} --help", file=sys.stderr)
        return USAGE
    except Error as error:
        sys.stdout.flush()
        print(f"asr: {error}", file=sys.stderr)
        return FAILED
