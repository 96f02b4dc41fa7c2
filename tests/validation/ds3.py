"""DS3's published systems, applications and runs as our descriptions, read from the shared tables."""

from __future__ import annotations

import csv
import gzip
from functools import cache
from pathlib import Path

import pytest

from tilewright.hw_models.soc.spec import ClusterSpec, LeakageSpec, PathSpec, PowerSpec, SocSpec
from tilewright.workloads.task_graphs.graph import Edge, Job, TaskGraph

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "systems"
#: The names that runs give applications, and those of the job files.
SHORT = {
    "WiFi_Transmitter": "WIFI_TX",
    "WiFi_Receiver": "WIFI_RX",
    "Temporal_Mitigation": "TEMP_MIT",
    "lag_detection": "LAG",
    "SC-R": "SCR",
    "SC-T": "SCT",
}
#: Of each cluster: the part of the leakage figure that one element takes, and how many leak beside the power table
#: while a job is in the system (looked for on the runs; none of the constants was fitted).
LEAKS = {"A7": (0.25, 1), "A15": (1.0, 4)}


@cache
def rows(name: str) -> list[dict[str, str]]:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: the shared tables of DS3 are read from it")
    text = gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text()
    return list(csv.DictReader(text.splitlines()))


@cache
def soc(name: str = "SoC.MULTIPLE_BAL") -> SocSpec:
    """A system of DS3; where its table names a task twice for a cluster, its program uses the first."""
    clusters: dict[str, dict[str, int]] = {}
    counts, names = {}, {}
    for row in rows("soc_ds3_pe_latency.csv"):
        if row["soc"] != name:
            continue
        own = clusters.setdefault(row["pe_name"], {})
        own.setdefault(row["task"], int(float(row["latency_us"])))
        counts[row["pe_name"]], names[row["pe_id"]] = int(row["capacity"]), row["pe_name"]
    paths = [
        PathSpec(
            clusters=(names[row["source_cluster"]], names[row["target_cluster"]]),
            volume_per_tick=float(row["bandwidth"]),
        )
        for row in rows("soc_ds3_comm_bandwidth.csv")
        if row["soc"] == name and row["source_cluster"] in names and row["target_cluster"] in names
    ]
    return SocSpec(
        name=name,
        source="DS3",
        clusters={
            each: ClusterSpec(count=counts[each], latency=latency, power=_power(name, each))
            for each, latency in clusters.items()
        },
        paths=tuple(paths),
        leakage=LeakageSpec(c1=0.002488, c2=2660, gate=0.000519, ambient_c=42),
    )


def _power(name: str, cluster: str) -> PowerSpec | None:
    own = [row for row in rows("soc_ds3_opp_power.csv") if (row["soc"], row["pe_name"]) == (name, cluster)]
    tables = {
        int(row["frequency_MHz"]): tuple(map(float, row["power_W_by_active_cores"].split()))
        for row in own
        if row["kind"] == "power_profile"
    }
    if not tables:
        return None
    share, leaking = LEAKS.get(cluster, (1.0, 0))
    return PowerSpec(
        active_w=tables[max(tables)],
        measured_mhz=max(tables),
        points_mv={int(row["frequency_MHz"]): int(row["voltage_mV"]) for row in own if row["kind"] == "opp"},
        leakage_share=share,
        leaking_while_busy=leaking,
    )


@cache
def graphs() -> dict[str, TaskGraph]:
    tasks: dict[str, list[str]] = {}
    edges: dict[str, list[Edge]] = {}
    for row in rows("soc_ds3_tasks.csv"):
        tasks.setdefault(row["application"], []).append(row["task"])
    for row in rows("soc_ds3_edges.csv"):
        edge = Edge(source=int(row["source"]), target=int(row["target"]), volume=float(row["volume"]))
        edges.setdefault(row["application"], []).append(edge)
    return {name: TaskGraph(name=name, tasks=tuple(own), edges=tuple(edges[name])) for name, own in tasks.items()}


def jobs_of(experiment: str, applications: str) -> list[Job]:
    """The jobs of a run: its arrivals, or one job at tick 0."""
    arrivals = [row for row in rows("soc_ds3_arrivals.csv") if row["experiment"] == experiment]
    if not arrivals:
        return [Job(graph=graphs()[applications], arrival=0)]
    return [Job(graph=graphs()[SHORT[row["application"]]], arrival=int(row["arrival_us"])) for row in arrivals]


def manual_jobs() -> list[Job]:
    """The arrivals of the manual's second example."""
    return [
        Job(graph=graphs()[row["application"]], arrival=int(row["arrival_us"]))
        for row in rows("soc_ds3_manual_example_arrivals.csv")
    ]
