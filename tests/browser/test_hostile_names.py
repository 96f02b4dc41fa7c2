"""Names that try to be markup, script or marks of direction, from every kind of input, in every kind of page.

The browser is told to ignore the page's policy, so that escaping alone has to hold; and once more with it, which must
then have nothing to report.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tilewright
from tilewright.reports.bits.page import write_bits_report
from tilewright.reports.folder import write_comparison_report, write_network_report
from tilewright.reports.front import write_front_report
from tilewright.reports.fusion_page import write_fusion_report
from tilewright.reports.machine_page import write_machines_report
from tilewright.reports.network_case import NetworkCase
from tilewright.reports.pipeline_page import write_pipeline_report
from tilewright.reports.present import _cases
from tilewright.reports.validation_page import write_validation_report
from tilewright.search.bits.budget import parse_budgets
from tilewright.search.bits.choose import choose_bits
from tilewright.search.bits.costs import SimulationSettings, simulated_costs
from tilewright.search.bits.sensitivity import LayerSensitivity, OptionSensitivity, Sensitivity
from tilewright.search.fusion.run import search_fusion
from tilewright.search.gpu.power_check import PowerComparison
from tilewright.search.gpu.validate import ErrorFigures, TableValidation, Validation
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.network import simulate_stream
from tilewright.search.sweep.run import run_sweep
from tilewright.search.sweep.spec import load_sweep
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.load import load_workload
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.file import stream_from_json
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

_PHONE = {"width": 390, "height": 844}
_DESK = {"width": 1280, "height": 900}
_RUN = "window.reached=1,alert(1)"
EVIL = (
    f"</script><script>{_RUN}</script><img src=x onerror={_RUN}>",
    f'"\'><svg onload={_RUN}><a href="javascript:{_RUN}">x</a>',
    "</title></style><style>*{display:none}</style><!-- {{ 7*7 }}",
    f"\u202egnp.exe\u202c \u2066 \x1b]0;x\x07 \x00 \u2028 &lt;b&gt; ]]> onmouseover={_RUN}",
    f"{'w' * 120} \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 $x^2$",
)
_MACHINE = "edge-16x16"
PAGES = ("compare", "layer", "network", "machines", "front", "sweep", "fusion", "pipeline", "bits", "validation")
_SIZES = "heads: 2\nseq: 64\nhead_dim: 32\n"
_N_SCRIPTS = {"network": 1, "sweep": 2, "fusion": 1, "pipeline": 1}


def evil_stream() -> OperatorStream:
    """Convolutions and a product under such names, by way of the file of a stream."""
    b = Layers("stream")
    x = b.input("x", (1, 8, 16, 16))
    for number in range(3):
        x = b.elementwise("relu", b.conv(x, 8, 3, f"conv{number}", padding=1))
    text = b.finish([x]).to_json()
    data = json.loads(text)
    names = {op["name"]: f"layers.{n}.{EVIL[n % len(EVIL)]}" for n, op in enumerate(data["operators"])}
    for operator in data["operators"]:
        operator["path"] = operator["name"] = names[operator["name"]]
    return stream_from_json(json.dumps({**data, "name": " ".join(EVIL)}), name="x.json")


def evil_onnx(path: Path) -> Path:
    """An ONNX file with such names for graph, nodes, weights and tensors."""
    onnx = pytest.importorskip("onnx")
    helper, names = onnx.helper, [name.replace("\0", "") for name in EVIL]
    weight = onnx.numpy_helper.from_array(np.zeros((64, 64), dtype=np.float32), name=f"w {names[0]}")
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [32, 64]) for name in ("x", names[1])]
    nodes = [
        helper.make_node("MatMul", ["x", weight.name], [f"m {names[2]}"], name=names[3]),
        helper.make_node("Softmax", [f"m {names[2]}"], [names[1]], name=names[4]),
    ]
    graph = helper.make_graph(nodes, names[0], [value[0]], [value[1]], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def evil_layers(folder: Path, n: int) -> list[AttentionLayer]:
    """Layers of YAML files with such names."""
    layers = []
    for number in range(n):
        file = folder / f"layer{number}.yaml"
        file.write_text(f"name: {json.dumps(' '.join(EVIL[number:]))}\n{_SIZES}", encoding="utf-8")
        layers.append(load_workload(file))
    return layers


def write_layers(folder: Path) -> Path:
    """The pages of two layers and the index of both."""
    comparison = tilewright.compare(evil_layers(folder.parent, 2), _MACHINE, ["flat", "mas"])
    return write_comparison_report(folder, comparison, _cases(comparison), command=f"tilewright {' '.join(EVIL)}")


def write_machines(folder: Path) -> Path:
    machines = [tilewright.load_machine(name) for name in (_MACHINE, "flat-edge")]
    comparison = tilewright.compare([*evil_layers(folder.parent, 1), replace(evil_stream(), name=EVIL[1])], machines)
    return write_machines_report(folder, comparison, machines, command=EVIL[0])


def write_network(folder: Path, stream: OperatorStream) -> Path:
    machine = tilewright.load_machine(_MACHINE)
    result = simulate_stream(stream, machine, cache=ForgetfulCache())
    case = NetworkCase(
        result=replace(result, assumptions=(*result.assumptions, *EVIL)),
        stream=stream,
        machine=replace(machine, description=EVIL[0]),
        objective="latency",
        command=f"{EVIL[1]} \udc80",
    )
    return write_network_report(folder, case)


def write_sweep(folder: Path, layer_name: str = EVIL[0]) -> Path:
    folder.mkdir()
    layer = folder / "layer.yaml"
    layer.write_text(f"name: {json.dumps(layer_name)}\n{_SIZES}", encoding="utf-8")
    spec: dict[str, Any] = {
        "name": " ".join(EVIL[:3]),
        "machine": _MACHINE,
        "parameters": {"vector.lanes": [8, 16], "buffers.l1.capacity_kib": [2, 64]},
        "workloads": [str(layer)],
        "dataflows": ["mas"],
    }
    run_sweep(load_sweep(spec), folder / "results.db", jobs=1)
    tilewright.report_sweep(folder / "results.db", folder / "index.html", command=EVIL[1])
    return folder / "index.html"


def write_bits(folder: Path) -> Path:
    b = Layers(EVIL[0])
    x = b.input("x", (96, 256))
    names = [f"{name} {EVIL[2]}" for name in "abc"]
    for name in names:
        x = b.elementwise("relu", b.linear(x, 256, name))
    stream = b.finish([x])
    options = tuple(
        OptionSensitivity(weights=name, activations=name, sensitivity=loss)
        for name, loss in (("int8", 0.01), ("int4", 1.0))
    )
    layers = tuple(LayerSensitivity(name=n, n_weights=65536, macs=6_291_456, options=options) for n in names)
    table = Sensitivity(network=EVIL[0], measured_by=" ".join(EVIL), layers=layers)
    machine = tilewright.load_machine("edge-16x16-bitfusion")
    costs = simulated_costs(stream, machine, table, SimulationSettings(cache=ForgetfulCache()))
    return write_bits_report(folder, choose_bits(costs, parse_budgets(["latency=0.7x"]), curve="latency"))


def write_validation(folder: Path) -> Path:
    figures = ErrorFigures(n=3, mape=0.1, median=0.1, worst=0.2, bias=0.0, rank_correlation=0.5)
    times = np.array([1e-6, 1e-5, 1e-4])
    tables = tuple(
        TableValidation(
            name=f"{name} {number}",
            operator="gemm",
            family=name,
            source=name,
            stand_in=name,
            measured_on=name,
            fitted=figures,
            scope="all",
            n_left_out=0,
            overall=figures,
            by_size={"below 10 us": figures},
            by_bound={"memory": figures},
            measured_s=times,
            predicted_s=times * 1.1,
            bound=np.array([0, 1, 2]),
        )
        for number, name in enumerate(EVIL)
    )
    power = tuple(
        PowerComparison(
            name=f"{name} {number}",
            family=name,
            scope="all",
            overall=figures,
            long_runs=figures,
            largest_w=690.0,
            limit_w=700.0,
            energy_from=name,
            measured_w=np.array([150.0, 400.0, 690.0]),
            predicted_w=np.array([140.0, 420.0, 690.0]),
        )
        for number, name in enumerate(EVIL)
    )
    found = Validation(
        machine="h200",
        calibrated_on="h200",
        tables=tables,
        rankings=(),
        left_out=((EVIL[0], EVIL[1]),),
        power=power,
    )
    return write_validation_report(folder, found, command=EVIL[2])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hostile")
    index = write_layers(folder / "compare")
    fusion = search_fusion(evil_stream(), tilewright.load_machine(_MACHINE), buffer_bytes=2**16)
    two = tilewright.load_machine(_MACHINE).with_(n_cores=2)
    pipeline = tilewright.simulate_pipeline(evil_stream(), two, 2, keep_mappings=False)
    return {
        "compare": index,
        "layer": next(page for page in sorted(index.parent.glob("*.html")) if page.name != "index.html"),
        "network": write_network(folder / "network", evil_stream()),
        "machines": write_machines(folder / "machines"),
        "front": write_front_report(
            folder / "front", [tilewright.pareto(layer, _MACHINE, ["mas"]) for layer in evil_layers(folder, 2)]
        ),
        "sweep": write_sweep(folder / "sweep"),
        "fusion": write_fusion_report(folder / "fusion", fusion, command=EVIL[0]),
        "pipeline": write_pipeline_report(folder / "pipeline", pipeline, command=EVIL[0]),
        "bits": write_bits(folder / "bits"),
        "validation": write_validation(folder / "validation"),
    }


def opened(tab: Any, path: Path, *, size: Any = _DESK, scheme: str = "light") -> Page:
    """The page at ``path``, when its scripts have run."""
    page: Page = tab.open(path, size=size, scheme=scheme)
    page.wait_for_timeout(150)
    return page


def found(tab: Any) -> list[str]:
    """What must not happen and has."""
    reached = ["a script of a name has run"] if tab.page.evaluate("window.reached") else []
    return [*tab.found(), *reached]


@pytest.fixture(params=PAGES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("which", ["lenient_tab", "tab"], ids=["escaping alone", "with the policy"])
def test_nothing_of_a_name_runs(pages: dict[str, Path], kind: str, which: str, request: pytest.FixtureRequest) -> None:
    tab = request.getfixturevalue(which)
    page = opened(tab, pages[kind])
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for element in page.locator("button:enabled:visible").all()[:8]:
        element.click()
    page.mouse.move(640, 300)
    made = page.evaluate(
        """() => ({
            scripts: document.scripts.length,
            handlers: [...document.querySelectorAll('*')].filter(e => [...e.attributes].some(
                a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value))).length,
            strangers: document.querySelectorAll(
                'img:not([src^="data:"]), iframe, object, form, base, link:not([rel=icon])').length,
            hidden: getComputedStyle(document.querySelector('h1')).display,
        })"""
    )
    assert found(tab) == []
    assert made == {"scripts": _N_SCRIPTS.get(kind, 0), "handlers": 0, "strangers": 0, "hidden": "block"}


@pytest.mark.parametrize("size", [_DESK, _PHONE], ids=["desk", "phone"])
def test_the_layout_survives(tab: Any, pages: dict[str, Path], kind: str, size: Any) -> None:
    page = opened(tab, pages[kind], size=size, scheme="dark")
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    text = page.inner_text("body")
    unseen = [hex(ord(c)) for c in set(text) if not c.isprintable() and c not in "\n\t"]
    blocks = page.evaluate(
        """() => [...document.querySelectorAll('section, .card, h1')].map(e => e.getBoundingClientRect())
            .filter(box => box.height > 0 && (box.left < 0 || box.right > innerWidth + 0.5)).length"""
    )
    assert found(tab) == []
    assert overflow <= 0
    assert blocks == 0
    assert unseen == []
    if kind not in ("validation",):
        assert "</script><script>" in text or "\"'>" in text


def test_names_of_an_onnx_file_stay_text(lenient_tab: Any, tmp_path: Path) -> None:
    stream = load_network(evil_onnx(tmp_path / "evil.onnx")).with_formats(weights="fp16", activations="fp16")
    page = opened(lenient_tab, write_network(tmp_path / "network", stream), size=_PHONE)
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    n_scripts = page.evaluate("document.scripts.length")
    assert found(lenient_tab) == []
    assert (overflow <= 0, n_scripts) == (True, 1)


def test_pictures_stay_pictures(lenient_tab: Any, pages: dict[str, Path]) -> None:
    page = opened(lenient_tab, pages["fusion"].with_name("groups.svg"))
    n_strange = page.evaluate("document.querySelectorAll('script, [onload], foreignObject, image').length")
    assert found(lenient_tab) == []
    assert n_strange == 0


def test_the_rows_that_a_page_saves_are_no_formulas(tab: Any, tmp_path: Path) -> None:
    page = opened(tab, write_sweep(tmp_path / "sweep", "=cmd|' /C calc'!A0"))
    with page.expect_download() as download:
        page.get_by_role("button", name="save these rows as CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert found(tab) == []
    assert {row["workload"] for row in rows} == {"'=cmd|' /C calc'!A0"}
    assert all(float(row["latency_ms"]) > 0 for row in rows)
