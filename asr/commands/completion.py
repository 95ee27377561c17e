"""`asr completion`: a script that teaches a shell the commands, options and choices of `asr`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

SUMMARY = "print a completion script for a shell"
SHELLS = ("bash", "zsh", "fish")
INSTALL = """\
to try it:  bash: source <(asr completion bash);  zsh: source <(asr completion zsh);
fish: asr completion fish | source.  Put the line into ~/.bashrc, ~/.zshrc (after compinit) or
~/.config/fish/config.fish to keep it."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command.

    Attributes:
        name: such as `--format`.
        help: one line.
        choices: the values it takes, if they are few.
        takes_value: whether something follows it.
    """

    name: str
    help: str
    choices: tuple[str, ...]
    takes_value: bool


@dataclass(frozen=True, slots=True)
class Described:
    """A command as completion sees it: name, summary, options, and the choices of its arguments."""

    name: str
    summary: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    parser.epilog = INSTALL


def run(args: argparse.Namespace) -> int:
    """Print the script.

    Returns:
        0.
    """
    from asr.commands import make_parser

    write = {"bash": bash, "zsh": zsh, "fish": fish}[args.shell]
    print(write(describe(make_parser())), end="")
    return 0


def describe(parser: argparse.ArgumentParser) -> list[Described]:
    """The commands of the whole parser, read from it, so that they cannot differ."""
    found = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - nor to know them
            summaries = {a.dest: a.help or "" for a in action._get_subactions()}  # noqa: SLF001
            for name, child in action.choices.items():
                found.append(_describe(name, summaries[name], child))
    return found


def _describe(name: str, summary: str, parser: argparse.ArgumentParser) -> Described:
    options: list[Option] = []
    choices: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - see describe
        values = tuple(str(value) for value in action.choices or ())
        if not action.option_strings:
            choices += values
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - see describe
                for child in action.choices.values():
                    inner = _describe("", "", child).options
                    known = {option.name for option in options}
                    options += [option for option in inner if option.name not in known]
            continue
        text = (action.help or "").replace("\n", " ")
        options.append(Option(action.option_strings[-1], text, values, action.nargs != 0))
    return Described(name, summary, tuple(options), tuple(choices))


def bash(commands: list[Described]) -> str:
    """For bash: options, choices where they are wanted, files where none are."""
    cases = []
    for command in commands:
        values = "".join(
            f"        {command.name}:{option.name}) files= words='{' '.join(option.choices)}' ;;\n"
            for option in command.options
            if option.choices
        )
        options = " ".join(option.name for option in command.options)
        words = " ".join([options, *command.choices])
        if command.choices:
            first = " ".join(["--help", *command.choices])
            values += f"        {command.name}:{command.name}) files= words='{first}' ;;\n"
        cases.append(f"{values}        {command.name}:*) words='{words}' ;;\n")
    names = " ".join(command.name for command in commands)
    return f"""\
_asr() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD - 1]}}" words files=1
    local IFS=$' \\t\\n'
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '{names} --help --version' -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}}:$before" in
{"".join(cases)}    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    IFS=$'\\n'  # names of files may hold spaces
    [ -z "$files" ] || COMPREPLY+=($(compgen -f -- "$word"))
}}
complete -o filenames -F _asr asr
"""


def zsh(commands: list[Described]) -> str:
    """For zsh: like bash, with the help of each beside it."""
    names = " ".join(_quoted(f"{c.name}:{c.summary}") for c in commands)
    cases = []
    for command in commands:
        specifications = []
        for option in command.options:
            text = _plain(option.help)
            value = ""
            if option.takes_value:
                value = (
                    f":value:({' '.join(option.choices)})" if option.choices else ":value:_files"
                )
            specifications.append(_quoted(f"{option.name}[{text}]{value}"))
        rest = f"*:argument:({' '.join(command.choices)})" if command.choices else "*:file:_files"
        specifications.append(_quoted(rest))
        cases.append(f"        {command.name}) _arguments {' '.join(specifications)} ;;\n")
    return f"""\
#compdef asr
_asr() {{
    local -a commands=({names})
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{"".join(cases)}    esac
}}
compdef _asr asr
"""


def fish(commands: list[Described]) -> str:
    """For fish: one line an option."""
    lines = ["complete -c asr -f -n __fish_use_subcommand -l help -d 'show help'"]
    for command in commands:
        lines.append(
            f"complete -c asr -f -n __fish_use_subcommand -a {command.name} "
            f"-d {_quoted(command.summary)}"
        )
        here = f"complete -c asr -n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            value = f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else ""
            value = value or (" -r" if option.takes_value else "")
            name = option.name.removeprefix("--")
            lines.append(f"{here} -l {name}{value} -d {_quoted(option.help)}")
        if command.choices:
            lines.append(f"{here} -f -a {_quoted(' '.join(command.choices))}")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Help without the characters that mean something to zsh's `_arguments`."""
    return "".join(" " if character in "[]:\\" else character for character in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
