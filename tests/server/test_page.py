"""The page in a real browser: what whoever sits before it is promised.

Headless Chromium hears recordings through its microphone, resampled as browsers do it.
"""

from __future__ import annotations

import contextlib
import json
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

import asr
from asr import demo, writers
from asr.metrics import count_errors
from server import keys
from server.admission import Access
from server.app import Server
from server.limits import Limits
from tests.server.browser import ALLOWED, DENIED, Tab, browsing, needs_chromium, playing
from tests.server.certificates import make_certificate
from tests.server.sockets import serving, until, within
from tests.server.tones import RATE, recognizer, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from asr.recognizer import Recognizer

pytestmark = needs_chromium
PATIENCE = 240  # seconds: recordings last as long as they last, and a browser takes its time
KEY = keys.make_key()
# Browsers resample, and on a busy machine their microphone of files stumbles now and then.
WORD_ERRORS = 0.1
BROKEN_TONES = 3  # of 16; one or two where the seam goes through them
SENTENCES = 43  # words of the demo recording up to its first long pause
# Keeps what stands on the screen for good, and how the page says it is, each time that it changes.
WATCH = """
window.settled = [];
window.phases = [];
new MutationObserver(() => {
  const parts = [...document.querySelectorAll("#settled p, #stable")].map((p) => p.textContent);
  const text = parts.filter(Boolean).join(" ");
  if (text !== window.settled.at(-1)) window.settled.push(text);
  const { phase } = document.body?.dataset ?? {};
  if (phase !== window.phases.at(-1)) window.phases.push(phase);
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""
# The server's machine seen from another one, with a certificate that signs itself.
ELSEWHERE = "--host-resolver-rules=MAP asr.example 127.0.0.1", "--ignore-certificate-errors"
LISTENING = "document.body.dataset.phase === 'listening'"
READY = "document.body.dataset.phase === 'ready'"
SCREEN = "[...document.querySelectorAll('#settled p, #open')].map(p => p.textContent).join(' ')"


@pytest.fixture(scope="module")
def english() -> Recognizer:
    """The model that ships."""
    return asr.load()


@pytest.fixture(scope="module")
def speech(english: Recognizer) -> tuple[Any, str]:
    """The first sentences of the demo recording at 16 kHz, and what was said."""
    samples, rate = soundfile.read(demo.RECORDING, dtype="float32")
    assert rate == RATE
    first = english.transcribe(samples).segments[0]
    return samples[: first.end + 4000], " ".join(demo.reference().split()[:SENTENCES])


@contextlib.asynccontextmanager
async def hearing(
    folder: Path, samples: Any, port: int, *switches: str, root: str = "http://127.0.0.1"
) -> AsyncIterator[Tab]:
    """The page in a browser whose microphone will hear these samples."""
    soundfile.write(folder / "said.wav", samples, RATE, subtype="PCM_16")
    async with browsing(folder, playing(folder / "said.wav"), *(switches or (ALLOWED,))) as tab:
        await tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        await tab.open(f"{root}:{port}/")
        yield tab


def words_shown(count: int) -> str:
    """The condition that so many words are on the screen."""
    return f"{SCREEN}.split(' ').filter(Boolean).length >= {count}"


def was_away(times: int) -> str:
    """The condition that the page has been without its server so often."""
    return f"window.phases.filter(phase => phase === 'away').length >= {times}"


async def said(tab: Tab) -> str:
    """All finals on the screen."""
    return " ".join(
        await tab.evaluate("[...document.querySelectorAll('#settled p')].map(p => p.textContent)")
    )


async def never_taken_back(tab: Tab) -> list[str]:
    """What stood on the screen for good, each beginning with the one before."""
    stood: list[str] = await tab.evaluate("window.settled")
    for before, after in pairwise(stood):
        assert after.startswith(before), (before, after)
    return stood


def finals(tab: Tab) -> str:
    """What the server said."""
    return " ".join(m["text"] for m in tab.messages() if m["type"] == "final")


@within(PATIENCE)
async def test_what_is_spoken_is_read_while_it_is_spoken(
    english: Recognizer, speech: tuple[Any, str], tmp_path: Path
) -> None:
    """Words come as they are said, stay where they are, and the last ones come after Stop."""
    samples, reference = speech
    last = reference.split()[-1]
    async with serving(english) as service, hearing(tmp_path, samples, service.port) as tab:
        await tab.click("#start")
        await tab.until("document.querySelector('#stable').textContent")
        assert not await said(tab)  # it is read before anything is final
        await tab.until(rf"/\b{last}$/.test({SCREEN}.trim())")
        await tab.click("#start")
        await tab.until(READY)
        assert await said(tab) == finals(tab)
        assert (await said(tab)).split()[-1] == last
        assert await tab.evaluate("document.querySelector('#open').hidden")
        assert [m["type"] for m in tab.messages()][-1] == "done"
        assert len(await never_taken_back(tab)) > 20
        start, *_ = tab.messages("Sent")
        assert start["format"]["sample_rate"] in {44100, 48000}
        assert tab.complaints() == []
        assert await tab.text("#notice") == ""
        errors = count_errors(reference, await said(tab)).words
    assert errors.rate <= WORD_ERRORS


@within(PATIENCE)
async def test_a_cut_in_the_middle_loses_no_word(
    english: Recognizer, speech: tuple[Any, str], tmp_path: Path
) -> None:
    """The page goes on where it was, with what it kept; nothing on the screen changes for it."""
    samples, reference = speech
    last = reference.split()[-1]
    async with serving(english) as service, hearing(tmp_path, samples, service.port) as tab:
        await tab.click("#start")
        for cuts, count in enumerate((6, 20), 1):
            await tab.until(words_shown(count))
            for visitor in list(service.server.reception.places):
                visitor.transport.abort()
            await tab.until(f"{was_away(cuts)} && {LISTENING}")
        await tab.until(rf"/\b{last}$/.test({SCREEN}.trim())")
        await tab.click("#start")
        await tab.until(READY)
        assert service.server.resumption.resumed == 2
        assert await said(tab) == finals(tab)
        assert (await said(tab)).split()[-1] == last
        await never_taken_back(tab)
        assert await tab.text("#notice") == ""
        errors = count_errors(reference, await said(tab)).words
    assert errors.rate <= WORD_ERRORS


@pytest.mark.parametrize("orderly", [True, False], ids=["stopped", "killed"])
@within(PATIENCE)
async def test_a_server_that_starts_anew_is_spoken_to_again(
    tmp_path: Path, *, orderly: bool
) -> None:
    """It knows nothing of the session; what was said meanwhile was kept for it."""
    song = "abcd ab cd abc d ab cba"
    first = Server(recognizer())
    _, port = await first.start("127.0.0.1", 0)
    async with hearing(tmp_path, sing(song), port) as tab:
        await tab.click("#start")
        await tab.until(words_shown(5))
        if not orderly:
            for visitor in list(first.reception.places):
                visitor.transport.abort()
        await first.stop()
        await tab.until(was_away(1))
        second = Server(recognizer())
        await second.start("127.0.0.1", port)
        try:
            await tab.until(f"/b a$/.test({SCREEN}.trim()) && {LISTENING}")
            await tab.click("#start")
            await tab.until(READY)
        finally:
            await second.stop()
        stood = await never_taken_back(tab)
        assert stood[-1] == await said(tab)
        assert "may be missing" in await tab.text("#notice")
    errors = count_errors(" ".join(song.replace(" ", "")), stood[-1])
    assert errors.words.errors <= BROKEN_TONES


@pytest.mark.parametrize("root", ["http://127.0.0.1", "https://asr.example"])
@within(PATIENCE)
async def test_a_key_is_asked_for_and_a_wrong_one_told(tmp_path: Path, root: str) -> None:
    """Here and from elsewhere; it goes no further than this tab."""
    access = Access(keys=keys.parse(keys.line_of("shop", KEY), "a file"))
    tls = make_certificate(tmp_path).context if root.startswith("https") else None
    async with (
        serving(access=access, tls=tls) as service,
        hearing(tmp_path, sing("ab c"), service.port, ALLOWED, *ELSEWHERE, root=root) as tab,
    ):
        await tab.click("#start")
        await tab.until("!document.querySelector('#entrance').hidden")
        assert await tab.text("#notice") == "This server wants an API key."
        for wrong in (keys.make_key(), "no key, (sure)"):
            await offer(tab, wrong)
            await tab.until("/does not know|is no API key/.test(document.body.textContent)")
            await tab.until("!document.querySelector('#entrance').hidden")
            assert await tab.evaluate("sessionStorage.length") == 0
        await offer(tab, KEY)
        await tab.until(words_shown(3))
        await tab.click("#start")
        await tab.until(READY)
        assert await said(tab) == finals(tab)
        assert (await said(tab)).endswith("b c")
        assert await tab.evaluate("Object.values(sessionStorage)") == [KEY]
        assert await tab.evaluate("localStorage.length + document.cookie.length") == 0
        called = [p["url"] for m, p in tab.events if m == "Network.webSocketCreated"]
        scheme = root.replace("http", "ws")
        assert set(called) == {f"{scheme}:{service.port}/v1/stream"}


async def offer(tab: Tab, key: str) -> None:
    """Type a key and press the button."""
    await tab.evaluate(f"document.querySelector('#key').value = {json.dumps(key)}")
    await tab.click("#entrance button")


@within(PATIENCE)
async def test_who_finds_no_place_is_told_and_let_in_when_there_is_one(tmp_path: Path) -> None:
    """The server says when to come back, and the page does."""
    limits = Limits(sessions=1, retry_seconds=1)
    async with (
        serving(limits=limits) as service,
        hearing(tmp_path, sing("ab c"), service.port) as tab,
    ):
        async with service.session():
            await tab.click("#start")
            await tab.until("!document.querySelector('#notice').hidden")
            assert await tab.text("#notice") == "All 1 sessions are taken. Trying again."
        await tab.until(words_shown(3))
        assert await tab.text("#notice") == ""
        await tab.click("#start")
        await tab.until(READY)
        assert await said(tab) == finals(tab)
        assert (await said(tab)).endswith("b c")


@within(PATIENCE)
async def test_without_the_permission_it_says_what_to_do(tmp_path: Path) -> None:
    """And holds no place in the server."""
    async with serving() as service, hearing(tmp_path, sing("a"), service.port, DENIED) as tab:
        await tab.click("#start")
        await tab.until(f"{READY} && !document.querySelector('#notice').hidden")
        assert "was not allowed" in await tab.text("#notice")
        await until(lambda: not service.server.reception.places)


def holds_something(path: Path) -> bool:
    """Whether a download is there: the browser takes its name by an empty file first."""
    return path.exists() and path.stat().st_size > 0


@within(PATIENCE)
async def test_a_file_is_transcribed_like_anywhere_else(
    english: Recognizer, speech: tuple[Any, str], tmp_path: Path
) -> None:
    """To the word and the time; even from a page that may not have the microphone."""
    samples, _ = speech
    file = tmp_path / "said.wav"
    async with (
        serving(english) as service,
        hearing(tmp_path, samples, service.port, ALLOWED, *ELSEWHERE) as tab,
    ):
        await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        await tab.open(f"http://asr.example:{service.port}/")
        assert "https" in await tab.text("#notice")  # plain http from elsewhere: no microphone
        document = await tab.call("DOM.getDocument")
        found = await tab.call(
            "DOM.querySelector", nodeId=document["root"]["nodeId"], selector="#file"
        )
        await tab.call("DOM.setFileInputFiles", nodeId=found["nodeId"], files=[str(file)])
        await tab.until(f"{READY} && !document.querySelector('#download').disabled")
        transcript = english.transcribe(soundfile.read(file, dtype="float32")[0])
        assert await said(tab) == transcript.text
        for kind, write in (("txt", writers.text), ("srt", writers.srt), ("vtt", writers.vtt)):
            await tab.evaluate(f"document.querySelector('#format').value = '{kind}'")
            await tab.click("#download")
            path = tmp_path / f"captions.{kind}"
            await until(partial(holds_something, path))
            assert path.read_text("utf-8") == write(transcript)


@within(PATIENCE)
async def test_a_page_of_a_phone_needs_no_scrolling_sideways(tmp_path: Path) -> None:
    """At 360 points all controls are in reach, and each has a name for those who cannot see it."""
    async with serving() as service, hearing(tmp_path, np.zeros(100), service.port) as tab:
        await tab.picture(360, 640, "dark")
        assert await tab.evaluate("document.documentElement.scrollWidth") == 360
        tree = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
        controls = [
            node["name"]["value"]
            for node in tree
            if node.get("role", {}).get("value") in {"button", "combobox", "textbox"}
        ]
        assert {"Start", "Copy", "Download", "Clear"} <= set(controls)
        assert all(controls)


# Kept for what no test could wait for: seconds of audio are given to the page's own module.
FORGETFUL = """(async () => {
  const { Conversation } = await import("/page/conversation.js");
  const talk = new Conversation(8000);
  for (let second = 0; second < 310; second++) talk.audio(new Int16Array(8000));
  const { lost, kept } = talk;
  talk.start();
  talk.receive(JSON.stringify({ type: "ready", position: 0, token: "t", resumable: true }));
  const first = talk.next().length;
  const word = { word: "a", start: 800, end: 1600, confidence: 1 };
  const final = { type: "final", segment: 0, start: 800, end: 1600, position: 4000, words: [word] };
  const { words } = talk.receive(JSON.stringify(final));
  talk.receive(JSON.stringify({ type: "saved", position: 4000 }));
  const half = talk.receive(JSON.stringify({ type: "ready", position: 4000, token: "t",
                                             resumable: true }));
  talk.next();  // the acknowledgement
  const other = new Conversation(8000);  // whose server keeps no session
  for (let second = 0; second < 310; second++) other.audio(new Int16Array(8000));
  other.receive(JSON.stringify({ type: "ready", position: 0, token: "", resumable: false }));
  other.next();
  other.beginAnew();
  return { once: other.lost, lost, kept, first, start: words[0].start, type: half.type,
           again: talk.next().length, left: talk.kept };
})()"""


@within(PATIENCE)
async def test_what_waits_for_a_connection_is_bounded_and_what_is_lost_is_known(
    tmp_path: Path,
) -> None:
    """Five minutes are kept. Later words keep their times, and a resumed piece its place."""
    async with serving() as service, hearing(tmp_path, np.zeros(100), service.port) as tab:
        found = await tab.evaluate(FORGETFUL)
    assert found == {
        "once": 11 * 8000,  # what was dropped, and what was sent in vain
        "lost": 10 * 8000,
        "kept": 300 * 8000,
        "first": 8000,
        "start": pytest.approx(10.1),
        "type": "ready",
        "again": 4000,  # the half of the first piece that the server has not saved
        "left": 300 * 8000,
    }


SCROLLING = """(async () => {
  const { Captions } = await import("/page/captions.js");
  const [frame, newest] = [document.querySelector("#captions"), document.querySelector("#newest")];
  const captions = new Captions(frame, newest);
  const scrolled = () => new Promise((done) => frame.addEventListener("scroll", done,
                                                                     { once: true }));
  const say = () => captions.settle([{ word: "words", confidence: 0.3 }]);
  const below = () => Math.round(frame.scrollHeight - frame.scrollTop - frame.clientHeight);
  const moved = scrolled();
  for (let n = 0; n < 60; n++) say();
  await moved;
  const frameShown = () => new Promise(requestAnimationFrame);
  for (let n = 0; n < 2; n++) await frameShown();  // all of it is laid out
  const following = below();
  const up = scrolled();
  frame.scrollTop = 100;
  await up;
  say();
  const [stays, offered] = [frame.scrollTop, !newest.hidden];
  const down = scrolled();
  newest.click();
  await down;
  return { following, stays, offered, back: below(), hidden: newest.hidden,
           unsure: document.querySelector(".unsure").title };
})()"""


@within(PATIENCE)
async def test_the_newest_words_are_in_sight_until_the_reader_scrolls_up(tmp_path: Path) -> None:
    """Then nothing moves away from under the eyes, and one button leads back."""
    async with serving() as service, hearing(tmp_path, np.zeros(100), service.port) as tab:
        found = await tab.evaluate(SCROLLING)
    assert found == {
        "following": 0,
        "stays": 100,
        "offered": True,
        "back": 0,
        "hidden": True,
        "unsure": "perhaps: 30 % sure",
    }
