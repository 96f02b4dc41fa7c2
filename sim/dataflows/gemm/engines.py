"""Which products a machine's quantised engine does, and what no schedule of one can beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

from tilewright.formats import format_bits, tensor_format
from tilewright.hw_models.dram import dram_rate
from tilewright.hw_models.matrix_unit import no_rate
from tilewright.hw_models.quantised.catalogue import ATTENTION_ENGINES
from tilewright.hw_models.quantised.demand import Engine, Step
from tilewright.hw_models.quantised.part import engine_part
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.vector_unit import RESULTS, Passing, least_vector_cycles
from tilewright.sim.dataflows.gemm.costs import vector_operations
from tilewright.sim.dataflows.gemm.engine_costs import passes
from tilewright.sim.lowering.levels import weight_memory_cycles
from tilewright.sim.result import LowerBound
from tilewright.units import bits_to_bytes, exact
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import DRAM
from tilewright.workloads.products import accumulator_bits

__all__ = ["engine_bound", "engine_use", "gemm_assumptions", "on_engine", "on_machine"]


def on_machine(layer: GemmLayer, machine: MachineSpec) -> GemmLayer:
    """``layer`` as the machine does it: on its engine, where that does it, with sums as its accumulators keep them."""
    layer = on_engine(layer, machine)
    kept = machine.matrix.accumulators.get(_multiplied(layer))
    return layer if kept is None else replace(layer, accumulator_bits=format_bits(kept))


def _multiplied(layer: GemmLayer) -> str:
    """The format in which most of the products are multiplied."""
    if layer.engine is None:
        return layer.compute_format
    engine: Engine = layer.engine
    step = next(step for step in engine.steps(layer.m, layer.k, layer.n) if step.multiplies)
    return max(step.products, key=lambda work: work.part).number_format


def gemm_assumptions(layer: GemmLayer) -> tuple[str, ...]:
    """What is taken for granted of the machine's ways with ``layer``."""
    number_format = _multiplied(layer)
    usual = accumulator_bits(number_format)
    own = f"sums of {number_format} are kept in {layer.accumulator_bits} bits, as the machine's accumulators keep them"
    return (*engine_assumptions(layer), *((own,) if layer.accumulator_bits != usual else ()))


def on_engine(layer: GemmLayer, machine: MachineSpec) -> GemmLayer:
    """``layer`` as the machine's engine does it, where it is one of weights and activations in the engine's formats.

    An operand without scales is stored with the engine's. An engine with passes over the activations does no
    convolution of several taps: the passes would be over its unrolled input.
    """
    name = machine.matrix.engine
    is_one = name is not None and layer.engine is None and layer.b_is_weight and layer.whole is None
    is_one = is_one and not layer.primitive
    if name is None or not is_one or not layer.a_format or not layer.b_format:
        return layer
    part = engine_part(name, machine.matrix.engine_options)
    engine = part.for_product(layer.b_format, layer.a_format, layer.m, layer.k, layer.n)
    if engine is None:
        return layer
    has_passes = any(passes(engine, layer.m, layer.k, layer.n))
    if has_passes and layer.window is not None and layer.window.taps > 1:
        return layer
    b_bits, a_bits = engine.stored_bits(layer.m, layer.k, layer.n)
    narrow_a = has_passes or layer.a_bits == tensor_format(layer.a_format).element.bits
    return replace(
        layer,
        engine=engine,
        b_bits=_with_scales(layer.b_format, layer.b_bits, Fraction(b_bits, layer.k * layer.n)),
        a_bits=_whole(Fraction(a_bits, layer.m * layer.k)) if narrow_a else layer.a_bits,
    )


def _with_scales(given: str, moved_bits: int | Fraction, stored_bits: Fraction) -> int | Fraction:
    """Bits moved for a weight of the ``given`` format, with the engine's scales where it has none of its own.

    Weights that are stored compressed stay so, to the same share.
    """
    own = tensor_format(given)
    return moved_bits if own.scale is not None else _whole(stored_bits * moved_bits / own.element.bits)


def _whole(bits: Fraction) -> int | Fraction:
    return bits.numerator if bits.denominator == 1 else bits


def engine_assumptions(layer: GemmLayer) -> tuple[str, ...]:
    """What is taken for granted of the engine of ``layer``."""
    engine: Engine | None = layer.engine
    if engine is None:
        return ()
    return (
        f"engine {engine.name} ({engine.source}) does products of weights and activations in {engine.pair}; without "
        "scales of their own these are stored as the engine stores them, at the bytes of that",
        *(f"engine {engine.name}: {text}" for text in engine.assumptions),
        f"engine {engine.name}: operands are prepared where they lie each time that a tile has come, sums of two tiles "
        "are scaled under the product of the next two and added to zeros at first, passes are over whole rows",
    )


def engine_use(layers: Sequence[object], machine: MachineSpec) -> tuple[str, ...]:
    """How many of the products with weights and of the attentions among ``layers`` the machine's engines do."""
    notes = []
    unit = machine.matrix
    if unit.engine is not None:
        products = [layer for layer in layers if isinstance(layer, GemmLayer) and layer.b_is_weight]
        pair = engine_part(unit.engine, unit.engine_options).pair
        notes.append(f"{_share(unit.engine, products)} products with weights: those in {pair}")
    if unit.attention_engine is not None:
        attentions = [layer for layer in layers if isinstance(layer, AttentionLayer)]
        wide = ATTENTION_ENGINES.get(unit.attention_engine).wide
        notes.append(f"{_share(unit.attention_engine, attentions)} attentions: those of {wide}")
    return tuple(notes)


def _share(name: str, layers: Sequence[GemmLayer | AttentionLayer]) -> str:
    done = sum(layer.engine is not None for layer in layers)
    return f"engine {name} does {done or 'none'} of {len(layers)}"


def engine_bound(layer: GemmLayer, machine: MachineSpec) -> LowerBound:
    """All steps' multiply-adds at full rate, their element-wise work over all lanes, every byte once."""
    engine: Engine = layer.engine
    groups, m, n = layer.before_cut
    steps = engine.steps(m, layer.k, n)
    dram = bits_to_bytes(layer.compulsory_bits) + groups * _pass_bytes(layer, steps)
    return LowerBound(
        matrix_cycles=ceil(groups * _matrix_work(machine, steps) / machine.n_cores),
        vector_cycles=ceil(groups * _vector_work(layer, machine, steps) / machine.n_cores),
        dram_cycles=ceil(dram / dram_rate(machine)),
        weight_memory_cycles=weight_memory_cycles(machine, layer.homes.b, groups * layer.k * n * layer.b_bits),
    )


def _matrix_work(machine: MachineSpec, steps: Sequence[Step]) -> Fraction:
    """Cycles of one core's array for the products of ``steps``."""
    rates, cycles = machine.matrix.multiplies_per_pe_per_cycle, Fraction(0)
    for work in (work for step in steps for work in step.products):
        if work.number_format not in rates:
            raise no_rate(work.number_format, rates, place=machine.name)
        cycles += work.macs / (machine.matrix.n_multipliers * exact(rates[work.number_format]))
    return cycles


def _vector_work(layer: GemmLayer, machine: MachineSpec, steps: Sequence[Step]) -> Fraction:
    """Cycles of one core's vector unit for the element-wise work of ``steps`` and what is fused behind the product.

    Of a convolution the pixels that are needed are prepared, not its unrolled input.
    """
    _, m, n = layer.before_cut
    window, unit = layer.window, machine.vector
    needed = Fraction(1) if window is None else Fraction(window.needed_pixels, window.taps * m)
    finishing = [(kind, times * m * n) for kind, times in vector_operations(layer.fused, machine)]
    cycles = Fraction(0)
    for step in steps:
        for work in step.elements:
            if step.multiplies and work.at == "results":
                finishing.append((work.kind, work.n_elements))
                continue
            share = needed if step.multiplies and work.at == "activations" else Fraction(1)
            cycles += work.n_elements * share * unit.cycles[work.kind] / unit.lanes
    if finishing or unit.passes_results:
        cycles += least_vector_cycles(unit, finishing, Passing(RESULTS, m * n))
    return cycles


def _pass_bytes(layer: GemmLayer, steps: Sequence[Step]) -> int:
    """Bytes of the DRAM that come with the engine beside operands and results."""
    n_bytes, is_before = 0, True
    for step in steps:
        if step.multiplies:
            n_bytes, is_before = n_bytes + step.branch_read_bytes, False
            continue
        n_bytes += step.write_bytes + (0 if is_before and layer.homes.a != DRAM else step.read_bytes)
    return n_bytes
