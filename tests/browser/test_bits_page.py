"""The page of a search over bit widths in a real browser: nothing fails, nothing is fetched, it fits a telephone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tilewright.hw_models.load import load_machine
from tilewright.reports.bits.page import write_bits_report
from tilewright.search.bits.budget import parse_budgets
from tilewright.search.bits.choose import choose_bits
from tilewright.search.bits.costs import SimulationSettings, simulated_costs
from tilewright.search.bits.sensitivity import LayerSensitivity, OptionSensitivity, Sensitivity
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.workloads.zoo.layers import Layers

pytestmark = pytest.mark.browser

_PHONE = {"width": 360, "height": 780}
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small perceptron, with a source of sensitivities that tries to be a script."""
    b = Layers("small")
    x = b.input("x", (96, 256))
    for name in ("a", "b", "c"):
        x = b.elementwise("relu", b.linear(x, 256, name))
    stream = b.finish([x])
    options = tuple(
        OptionSensitivity(weights=name, activations=name, sensitivity=loss)
        for name, loss in (("int8", 0.01), ("int4", 1.0))
    )
    layers = tuple(LayerSensitivity(name=n, n_weights=65536, macs=6_291_456, options=options) for n in "abc")
    table = Sensitivity(network="small", measured_by=HOSTILE, layers=layers)
    machine = load_machine("edge-16x16-bitfusion")
    costs = simulated_costs(stream, machine, table, SimulationSettings(cache=ForgetfulCache()))
    result = choose_bits(costs, parse_budgets(["latency=0.7x"]), curve="latency")
    return write_bits_report(tmp_path_factory.mktemp("bits") / "report", result, command=f"tilewright {HOSTILE}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_without_a_fault(tab: Any, page_of: Path, scheme: str) -> None:
    page = tab.open(page_of, scheme=scheme)
    image = page.screenshot(full_page=True)
    marks = page.locator(".roofline circle").count()
    images = page.locator("img").count()
    assert tab.found() == []
    assert images == 0
    assert marks >= 4
    assert len(image) > 30_000


def test_page_fits_a_telephone(tab: Any, page_of: Path) -> None:
    page = tab.open(page_of, size=_PHONE)
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0
