"""``tilewright search --over fusion``: which operators of a network run together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tilewright.cli.inputs import machine_of
from tilewright.cli.once import check_parts
from tilewright.cli.options import check_seed
from tilewright.cli.outputs import note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.cli.search import SearchCall

__all__ = ["OPTIONS", "bytes_of", "run"]

OPTIONS = frozenset(
    {
        "machine", "scheme", "buffer", "objective", "method", "budget", "seed", "explainer", "weights", "activations",
        "all_operators", "separate", "report", "unknown", "map",
    }
)  # fmt: skip

_WITHOUT_BUDGET = ("dp", "cp_sat")
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "kb": 10**3, "mb": 10**6}
_MOST_BYTES = 2**40  # of a buffer of a machine, too
_SIZE = re.compile(r"(\d{1,15})\s*([a-z]*)")


def bytes_of(text: str) -> int:
    """Bytes that ``256KiB``, ``1MiB``, ``200kB`` or ``262144`` mean; raises InputError for another form."""
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS or not int(found[1]):
        raise InputError(f'--buffer: not a size; given "{text}"; allowed for example 256KiB, 1MiB, 200kB, 262144')
    n_bytes = int(found[1]) * _UNITS[found[2]]
    if n_bytes > _MOST_BYTES:
        raise InputError(f'--buffer: out of range; given "{text}"; allowed at most 1048576MiB')
    return n_bytes


def run(call: SearchCall) -> None:
    """Search, show groups and totals, and write what is asked for; raises InputError."""
    machine = machine_of(call.needed("machine"))
    buffer = call.option("buffer")
    capacity = None if buffer is None else bytes_of(buffer)

    from tilewright.search.fusion.method import get_fusion_method
    from tilewright.search.fusion.run import USUAL_BUDGET, search_fusion
    from tilewright.sim.fusion.scheme import USUAL_SCHEME

    stream = call.network()
    check_parts([stream], {"weights": call.option("weights"), "activations": call.option("activations")})
    stream = stream.with_formats(weights=call.option("weights"), activations=call.option("activations"))
    method, objective = call.option("method", "dp"), call.option("objective", "dram")
    if "explainer" in call.options and not get_fusion_method(method).explained:
        raise InputError(f"--explainer: means nothing to --method {method}; allowed with methods that begin with get-")
    check_seed(method, given="seed" in call.options)
    if "budget" in call.options and method in _WITHOUT_BUDGET:
        raise InputError(f"--budget: means nothing to --method {method}, which searches to the end")
    if objective in ("latency", "energy"):
        announce_compilation()
    with ProgressBar() as bar:
        outcome = search_fusion(
            stream,
            machine,
            call.option("scheme", USUAL_SCHEME),
            objective,
            method,
            buffer_bytes=capacity,
            absorb=not call.option("separate", False),
            budget=call.option("budget", USUAL_BUDGET),
            seed=call.option("seed", 0),
            explainer=call.option("explainer", "pg"),
            progress=bar,
        )

    from tilewright.reports.fusion_table import fusion_groups_table, fusion_totals_table

    if call.outputs.speaks:
        every = bool(call.option("all_operators", False))
        call.outputs.show(
            fusion_groups_table(call.outputs.console(), outcome, every=every), fusion_totals_table(outcome)
        )
    from tilewright.reports.origin import Origin, network_facts

    facts = {"scheme": outcome.scheme.name, "capacity_bytes": outcome.capacity_bytes, "method": method}
    origin = Origin(machines=(machine,), workloads=(network_facts(stream),), facts=facts)
    call.outputs.write_json(outcome.to_dict(), origin)
    call.outputs.write_csv(outcome.group_rows(), origin)
    if call.outputs.report is not None:
        from tilewright.reports.fusion_page import write_fusion_report

        note(f"wrote {write_fusion_report(call.outputs.report, outcome, command=call.command)}")
