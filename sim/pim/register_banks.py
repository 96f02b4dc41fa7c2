"""Products on banks that are fed from registers (LPDDR5X): cycles by what they go to, in closed form.

Row blocks of ``tile_rows`` rows of the matrix go round the banks; a bank reads its part of every block once for each
vector, opens its rows one after another, takes the vector piece by piece into its registers, and writes its sums back.
The form is that of AMD's GeniePIM, whose figures it gives exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from tilewright.hw_models.pim.spec import PimSpec

__all__ = ["RegisterProduct", "register_product", "splits_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterProduct:
    """A product of an ``m`` x ``k`` matrix with ``n`` vectors; cycles of the memory's clock (fractions are exact).

    ``split``: so many groups of channels have a part of ``k`` each, and the host adds their sums.

    ``padded_m``: rows with those that fill the last round of banks. ``row_cycles``: opening rows. ``mac_cycles``:
    multiplying. ``vector_cycles``: the vector into registers, and turning for it. ``swap_cycles``: sums of blocks that
    share a piece of the vector. ``result_cycles``: sums into memory. ``host_bytes_in``, ``host_bytes_out``: what the
    host reads of the vectors before, and of the sums after.
    """

    m: int
    k: int
    n: int
    padded_m: int
    row_cycles: int
    mac_cycles: Fraction
    vector_cycles: int
    swap_cycles: int
    result_cycles: int
    host_bytes_in: int
    host_bytes_out: int
    split: int = 1

    @property
    def cycles(self) -> Fraction:
        """All of them: nothing overlaps."""
        return self.row_cycles + self.mac_cycles + self.vector_cycles + self.swap_cycles + self.result_cycles


def splits_of(pim: PimSpec, k: int) -> tuple[int, ...]:
    """Into how many groups channels can be shared out so that each has an equal part of ``k``."""
    channels = pim.organisation.n_channels
    return tuple(one for one in range(1, channels + 1) if channels % one == 0 and k % one == 0)


def register_product(pim: PimSpec, m: int, k: int, n: int, *, split: int = 1) -> RegisterProduct:
    """An ``m`` x ``k`` matrix that lies in the banks, times ``n`` vectors of ``k`` elements, one after another.

    ``split`` (of :func:`splits_of`): the matrix lies as one of ``split`` times the rows and a ``split``-th of the
    columns, each group of channels with its own piece of the vector: narrow matrices then fill the banks.
    """
    if split > 1:
        assert split in splits_of(pim, k)
        return replace(
            register_product(pim, m * split, k // split, n), m=m, k=k, host_bytes_in=_bytes_in(pim, k, n), split=split
        )
    registers, organisation, timing = pim.registers, pim.organisation, pim.timing
    assert registers is not None
    blocks = _up(m, registers.tile_rows * organisation.n_banks)
    padded = blocks * registers.tile_rows * organisation.n_banks
    rows = Fraction(padded * k * organisation.operand_bits, organisation.n_banks * organisation.row_bytes * 8)
    opened = _up(rows.numerator, rows.denominator)
    column = timing.column_long_cycles
    order = min(registers.tiles_in_order, blocks)
    rounds = _up(blocks, order)
    turn = registers.read_to_write_cycles + registers.write_to_read_cycles
    open_row = timing.precharge_cycles + timing.activate_to_mac_cycles

    pieces = _up(k * organisation.operand_bits, registers.input_bits)
    refills = _up(pieces, registers.input_registers)
    swapped = 0 if order == 1 else blocks - (blocks % order == 1)

    sums = _up(registers.tile_rows * registers.sum_bits, registers.output_bits)
    stores = sums * _up(registers.output_bits, organisation.access_bytes * 8) * order
    store = timing.precharge_cycles + max(timing.row_open_cycles, timing.activate_to_mac_cycles + stores * column)
    return RegisterProduct(
        m=m, k=k, n=n, padded_m=padded,
        row_cycles=n * opened * open_row,
        mac_cycles=n * rows * organisation.accesses_per_row * column,
        vector_cycles=n * rounds * (pieces * column + refills * turn),
        swap_cycles=n * refills * registers.swap_commands * swapped * column,
        result_cycles=n * rounds * (turn + store),
        host_bytes_in=_bytes_in(pim, k, n),
        host_bytes_out=n * padded * registers.sum_bits // 8,
    )  # fmt: skip


def _bytes_in(pim: PimSpec, k: int, n: int) -> int:
    return n * k * pim.organisation.operand_bits // 8


def _up(n: int, size: int) -> int:
    return -(-n // size)
