"""TOML for the few kinds of value that model bundles hold (Python reads TOML, but writes none)."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any


def table(name: str | None, values: dict[str, Any]) -> str:
    """A table with its header, one line a key, ended by a line break.

    Args:
        name: of the table, a bare key; None for the head of a file.
        values: texts, integers, finite floats, booleans, dates, lists and tables of these.

    Raises:
        TypeError: a value of another kind.
    """
    head = [] if name is None else [f"[{name}]"]
    return "\n".join([*head, *(f"{_key(key)} = {value(v)}" for key, v in values.items()), ""])


def value(content: Any) -> str:
    """One value in TOML. Raises TypeError as `table` does."""
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, int) or (isinstance(content, float) and math.isfinite(content)):
        return repr(content)
    if isinstance(content, str):
        return _text(content)
    if isinstance(content, dt.date | dt.time):
        return content.isoformat()
    if isinstance(content, list | tuple):
        return f"[{', '.join(value(item) for item in content)}]"
    if isinstance(content, dict):
        inside = ", ".join(f"{_key(key)} = {value(item)}" for key, item in content.items())
        return f"{{ {inside} }}" if inside else "{}"
    raise TypeError(f"{content!r} cannot be written in TOML")


def _text(content: str) -> str:
    # JSON's escapes are TOML's, but that TOML also wants the delete character escaped.
    return json.dumps(content, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _text(key)
