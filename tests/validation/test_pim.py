"""Banks that multiply against simulators of others: AiM to the cycle, GeniePIM by component, CENT by block.

The tables are not part of the repository (``TILEWRIGHT_SHARED``, else ``shared`` beside the checkout). ``pytest
tests/validation/test_pim.py -s`` prints the errors. Nothing is fitted to any row.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tilewright.hw_models.pim import load_pim
from tilewright.sim.pim.closed_form import row_cycles
from tilewright.sim.pim.commands import Command
from tilewright.sim.pim.decoder_block import DecoderShape, matrix_vector
from tilewright.sim.pim.energy import channel_energy_pj
from tilewright.sim.pim.program import CONFIGURE, Program, Repeat, accumulators_in, accumulators_out, buffer_in, mac
from tilewright.sim.pim.program import multiply as elementwise
from tilewright.sim.pim.register_banks import register_product
from tilewright.sim.pim.run import run_program
from tilewright.sim.pim.system import PimSystem, TokenTime

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


def test_headlines_of_cent() -> None:
    """Whole queries (512 in, 3,584 out) against measured GPUs; contexts are sampled, with the mean of theirs."""
    device = load_pim("cent")
    published = {(row["quantity"], row["model"]): float(row["value"]) for row in rows("pim_cent_headline_ratios.csv")}
    measured = {(row["model"], row["phase"]): row for row in rows("pim_cent_gpu_max_batch.csv")}
    contexts = (1088, 3136)
    n_devices = {"Llama2-7B": 8, "Llama2-13B": 20, "Llama2-70B": 32}
    product = 1.0
    for model, (shape, blocks) in LLAMA.items():
        gpu = measured[model, "end_to_end"]

        def tokens(
            stages: int, model: str = model, shape: DecoderShape = shape, blocks: int = blocks
        ) -> list[TokenTime]:
            system = PimSystem(device=device, devices=n_devices[model], shape=shape, blocks=blocks, stages=stages)
            return [system.token(context) for context in contexts]

        alone, together = tokens(1), tokens(blocks)
        latency = float(gpu["batch1_end_to_end_latency_s"]) / (4096 * sum(one.seconds for one in alone) / len(alone))
        rate = sum(one.tokens_per_second for one in together) / len(together) / float(gpu["throughput_tokens_per_s"])
        product *= rate
        wanted = published["latency_ratio_gpu_over_cent", model], published[f"{_RATE}", model]
        print(f"\n{model}: latency {latency:.2f} ({wanted[0]:.2f}), throughput {rate:.2f} ({wanted[1]:.2f})")
        assert latency == pytest.approx(wanted[0], rel=0.02)
        assert rate == pytest.approx(wanted[1], rel=0.02)
    assert product ** (1 / 3) == pytest.approx(published[f"{_RATE}_geomean", "Geomean"], rel=0.02)


_RATE = "throughput_ratio_cent_over_gpu_end_to_end"
#: Blocks and width of eight models of up to 1.4 billion parameters, sizes of the GPT-2 and GPT-3 papers.
GPT = {
    "GPT2-small": (12, 768), "GPT2-medium": (24, 1024), "GPT2-large": (36, 1280), "GPT2-XL": (48, 1600),
    "GPT3-small": (12, 768), "GPT3-medium": (24, 1024), "GPT3-large": (24, 1536), "GPT3-XL": (24, 2048),
}  # fmt: skip


def test_pim_gpt_beside_a_roofline() -> None:
    """The published speed-up over a T4 is that over a framework; over the T4's memory it is six to seven."""
    pim = load_pim("pim-gpt")
    published = {row["quantity"]: row["value"] for row in rows("pim_pimgpt_published.csv")}
    ratios, overheads = {}, []
    for name, (blocks, width) in GPT.items():
        weights = blocks * 12 * width**2 + 50257 * width
        sizes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)] * blocks + [(width, 50257)]
        cycles = {
            size: run_program(matrix_vector(pim.organisation, *size, pim.organisation.n_banks), pim.timing, 16).cycles
            for size in set(sizes)
        }
        seconds = pim.seconds(sum(cycles[size] for size in sizes))
        roofline = 2 * weights / 320e9
        ratios[name] = roofline / seconds
        least = float(published["gpu_speedup_min"]) * seconds - roofline
        overheads.append(least / blocks)
        print(
            f"{name}: banks {1e3 * seconds:.2f} ms, T4's memory {1e3 * roofline:.2f} ms: {ratios[name]:.1f}x", end="; "
        )
        print(f"a speed-up of 41 means {1e6 * least / blocks:.0f} us of overhead a block")
    assert all(3 < ratio < 8 for ratio in ratios.values())
    assert all(0.3e-3 < one < 2e-3 for one in overheads)  # a framework's, not a memory's


def test_in_bank_bandwidths() -> None:
    """Of AttAcc and NeuPIMs parameters are published: what they make of them is the banks' bandwidth."""
    attacc, neupims = load_pim("attacc"), load_pim("neupims")
    table = {row["parameter"]: row["value"] for row in rows("pim_attacc_params.csv")}
    stack = float(table["HBM3 stack bandwidth"])
    for pim, limit in ((attacc, 6), (attacc, 4), (neupims, 2)):
        organisation = pim.organisation
        timing = replace(pim.timing, column_long_cycles=limit)
        peak = organisation.n_banks * organisation.access_bytes * timing.clock_ghz / limit
        row = row_cycles(timing, organisation.accesses_per_row)
        by_rows = organisation.n_banks * organisation.row_bytes * timing.clock_ghz / row
        outside = pim.commander.bandwidth_gb_per_s
        print(f"\n{pim.name}, columns {limit} apart: {peak / outside:.1f}x the pins at peak", end=", ")
        print(f"{by_rows / outside:.1f}x with rows")
    unlimited = attacc.organisation.n_banks * 32 * 1.3 / 4 / 5
    assert unlimited / stack == pytest.approx(float(table["bank-level PIM bandwidth multiple, unlimited"]), rel=0.01)
    parameters = {row["parameter"]: row["value"] for row in rows("pim_neupims_params.csv")}
    assert neupims.organisation.banks_per_channel == int(parameters["banks_per_channel"])
    assert neupims.organisation.multiplies_per_bank == int(parameters["multipliers_per_bank"])
    assert neupims.organisation.n_channels == int(parameters["channels"])
    for name, cycles in {
        "CL": neupims.timing.read_latency_cycles,
        "RCD": neupims.timing.activate_to_mac_cycles,
        "RP": neupims.timing.precharge_cycles,
        "RAS": neupims.timing.row_open_cycles,
        "RFC": neupims.timing.refresh_cycles,
        "REFI": neupims.timing.refresh_interval_cycles,
        "CCD_L": neupims.timing.column_long_cycles,
    }.items():
        assert cycles == int(parameters[name])


def test_throughputs_of_neupims_say_how_many_requests_ran() -> None:
    """Batch and requests behind the six figures are not published: what weights alone take says the least batch."""
    bandwidth = load_pim("neupims").commander.bandwidth_gb_per_s
    billions = {"GPT3-7B": 6.7, "GPT3-13B": 13.0, "GPT3-30B": 30.0}
    for row in rows("pim_neupims_throughput.csv"):
        if row["model"] not in billions:
            continue
        stages, tensor = int(row["pipeline_parallel"]), int(row["tensor_parallel"])
        step = 2e9 * billions[row["model"]] / (stages * tensor) / (bandwidth * 1e9)  # of a stage
        least = float(row["neupims"]) * step
        print(f"\n{row['model']}, {tensor} x {stages} devices: at least {least:.0f} requests in each stage", end="")
        assert 20 < least < 512


def test_energy_of_cent() -> None:
    """Published token energies are those of commands, with controllers and a 32nd of what standby takes."""
    device = load_pim("cent")
    for row in list(rows("pim_cent_simulation.csv"))[::70]:
        shape, blocks = LLAMA[row["model"]]
        if int(row["pipeline_parallel"]) != blocks:
            continue
        system = PimSystem(device=device, devices=int(row["devices"]), shape=shape, blocks=blocks, stages=blocks)
        block = system.block(int(row["sequence_length"]))
        by_part = channel_energy_pj(device, block.run).by_part
        n = system.place.channels * blocks / 1e9
        commands = n * sum(value for part, value in by_part.items() if not part.startswith("standby"))
        published = float(row["token_energy_mJ"])
        print(f"\n{row['model']} at {row['sequence_length']}: commands {commands:.1f} of {published:.1f} mJ", end="")
        assert 0.85 < commands / published < 1


@pytest.mark.slow
def test_all_blocks_of_cent() -> None:
    worst = cent_errors(step=1)
    print("\nCENT, all rows, largest error by part:", {name: f"{100 * error:.3f} %" for name, error in worst.items()})
    assert worst["block_latency"] < 0.02
