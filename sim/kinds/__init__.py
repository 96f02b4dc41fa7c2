"""What becomes of operators of each kind, one file each: the layer that is mapped, and the result on numbers."""

from __future__ import annotations

from tilewright.sim.kinds.layer import LOWERINGS, JobLayer, Lowering, product_layer, register_lowering, vector_layer
from tilewright.sim.kinds.values import VALUES, FloatArray, register_values

__all__ = [
    "LOWERINGS",
    "VALUES",
    "FloatArray",
    "JobLayer",
    "Lowering",
    "product_layer",
    "register_lowering",
    "register_values",
    "vector_layer",
]
