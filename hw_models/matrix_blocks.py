"""Published matrix units that multiply blocks, as they stand in a machine file's ``matrix`` section.

Rates are multiply-adds per PE and cycle relative to the depth given: a format at twice the rate sums twice the depth.
"""

from __future__ import annotations

from tilewright.hw_models.spec import BlockSpec, MatrixUnitSpec

__all__ = ["DAVINCI_CUBE", "DIANNAO_TREE", "TENSOR_CORE_A100", "TENSOR_CORE_V100"]

#: Cube of a DaVinci core: 16 x 16 x 16 fp16 or 16 x 32 x 16 int8 products in a cycle (Liao et al., "Ascend: a scalable
#: and unified architecture for ubiquitous deep neural network computing", HPCA 2021: 4096 fp16 and 8192 int8
#: multiply-adds). Pipeline: not published; a tree of 16 and two stages assumed.
DAVINCI_CUBE = MatrixUnitSpec(
    rows=16,
    columns=16,
    stationarity="output",
    fill_drain="per_command",
    multiplies_per_pe_per_cycle={"fp16": 1, "int8": 2},
    block=BlockSpec(style="cube", depth=16, step_cycles=1, pipeline_cycles=6),
)

#: One tensor core of an A100 (four in an SM): 256 fp16 multiply-adds a cycle (NVIDIA A100 white paper, 2020: 1024 in an
#: SM), worked on in instructions of m16n8k16, 2048 multiply-adds in 8 cycles; tf32 half of fp16, int8 twice, int4 four
#: times, single bits sixteen times (the same paper's peak rates). Pipeline: assumed, about 33 cycles from one
#: instruction to the next that needs its sums, of which 8 are the step.
TENSOR_CORE_A100 = MatrixUnitSpec(
    rows=16,
    columns=8,
    stationarity="output",
    fill_drain="per_command",
    multiplies_per_pe_per_cycle={"tf32": 0.5, "fp16": 1, "bf16": 1, "int8": 2, "int4": 4, "int1": 16},
    block=BlockSpec(style="tensor_core", depth=16, step_cycles=8, pipeline_cycles=25),
)

#: One tensor core of a V100 (eight in an SM): a 4 x 4 x 4 fp16 product each cycle (NVIDIA V100 white paper, 2017).
#: Pipeline: assumed, four stages.
TENSOR_CORE_V100 = MatrixUnitSpec(
    rows=4,
    columns=4,
    stationarity="output",
    fill_drain="per_command",
    multiplies_per_pe_per_cycle={"fp16": 1},
    block=BlockSpec(style="tensor_core", depth=4, step_cycles=1, pipeline_cycles=4),
)

#: DianNao's NFU: 16 outputs of 16 inputs each a cycle, in 16-bit fixed point (Chen et al., ASPLOS 2014): one row of A
#: against 16 columns of B, weights without reuse in the unit. Pipeline: assumed, a stage of multipliers, four levels of
#: adders, three stages for the function behind them.
DIANNAO_TREE = MatrixUnitSpec(
    rows=1,
    columns=16,
    stationarity="output",
    fill_drain="per_command",
    multiplies_per_pe_per_cycle={"int16": 1},
    block=BlockSpec(style="dot_product_tree", depth=16, step_cycles=1, pipeline_cycles=8),
)
