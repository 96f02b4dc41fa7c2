"""Banks that multiply against simulators of others: AiM to the cycle, GeniePIM by component, CENT by block.

The tables are not part of the repository (``TILEWRIGHT_SHARED``, else ``shared`` beside the checkout). ``pytest
tests/validation/test_pim.py -s`` prints the errors. Nothing is fitted to any row.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tilewright.hw_models.pim import load_pim
from tilewright.sim.pim.commands import Command
from tilewright.sim.pim.decoder_block import DecoderShape
from tilewright.sim.pim.program import CONFIGURE, Program, Repeat, accumulators_in, accumulators_out, buffer_in, mac
from tilewright.sim.pim.program import multiply as elementwise
from tilewright.sim.pim.register_banks import register_product
from tilewright.sim.pim.run import run_program
from tilewright.sim.pim.system import PimSystem

pytestmark = pytest.mark.validation

SHARED = Path(os.environ.get("TILEWRIGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared")
TABLES = SHARED / "systems"
LLAMA = {
    "Llama2-7B": (DecoderShape(dim=4096, ffn=11008, heads=32, kv_heads=32), 32),
    "Llama2-13B": (DecoderShape(dim=5120, ffn=13824, heads=40, kv_heads=40), 40),
    "Llama2-70B": (DecoderShape(dim=8192, ffn=28672, heads=64, kv_heads=8), 80),
}


def rows(name: str) -> Iterator[dict[str, str]]:
    path = TABLES / name
    if not path.exists():
        pytest.skip(f"no {path}: the tables are not part of the repository")
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def aim_program(row: dict[str, str]) -> Program:
    """What the run's trace says; runs with multiply commands first set where their vector comes from."""
    n = int(row["commands_per_row"])
    if row["kind"] == "mac_rows":
        return CONFIGURE, Repeat(n=int(float(row["rows"])), body=(mac(n),))
    if row["kind"] == "gemv":
        k, outputs = (int(one) for one in row["vector_length_x_outputs"].split("x"))
        one = Repeat(n=outputs // 16, body=(accumulators_in(), mac(n), accumulators_out()))
        return CONFIGURE, Repeat(n=k // 1024, body=(buffer_in(n), one))
    if row["kind"] == "write_global_buffer":
        return (buffer_in(n),)
    return (elementwise(n),)


def test_every_run_of_aim_is_met_to_the_cycle() -> None:
    pim = load_pim("gddr6-aim")
    columns = {
        "activate_all": Command.ACTIVATE_ALL,
        "mac_all": Command.MAC_ALL,
        "precharge_all": Command.PRECHARGE_ALL,
        "global_buffer_writes": Command.WRITE_BUFFER,
        "accumulator_reads": Command.READ_ACCUMULATORS,
    }
    n = 0
    for row in rows("pim_aim_cycles.csv"):
        run = run_program(aim_program(row), pim.timing, pim.organisation.banks_per_channel)
        assert run.cycles == int(row["total_cycles"]), row
        assert run.open_cycles == int(row["channel_active_cycles"]), row
        assert {name: run.commands.get(one, 0) for name, one in columns.items()} == {
            name: int(row[name]) for name in columns
        }, row
        n += 1
    assert n >= 10
    print(f"\nAiM: {n} runs, all to the cycle")


def test_geniepim_is_met_in_every_component() -> None:
    pim = load_pim("lpddr5x-pim")
    host = pim.commander
    worst = 0.0
    for row in rows("pim_lpddr5x_gemv_geniepim.csv"):
        m, k, n = (int(row[one]) for one in "MKN")
        product = register_product(pim, m, k, n)
        ns = 1e9 / (pim.timing.clock_ghz * 1e9)
        host_ns = max(m * k / host.bandwidth_gb_per_s, 2 * m * k * n / host.peak_tops / 1e3)
        ours = {
            "padded_M": product.padded_m,
            "host_time_ns": host_ns,
            "row_open_ns": product.row_cycles * ns,
            "mac_ns": float(product.mac_cycles) * ns,
            "write_to_memory_ns": product.result_cycles * ns,
            "vector_write_ns": product.vector_cycles * ns,
            "spill_ns": product.swap_cycles * ns,
            "host_read_input_ns": product.host_bytes_in / host.bandwidth_gb_per_s,
            "host_read_output_ns": product.host_bytes_out / host.bandwidth_gb_per_s,
            "pim_total_ns": float(product.cycles) * ns,
            "speedup": host_ns / (float(product.cycles) * ns),
        }
        for name, value in ours.items():
            worst = max(worst, abs(value - float(row[name])) / (float(row[name]) or 1.0))
    print(f"\nGeniePIM: largest error of any component {100 * worst:.4f} %")
    assert worst < 1e-4  # printed with six digits, and speedups with four places


def cent_errors(step: int) -> dict[str, float]:
    """Largest relative error by quantity, of every ``step``-th row."""
    device = load_pim("cent")
    worst: dict[str, float] = {}
    for number, row in enumerate(rows("pim_cent_simulation.csv")):
        if number % step:
            continue
        shape, blocks = LLAMA[row["model"]]
        stages = int(row["pipeline_parallel"])
        system = PimSystem(device=device, devices=int(row["devices"]), shape=shape, blocks=blocks, stages=stages)
        assert system.place.channels == int(row["channels_per_block"])
        assert system.place.devices == int(row["tensor_parallel"])
        token = system.token(int(row["sequence_length"]))
        ours = {
            "pim_latency": token.block.bank_seconds * 1e3,
            "cxl_latency": token.block.link_seconds * 1e3,
            "accelerator_latency": token.block.controller_seconds * 1e3,
            "block_latency": token.block.seconds * 1e3,
            "embedding_latency": token.embedding_seconds * 1e3,
            "token_latency_ms": token.seconds * 1e3,
            "throughput_tokens_per_s": token.tokens_per_second,
        }
        for name, value in ours.items():
            worst[name] = max(worst.get(name, 0.0), abs(value / float(row[name]) - 1))
        # the formula of latency and throughput, on the table's own parts
        parts = blocks * float(row["block_latency"]) + float(row["embedding_latency"]) + system.beyond_seconds * 1e3
        assert parts == pytest.approx(float(row["token_latency_ms"]), rel=2e-6)
        assert stages / parts * 1e3 == pytest.approx(float(row["throughput_tokens_per_s"]), rel=2e-6)
    return worst


def test_blocks_of_cent() -> None:
    worst = cent_errors(step=60)
    print("\nCENT, largest error by part:", {name: f"{100 * error:.3f} %" for name, error in worst.items()})
    assert worst["block_latency"] < 0.02
    assert worst["cxl_latency"] < 1e-6
    assert worst["accelerator_latency"] < 1e-6
    assert worst["embedding_latency"] < 0.005
    assert worst["throughput_tokens_per_s"] < 0.02


@pytest.mark.slow
def test_all_blocks_of_cent() -> None:
    worst = cent_errors(step=1)
    print("\nCENT, all rows, largest error by part:", {name: f"{100 * error:.3f} %" for name, error in worst.items()})
    assert worst["block_latency"] < 0.02
