"""How alike what a block makes at one step is to what it made at an earlier one: a table, kept as a JSON or CSV file.

A file::

    {
      "schema": "tilewright.step_similarity", "version": 1, "network": "dit-xl-2", "steps": 4,
      "formats": [{"weights": "fp16", "activations": "fp16"}, {"weights": "int8", "activations": "int8"}],
      "units": [
        {"name": "blocks.0.mlp", "losses": [0, 0.002],
         "similarity": [[1, 0.98, 0.95, 0.9], [1, 0.97, 0.93], [1, 0.99], [1]]},
        {"name": "blocks.0.attention", "change": [0.02, 0.03, 0.01], "losses": [0, 0.001]}
      ]
    }

A unit is a block, or a part of one. Row i of ``similarity`` says how alike what it makes at step i is to what it would
make at steps i, i + 1 and so on; ``change`` says by how much each step differs from the one before (similarity falls by
their sum). ``formats`` and ``losses`` (what each format takes from the similarity; one for every step, or a list by
step) are for choosing bits as well, and may be left out. A CSV file has the columns block, from, to, similarity.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.document_text import read_json
from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_format
from tilewright.workloads.diffusion.blocks import PARTS, NetworkBlocks
from tilewright.workloads.diffusion.from_file import read_rows
from tilewright.workloads.diffusion.step import Cell

__all__ = ["SCHEMA", "Similarities", "StepFormats", "Unit", "load_similarities", "save_similarities"]

SCHEMA = "tilewright.step_similarity"
SCHEMA_VERSION = 1
_WHAT = "table of similarities"
_ALLOWED = "the path of a table of similarities in JSON or CSV"
_MOST_STEPS = 1000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFormats:
    """Formats that a unit may run in (empty: as the network has them)."""

    weights: str = ""
    activations: str = ""

    @property
    def name(self) -> str:
        """In a few characters."""
        return "/".join(dict.fromkeys(filter(None, (self.weights, self.activations)))) or "as it is"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """A block or a part of one. ``similarity`` (steps x steps; row i from column i on counts); ``losses`` (formats x
    steps): what a format takes from the similarity of what is made at a step.
    """

    name: str
    similarity: Floats
    losses: Floats

    def gains(self) -> Floats:
        """(formats, steps, steps + 1): the similarity of steps i to j - 1 when all have what step i makes, summed."""
        n = len(self.similarity)
        upper = np.triu(self.similarity)
        sums = np.concatenate([np.zeros((n, 1)), np.cumsum(upper, axis=1)], axis=1)
        lengths = np.maximum(np.arange(n + 1)[None, :] - np.arange(n)[:, None], 0)
        return np.asarray(sums[None] - self.losses[:, :, None] * lengths[None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Similarities:
    """The units of a network over ``n_steps`` steps."""

    network: str
    n_steps: int
    units: tuple[Unit, ...]
    formats: tuple[StepFormats, ...] = (StepFormats(),)
    source: str = ""

    def cells(self, network: NetworkBlocks) -> tuple[Cell, ...]:
        """The units as cells of ``network``; raises InputError, with the nearest name, for one that it has not."""
        return tuple(_cell(unit.name, network, self.source or "similarities") for unit in self.units)


def _cell(name: str, network: NetworkBlocks, place: str) -> Cell:
    block, _, part = name.rpartition(".")
    if block in network.names and part in PARTS:
        if not network.block(block).parts.get(part):
            raise InputError(f"{place}: {block} has no {part}")
        return block, part
    return network.block(name, place=place).name, ""


def load_similarities(source: str | Path, n_steps: int | None = None) -> Similarities:
    """The table in the file ``source``; raises InputError that names the place of what is wrong.

    ``n_steps``: of a CSV file whose last steps are compared with nothing (None: as many as it names).
    """
    path = Path(source)
    return _from_csv(path, n_steps) if path.suffix == ".csv" else _from_json(path)


def _from_json(path: Path) -> Similarities:
    data = read_json(path, what=_WHAT, allowed=_ALLOWED)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f'{path}: is no {_WHAT}; allowed a mapping with "schema": "{SCHEMA}"')
    for key in data:
        _known(f"{path}", key, ("schema", "version", "network", "steps", "formats", "units", "measured_by"))
    n_steps = data.get("steps")
    if type(n_steps) is not int or not 1 <= n_steps <= _MOST_STEPS:
        raise InputError(f"{path}: steps: given {n_steps}; allowed 1 to {_MOST_STEPS}")
    formats = tuple(_format(f"{path}: formats.{at}", one) for at, one in enumerate(data.get("formats") or [{}]))
    entries = data.get("units")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: units: missing; allowed a list of at least one")
    units = tuple(_unit(f"{path}: units.{at}", one, n_steps, len(formats)) for at, one in enumerate(entries))
    _need_once(path, [unit.name for unit in units])
    return Similarities(
        network=str(data.get("network", "")), n_steps=n_steps, units=units, formats=formats, source=str(path)
    )


def _known(place: str, key: str, allowed: Sequence[str]) -> None:
    if key not in allowed:
        raise unknown("field", key, allowed, place=place)


def _need_once(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f'{path}: units: "{name}" is there {names.count(name)} times; allowed once')


def _format(place: str, entry: Any) -> StepFormats:
    if not isinstance(entry, dict):
        raise InputError(f'{place}: must be a mapping; allowed {{"weights": "int8", "activations": "int8"}}')
    for key, value in entry.items():
        _known(place, key, ("weights", "activations"))
        try:
            tensor_format(str(value))
        except InputError as error:
            raise InputError(f"{place}.{key}: {error}") from None
    return StepFormats(**{key: str(value) for key, value in entry.items()})


def _unit(place: str, entry: Any, n_steps: int, n_formats: int) -> Unit:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InputError(f"{place}.name: missing; allowed the name of a block, or of a part of one (blocks.0.mlp)")
    for key in entry:
        _known(place, key, ("name", "similarity", "change", "losses"))
    if ("similarity" in entry) == ("change" in entry):
        given = "both" if "change" in entry else "neither"
        raise InputError(f"{place}: {entry['name']}: given {given} of similarity and change; allowed one of the two")
    if "change" in entry:
        changes = _numbers(f"{place}.change", entry["change"], n_steps - 1)
        total = np.concatenate([[0.0], np.cumsum(changes)])
        similarity = 1 - (total[None, :] - total[:, None])
    else:
        similarity = _triangle(f"{place}.similarity", entry["similarity"], n_steps)
    losses = np.zeros((n_formats, n_steps))
    if "losses" in entry:
        given = entry["losses"]
        if not isinstance(given, list) or len(given) != n_formats:
            raise InputError(f"{place}.losses: must be a list of {n_formats}, one for each format; given {given}")
        for at, one in enumerate(given):
            values = one if isinstance(one, list) else [one] * n_steps
            losses[at] = _numbers(f"{place}.losses.{at}", values, n_steps)
    return Unit(name=entry["name"], similarity=similarity, losses=losses)


def _numbers(place: str, values: Any, n: int) -> Floats:
    good = isinstance(values, list) and all(type(one) in (int, float) for one in values)
    if not good or len(values) != n:
        given = len(values) if isinstance(values, list) else values
        raise InputError(f"{place}: must be {n} numbers; given {given if good else 'something else'}")
    found = np.array(values, dtype=np.float64)
    if not np.isfinite(found).all() or (np.abs(found) > 1e12).any():
        raise InputError(f"{place}: out of range; allowed numbers of at most 1e12")
    return found


def _triangle(place: str, rows: Any, n: int) -> Floats:
    if not isinstance(rows, list) or len(rows) != n:
        raise InputError(f"{place}: must be {n} rows, one for each step")
    found = np.zeros((n, n))
    for at, row in enumerate(rows):
        length = n if isinstance(row, list) and len(row) == n else n - at
        found[at, n - length :] = _numbers(f"{place}.{at}", row, length)
    return found


def _from_csv(path: Path, n_steps: int | None) -> Similarities:
    rows = read_rows(path, what=_WHAT, needed=("block", "from", "to", "similarity"))
    values: dict[str, dict[tuple[int, int], float]] = {}
    for at, row in enumerate(rows, start=2):
        try:
            place = int(row["from"]), int(row["to"])
            values.setdefault(row["block"], {})[place] = float(row["similarity"])
        except (TypeError, ValueError):
            raise InputError(
                f"{path}:{at}: must be a block, two steps and a number; given {list(row.values())}"
            ) from None
        if not 0 <= place[0] <= place[1] < (n_steps or _MOST_STEPS):
            raise InputError(
                f"{path}:{at}: from and to: given {place[0]} and {place[1]}; allowed from at most to, both from 0"
            )
    if not values:
        raise InputError(f"{path}: has no rows; allowed one for each block and pair of steps")
    n = n_steps or 1 + max(step for own in values.values() for _, step in own)
    units = []
    for name, own in values.items():
        similarity = np.eye(n)
        for first in range(n):
            for later in range(first + 1, n):
                if (first, later) not in own:
                    raise InputError(
                        f"{path}: {name}: steps {first} and {later} are missing; allowed a row for each pair"
                    )
                similarity[first, later] = own[first, later]
        units.append(Unit(name=name, similarity=similarity, losses=np.zeros((1, n))))
    return Similarities(network="", n_steps=n, units=tuple(units), source=str(path))


def save_similarities(table: Similarities, path: str | Path, *, measured_by: str = "") -> None:
    """Write ``table`` as a JSON file."""
    n = table.n_steps
    data: dict[str, Any] = {"schema": SCHEMA, "version": SCHEMA_VERSION, "network": table.network, "steps": n}
    if measured_by:
        data["measured_by"] = measured_by
    named = [
        {key: value for key, value in (("weights", one.weights), ("activations", one.activations)) if value}
        for one in table.formats
    ]
    if any(named):
        data["formats"] = named
    data["units"] = [
        {
            "name": unit.name,
            "similarity": [[round(float(v), 9) for v in unit.similarity[at, at:]] for at in range(n)],
            **({"losses": unit.losses.tolist()} if unit.losses.any() else {}),
        }
        for unit in table.units
    ]
    Path(path).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
