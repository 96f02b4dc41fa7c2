"""Similarities measured from a PyTorch module that is called once for each step, by hooks on its blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tilewright.errors import InputError, unknown
from tilewright.workloads.diffusion.similarity import Similarities, Unit

__all__ = ["measure_step_similarities"]

_SAMPLED = 1 << 16
_INSTALL = "similarities need PyTorch; install it with: pip install 'tilewright[torch]'"


def measure_step_similarities(
    module: Any,
    blocks: Sequence[str] | Mapping[str, str],
    run: Callable[[], object],
    *,
    network: str = "",
    n_values: int = _SAMPLED,
) -> Similarities:
    """How alike the results of ``blocks`` of ``module`` are from step to step, while ``run()`` calls it for all steps.

    ``blocks``: names of submodules, or a mapping from these to what schedules call them (``{"blocks.0.mlp":
    "blocks.0.mlp"}``). Similarity is the cosine of the two results (of ``n_values`` of their values, evenly chosen).
    Raises InputError without PyTorch, for a name that the module has not, and where blocks were called unlike often.
    """
    try:
        import torch
    except ImportError:
        raise InputError(_INSTALL) from None
    named = dict(module.named_modules())
    names = dict(blocks) if isinstance(blocks, Mapping) else {name: name for name in blocks}
    for name in names:
        if name not in named:
            raise unknown("block", name, named, place="similarities")
    seen: dict[str, list[Any]] = {name: [] for name in names}

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple | list) else output
            values = tensor.detach().reshape(-1)
            stride = max(1, len(values) // n_values)
            seen[name].append(values[::stride].to(torch.float64).cpu().numpy())

        return hook

    hooks = [named[name].register_forward_hook(watch(name)) for name in names]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    counts = {name: len(found) for name, found in seen.items()}
    n_steps = max(counts.values())
    for name, count in counts.items():
        if count != n_steps or not count:
            raise InputError(f"similarities: {name} was called {count} times, others {n_steps}; allowed once a step")
    units = tuple(
        Unit(name=names[name], similarity=_cosines(found), losses=np.zeros((1, n_steps)))
        for name, found in seen.items()
    )
    return Similarities(network=network, n_steps=n_steps, units=units)


def _cosines(values: Sequence[Any]) -> Any:
    rows = np.stack(values)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1)
    return np.asarray(rows @ rows.T)
