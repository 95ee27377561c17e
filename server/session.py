"""One client on one websocket: its messages go to the engine and the replies back, in bounds.

Three tasks: one reads, one writes, one watches the clock. The writer decides when the session is
over: after `Done` or `Failed` has left, when the peer is gone, or when the watcher gives it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Final
from typing import Protocol as Interface

from websockets.exceptions import ConnectionClosed

from asr.errors import ProtocolError
from server import turns, wishes
from server.dialogue import (
    Acknowledge,
    Answer,
    Audio,
    Command,
    Configure,
    Discard,
    Done,
    Failed,
    Finish,
    Flush,
    Heard,
    Message,
    ModelInfo,
    Ping,
    Protocol,
    Ready,
    Reply,
    Resume,
    Saved,
    SlowDown,
    Start,
)
from server.intake import Intake
from server.line import Delivered, End, Leave, Left, Line, Room
from server.outbox import Outbox
from server.resume import reopen
from server.snapshot import Record, Snapshot
from server.watch import Watch

if TYPE_CHECKING:
    from asyncio.transports import Transport
    from collections.abc import Awaitable, Callable, Iterator

    from asr.recognizer import Recognizer
    from server.engine import Engine
    from server.limits import Limits
    from server.resume import Hold, Resumption

_log = logging.getLogger(__name__)

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
ABNORMAL: Final = 1006  # without a word
TAKEN_OVER: Final = 1008, "resumed on another connection"
MOVED: Final = 1012, "the server stops; resume this session"


class Connection(Interface):
    """What a session needs of a websocket; whatever carries messages can stand in for one.

    `recv` and `send` raise `ConnectionClosed` of `websockets` when the peer is gone.
    """

    transport: Transport

    async def recv(self) -> Message:
        """The next message of the peer."""
        ...

    async def send(self, message: Message) -> None:
        """Send a message."""
        ...

    async def ping(self) -> Awaitable[object]:
        """Ask whether the peer is there; what is returned comes true when it answers."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye and wait until the peer has."""
        ...

    @property
    def close_code(self) -> int | None:
        """What the peer closed with; 1006 if it was gone without a word, None while it is there."""
        ...


class Session:
    """A client's connection from the upgrade to the close.

    Args:
        connection: the open websocket.
        protocol: what is spoken on it.
        recognizer: what listens.
        model: what the client is told of it.
        engine: where recognition happens.
        limits: what the client may use.

    Attributes:
        line: its stream in the engine, or None before `start` and between two streams.
        outbox: replies that have not left yet.
        watch: the clock, and what it goes by.
        sent: called with every reply that has left, and when it did, on the loop's clock.
    """

    def __init__(
        self,
        connection: Connection,
        protocol: Protocol,
        recognizer: Recognizer,
        model: ModelInfo,
        engine: Engine,
        limits: Limits,
    ) -> None:
        self._connection = connection
        self._protocol = protocol
        self._recognizer = recognizer
        self._model = model
        self._engine = engine
        self._limits = limits
        self._now = asyncio.get_running_loop().time
        self.sent: Callable[[Reply, float], None] | None = None
        self.resumption: Resumption | None = None
        self._hold: Hold | None = None  # on the stream, so that it can be resumed
        self._resumes = False  # the client will do so if the server goes away
        self._told = False  # the farewell has left
        self._farewell = NORMAL, ""
        self.line: Line | None = None
        self.outbox = Outbox(engine.taken)
        self.watch = Watch(
            limits, ping=connection.ping, end=self._end, abort=self._abort, leave=self._leave
        )
        self._room = asyncio.Event()
        self._done = asyncio.Event()  # the stream is finished, and another may begin
        self._listening = False  # the reader waits for the next message
        self._behind: asyncio.Task[None] | None = None  # does what `hear` could not do at once
        self._staying = False  # after this stream another one may come
        self._ending = False  # nothing more is accepted
        self._gone = False  # the peer is gone or given up

    async def run(self) -> None:
        """Serve the client until it is done, gone or refused and the connection is closed."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self.watch.run())]
        try:
            with contextlib.suppress(ConnectionClosed):
                code, reason = await self._write()
                # The reader goes on meanwhile and throws away what comes, or the peer's answer to
                # our close could never arrive behind it.
                await self._close(code, reason)
        finally:
            self._let_go()
            tasks += [self._behind] if self._behind is not None else []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Whoever knows this object and is known by it lets go, or it would stay until garbage
            # is collected.
            self.watch.rest()
            self.line = None

    def dismiss(self) -> None:
        """The server takes no new sessions: send away a client whose stream has not begun."""
        if self.line is None:
            why = f"the server stops; connect again in {self._limits.retry_seconds} s"
            self._end(ProtocolError(why, "unavailable", 1013))

    def stop(self) -> None:
        """The server stops: accept nothing more, say what was accepted, then close with 1001.

        A client that resumes where a session can go on elsewhere is not told the open segment, but
        sent there with 1012.
        """
        self._farewell = GOING_AWAY, "the server stops"
        shared = self.resumption is not None and self.resumption.shared
        if shared and self._resumes and self.line is not None and not self._ending:
            self._ending = True
            self._engine.submit(self.line, Leave(), self._now())
        else:
            self._end(None)

    def hand_over(self) -> Snapshot | None:
        """The client has come back on another connection: stop here; what it can go on from."""
        snapshot = self._engine.close(self.line) if self.line is not None else None
        self._hold = None
        self._farewell = TAKEN_OVER
        self.outbox.clear()
        self._leave()
        if self.watch.writing_since is not None:  # it would wait for a peer that is not there
            self._abort()
        return snapshot

    # Reading

    def hear(self, message: bytes) -> bool:
        """Take in a message at once, so that no task need be woken for each piece of audio.

        Returns:
            False if no stream has begun, or something before is still being done: then the message
            must wait, to be received like any other.
        """
        if not self._listening or self._behind is not None or self._ending or self.line is None:
            return False
        arrived = self.watch.heard()
        commands = self._asked(message)
        with self._watched():
            wait = self._carry_on(commands, arrived)
            if wait is not None:
                self._behind = asyncio.create_task(self._catch_up(wait, commands, arrived))
        return True

    async def _catch_up(
        self, wait: Awaitable[object], commands: Iterator[Command], arrived: float
    ) -> None:
        """Do what `hear` could not do at once."""
        with self._watched():
            await wait
            await self._carry_out(commands, arrived)
        self._behind = None

    async def _read(self) -> None:
        with self._watched():
            await self._carry_out(self._asked(None), self.watch.opened)
            while True:
                self._listening = True
                message = await self._connection.recv()
                self._listening = False
                if self._behind is not None:
                    await self._behind
                arrived = self.watch.heard()
                if not self._ending:
                    self.watch.begun = True
                    await self._carry_out(self._asked(message), arrived)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """End the session if what it does fails: a bug of ours is logged, and the others go on."""
        try:
            yield
        except ConnectionClosed:
            self._leave()
        except Exception:  # noqa: BLE001 - logged with its trace
            _log.exception("session failed")
            self._end(ProtocolError("the server failed; start a new session", "internal", 1011))

    def _asked(self, message: Message | None) -> Iterator[Command]:
        """What a message asks for, or (None) the opening of the connection."""
        yield from self._protocol.opening() if message is None else self._protocol.receive(message)

    async def _carry_out(self, commands: Iterator[Command], arrived: float) -> None:
        """Carry out commands, one after the other."""
        while (wait := self._carry_on(commands, arrived)) is not None:
            try:
                await wait
            except ProtocolError as error:
                self._end(error)
                return

    def _carry_on(self, commands: Iterator[Command], arrived: float) -> Awaitable[object] | None:
        """Carry out commands up to one that takes time; what to wait for, if there is one."""
        try:
            for command in commands:
                self.watch.begun = True
                if isinstance(command, Start):
                    return self._start(command, arrived)
                if isinstance(command, Resume):
                    return self._resume(command, arrived)
                backlog = self._obey(command, arrived)
                if isinstance(command, Answer):
                    return self._wait_for_reader()
                if self._staying:
                    return self._done.wait()
                if backlog > self._limits.queue_bytes:
                    return self._wait_for_room()
        except ProtocolError as error:
            self._end(error)
        return None

    def _obey(
        self,
        command: Audio | Flush | Configure | Ping | Acknowledge | Finish | Discard | Answer,
        arrived: float,
    ) -> int:
        """Carry a command out or to the engine; return the bytes that wait there."""
        if isinstance(command, Answer):
            self._say(command)
            return 0
        if self.line is None:
            raise ProtocolError("start must come first", "out_of_order", 1008)
        if isinstance(command, Audio):
            if self.line.spoken(len(command.data)):
                turns.prefer(self._connection.transport)
            return self._engine.submit(self.line, command.data, arrived)
        if isinstance(command, Discard):
            self._drop()
            return 0
        if isinstance(command, Finish):
            if command.more:
                self._finish_one(arrived)
            else:
                self._end(None)
            return 0
        return self._engine.submit(self.line, command, arrived)

    async def _start(self, start: Start, arrived: float) -> None:
        if start.phrases:  # a hundred take as long as some rounds: not on the loop
            state, unsupported = await asyncio.to_thread(wishes.begin, self._recognizer, start)
        else:
            state, unsupported = wishes.begin(self._recognizer, start)
        intake = Intake(start.format)
        states = [state] * intake.streams
        record = None
        if start.message and self.resumption is not None:
            record = Record.new(start.message, intake.streams)
            hold = await self.resumption.begin(self, record.snapshot(states, intake.saved))
            if not self._take_hold(hold, resumes=start.resumes):
                return
        self.line = self._engine.open(states, intake, self._deliver, arrived, record)
        self.line.partial_words = start.partial_words
        self._say_ready(0, (*start.unsupported, *unsupported))

    async def _resume(self, resume: Resume, arrived: float) -> None:
        """Go on with a stream of another connection, here or elsewhere."""
        if self.resumption is None:
            raise ProtocolError(
                "resume: this server keeps no sessions; start a new one", "resume_unknown", 1008
            )
        hold, snapshot = await self.resumption.take_over(resume.token, self, self._recognizer)
        try:
            start, record = reopen(resume, snapshot, self._protocol)
        except ProtocolError:
            self.resumption.release(hold, snapshot)
            raise
        if not self._take_hold(hold, snapshot, resumes=start.resumes):
            return
        intake = Intake(start.format, snapshot.intake)
        self.line = self._engine.open(snapshot.states, intake, self._deliver, arrived, record)
        self._say_ready(snapshot.position, resume.unsupported)
        for stream, finals in enumerate(record.finals):
            channel = stream if start.format.channels_apart else None
            for final in finals:
                self._say(Heard(final, arrived, channel=channel))
            shown = snapshot.shown(stream)
            if shown is not None and shown.segment >= record.has[stream]:
                self._say(Heard(intake.at_input_rate(shown), arrived, channel=channel))

    def _take_hold(self, hold: Hold, snapshot: Snapshot | None = None, *, resumes: bool) -> bool:
        """Note the hold on the stream; False if meanwhile nobody wants it any more."""
        if self._ending and self.resumption is not None:
            self.resumption.release(hold, snapshot)
            return False
        self._hold, self._resumes = hold, resumes
        return True

    def _say_ready(self, position: int, unsupported: tuple[str, ...]) -> None:
        token, resumable = "", False
        if self._hold is not None:
            token, resumable = self._hold.token, self._hold.resumable
        self._say(Ready(position, self._model, unsupported, token, resumable))

    def _save(self, snapshot: Snapshot) -> None:
        if self.resumption is not None and self._hold is not None:
            self.resumption.put(self._hold, snapshot, partial(self._saved, snapshot.position))

    def _saved(self, position: int, ours: bool) -> None:  # noqa: FBT001 - as `Store.put` calls it
        """A snapshot was written, or not, since the stream is another connection's by now."""
        if not ours:
            self.hand_over()
        elif self._resumes and not self._ending:
            self._say(Saved(position))

    async def _moved(self, line: Line) -> bool:
        """Save the stream for the server that goes on with it; else it must be ended here."""
        resumption, hold, snapshot = self.resumption, self._hold, line.snapshot
        if resumption and hold and snapshot and await resumption.keep(hold, snapshot):
            return True
        self._engine.submit(line, End(), self._now())
        return False

    def _let_go(self) -> None:
        """The connection is closed: the stream is over, or waits for its client."""
        snapshot = self._engine.close(self.line) if self.line is not None else None
        if self.resumption is None or self._hold is None:
            return
        code = self._connection.close_code
        heard = code not in {None, ABNORMAL}  # the peer closed, too: it has all we sent
        over = heard if self._told else code == NORMAL
        self.resumption.release(self._hold, None if over else snapshot)

    def _finish_one(self, arrived: float) -> None:
        """Finish the stream. Until `Done` has left, nothing more is taken from the client."""
        assert self.line is not None  # noqa: S101 - checked by `_obey`
        self._done.clear()
        self._staying = True
        self._engine.submit(self.line, End(None), arrived)

    def _drop(self) -> None:
        """Forget the stream, and what was said of it and has not left."""
        if self.line is not None:
            self._engine.close(self.line)
            self.outbox.forget(self.line)
            self.line = None

    async def _wait_for_reader(self) -> None:
        """Leave the socket unread while the client leaves too many answers unread."""
        while len(self.outbox) > self._limits.unread_messages and not self._ending:
            await self.outbox.fewer()

    async def _wait_for_room(self) -> None:
        """Leave the socket unread until the engine has caught up: TCP holds the client back."""
        line = self.line
        if line is None or not self._engine.ask_room(line, self._limits.queue_bytes // 2):
            return
        self._room.clear()
        self._say(SlowDown(line.backlog_ms))
        with self.watch.deaf():
            await self._room.wait()

    def _end(self, error: ProtocolError | None) -> None:
        """Accept nothing more; behind everything accepted come the last finals and the farewell."""
        if self._ending:
            return
        self._ending = True
        if self.line is not None:
            self._engine.submit(self.line, End(error), self._now())
        elif error is not None:
            self._say(Failed(error))
        else:
            self._leave()

    # Writing

    def _deliver(self, replies: list[Delivered]) -> None:
        for reply in replies:
            if isinstance(reply, Room):
                self._room.set()
            elif isinstance(reply, Snapshot):
                self._save(reply)
            else:
                self._say(reply, self.line)

    def _say(self, reply: Reply | Answer | Left, line: Line | None = None) -> None:
        self.outbox.put(reply, line)
        if isinstance(reply, Failed) or (isinstance(reply, Done) and not self._staying):
            self._ending = True
            self._wake_reader()

    def _leave(self) -> None:
        self._ending = True
        self._gone = True
        self.outbox.wake()
        self._wake_reader()

    def _wake_reader(self) -> None:
        self._room.set()
        self._done.set()
        self.outbox.wake_filler()

    async def _write(self) -> tuple[int, str]:
        """Send replies until the farewell has left; return how to close."""
        while True:
            while self.outbox:
                reply, line = self.outbox.take()
                if isinstance(reply, Left):
                    if line is not None and await self._moved(line):
                        return MOVED
                    continue
                await self._send(reply)
                self.outbox.left(line)
                self._told = isinstance(reply, Failed | Done)
                if isinstance(reply, Failed):
                    return reply.error.close_code, reply.error.code
                if isinstance(reply, Done):
                    if self._ending:
                        return self._farewell
                    self._begin_anew()
            if self._gone:
                return self._farewell
            await self.outbox.more()

    async def _send(self, reply: Reply | Answer) -> None:
        now = self._now()
        said = reply.message if isinstance(reply, Answer) else self._protocol.encode(reply, now)
        for message in said if isinstance(said, tuple) else (said,):
            self.watch.writing_since = self._now()
            await self._connection.send(message)
        self.watch.writing_since = None
        if self.sent is not None and not isinstance(reply, Answer):
            self.sent(reply, self._now())

    def _begin_anew(self) -> None:
        """The stream is over and told; the connection stays for another one."""
        self._drop()
        self._staying = False
        self._done.set()

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(self._limits.close_seconds):
                await self._connection.close(code, reason)
        except TimeoutError:
            self._abort()

    def _abort(self) -> None:
        self._leave()
        self._connection.transport.abort()
