"""``tilewright schedules``: tilings of our own GPU kernels, timed from what a compiler makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.inputs import machine_of
from tilewright.cli.options import CsvOption, JsonOption, MachineOption, SetOption
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec

__all__ = ["schedules"]


def schedules(
    machine: MachineOption,
    kernel: Annotated[
        str | None,
        typer.Argument(
            metavar="KERNEL:SHAPE",
            help="product-fp16:m=4096,n=4096,k=4096 (or -int8, -fp8_e4m3, -int4), attention:heads=32,kv_heads=8,"
            "queries=4096,keys=4096,head_dim=128, causal-attention, norm-product, perceptron, block-sparse-attention, "
            "ssd-persistent:tokens=8192,heads=80,key_dim=128,value_dim=64, ssd-chunked.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="So many of the fastest.")] = 10,
    tile: Annotated[
        list[str] | None,
        typer.Option(
            "--tile",
            metavar="TILING",
            help="m=128,n=128,k=64,stages=3,warps=8: a tiling that the table of the package lacks; Triton compiles it "
            "here (seconds each, kept); may come several times.",
            show_default="those of the table",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json",
            help="Compile the schedules of --suite into a file.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str, typer.Option("--suite", metavar="NAMES", help="What --output compiles: suites of tilewright measure.")
    ] = "attention,gemm,fusion,sparse,scan",
    set_: SetOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
) -> None:
    """Rank the tilings of a GPU kernel for a shape by predicted time, from registers, shared memory and instructions.

    What the compiler made of each tiling comes with the package; with --output, Triton compiles it again (it needs no
    GPU).
    """
    spec = machine_of(machine, set_, for_engine=False)
    if (kernel is None) == (output is None):
        raise InputError("schedules: give a kernel with its shape, or --output to compile; allowed one of the two")
    if output is not None:
        _compile(spec, output, suite)
        return
    from tilewright.reports.quantity import seconds_text, tiling_text
    from tilewright.reports.table import catalogue_table
    from tilewright.search.gpu.tilings import rank_tilings

    assert kernel is not None
    outputs = Outputs(json=json, csv=csv)
    name, _, sizes = kernel.partition(":")
    ranked = rank_tilings(spec, name, _sizes(sizes), [_sizes(text) for text in tile or ()])
    rows = [
        [
            tiling_text(each.tiles),
            seconds_text(each.seconds),
            each.bound,
            f"{each.blocks}",
            f"{each.registers}",
            f"{each.spill_bytes:,}",
            f"{each.shared_bytes:,}",
        ]
        for each in ranked[:top]
    ]
    headers = ["tiling", "time", "bound", "blocks a multiprocessor", "registers", "spilled bytes", "shared bytes"]
    outputs.show(catalogue_table(f"{kernel} on {spec.name}: {len(ranked)} tilings, fastest first", headers, rows))

    from tilewright.reports.origin import Origin

    origin = Origin(machines=(spec,))
    plain = [each.to_dict() for each in ranked]
    outputs.write_json({"kernel": kernel, "machine": spec.name, "tilings": plain}, origin)
    outputs.write_csv(
        [each.tiles | {k: v for k, v in each.to_dict().items() if k != "tiles"} for each in ranked], origin
    )


def _sizes(text: str) -> dict[str, int]:
    shape = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not value.strip().isdigit():
            raise InputError(f'{text}: "{part}" is no size; allowed for example m=4096')
        shape[key.strip()] = int(value)
    return shape


def _compile(spec: MachineSpec, output: str, suite: str) -> None:
    from tilewright.hw_models.gpu.schedule import schedules_text
    from tilewright.kernels.suite import configurations
    from tilewright.reports.files import check_file, write_file
    from tilewright.search.gpu.schedules import compile_schedules
    from tilewright.search.gpu.suite_schedules import schedule_keys
    from tilewright.sim.gpu.device import gpu_device

    check_file(output, what="--output")
    wanted = configurations([name.strip() for name in suite.split(",") if name.strip()])
    with ProgressBar() as bar:
        table, refused = compile_schedules(schedule_keys(wanted), gpu_device(spec), progress=bar)
    write_file(output, schedules_text(table))
    for name, reason in refused:
        note(f"left out: {name}: {reason}")
    note(f"wrote {output}: {len(table.schedules)} schedules, {table.compiler}, {table.target}")
