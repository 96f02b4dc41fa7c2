"""Number-theoretic transforms in exact integers: primes, roots, matrices of bytes, and four ways to reduce.

The transform of N = rows x columns residues modulo q is that of polynomials modulo X^N + 1: y[k] = sum of x[j]
psi^(j (2k + 1)) with psi^N = -1. In four steps (Bailey 1990): x[j1 columns + j2] as a matrix, a product over j1, a
factor for each element, a product over j2; y[k1 + rows k2] stands at (k1, k2). Products are of bytes: with b_q the
bytes of x, x w = sum of b_q (2^(8q) w mod q), and these residues are bytes again, so that a residue times a constant is
4 x 4 byte products (CROSS, arXiv 2501.07047).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "JOIN",
    "NOT_REDUCED",
    "N_BYTES",
    "REDUCTIONS",
    "REDUCTION_WORK",
    "WIDE_PRODUCT",
    "byte_matrix",
    "constant",
    "factors",
    "fold_matrix",
    "from_bytes",
    "ntt_moduli",
    "reduced",
    "step_matrix",
    "to_bytes",
]

Integers: TypeAlias = "npt.NDArray[np.uint64]"

N_BYTES = 4  # of a residue
WORD = 32
MODULUS_BITS = 28
REDUCTIONS = ("montgomery", "barrett", "shoup", "lazy")
NOT_REDUCED = "none"  # a word of 64 bits stays as it is

#: 32 x 32 to 64 bits in halves of 16: four products; eight operations to split and shift, eight to add with carries.
WIDE_PRODUCT = {"mul": 4, "add": 16}
#: Three more sums of 32 bits shifted into a word of 64 (two shifts each) and added with carry (four).
JOIN = {"add": 3 * (2 + 4)}
#: Operations on words of 32 bits (an addition stands for a shift, mask or choice, too) to reduce a word of 64.
REDUCTION_WORK = {
    # t = z_low q' (one product of words); high word of t q in halves; z_high + q - it
    "montgomery": {"mul": 5, "add": 15},
    # two products of words with the constant and one with q; sum, shift, difference, comparison, choice of 64 bits
    "barrett": {"mul": 12, "add": 66},
    # floor(a w 2^32 / q), of a wide product; t q and a difference, low words only
    "shoup": {"mul": 5, "add": 17},
    # the four high bytes times a 4 x 4 matrix of bytes, added to the low ones, and carried
    "lazy": {"mul": 16, "add": 36},
}


def _is_prime(n: int) -> bool:
    """Miller and Rabin with bases that are proven for all n below 3.2e9."""
    if n % 2 == 0:
        return n == 2
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7):
        x = pow(base, odd, n)
        if base % n == 0 or x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


@lru_cache(maxsize=64)
def ntt_moduli(n: int, limbs: int) -> tuple[int, ...]:
    """The ``limbs`` largest primes of 28 bits that are 1 modulo 2 n; fewer where there are not as many."""
    found: list[int] = []
    candidate = (2**MODULUS_BITS - 1) // (2 * n) * (2 * n) + 1
    while len(found) < limbs and candidate > 1:
        if _is_prime(candidate):
            found.append(candidate)
        candidate -= 2 * n
    return tuple(found)


@lru_cache(maxsize=256)
def _root(n: int, q: int) -> int:
    """psi with psi^n = -1 modulo q."""
    for base in range(2, q):
        psi = pow(base, (q - 1) // (2 * n), q)
        if pow(psi, n, q) == q - 1:
            return psi
    raise AssertionError(f"{q} has no root of order {2 * n}")


def constant(value: int, q: int, reduction: str) -> int:
    """A factor that is known beforehand, as the reduction wants it: times 2^32 for Montgomery's."""
    return (value << WORD) % q if reduction == "montgomery" else value % q


def step_matrix(rows: int, columns: int, q: int, step: int, reduction: str) -> Integers:
    """Of the first step (rows, rows), from j1 to k1; of the third (columns, columns), from j2 to k2."""
    import numpy as np

    n, psi = rows * columns, _root(rows * columns, q)
    size, stride = (rows, columns) if step == 1 else (columns, rows)
    extra = columns if step == 1 else 0  # psi^(j1 columns); psi^j2 is in the factors
    return np.array(
        [
            [constant(pow(psi, (2 * stride * j * k + extra * j) % (2 * n), q), q, reduction) for k in range(size)]
            for j in range(size)
        ],
        dtype=np.uint64,
    )


def factors(rows: int, columns: int, q: int, reduction: str) -> Integers:
    """Of the second step, (rows, columns) at (k1, j2)."""
    import numpy as np

    psi = _root(rows * columns, q)
    return np.array(
        [[constant(pow(psi, j * (2 * k + 1), q), q, reduction) for j in range(columns)] for k in range(rows)],
        dtype=np.uint64,
    )


def fold_matrix(q: int) -> Integers:
    """(4, 4): row b holds the bytes of 2^(32 + 8 b) modulo q, which the four high bytes of a word stand for."""
    import numpy as np

    return to_bytes(np.array([(1 << (WORD + 8 * b)) % q for b in range(N_BYTES)], dtype=np.uint64))


def to_bytes(values: Integers, n_bytes: int = N_BYTES) -> Integers:
    """(...) to (..., n_bytes), the lowest byte first."""
    import numpy as np

    shifts = np.arange(n_bytes, dtype=np.uint64) * np.uint64(8)
    return np.asarray((values[..., None] >> shifts) & np.uint64(255))


def from_bytes(parts: Integers) -> Integers:
    """(..., 4 or 8) of bytes, or of sums of them, to (...)."""
    import numpy as np

    shifts = np.arange(parts.shape[-1], dtype=np.uint64) * np.uint64(8)
    return np.asarray((parts.astype(np.uint64) << shifts).sum(-1, dtype=np.uint64))


def byte_matrix(matrix: Integers, q: int) -> Integers:
    """(k, n) constants as (4 k, 4 n) bytes: row (j, b) holds the bytes of 2^(8 b) times the constants of row j."""
    import numpy as np

    shifts = np.arange(N_BYTES, dtype=np.uint64) * np.uint64(8)
    shifted = (matrix[:, None, :] << shifts[None, :, None]) % np.uint64(q)
    k, n = matrix.shape
    return to_bytes(shifted).reshape(k * N_BYTES, n * N_BYTES)


def reduced(z: Integers, q: int, reduction: str) -> Integers:
    """z below 2^60 modulo q, by the reduction's own steps (Montgomery: z 2^-32), and then below q."""
    import numpy as np

    low, word, modulus = np.uint64(2**WORD - 1), np.uint64(WORD), np.uint64(q)
    if reduction == "montgomery":
        t = ((z & low) * np.uint64(pow(q, -1, 2**WORD))) & low
        z = (z >> word) + modulus - ((t * modulus) >> word)
    elif reduction == "lazy":
        powers = np.array([(1 << (8 * b)) % q for b in range(N_BYTES, 2 * N_BYTES)], dtype=np.uint64)
        while (z > low).any():
            z = (z & low) + (to_bytes(z >> word) * powers).sum(-1, dtype=np.uint64)
    else:  # Barrett; Shoup's of a product whose quotient is not stored is the same with the quotient of z
        bits = q.bit_length()
        scale = np.uint64((1 << (2 * bits)) // q)
        t = ((z >> np.uint64(bits - 1)) * scale) >> np.uint64(bits + 1)
        z = z - t * modulus
    return np.asarray(z % modulus)
