"""The server's log: a line an event, for people or as JSON, without what was said and without keys.

Fields of an event go into `extra={"fields": …}`, by way of `tell`. Nobody else formats them.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import TextIO

FORMATS: Final = ("human", "json")
_PLAIN: Final = re.compile(r"[^\s\"\\\x00-\x1f\x7f-\x9f]+")


def tell(logger: logging.Logger, message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event with its facts; those that are None are left out."""
    if logger.isEnabledFor(level):
        known = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, message, extra={"fields": known})


def configure(form: str, stream: TextIO | None = None) -> None:
    """Send the log of this process to standard error.

    Args:
        form: one of `FORMATS`.
        stream: where to instead.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else Human())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class Human(logging.Formatter):
    """The message, then its fields; a warning or worse says so first.

    There is no time in it: on a terminal nobody asks, and systemd's journal has its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a trace below it if there is one."""
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        fields = [f"{name}={_shown(value)}" for name, value in _fields(record).items()]
        line = " ".join([level + _one_line(record.getMessage()), *fields])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `process`, `message`, the fields, `trace`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _shown(value: object) -> str:
    """A value that cannot be taken for the next field, or for another line."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text)
