"""What a person sees is well formed, escaped, and says the numbers that the result holds."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import stat
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tilewright.errors import InputError
from tilewright.reports.case import ReportCase
from tilewright.reports.charts import lane_chart
from tilewright.reports.figure import cycles_png, energy_png, speedup_png, timeline_png
from tilewright.reports.files import check_apart, check_file, check_folder, staged_folder, write_file
from tilewright.reports.folder import file_stems, write_comparison_report, write_result_report
from tilewright.reports.index import index_page
from tilewright.reports.manifest import MANIFEST
from tilewright.reports.markdown import comparison_markdown
from tilewright.reports.page import result_page
from tilewright.reports.quantity import (
    bytes_text,
    change_text,
    cycles_text,
    energy_text,
    percent_text,
    ratio_text,
    seconds_text,
)
from tilewright.reports.ranking import baseline_of, best_of, dataflow_order, speedups
from tilewright.reports.table import comparison_table, summary_table
from tilewright.reports.timeline import chrome_trace, chrome_trace_json
from tilewright.reports.window import closeup, recorded_span
from tilewright.sim.result import ComparisonResult

EVIL = "<script>alert(1)</script>&\"'$x$"
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Balance(HTMLParser):
    """Reads a page and notes tags that do not match, references to the outside, and the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.faults == []
    assert parser.open == []
    return parser


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (cycles_text(1234567), "1,234,567"),
        (seconds_text(0.00123), "1.23 ms"),
        (seconds_text(560e-6), "560 us"),
        (seconds_text(0.99999e-3), "1.00 ms"),
        (seconds_text(12.3), "12.3 s"),
        (seconds_text(3e-10), "0.30 ns"),
        (seconds_text(0.0), "0 ns"),
        (energy_text(4.56e9), "4.56 mJ"),
        (energy_text(101e6), "101 uJ"),
        (energy_text(2.5), "2.50 pJ"),
        (bytes_text(0), "0 B"),
        (bytes_text(1023), "1,023 B"),
        (bytes_text(1536), "1.50 KiB"),
        (bytes_text(5 * 2**20), "5 MiB"),
        (bytes_text(3 * 2**40), "3 TiB"),
        (percent_text(0.873), "87.3 %"),
        (ratio_text(1.7), "1.70x"),
        (change_text(0.8), "-20.0 %"),
        (change_text(1.0), "no change"),
        (change_text(1.0003), "+0.03 %"),
    ],
)
def test_numbers_are_written_as_people_read_them(text: str, wanted: str) -> None:
    assert text == wanted


# --- ranking ---------------------------------------------------------------------------------------------------------


def test_best_follows_the_objective_and_the_baseline_is_flat_or_the_slowest(made_up: SimpleNamespace) -> None:
    fast, thrifty = made_up.result("mas"), made_up.result("flat", energy_pj=1.0)
    assert best_of([thrifty, fast], "latency") is fast
    assert best_of([thrifty, fast], "energy") is thrifty
    assert best_of([], "edp") is None
    assert baseline_of([fast, thrifty]) is thrifty
    slow = made_up.result("layerwise")
    assert baseline_of([fast, slow]) is slow


def test_a_tie_goes_to_the_lesser_energy(made_up: SimpleNamespace) -> None:
    costly, thrifty = made_up.result("tileflow"), made_up.result("mas", cycles=600_000, energy_pj=1.0)
    assert best_of([costly, thrifty], "latency") is thrifty


def test_dataflows_keep_their_order_when_one_cannot_run_everywhere(made_up: SimpleNamespace) -> None:
    comparison = ComparisonResult(
        results=(made_up.result("mas", "long"), made_up.result("flat", "short"), made_up.result("mas", "short")),
        infeasible={("long", "flat"): "too long", ("long", "tileflow"): "too long", ("short", "tileflow"): "?"},
    )
    assert dataflow_order(comparison) == ["flat", "mas", "tileflow"]


def test_mean_speedup_is_geometric(made_up: SimpleNamespace) -> None:
    comparison = ComparisonResult(
        results=tuple(
            made_up.result(d, w, cycles=c)
            for d, w, c in [("flat", "a", 400), ("mas", "a", 100), ("flat", "b", 100), ("mas", "b", 100)]
        )
    )
    found = speedups(comparison, dataflow="mas", over="flat")
    assert found is not None
    assert (found.mean, found.largest) == (pytest.approx(2.0), 4.0)
    assert speedups(comparison, dataflow="mas", over="tileflow") is None


# --- the trace -------------------------------------------------------------------------------------------------------


def test_trace_json_is_what_the_viewer_reads(made_up: SimpleNamespace) -> None:
    trace = made_up.trace(3)
    data = json.loads(chrome_trace_json(trace, title=EVIL, facts={"workload": "w"}))
    assert data["displayTimeUnit"] == "ns"
    assert data["otherData"]["total_cycles"] == 3300
    named = {e["tid"]: e["args"]["name"] for e in data["traceEvents"] if e["name"] == "thread_name"}
    assert named == {1: "load", 2: "matrix", 3: "vector", 4: "store"}
    events = [e for e in data["traceEvents"] if e["ph"] == "X"]
    assert len(events) == 12
    for event, command in zip(events, trace.commands, strict=True):
        assert set(event) == {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"}
        assert event["ts"] == pytest.approx(command.start / 2000.0)
        assert event["dur"] == pytest.approx((command.end - command.start) / 2000.0)
        assert event["args"]["end_cycle"] == command.end
        assert named[event["tid"]] == trace.engines[command.engine]
    assert {e["ph"] for e in data["traceEvents"]} == {"X", "M"}


def test_events_of_one_engine_do_not_overlap_after_scaling(made_up: SimpleNamespace) -> None:
    by_thread: dict[int, list[dict[str, float]]] = {}
    for event in chrome_trace(made_up.trace(50), title="t")["traceEvents"]:
        if event["ph"] == "X":
            by_thread.setdefault(event["tid"], []).append(event)
    for events in by_thread.values():
        for before, after in itertools.pairwise(events):
            assert before["ts"] + before["dur"] <= after["ts"] + 1e-9


def test_a_closer_look_lies_inside_and_begins_with_the_matrix_unit(made_up: SimpleNamespace) -> None:
    assert closeup(made_up.trace(10)) is None
    trace = made_up.trace(200)
    found = closeup(trace)
    assert found is not None
    start, end = recorded_span(trace)
    assert start <= found.start < found.end <= end
    assert any(c.start == found.start and c.kind == "matrix" for c in trace.commands)


def test_lanes_lie_within_the_chart(made_up: SimpleNamespace) -> None:
    for n_blocks in (20, 400):
        trace = made_up.trace(n_blocks)
        start, end = recorded_span(trace)
        chart = lane_chart(trace, start + 150, end - 150)
        assert [lane.name for lane in chart.lanes] == list(trace.engines)
        marks = [m for lane in chart.lanes for m in lane.marks]
        assert all(m.x_percent >= 0 and m.x_percent + m.width_percent <= 100.01 for m in marks)
        assert bool(marks) != any(lane.outlines for lane in chart.lanes)
        assert all(0 <= t.x_percent <= 100 for t in chart.ticks)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_are_png(made_up: SimpleNamespace) -> None:
    results = made_up.comparison("bert-base").results
    for image in (
        timeline_png(made_up.trace(200, EVIL), title=EVIL, subtitle="a $ b"),
        timeline_png(made_up.trace(2), title="short"),
        cycles_png(results, best=results[-1], title=EVIL),
        energy_png(results, title=EVIL),
        speedup_png({EVIL: 1.5, "b": 0.9}, title=EVIL),
    ):
        assert image.startswith(b"\x89PNG")
        assert len(image) > 5000


# --- pages -----------------------------------------------------------------------------------------------------------


def evil_case(made_up: SimpleNamespace) -> ReportCase:
    result = made_up.result(
        "mas", workload=EVIL, machine=EVIL, tiling={EVIL: 1}, assumptions=(EVIL,), peak_buffer_bytes={EVIL: 3}
    )
    return ReportCase(
        result=result,
        objective="latency",
        rivals=(made_up.result("flat", workload=EVIL), result),
        infeasible={"tileflow": EVIL},
        why=made_up.why(result),
        trace=made_up.trace(200, EVIL),
        command=EVIL,
    )


def test_page_is_well_formed_escaped_and_needs_no_network(made_up: SimpleNamespace) -> None:
    page = result_page(evil_case(made_up), back="index.html", files=("a.png", "a.trace.json"))
    found = read(page)
    assert "script" not in found.tags
    assert EVIL not in page
    assert sum(EVIL in words for words in found.words) >= 5
    assert not [link for link in found.links if "//" in link]
    assert set(found.links) == {"data:,", "index.html", "a.png", "a.trace.json"}


def test_page_says_the_numbers(made_up: SimpleNamespace) -> None:
    comparison = made_up.comparison("bert-base")
    best = comparison.best("bert-base")
    case = ReportCase(result=best, objective="latency", rivals=comparison.results, why=made_up.why(best))
    words = " ".join(read(result_page(case)).words)
    for wanted in (
        "560,000",
        "560 us",
        "1.79x",
        "393,216",
        "1.424",
        "2x matrix rows",
        "waiting for a buffer slot",
        "the energy table is for 45 nm",
        "1.50 MiB",
        "1,200 tilings in mas's space",
    ):
        assert wanted in words


def test_page_of_one_result_needs_neither_reasons_nor_trace(made_up: SimpleNamespace) -> None:
    found = read(result_page(ReportCase(result=made_up.result(search=None), objective="latency")))
    words = " ".join(found.words)
    assert "The tiling was given." in words
    assert "What if" not in words
    assert "Timeline" not in words


def test_index_links_every_network_and_stands_beside_the_published_figures(made_up: SimpleNamespace) -> None:
    comparison = made_up.comparison("bert-base", EVIL)
    stems = file_stems(comparison.workloads)
    page = index_page(comparison, links={w: f"{stem}.html" for w, stem in stems.items()})
    found = read(page)
    assert EVIL not in page
    assert {f"{stem}.html" for stem in stems.values()} <= set(found.links)
    words = " ".join(found.words)
    assert "2.75x" in words
    assert "arXiv 2411.17720" in words
    other = ComparisonResult(results=tuple(made_up.result(d, machine="mine") for d in ("flat", "mas")))
    assert "2411.17720" not in index_page(other, links={})


def test_file_names_are_safe_and_differ() -> None:
    names = ["index", "a b", "a/b", "../../etc/passwd", EVIL, "", "A B", "attention:heads=12,seq=512"]
    stems = file_stems(names)
    assert len({s.lower() for s in stems.values()}) == len(names)
    for stem in stems.values():
        assert stem != "index"
        assert Path(stem).name == stem
        assert not stem.startswith(".")


# --- report folders --------------------------------------------------------------------------------------------------


def test_report_folder_holds_page_timeline_and_trace(tmp_path: Path, made_up: SimpleNamespace) -> None:
    comparison = made_up.comparison("bert-base")
    best = comparison.best("bert-base")
    case = ReportCase(result=best, objective="latency", rivals=comparison.results, trace=made_up.trace(30))
    page = write_result_report(tmp_path / "out", case)
    assert page == tmp_path / "out" / "index.html"
    names = sorted(p.name for p in (tmp_path / "out").glob("[!.]*"))
    assert names == ["cycles.png", "energy.png", "index.html", "timeline.png", "trace.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_report_of_many_keeps_other_files_of_the_folder(tmp_path: Path, made_up: SimpleNamespace) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    comparison = made_up.comparison("bert-base", "t5")
    seen: list[str] = []
    cases = (
        ReportCase(result=comparison.best(w), objective="latency", trace=made_up.trace(5)) for w in comparison.workloads
    )
    write_comparison_report(folder, comparison, cases, progress=seen.append)
    assert seen == ["bert-base", "t5"]
    assert sorted(p.name for p in folder.glob("[!.]*")) == [
        "bert-base.html",
        "bert-base.timeline.png",
        "bert-base.trace.json",
        "index.html",
        "mine.txt",
        "speedup.png",
        "t5.html",
        "t5.timeline.png",
        "t5.trace.json",
    ]


def fill(folder: Path, *names: str, kind: str = "page") -> None:
    with staged_folder(folder, kind=kind) as stage:
        for name in names:
            (stage / name).parent.mkdir(exist_ok=True)
            write_file(stage / name, f"ours: {name}")


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file()}


def test_a_report_takes_away_what_an_earlier_one_left_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "index.html", "t5.html", "edited.html", "deep/a.png")
    (out / "mine.html").write_text("mine")
    (out / "edited.html").write_text("mine by now")
    (out / "deep" / "b.png").write_text("mine, too")
    fill(out, "pareto.png", kind="figures")
    fill(out, "index.html", "new.html")
    assert names_in(out) == {"index.html", "new.html", "pareto.png", "mine.html", "edited.html", "deep/b.png"}
    fill(out, "pareto.svg", kind="figures")
    assert names_in(out) == {"index.html", "new.html", "pareto.svg", "mine.html", "edited.html", "deep/b.png"}


def test_a_folder_of_ours_goes_when_it_is_empty(tmp_path: Path) -> None:
    fill(tmp_path / "out", "index.html", "deep/a.png")
    fill(tmp_path / "out", "index.html")
    assert not (tmp_path / "out" / "deep").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "tilewright-report-1"}', '{"schema": "x", "files": {"page": {"a": "b"}}}']
)
def test_a_damaged_list_takes_nothing_away(text: str, tmp_path: Path) -> None:
    fill(tmp_path / "out", "index.html", "old.html")
    (tmp_path / "out" / MANIFEST).write_text(text)
    fill(tmp_path / "out", "index.html")
    assert names_in(tmp_path / "out") == {"index.html", "old.html"}


def test_a_list_cannot_reach_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    fill(tmp_path / "out", "index.html")
    link = tmp_path / "out" / "link"
    link.symlink_to(tmp_path / "precious")
    digest = hashlib.sha256(b"x").hexdigest()
    names = ["../precious", str(tmp_path / "precious"), "link", "a/../../precious"]
    listed = {"schema": "tilewright-report-1", "files": {"page": dict.fromkeys(names, digest)}}
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(listed))
    fill(tmp_path / "out", "index.html")
    assert (tmp_path / "precious").read_text() == "x"
    assert link.is_symlink()


def test_a_report_that_fails_half_way_leaves_nothing(tmp_path: Path, made_up: SimpleNamespace) -> None:
    comparison = made_up.comparison("bert-base", "t5")

    def cases() -> object:
        yield ReportCase(result=comparison.best("bert-base"), objective="latency")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_comparison_report(tmp_path / "out", comparison, cases())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# --- files -----------------------------------------------------------------------------------------------------------


def test_write_file_replaces_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    target.chmod(0o640)
    write_file(target, "new é")
    assert target.read_text(encoding="utf-8") == "new é"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_write_file_follows_links_and_writes_to_devices(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real" / "a.txt")
    write_file(link, b"x")
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.txt").read_bytes() == b"x"
    write_file("/dev/null", "gone")
    assert not Path("/dev/null").is_file()


def test_a_new_file_obeys_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "a", "")
        with staged_folder(tmp_path / "d") as stage:
            write_file(stage / "b", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750


def test_places_that_cannot_be_written_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    missing = tmp_path / "no" / "a.json"
    for check, place, wanted in (
        (check_file, missing, f"--x: cannot write {missing}, because the folder {missing.parent} does not exist"),
        (check_file, tmp_path, f"--x: {tmp_path} is a folder; give the name of a file"),
        (check_file, "", "--x: the name of the file is empty or has a null character in it"),
        (check_file, "-", "--x: cannot go to standard output; given -; allowed the name of a file"),
        (
            check_file,
            tmp_path / "file" / "a",
            f"--x: cannot write {tmp_path / 'file' / 'a'}, because {tmp_path / 'file'} is not a folder",
        ),
        (check_folder, tmp_path / "file", f"--x: {tmp_path / 'file'} is a file; give the name of a folder"),
        (check_folder, missing, f"--x: cannot write {missing}, because the folder {missing.parent} does not exist"),
        (check_folder, "", "--x: the name of the folder is empty or has a null character in it"),
    ):
        with pytest.raises(InputError) as caught:
            check(place, what="--x")
        assert str(caught.value) == wanted
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_output_never_replaces_what_is_read(tmp_path: Path) -> None:
    model, link = tmp_path / "a.onnx", tmp_path / "b"
    model.write_text("")
    link.symlink_to(model)
    for inputs in (["x", None, str(model)], [f"{model}:batch=1"], [link]):
        for place in (model, link):
            with pytest.raises(InputError, match="is read by this command; allowed another file"):
                check_apart(place, inputs, what="--x")
        check_apart(tmp_path / "c", inputs, what="--x")


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    for check in (check_file, check_folder):
        with pytest.raises(InputError) as caught:
            check(tmp_path / "a", what="--x")
        assert str(caught.value) == f"--x: cannot write {tmp_path / 'a'}: permission denied"
    with pytest.raises(InputError, match="permission denied"):
        write_file(tmp_path / "a", "")


# --- tables and Markdown ---------------------------------------------------------------------------------------------


def printed(table: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), markup=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_comparison_table_fits_the_terminal_and_says_what_it_left_out(made_up: SimpleNamespace) -> None:
    comparison = made_up.comparison("bert-base")
    for width in (200, 100, 60):
        console = Console(width=width)
        text = printed(comparison_table(console, comparison, "bert-base", "latency"), width)
        assert "* mas" in text
        assert "560,000" in text
        assert "1.79x" in text
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        assert ("no room here for" in text) == (width < 100)


def test_tables_take_names_as_they_are(made_up: SimpleNamespace) -> None:
    comparison = made_up.comparison("[bold]x[/bold]", "b")
    console = Console(width=200)
    assert "[bold]x[/bold]" in printed(comparison_table(console, comparison, "[bold]x[/bold]", "latency"), 200)
    assert "[bold]x[/bold]" in printed(summary_table(console, comparison), 200)


def test_markdown_table_is_rectangular_with_the_best_in_bold(made_up: SimpleNamespace) -> None:
    text = comparison_markdown(made_up.comparison("bert-base", "a|b"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    blocks = [rows[i : i + 4] for i in (0, 4)]
    for block in blocks:
        assert len({row.replace("\\|", "").count("|") for row in block}) == 1
    assert "| bert-base | 1,500,000 | 1,000,000 | 720,000 | **560,000** | 1.79x |" in rows
    assert "arXiv 2411.17720" in text


def test_rows_of_a_comparison_make_a_csv(made_up: SimpleNamespace) -> None:
    rows = [r.to_row() for r in made_up.comparison("bert-base").results]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    assert len(stream.getvalue().splitlines()) == 5


def test_a_mixed_comparison_says_what_was_never_tried(made_up: SimpleNamespace) -> None:
    """A product has no dataflow of attention: its cells are empty, not failures; one that cannot run says so."""
    from dataclasses import replace

    from tilewright.reports.index import index_page
    from tilewright.reports.markdown import comparison_markdown
    from tilewright.reports.pairs import pair_table
    from tilewright.reports.table import summary_table

    whole = made_up.comparison("bert-base")
    product = made_up.result("gemm", "gemm:m=8,n=8,k=8")
    mixed = replace(whole, results=(*whole.results, product), infeasible={("long", "flat"): "needs too much"})
    pairs = pair_table(mixed)
    by_name = {row.workload: dict(zip(pairs.dataflows, row.cells, strict=True)) for row in pairs.rows}
    assert by_name["gemm:m=8,n=8,k=8"]["mas"].text == "" and by_name["gemm:m=8,n=8,k=8"]["gemm"].is_best
    assert by_name["long"]["flat"] == ("cannot run", False, "needs too much")
    assert by_name["bert-base"]["mas"].is_best
    assert pairs.against == "mas vs flat"
    text = printed(summary_table(Console(width=200), mixed), 200)
    assert text.count("cannot run") == 1
    assert index_page(mixed, links={}).count("cannot run") == 2  # cycles and energy
    assert comparison_markdown(mixed).count(" - |") == 2


def test_a_slower_what_if_is_explained_beside_its_figure(made_up: SimpleNamespace) -> None:
    from dataclasses import replace

    from tilewright.reports.table import what_if_table

    result = made_up.result()
    why = made_up.why(result)
    worse = replace(why.what_ifs[0], cycles=result.cycles + 10)
    anomalous = replace(why, what_ifs=(worse, why.what_ifs[1]))
    said = " ".join(printed(what_if_table(Console(width=100), anomalous), 100).split())
    assert f"{worse.label}: slower with more, and no mistake" in said
    assert "slower with more" in result_page(ReportCase(result=result, objective="latency", why=anomalous))
    assert "slower with more" not in printed(what_if_table(Console(width=100), why), 100)
    thrifty = replace(result, search=replace(result.search, objective="energy"))
    chosen = replace(anomalous, result=thrifty)
    assert "slower with more" not in printed(what_if_table(Console(width=100), chosen), 100)
