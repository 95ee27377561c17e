"""A real browser for tests: headless Chromium, driven through its DevTools protocol.

A microphone that plays a file is part of it. Whoever waits, waits for a change in the page.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), "")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="Chromium is not installed (Debian: apt install chromium)"
)
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # which containers and root cannot have; only pages of ours are opened
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream",
)
ALLOWED = "--use-fake-ui-for-media-stream"  # says yes to whoever asks for the microphone
DENIED = "--deny-permission-prompts"
# Resolves with the value of an expression when that is true; looks whenever the document changes.
_WAIT = """new Promise((resolve) => {
  const look = () => {
    const value = (EXPRESSION);
    if (!value) return;
    observer.disconnect();
    document.removeEventListener("readystatechange", look);
    resolve(value);
  };
  const observer = new MutationObserver(look);
  observer.observe(document, { subtree: true, childList: true, characterData: true,
                               attributes: true });
  document.addEventListener("readystatechange", look);
  look();
})"""


def playing(recording: Path) -> str:
    """The switch for a microphone that hears a WAV file once, from when it is opened on."""
    return f"--use-file-for-fake-audio-capture={recording}%noloop"


class Tab:
    """One page in the browser.

    Attributes:
        events: what the browser told of it, as (method, parameters).
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._connection = connection
        self._session = ""
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Take in what the browser says, as long as it is there."""
        with contextlib.suppress(ConnectionClosed):
            async for text in self._connection:
                message = json.loads(text)
                if "id" in message:
                    self._answers.pop(message["id"]).set_result(message)
                else:
                    self.events.append((message["method"], message["params"]))

    async def begin(self) -> None:
        """Open it, and be told of its errors and its websockets."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol; what it brings."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        await self._connection.send(json.dumps(message))
        result = await answer
        assert "error" not in result, (method, result["error"])
        fields: dict[str, Any] = result["result"]
        return fields

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression, as if a user had just clicked; of a promise, what it brings.

        Where a navigation takes the page away meanwhile, the test fails with what the browser says.
        """
        result = await self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression about the document is true; its value."""
        return await self.evaluate(_WAIT.replace("EXPRESSION", expression))

    async def open(self, url: str) -> None:
        """Go to an address and wait until all of it is there."""
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def click(self, selector: str) -> None:
        """Press something."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    async def text(self, selector: str) -> str:
        """What stands in an element."""
        text: str = await self.evaluate(
            f"document.querySelector({json.dumps(selector)}).textContent.trim()"
        )
        return text

    async def picture(self, width: int, height: int, scheme: str) -> bytes:
        """A PNG of the page as a screen of that size shows it, light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])

    def messages(self, direction: str = "Received") -> Iterator[dict[str, Any]]:
        """The text messages of the page's websockets so far."""
        for method, parameters in self.events:
            if method == f"Network.webSocketFrame{direction}":
                frame = parameters["response"]
                if frame["opcode"] == 1:
                    yield json.loads(frame["payloadData"])

    def complaints(self) -> list[str]:
        """Uncaught errors, and what the browser did not let the page do."""
        told = []
        for method, parameters in self.events:
            if method == "Runtime.exceptionThrown":
                told.append(json.dumps(parameters["exceptionDetails"]))
            elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                told.append(parameters["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and parameters["type"] == "error":
                told.append(json.dumps(parameters["args"]))
        return told


@contextlib.asynccontextmanager
async def browsing(folder: Path, *switches: str) -> AsyncIterator[Tab]:
    """A browser with one empty page; it keeps what it writes in the folder."""
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [CHROMIUM, *SWITCHES, *switches, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = await asyncio.to_thread(_address, process)
        # The test is bounded as a whole: a browser on a busy machine may be slow.
        async with connect(
            address, max_size=None, compression=None, open_timeout=None, ping_interval=None
        ) as connection:
            tab = Tab(connection)
            listener = asyncio.create_task(tab.listen())
            await tab.begin()
            yield tab
            listener.cancel()
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


def _address(process: subprocess.Popen[str]) -> str:
    """Where the browser is driven, as it says when it is up."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"DevTools listening on (ws://\S+)", line):
            # What it says further is read, or it would wait for that; and thrown away.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found[1]
    raise AssertionError(f"Chromium did not start:\n{''.join(said)}")
