"""`asr transcribe --cluster`: what one machine writes, from workers that die, lie and go away.

The cluster is a real one on this machine: a scheduler, two workers in processes of their own, all
connections encrypted and let in by certificate. A recording that is a named pipe holds a worker in
its middle for as long as a test wants.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

import asr
from asr import cluster, commands
from asr.cluster import Cluster, Loader, as_done
from asr.commands.recognition import Model
from asr.parallel import AHEAD
from tests.server.certificates import make_certificate
from tests.tiny import sound, write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

distributed = pytest.importorskip("distributed", reason="needs Dask: pip install '.[cluster]'")
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60  # until a test that hangs fails


@dataclass(frozen=True)
class Machines:
    """The cluster: how to reach it, as options and as a value, and itself."""

    options: tuple[str, ...]
    place: Cluster
    scheduler: Any
    client: Any


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two workers of one thread, each in a process that is replaced when it dies."""
    certificate = make_certificate(tmp_path_factory.mktemp("certificates"))
    chain, key = str(certificate.chain), str(certificate.key)
    ours = {f"tls_{role}_cert": chain for role in ("client", "scheduler", "worker")}
    ours |= {f"tls_{role}_key": key for role in ("client", "scheduler", "worker")}
    security = distributed.Security(require_encryption=True, tls_ca_file=chain, **ours)
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            protocol="tls://",
            security=security,
            dashboard_address=None,
        ) as local,
        local.get_client() as client,
    ):
        address = local.scheduler_address
        options = ("--cluster", address, "--tls-ca", chain, "--tls-cert", chain, "--tls-key", key)
        place = Cluster(address, certificate.chain, certificate.chain, certificate.key)
        yield Machines(options, place, local.scheduler, client)


@pytest.fixture
def talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recordings, named relative to where one stands."""
    monkeypatch.chdir(tmp_path)
    folder = Path("talks")
    (folder / "b").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "b/a.flac", "b/c.wav")):
        soundfile.write(folder / name, sound(2.0, number), 16000)
    return folder


def written(folder: Path) -> dict[str, bytes]:
    """All transcripts of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.json"))
    }


def arguments(*given: object) -> list[str]:
    """Of the command, whose transcripts are JSON."""
    return ["transcribe", "--format", "json", *map(str, given)]


@contextmanager
def started(machines: Machines, *given: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, killed if it takes too long or the test fails."""
    with subprocess.Popen(
        [sys.executable, "-m", "asr", *arguments(*given), *machines.options],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        timer = threading.Timer(PATIENCE_S, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


@contextmanager
def pipe(path: Path) -> Iterator[None]:
    """A named pipe at which nobody waits for ever, whatever a test does."""
    os.mkfifo(path)

    def release() -> None:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))

    timer = threading.Timer(PATIENCE_S, release)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def test_workers_write_what_one_machine_writes(machines, talks, model, capsys):
    """To the byte, relative names and all; what cannot be read is counted and named."""
    (talks / "damaged.wav").write_bytes(b"nothing" * 100)
    given = (talks, talks / "gone.wav", "--model", os.path.relpath(model))
    assert commands.main(arguments(*given, "--output", "here")) == 1
    here = capsys.readouterr().err
    assert commands.main([*arguments(*given, "--output", "there"), *machines.options]) == 1
    there = capsys.readouterr().err
    assert written(Path("here")) == written(Path("there"))
    assert list(written(Path("there"))) == ["a.json", "b/a.json", "b/c.json"]
    for told in (here, there):
        assert "talks/damaged.wav: not audio" in told
        assert "talks/gone.wav: no such file" in told
        assert "5 recordings: 3 written" in told
        assert "2 failed" in told
    assert commands.main([*arguments(talks / "a.wav", "--output", "there"), *machines.options]) == 1
    assert "made with model" in capsys.readouterr().err  # the shipped one would be mixed in


def test_a_worker_that_is_killed_in_mid_file_costs_nothing(machines, talks, model):
    """Its recording is given to another, and the job tells nothing of it."""
    held = talks / "held.wav"
    soundfile.write(talks / "b/c.wav", sound(2.0, 7), 16000)
    with pipe(held), started(machines, talks, "--model", model, "--output", "out") as process:
        with held.open("wb"):  # opens when a worker has opened it
            holders = machines.client.run(who_reads, str(held.resolve())).values()
            (pid,) = filter(None, holders)
            held.unlink()
            os.mkfifo(held)  # another one, so that neither reader is mistaken for the other
            os.kill(pid, signal.SIGKILL)
        with held.open("wb") as again:  # when the other worker has
            again.write((talks / "a.wav").read_bytes())
        _, err = process.communicate()
    assert process.returncode == 0, err
    found = written(Path("out"))
    assert list(found) == ["a.json", "b/a.json", "b/c.json", "held.json"]
    assert found["held.json"] == found["a.json"].replace(b"talks/a.wav", b"talks/held.wav")
    machines.client.wait_for_workers(2, timeout=PATIENCE_S)


def who_reads(path: str) -> int | None:
    """The process's own number if it has that file open."""
    mine = Path("/proc/self/fd").iterdir()
    return os.getpid() if path in {str(fd.readlink()) for fd in mine if fd.is_symlink()} else None


def test_a_job_that_is_killed_goes_on_where_it_was(machines, talks, model, capsys):
    """The second call finds what the first one wrote, and makes the rest."""
    held = talks / "held.wav"
    given = (talks, "--model", model, "--output", "out")
    with pipe(held), started(machines, *given) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("3 of 4 recordings"):
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        with held.open("wb"):
            pass  # lets the worker go
    first = {path: (Path("out") / path).stat().st_ino for path in written(Path("out"))}
    assert sorted(first) == ["a.json", "b/a.json", "b/c.json"]
    held.unlink()
    soundfile.write(held, sound(1.0, 5), 16000)
    assert commands.main([*arguments(*given), *machines.options]) == 0
    assert "1 written" in (err := capsys.readouterr().err)
    assert "3 already there" in err
    assert {path: (Path("out") / path).stat().st_ino for path in first} == first
    assert len(written(Path("out"))) == 4


@dataclass(frozen=True)
class Counted:
    """A model that writes down who loads it."""

    log: Path
    bundle_id: str = "one"

    def __call__(self) -> Counted:
        """Itself."""
        with self.log.open("a") as log:
            log.write(f"{os.getpid()}\n")
        return self


def double(_: Counted, number: int) -> int:
    """Work; of number 13 the worker dies."""
    if number == 13:
        os._exit(1)
    return 2 * number


def fail(_: Counted, number: int) -> int:
    """Work for which there is no room."""
    raise OSError(28, "No space left on device", str(number))


def lost(number: int, reason: str) -> str:
    """What becomes of a number that kills."""
    return f"{number}: {reason}"


def test_a_worker_loads_its_model_once(machines, tmp_path):
    """And no more is handed out than is soon worked on, however long the list."""
    taken, most = 0, 0
    done: list[int] = []

    def things() -> Iterator[int]:
        nonlocal taken
        for taken in range(1, 41):
            yield 100 + taken

    loader = Loader(Counted(tmp_path / "log"), "one")
    for thing, outcome in as_done(machines.place, loader, double, things(), lost=lost):
        most = max(most, taken - len(done))
        done.append(thing)
        assert outcome == 2 * thing
    assert sorted(done) == list(range(101, 141))
    assert most <= 2 * AHEAD
    loaders = (tmp_path / "log").read_text().split()
    assert len(loaders) == len(set(loaders)) == 2


def test_a_recording_that_kills_workers_is_told_and_the_others_go_on(
    machines, tmp_path, monkeypatch
):
    """It must not take those down that waited behind it, nor be tried for ever."""
    monkeypatch.setattr(machines.scheduler, "allowed_failures", 1)
    loader = Loader(Counted(tmp_path / "log"), "one")
    outcomes = dict(as_done(machines.place, loader, double, [13, 1, 2], lost=lost))
    assert outcomes == {
        13: "13: 2 workers died of it, one after the other (out of memory?)",
        1: 2,
        2: 4,
    }
    machines.client.wait_for_workers(2, timeout=PATIENCE_S)


def test_a_worker_of_another_model_is_refused(machines, model, tmp_path):
    """Words must not depend on who wrote them; told before any work, and of late comers."""
    other = str(write_bundle(tmp_path, "rnn").path)
    loader = Loader(Model(other, "int8", None), asr.load(model).bundle_id)
    with pytest.raises(asr.ServerError, match=r"worker tls://.*: has another model: bundle id"):
        next(as_done(machines.place, loader, double, [1], lost=lost))
    # what a worker is asked that came after the others were checked
    late = machines.client.submit(cluster._work_there, loader, double, 1, pure=False)  # noqa: SLF001
    with pytest.raises(asr.ServerError, match=r"worker tls://.*: has another model"):
        late.result()


def test_a_worker_that_fails_is_named(machines, tmp_path):
    """Its full disk is not taken for the loss of the scheduler."""
    loader = Loader(Counted(tmp_path / "log"), "one")
    with pytest.raises(asr.ServerError, match=r"worker tls://.*: .*No space left on device"):
        next(as_done(machines.place, loader, fail, [1], lost=lost))


def test_a_worker_with_other_packages_is_refused(machines, tmp_path):
    """Another NumPy or ONNX Runtime may round otherwise."""
    there = cluster.versions() | {"numpy": "1.0"}
    loader = Loader(Counted(tmp_path / "log"), "one", there)
    with pytest.raises(asr.ServerError, match=r"worker tls://.*: has numpy .*, here is 1\.0"):
        next(as_done(machines.place, loader, double, [1], lost=lost))


def test_a_model_that_workers_lack_is_told(machines, tmp_path):
    """A bundle on the disk of one machine is not on those of the others."""
    loader = Loader(Model(str(tmp_path / "none"), "int8", None), "one")
    with pytest.raises(asr.ServerError, match=r"worker tls://.*none: no folder with"):
        next(as_done(machines.place, loader, double, [1], lost=lost))


def test_without_a_certificate_of_the_authority_nobody_is_let_in(machines, tmp_path, monkeypatch):
    """Whoever reaches the scheduler could run programs."""
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    stranger = make_certificate(tmp_path)
    loader = Loader(Counted(tmp_path / "log"), "one")
    for place in (
        Cluster(machines.place.address.replace("tls", "tcp")),
        Cluster(machines.place.address, machines.place.authority, stranger.chain, stranger.key),
    ):
        with pytest.raises(asr.ServerError, match="cannot be reached"):
            next(as_done(place, loader, double, [1], lost=lost))
    assert not (tmp_path / "log").exists()


def test_a_cluster_without_workers_or_without_its_scheduler_is_told(tmp_path, monkeypatch):
    """One line with the cure, and no waiting for ever."""
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    loader = Loader(Counted(tmp_path / "log"), "one")
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as local:
        work = partial(as_done, Cluster(local.scheduler_address), loader, double, lost=lost)
        with pytest.raises(asr.ServerError, match="has no workers"):
            next(work([1]))
        local.scale(1)
        local.wait_for_workers(1)
        outcomes = work(iter(range(100)))
        assert next(outcomes) == (0, 0)
        local.close()
        with pytest.raises(asr.ServerError, match="the scheduler is gone"):
            list(outcomes)
    with pytest.raises(asr.ServerError, match="cannot be reached"):
        next(work([1]))


@pytest.mark.parametrize(
    ("address", "files", "told"),
    [
        ("127.0.0.1:8786", (), "must be tcp"),
        ("ray://127.0.0.1:8786", (), "must be tcp"),
        ("tls://127.0.0.1:8786", (), "needs an authority"),
        ("tcp://127.0.0.1:8786", ("a", "a", "a"), "takes none"),
        ("tls://127.0.0.1:8786", ("a", "a"), "needs an authority"),
        ("tls://127.0.0.1:8786", ("a", "a", "b"), "b: no such file"),
    ],
)
def test_an_address_that_makes_no_sense_is_told(address, files, told, tmp_path):
    """Nothing is guessed where programs of others may run."""
    (tmp_path / "a").touch()
    with pytest.raises(asr.ConfigError, match=told):
        Cluster(address, *(tmp_path / name for name in files))


@pytest.mark.parametrize(
    ("address", "exposed"),
    [("tcp://10.0.0.1:1", True), ("tcp://localhost:1", False), ("tcp://[::1]:1", False)],
)
def test_an_open_cluster_is_warned_about(address, exposed):
    """On this machine it is one's own affair."""
    assert Cluster(address).exposed is exposed


def test_without_dask_the_cure_is_told(talks, model, monkeypatch, capsys):
    """The base installation has one machine only."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    given = (talks, "--model", model, "--output", "out", "--cluster", "tcp://10.0.0.1:1")
    assert commands.main(arguments(*given)) == 1
    err = capsys.readouterr().err
    assert "tcp://10.0.0.1:1 is open to all who reach it" in err
    assert "pip install '.[cluster]'" in err
