"""The processes behind a port of this machine: what they take of processor and memory (Linux).

Read from `/proc`, as root or as the user who runs them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROC: Final = Path("/proc")
LISTENING: Final = "0A"  # as /proc/net/tcp writes the state
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What processes have taken by one moment.

    Attributes:
        processor: seconds of processor time of all threads since they began.
        main: of them, those of the main threads.
        memory: resident sets added up, in MB of 1,000,000 bytes; pages that several processes share
            count in each.
    """

    processor: float
    main: float
    memory: float


def behind(host: str, port: int) -> tuple[int, ...]:
    """The processes that listen on a port of this machine; none where that cannot be known.

    Args:
        host: of the address that clients connect to.
        port: likewise.
    """
    if not (PROC / "net/tcp").exists() or not _is_here(host):
        return ()
    sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
    return tuple(pid for pid in _processes() if sockets & set(_files(pid)))


def usage(pids: Sequence[int]) -> Usage | None:
    """What these processes have taken; None for no processes, or where one is gone."""
    if not pids:
        return None
    try:
        processor = sum(map(_processor, pids))
        main = sum(_main_thread(pid) for pid in pids)
        memory = sum(_resident(pid) for pid in pids) / MEGABYTE
    except OSError:
        return None
    return Usage(processor, main, memory)


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listeners(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on a port."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / name).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())


def _files(pid: int) -> Iterator[str]:
    """What the open files of a process are; none if that is nobody's business."""
    with contextlib.suppress(OSError):
        for entry in (PROC / f"{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(entry.readlink())


def _processor(pid: int) -> float:
    """Seconds of processor time of a process."""
    # Behind the name in parentheses, which may hold anything: state is field 3, utime 14, stime 15.
    fields = (PROC / f"{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _main_thread(pid: int) -> float:
    """Seconds of processor time of a process's main thread, which is counted in nanoseconds."""
    return int((PROC / f"{pid}/schedstat").read_text("ascii").split()[0]) / 1e9


def _resident(pid: int) -> int:
    """Bytes of a process's resident set."""
    return int((PROC / f"{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
