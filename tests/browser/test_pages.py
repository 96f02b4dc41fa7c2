"""The pages in a real browser: nothing is fetched, nothing fails, something is seen, and it fits a telephone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tilewright.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

_PHONE = {"width": 360, "height": 780}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of two layers, a whole network, fusion groups and a validation, made by the command line."""
    folder = tmp_path_factory.mktemp("report") / "out"
    requests = {
        "": ["compare", "bert-base", "attention:heads=2,seq=64,head_dim=32", "-a", "edge-16x16"],
        "network": ["simulate", "vit-b-16:image=64", "-a", "edge-16x16"],
        "fusion": ["search", "mobilenet-v2", "-a", "edge-16x16", "--over", "fusion", "--buffer", "128KiB"],
        "pipeline": ["simulate", SMALL, "-a", "edge-16x16", "--set", "n_cores=2", "--pipeline", "2"],
        "kept": ["search", "cnv:width=6", *INT8, "--over", "fusion", "--residency", "plan"],
        "validation": ["validate", *map(str, sorted(SAMPLES.glob("h200_gemm_*.csv"))), "-a", "h200"],
        "machines": ["compare", SMALL, "gemm:m=64,n=64,k=64", *BOTH],
        "front": ["compare", SMALL, *BOTH, "--objective", "pareto"],
        "why": ["why", SMALL, "-a", "edge-16x16"],
        "kernels": ["why", "mobilenet-v2", "-a", "h100"],
        "kernel": ["simulate", "attention:heads=8,seq=256,head_dim=64", "-a", "h100"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILEWRIGHT_CACHE", str(folder.parent / "cache"))
        for name, request in requests.items():
            with pytest.raises(SystemExit) as stopped:
                main([*request, "--report", str(folder / name)])
            assert stopped.value.code == 0
    return folder


SAMPLES = Path(__file__).parents[1] / "validation" / "gpu_samples"
SMALL = "fsrcnn:height=27,width=48"
INT8 = ["-a", "edge-16x16", "--weights", "int8", "--activations", "int8"]
BOTH = ["-a", "edge-16x16", "-a", "flat-edge"]
FOLDERS = ("network", "fusion", "pipeline", "kept", "validation", "machines", "front", "why", "kernels", "kernel")
PAGES = ["index.html", "bert-base.html", *(f"{folder}/index.html" for folder in FOLDERS)]
_FAINT = """() => {
    const light = colour => {
        const parts = colour.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
    };
    const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = numbers(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] > .99) return colour.slice(0, 3);
        }
        return [255, 255, 255];
    };
    return [...document.querySelectorAll('body *:not(script, style, title, .on)')].filter(e => {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) return false;
        if (!e.getClientRects().length) return false;
        const style = getComputedStyle(e);
        const ink = numbers(e instanceof SVGElement ? style.fill : style.color).slice(0, 3);
        const [high, low] = [light(ink), light(behind(e))].sort((a, b) => b - a);
        return (high + .05) / (low + .05) < 4.5;
    }).map(e => e.textContent.slice(0, 40));
}"""  # texts with less contrast than WCAG asks for


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_without_a_fault(tab: Any, report: Path, name: str, scheme: str) -> None:
    page = tab.open(report / name, scheme=scheme)
    image = page.screenshot(full_page=True)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert tab.found() == []
    assert len(image) > 30_000  # a blank page of this size is a few kilobytes
    assert (background == "rgb(18, 21, 26)") == (scheme == "dark")


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_telephone(tab: Any, report: Path, name: str) -> None:
    page = tab.open(report / name, size=_PHONE)
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('td, li, p')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert overflow <= 0
    assert smallest >= 11


def test_bars_are_drawn_to_scale(tab: Any, report: Path) -> None:
    page = tab.open(report / "bert-base.html")
    widths = page.evaluate(
        """() => {
            const width = element => element.getBoundingClientRect().width;
            return [...document.querySelectorAll('.chart svg')].map(
                chart => [width(chart), ...[...chart.querySelectorAll('rect')].map(width)]);
        }"""
    )
    assert len(widths) > 6
    for whole, *parts in widths:
        assert whole > 50
        assert parts
        assert sum(parts) <= whole + 1


def test_roofline_marks_lie_inside_the_plot(tab: Any, report: Path) -> None:
    page = tab.open(report / "network" / "index.html", size=_PHONE)
    plot, *marks = page.evaluate(
        """() => [...document.querySelectorAll('.roofline svg, .roofline circle')].map(element => {
            const box = element.getBoundingClientRect();
            return [box.left, box.right, box.top, box.bottom];
        })"""
    )
    assert len(marks) > 3
    for left, right, top, bottom in marks:
        assert plot[0] <= (left + right) / 2 <= plot[1]
        assert plot[2] <= (top + bottom) / 2 <= plot[3]


@pytest.mark.parametrize("name", PAGES)
def test_every_text_can_be_read(tab: Any, report: Path, name: str) -> None:
    """WCAG's contrast of 4.5 for texts on the page; those on marks of charts are held to it in the palette's test."""
    page = tab.open(report / name)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(_FAINT) == [], scheme


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_used_without_eyes_or_mouse(tab: Any, report: Path, name: str) -> None:
    page = tab.open(report / name, size=_PHONE)
    found = page.evaluate(
        """() => {
            const levels = [...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]));
            const all = (what, test) => [...document.querySelectorAll(what)].filter(test).length;
            return {
                language: document.documentElement.lang,
                title: document.title.length > 3,
                heads: levels.filter(level => level === 1).length,
                skips: levels.filter((level, at) => at && level > levels[at - 1] + 1).length,
                drawings: all('svg', e => !e.parentElement.closest('svg') && !e.getAttribute('aria-label')),
                pictures: all('img', e => !e.alt),
                headers: all('th', e => e.scope !== 'col'),
                stuck: all('.scroll', e => e.scrollWidth > e.clientWidth + 1 && e.tabIndex < 0),
                nameless: all('button', e => !e.textContent.trim()),
            };
        }"""
    )
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert found == {
        "language": "en", "title": True, "heads": 1, "skips": 0, "drawings": 0, "pictures": 0, "headers": 0,
        "stuck": 0, "nameless": 0,
    }  # fmt: skip
    assert outline == "solid"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_prints_in_black_on_white(tab: Any, report: Path, name: str) -> None:
    page = tab.open(report / name, size={"width": 794, "height": 1123}, scheme="dark", media="print")
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]


@pytest.mark.parametrize("name", ["network/index.html", "fusion/index.html", "validation/index.html"])
def test_no_table_is_cut_on_a_desk(tab: Any, report: Path, name: str) -> None:
    page = tab.open(report / name)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    cut = page.evaluate(
        """[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)
            .map(e => e.textContent.slice(0, 40))"""
    )
    assert cut == []


def column(page: Page, number: int) -> list[str]:
    """The texts of a column of the first table that can be sorted, in the order in which its rows stand."""
    cells = page.locator("table.sortable").first.locator(f"tbody td:nth-child({number})")
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


@pytest.mark.parametrize(("name", "header", "number"), [("network", "cycles", 5), ("fusion", "buffer", 4)])
def test_a_table_sorts_by_mouse_and_by_keys(tab: Any, report: Path, name: str, header: str, number: int) -> None:
    page = tab.open(report / name / "index.html")
    table = page.locator("table.sortable").first
    before, n_rows = column(page, 1), table.locator("tbody tr").count()
    values = "cells => cells.map(cell => Number(cell.dataset.value))"
    cells = table.locator(f"tbody td:nth-child({number})")
    button = table.get_by_role("button", name=header, exact=True)
    button.click()
    downwards = cells.evaluate_all(values)
    assert downwards == sorted(downwards, reverse=True)
    assert table.locator("th[aria-sort]").evaluate_all("h => h.map(e => [e.textContent, e.ariaSort])") == [
        [header, "descending"]
    ]
    button.focus()
    page.keyboard.press("Enter")
    upwards = cells.evaluate_all(values)
    assert upwards == sorted(downwards)
    assert table.locator("th[aria-sort=ascending]").count() == 1
    table.get_by_role("button", name="operators").focus()
    page.keyboard.press("Space")
    names = column(page, 2)
    order = page.evaluate("n => [...n].sort(new Intl.Collator('en', {numeric: true}).compare)", names)
    assert names == order
    first = table.get_by_role("button", name="#")
    first.click()
    first.click()
    assert column(page, 1) == before
    assert table.locator("tbody tr").count() == n_rows


def test_engines_stand_under_each_other_on_the_scale_of_the_operators(tab: Any, report: Path) -> None:
    page = tab.open(report / "network" / "index.html")
    lefts = page.evaluate(
        "[...document.querySelectorAll('.lanes svg[role=img]')].map(e => e.getBoundingClientRect().left)"
    )
    names = page.locator(".areas .names > div").all_inner_texts()
    tips = page.locator(".areas .over title").count()
    widths = page.evaluate(
        "[...document.querySelectorAll('.areas svg svg path')].map(e => e.getBoundingClientRect().width)"
    )
    assert lefts[0] == lefts[-1]
    assert [name.split("\n")[0] for name in names] == [
        "matrix unit", "vector unit", "load", "store", "DRAM", "buffer l1"
    ]  # fmt: skip
    assert tips > 50
    assert all(width > 700 for width in widths)


def test_the_drawing_of_groups_follows_the_setting(tab: Any, report: Path) -> None:
    backs = []
    for scheme in ("light", "dark"):
        page = tab.open(report / "fusion" / "groups.svg", scheme=scheme)
        backs.append(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert backs == ["rgb(255, 255, 255)", "rgb(27, 32, 39)"]
