"""``tilewright search --over pim``: which operators run in the banks of a memory that computes, at each batch."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.cli.inputs import machine_of
from tilewright.cli.options import unknown_of
from tilewright.cli.pim import PimRun, batches_of, show_batches, show_plan
from tilewright.cli.search_space import SPACES, NetworkOptions, SearchCall, SearchSpace

__all__ = ["PimOptions", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PimOptions(NetworkOptions):
    """Options of ``--over pim``.

    ``batches``: ``1,2,4``; none: the network as it is. ``objective``: latency or energy.
    """

    batches: str | None = None
    objective: str = "latency"
    weights: str | None = None
    activations: str | None = None
    kv_cache: str | None = None


def run(call: SearchCall[PimOptions]) -> None:
    """Search, show and write; raises InputError."""
    from tilewright.search.pim.plan import memory_of

    options = call.options
    machine = machine_of(options.machine, options.set)
    memory_of(machine)
    asked = PimRun(
        network=call.target,
        machine=machine,
        weights=options.weights,
        activations=options.activations,
        kv_cache=options.kv_cache,
        objective=options.objective,
        unknown=unknown_of(options.unknown, options.map),
    )
    if options.batches is None:
        show_plan(call.outputs, asked)
    else:
        show_batches(call.outputs, asked, batches_of(options.batches))


SPACES.register("pim", SearchSpace(name="pim", options=PimOptions, run=run), rank=7)
