"""The pages in a real browser: nothing is fetched, nothing fails, something is seen, and it fits a telephone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tilewright.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

_PHONE = {"width": 360, "height": 780}
_DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two layers and that of a whole network, made by the command line."""
    folder = tmp_path_factory.mktemp("report") / "out"
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "bert-base", "vit-b-14", "-a", "edge-16x16", "--report", str(folder)])
    assert stopped.value.code == 0
    network = folder / "network"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILEWRIGHT_CACHE", str(folder.parent / "cache"))
        with pytest.raises(SystemExit) as stopped:
            main(["simulate", "vit-b-16:image=64", "-a", "edge-16x16", "--report", str(network)])
    assert stopped.value.code == 0
    return folder


PAGES = ["index.html", "bert-base.html", "network/index.html"]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_without_a_fault(browser: Browser, report: Path, name: str, scheme: str) -> None:
    page = browser.new_page(viewport=_DESK, color_scheme=scheme)
    faults: list[str] = []
    outside: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda r: outside.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    page.goto((report / name).as_uri())
    image = page.screenshot(full_page=True)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()
    assert faults == []
    assert outside == []
    assert len(image) > 30_000  # a blank page of this size is a few kilobytes
    assert (background == "rgb(18, 21, 26)") == (scheme == "dark")


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_telephone(browser: Browser, report: Path, name: str) -> None:
    page = browser.new_page(viewport=_PHONE)
    page.goto((report / name).as_uri())
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('td, li, p')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    page.close()
    assert overflow <= 0
    assert smallest >= 11


def test_bars_are_drawn_to_scale(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport=_DESK)
    page.goto((report / "bert-base.html").as_uri())
    widths = page.evaluate(
        """() => {
            const width = element => element.getBoundingClientRect().width;
            return [...document.querySelectorAll('.chart svg')].map(
                chart => [width(chart), ...[...chart.querySelectorAll('rect')].map(width)]);
        }"""
    )
    page.close()
    assert len(widths) > 6
    for whole, *parts in widths:
        assert whole > 50
        assert parts
        assert sum(parts) <= whole + 1


def test_roofline_marks_lie_inside_the_plot(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport=_PHONE)
    page.goto((report / "network" / "index.html").as_uri())
    plot, *marks = page.evaluate(
        """() => [...document.querySelectorAll('.roofline svg, .roofline circle')].map(element => {
            const box = element.getBoundingClientRect();
            return [box.left, box.right, box.top, box.bottom];
        })"""
    )
    page.close()
    assert len(marks) > 3
    for left, right, top, bottom in marks:
        assert plot[0] <= (left + right) / 2 <= plot[1]
        assert plot[2] <= (top + bottom) / 2 <= plot[3]
