"""What a batch costs on all units together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.search.pipeline.stages import Stage
from tilewright.search.pipeline.units import Unit
from tilewright.sim.figures import Figures, figures_of

__all__ = ["batch_figures"]


def batch_figures(units: Sequence[Unit], stages: Sequence[Stage], n_images: int, cycles: int) -> Figures:
    """Figures of ``n_images`` in ``cycles``; busy units are those of the first machine. The energies of a machine
    beside it are told by its name, but for the DRAM's.
    """
    own = [stage for stage in stages if not stage.unit]
    figures = figures_of(
        units[0].machine,
        _counters(own) * n_images,
        cycles,
        matrix_cycles=n_images * sum(run.matrix_cycles for stage in own for run in stage.runs),
        vector_cycles=n_images * sum(run.vector_cycles for stage in own for run in stage.runs),
    )
    for unit in units[1:]:
        counters = _counters([stage for stage in stages if stage.unit == unit.number]) * n_images
        parts = dict(figures.energy_by_component)
        for name, energy in energy_by_component(unit.machine, counters, ceil(cycles / unit.scale)).items():
            key = name if name == "dram" else f"{unit.name} {name}"
            parts[key] = parts.get(key, 0.0) + energy
        figures = replace(
            figures,
            energy_by_component=parts,
            dram_read_bytes=figures.dram_read_bytes + counters.dram_read_bytes,
            dram_write_bytes=figures.dram_write_bytes + counters.dram_write_bytes,
        )
    return figures


def _counters(stages: Sequence[Stage]) -> Counters:
    return sum((stage.counters for stage in stages), Counters())
