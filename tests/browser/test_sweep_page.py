"""The page of a sweep in a real browser: filters, brushes, keys and the table change what is shown."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tilewright
from tilewright.search.sweep.run import run_sweep
from tilewright.search.sweep.spec import load_sweep

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

_PHONE = {"width": 360, "height": 780}
_DESK = {"width": 1280, "height": 900}
HOSTILE = "</script><img src=x onerror=alert(1)>"
SPEC: dict[str, Any] = {
    "name": HOSTILE,
    "machine": "edge-16x16",
    "area": {"mm2_per_pe": 0.02, "mm2_per_lane": 0.05, "mm2_per_kib": 0.006},
    "parameters": {
        "vector.lanes": [8, 16, 32],
        "dram.bandwidth_gb_per_s": [5, 10, 20],
        "buffers.l1.capacity_kib": [2, 64, 128],
    },
    "workloads": ["attention:heads=2,seq=128,head_dim=32", "attention:heads=4,seq=64,head_dim=32"],
    "dataflows": ["mas", "flash2"],
    "limits": ["power_w <= 0.8"],
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small sweep with designs that cannot run, under a name that tries to be a script."""
    folder = tmp_path_factory.mktemp("sweep")
    run_sweep(load_sweep(SPEC), folder / "results.db", jobs=1)
    tilewright.report_sweep(folder / "results.db", folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def page(tab: Any, report: Path) -> Iterator[Page]:
    """The page on a desk; a fault that the browser notes fails the test."""
    yield tab.open(report)
    assert tab.found() == []


def shown(page: Page) -> int:
    return int(page.inner_text(".shown").replace(",", ""))


def n_painted(page: Page, view: str) -> int:
    """Pixels of a view's first canvas that are not empty."""
    page.wait_for_timeout(100)
    return int(
        page.evaluate(
            """view => {
                const canvas = document.querySelector(`[data-view=${view}] canvas`);
                const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
                return data.filter((value, at) => at % 4 === 3 && value > 0).length;
            }""",
            view,
        )
    )


def settle(page: Page) -> None:
    """Wait until what was asked for has been drawn: views are drawn anew in the next frame."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def brush(page: Page, column: str, start: float, end: float) -> None:
    """Draw along an axis of the parallel coordinates, in shares of its height from the top."""
    grip = page.locator(f'[data-view=parallel] .grip[data-column="{column}"]')
    settle(page)  # a view that is still being drawn would replace the grip under the pointer
    grip.evaluate("grip => grip.scrollIntoView({block: 'center'})")
    settle(page)
    box = grip.bounding_box()
    assert box is not None
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + start * box["height"])
    page.mouse.down()
    page.mouse.move(x, box["y"] + end * box["height"], steps=4)
    page.mouse.up()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [_DESK, _PHONE], ids=["desk", "phone"])
def test_page_is_drawn(tab: Any, report: Path, size: Any, scheme: Any) -> None:
    page = tab.open(report, size=size, scheme=scheme)
    page.wait_for_timeout(300)
    image = page.screenshot(full_page=True)
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    painted = {view: n_painted(page, view) for view in ("scatter", "multiples", "parallel")}
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert len(image) > 100_000
    assert overflow <= 0
    assert painted["scatter"] > 500 and painted["multiples"] > 100 and painted["parallel"] > 2000
    assert (background == "rgb(18, 21, 26)") == (scheme == "dark")


def test_counts_and_names_are_there(page: Page) -> None:
    assert HOSTILE in page.inner_text("h1")
    assert shown(page) < 72  # of 108 points 36 cannot run, and some are outside the limits
    assert "36" in page.inner_text(".cards")
    assert "the mapping needs" in page.inner_text("#failures")
    assert page.locator("#best details").count() == 2


def test_a_filter_changes_what_is_shown(page: Page) -> None:
    before, painted = shown(page), n_painted(page, "scatter")
    page.locator('[data-filter="dataflow"] .chip').first.click()
    fewer = shown(page)
    assert 0 < fewer < before
    assert n_painted(page, "scatter") != painted
    area = page.locator('[data-filter="area_mm2"] input[type=text]').nth(1)
    area.fill("6.5")
    area.press("Enter")
    assert 0 < shown(page) < fewer
    assert "area: " in page.inner_text(".marks")
    assert page.locator("#table tbody tr").count() <= shown(page)
    page.locator(".mark", has_text="area").click()
    assert shown(page) == fewer
    page.get_by_role("button", name="show all").click()
    assert shown(page) == 72
    page.get_by_role("button", name="reset").click()
    assert shown(page) == before


def test_a_slider_can_be_moved_by_keys(page: Page) -> None:
    before = shown(page)
    page.locator('[data-filter="latency_ms"] input[type=range]').first.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    assert 0 < shown(page) < before
    page.locator('[data-filter="latency_ms"] input[type=range]').first.press("Home")
    assert shown(page) == before


def test_the_front_is_that_of_what_is_shown(page: Page) -> None:
    """The same front as by comparing every pair of the rows that the table saves."""

    def front() -> tuple[int, int]:
        with page.expect_download() as download:
            page.get_by_role("button", name="save these rows as CSV").click()
        with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        goals = [(r["workload"], *(float(r[g]) for g in ("latency_ms", "energy_mj", "area_mm2"))) for r in rows]

        def is_beaten(one: tuple[Any, ...]) -> bool:
            others = [other for other in goals if other[0] == one[0] and other != one]
            return any(all(a <= b for a, b in zip(other[1:], one[1:], strict=True)) for other in others)

        return len(rows), sum(not is_beaten(one) for one in goals)

    for lanes in ("", "8", "16"):
        if lanes:
            page.locator('[data-filter="vector.lanes"] .chip', has_text=lanes).first.click()
        told = page.locator(".count b").all_inner_texts()
        assert (int(told[0]), int(told[1])) == front()


def test_brushing_an_axis_changes_what_is_shown(page: Page) -> None:
    before, painted = shown(page), n_painted(page, "parallel")
    brush(page, "latency_ms", 0.02, 0.7)
    fewer = shown(page)
    assert 0 < fewer < before
    assert n_painted(page, "parallel") != painted
    brush(page, "vector.lanes", 0.7, 0.98)  # the lowest of three values
    assert "vector lanes: 8" in page.inner_text(".marks")
    assert 0 < shown(page) < fewer
    brush(page, "vector.lanes", 0.5, 0.5)
    brush(page, "latency_ms", 0.5, 0.5)
    assert shown(page) == before


def test_axes_can_be_chosen_and_points_told(page: Page) -> None:
    plot = page.locator("[data-view=scatter] .plot")
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert "on the front" in page.inner_text(".said")
    assert "vector lanes" in page.inner_text(".tip")
    page.keyboard.press("Escape")
    page.wait_for_timeout(100)
    assert page.locator(".tip").is_hidden()
    n_front = page.locator(".count b").nth(1).inner_text()
    page.get_by_label("front also over").select_option("power_w")
    page.get_by_label("up", exact=True).select_option("energy_mj")
    page.wait_for_timeout(100)
    assert "area, energy, power" in page.inner_text(".over")
    assert page.locator(".count b").nth(1).inner_text() != n_front


def test_table_sorts_and_turns(page: Page) -> None:
    def column(at: int) -> list[float]:
        cells = page.locator(f"#table tbody tr td:nth-child({at})").all_inner_texts()
        return [float(cell.replace(",", "")) for cell in cells]

    energy = page.locator("#table th", has_text="energy, mJ")
    energy.get_by_role("button").click()
    assert energy.get_attribute("aria-sort") == "ascending"
    assert column(4) == sorted(column(4)) and len(column(4)) == 15
    energy.get_by_role("button").click()
    assert column(4) == sorted(column(4), reverse=True)
    last = column(4)[-1]
    page.get_by_role("button", name="next").click()
    assert column(4)[0] <= last
    assert "16 to" in page.inner_text("#table .controls")
