"""Scans of reference modules, kept whole in an export: loops over tokens and chunks become one operator each.

The models of transformers write their scans out in functions that carry the same names in every model, as stand-ins
of the kernels that they take where these are installed (selective scan, Mamba-2's scan, gated and Kimi's delta rule,
the short convolution before them, and the single steps of all). While a module is exported, these functions, in the
files that its classes come from, call one operator of the library ``tilewright`` instead; what they do before and after
the scan (biases, gates, norms of queries and keys) stays apart. Code of one's own with functions of these names and
arguments is treated alike.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

__all__ = ["LIBRARY", "as_operators"]

LIBRARY = "tilewright"
Function: TypeAlias = Callable[..., Any]
_SILU = ("silu", "swish")


@cache
def _operators() -> Any:
    """The operators, as torch knows them: shapes alone, they are exported and never run."""
    import torch

    library = torch.library.Library(LIBRARY, "FRAGMENT")
    scan = "Tensor? state) -> (Tensor, Tensor)"
    shapes: Mapping[str, tuple[str, Function]] = {
        "selective_scan": (f"(Tensor x, Tensor dt, Tensor B, Tensor C, Tensor A, Tensor D, {scan}", _selective_shapes),
        "ssd": (f"(Tensor x, Tensor dt, Tensor B, Tensor C, Tensor A, Tensor D, Tensor dt_bias, {scan}", _ssd_shapes),
        "delta_rule": (f"(Tensor q, Tensor k, Tensor v, Tensor gates, Tensor beta, {scan}", _delta_shapes),
        "causal_conv": (
            "(Tensor x, Tensor weight, Tensor? bias, Tensor? state, bool plain) -> (Tensor, Tensor)", _conv_shapes,
        ),
    }  # fmt: skip
    for name, (signature, fake) in shapes.items():
        library.define(f"{name}{signature}")
        torch.library.register_fake(f"{LIBRARY}::{name}", fake, lib=library)
    _KEPT.append(library)
    return getattr(torch.ops, LIBRARY)


_KEPT: list[Any] = []  # a library's operators are there as long as it is


def _selective_shapes(x: Any, dt: Any, B: Any, C: Any, A: Any, D: Any, state: Any) -> Any:
    return x.new_empty(x.shape), x.new_empty((x.shape[0], *A.shape))


def _ssd_shapes(x: Any, dt: Any, B: Any, C: Any, A: Any, D: Any, dt_bias: Any, state: Any) -> Any:
    return x.new_empty(x.shape), x.new_empty((x.shape[0], *x.shape[2:], B.shape[-1]))


def _delta_shapes(q: Any, k: Any, v: Any, gates: Any, beta: Any, state: Any) -> Any:
    return v.new_empty(v.shape), v.new_empty((v.shape[0], v.shape[2], k.shape[-1], v.shape[-1]))


def _conv_shapes(x: Any, weight: Any, bias: Any, state: Any, plain: bool) -> Any:
    return x.new_empty(x.shape), x.new_empty((x.shape[0], x.shape[2], weight.shape[-1] - 1))


# --- the functions of the models ------------------------------------------------------------------------------------


def _selective_scan(own: Function) -> Function:
    def replaced(hidden_states: Any, dt: Any, A: Any, B: Any, C: Any, D: Any = None, z: Any = None,
                 delta_bias: Any = None, delta_softplus: bool = False, return_last_state: bool = False,
                 **more: Any) -> Any:  # fmt: skip
        if D is None or not delta_softplus:
            return own(hidden_states, dt, A, B, C, D=D, z=z, delta_bias=delta_bias, delta_softplus=delta_softplus,
                       return_last_state=return_last_state, **more)  # fmt: skip
        if delta_bias is not None:
            dt = dt + delta_bias.to(dt.dtype)[..., None]
        x, dt, B, C = (one.transpose(1, 2) for one in (hidden_states, dt, B, C))
        y, state = _operators().selective_scan(x, dt, B, C, A, D, None)
        y = _gated(y.transpose(1, 2), z)
        return (y, state) if return_last_state else y

    return replaced


def _selective_step(own: Function) -> Function:
    def replaced(state: Any, hidden_states: Any, dt: Any, A: Any, B: Any, C: Any, D: Any = None,
                 dt_bias: Any = None, dt_softplus: bool = False, z: Any = None, **more: Any) -> Any:  # fmt: skip
        if D is None or not dt_softplus:
            return own(state, hidden_states, dt, A, B, C, D=D, dt_bias=dt_bias, dt_softplus=dt_softplus, z=z, **more)
        if dt_bias is not None:
            dt = dt + dt_bias.to(dt.dtype)
        x, dt, B, C = (one[:, None] for one in (hidden_states, dt, B, C))
        y, after = _operators().selective_scan(x, dt, B, C, A, D, state)
        state.copy_(after)
        return _gated(y[:, 0], z)

    return replaced


def _ssd_scan(own: Function) -> Function:
    def replaced(hidden_states: Any, dt: Any, A: Any, B: Any, C: Any, chunk_size: int, D: Any = None,
                 dt_bias: Any = None, initial_states: Any = None, dt_softplus: bool = False,
                 return_final_states: bool = False, **more: Any) -> Any:  # fmt: skip
        if D is None or dt_bias is None or not dt_softplus:
            return own(hidden_states, dt, A, B, C, chunk_size, D=D, dt_bias=dt_bias, initial_states=initial_states,
                       dt_softplus=dt_softplus, return_final_states=return_final_states, **more)  # fmt: skip
        y, state = _operators().ssd(hidden_states, dt, B, C, A, D, dt_bias, initial_states)
        y = _gated(y, more.get("z"))
        return (y, state) if return_final_states else y

    return replaced


def _ssd_step(own: Function) -> Function:
    def replaced(state: Any, hidden_states: Any, dt: Any, A: Any, B: Any, C: Any, D: Any = None,
                 dt_bias: Any = None, dt_softplus: bool = False, z: Any = None, **more: Any) -> Any:  # fmt: skip
        if D is None or dt_bias is None or not dt_softplus or A.dim() != 3:
            return own(state, hidden_states, dt, A, B, C, D=D, dt_bias=dt_bias, dt_softplus=dt_softplus, z=z, **more)
        x, B, C = (one[:, None] for one in (hidden_states, B, C))
        steps = (dt[:, None, :, 0], A[:, 0, 0], D[:, 0], dt_bias[:, 0])
        y, after = _operators().ssd(x, steps[0], B, C, *steps[1:], state)
        state.copy_(after)
        return _gated(y[:, 0], z)

    return replaced


def _delta(own: Function) -> Function:
    def replaced(query: Any, key: Any, value: Any, g: Any, beta: Any, initial_state: Any = None, **more: Any) -> Any:
        if more.get("use_qk_l2norm_in_kernel"):
            query, key = (one * ((one * one).sum(-1, keepdim=True) + 1e-6).rsqrt() for one in (query, key))
        query = query * query.shape[-1] ** -0.5
        y, state = _operators().delta_rule(query, key, value, g, beta, initial_state)
        return y, state if more.get("output_final_state") else None

    return replaced


def _conv(own: Function) -> Function:
    def replaced(hidden_states: Any, weight: Any, bias: Any = None, activation: Any = None, **more: Any) -> Any:
        if activation is not None and activation not in _SILU:
            return own(hidden_states, weight, bias, activation=activation, **more)
        x = hidden_states.transpose(1, 2)
        y, _ = _operators().causal_conv(x, weight, bias, None, activation is None)
        return y.transpose(1, 2)

    return replaced


def _conv_step(own: Function) -> Function:
    def replaced(hidden_states: Any, conv_state: Any, weight: Any, bias: Any = None, activation: Any = None) -> Any:
        width, kept = weight.shape[-1], conv_state.shape[-1]
        if (activation is not None and activation not in _SILU) or kept < width - 1 or hidden_states.shape[-1] != 1:
            return own(hidden_states, conv_state, weight, bias, activation)
        before = conv_state[:, :, kept - (width - 1) :]
        y, _ = _operators().causal_conv(hidden_states.transpose(1, 2), weight, bias, before, activation is None)
        return y.transpose(1, 2)

    return replaced


def _gated(y: Any, z: Any) -> Any:
    import torch

    return y if z is None else y * torch.nn.functional.silu(z)


#: Functions by name, the arguments that one must have to be meant, and what takes its place.
_REPLACED: Mapping[str, tuple[tuple[str, ...], Callable[[Function], Function]]] = {
    "mamba_selective_scan": (("hidden_states", "dt", "A", "B", "C", "delta_softplus"), _selective_scan),
    "mamba_selective_state_update": (("state", "hidden_states", "dt", "A", "B", "C"), _selective_step),
    "mamba2_chunk_scan": (("hidden_states", "dt", "A", "B", "C", "chunk_size", "initial_states"), _ssd_scan),
    "mamba2_selective_state_update": (("state", "hidden_states", "dt", "A", "B", "C"), _ssd_step),
    **dict.fromkeys(
        (
            "torch_chunk_gated_delta_rule",
            "torch_recurrent_gated_delta_rule",
            "chunk_kimi_delta_attention",
            "recurrent_kimi_delta_attention",
        ),
        (("query", "key", "value", "g", "beta", "initial_state"), _delta),
    ),
    "causal_conv1d_fn": (("hidden_states", "weight", "bias", "activation"), _conv),
    "causal_conv1d_update": (("hidden_states", "conv_state", "weight", "bias", "activation"), _conv_step),
}


@contextlib.contextmanager
def as_operators(module: Any) -> Iterator[None]:
    """Inside, the scans of ``module``'s classes are single operators."""
    files = {type(one).__module__ for one in module.modules()}
    before: list[tuple[Any, str, Function]] = []
    try:
        for file in map(sys.modules.get, sorted(files)):
            for name, (needed, make) in _REPLACED.items():
                own = getattr(file, name, None)
                if callable(own) and set(needed) <= set(_arguments(own)):
                    before.append((file, name, own))
                    setattr(file, name, make(own))
        yield
    finally:
        for file, name, own in before:
            setattr(file, name, own)


def _arguments(function: Function) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()
