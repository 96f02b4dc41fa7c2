"""The table of sensitivities of a trained module, measured once and kept by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilewright import plugins
from tilewright.errors import InputError
from tilewright.progress import Progress
from tilewright.search.bits.sensitivity import (
    LayerSensitivity,
    OptionSensitivity,
    Sensitivity,
    load_sensitivity,
    save_sensitivity,
)
from tilewright.search.mapping_cache import cache_folder
from tilewright.search.sensitivity.measures import MEASURES, Calibration, Loss, sqnr_db
from tilewright.search.sensitivity.network import LayerFormats, QuantisableNetwork

__all__ = ["measure_sensitivity"]

Tensor = Any  # torch.Tensor; torch is optional
Module = Any


def measure_sensitivity(
    module: Module,
    calibration: Tensor,
    options: Sequence[tuple[str, str] | tuple[str, str, str]],
    *,
    measure: str = "output_mse",
    labels: Tensor | None = None,
    loss: Loss | None = None,
    network: str = "",
    tied: Sequence[Sequence[str]] = (),
    seed: int = 0,
    keep: bool = True,
    progress: Progress | None = None,
) -> Sensitivity:
    """What each ``Conv2d`` and ``Linear`` of ``module`` costs in quality in each option, one layer at a time.

    ``calibration``: a batch of inputs. ``options``: (format of the weights, format of the activations[, weight
    method]), the same for all layers. ``measure``: one of ``measures.MEASURES``; ``hessian``, ``fisher`` and ``loss``
    need ``labels``, and ``loss(outputs, labels)`` where cross entropy is not meant. ``tied``: layers that must take the
    same option. With ``keep`` the table is kept in the cache folder by the content of the module, the data and the
    question, and found there again (a ``loss`` of one's own is not kept).

    Raises InputError for unknown names and for missing labels.
    """
    MEASURES.get(measure)
    if measure in ("hessian", "fisher", "loss") and labels is None and loss is None:
        raise InputError(f"measure: {measure} needs labels (or a loss that needs none)")
    wanted = [LayerFormats(*option) for option in options]
    if not wanted:
        raise InputError("options: none given; allowed for example ('int8', 'int8')")
    name = network or type(module).__name__.lower()
    question = [name, measure, seed, list(map(list, options)), list(map(list, tied)), *filter(None, [plugins.digest()])]
    path = _path(module, calibration, labels, question)
    if keep and loss is None and path.exists():
        try:
            return load_sensitivity(path)
        except InputError:
            pass  # damaged: measured and written anew
    table = _measured(module, calibration, wanted, measure, labels, loss, name, tied, seed, progress)
    if keep and loss is None:
        _keep(table, path)
    return table


def _measured(
    module: Module,
    calibration: Tensor,
    wanted: Sequence[LayerFormats],
    measure: str,
    labels: Tensor | None,
    loss: Loss | None,
    name: str,
    tied: Sequence[Sequence[str]],
    seed: int,
    progress: Progress | None,
) -> Sensitivity:
    quantisable = QuantisableNetwork(module, calibration)
    about = Calibration(quantisable, labels, loss, seed=seed)
    layers = []
    for at, (layer_name, layer) in enumerate(quantisable.layers.items()):
        if progress is not None:
            progress(at, len(quantisable.layers), layer_name)
        found = []
        for formats in wanted:
            output = quantisable.output({layer_name: formats}, calibration)
            found.append(
                OptionSensitivity(
                    weights=formats.weights,
                    activations=formats.activations,
                    method=formats.method,
                    sensitivity=MEASURES.get(measure)(about, layer_name, formats),
                    sqnr_db=min(300.0, sqnr_db(about.output, output)),
                )
            )
        layers.append(
            LayerSensitivity(
                name=layer_name,
                n_weights=layer.weight.numel(),
                macs=quantisable.macs(layer_name),
                options=tuple(found),
                kind=type(layer).__name__.lower(),
                block=layer_name.rpartition(".")[0],
            )
        )
    if progress is not None:
        progress(len(layers), len(layers), name)
    return Sensitivity(
        network=name,
        measured_by=f"{measure}, one layer at a time, {len(calibration)} inputs",
        layers=tuple(layers),
        tied=tuple(tuple(group) for group in tied),
    )


def _path(module: Module, calibration: Tensor, labels: Tensor | None, question: list[Any]) -> Path:
    digest = hashlib.sha256()
    digest.update(str(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for tensor in (calibration, labels):
        if tensor is not None:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(json.dumps(question).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return cache_folder() / "sensitivity" / f"{digest.hexdigest()}.json"


def _keep(table: Sensitivity, path: Path) -> None:
    """Write the file whole or not at all; a folder that cannot be written is no fault."""
    aside = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_sensitivity(table, aside)
        aside.replace(path)
    except (OSError, InputError):
        return
