"""A headless Chromium for tests and screenshots, driven through its DevTools pipe; nothing but the standard library.

The protocol: JSON messages, each ended by a zero byte, written to the browser's file descriptor 3 and read from 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
)
PATIENCE = 120.0
"""Seconds until an answer is given up; the machine may be busy."""


class BrowserError(RuntimeError):
    """The browser did not answer, or refused what was asked of it."""


def find_browser() -> str | None:
    """Path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in one browser process; use it in a ``with`` statement."""

    def __init__(self, profile: Path) -> None:
        path = find_browser()
        if path is None:
            raise BrowserError(f"none of {', '.join(NAMES)} is installed")
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash", path, *FLAGS]
        command += [f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask something of the browser and wait for its answer; events that come meanwhile go into ``events``.

        Raises:
            BrowserError: if it refuses or does not answer.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise BrowserError(f"no answer within {PATIENCE:.0f} s")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise BrowserError("the browser has ended")
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, path: Path, width: int, height: int = 900, dark: bool = False, sharpness: float = 1.0) -> None:
        """Load a file in a window of this size; a width below 700 is a phone's."""
        phone = width < 700
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=sharpness, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            BrowserError: if it never is.
        """
        until = time.monotonic() + PATIENCE
        while not self.ask(condition):
            if time.monotonic() > until:
                raise BrowserError(f"{condition} did not come true")
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:
        """Value of a JavaScript expression.

        Raises:
            BrowserError: if it throws.
        """
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, for example Tab."""
        codes = {"Tab": 9, "Enter": 13}
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def complaints(self) -> list[str]:
        """Errors and warnings that the page wrote to its console, and exceptions nobody caught."""
        told = []
        for one in self.events:
            own = one.get("params", {})
            if one["method"] == "Runtime.exceptionThrown":
                told.append(str(own["exceptionDetails"]["text"]))
            elif one["method"] == "Log.entryAdded" and own["entry"]["level"] in ("error", "warning"):
                told.append(str(own["entry"]["text"]))
            elif one["method"] == "Runtime.consoleAPICalled" and own["type"] in ("error", "warning", "assert"):
                told.append(str(own["args"]))
        return told

    def screenshot(self, clip: tuple[int, int, int, int] | None = None) -> bytes:
        """PNG of the window, or of a part of the page (left, top, width, height)."""
        options: dict[str, Any] = {"format": "png"}
        if clip is not None:
            options["clip"] = dict(zip(("x", "y", "width", "height"), clip, strict=True)) | {"scale": 1}
            options["captureBeyondViewport"] = True
        return base64.b64decode(self.send("Page.captureScreenshot", **options)["data"])

    def printed(self) -> bytes:
        """The page as PDF."""
        options = {"printBackground": True, "preferCSSPageSize": True}
        return base64.b64decode(self.send("Page.printToPDF", **options)["data"])
