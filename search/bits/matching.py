"""Which operators of a network the layers of a table of sensitivities are."""

from __future__ import annotations

from dataclasses import replace

from tilewright.errors import InputError, unknown
from tilewright.search.bits.sensitivity import LayerSensitivity, Sensitivity
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["matched"]

_MOST_SHOWN = 20


def matched(table: Sensitivity, stream: OperatorStream) -> Sensitivity:
    """``table`` with the operators of ``stream`` that each layer is.

    A layer is the products at its place in the model, or, where there are none, those at the one place that ends in its
    name (``model.fc`` for ``fc``), or in whose name it ends. Raises InputError that lists the layers without operators
    and the places there are.
    """
    places: dict[str, list[Operator]] = {}
    for operator in stream.operators:
        if operator.of_kind.is_product and stream.base(operator.inputs[1]).role == "weight":
            places.setdefault(operator.path or operator.name, []).append(operator)
    names = {operator.name for operator in stream.operators}
    layers, missing = [], []
    for layer in table.layers:
        found = _operators_of(layer, places, names)
        if found is None:
            missing.append(layer.name)
        else:
            layers.append(replace(layer, operators=found) if found else layer)
    if missing:
        raise InputError(_unmatched(stream, missing, list(places)))
    return replace(table, layers=tuple(layers))


def _operators_of(
    layer: LayerSensitivity, places: dict[str, list[Operator]], names: set[str]
) -> tuple[str, ...] | None:
    """Names of a layer's operators; empty where the layer says them itself, None where there are none."""
    if layer.operators or (layer.name in names and layer.name not in places):
        return ()
    name = layer.name
    ending = [place for place in places if place.endswith(f".{name}") or name.endswith(f".{place}")]
    place = name if name in places else ending[0] if len(ending) == 1 else ""
    if not place:
        return () if name in names else None
    found = tuple(operator.name for operator in places[place])
    return () if found == (name,) else found


def _unmatched(stream: OperatorStream, missing: list[str], places: list[str]) -> str:
    shown = ", ".join(missing[:_MOST_SHOWN])
    more = f" and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
    fault = f"layers of the sensitivities are no products of it ({shown}{more})"
    return str(unknown("product", missing[0], places, place=stream.name, fault=fault))
