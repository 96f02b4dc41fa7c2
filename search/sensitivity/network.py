"""A trained PyTorch module whose layers can be quantised, each in its own formats, and really run so.

Layers are ``Conv2d`` and ``Linear`` modules, by their names in the module, which are also their names in the operator
stream that ``stream_from_torch`` gives. A quantised layer multiplies dequantised numbers: what an array with wide sums
gives, in whatever format it multiplies.

Activations in integers get one scale a tensor, found on calibration data (least squared error among 40 clips; codes
start at zero where no value is negative). Small floats are scaled to each token's largest value as it comes. From 16
bits on they stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.formats import element_format, format_bits, number_format
from tilewright.search.sensitivity.weights import QuantisedWeights, float_grid, quantise_weights

__all__ = ["LayerFormats", "QuantisableNetwork"]

Tensor = Any  # torch.Tensor; torch is optional
Module = Any

_CLIPS = 40
_SAMPLED = 1 << 16  # values of an activation kept for finding its scale
_INSTALL = "sensitivities need PyTorch; install it with: pip install 'tilewright[bits]'"


@dataclass(frozen=True, slots=True)
class LayerFormats:
    """What a layer's weights are stored in, by which method, and what its input is rounded to."""

    weights: str
    activations: str
    method: str = ""


@dataclass(slots=True)
class _Seen:
    """What calibration saw of a layer's input: a sample of its values, its range, and its multiply-adds a batch."""

    sample: Tensor
    low: float
    high: float
    macs: int
    batch: int


class QuantisableNetwork:
    """``module`` in evaluation mode; ``calibration`` is a batch of inputs (the first argument of the module).

    Raises InputError without PyTorch, and for a module without layers.
    """

    def __init__(self, module: Module, calibration: Tensor) -> None:
        try:
            import torch
        except ImportError:
            raise InputError(_INSTALL) from None
        self.module = module.eval()
        self.calibration = calibration
        kinds = (torch.nn.Conv2d, torch.nn.Linear)
        self.layers: dict[str, Module] = {n: m for n, m in module.named_modules() if isinstance(m, kinds)}
        if not self.layers:
            raise InputError("sensitivity: the module has no Conv2d or Linear layer")
        self._seen = self._watched()
        self._weights: dict[tuple[str, str, str], QuantisedWeights] = {}
        self._scales: dict[tuple[str, int], tuple[float, int, int]] = {}

    def macs(self, name: str) -> int:
        """Multiply-adds of a layer for one input."""
        seen = self._seen[name]
        return seen.macs // seen.batch

    def quantised_weights(self, name: str, weights: str, method: str = "") -> QuantisedWeights:
        """A layer's weights in a format; worked out once."""
        key = (name, weights, method)
        if key not in self._weights:
            layer = self.layer(name)
            wide = _is_wide(weights)
            self._weights[key] = (
                QuantisedWeights(layer.weight.detach(), layer.weight.numel() * format_bits(weights))
                if wide
                else quantise_weights(layer.weight, weights, method)
            )
        return self._weights[key]

    def layer(self, name: str) -> Module:
        """The layer called ``name``; raises InputError with the nearest name."""
        if name not in self.layers:
            raise unknown("layer", name, self.layers)
        return self.layers[name]

    @contextmanager
    def quantised(self, formats: Mapping[str, LayerFormats]) -> Iterator[Module]:
        """The module with the layers of ``formats`` quantised; as it was again afterwards."""
        import torch

        before = {name: self.layer(name).weight.data for name in formats}
        hooks = []
        try:
            for name, chosen in formats.items():
                layer = self.layers[name]
                layer.weight.data = self.quantised_weights(name, chosen.weights, chosen.method).values
                rounding = self._rounding(name, chosen.activations)
                if rounding is not None:
                    hooks.append(layer.register_forward_pre_hook(rounding))
            with torch.no_grad():
                yield self.module
        finally:
            for hook in hooks:
                hook.remove()
            for name, weights in before.items():
                self.layers[name].weight.data = weights

    def output(self, formats: Mapping[str, LayerFormats], inputs: Tensor) -> Tensor:
        """What the network gives for ``inputs`` with the layers of ``formats`` quantised."""
        with self.quantised(formats) as module:
            return module(inputs)

    def layer_output(self, name: str, formats: Mapping[str, LayerFormats]) -> Tensor:
        """What one layer gives on the calibration data."""
        found: list[Tensor] = []
        hook = self.layer(name).register_forward_hook(lambda module, given, out: found.append(out.detach()))
        try:
            self.output(formats, self.calibration)
        finally:
            hook.remove()
        return found[-1]

    def _watched(self) -> dict[str, _Seen]:
        import torch

        seen: dict[str, _Seen] = {}

        def watch(name: str) -> Callable[[Module, Any, Tensor], None]:
            def hook(module: Module, given: Sequence[Tensor], out: Tensor) -> None:
                values = given[0].detach().flatten()
                sample = values[:: max(1, values.numel() // _SAMPLED)].double()
                seen[name] = _Seen(sample, float(values.min()), float(values.max()), _macs(module, out), len(given[0]))

            return hook

        hooks = [layer.register_forward_hook(watch(name)) for name, layer in self.layers.items()]
        try:
            with torch.no_grad():
                self.module(self.calibration)
        finally:
            for hook in hooks:
                hook.remove()
        missing = self.layers.keys() - seen.keys()
        for name in missing:
            del self.layers[name]  # never called: it costs nothing and decides nothing
        return seen

    def _rounding(self, name: str, activations: str) -> Callable[[Module, Sequence[Tensor]], Tensor] | None:
        if _is_wide(activations):
            return None
        element = number_format(element_format(activations))
        if element.kind == "float":
            return lambda module, given: float_grid(
                given[0], given[0].abs().amax(-1, keepdim=True).clamp_min(1e-20), element.exponent_bits,
                element.mantissa_bits,
            )  # fmt: skip
        scale, low, high = self._scale(name, element.bits)
        return lambda module, given: (given[0] / scale).round().clamp(low, high) * scale

    def _scale(self, name: str, bits: int) -> tuple[float, int, int]:
        """Step, least and largest code of a layer's input in integers of ``bits``."""
        import torch

        if (name, bits) in self._scales:
            return self._scales[name, bits]
        seen = self._seen[name]
        low, high = (0, 2**bits - 1) if seen.low >= 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        reach = max(seen.high, -seen.low, 1e-20)
        best = (float("inf"), reach / high)
        for share in torch.linspace(1.0, 0.2, _CLIPS).tolist():
            step = reach * share / max(high, 1)
            error = float(((seen.sample / step).round().clamp(low, high) * step - seen.sample).square().mean())
            best = min(best, (error, step))
        self._scales[name, bits] = (best[1], low, high)
        return self._scales[name, bits]


def _is_wide(name: str) -> bool:
    return format_bits(element_format(name)) >= 16


def _macs(layer: Module, out: Tensor) -> int:
    if hasattr(layer, "kernel_size"):
        per_output = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        return int(out.numel() * per_output)
    return int(out.numel() * layer.in_features)
