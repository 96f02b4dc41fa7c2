"""What an operator of a network takes in the banks of a memory that computes, or why they cannot do it.

A product needs its weights in the banks, in the width that they multiply; every vector of a batch passes over all rows
again. Attention needs keys and values in the banks, a head of one request in one channel: scores come out to the host,
which makes probabilities of them and writes them back as the vector of the second product. Whatever is fused behind a
product is the host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from tilewright.hw_models.pim.spec import PimSpec
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.jobs import JobLayer
from tilewright.sim.pim.closed_form import refresh_share
from tilewright.sim.pim.decoder_block import matrix_vector, packed_vectors
from tilewright.sim.pim.energy import bits_energy_pj, channel_energy_pj
from tilewright.sim.pim.register_banks import RegisterProduct, register_product, splits_of
from tilewright.sim.pim.run import ChannelRun, run_program
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer

__all__ = ["BANK_ASSUMPTIONS", "BankWork", "bank_work"]

BANK_ASSUMPTIONS = (
    "banks: what lies in them lies there already (weights, keys and values in the order that their commands need; a "
    "new key or value costs the host what it costs without them)",
    "banks: a narrow matrix may be shared out over groups of channels by parts of the vector, the fastest way of them; "
    "the host adds the sums of the parts",
    "banks: nothing overlaps: vectors go in, rows are multiplied, sums come out, the host does what is fused behind; "
    "weights of a host's operator are not brought ahead in a plan with banks",
    "banks: sums come out in full width, are read by the host, and results written by it",
)
_SOFTMAX = {"max": 1, "sub": 1, "exp": 1, "add": 1, "mul": 1}  # a score; the reciprocal is one a row


@dataclass(frozen=True, slots=True, kw_only=True)
class BankWork:
    """An operator in the banks: ``bank_seconds``, then ``host_seconds`` for what only the host does; ``energy_pj`` of
    both without what runs all the time (None: the memory's file gives none).
    """

    bank_seconds: float
    host_seconds: float
    energy_pj: float | None

    @property
    def seconds(self) -> float:
        """Both, one after the other."""
        return self.bank_seconds + self.host_seconds


def bank_work(layer: JobLayer, pim: PimSpec, machine: MachineSpec) -> BankWork | str:
    """What ``layer`` takes in the banks of ``pim``, commanded by ``machine``; a reason where they cannot do it."""
    if isinstance(layer, GemmLayer):
        return _product(layer, pim, machine)
    if isinstance(layer, AttentionLayer):
        return _attention(layer, pim, machine)
    return "element-wise work stays with the host"


def _product(layer: GemmLayer, pim: PimSpec, machine: MachineSpec) -> BankWork | str:
    bits = pim.organisation.operand_bits
    if not layer.b_is_weight:
        return "both operands are made while the network runs"
    if layer.window is not None:
        return "a convolution"
    for what, width in (("weights", layer.b_bits), ("vectors", layer.a_bits)):
        if width != bits:
            return f"{what} of {width} bits; the banks multiply {bits}"
    bytes_needed = layer.groups * layer.k * layer.n * bits // 8
    if bytes_needed > pim.organisation.capacity_bytes:
        return f"{bytes_needed} bytes of weights; the banks hold {pim.organisation.capacity_bytes}"
    part = _vectors(pim, layer.n, layer.k, layer.m, pim.organisation.n_channels)
    n_results = layer.m * layer.n * layer.groups
    host = part.host_bytes * layer.groups + n_results * (layer.out_bits + sum(layer.fused.extra_bits)) / 8
    seconds = host / (pim.commander.bandwidth_gb_per_s * 1e9)
    seconds += _elementwise(machine, n_results, dict(layer.fused.operations))
    seconds += _elementwise(machine, part.added * layer.groups, {"add": 1})
    operations = {name: count * n_results for name, count in dict(layer.fused.operations).items()}
    energy = _together(part.energy_pj, layer.groups, _host_pj(machine, host, operations))
    return BankWork(bank_seconds=part.seconds * layer.groups, host_seconds=seconds, energy_pj=energy)


def _attention(layer: AttentionLayer, pim: PimSpec, machine: MachineSpec) -> BankWork | str:
    bits = pim.organisation.operand_bits
    if layer.blocks is not None or layer.window_left is not None or layer.window_right is not None:
        return "only some of the keys are seen"
    if layer.mask != "none" and layer.query_len > 1:
        return f"mask {layer.mask} over {layer.query_len} queries"
    if layer.bias_heads or layer.sinks or layer.soft_cap:
        return "scores are changed before the softmax"
    for what, width in (("keys", layer.key_bits), ("values", layer.value_bits)):
        if width != bits:
            return f"{what} of {width} bits; the banks multiply {bits}"
    pairs = layer.batch * layer.kv_heads
    queries = layer.query_heads // layer.kv_heads * layer.query_len
    channels = pim.organisation.n_channels
    rounds = -(-pairs // channels)
    scores = _vectors(pim, layer.key_len, layer.head_dim, queries, 1)
    sums = _vectors(pim, layer.value_dim, layer.key_len, queries, 1)
    n_scores = pairs * queries * layer.key_len
    host = pairs * (scores.host_bytes + sums.host_bytes) + pairs * queries * layer.value_dim * bits / 8
    seconds = host / (pim.commander.bandwidth_gb_per_s * 1e9)
    seconds += _elementwise(machine, n_scores, _SOFTMAX) + _elementwise(machine, pairs * queries, {"div": 1})
    of_host = _host_pj(machine, host, {name: count * n_scores for name, count in _SOFTMAX.items()})
    energy = None
    if scores.energy_pj is not None and sums.energy_pj is not None:
        energy = _together(scores.energy_pj + sums.energy_pj, pairs, of_host)
    return BankWork(bank_seconds=rounds * (scores.seconds + sums.seconds), host_seconds=seconds, energy_pj=energy)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Vectors times one matrix; ``host_bytes`` are what the host moves beside the commands, ``added`` the sums of
    parts that it adds.
    """

    seconds: float
    host_bytes: int
    energy_pj: float | None
    added: int = 0


def _vectors(pim: PimSpec, outputs: int, k: int, n: int, channels: int) -> _Part:
    """``n`` vectors of ``k`` elements times a matrix with ``outputs`` results, over ``channels``."""
    if pim.registers is not None:
        there = replace(pim, organisation=replace(pim.organisation, n_channels=channels))
        ways = [_by_registers(there, register_product(there, outputs, k, n, split=one)) for one in splits_of(there, k)]
        return min(ways, key=lambda way: way.seconds + way.host_bytes / (pim.commander.bandwidth_gb_per_s * 1e9))
    run = _run(pim, outputs, k, channels)
    energy: float | None
    if pim.energy is not None:
        energy = channel_energy_pj(pim, run).total_pj * channels * n
    else:
        energy = bits_energy_pj(pim, outputs * k * n)
    return _Part(seconds=n * pim.seconds(run.cycles), host_bytes=0, energy_pj=energy)


def _by_registers(pim: PimSpec, product: RegisterProduct) -> _Part:
    """Rows of registers have no program of their own: refreshes take their share."""
    seconds = float(product.cycles) / (pim.timing.clock_ghz * 1e9) / (1 - (refresh_share(pim) if pim.refreshes else 0))
    return _Part(
        seconds=seconds,
        host_bytes=product.host_bytes_in + product.host_bytes_out,
        added=product.padded_m * product.n * (product.split - 1) // product.split,
        energy_pj=bits_energy_pj(pim, product.padded_m * product.k // product.split * product.n),
    )


@cache
def _run(pim: PimSpec, outputs: int, k: int, channels: int) -> ChannelRun:
    organisation = pim.organisation
    banks = channels * organisation.banks_per_channel
    is_narrow = 2 * k <= organisation.operands_per_row
    lower = packed_vectors if is_narrow else matrix_vector
    program = lower(organisation, k, outputs, banks)
    return run_program(program, pim.timing, organisation.banks_per_channel, refresh=pim.refreshes)


def _together(banks_pj: float | None, times: int, host_pj: float) -> float | None:
    return None if banks_pj is None else times * banks_pj + host_pj


def _host_pj(machine: MachineSpec, n_bytes: float, operations: Mapping[str, int]) -> float:
    """The host's energy: bytes over the pins, and its lanes."""
    lanes = sum(machine.energy.vector_pj.get(name, 0.0) * n for name, n in operations.items())
    return n_bytes * machine.energy.dram_read_pj_per_byte + lanes


def _elementwise(machine: MachineSpec, n: int, operations: Mapping[str, int]) -> float:
    """Seconds of the host's lanes for ``n`` values."""
    costs = machine.vector.cycles
    cycles = sum(times * costs.get(name, 1) for name, times in operations.items())
    return machine.seconds(-(-n * cycles // (machine.vector.lanes * machine.n_cores)))
