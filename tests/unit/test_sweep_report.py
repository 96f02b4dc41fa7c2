"""The report of a sweep: the front, the sensitivity, the choice of points, and what is said about bad stores."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright
from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.reports.explore import Exploration, ExploreColumn, page_script
from tilewright.reports.sweep.case import SweepCase, read_case
from tilewright.reports.sweep.front import front_mask
from tilewright.reports.sweep.markdown import sweep_markdown
from tilewright.reports.sweep.names import parameter_names
from tilewright.reports.sweep.sample import choose_points
from tilewright.reports.sweep.sensitivity import sensitivity
from tilewright.search.sweep.run import run_sweep
from tilewright.search.sweep.space import count_points, points, points_of
from tilewright.search.sweep.spec import Sweep, load_sweep
from tilewright.search.sweep.store import ResultsStore, StoredPoint
from tilewright.search.sweep.stored import open_sweep

HOSTILE = '</script><script>alert(1)</script><b>"&\u2028'
SMALL, WIDE = "attention:heads=2,seq=64,head_dim=16", "attention:heads=4,seq=64,head_dim=32"
SPEC: dict[str, Any] = {
    "machine": "edge-16x16",
    "area": {"mm2_per_pe": 0.02, "mm2_per_lane": 0.05, "mm2_per_kib": 0.006},
    "parameters": {
        "vector.lanes": [8, 16],
        "dram.bandwidth_gb_per_s": [5, 10, 20],
        "buffers.l1.capacity_kib": [0.5, 64],
    },
    "workloads": [SMALL, WIDE],
    "dataflows": ["mas", "flash2"],
    "limits": ["area_mm2 <= 7"],
}

Figures = Callable[[dict[str, Any]], tuple[int, float] | str]


def made_up(path: Path, spec: dict[str, Any], figures: Figures, chosen: Sequence[dict[str, Any]] = ()) -> Sweep:
    """A store whose points (of the ``chosen`` designs, or of all) have these (cycles, energy in pJ), or failed with
    this error, instead of being run."""
    sweep = load_sweep(spec)
    with ResultsStore(path) as store:
        store.note_sweep(sweep.text, sweep.name, asdict(sweep.machine))
        for point in points_of(sweep, chosen) if chosen else points(sweep):
            found = figures(dict(point.design))
            values: dict[str, Any] = {"status": "failed", "error": found}
            if not isinstance(found, str):
                clock_ghz = point.design.get("clock_ghz", sweep.machine.clock_ghz)
                values = {"status": "done", "cycles": found[0], "seconds": found[0] / clock_ghz * 1e-9}
                values |= {"energy_pj": found[1], "power_w": 0.5, "result": {"tile_query": 8}}
            store.add(
                StoredPoint(
                    key=point.key,
                    machine=sweep.machine.name,
                    workload=sweep.layers[point.layer].name,
                    dataflow=point.dataflow,
                    objective=sweep.objective,
                    parameters=point.design,
                    **values,
                )
            )
    return sweep


def case_of(path: Path) -> SweepCase:
    return read_case(open_sweep(path))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sweep that was really run; buffers of 2 KiB are too small for it."""
    path = tmp_path_factory.mktemp("sweep") / "results.db"
    run_sweep(load_sweep(SPEC), path, jobs=1)
    return path


@pytest.fixture
def page(store: Path, tmp_path: Path) -> str:
    tilewright.report_sweep(store, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(3)
    for goals in (1, 2, 3, 4):
        costs = rng.integers(0, 8, (120, goals)).astype(float)
        costs[5] = np.nan
        wanted = [
            not np.isnan(row).any()
            and not any((other <= row).all() and (other < row).any() for other in costs if not np.isnan(other).any())
            for row in costs
        ]
        assert front_mask(costs).tolist() == wanted
    assert front_mask(np.empty((0, 2))).tolist() == []


def test_shares_of_a_full_grid_are_those_of_the_analysis_of_variance(tmp_path: Path) -> None:
    """cycles = lanes^-2 x bandwidth^-1: in logarithms a sum, whose parts are known, and nothing is left over."""
    spec = SPEC | {
        "parameters": {"vector.lanes": [8, 16, 32, 64], "dram.bandwidth_gb_per_s": [5, 10], "clock_ghz": [1]},
        "limits": [],
    }

    def figures(design: dict[str, Any]) -> tuple[int, float]:
        return int(2**40 / design["vector.lanes"] ** 2 / design["dram.bandwidth_gb_per_s"]), 1e6

    made_up(tmp_path / "r.db", spec, figures)
    effects = {effect.name: effect for effect in sensitivity(case_of(tmp_path / "r.db"))}
    lanes = np.var(2 * np.log([8, 16, 32, 64]))
    bandwidth = np.var(np.log([5, 10]))
    assert effects["vector.lanes"].share == pytest.approx(lanes / (lanes + bandwidth), abs=1e-6)
    assert effects["dram.bandwidth_gb_per_s"].share == pytest.approx(bandwidth / (lanes + bandwidth), abs=1e-6)
    assert effects["dataflow"].share == 0
    assert "clock_ghz" not in effects
    assert next(iter(effects)) == "vector.lanes"
    ratios = [value.ratio for value in effects["vector.lanes"].values]
    assert ratios == pytest.approx([64, 16, 4, 1], rel=1e-6)


def test_a_parameter_without_effect_gets_nothing_from_chance(tmp_path: Path) -> None:
    spec = SPEC | {
        "parameters": {
            "vector.lanes": {"from": 8, "to": 512},
            "dram.bandwidth_gb_per_s": {"from": 5, "to": 60},
        },
        "sampling": {"method": "sobol", "n": 256},
        "limits": [],
        "workloads": SPEC["workloads"][:1],
        "dataflows": ["mas"],
    }
    rng = np.random.default_rng(1)
    made_up(tmp_path / "r.db", spec, lambda design: (int(1e6 * design["vector.lanes"]), rng.uniform(1, 2)))
    effects = {effect.name: effect for effect in sensitivity(case_of(tmp_path / "r.db"))}
    assert effects["vector.lanes"].share > 0.9
    assert effects["vector.lanes"].binned
    assert effects["dram.bandwidth_gb_per_s"].share < 0.02


def test_best_values_count_only_within_the_limits(store: Path) -> None:
    case = case_of(store)
    (lanes,) = [effect for effect in sensitivity(case) if effect.name == "vector.lanes"]
    rows = case.points[case.points["within_limits"] & (case.points["workload"] == SMALL)]
    for value, count in zip(lanes.values, (8, 16), strict=True):
        assert value.value == str(count)
        assert value.by_workload[SMALL] == rows.loc[rows["vector.lanes"] == count, "latency_ms"].min()


def test_large_sweep_keeps_its_front_and_an_even_choice(tmp_path: Path) -> None:
    spec = SPEC | {
        "parameters": {
            "vector.lanes": {"from": 8, "to": 256, "step": 8},
            "dram.bandwidth_gb_per_s": {"from": 5, "to": 60, "step": 5},
        },
        "limits": [],
    }
    rng = np.random.default_rng(5)
    made_up(tmp_path / "r.db", spec, lambda _: (int(rng.integers(1e4, 1e6)), float(rng.uniform(1e6, 1e8))))
    case = case_of(tmp_path / "r.db")
    assert len(case.points) == 32 * 12 * 4
    held = choose_points(case, 400)
    assert 350 <= len(held.rows) <= 400
    assert not held.complete and not held.fronts_cut
    for workload in case.workloads:
        own = case.points[case.points["workload"] == workload]
        front = own.index[front_mask(own[case.goals].to_numpy(dtype=float))]
        assert set(front) <= set(held.rows)
    rest = case.points.iloc[held.rows].groupby(["workload", "dataflow"]).size()
    assert rest.min() > 60
    few = choose_points(case, 20)
    assert few.fronts_cut and len(few.rows) <= 20
    assert choose_points(case, 10_000).complete
    text = tmp_path / "page.html"
    tilewright.report_sweep(tmp_path / "r.db", text, max_points=400)
    assert f"carries {len(held.rows):,} of 1,536 finished points" in text.read_text(encoding="utf-8")


def test_page_holds_everything_and_asks_for_nothing(page: str) -> None:
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "default-src 'none'" in page
    assert page_script().policy in page
    data = data_of(page)
    by_id = {column["id"]: column for column in data["columns"]}
    assert {"workload", "dataflow", "vector.lanes", "latency_ms", "energy_mj", "area_mm2", "limits"} <= set(by_id)
    assert data["filters"] == {"limits": ["within"]}
    assert data["n"] == len(by_id["latency_ms"]["values"]) == 24
    for part in (SMALL, WIDE):
        assert re.search(rf"<b>{part}</b> with (mas|flash2)", page)
    assert page.count("Closer look") + page.count("Timeline</h3>") >= 2
    assert "parameters:" in page or '"parameters"' in page  # the text of the sweep
    assert "the mapping needs" in page  # what 2 KiB lead to
    assert "TransFusion" in page  # a source of the machine


def test_stored_best_is_run_again_to_the_same_cycles(page: str) -> None:
    assert "run the sweep again" not in page
    assert "would do them anew" not in page


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    spec = SPEC | {"name": HOSTILE, "parameters": {"vector.lanes": [8, 16]}, "limits": []}
    made_up(tmp_path / "r.db", spec, lambda d: HOSTILE if d["vector.lanes"] == 8 else (1000, 1e6))
    written = tilewright.report_sweep(tmp_path / "r.db", tmp_path / "p.html", markdown=tmp_path / "p.md")
    page, markdown = (path.read_text(encoding="utf-8") for path in written)
    assert page.count("<script") == 2  # the data and the page's own
    assert "alert(1)</script>" not in page
    assert "<b>&#34;" not in page and '<b>"' not in page
    assert data_of(page)["n"] == 4
    assert "</script>" not in markdown.replace("&lt;/script>", "")


def test_data_cannot_leave_its_block() -> None:
    column = ExploreColumn(id=HOSTILE, label=HOSTILE, values=[HOSTILE, None])
    text = Exploration(columns=[column], x=HOSTILE, y=HOSTILE).json
    assert "<" not in text and ">" not in text and "\u2028" not in text
    data = json.loads(text)
    assert data["columns"][0]["texts"] == [HOSTILE.replace("\u2028", "\\u2028"), ""]


def test_numbers_go_into_the_page_as_they_are() -> None:
    column = ExploreColumn(id="a", label="a", values=[1.0, 1 / 3, None, float("nan"), 12345678])
    assert column.to_data()["values"] == [1, 0.333333, None, None, 12345700]


def test_names_of_parameters() -> None:
    machine = tilewright.load_machine("edge-16x16")
    paths = ["clock_ghz", "buffers.l1.capacity_kib", "matrix.rows", "dram.bandwidth_gb_per_s"]
    names = parameter_names(machine, paths)
    assert list(names.values()) == [
        ("clock", "GHz"),
        ("l1 capacity", "KiB"),
        ("matrix rows", ""),
        ("dram bandwidth", "GB/s"),
    ]


def test_tables(store: Path, tmp_path: Path) -> None:
    written = tilewright.report_sweep(store, csv=tmp_path / "p.csv", markdown=tmp_path / "p.md")
    assert [path.name for path in written] == ["p.csv", "p.md"]
    with written[0].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    assert sum(row["status"] == "infeasible" for row in rows) == 24
    case = case_of(store)
    best = min(float(row["seconds"]) for row in rows if row["status"] == "done" and row["workload"] == WIDE)
    assert case.best.by_workload[WIDE]["seconds"] == best
    text = written[1].read_text(encoding="utf-8")
    assert f"| {WIDE} | {case.best.by_workload[WIDE]['dataflow']} | {best * 1e3:.4g} |" in text
    assert f"## Front of {SMALL}" in text and "## Sensitivity of latency" in text and "24 infeasible" in text


STEMS = (
    "pareto",
    "sensitivity",
    "timeline-attention-heads-2-seq-64-head_dim-16",
    "timeline-attention-heads-4-seq-64-head_dim-32",
)


@pytest.mark.parametrize("form", ["png", "svg"])
def test_figures(store: Path, tmp_path: Path, form: str) -> None:
    tilewright.report_sweep(store, **{form: tmp_path / "figures"})
    names = sorted(path.name for path in (tmp_path / "figures").glob("[!.]*"))
    assert names == [f"{stem}.{form}" for stem in STEMS]
    for path in (tmp_path / "figures").glob("[!.]*"):
        assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_store_of_another_version_is_read_by_content(store: Path, tmp_path: Path) -> None:
    now = case_of(store)
    assert now.current
    old = Path(shutil.copy(store, tmp_path / "old.db"))
    with contextlib.closing(sqlite3.connect(old)) as database, database:
        database.execute("UPDATE points SET key = 'old ' || key")  # other code, other keys
    then = case_of(old)
    assert not then.current
    assert then.counts["done"] == now.counts["done"]
    assert then.points.sort_values("latency_ms")["latency_ms"].tolist() == sorted(now.points["latency_ms"])


def test_search_is_reported_without_searching_again(tmp_path: Path) -> None:
    """Also where the library of the search is not installed."""
    spec = SPEC | {"sampling": {"method": "nsga2", "n": 20}, "limits": []}
    chosen = [{"vector.lanes": 8, "dram.bandwidth_gb_per_s": b, "buffers.l1.capacity_kib": 64} for b in (5, 10, 20)]
    made_up(tmp_path / "r.db", spec, lambda design: (design["dram.bandwidth_gb_per_s"], 1e6), chosen)
    case = case_of(tmp_path / "r.db")
    assert case.current
    assert case.counts["done"] == 12
    tilewright.report_sweep(tmp_path / "r.db", tmp_path / "p.html")
    assert "NSGA-II" in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_network_shows_its_operators(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    spec = {"machine": "edge-16x16", "workloads": ["network:vit-b-16:image=32"], "dataflows": ["flash2"]}
    run_sweep(load_sweep(spec), tmp_path / "r.db", jobs=1)
    tilewright.report_sweep(tmp_path / "r.db", tmp_path / "p.html", markdown=tmp_path / "p.md", svg=tmp_path / "f")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "operators one after the other" in page and "<div>matmul</div>" in page
    assert "run the sweep again" not in page
    assert "area" not in (tmp_path / "p.md").read_text(encoding="utf-8")
    assert (tmp_path / "f" / "timeline-vit-b-16-image-32.svg").exists()


def test_several_sweeps_need_a_choice(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.db"
    for name in ("first", "second"):
        made_up(path, SPEC | {"name": name}, lambda _: (1000, 1e6))
    with pytest.raises(InputError, match=r"several sweeps; say which with --sweep NAME; allowed first, second"):
        open_sweep(path)
    with pytest.raises(InputError, match=r'given "secnd".*did you mean "second"'):
        open_sweep(path, "secnd")
    assert open_sweep(path, "second").sweep.name == "second"
    text = json.dumps(SPEC | {"name": "first"})
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    assert open_sweep(path, str(tmp_path / "s.yaml")).sweep.name == "first"


def test_newest_text_of_a_name_counts(tmp_path: Path) -> None:
    made_up(tmp_path / "r.db", SPEC, lambda _: (1000, 1e6))
    made_up(tmp_path / "r.db", SPEC | {"dataflows": ["mas"]}, lambda _: (1000, 1e6))
    opened = open_sweep(tmp_path / "r.db")
    assert opened.n_texts == 2
    assert opened.sweep.dataflows == ("mas",)
    assert read_case(opened).counts["done"] == 24


def test_unfinished_sweep_says_what_is_missing(tmp_path: Path) -> None:
    sweep = made_up(tmp_path / "r.db", SPEC, lambda _: (1000, 1e6))
    with ResultsStore(tmp_path / "r.db") as opened:
        opened.forget([point.key for point in points(sweep)][:5], ("done",))
    case = case_of(tmp_path / "r.db")
    assert case.counts["missing"] == 5
    tilewright.report_sweep(tmp_path / "r.db", tmp_path / "p.html")
    assert "5 points of the sweep are not run yet" in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_sweep_without_a_finished_point_still_has_a_page(tmp_path: Path) -> None:
    made_up(tmp_path / "r.db", SPEC, lambda _: "it went wrong")
    tilewright.report_sweep(tmp_path / "r.db", tmp_path / "p.html", markdown=tmp_path / "p.md", png=tmp_path / "f")
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "No finished point is within the limits" in text and "it went wrong" in text
    assert "data-explorer" not in text.partition("</style>")[2].partition("<script>")[0]


def bad_store(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.db"
    if kind == "text":
        path.write_text("not a database, but long enough to be read as one" * 40, encoding="utf-8")
    elif kind == "empty":
        ResultsStore(path).close()
    elif kind == "begun":
        sweep = load_sweep(SPEC)
        with ResultsStore(path) as store:
            store.note_sweep(sweep.text, sweep.name, asdict(sweep.machine))
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "no such results store"),
        ("folder", "is a folder"),
        ("text", "is no results store, or is damaged"),
        ("empty", "holds no sweep yet"),
        ("begun", "holds no finished point of the sweep sweep"),
    ],
)
def test_bad_store_is_one_sentence(tmp_path: Path, capsys: Any, kind: str, said: str) -> None:
    code = run(["report", str(bad_store(tmp_path, kind)), "-o", str(tmp_path / "p.html")])
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert said in line
    assert not (tmp_path / "p.html").exists()


def test_tables_to_standard_output(store: Path, capsys: Any) -> None:
    assert run(["report", str(store), "--csv", "-"]) == 0
    out = capsys.readouterr().out
    assert len(list(csv.DictReader(out.splitlines()))) == 48
    assert run(["report", str(store), "--markdown", "-"]) == 0
    assert capsys.readouterr().out.startswith("# sweep on edge-16x16")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to write; give -o FILE.html"),
        (["-o", "nowhere/p.html"], "--output: cannot write nowhere/p.html"),
        (["-o", "p", "--csv", "p"], "--output and --csv both write to p"),
        (["-o", "p.html", "--points", "5"], "--points: out of range; given 5; allowed 100 to 50,000"),
        (["-o", "p.html", "--sweep", "other"], 'no sweep of that name; given "other"; allowed sweep'),
    ],
)
def test_bad_options(
    store: Path, tmp_path: Path, capsys: Any, monkeypatch: Any, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["report", str(store), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_its_library_says_what_to_install(store: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'pip install "tilewright\[analysis\]"'):
        tilewright.report_sweep(store, parquet=tmp_path / "p.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extras
def test_parquet_round_trip(store: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (path,) = tilewright.report_sweep(store, parquet=tmp_path / "p.parquet")
    table = parquet.read_table(path)
    frame = table.to_pandas()
    opened = open_sweep(store)
    wanted = tilewright.sweep(opened.sweep, store, jobs=1)
    assert len(frame) == len(wanted) == 48
    assert frame["key"].tolist() == wanted["key"].tolist()
    done = wanted["status"] == "done"
    assert frame.loc[done, "cycles"].tolist() == wanted.loc[done, "cycles"].tolist()
    assert frame.loc[done, "energy_pj"].tolist() == wanted.loc[done, "energy_pj"].tolist()
    assert str(table.schema.field("cycles").type) == "int64"
    assert str(table.schema.field("within_limits").type) == "bool"
    assert table.schema.metadata[b"tilewright.sweep"].decode() == opened.sweep.text
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_example_is_the_sweep_of_the_picture() -> None:
    sweep = load_sweep(Path(__file__).parents[2] / "examples" / "edge_designs.yaml")
    assert count_points(sweep) == 1296


def test_markdown_of_one_workload_has_no_shared_design(tmp_path: Path) -> None:
    made_up(tmp_path / "r.db", SPEC | {"workloads": SPEC["workloads"][:1]}, lambda _: (1000, 1e6))
    case = case_of(tmp_path / "r.db")
    assert "for all workloads" not in sweep_markdown(case, sensitivity(case))
