"""The browser that pages are opened in, and a tab of it that tests share: a new one costs more than the page in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser of this computer."""
    executable = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip("no chromium on this computer (on Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


class Tab:
    """A page that is used again and again; ``faults`` has what must not happen since the last :meth:`open`.

    Faults are errors and warnings of the console, exceptions, dialogs, violations of the page's policy and whatever is
    fetched from elsewhere. Advice that reading pixels, as tests do, could be quicker is none. With ``bypass`` the
    page's policy is ignored.
    """

    def __init__(self, browser: Browser, *, bypass: bool = False) -> None:
        self.faults: list[str] = []
        self.page: Page = browser.new_context(bypass_csp=bypass, viewport=_DESK).new_page()  # type: ignore[arg-type]
        self.page.set_default_timeout(10_000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self._request(request.url))
        self.page.add_init_script(
            "window.broken = []; addEventListener('securitypolicyviolation', e => broken.push(e.violatedDirective))"
        )

    def open(self, path: Path, *, size: Any = None, scheme: Any = "light", media: Any = "screen") -> Page:
        """The page at ``path`` in a window of ``size``, loaded anew."""
        self.page.mouse.move(0, 0)
        self.page.emulate_media(color_scheme=scheme, media=media)
        self.page.set_viewport_size(size or _DESK)
        self.faults.clear()
        self.page.goto(path.as_uri())
        return self.page

    def found(self) -> list[str]:
        """The faults, with those that the page itself has noted."""
        return [*self.faults, *self.page.evaluate("window.broken")]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:
            self.faults.append(message.text)

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(dialog.message)
        dialog.dismiss()

    def _request(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")) or url.endswith("/x"):
            self.faults.append(url)


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Tab:
    return Tab(browser)


@pytest.fixture(scope="session")
def lenient_tab(browser: Browser) -> Tab:
    """A tab that ignores the policies of pages."""
    return Tab(browser, bypass=True)
