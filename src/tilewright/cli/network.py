"""``tilewright simulate`` for a whole network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.cli.inputs import runs_engine
from tilewright.cli.once import check_parts, check_used
from tilewright.cli.options import Objective
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation, patience
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.reports.network_case import NetworkCase
    from tilewright.sim.network_result import NetworkResult
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["NetworkRun", "simulate_network", "stream_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRun:
    """What is asked for; ``dataflow`` is that of the attention operators (None: the better of the usual ones).

    ``note`` is said with the result: how the name was understood, where it could mean something else.
    """

    network: str
    note: str
    machine: MachineSpec
    objective: Objective
    weights: str | None
    activations: str | None
    kv_cache: str | None
    prefetch: bool
    fuse: bool
    residency: bool | None
    keep_mappings: bool
    dataflow: str | None
    all_operators: bool
    command: str
    unknown: str | Mapping[str, str] = "error"
    weight_density: float | None = None
    kernels: str | None = None
    launch: str | None = None


def simulate_network(outputs: Outputs, run: NetworkRun) -> None:
    """Simulate the network, show its tables and write what ``outputs`` asks for; raises InputError."""
    stream = stream_of(
        run.network, weights=run.weights, activations=run.activations, kv_cache=run.kv_cache, unknown=run.unknown
    )
    check_used([stream], [run.dataflow], [run.machine])
    if runs_engine([run.machine], run.kernels):
        announce_compilation()
    result = _result(run, stream)

    from tilewright.reports.network_case import NetworkCase
    from tilewright.workloads.rated_formats import FORMAT_NOTE

    case = NetworkCase(
        result=result, stream=result.stream or stream, machine=run.machine, objective=run.objective, command=run.command
    )
    for text in (run.note, *(one for one in result.assumptions if one.startswith(FORMAT_NOTE))):
        if text:
            note(text)
    _say_what_could_stay(run, result)
    _show(outputs, case, every=run.all_operators)
    from tilewright.reports.origin import Origin, network_facts

    origin = Origin(
        machines=(run.machine,), workloads=(network_facts(case.stream),), facts={"objective": run.objective}
    )
    outputs.write_json(case.to_dict(), origin)
    outputs.write_csv(case.rows(), origin)
    if outputs.report is not None:
        from tilewright.reports.folder import write_network_report

        with patience(f"page of {result.network}"):
            path = write_network_report(outputs.report, case)
        note(f"wrote {path}")


def _say_what_could_stay(run: NetworkRun, result: NetworkResult) -> None:
    """One line where nobody said what stays on chip and a plan could gain something."""
    if run.residency is not None or run.machine.residency != "none" or result.stream is None or run.machine.groups:
        return
    if result.kernels in ("eager", "fused"):
        return
    from tilewright.reports.quantity import bytes_text
    from tilewright.search.residency.outlook import outlook_of

    found = None
    with contextlib.suppress(InputError):  # where what ran cannot be bounded so; a hint must not end a run
        found = outlook_of(result.stream, run.machine, fuse=run.fuse)
    if found is None or found.bound_cycles >= found.bound_now_cycles:
        return
    note(
        f"every tensor goes through the DRAM between operators; {bytes_text(found.n_bytes)} of them could stay in "
        f"{found.memory} ({bytes_text(found.capacity_bytes)}): --residency plan finds the best that fits (bounds of "
        f"all operators {found.bound_now_cycles:,} cycles now, {found.bound_cycles:,} with it there)"
    )


def stream_of(
    text: str,
    *,
    weights: str | None,
    activations: str | None,
    kv_cache: str | None,
    alone: bool = True,
    unknown: str | Mapping[str, str] = "error",
) -> OperatorStream:
    """The network ``text`` in the formats asked for; raises InputError with the option that is wrong.

    ``alone``: a format of a part that it has not is refused; else another network may have that part. ``unknown``: as
    in ``load_network``; what is counted as memory traffic is said.
    """
    from tilewright.formats import tensor_format
    from tilewright.workloads.network import load_network

    formats = {"weights": weights, "activations": activations, "cache": kv_cache}
    for part, number_format in formats.items():
        with _at(part):
            tensor_format("fp16" if number_format is None else number_format)
    with patience(f"reading {text}"):
        stream = load_network(text, unknown=unknown)
    _say_what_is_counted(stream)
    if alone:
        check_parts([stream], formats)
    for part, number_format in formats.items():
        with _at(part):
            stream = stream.with_formats(**{part: number_format})
    return stream


def _say_what_is_counted(stream: OperatorStream) -> None:
    counted = [operator.text("function") for operator in stream.operators if not operator.of_kind.is_understood]
    if counted:
        names = ", ".join(dict.fromkeys(counted))
        what = (
            "operator that is not understood counts" if len(counted) == 1 else "operators that are not understood count"
        )
        note(f"{len(counted)} {what} as memory traffic: {names}")


@contextlib.contextmanager
def _at(part: str) -> Iterator[None]:
    """Errors inside name the option that gave the format of ``part``."""
    try:
        yield
    except InputError as error:
        raise InputError(f"--{'kv-cache' if part == 'cache' else part}: {error}") from None


def _result(run: NetworkRun, stream: OperatorStream) -> NetworkResult:
    import tilewright.search.api as api

    with ProgressBar() as progress:
        return api.simulate_network(
            stream,
            run.machine,
            run.objective,
            weights=run.weights,
            activations=run.activations,
            kv_cache=run.kv_cache,
            weight_density=run.weight_density,
            prefetch=run.prefetch,
            fuse=run.fuse,
            residency=run.residency,
            kernels=run.kernels,
            launch=run.launch,
            keep_mappings=run.keep_mappings,
            attention_dataflows=api.ATTENTION_DATAFLOWS if run.dataflow is None else (run.dataflow,),
            progress=progress,
        )


def _show(outputs: Outputs, case: NetworkCase, *, every: bool) -> None:
    from tilewright.reports.network_table import (
        kernels_table,
        kinds_table,
        limits_table,
        operators_table,
        totals_table,
    )

    if not outputs.speaks:
        return
    console = outputs.console()
    outputs.show(
        operators_table(console, case, every=every),
        kernels_table(console, case) if case.is_library else kinds_table(console, case),
        None if case.is_library else limits_table(case),
        totals_table(case),
    )
