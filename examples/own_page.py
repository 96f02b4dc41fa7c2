"""Write a report page of your own: each component's share of the energy, beside the standard page of a layer.

Registered, it is part of every report about a layer, with a link on the standard page. Run with:
tilewright simulate bert-base -a edge-16x16 -d mas --report out --plugin examples/own_page.py
"""

import tempfile
from html import escape

import tilewright
from tilewright.reports.case import ReportCase
from tilewright.reports.pages import ReportPage, register_page


def shares(case):
    """A list of components with their energy, as a page."""
    energy = case.result.energy_by_component
    total = sum(energy.values())
    rows = "".join(f"<li>{escape(name)}: {value / total:.1%} of the energy</li>" for name, value in energy.items())
    return f"<!DOCTYPE html><meta charset='utf-8'><title>{escape(case.title)}</title><ul>{rows}</ul>"


register_page(ReportPage(name="shares", title="shares of the energy", subject=ReportCase, make=shares))

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        page = tilewright.simulate("bert-base", "edge-16x16", dataflow="mas").report(folder)
        linked = "shares.html" in page.read_text(encoding="utf-8")
        print("linked:", linked, page.with_name("shares.html").read_text(encoding="utf-8"))
