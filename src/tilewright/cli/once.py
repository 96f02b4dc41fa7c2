"""Commands that refuse what they would otherwise leave out without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from tilewright.errors import InputError

if TYPE_CHECKING:
    import typer

    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["OnceCommand", "check_attention", "check_parts", "is_given"]

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


def check_attention(streams: Sequence[OperatorStream], dataflow: str | None) -> None:
    """Raise InputError for a dataflow of attention where no network has any."""
    if dataflow is not None and all(op.kind != "attention" for stream in streams for op in stream.operators):
        names = ", ".join(stream.name for stream in streams)
        raise InputError(f"--dataflow: is for attention; no attention operator in {names}")


def _has(stream: OperatorStream, part: str) -> bool:
    if part == "weights":
        multiplying = (stream.base(op.inputs[1]) for op in stream.operators if op.of_kind.is_product)
        return any(tensor.role == "weight" for tensor in multiplying)
    role = {"activations": "activation", "cache": "cache"}[part]
    return any(tensor.role == role for tensor in stream.tensors)
