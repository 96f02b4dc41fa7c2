"""Commands that refuse what they would otherwise leave out without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from tilewright.errors import InputError

if TYPE_CHECKING:
    import typer

    from tilewright.hw_models.spec import MachineSpec
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["OnceCommand", "check_parts", "check_used", "is_given"]

_PARTS = {"weights": "weights that multiply", "activations": "activations", "cache": "key/value cache"}


class OnceCommand(TyperCommand):
    """A command whose options are given once, but for those that say that they may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual; raises InputError for an option with a value that is given again (the last one would win)."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, times in Counter(order).items():
            repeats = getattr(parameter, "multiple", False) or getattr(parameter, "is_flag", False)
            if parameter.param_type_name == "option" and times > 1 and not repeats:
                raise InputError(f"{max(parameter.opts, key=len)}: given {times} times; allowed once")
        return list(super().parse_args(ctx, args))


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the parameter ``name`` was given on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_parts(streams: Sequence[OperatorStream], formats: Mapping[str, str | None]) -> None:
    """Raise InputError for a format of a part (weights, activations, cache) that none of the networks has."""
    for part, number_format in formats.items():
        if number_format is not None and not any(_has(stream, part) for stream in streams):
            option = "kv-cache" if part == "cache" else part
            names = ", ".join(stream.name for stream in streams)
            raise InputError(f"--{option}: means nothing here; no {_PARTS[part]} in {names}")


def check_used(
    streams: Sequence[OperatorStream], dataflows: Sequence[str | None], machines: Sequence[MachineSpec]
) -> None:
    """Raise InputError for a dataflow that no operator of the networks can take on any of the machines."""
    from tilewright.sim.jobs import jobs_of
    from tilewright.sim.lowering.mapping import DATAFLOWS

    for name in dataflows:
        flow = DATAFLOWS.get(name) if name is not None else None
        if flow is None:
            continue
        layers = {job.layer: None for stream in streams for job in jobs_of(stream) if job.kind == flow.operator}
        names = ", ".join(stream.name for stream in streams)
        if not layers:
            raise InputError(f"--dataflow: is for {flow.operator}; no {flow.operator} operator in {names}")
        reasons = [flow.refusal(layer, machine) for layer in layers for machine in machines]
        if all(reasons):
            raise InputError(f"--dataflow: {name} {reasons[0]}; given {names}")


def _has(stream: OperatorStream, part: str) -> bool:
    if part == "weights":
        multiplying = (stream.base(op.inputs[1]) for op in stream.operators if op.of_kind.is_product)
        return any(tensor.role == "weight" for tensor in multiplying)
    role = {"activations": "activation", "cache": "cache"}[part]
    return any(tensor.role == role for tensor in stream.tensors)
