"""How much a layer's quantisation costs: error measures of one layer at a time, in the order from cheap to faithful.

* ``weight_error``: ||W - Q(W)||^2.
* ``hessian``: the mean Hessian eigenvalue of the layer (Hutchinson's estimate of the trace over its size) x
  ||W - Q(W)||^2, as HAWQ-V3 has it (arXiv 2011.10680).
* ``fisher``: half the sum of squared gradients x squared weight errors.
* ``layer_mse``: mean squared error of what the layer gives, weights and input quantised, over the mean square.
* ``output_mse``: the same of what the network gives; ``sqnr_db`` is its logarithm.
* ``cosine``: 1 - cosine similarity of what the network gives, sample by sample: for blocks whose direction matters more
  than their length, as attention's.
* ``loss``: the rise of the loss on the calibration data (may be negative).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tilewright.registry import Registry
from tilewright.search.sensitivity.network import LayerFormats, QuantisableNetwork

__all__ = ["MEASURES", "Calibration", "channel_salience", "hessian_traces", "sqnr_db"]

Tensor = Any  # torch.Tensor; torch is optional
Loss = Callable[[Tensor, Tensor], Tensor]


class Calibration:
    """A network with what measures need of it: labels and loss, gradients, Hessian traces; each worked out once.

    ``loss(outputs, labels)`` gives one number; cross entropy by default.
    """

    def __init__(
        self, network: QuantisableNetwork, labels: Tensor | None = None, loss: Loss | None = None, *, seed: int = 0
    ) -> None:
        import torch

        self.network = network
        self.labels = labels
        self.loss: Loss = loss or torch.nn.functional.cross_entropy
        self.seed = seed
        self.output = network.output({}, network.calibration)
        self._gradients: dict[str, Tensor] | None = None
        self._traces: dict[str, float] | None = None

    @property
    def base_loss(self) -> float:
        return float(self.loss(self.output, self.labels))

    def squared_gradients(self, name: str) -> Tensor:
        """Mean over samples of the squared gradient of the loss: the diagonal of the empirical Fisher matrix."""
        if self._gradients is None:
            self._gradients = self._fisher()
        return self._gradients[name]

    def mean_curvature(self, name: str) -> float:
        """The layer's Hessian trace over the number of its weights."""
        if self._traces is None:
            self._traces = hessian_traces(self)
        n_weights: int = self.network.layer(name).weight.numel()
        return self._traces[name] / n_weights

    def _fisher(self, n_samples: int = 64) -> dict[str, Tensor]:
        import torch

        module, layers = self.network.module, self.network.layers
        weights = [layer.weight for layer in layers.values()]
        total = [torch.zeros_like(weight) for weight in weights]
        n = min(n_samples, len(self.network.calibration))
        for at in range(n):
            out = module(self.network.calibration[at : at + 1])
            labels = None if self.labels is None else self.labels[at : at + 1]
            for place, gradient in enumerate(torch.autograd.grad(self.loss(out, labels), weights)):
                total[place] += gradient.square() / n
        return dict(zip(layers, total, strict=True))


def hessian_traces(calibration: Calibration, n_probes: int = 16) -> dict[str, float]:
    """Hutchinson's estimate of each layer's Hessian trace: the mean of vᵀHv over random signs v."""
    import torch

    layers = calibration.network.layers
    weights = [layer.weight for layer in layers.values()]
    loss = calibration.loss(calibration.network.module(calibration.network.calibration), calibration.labels)
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    generator = torch.Generator().manual_seed(calibration.seed)
    traces = dict.fromkeys(layers, 0.0)
    for _ in range(n_probes):
        for (name, layer), gradient in zip(layers.items(), gradients, strict=True):
            signs = torch.randint(0, 2, layer.weight.shape, generator=generator).to(layer.weight) * 2 - 1
            (product,) = torch.autograd.grad(gradient, layer.weight, signs, retain_graph=True)
            traces[name] += float((product * signs).sum()) / n_probes
    return traces


def channel_salience(calibration: Calibration, name: str, formats: LayerFormats) -> Tensor:
    """What the loss may change by for each output channel, to second order; (out,), comparable across layers.

    |sum of g dW| + half the sum of F dW^2 with the empirical Fisher F (MixLLM, arXiv 2412.14590).
    """
    import torch

    layer = calibration.network.layer(name)
    change = _weight_change(calibration, name, formats)
    loss = calibration.loss(calibration.network.module(calibration.network.calibration), calibration.labels)
    (gradient,) = torch.autograd.grad(loss, [layer.weight])
    first = (gradient * change).flatten(1).sum(1).abs()
    second = (calibration.squared_gradients(name) * change.square()).flatten(1).sum(1) / 2
    return (first + second).detach()


def sqnr_db(wanted: Tensor, found: Tensor) -> float:
    """Signal over quantisation noise in decibels."""
    import torch

    noise = (wanted - found).double().square().mean().clamp_min(1e-300)
    return float(10 * torch.log10(wanted.double().square().mean().clamp_min(1e-300) / noise))


def _weight_change(calibration: Calibration, name: str, formats: LayerFormats) -> Tensor:
    network = calibration.network
    stored = network.quantised_weights(name, formats.weights, formats.method).values
    return stored - network.layer(name).weight.detach()


def _weight_error(calibration: Calibration, name: str, formats: LayerFormats) -> float:
    return float(_weight_change(calibration, name, formats).double().square().sum())


def _hessian(calibration: Calibration, name: str, formats: LayerFormats) -> float:
    return max(0.0, calibration.mean_curvature(name)) * _weight_error(calibration, name, formats)


def _fisher(calibration: Calibration, name: str, formats: LayerFormats) -> float:
    change = _weight_change(calibration, name, formats)
    return float((calibration.squared_gradients(name) * change.square()).double().sum() / 2)


def _relative_error(wanted: Tensor, found: Tensor) -> float:
    return float((wanted - found).double().square().mean() / wanted.double().square().mean().clamp_min(1e-300))


def _layer_mse(calibration: Calibration, name: str, formats: LayerFormats) -> float:
    network = calibration.network
    return _relative_error(network.layer_output(name, {}), network.layer_output(name, {name: formats}))


def _quantised_output(calibration: Calibration, name: str, formats: LayerFormats) -> Tensor:
    return calibration.network.output({name: formats}, calibration.network.calibration)


def _output_mse(calibration: Calibration, name: str, formats: LayerFormats) -> float:
    return _relative_error(calibration.output, _quantised_output(calibration, name, formats))


def _cosine(calibration: Calibration, name: str, formats: LayerFormats) -> float:
    import torch

    found = _quantised_output(calibration, name, formats).flatten(1).double()
    alike = torch.nn.functional.cosine_similarity(calibration.output.flatten(1).double(), found)
    return float(1 - alike.mean())


def _loss(calibration: Calibration, name: str, formats: LayerFormats) -> float:
    found = _quantised_output(calibration, name, formats)
    return float(calibration.loss(found, calibration.labels)) - calibration.base_loss


Measure: TypeAlias = Callable[[Calibration, str, LayerFormats], float]
#: ``measure(calibration, name of a layer, its formats)`` by name.
MEASURES: Registry[Measure] = Registry("measure")

for _measure in (_weight_error, _hessian, _fisher, _layer_mse, _output_mse, _cosine, _loss):
    MEASURES.register(_measure.__name__.removeprefix("_"), _measure)
