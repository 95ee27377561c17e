"""One job for each of many things on a Dask cluster: `asr.parallel.as_done` over many machines.

A scheduler spreads things over workers on any number of machines. A worker loads the tool (a
recogniser) once; it must have the same model and the same packages as this machine, else results
would depend on who made them. What a worker had in hand when it died is given to another one.

Dask calls functions by pickles. Only whoever may run programs on the workers should reach the
scheduler: with `tls://` those who hold a certificate of your authority.
"""

from __future__ import annotations

import logging
import threading
from asyncio import CancelledError as LoopCancelledError
from collections import deque
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import metadata
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from asr.errors import ConfigError, Error, ServerError, install
from asr.parallel import AHEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

Thing = TypeVar("Thing")
Outcome = TypeVar("Outcome")

CONNECT_SECONDS = 30
ROUND_SECONDS = 5  # how often it is looked whether there are workers
MODELS_KEPT = 2  # in a worker, for two jobs at a time
PACKAGES = ("asr", "numpy", "onnxruntime", "soundfile")  # whose versions can change a word
SCHEMES = ("tcp://", "tls://")


class Tool(Protocol):
    """What a worker works with, such as `asr.Recognizer`."""

    @property
    def bundle_id(self) -> str:
        """Stands for all that can change a result."""
        ...


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the scheduler is, and how to prove who we are.

    Attributes:
        address: `tcp://HOST:PORT` or `tls://HOST:PORT`.
        authority: certificates of who signed those of scheduler and workers, PEM; with `tls` only.
        certificate: our own, PEM.
        key: its private key, PEM.

    Raises:
        ConfigError: there is no such kind of address, or the files do not go with it.
    """

    address: str
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if not self.address.startswith(SCHEMES):
            raise ConfigError(
                f"cluster {self.address}: must be tcp://HOST:PORT or tls://HOST:PORT, as "
                "dask scheduler tells when it starts"
            )
        files = (self.authority, self.certificate, self.key)
        for file in files:
            if self.encrypted != (file is not None):
                raise ConfigError(
                    f"cluster {self.address}: tls:// needs an authority, a certificate and a key, "
                    "and tcp:// takes none of them"
                )
            if file is not None and not file.is_file():
                raise ConfigError(f"{file}: no such file; check the path")

    @property
    def encrypted(self) -> bool:
        """Whether only holders of a certificate are let in."""
        return self.address.startswith("tls://")

    @property
    def exposed(self) -> bool:
        """Whether others on the network may run programs on the workers."""
        host = self.address.partition("://")[2].rpartition(":")[0]
        return not self.encrypted and not host.startswith(("127.", "localhost", "[::1]"))


def versions() -> dict[str, str]:
    """The installed versions of the packages that make words."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"  # a checkout in the path, which runs all the same


@dataclass(frozen=True, slots=True)
class Loader:
    """How a worker comes by its tool, and what that must be.

    Attributes:
        load: makes it; hashable, picklable, and equal to its copy over there.
        bundle_id: that of the tool here.
        versions: those of the packages here.
    """

    load: Callable[[], Tool]
    bundle_id: str
    versions: dict[str, str] = field(default_factory=versions)

    def tool(self) -> Tool:
        """The tool of this worker, loaded once.

        Raises:
            ServerError: this worker would make other words: it has another model or package.
            Error: the tool cannot be made.
        """
        found = versions()
        for name, version in self.versions.items():
            if found[name] != version:
                raise ServerError(f"has {name} {found[name]}, here is {version}; install the same")
        with _loading:
            tool = _loaded(self.load)
        if tool.bundle_id != self.bundle_id:
            raise ServerError(
                f"has another model: bundle id {tool.bundle_id[:12]}, here {self.bundle_id[:12]}; "
                "copy the bundle there"
            )
        return tool


def as_done(
    cluster: Cluster,
    loader: Loader,
    work: Callable[[Any, Thing], Outcome],
    things: Iterable[Thing],
    *,
    lost: Callable[[Thing, str], Outcome],
    notice: Callable[[str], None] = lambda _line: None,
) -> Generator[tuple[Thing, Outcome], None, None]:
    """Each thing and what `work` makes of it on some worker, as it becomes known.

    However many things there are, no more than `AHEAD` for each thread of the workers are handed
    out. Workers may come and go meanwhile; while there are none, it waits. Dask counts the deaths
    of a worker against all that it had in hand, so what several have died of is tried again at the
    end, alone.

    Args:
        cluster: where.
        loader: makes the tool, once in every worker.
        work: does one thing with the tool; picklable, as are things and outcomes.
        things: what to work on; taken one by one.
        lost: the outcome of a thing that several workers died of, and why.
        notice: called with a line for people when all workers are gone.

    Raises:
        ConfigError: Dask is not installed.
        ServerError: the scheduler cannot be reached or is lost, no worker comes, or a worker has
            another model or other packages.
    """
    with _connected(cluster) as client:
        from distributed import KilledWorker

        _check_workers(client, loader)
        handed_out = _HandedOut(client, partial(_work_there, loader, work), notice)
        rest = iter(things)
        suspects: deque[Thing] = deque()
        alone = False  # one thing is with the workers, and no other
        try:
            while True:
                for thing in islice(rest, handed_out.room()):
                    handed_out.add(thing)
                if not handed_out.pending:
                    if not suspects:
                        return
                    alone = True
                    handed_out.add(suspects.popleft())
                for thing, future in handed_out.finished():
                    try:
                        outcome = future.result()
                    except KilledWorker as error:
                        if not alone:
                            suspects.append(thing)
                            continue
                        outcome = lost(thing, _deaths(error))
                    yield thing, outcome
        except (OSError, CancelledError, LoopCancelledError):
            raise ServerError(
                f"cluster {cluster.address}: the scheduler is gone; start it and the workers "
                "again, and repeat the command: what is done stays done"
            ) from None
        finally:
            with suppress(OSError, TimeoutError):
                client.cancel(list(handed_out.pending))


class _HandedOut:
    """Things that are with the workers."""

    def __init__(
        self, client: Any, work: Callable[[Any], Any], notice: Callable[[str], None]
    ) -> None:
        self.pending: dict[Any, Any] = {}
        self._client, self._work, self._notice = client, work, notice
        self._deserted = False

    def room(self) -> int:
        """How many more may be handed out now; without workers one, which waits for some."""
        threads: int = sum(self._client.nthreads().values())
        if not threads and not self._deserted:
            self._notice("the cluster has no workers any more; waiting for some")
        self._deserted = not threads
        return max(0 if self.pending else 1, AHEAD * threads - len(self.pending))

    def add(self, thing: Any) -> None:
        """Hand one out."""
        self.pending[self._client.submit(self._work, thing, pure=False)] = thing

    def finished(self) -> list[tuple[Any, Any]]:
        """Things that are done, and their futures; none if that takes longer than a few seconds."""
        from distributed import wait

        try:
            with self._client.as_current():  # of several in a process it is this one that waits
                done = wait(list(self.pending), ROUND_SECONDS, "FIRST_COMPLETED").done
        except TimeoutError:
            return []
        return [(self.pending.pop(future), future) for future in done]


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """A client of the scheduler, once there is a worker."""
    try:
        from distributed import Client, Security
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a cluster needs Dask ({error.name} is not installed): {install('cluster')}"
        ) from None
    for name in ("distributed", "distributed.client"):  # we tell what happens ourselves
        logging.getLogger(name).setLevel(logging.CRITICAL)
    security = (
        Security(
            require_encryption=True,
            tls_ca_file=str(cluster.authority),
            tls_client_cert=str(cluster.certificate),
            tls_client_key=str(cluster.key),
        )
        if cluster.encrypted
        else None
    )
    try:
        client = Client(
            cluster.address, security=security, timeout=CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise ServerError(
            f"cluster {cluster.address}: cannot be reached ({_one_line(error)}); start one with "
            "dask scheduler, and check the address and the certificates"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            raise ServerError(
                f"cluster {cluster.address}: has no workers; start some with "
                f"dask worker {cluster.address} --nthreads 1"
            ) from None
        yield client


def _check_workers(client: Any, loader: Loader) -> None:
    """Let every worker load its model, and refuse any that has another."""
    found = client.run(_prepare_there, loader, on_error="return")
    for address, error in found.items():
        if error is not None:
            raise ServerError(f"worker {address}: {_one_line(error)}, or stop that worker")


def _deaths(error: Any) -> str:
    deaths = error.allowed_failures + 1
    return f"{deaths} workers died of it, one after the other (out of memory?)"


# In a worker. One of several threads must not load twice.
_loading = threading.Lock()


@lru_cache(MODELS_KEPT)
def _loaded(load: Callable[[], Tool]) -> Tool:
    return load()


def _prepare_there(loader: Loader) -> None:
    loader.tool()


def _work_there(loader: Loader, work: Callable[[Any, Any], Any], thing: Any) -> Any:
    from distributed import get_worker

    me = f"worker {get_worker().address}"
    try:
        tool = loader.tool()  # a worker that came later was not asked yet
    except Error as error:
        raise ServerError(f"{me}: {error}, or stop that worker") from None
    try:
        return work(tool, thing)
    except OSError as error:  # over here it would be taken for the loss of the scheduler
        raise ServerError(f"{me}: {error}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
