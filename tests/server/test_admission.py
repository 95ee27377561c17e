"""Who is let in, in every order of comings and goings, without a socket."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request

from asr.errors import ConfigError
from server import admission, keys
from server.admission import Access, Admission, client_address, networks
from server.limits import Limits

ADDRESS = "192.0.2.1"


def open_door(limits: Limits | None = None, access: Access | None = None) -> Admission:
    """The model is loaded."""
    return Admission(limits or Limits(), access or Access(), loading=False)


def request(path: str = "/v1/stream", **headers: str) -> Request:
    """A request for a websocket."""
    return Request(path, Headers({name.replace("_", "-"): v for name, v in headers.items()}))


def reason(door: Admission, asked: Request, address: str = ADDRESS, now: float = 0.0) -> str:
    """Why it is refused; empty when it is let in."""
    refusal = door.refusal(asked, address, now)
    return refusal.reason if refusal else ""


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60))
def test_never_more_sessions_than_there_may_be(moves: list[tuple[str, bool]]) -> None:
    """In all and from each address, whoever comes and goes; and who may come, is let in."""
    door = open_door(Limits(sessions=5, address_sessions=2, connects_per_second=1e9))
    inside: list[str] = []
    for address, comes in moves:
        if comes:
            refused = reason(door, request(), address)
            expected = (
                "full" if len(inside) == 5 else "address" if inside.count(address) == 2 else ""
            )
            assert refused == expected
            if not refused:
                door.enter(address)
                inside.append(address)
        elif address in inside:
            door.leave(address)
            inside.remove(address)
        assert door.sessions == len(inside)
        assert door.inside == {a: inside.count(a) for a in set(inside)}


@given(st.lists(st.floats(0, 0.5), max_size=80))
def test_nobody_connects_more_often_than_the_bound(pauses: list[float]) -> None:
    """In any window of time t at most burst + t x rate are let through; the patient always are."""
    door = open_door(Limits(connects_per_second=4.0, connects_burst=3))
    now, passed = 0.0, list[float]()
    for pause in pauses:
        now += pause
        if not reason(door, request(), now=now):
            passed.append(now)
        elif passed:
            assert now - passed[-1] < 0.25 + 1e-9
    for first, begin in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            assert last - first + 1 <= 3 + (end - begin) * 4 + 0.5 + 1e-9


def test_one_address_does_not_use_up_the_rate_of_another() -> None:
    """A flood from one place is that place's alone."""
    door = open_door(Limits(connects_per_second=1, connects_burst=1))
    assert [reason(door, request(), a) for a in "aab"] == ["", "rate", ""]


def test_the_memory_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood from ever new addresses fills no memory."""
    monkeypatch.setattr(admission, "MAX_ADDRESSES", 10)
    door = open_door()
    for number in range(50):
        assert reason(door, request(), str(number)) == ""
    assert len(door._next) == 10  # noqa: SLF001 - that it is bounded shows nowhere else


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"loading": True}, "loading"),
        ({"draining": True}, "draining"),
        ({"sessions": 64}, "full"),
        ({"queue_delay": lambda: 1.5}, "overloaded"),
    ],
)
def test_a_server_that_cannot_serve_says_when_to_come_back(
    state: dict[str, object], expected: str
) -> None:
    """HTTP 503 with Retry-After, to load balancers and to clients alike."""
    door = open_door()
    assert door.unavailable() is None
    for name, value in state.items():
        setattr(door, name, value)
    refusal = door.unavailable()
    assert refusal is not None
    assert (refusal.reason, refusal.status) == (expected, HTTPStatus.SERVICE_UNAVAILABLE)
    assert refusal.headers == {"Retry-After": "5"}
    assert reason(door, request()) == expected


def test_a_full_server_says_so_to_an_address_that_has_all_its_sessions() -> None:
    """A load balancer, whose clients share an address, asks another server on 503 only."""
    door = open_door(Limits(sessions=2, address_sessions=2))
    for _ in range(2):
        door.enter(ADDRESS)
    for refusal in (door.refusal(request(), ADDRESS, 0.0), door.stranger(ADDRESS, 0.0)):
        assert refusal is not None
        assert (refusal.reason, refusal.status) == ("full", HTTPStatus.SERVICE_UNAVAILABLE)


def test_without_a_key_nobody_learns_how_full_it_is() -> None:
    """401 comes before 503, and says how to bring a key."""
    key = keys.make_key()
    door = open_door(access=Access(keys=keys.parse(keys.line_of("shop", key), "a file")))
    door.draining = True
    refusal = door.refusal(request(), ADDRESS, 0)
    assert refusal is not None
    assert (refusal.status, refusal.retry_seconds) == (HTTPStatus.UNAUTHORIZED, None)
    assert refusal.headers["WWW-Authenticate"].startswith("Bearer")
    assert reason(door, request(Authorization=f"Bearer {key}")) == "draining"
    assert door.holder(request(Authorization=f"Bearer {key}")) == "shop"
    assert door.holder(request(X_API_Key="wrong", Authorization=f"Bearer {key}")) == "shop"


@pytest.mark.parametrize("origin", ["null", "", "http://[", "https://shop.example.evil"])
def test_an_origin_that_is_none_of_ours_is_refused(origin: str) -> None:
    """Nonsense too, even where the request names no host."""
    door = open_door(access=Access(origins=("https://shop.example/",)))
    assert reason(door, request(Origin=origin, Host="")) == "origin"
    assert reason(door, request(Origin="HTTPS://Shop.example", Host="")) == ""


PROXIES = networks(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),  # anybody can write this header
        ("10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the client wrote the first
        ("10.1.1.1", ["1.1.1.1", "198.51.100.1, 10.2.2.2"], "198.51.100.1"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["nonsense"], "10.1.1.1"),
        ("10.1.1.1", ["10.3.3.3"], "10.3.3.3"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("fd00::1", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_client_is_the_nearest_that_is_no_proxy_of_ours(
    peer: str, forwarded: list[str], expected: str
) -> None:
    """Behind a load balancer all come from one address; but nobody may name one at will."""
    assert client_address(peer, forwarded, PROXIES) == expected


def test_a_network_that_is_none_is_named() -> None:
    """Host bits are a mistake, too."""
    for text in ("10.0.0.1/8", "somewhere"):
        with pytest.raises(ConfigError, match=r"10\.0\.0\.0/8"):
            networks([text])
