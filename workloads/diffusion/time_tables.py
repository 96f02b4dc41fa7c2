"""Features of time that are worked out before the run (TFMQ-DM, arXiv 2311.16503): tables by step in place of products.

What depends on nothing but the step, the embedding of time and what blocks project from it, has as many values as
there are steps: it is read from a table, and the products that make it do not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tilewright.errors import InputError, unknown
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["TimeTables", "with_time_tables"]

#: What the inputs that tell the step are called, in the zoo and in published code.
_USUAL = ("angles", "timestep", "timesteps", "t", "time", "sigma")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeTables:
    """``stream`` reads the tables' rows of the step (``row_bytes``) as inputs; ``removed``: operators that are gone."""

    stream: OperatorStream
    row_bytes: int
    removed: tuple[str, ...]

    def table_bytes(self, n_steps: int) -> int:
        """Bytes of the tables of ``n_steps`` steps."""
        return n_steps * self.row_bytes


def with_time_tables(stream: OperatorStream, inputs: Sequence[str] = ()) -> TimeTables:
    """``stream`` with tables in place of what depends on ``inputs`` alone (none: those that are called so).

    Raises InputError for an input that the network has not, and where nothing depends on them alone.
    """
    for name in inputs:
        if name not in stream.inputs:
            raise unknown("input", name, stream.inputs, place=stream.name)
    times = set(inputs) or {name for name in stream.inputs if name.rpartition(".")[2] in _USUAL}
    known = times | {one.name for one in stream.tensors if one.role in ("weight", "constant") and not one.view_of}
    removed: dict[str, None] = {}
    for operator in stream.operators:
        if all(stream.base(name).name in known for name in operator.inputs):
            removed[operator.name] = None
            known.update(operator.outputs)
    if not removed:
        raise InputError(
            f"{stream.name}: nothing depends on the step alone; allowed a network with an input called "
            f"{', '.join(_USUAL)}, or the names of such inputs (it has {', '.join(stream.inputs)})"
        )
    operators = tuple(one for one in stream.operators if one.name not in removed)
    used = {stream.base(name).name for one in operators for name in one.inputs}
    used |= {stream.base(name).name for name in stream.outputs}
    made = {name for one in stream.operators if one.name in removed for name in one.outputs}
    rows = [one.name for one in stream.tensors if one.name in made & used]
    gone = (made - used) | (times - used)
    tensors = tuple(one for one in stream.tensors if stream.base(one.name).name not in gone)
    inputs_left = (*(name for name in stream.inputs if name not in gone), *rows)
    return TimeTables(
        stream=replace(stream, tensors=tensors, operators=operators, inputs=inputs_left, n_parameters=None),
        row_bytes=sum(stream.tensor(name).n_bytes for name in rows),
        removed=tuple(removed),
    )
