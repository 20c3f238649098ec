"""Made-up pictures and answers, and a real browser: Chromium through a pipe, without any package for it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aureole.refine.study import Study, StudyKey, StudyPair

_CHROMIUM = shutil.which("chromium")
_START = "import os,sys; os.dup2(int(sys.argv[1]),3); os.dup2(int(sys.argv[2]),4); os.execv(sys.argv[3],sys.argv[3:])"
_FLAGS = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--mute-audio",
    "--password-store=basic", "--lang=en",
)  # fmt: skip
_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Backspace": 8, "Enter": 13, "1": 49, "2": 50}


def _pair(attack: str, index: int, shape: tuple[int, int, int], generator: torch.Generator) -> StudyPair:
    """A ramp; the source disturbs all of it, the refined image the upper half."""
    clean = torch.linspace(0.2, 0.8, shape[-1]).expand(shape).contiguous()
    source = (clean + 0.15 * torch.randn(shape, generator=generator)).clamp(0, 1)
    refined = torch.cat([source[:, : shape[1] // 2], clean[:, shape[1] // 2 :]], dim=1)
    return StudyPair(name=str(index), attack=attack, source=source, refined=refined, clean=clean)


@pytest.fixture(scope="session")
def made_up() -> Callable[..., Study]:
    def make(num_images: int = 3, shape: tuple[int, int, int] = (3, 8, 8), **options: Any) -> Study:
        generator = torch.Generator().manual_seed(3)
        pairs = [_pair(attack, i, shape, generator) for attack in ("BIM", "PGD") for i in range(num_images)]
        return Study(**{"title": "Pictures", "pairs": pairs, **options})

    return make


@pytest.fixture
def answered() -> Callable[..., dict[str, Any]]:
    """What the page saves, where ``choices`` says of each pair whether the source's picture was chosen."""

    def make(key: StudyKey, session: str, choices: list[bool]) -> dict[str, Any]:
        answers = []
        for index, (pair, of_source) in enumerate(zip(key.pairs, choices, strict=False)):
            left, right = (pair.source, pair.refined) if index % 2 else (pair.refined, pair.source)
            choice = "left" if of_source == (left == pair.source) else "right"
            answers.append({"pair": pair.pair, "attack": pair.attack, "left": left, "right": right})
            answers[-1].update(choice=choice, milliseconds=800 + index)
        return {"format": 1, "study": key.study, "session": session, "answers": answers}

    return make


def _is_loaded(event: dict[str, Any], old: str) -> bool:
    of = event["params"]
    return event["method"] == "Page.lifecycleEvent" and of["name"] == "load" and of["loaderId"] != old


class Browser:
    """A page of headless Chromium, spoken to in its DevTools protocol over file descriptors 3 and 4."""

    def __init__(self, folder: Path) -> None:
        to_child, self.write = os.pipe()
        self.read, from_child = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_child, from_child)]  # clear of 3 and 4
        arguments = [_CHROMIUM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _START, *map(str, ends), *arguments],
            pass_fds=ends, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        for end in (to_child, from_child, *ends):
            os.close(end)
        self.buffer, self.count, self.session, self.events = b"", 0, None, []
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            if not select.select([self.read], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self.read, 1 << 20)
            if not part:
                raise EOFError("the browser has gone")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command, and return its result."""
        self.count += 1
        request: dict[str, Any] = {"id": self.count, "method": method, "params": parameters}
        if self.session and not method.startswith("Browser."):
            request["sessionId"] = self.session
        os.write(self.write, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + 30
        while (message := self._message(deadline)).get("id") != self.count:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + 30
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.02)

    def open(self, page: Path) -> None:
        """Load a page as a person does who opens the file."""
        self._load("Page.navigate", url=page.as_uri())

    def reload(self) -> None:
        """Load the page again."""
        self._load("Page.reload")

    def _load(self, method: str, **parameters: Any) -> None:
        # A load event says not of which document: one of the page before may still be on its way.
        before, old = len(self.events), self.send("Page.getFrameTree")["frameTree"]["frame"]["loaderId"]
        self.send(method, **parameters)
        deadline = time.monotonic() + 30
        while not any(_is_loaded(event, old) for event in self.events[before:]):
            self.events.append(self._message(deadline))

    def key(self, name: str) -> None:
        """Press and release a key."""
        code = _KEYS[name]
        text = {"text": "\r"} if name == "Enter" else {"text": name} if len(name) == 1 else {}
        event = {"key": name, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **event, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def _middle(self, name: str) -> dict[str, float]:
        # Scrolls to the element; what lies there must be the element itself, as for a finger.
        code = f"""(() => {{ const e = document.getElementById({name!r}); e.scrollIntoView({{block: "center"}});
            const b = e.getBoundingClientRect(), x = b.x + b.width / 2, y = b.y + b.height / 2;
            return {{x, y, there: e.contains(document.elementFromPoint(x, y))}}; }})()"""
        self.wait(f"document.getElementById({name!r}).getClientRects().length")  # it is shown
        point = self.value(code)
        assert point.pop("there"), f"{name} is covered"
        return point

    def click(self, name: str) -> None:
        """Click the middle of an element."""
        point = self._middle(name)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point)

    def tap(self, name: str) -> None:
        """Touch the middle of an element."""
        self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[self._middle(name)])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screen(self, width: int, height: int, *, phone: bool = False, dark: bool = False, ratio: float = 1) -> None:
        """Become a screen of this size."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=phone
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Keep what is seen."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser and its processes."""
        for end in (self.write, self.read):
            os.close(end)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="session")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if _CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(_browser: Browser, tmp_path: Path) -> Browser:
    """The browser, with downloads going to the test's folder."""
    _browser.events.clear()
    _browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "answers"))
    return _browser
