"""The Fourier neural operator in two dimensions (Li et al., arXiv 2010.08895), its transforms as complex products.

Only ``modes`` frequencies of each direction are kept (over rows of both signs), so that a transform is a product with
that many columns of the Fourier matrix: over columns (of real values), over rows, then a complex product of the
channels for each frequency, and both transforms back, of which the last has a real result.
"""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.workloads.compositions.complex_matmul import (
    Complex,
    Factor,
    complex_product,
    known_factor,
    real_part,
    times_complex,
)
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["fno_2d"]

_LAYERS = 4
_HEAD = 128  # width before the last layer
_INPUTS = 3  # the coefficient and the two places


def fno_2d(b: Layers, *, batch: int, image: int, modes: int, width: int, products: int) -> OperatorStream:
    """A field of ``image`` x ``image`` points to another one; ``products``: real ones of a complex product, 3 or 4."""
    if not 1 <= modes <= image // 2:
        raise InputError(f"{b.name}: modes: given {modes}; allowed 1 to {image // 2}, half of image")
    if products not in (3, 4):
        raise InputError(f"{b.name}: products: given {products}; allowed 3 or 4")
    with b.scope("fourier"):
        to_columns = known_factor(b, "columns", (modes, image), 4)
        to_rows = known_factor(b, "rows", (2 * modes, image), products)
        from_rows = known_factor(b, "rows_back", (image, 2 * modes), products)
        from_columns = known_factor(b, "columns_back", (image, modes), 4)
    x = b.linear(b.input("field", (batch, image, image, _INPUTS)), width, "lift")
    for index in range(_LAYERS):
        with b.scope("layers", index):
            z = times_complex(b, b.view(x, (batch, image, width, image), order=(0, 1, 3, 2)), to_columns, "columns")
            z = complex_product(b, _turned(b, z, (0, 2, 3, 1)), to_rows, "rows", products=products)
            z = complex_product(b, _turned(b, z, (2, 3, 0, 1)), _mixing(b, z, products), "mix", products=products)
            z = complex_product(b, _turned(b, z, (2, 0, 3, 1)), from_rows, "rows_back", products=products)
            y = real_part(b, _turned(b, z, (0, 3, 2, 1)), from_columns, "columns_back")
            around = b.linear(x, width, "around")
            y = b.elementwise("add", around, b.view(y, (batch, image, image, width), order=(0, 1, 3, 2)))
            x = b.elementwise("gelu", y) if index < _LAYERS - 1 else y
    x = b.elementwise("gelu", b.linear(x, _HEAD, "head"))
    return b.finish([b.linear(x, 1, "project")], n_parameters=b.n_parameters)


def _turned(b: Layers, z: Complex, order: tuple[int, ...]) -> Complex:
    """Both parts read in another order of their dimensions."""
    shape = [b.shape(z.real)[axis] for axis in order]
    return Complex(*(b.view(part, shape, order=order) for part in z))


def _mixing(b: Layers, z: Complex, products: int) -> Factor:
    """A complex matrix of channels by channels for each frequency of z (batch, channels, columns, rows)."""
    _, width, columns, rows = b.shape(z.real)
    b.n_parameters += 2 * columns * rows * width**2
    return known_factor(b, "mix", (columns * rows, width, width), products)
