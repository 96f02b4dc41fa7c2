"""Do schedules over diffusion steps cost what is published? Nothing is fitted to any count of operations.

The tables (shared/systems) are read from the folder that the environment variable TILEWRIGHT_SHARED names, else from
``shared`` beside the checkout. ``pytest tests/validation/test_diffusion_steps.py -s`` prints every figure beside the
published one.
"""

from __future__ import annotations

import csv
import os
import re
from functools import lru_cache
from pathlib import Path

import pytest

from tilewright.workloads.diffusion.blocks import NetworkBlocks, network_blocks
from tilewright.workloads.diffusion.features import plan_steps
from tilewright.workloads.diffusion.kind import make_schedule
from tilewright.workloads.diffusion.streams import bit_operations, flops_of, product_macs, step_stream
from tilewright.workloads.network import load_network

pytestmark = pytest.mark.validation

SHARED = Path(os.environ.get("TILEWRIGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "systems"


def table(name: str) -> list[dict[str, str]]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@lru_cache
def blocks_of(network: str) -> NetworkBlocks:
    return network_blocks(load_network(network))


@lru_cache
def counted(network: str, schedule: str, n_steps: int) -> dict[str, float]:
    """Tera-operations of a run: all, 2 x multiply-adds, multiply-adds without attention's own, bit operations."""
    blocks = blocks_of(network)
    made = make_schedule(schedule, blocks, n_steps)
    known: dict[object, tuple[int, int, int, int]] = {}
    totals = [0, 0, 0, 0]
    for plan in plan_steps(blocks, made):
        key = (plan.runs, plan.takes, plan.leaves)
        if key not in known:
            stream = step_stream(blocks.stream, plan).stream
            if stream is None:
                continue
            known[key] = (flops_of(stream), 2 * stream.macs, product_macs(stream), bit_operations(stream))
        totals = [total + plan.step.forwards * one for total, one in zip(totals, known[key], strict=True)]
    names = ("flops", "multiply", "products", "bits")
    return {name: total / 1e12 for name, total in zip(names, totals, strict=True)} | {"n_full": made.n_full}


def near(name: str, ours: float, published: float, within: float) -> None:
    print(f"{name:44s} {ours:10.3f} {published:10.3f} {ours / published - 1:+.3%}")
    assert ours == pytest.approx(published, rel=within), name


DETERMINISTIC = r"F1B0_W(8|16)I(\d)M0MC(8|10)_R0.8"


def test_deterministic_schedules_within_a_thousandth() -> None:
    found = set()
    for row in table("diffusion_dbcache_flux_l20.csv"):
        match = re.match(DETERMINISTIC, row["config"])
        if match:
            warm, every, most = match.groups()
            order = int(row["O_order"]) if row["T_taylorseer"] == "1" else 0
            text = f"dbcache:F=1,B=0,W={warm},I={every},MC={most},T={order}"
            got = counted("flux-dev", text, 50)
            assert got["n_full"] == float(row["equivalent_full_steps_derived"])
            near(row["config"], got["flops"], float(row["tflops"]), 0.001)
            found.add(match.groups())
    assert len(found) <= 6


def test_the_full_run_within_a_thousandth() -> None:
    for row in table("diffusion_dbcache_flux_l20.csv"):
        if row["config"].startswith("baseline"):
            near("50 steps", counted("flux-dev", "full", 50)["flops"], float(row["tflops"]), 0.001)


def mixed(first_blocks: int, n_full: float) -> float:
    """TFLOP with so many full steps, a mean over prompts: on the line through 10 and 30 full steps."""
    few, many = (counted("flux-dev", f"dbcache:F={first_blocks},W=4,full={n}", 50)["flops"] for n in (10, 30))
    return few + (n_full - 10) * (many - few) / 20


def test_thresholds_within_a_hundredth_given_how_many_steps_are_full() -> None:
    for row in table("diffusion_dbcache_flux_l20.csv"):
        if row["equivalent_full_steps_derived"] and not re.match(DETERMINISTIC, row["config"]):
            n_full = float(row["equivalent_full_steps_derived"])
            near(row["config"], mixed(int(row["F_first_blocks"]), n_full), float(row["tflops"]), 0.01)


#: Methods whose rules say how many steps are full: our schedule, and which count the source is of.
BY_RULE = {
    "FLUX.1-dev: 50 steps": ("full", 50, "flops", 0.001),
    "FLUX.1-dev: 60% steps": ("full", 30, "multiply", 0.001),
    "FLUX.1-dev: 34% steps": ("full", 17, "multiply", 0.001),
    "FLUX.1-dev: 22% steps": ("full", 11, "multiply", 0.001),
    "Δ-DiT(N=2)": ("delta_dit:N=2,blocks=38", 50, "multiply", 0.001),
    "FORA(N=7)": ("fora:N=7,first=3", 50, "multiply", 0.001),
    "TaylorSeer(N=4,O=2)": ("taylorseer:N=4,O=2", 50, "multiply", 0.001),
    "TaylorSeer(N=7,O=2)": ("taylorseer:N=7,O=2", 50, "multiply", 0.001),
    "TeaCache(l=1.2)": ("teacache:full=9", 50, "multiply", 0.002),
    "DBCache(F)": ("dbcache:F=1,W=8,I=2,MC=8", 50, "flops", 0.001),
    "DBCache(F)+TS": ("dbcache:F=1,W=8,I=2,MC=8,T=1", 50, "flops", 0.001),
    "DBCache(U)+TS": ("dbcache:F=1,W=8,I=4,MC=10,T=1", 50, "flops", 0.001),
}


def test_methods_by_their_rules() -> None:
    rows = {row["method"]: row for row in table("diffusion_flux_cache_methods_tflops.csv")}
    for method, (text, n_steps, count, within) in BY_RULE.items():
        if method in rows:
            near(method, counted("flux-dev", text, n_steps)[count], float(rows[method]["tflops"]), within)
    full = counted("flux-dev", "full", 1)["flops"]
    for method, row in rows.items():  # the others given how many full steps they are worth
        near(method, float(row["equivalent_full_steps_derived"]) * full, float(row["tflops"]), 0.01)


def test_qwen_image_given_how_many_prompts_are_cached() -> None:
    """Two full steps of warm-up, one cached, one full: the source's mean is over prompts of which some were not cached
    (a threshold of 0.8); their share is the one number taken from each row.
    """
    network, whole = "qwen-image:text=27", counted("qwen-image:text=27", "full", 4)["flops"]
    for row in table("diffusion_qwen_lightning_tflops.csv"):
        blocks = re.match(r"F(\d+)B(\d+)", row["config"])
        if blocks is None:
            near(row["config"], whole, float(row["tflops"]), 0.01)
            continue
        first, last = (int(one) for one in blocks.groups())
        cached = counted(network, f"dbcache:F={first},B={last},W=2,MC=1", 4)
        share = (whole - float(row["tflops"])) / (whole - cached["flops"])
        print(f"{row['config']:44s} {cached['flops']:10.3f} {float(row['tflops']):10.3f} cached in {share:.1%}")
        assert cached["n_full"] == 3
        assert share <= 1.01
        if blocks.groups() == ("1", "0"):
            near(row["config"], cached["flops"], float(row["tflops"]), 0.01)


TGATE = {
    ("SDXL", "baseline"): ("sdxl-unet", "full", 50),
    ("SDXL", "TGATE"): ("sdxl-unet", "tgate:gate=10,sp=5,fi=1,warmup=2", 25),
    ("PixArt-alpha", "baseline"): ("pixart-alpha", "full", 50),
    ("PixArt-alpha", "TGATE"): ("pixart-alpha", "tgate:gate=15,sp=3,fi=1,warmup=2", 25),
    ("PixArt-sigma", "baseline"): ("pixart-sigma", "full", 50),
    ("PixArt-sigma", "TGATE"): ("pixart-sigma", "tgate:gate=15,sp=3,fi=1,warmup=2", 25),
    ("SDXL", "LCM"): ("sdxl-unet", "lcm", 4),
    ("SDXL", "LCM+TGATE"): ("sdxl-unet", "tgate:gate=1,guidance=1", 4),
    ("PixArt-alpha", "LCM"): ("pixart-alpha", "lcm", 4),
    ("PixArt-alpha", "LCM+TGATE"): ("pixart-alpha", "tgate:gate=1,guidance=1", 4),
}


DEEPCACHE = "deepcache:N=3,branch=0,guidance=2"


def test_tgate_multiply_adds_within_a_hundredth() -> None:
    """The published counts leave out attention's two products: their baselines say so."""
    for row in table("diffusion_tgate_macs_latency.csv"):
        asked = TGATE.get((row["model"], row["method"]))
        if asked is not None:
            near(f"{row['model']} {row['method']}", counted(*asked)["products"], float(row["macs_T"]), 0.001)
        elif (row["model"], row["method"]) == ("SDXL", "DeepCache"):
            near("SDXL DeepCache", counted("sdxl-unet", DEEPCACHE, 25)["products"], float(row["macs_T"]), 0.001)


def test_tgate_as_in_its_paper() -> None:
    """PixArt-alpha, arXiv 2404.02747, Table 1: gate m, and self-attention at every k-th step before it."""
    for gate, every, published in ((10, 1, 70.225), (15, 1, 82.494), (10, 3, 65.355), (10, 5, 64.138), (15, 5, 71.536)):
        ours = counted("pixart-alpha", f"tgate:gate={gate},sp={every}", 25)["products"]
        near(f"PixArt-alpha m={gate} k={every}", ours, published, 0.001)


def test_deepcache_with_tgate_where_the_gate_is_not_told() -> None:
    """The published 43.868 T is what a gate at step 13 gives; at 10, as elsewhere in the table, it would be 40.4."""
    at = {gate: counted("sdxl-unet", f"{DEEPCACHE},gate={gate}", 25)["products"] for gate in (10, 13)}
    near("SDXL DeepCache+TGATE, gate 13", at[13], 43.868, 0.001)
    assert at[10] == pytest.approx(40.37, rel=0.001)


def test_learning_to_cache_within_two_hundredths() -> None:
    router = SHARED / "diffusion_l2c_dit_schedule.csv"
    for row in table("diffusion_l2c_summary.csv"):
        n = int(row["steps"])
        whole, cached = counted("dit-xl-2", "full", n), counted("dit-xl-2", f"learning_to_cache:router={router}", n)
        ours = whole["multiply"] / cached["multiply"]
        near(f"{n} steps, by block count", ours, float(row["speedup_by_block_count_derived"]), 0.002)
        near(f"{n} steps, measured", ours, float(row["speedup_measured"]), 0.02)


def test_cachequant_bit_operations() -> None:
    """Multiply-adds times bits squared, of products alone; DeepCache and LDM-4 rows hold ratios of bits only."""
    rows = {row["method"]: row for row in table("diffusion_cachequant_bops.csv") if row["model"] == "DiT-XL/2"}
    full = counted("dit-xl-2:weights=fp32,activations=fp32", "delta_dit:N=2", 2)["bits"] / 2
    eight = counted("dit-xl-2:weights=int8,activations=int8", "delta_dit:N=2", 2)["bits"] / 2
    for method, ours in (("Delta-DiT N=2", full), ("CacheQuant N=2 W8A8", eight)):
        if method in rows:
            near(f"DiT-XL/2 {method}", ours, float(rows[method]["bops_T"]), 0.003)
    by_model: dict[str, dict[str, float]] = {}
    for row in table("diffusion_cachequant_bops.csv"):
        if row["bops_T"] and "BK" not in row["method"] and "EDA" not in row["method"]:
            kind = "eight" if "W8A8" in row["method"] else "full"
            by_model.setdefault(row["model"], {})[kind] = float(row["bops_T"])
    for model, pair in by_model.items():
        if len(pair) == 2:
            near(f"{model} FP32 over W8A8", full / eight, pair["full"] / pair["eight"], 0.02)
