"""The layers that the networks of the zoo are made of, each added to a stream as the operators it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tilewright.errors import InputError
from tilewright.workloads.attention import Mask
from tilewright.workloads.compositions.kronecker_matmul import kronecker_product
from tilewright.workloads.operators import Role
from tilewright.workloads.stream.builder import StreamBuilder

__all__ = ["Layers"]

INDEX_FORMAT = "int32"


class Layers(StreamBuilder):
    """A :class:`StreamBuilder` that speaks in layers; each method returns the name of the layer's result.

    ``n_parameters`` counts the trained parameters as published, also those that inference folds away. ``mask`` is the
    mask of self-attention that was asked for, of networks that have the option.
    """

    n_parameters = 0
    mask = "none"

    # --- tensors ------------------------------------------------------------------------------------------------------

    def trained(self, name: str, *shape: int) -> str:
        """A weight that counts as so many parameters."""
        self.n_parameters += math.prod(shape)
        return self.weight(name, shape)

    def indices(self, name: str, *shape: int) -> str:
        """An input of whole numbers, such as tokens."""
        return self.input(name, shape, number_format=INDEX_FORMAT)

    # --- matrix layers ------------------------------------------------------------------------------------------------

    def linear(
        self, x: str, n_out: int, name: str, *, bias: bool = True, weight: str = "", role: Role = "activation"
    ) -> str:
        """x (..., n_in) times a weight (n_in, n_out), plus a bias; ``weight`` names one that is there already."""
        *lead, n_in = self.shape(x)
        inputs = [x, weight or self.trained(f"{name}.weight", n_out, n_in)]
        if bias:
            inputs.append(self.trained(f"{name}.bias", n_out))
        sizes = {"batch": 1, "m": math.prod(lead), "k": n_in, "n": n_out}
        return self.add("matmul", name, inputs, [*lead, n_out], sizes, role=role)

    def kronecker(self, x: str, n_out: int, block: int, name: str) -> str:
        """x (..., n_in) times a Kronecker product of (n_out / block, n_in / block) and (block, block), plus a bias.

        Raises InputError where the block does not divide both widths.
        """
        n_in = self.shape(x)[-1]
        if n_in % block or n_out % block:
            raise InputError(f"{self.name}: block: given {block}; allowed divisors of {n_in} and {n_out}")
        a = self.trained(f"{name}.a", n_out // block, n_in // block)
        y = kronecker_product(self, x, a, self.trained(f"{name}.b", block, block), name)
        return self.elementwise("add", y, self.trained(f"{name}.bias", n_out))

    def product(self, a: str, b: str, name: str) -> str:
        """a (batch, heads, m, k) times b (batch, heads, k, n), both computed by the network."""
        *lead, m, k = self.shape(a)
        n = self.shape(b)[-1]
        return self.add("matmul", name, [a, b], [*lead, m, n], {"batch": math.prod(lead), "m": m, "k": k, "n": n})

    def conv(
        self,
        x: str,
        n_out: int,
        kernel: int | tuple[int, int],
        name: str,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        batch_norm: bool = False,
        padding: int | Literal["same"] | None = None,
        dilation: int = 1,
    ) -> str:
        """A convolution of x (batch, channels, height, width), padded by (kernel - 1) / 2 unless said otherwise.

        ``kernel``: its side, or height and width. ``padding`` "same": as little as makes the map ceil(size / stride),
        the odd one behind it. ``dilation`` spreads the taps, and the usual padding with them.

        ``batch_norm``: without a bias, and followed by a batch norm that is folded into weight and bias.
        """
        batch, n_in, *in_size = self.shape(x)
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        spans = [dilation * (side - 1) for side in sides]
        before = [span // 2 if not isinstance(padding, int) else padding for span in spans]
        behind = before
        if padding == "same":
            spare = [
                max(0, -(-size // stride) * stride - stride + span + 1 - size)
                for size, span in zip(in_size, spans, strict=True)
            ]
            before, behind = [one // 2 for one in spare], [one - one // 2 for one in spare]
        out_size = [
            (size + one + other - span - 1) // stride + 1
            for size, one, other, span in zip(in_size, before, behind, spans, strict=True)
        ]
        inputs = [x, self.trained(f"{name}.weight", n_out, n_in // groups, *sides)]
        if bias or batch_norm:
            inputs.append(self.trained(f"{name}.bias", n_out))
        self.n_parameters += n_out if batch_norm else 0  # the norm has a scale and a shift; the shift is the bias
        attributes = {
            "batch": batch,
            "groups": groups,
            "in_channels": n_in,
            "out_channels": n_out,
            "in_size": in_size,
            "out_size": out_size,
            "kernel": sides,
            "stride": (stride, stride),
            "padding": (*before, *behind),
            "dilation": (dilation, dilation),
            "transposed": False,
            **({"batch_norm": True} if batch_norm else {}),
        }
        return self.add("conv", name, inputs, [batch, n_out, *out_size], attributes)

    def deformable_conv(
        self,
        x: str,
        offsets: str,
        n_out: int,
        kernel: int,
        name: str,
        *,
        groups: int = 1,
        bias: bool = True,
        shape: str = "free",
        bound: int = 0,
        sampling: str = "bilinear",
    ) -> str:
        """A convolution of x (batch, channels, height, width) whose taps lie at ``offsets`` from their usual places.

        Padded by (kernel - 1) / 2; with a ``bias``, into which a batch norm behind it is folded. ``shape``, ``bound``
        and ``sampling``: as of the operator kind ``deformable_conv``.
        """
        batch, n_in, *size = self.shape(x)
        inputs = [x, self.trained(f"{name}.weight", n_out, n_in // groups, kernel, kernel), offsets]
        if bias:
            inputs.append(self.trained(f"{name}.bias", n_out))
            self.n_parameters += n_out  # of the norm's scale and shift one is the bias
        attributes = {
            "batch": batch,
            "groups": groups,
            "in_channels": n_in,
            "out_channels": n_out,
            "in_size": size,
            "out_size": size,
            "kernel": (kernel, kernel),
            "stride": (1, 1),
            "padding": (kernel // 2,) * 4,
            "dilation": (1, 1),
            "shape": shape,
            "bound": bound,
            "sampling": sampling,
        }
        return self.add("deformable_conv", name, inputs, [batch, n_out, *size], attributes)

    def transposed_conv(
        self, x: str, n_out: int, kernel: int, name: str, *, stride: int, batch_norm: bool = False
    ) -> str:
        """A transposed convolution of x (batch, channels, height, width) to maps ``stride`` times as large.

        ``kernel`` is at least ``stride``. ``batch_norm``: as in :meth:`conv`.
        """
        batch, n_in, *in_size = self.shape(x)
        out_size = [stride * size for size in in_size]
        before = (kernel - stride) // 2
        after = kernel - stride - before
        inputs = [x, self.trained(f"{name}.weight", n_in, n_out, kernel, kernel), self.trained(f"{name}.bias", n_out)]
        self.n_parameters += n_out if batch_norm else 0
        attributes = {
            "batch": batch,
            "groups": 1,
            "in_channels": n_in,
            "out_channels": n_out,
            "in_size": in_size,
            "out_size": out_size,
            "kernel": (kernel, kernel),
            "stride": (stride, stride),
            "padding": (before, before, after, after),
            "dilation": (1, 1),
            "transposed": True,
        }
        return self.add("conv", name, inputs, [batch, n_out, *out_size], attributes)

    def attention(
        self,
        q: str,
        k: str,
        v: str,
        name: str,
        *,
        head_dim: int,
        mask: Mask | str = "none",
        window_left: int | None = None,
        window_right: int | None = None,
        bias: str = "",
        sinks: str = "",
        soft_cap: float | None = None,
        as_module: bool = False,
    ) -> str:
        """Attention of q (batch, queries, heads x head_dim) to k and v (batch, keys, key/value heads x head_dim).

        ``bias`` and ``sinks`` name tensors: what is added to the scores, and a logit per query head. ``as_module``: the
        published code calls its framework's own module for all heads.
        """
        batch, n_queries, width = self.shape(q)
        _, n_keys, kv_width = self.shape(k)
        heads, kv_heads = width // head_dim, kv_width // head_dim
        inputs = [
            self.view(q, (batch, heads, n_queries, head_dim), "heads"),
            self.view(k, (batch, kv_heads, n_keys, head_dim), "heads"),
            self.view(v, (batch, kv_heads, n_keys, head_dim), "heads"),
        ]
        attributes = {
            "batch": batch,
            "query_heads": heads,
            "kv_heads": kv_heads,
            "query_len": n_queries,
            "key_len": n_keys,
            "head_dim": head_dim,
            "value_dim": head_dim,
            "mask": mask,
            **({} if window_left is None else {"window_left": window_left}),
            **({} if window_right is None else {"window_right": window_right}),
            **({"bias": True} if bias else {}),
            **({"sinks": True} if sinks else {}),
            **({} if soft_cap is None else {"soft_cap": soft_cap}),
            **({"as_module": True} if as_module else {}),
        }
        inputs += [name for name in (bias, sinks) if name]
        result = self.add("attention", name, inputs, (batch, heads, n_queries, head_dim), attributes)
        return self.view(result, (batch, n_queries, width), "rows")

    # --- what vector units do -----------------------------------------------------------------------------------------

    def elementwise(self, function: str, *inputs: str, name: str = "", role: Role = "activation") -> str:
        """``function`` of tensors that broadcast to each other."""
        n_dims = max(len(self.shape(x)) for x in inputs)
        padded = [(1,) * (n_dims - len(self.shape(x))) + self.shape(x) for x in inputs]
        shape = [max(extents) for extents in zip(*padded, strict=True)]
        attributes = {"function": function, "n_elements": math.prod(shape)}
        return self.add("elementwise", name or function, inputs, shape, attributes, role=role)

    def norm(
        self,
        x: str,
        name: str,
        *,
        function: str = "layer",
        groups: int = 1,
        affine: bool = True,
        weights: Sequence[str] = (),
    ) -> str:
        """Layer or RMS norm over the last dimension of x, or group norm over channels of (batch, channels, ...).

        ``weights`` names scale and shift that are there already.
        """
        shape = self.shape(x)
        width = shape[1] if function == "group" else shape[-1]
        rows = shape[0] * groups if function == "group" else math.prod(shape) // width
        inputs = [x, *weights]
        if affine and not weights:
            inputs.append(self.trained(f"{name}.weight", width))
            inputs += [self.trained(f"{name}.bias", width)] if function != "rms" else []
        attributes = {"function": function, "rows": rows, "columns": math.prod(shape) // rows}
        return self.add("norm", name, inputs, shape, attributes)

    def channel_scale(self, x: str, name: str) -> str:
        """A batch norm of x (batch, channels, ...) with known statistics: a factor and a summand for each channel."""
        shape = self.shape(x)
        inputs = [x, self.trained(f"{name}.weight", shape[1]), self.trained(f"{name}.bias", shape[1])]
        rows = shape[0] * shape[1]
        attributes = {"function": "batch", "rows": rows, "columns": math.prod(shape) // rows}
        return self.add("norm", name, inputs, shape, attributes)

    def global_mean(self, x: str, name: str = "pool") -> str:
        """The mean of each channel of x (batch, channels, height, width), as (batch, channels)."""
        batch, channels, *size = self.shape(x)
        attributes = {"function": "mean", "rows": batch * channels, "columns": math.prod(size)}
        return self.add("reduction", name, [x], (batch, channels), attributes)

    def max_pool(
        self, x: str, kernel: int, name: str = "pool", *, stride: int, padding: int, ceil: bool = False
    ) -> str:
        """The greatest value of each square window of x (batch, channels, height, width).

        ``ceil``: a window that is only partly on the map counts too; the map is padded behind its end for it.
        """
        return self._pool("max", x, kernel, name, stride, padding, ceil=ceil)

    def average_pool(self, x: str, kernel: int, name: str = "pool", *, stride: int, padding: int) -> str:
        """The mean of each square window of x (batch, channels, height, width)."""
        return self._pool("average", x, kernel, name, stride, padding, ceil=False)

    def _pool(self, function: str, x: str, kernel: int, name: str, stride: int, padding: int, *, ceil: bool) -> str:
        batch, channels, *in_size = self.shape(x)
        spare = [-(extent + 2 * padding - kernel) % stride if ceil else 0 for extent in in_size]
        out_size = [
            (extent + 2 * padding + more - kernel) // stride + 1 for extent, more in zip(in_size, spare, strict=True)
        ]
        attributes = {
            "function": function,
            "batch": batch,
            "channels": channels,
            "in_size": in_size,
            "out_size": out_size,
            "kernel": (kernel, kernel),
            "stride": (stride, stride),
            "padding": (padding, padding, *(padding + more for more in spare)),
        }
        return self.add("pool", name, [x], (batch, channels, *out_size), attributes)

    # --- data that moves ----------------------------------------------------------------------------------------------

    def embedding(self, indices: str, n_rows: int, width: int, name: str) -> str:
        """The rows of a trained table (n_rows, width) at ``indices``."""
        return self.lookup(self.trained(f"{name}.weight", n_rows, width), indices, name)

    def lookup(self, table: str, indices: str, name: str) -> str:
        """The rows of ``table`` at ``indices``."""
        width = self.shape(table)[-1]
        shape = (*self.shape(indices), width)
        attributes = {"rows": math.prod(self.shape(indices)), "columns": width}
        return self.add("gather", name, [table, indices], shape, attributes)

    def concat(self, inputs: Sequence[str], axis: int, name: str = "concat") -> str:
        """Tensors joined along ``axis``."""
        shapes = [list(self.shape(x)) for x in inputs]
        shape = shapes[0]
        shape[axis] = sum(one[axis] for one in shapes)
        return self.add("reshape", name, inputs, shape, {"function": "concat"})

    def append(self, cache: str, new: str, axis: int, name: str = "append") -> str:
        """``new`` written behind the end of ``cache``; only the new values move."""
        shape = list(self.shape(cache))
        shape[axis] += self.shape(new)[axis]
        return self.add("reshape", name, [cache, new], shape, {"function": "append"}, role="cache")

    def upsample(self, x: str, factor: int, name: str = "upsample") -> str:
        """Each value of x (batch, channels, height, width) repeated ``factor`` times in both directions."""
        batch, channels, *size = self.shape(x)
        shape = (batch, channels, *(extent * factor for extent in size))
        return self.add("reshape", name, [x], shape, {"function": "upsample"})

    def pixel_rows(self, x: str) -> str:
        """A map (batch, channels, sizes...) as rows of channels, a pixel each: another order of reading."""
        batch, channels, *sizes = self.shape(x)
        n = math.prod(sizes)
        return self.view(x, (batch, n, channels), "rows", split=(batch, channels, n), order=(0, 2, 1))

    def pixel_map(self, x: str, *sizes: int) -> str:
        """Rows (batch, pixels, channels) as the map (batch, channels, sizes...): another order of reading."""
        batch, _, channels = self.shape(x)
        return self.view(x, (batch, channels, *sizes), "map", order=(0, 2, 1))

    def part(self, x: str, first: int, n: int, axis: int = -1) -> str:
        """``n`` entries of x along ``axis``, read in place; parts at different places are different views."""
        shape = list(self.shape(x))
        start = [0] * len(shape)
        shape[axis], start[axis] = n, first
        return self.view(x, shape, f"from_{first}", start=start)
