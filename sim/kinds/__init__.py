"""The layers that operators become, and so which dataflows map them: a file for each kind that is not vector work."""

from __future__ import annotations

from tilewright.sim.kinds.layer import LOWERINGS, JobLayer, Lowering, product_layer, register_lowering, vector_layer

__all__ = ["LOWERINGS", "JobLayer", "Lowering", "product_layer", "register_lowering", "vector_layer"]
