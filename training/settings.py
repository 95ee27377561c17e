"""Plain tables, as TOML gives them, become frozen dataclasses; nothing is guessed on the way.

A field's annotation says what is accepted: a type, `Literal` choices, `Annotated` with `Limits`.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from asr.errors import ConfigError, UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a number must lie in, the ends included.

    Attributes:
        least: lower end.
        most: upper end; infinity itself is never accepted.
        above: the number must be greater than this one.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf

    def check(self, value: float, where: str) -> None:
        """Refuse a number outside.

        Raises:
            ConfigError: it lies outside or is not finite.
        """
        inside = self.least <= value <= self.most and value > self.above
        if inside and math.isfinite(value):
            return
        low = f"above {self.above:g}" if self.above > -math.inf else f"at least {self.least:g}"
        high = "" if self.most == math.inf else f" and at most {self.most:g}"
        raise ConfigError(f"{where}: {value!r}; it must be {low}{high}")


def build(kind: Any, value: Any, where: str = "") -> Any:
    """A value as an instance of an annotated type.

    Args:
        kind: a dataclass, `int`, `float`, `str`, `bool`, a `dict`, `list` or `tuple` of such,
            `X | None`, `Literal` or `Annotated` with `Limits`.
        value: dicts, lists and scalars. Whole numbers are accepted for `float`, nothing else is
            converted.
        where: the setting's name, for messages.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of the wrong kind; each by name.
    """
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if typing.get_origin(kind):
        return _build_generic(kind, value, where)
    if kind is float and type(value) is int:
        return float(value)
    return _demand(kind, value, where)


def _build_generic(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        number = build(arguments[0], value, where)
        arguments[1].check(number, where)
        return number
    if origin is types.UnionType:
        return None if value is None else build(arguments[0], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {value!r} is none of {', '.join(arguments)}")
        return value
    if origin is dict:
        items = _demand(dict, value, where).items()
        return {key: build(arguments[1], item, f"{where}.{key}") for key, item in items}
    _demand(list, value, where)
    if origin is tuple and arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise ConfigError(f"{where}: {len(value)} values where {len(arguments)} belong")
    return origin(build(arguments[0], item, f"{where}.{n}") for n, item in enumerate(value))


def _demand(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind:  # not isinstance: True is no number
        raise ConfigError(f"{where}: {value!r} is not {_NAMES[kind]}")
    return value


_NAMES: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    _demand(dict, value, where)
    place = f"{where}: " if where else ""
    types_of = typing.get_type_hints(kind, include_extras=True)
    unknown = sorted(set(value) - set(types_of))
    if unknown:
        known = ", ".join(types_of)
        raise ConfigError(f"{place}unknown key {unknown[0]!r}; known are {known}")
    for part in dataclasses.fields(kind):
        required = (
            part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
        )
        if required and part.name not in value:
            raise ConfigError(f"{place}the key {part.name!r} is missing")
    dot = f"{where}." if where else ""
    return kind(**{key: build(types_of[key], item, dot + key) for key, item in value.items()})


def plain(value: Any) -> Any:
    """A dataclass, or what holds some, as dicts, lists and scalars; None is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def override(tables: dict[str, Any], assignment: str) -> None:
    """Change one setting in place.

    Args:
        tables: the settings.
        assignment: `section.key=value`. The value is read as TOML, or as a string where it is none.
            A list's items are numbered from 0 (`data.0.weight=2`), the number behind the last one
            adds an item.

    Raises:
        UsageError: it is no assignment, or the name leads nowhere.
    """
    name, equals, text = assignment.partition("=")
    *sections, key = name.strip().split(".")
    if not equals or not key:
        raise UsageError(f"--set {assignment}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    here: Any = tables
    for section, following in pairwise([*sections, key]):
        here = _inside(here, section, [] if following.isdecimal() else {}, assignment)
    if not isinstance(here, dict):
        raise UsageError(f"--set {assignment}: there is no setting {name}")
    here[key] = value


def _inside(here: Any, section: str, new: Any, assignment: str) -> Any:
    if isinstance(here, dict):
        return here.setdefault(section, new)
    if isinstance(here, list) and section.isdecimal() and int(section) <= len(here):
        if int(section) == len(here):
            here.append(new)
        return here[int(section)]
    raise UsageError(f"--set {assignment}: there is no section {section}")


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of the settings that differ between two plain tables, such as `optimiser.rate`."""
    old, new = dict(_flat(before, "")), dict(_flat(after, ""))
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _flat(value: Any, name: str) -> typing.Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
