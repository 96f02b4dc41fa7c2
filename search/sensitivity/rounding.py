"""Rounding with calibration data: GPTQ, and AdaRound with the scale-aware step of FP4DiT.

Both keep the grid that a format and its scales give and decide to which neighbour each weight goes, so that the layer's
output changes least on the calibration data.
"""

from __future__ import annotations

from typing import Any

__all__ = ["adaround", "gptq"]

Tensor = Any  # torch.Tensor; torch is optional


def gptq(weights: Tensor, inputs: Tensor, scale: Tensor, largest: int, *, damping: float = 0.01) -> Tensor:
    """``weights`` (out, in) on the integer grid of ``scale`` (out, 1), column by column with the error passed on.

    ``inputs`` (samples, in) give the Hessian 2 XᵀX; the error of a column is spread over those not yet rounded by the
    rows of its inverse's Cholesky factor (Frantar et al., GPTQ, arXiv 2210.17323). ``largest``: the largest integer.
    """
    import torch

    rest = weights.detach().double().clone()
    x = inputs.detach().double()
    hessian = 2 * x.T @ x
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1.0
    rest[:, dead] = 0.0
    hessian += damping * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=hessian.dtype)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    grid = scale.double()
    found = torch.zeros_like(rest)
    for column in range(rest.shape[1]):
        value = rest[:, column : column + 1]
        found[:, column : column + 1] = (value / grid).round().clamp(-largest - 1, largest) * grid
        error = (value - found[:, column : column + 1]) / factor[column, column]
        rest[:, column:] -= error * factor[column, column:]
    return found.to(weights.dtype)


def adaround(
    weights: Tensor,
    inputs: Tensor,
    step: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    n_iterations: int = 400,
    scale_aware: bool = True,
    learning_rate: float = 0.05,
) -> Tensor:
    """``weights`` (out, in) rounded down or up in units of ``step`` (same shape), as the layer's output wants it.

    Minimises the mean squared error of ``inputs`` (samples, in) @ weights.T plus a penalty that drives each rounding
    variable to 0 or 1 (Nagel et al., arXiv 2004.10568). With ``scale_aware`` the variable is divided by its step, so
    that the wide and the narrow steps of a floating-point grid converge alike (FP4DiT, arXiv 2503.15465). ``low`` and
    ``high`` bound the values.
    """
    import torch

    exact, x, unit = weights.detach().double(), inputs.detach().double(), step.double()
    floor = (exact / unit).floor()
    rest = (exact / unit - floor).clamp(0.01, 0.99)
    spread = unit / unit.mean() if scale_aware else torch.ones_like(unit)
    # rectified sigmoid: clamp(1.2 sigmoid(v) - 0.1, 0, 1) begins at the fraction that rounding would drop
    variable = (-torch.log(1.2 / (rest + 0.1) - 1) * spread).requires_grad_()
    optimiser = torch.optim.Adam([variable], lr=learning_rate)
    wanted = x @ exact.T
    size = wanted.square().mean().clamp_min(1e-30)
    for at in range(n_iterations):
        up = (1.2 * torch.sigmoid(variable / spread) - 0.1).clamp(0, 1)
        values = ((floor + up) * unit).clamp(low, high)
        loss = (x @ values.T - wanted).square().mean() / size
        if at > n_iterations // 5:
            sharpness = 20 - 18 * at / n_iterations
            loss = loss + 0.01 * (1 - (2 * up - 1).abs().pow(sharpness)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    up = (variable.detach() / spread > 0).double()
    return ((floor + up) * unit).clamp(low, high).to(weights.dtype)
