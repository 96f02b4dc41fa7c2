"""Memory that computes: banks of DRAM with multiply units beside them, and the host that commands them."""

from __future__ import annotations

from tilewright.hw_models.pim.load import load_pim, pim_names
from tilewright.hw_models.pim.spec import PimEnergySpec, PimSpec, PimTimingSpec

__all__ = ["PimEnergySpec", "PimSpec", "PimTimingSpec", "load_pim", "pim_names"]
