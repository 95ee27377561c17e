"""Websocket framing, right and wrong, case by case: RFC 6455 against the server's socket.

The cases are as broad as those of Autobahn's fuzzing client, whose package (autobahntestsuite
25.10.1) is Python 2 and wants a server that echoes: message lengths, chops, pings, reserved bits,
reserved opcodes, fragments, UTF-8, closes, limits, compression that was not agreed; and what it
cannot test, being a client that behaves in these: masks, lengths, handshakes.

The server does not echo, but `ping` of the native protocol answers with its `id`: so a text comes
back, however it was framed, and a session is known to live when a last `ping` is answered.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from benchmarks.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawClient,
    close,
    frame,
    request,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CASE_SECONDS: Final = 20.0
LIMIT: Final = 2**20  # bytes of a message
HELLO: Final = {"type": "ping", "id": "hello"}
LAST: Final = "the last"
RESERVED: Final = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)  # opcodes

# https://www.cl.cam.ac.uk/~mgk25/ucs/examples/UTF-8-test.txt, by its sections
GREEK: Final = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
VALID: Final = {
    "dollar": b"hello\x24world",
    "cent": b"hello\xc2\xa2world",
    "euro": b"hello\xe2\x82\xacworld",
    "four bytes": b"hello\xf0\xa4\xad\xa2world",
    "greek": GREEK,
    "first of 2 bytes": b"\xc2\x80",
    "first of 3 bytes": b"\xe0\xa0\x80",
    "first of 4 bytes": b"\xf0\x90\x80\x80",
    "last of 1 byte": b"\x7f",
    "last of 2 bytes": b"\xdf\xbf",
    "last of 3 bytes": b"\xef\xbf\xbf",
    "last of 4 bytes": b"\xf4\x8f\xbf\xbf",
    "before the surrogates": b"\xed\x9f\xbf",
    "behind the surrogates": b"\xee\x80\x80",
    "replacement": b"\xef\xbf\xbd",
    "FFFE": b"\xef\xbf\xbe",
    "1FFFE": b"\xf0\x9f\xbf\xbe",
    "10FFFE": b"\xf4\x8f\xbf\xbe",
    "byte order mark": b"\xef\xbb\xbf",
}
CUT_OFF: Final = (b"\xc3", b"\xe0\xa0", b"\xf0\x90\x80", b"\xdf", b"\xef\xbf", b"\xf4\x8f\xbf")
INVALID: Final = {
    **{f"greek, {n} bytes of it": GREEK[:n] for n in (1, 3, 4, 6, 8, 10)},
    "first of 5 bytes": b"\xf8\x88\x80\x80\x80",
    "first of 6 bytes": b"\xfc\x84\x80\x80\x80\x80",
    "last of 4 bytes, too high": b"\xf7\xbf\xbf\xbf",
    "last of 5 bytes": b"\xfb\xbf\xbf\xbf\xbf",
    "last of 6 bytes": b"\xfd\xbf\xbf\xbf\xbf\xbf",
    "beyond 10FFFF": b"\xf4\x90\x80\x80",
    **{f"{n} continuations": (b"\x80\xbf" * 4)[:n] for n in range(1, 8)},
    "all continuations": bytes(range(0x80, 0xC0)),
    "lonely starts of 2": b" ".join(bytes([b]) for b in range(0xC0, 0xE0)),
    "lonely starts of 3": b" ".join(bytes([b]) for b in range(0xE0, 0xF0)),
    "lonely starts of 4": b" ".join(bytes([b]) for b in range(0xF0, 0xF8)),
    "lonely starts of 5": b"\xf8 \xf9 \xfa \xfb ",
    "lonely starts of 6": b"\xfc \xfd ",
    **{f"cut off after {part.hex()}": part for part in CUT_OFF},
    "all cut off": b"".join(CUT_OFF),
    "impossible FE": b"\xfe",
    "impossible FF": b"\xff",
    "impossible FE FE FF FF": b"\xfe\xfe\xff\xff",
    "overlong slash of 2": b"\xc0\xaf",
    "overlong slash of 3": b"\xe0\x80\xaf",
    "overlong slash of 4": b"\xf0\x80\x80\xaf",
    "overlong slash of 5": b"\xf8\x80\x80\x80\xaf",
    "overlong last of 1": b"\xc1\xbf",
    "overlong last of 2": b"\xe0\x9f\xbf",
    "overlong last of 3": b"\xf0\x8f\xbf\xbf",
    "overlong null of 2": b"\xc0\x80",
    "overlong null of 3": b"\xe0\x80\x80",
    "overlong null of 4": b"\xf0\x80\x80\x80",
    **{
        f"surrogate {part.hex()}": part
        for part in (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xbf\xbf")
    },
    "surrogate pair": b"\xed\xa0\x80\xed\xb0\x80",
    "surrogate pair at the end": b"\xed\xaf\xbf\xed\xbf\xbf",
    "valid before invalid": GREEK + b"\xed\xa0\x80edited",
}
CODES: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
NO_CODES: Final = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent in an open session, and what must come.

    Attributes:
        name: of the case, unique.
        data: bytes to send.
        chop: bytes in a packet; 0 sends all at once.
        fails: codes with which the connection may be closed; none: the session must live.
        pongs: payloads of the websocket's pongs that must come, and no others.
        ids: of the protocol's pongs that must come, in order, and no others.
        first: whether before all this a `hello` is sent and heard, in a frame that is right.
    """

    name: str
    data: bytes
    chop: int = 0
    fails: tuple[int, ...] = ()
    pongs: tuple[bytes, ...] = ()
    ids: tuple[Any, ...] = ()
    first: bool = False

    async def run(self, port: int) -> str:
        """What went wrong, or nothing."""
        try:
            async with asyncio.timeout(CASE_SECONDS), RawClient(port) as client:
                return await self._run(client)
        except TimeoutError:
            return "it took too long"
        except OSError as error:
            return f"no connection ({error})"

    async def _run(self, client: RawClient) -> str:
        if not await client.begin():
            return f"no session (HTTP {client.status}, {client.messages})"
        before = [HELLO["id"]] if self.first else []
        if self.first:
            await client.send(text(HELLO))
            await client.hear_until(b"hello")
        await client.trickle(self.data, self.chop or len(self.data))
        if not self.fails:
            await client.send(text({"type": "ping", "id": LAST}))
            if not await client.hear_until(LAST.encode()):
                return f"closed with {client.close_code}, {client.messages[-1:]}"
            return self._heard(client, [*before, *self.ids, LAST])
        await client.hear_all()
        if client.close_code not in self.fails:
            return f"closed with {client.close_code}, not {self.fails}"
        return self._heard(client, [*before, *self.ids])

    def _heard(self, client: RawClient, ids: list[Any]) -> str:
        messages = [json.loads(message) for message in client.messages]
        heard = [message["id"] for message in messages if message["type"] == "pong"]
        if heard != ids:
            return f"heard the ids {heard!r:.80}, not {ids!r:.80}"
        if tuple(client.pongs) != self.pongs:
            return f"heard the pongs {client.pongs!r:.80}, not {self.pongs!r:.80}"
        return ""


@dataclass(frozen=True, slots=True)
class Handshake:
    """A request, and which answers are right.

    Attributes:
        name: of the case, unique.
        data: bytes to send.
        statuses: that may come; 0 is a connection that is closed without an answer.
        chop: as in `Case`.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...]
    chop: int = 0

    async def run(self, port: int) -> str:
        """What went wrong, or nothing."""
        try:
            async with asyncio.timeout(CASE_SECONDS), RawClient(port) as client:
                await client.trickle(self.data, self.chop or len(self.data))
                status = await client.answer()
        except TimeoutError:
            return "it took too long"
        except OSError as error:
            return f"no connection ({error})"
        return "" if status in self.statuses else f"HTTP {status}, not {self.statuses}"


def padded(size: int) -> bytes:
    """A text message of that many bytes, at least 30, which asks for a pong."""
    return json.dumps(HELLO).encode().ljust(size)


def cases() -> list[Case | Handshake]:
    """All of them."""
    made: list[Case | Handshake] = [
        *_lengths(),
        *_pings(),
        *_reserved(),
        *_fragments(),
        *_utf8(),
        *_closes(),
        *_masks(),
        *limits(),
        *compressed(),
        *_handshakes(),
    ]
    assert len({case.name for case in made}) == len(made)  # noqa: S101 - a mistake in this file
    return made


def _lengths() -> Iterator[Case]:
    """Messages of every form of length, at once and in pieces."""
    for size in (30, 125, 126, 127, 128, 65_535, 65_536, LIMIT):
        for chop in (0, 997) if size < LIMIT else (0,):
            how = f", {chop} bytes at a time" if chop else ""
            yield Case(f"text of {size}{how}", frame(TEXT, padded(size)), chop, ids=("hello",))
    yield Case("text of 128, 1 byte at a time", frame(TEXT, padded(128)), 1, ids=("hello",))
    yield Case("empty text", frame(TEXT), fails=(1007,))
    for size in (0, 2, 124, 126, 128, 65_534, 65_536):
        yield Case(f"binary of {size}", frame(BINARY, bytes(size)))
    yield Case("binary of 128, 1 byte at a time", frame(BINARY, bytes(128)), 1)
    yield Case("binary of 127, half a sample", frame(BINARY, bytes(127)), fails=(1007,))
    yield Case(
        "a hundred messages at once",
        b"".join(text({"type": "ping", "id": n}) for n in range(100)),
        ids=tuple(range(100)),
    )


def _pings() -> Iterator[Case]:
    """Pings and pongs of the websocket."""
    for name, payload in {
        "nothing": b"",
        "text": b"Hello, world!",
        "bytes": b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff",
        "125 bytes": b"\xfe" * 125,
    }.items():
        yield Case(f"ping of {name}", frame(PING, payload), pongs=(payload,))
    yield Case("ping, 1 byte at a time", frame(PING, b"\xfe" * 125), 1, pongs=(b"\xfe" * 125,))
    yield Case("ping of 126", frame(PING, bytes(126)), fails=(1002,))
    yield Case("pong of 126", frame(PONG, bytes(126)), fails=(1002,))
    yield Case("a pong nobody asked for", frame(PONG))
    yield Case("the same with a payload", frame(PONG, b"unasked"))
    yield Case("the same, then a ping", frame(PONG, b"unasked") + frame(PING, b"p"), pongs=(b"p",))
    ten = tuple(f"payload-{n}".encode() for n in range(10))
    for chop in (0, 1):
        how = ", 1 byte at a time" if chop else ""
        pings = b"".join(frame(PING, payload) for payload in ten)
        yield Case(f"ten pings{how}", pings, chop, pongs=ten)


def _reserved() -> Iterator[Case]:
    """Bits and opcodes that mean nothing."""
    for rsv in range(1, 8):
        for name, opcode, payload in (
            ("text", TEXT, padded(30)),
            ("binary", BINARY, bytes(2)),
            ("ping", PING, b""),
            ("close", CLOSE, b"\x03\xe8"),
        ):
            wrong = frame(opcode, payload, rsv=rsv)
            yield Case(f"{name} with RSV {rsv}", wrong, fails=(1002,), first=True)
    for opcode in RESERVED:
        for payload in (b"", b"reserved"):
            name = f"opcode {opcode} {'with a payload' if payload else 'empty'}"
            wrong = frame(opcode, payload) + frame(PING)
            yield Case(name, wrong, fails=(1002,), first=True)
    yield Case("opcode 3, 1 byte at a time", frame(3, b"r"), 1, fails=(1002,), first=True)


def _fragmented(payload: bytes, *cuts: int, between: bytes = b"") -> bytes:
    """A text message in fragments that end at these bytes, and frames between them."""
    ends = [0, *cuts, len(payload)]
    frames = [
        frame(
            TEXT if first == 0 and number == 0 else CONTINUATION,
            payload[first:last],
            fin=number == len(ends) - 2,
        )
        for number, (first, last) in enumerate(pairwise(ends))
    ]
    return between.join(frames)


def _fragments() -> Iterator[Case]:
    """Messages in several frames."""
    hello, ids = padded(40), ("hello",)
    yield Case("ping in fragments", frame(PING, b"a", fin=False), fails=(1002,))
    yield Case("pong in fragments", frame(PONG, b"a", fin=False), fails=(1002,))
    yield Case("close in fragments", frame(CLOSE, b"\x03\xe8", fin=False), fails=(1002,))
    for chop in (0, 1):
        how = ", 1 byte at a time" if chop else ""
        yield Case(f"text in 2{how}", _fragmented(hello, 9), chop, ids=ids)
        yield Case(f"text in 5{how}", _fragmented(hello, 3, 9, 10, 20), chop, ids=ids)
        yield Case(
            f"text in 3, pings between{how}",
            _fragmented(hello, 3, 9, between=frame(PING, b"p")),
            chop,
            pongs=(b"p", b"p"),
            ids=ids,
        )
    yield Case("every byte its fragment", _fragmented(hello, *range(1, 40)), ids=ids)
    yield Case("the first is empty", _fragmented(hello, 0), ids=ids)
    yield Case("the last is empty", _fragmented(hello, 40), ids=ids)
    yield Case("all are empty", _fragmented(b"", 0, 0), fails=(1007,))
    yield Case("binary in 2", frame(BINARY, b"\0", fin=False) + frame(CONTINUATION, b"\0"))
    for fin in (True, False):
        name = "a last" if fin else "a"
        wrong = frame(CONTINUATION, hello, fin=fin) + text(HELLO)
        yield Case(f"{name} continuation of nothing", wrong, fails=(1002,))
        yield Case(f"{name} continuation behind a message", wrong, fails=(1002,), first=True)
    wrong = frame(TEXT, hello, fin=False) + frame(TEXT, hello)
    yield Case("text within text", wrong, fails=(1002,))
    wrong = frame(BINARY, bytes(2), fin=False) + frame(TEXT, hello)
    yield Case("text within binary", wrong, fails=(1002,))
    wrong = frame(TEXT, hello, fin=False) + close()
    yield Case("close within text", wrong, fails=(1000, 1002))  # section 5.4 allows the first


def _id(value: bytes) -> bytes:
    """A ping of the protocol with this id, which may be no UTF-8."""
    return b'{"type": "ping", "id": "' + value + b'"}'


def _utf8() -> Iterator[Case]:
    """Texts that are UTF-8 come back; those that are not close with 1007, however they are cut."""
    for valid, table in ((True, VALID), (False, INVALID)):
        for name, value in table.items():
            message = _id(value)
            ids: tuple[Any, ...] = (value.decode(),) if valid else ()
            fails = () if valid else (1007,)
            middle = len(_id(b"")) - 2 + len(value) // 2
            yield Case(f"UTF-8: {name}", frame(TEXT, message), 0, fails, ids=ids)
            cut = _fragmented(message, middle)
            yield Case(f"UTF-8: {name}, in 2 fragments", cut, 0, fails, ids=ids)
            cut = _fragmented(message, *range(1, len(message)))
            yield Case(f"UTF-8: {name}, in fragments of a byte", cut, 0, fails, ids=ids)
    for name, value in VALID.items():
        cut = frame(TEXT, _id(value))
        yield Case(f"UTF-8: {name}, 1 byte at a time", cut, 1, ids=(value.decode(),))


def _closes() -> Iterator[Case]:
    """Ends that the client makes."""
    yield Case("close without a code", close(None), fails=(1000, 1005))
    yield Case("close", close(), fails=(1000,))
    yield Case("close with a reason", close(1000, b"Hello World!"), fails=(1000,))
    yield Case("close with the longest reason", close(1000, b"*" * 123), fails=(1000,))
    yield Case("close with a longer reason", close(1000, b"*" * 124), fails=(1002,))
    yield Case("close of 1 byte", frame(CLOSE, b"a"), fails=(1002,))
    yield Case("close with a reason that is no UTF-8", close(1000, b"\xed\xa0\x80"), fails=(1007,))
    yield Case("close, 1 byte at a time", close(1000, b"bye"), 1, fails=(1000,))
    yield Case("two closes", close() + close(), fails=(1000,))
    yield Case("ping behind close", close() + frame(PING, b"late"), fails=(1000,))
    yield Case("text behind close", close() + text(HELLO), fails=(1000,))
    for code in CODES:
        yield Case(f"close {code}", close(code), fails=(code,))
    for code in NO_CODES:
        yield Case(f"close {code}, which is none", close(code), fails=(1002,))


def _masks() -> Iterator[Case]:
    """A client must mask: section 5.1."""
    for name, mask in {
        "zero": bytes(4),
        "all bits": b"\xff" * 4,
        "mixed": b"\0\xff\x55\xaa",
    }.items():
        yield Case(f"mask of {name}", text(HELLO, mask=mask), ids=("hello",))
    yield Case("text without a mask", text(HELLO, mask=None), fails=(1002,))
    yield Case("binary without a mask", frame(BINARY, bytes(2), mask=None), fails=(1002,))
    yield Case("ping without a mask", frame(PING, mask=None), fails=(1002,))
    yield Case("close without a mask", frame(CLOSE, b"\x03\xe8", mask=None), fails=(1002,))


def limits() -> list[Case]:
    """Lengths that lie, and messages that are too long."""
    many = b"".join(frame(CONTINUATION, bytes(65_536), fin=False) for _ in range(16))
    many = frame(BINARY, bytes(65_536), fin=False) + many
    highest = frame(TEXT, told=(2**63, 8))
    ids = ("hello",)
    return [
        Case("text of a byte too much", frame(TEXT, padded(LIMIT + 1)), fails=(1009,)),
        Case("binary of 2 bytes too much", frame(BINARY, bytes(LIMIT + 2)), fails=(1009,)),
        Case("fragments that are too much together", many, fails=(1009,)),
        Case("a length of 2^40", frame(BINARY, told=(2**40, 8)), fails=(1009,)),
        Case("a length of 2^62", frame(TEXT, told=(2**62, 8)), fails=(1009,)),
        Case("a length with its highest bit set", highest, fails=(1002, 1009)),
        # RFC 6455 wants the shortest form of its sender and says nothing to the receiver.
        Case("40 written in 2 bytes", frame(TEXT, padded(40), told=(40, 2)), ids=ids),
        Case("40 written in 8 bytes", frame(TEXT, padded(40), told=(40, 8)), ids=ids),
        Case("a ping of 1 written in 2 bytes", frame(PING, b"p", told=(1, 2)), pongs=(b"p",)),
        Case("a ping of 1 written in 8 bytes", frame(PING, b"p", told=(1, 8)), pongs=(b"p",)),
    ]


def compressed() -> list[Case]:
    """Compression was not agreed on: what claims it is refused before it is inflated."""
    packed, bomb = _deflated(padded(40)), _deflated(bytes(2**28))
    return [
        Case("compressed text", frame(TEXT, packed, rsv=4), fails=(1002,)),
        Case("compressed text in 2", frame(TEXT, packed[:9], rsv=4, fin=False), fails=(1002,)),
        Case("a bomb of 256 MB", frame(BINARY, bomb, rsv=4), fails=(1002,)),
        Case("compressed text without its bit", frame(TEXT, packed), fails=(1007,)),
    ]


def _deflated(data: bytes) -> bytes:
    """As permessage-deflate has it: RFC 7692, section 7.2.1."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _handshakes() -> Iterator[Handshake]:
    """Requests."""
    good = request()
    yield Handshake("a request", good, (101,))
    yield Handshake("a request, 1 byte at a time", good, (101,), 1)
    yield Handshake("header names in capitals", good.replace(b"Upgrade:", b"UPGRADE:"), (101,))
    offers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit"
    yield Handshake("extensions that are not taken", request("/v1/stream", offers), (101,))
    yield Handshake("no key", good.replace(b"Sec-WebSocket-Key", b"X-Key"), (400,))
    short = good.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=")
    yield Handshake("a short key", short, (400,))
    yield Handshake("a key that is no base64", good.replace(b"dGhl", b"!!!!"), (400,))
    yield Handshake(
        "two keys", good.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: a\r\n\r\n"), (400,)
    )
    yield Handshake("no upgrade", good.replace(b"Upgrade: websocket", b"X-A: b"), (400, 426))
    yield Handshake("upgrade to something else", good.replace(b": websocket", b": h2c"), (400, 426))
    yield Handshake("version 8", good.replace(b"Version: 13", b"Version: 8"), (400, 426))
    yield Handshake("another path", request("/nowhere"), (404,))
    yield Handshake("a path of no characters", good.replace(b"/v1/stream", b""), (0, 400, 404))
    yield Handshake("POST", good.replace(b"GET", b"POST"), (0, 400, 405))
    yield Handshake("HTTP/1.0", good.replace(b"HTTP/1.1", b"HTTP/1.0"), (0, 400, 505))
    yield Handshake("a long header", request("/v1/stream", f"X: {'x' * 20_000}"), (0, 400, 431))
    yield Handshake(
        "many headers", request("/v1/stream", *(f"X-{n}: x" for n in range(500))), (0, 400, 431)
    )
    yield Handshake("a long path", request("/" + "x" * 20_000), (0, 400, 404, 414))
    yield Handshake("a header without a colon", request("/v1/stream", "nonsense"), (0, 400))
    yield Handshake("bytes beyond ASCII", good.replace(b"Host: ", b"Host: \xff\xfe"), (0, 101, 400))
    yield Handshake("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (0, 400))
    yield Handshake("line ends only", b"\r\n\r\n" * 10, (0, 400))
    yield Handshake(
        "a body",
        good.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"),
        (0, 101, 400, 413),
    )


async def failures(port: int) -> dict[str, str]:
    """Run all cases, one after the other; what went wrong in those that failed, by name."""
    found = {}
    for case in cases():
        if wrong := await case.run(port):
            found[case.name] = wrong
    return found
