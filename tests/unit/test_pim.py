"""Memories that compute: their files, what is refused, and single programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.pim import PimTimingSpec, load_pim, pim_names
from tilewright.hw_models.pim.load import _MEMORIES
from tilewright.sim.pim.commands import Command
from tilewright.sim.pim.decoder_block import BlockPlace, DecoderShape, block_program, matrix_vector
from tilewright.sim.pim.energy import bits_energy_pj, channel_energy_pj
from tilewright.sim.pim.program import (
    CONFIGURE,
    SYNC,
    Instruction,
    Item,
    Repeat,
    access,
    accumulators_in,
    accumulators_out,
    buffer_in,
    function,
    mac,
    multiply,
)
from tilewright.sim.pim.register_banks import register_product
from tilewright.sim.pim.run import run_program
from tilewright.sim.pim.system import PimSystem

AIM = load_pim("gddr6-aim")
BANKS = AIM.organisation.banks_per_channel


@pytest.mark.parametrize("name", pim_names())
def test_every_memory_loads_and_says_where_its_figures_are_from(name: str) -> None:
    pim = load_pim(name)
    assert pim.name == name
    assert pim.description
    assert pim.sources


def changed(tmp_path: Path, old: str, new: str, name: str = "gddr6-aim") -> Path:
    text = _MEMORIES.text(name)
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("host:\n  kind: commands\n  bandwidth_gb_per_s: 1024\n", "", "host: missing"),
        ("  buffer_bytes: 2048\n", "", "organisation.buffer_bytes: nothing feeds the banks"),
        ("access_bytes: 32", "access_bytes: 48", "access_bytes: a row of 2048 bytes is no whole number"),
        ("operand_bits: 16", "operand_bits: 12", "operand_bits: an access of 32 bytes"),
        ("refresh_interval_cycles: 3333", "refresh_interval_cycles: 300", "no row could be used between two"),
        ("  refresh_interval_cycles: 3333\n", "", "refresh_cycles: given without its interval"),
        ("activate_to_mac_cycles: 56", "activate_to_mac_cycles: -1", "timing.activate_to_mac_cycles"),
        ("kind: commands", "kind: wizard", "host.kind"),
        ("mode_change_cycles", "mode_chnge_cycles", "mode_change_cycles"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_pim(changed(tmp_path, old, new))
    assert said in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_name_that_is_none_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match=r"gddr6-aim"):
        load_pim("gddr6-aym")


@pytest.mark.parametrize(
    ("program", "cycles", "open_cycles"),
    [
        ((CONFIGURE, Repeat(n=1, body=(mac(1),))), 60, 59),
        ((CONFIGURE, Repeat(n=64, body=(mac(64),))), 14424, 12407),
        ((buffer_in(16),), 67, 0),
        ((multiply(64),), 154, 154),
    ],
)
def test_published_runs_of_aim(program: tuple[object, ...], cycles: int, open_cycles: int) -> None:
    run = run_program(program, AIM.timing, BANKS)  # type: ignore[arg-type]
    assert (run.cycles, run.open_cycles) == (cycles, open_cycles)


def test_a_product_of_aim_and_its_refreshes() -> None:
    row = Repeat(n=256, body=(accumulators_in(), mac(64), accumulators_out()))
    program = (CONFIGURE, Repeat(n=4, body=(buffer_in(64), row)))
    plain = run_program(program, AIM.timing, BANKS)
    assert plain.cycles == 4 * (128 + 286 * 256) + 1
    refreshed = run_program(program, AIM.timing, BANKS, refresh=True)
    n = refreshed.commands[Command.REFRESH]
    assert n == refreshed.cycles // AIM.timing.refresh_interval_cycles
    # a refresh takes its time, a precharge, and what the interrupted row needs again
    assert AIM.timing.refresh_cycles <= (refreshed.cycles - plain.cycles) / n <= 210 + 32 + 56 + 32


def test_a_loop_of_a_million_trips_is_jumped_over() -> None:
    program = (Repeat(n=10**6, body=(accumulators_in(), mac(64), accumulators_out())),)
    run = run_program(program, AIM.timing, BANKS)
    assert run.commands[Command.MAC_ALL] == 64 * 10**6
    assert run.cycles == pytest.approx(286e6, rel=1e-6)


def test_products_multiply_every_weight_once() -> None:
    organisation = AIM.organisation
    for k, n in ((1000, 700), (4096, 4096), (11008, 4096), (16, 1)):
        program = matrix_vector(organisation, k, n, organisation.n_banks)
        commands = run_program(program, AIM.timing, BANKS).commands
        columns = -(-n // organisation.n_banks)
        assert commands[Command.MAC_ALL] == columns * -(-k // organisation.multiplies_per_bank)
        assert commands[Command.READ_ACCUMULATORS] == columns * -(-k // organisation.operands_per_row)


def test_a_block_grows_with_its_context_and_shrinks_with_channels() -> None:
    shape = DecoderShape(dim=1024, ffn=2048, heads=8, kv_heads=8)
    cycles = {
        (channels, context): run_program(
            block_program(shape, context, BlockPlace(channels=channels, channels_per_device=32), AIM.organisation),
            AIM.timing,
            BANKS,
        ).cycles
        for channels in (8, 32)
        for context in (128, 2048)
    }
    assert cycles[8, 128] < cycles[8, 2048]
    assert cycles[32, 2048] < cycles[8, 2048]


def test_energy_by_command() -> None:
    run = run_program((mac(64),), AIM.timing, BANKS)
    energy = channel_energy_pj(AIM, run)
    assert energy.by_part["multiplies"] == pytest.approx(64 * 3 * 438.15 * 1.0)
    assert energy.by_part["rows"] == pytest.approx(16 * 66.3 * 44.5)
    assert energy.total_pj == pytest.approx(sum(energy.by_part.values()))
    with pytest.raises(InputError, match="energy is not given"):
        channel_energy_pj(load_pim("lpddr5x-pim"), run)
    # by bit: 8 bits of a cell array, and a multiply-add
    assert bits_energy_pj(load_pim("lpddr5x-pim"), 1000) == pytest.approx(1000 * (8 * 0.55 + 0.32))
    assert bits_energy_pj(AIM, 1000) is None


def test_rows_of_lpddr5x_are_the_same_by_command_and_by_formula() -> None:
    pim = load_pim("lpddr5x-pim")
    per_row = pim.organisation.accesses_per_row
    runs = [run_program((Repeat(n=n, body=(mac(per_row),)),), pim.timing, 16).cycles for n in (10, 11)]
    whole = register_product(pim, 2048, 128 * 128, 1)  # a whole number of rows a bank
    rows = 2048 * 128 * 128 // 128 // 2048
    assert (whole.row_cycles + whole.mac_cycles) / rows == runs[1] - runs[0]


def test_lpddr5x_pays_below_seven_vectors() -> None:
    pim = load_pim("lpddr5x-pim")
    host = 8192 * 8192 / 120e9
    speedups = [host / pim.seconds(int(register_product(pim, 8192, 8192, n).cycles)) for n in (1, 2, 4, 6, 7, 8)]
    assert [round(one, 2) for one in speedups[:3]] == [6.77, 3.39, 1.69]
    assert speedups[3] > 1 > speedups[4]


def test_systems_refuse_what_cannot_be_shared_out() -> None:
    shape = DecoderShape(dim=1024, ffn=2048, heads=8, kv_heads=8)
    with pytest.raises(InputError, match="stages: 8 devices cannot be shared out; given 3"):
        PimSystem(device=load_pim("cent"), devices=8, shape=shape, blocks=32, stages=3)
    with pytest.raises(InputError, match="gddr6-aim: has no controller"):
        PimSystem(device=AIM, devices=8, shape=shape, blocks=32, stages=8)


def every_program() -> list[tuple[Item, ...]]:
    """Programs in which each rule of the times binds somewhere."""
    banks = (0, 5)
    copies = (access(Command.COPY_OUT, (2,), 3, row=1), access(Command.COPY_IN, (1,), 3, row=2))
    host = (access(Command.WRITE, banks, 2, row=3), access(Command.READ, banks, 2, row=3), SYNC)
    return [
        (mac(1), mac(1), *copies),
        (buffer_in(2), accumulators_in(2), accumulators_out(2), buffer_in(1), accumulators_in(), SYNC),
        (multiply(1), multiply(3), mac(1), access(Command.READ, (1,), 1, row=7)),
        (*host, access(Command.WRITE, (1, 2, 6), 1, row=4), mac(1), accumulators_out()),
        (Instruction(command=Command.WRITE_ALL, row=1), mac(1), *function(), accumulators_out()),
        (access(Command.READ, banks, 1, row=1), access(Command.WRITE, banks, 1, row=1), buffer_in(1), *copies),
        (Repeat(n=99, body=(mac(64),)),),
    ]


@pytest.mark.parametrize("name", sorted(PimTimingSpec.__dataclass_fields__))
def test_every_time_moves_a_run(name: str) -> None:
    if name == "clock_ghz":
        assert replace(AIM, timing=replace(AIM.timing, clock_ghz=1)).seconds(10) == 2 * AIM.seconds(10)
        return
    value = getattr(AIM.timing, name)
    longer = replace(AIM.timing, **{name: value + 250})
    plain, changed = (
        [run_program(program, timing, BANKS, refresh=name.startswith("refresh")).cycles for program in every_program()]
        for timing in (AIM.timing, longer)
    )
    assert plain != changed, f"nothing waits for {name}"


def test_refreshes_are_turned_on_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: cent\nname: mine\nrefreshes: true\n", encoding="utf-8")
    shape = DecoderShape(dim=1024, ffn=2048, heads=8, kv_heads=8)
    plain, refreshed = (
        PimSystem(device=load_pim(one), devices=2, shape=shape, blocks=4, stages=2).block(256) for one in ("cent", path)
    )
    assert 1.05 < refreshed.bank_seconds / plain.bank_seconds < 1.15
    path.write_text("base: lpddr5x-pim\nname: mine\nrefreshes: true\n", encoding="utf-8")
    with pytest.raises(InputError, match="refreshes: timing says not how long and how often"):
        load_pim(path)
