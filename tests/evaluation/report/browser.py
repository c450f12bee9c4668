"""A headless Chromium, spoken to over its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE = 30.0


def executable() -> str | None:
    """The browser's path; None where there is none."""
    return next((found for found in map(shutil.which, NAMES) if found), None)


@contextmanager
def browser(program: str, folder: Path):
    """A page of a fresh browser that keeps its files in ``folder``."""
    from websockets.sync.client import connect  # noqa: PLC0415 (comes with the development environment, or not)

    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
    process = subprocess.Popen(
        [program, *options, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _wait(lambda: _first_line(folder / "DevToolsActivePort"))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy is set, this is here
        pages = json.load(opener.open(f"http://127.0.0.1:{port}/json", timeout=_PATIENCE))
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        with connect(address, max_size=None, proxy=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(timeout=_PATIENCE)


class Tab:
    """One page.

    Attributes:
        events: What the browser told since the last ``open``: method and parameters.
    """

    def __init__(self, socket) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.events: list[tuple[str, dict]] = []
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """Ask, and wait for the answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_PATIENCE))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append((answer["method"], answer["params"]))

    def open(self, page: Path, *, width: int, scheme: str) -> None:
        """Load a report in a window of this width, in a light or dark colour scheme, and wait until it is drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        # So that nothing of the page before is taken for this one.
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        _wait(lambda: self.run("document.documentElement?.dataset.drawn"))

    def run(self, script: str):
        """The value of a JavaScript expression, a promise's included."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    @property
    def complaints(self) -> list[str]:
        """What stands in the console, and what was thrown."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(parameters) for method, parameters in self.events if method in kinds]

    @property
    def requests(self) -> list[str]:
        """What was asked of the network."""
        asked = (found["request"]["url"] for method, found in self.events if method == "Network.requestWillBeSent")
        return [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))]


def _first_line(path: Path) -> str | None:
    """None until there is one."""
    line, end, _ = path.read_text().partition("\n") if path.exists() else ("", "", "")
    return line if end else None


def _wait(attempt):
    """What ``attempt`` returns as soon as that is not None."""
    end = time.monotonic() + _PATIENCE
    while (found := attempt()) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"the browser did not come to it within {_PATIENCE:g} s")
        time.sleep(0.05)
    return found
