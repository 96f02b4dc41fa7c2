"""A sweep read back from its store alone: which one is meant, what it asked for, and its rows.

Rows are found by their content keys. A key changes with the code that decides about results, so a store that another
version wrote has none of today's keys; its rows are then found by what they say: machine, objective, workload,
dataflow and the parameters that the sweep varies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tilewright.document import validate_data
from tilewright.errors import InputError, unknown
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.sweep.design_figures import base_values
from tilewright.search.sweep.rows import design_check
from tilewright.search.sweep.run import flat_row, sweep_rows
from tilewright.search.sweep.space import points_of
from tilewright.search.sweep.spec import Sweep, load_sweep, restore_sweep
from tilewright.search.sweep.store import DamagedRow, OnDamaged, ResultsStore, RowCheck, StoredPoint, StoredSweep

__all__ = ["OpenedSweep", "open_sweep", "stored_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSweep:
    """A sweep of a store: ``noted`` is what the store keeps of it (None for a file that never ran).

    ``n_texts``: how many different texts of that name the store has seen; the newest is the one that counts.
    ``damaged``: what the store keeps of its sweeps and cannot be read.
    """

    store: Path
    sweep: Sweep
    noted: StoredSweep | None
    n_texts: int
    damaged: tuple[DamagedRow, ...] = ()


def open_sweep(store: str | Path, chosen: str | None = None) -> OpenedSweep:
    """The sweep of ``store`` called ``chosen``, or the one in the sweep file ``chosen``; the only one when None.

    Raises InputError where there is no such store or sweep, or several and no choice.
    """
    path = Path(store)
    bad: list[DamagedRow] = []
    with ResultsStore(path, create=False, damaged=bad.append) as opened:
        opened.check()
        noted = opened.sweeps()
    if chosen is not None and chosen.endswith((".yaml", ".yml")):
        sweep = load_sweep(chosen)
        same = [one for one in noted if one.name == sweep.name]
        exact = next((one for one in same if one.text == sweep.text), None)
        return OpenedSweep(store=path, sweep=sweep, noted=exact, n_texts=max(1, len(same)), damaged=tuple(bad))
    names = list(dict.fromkeys(one.name for one in noted))
    if not names and bad:
        raise InputError(
            f"{path}: {bad[0].text}, and it holds no other sweep; set the row aside with: "
            f"tilewright sweep --store {path} --repair, and run the sweep again"
        )
    if not names:
        raise InputError(f"{path}: holds no sweep yet; begin one with: tilewright sweep SWEEP.yaml --store {path}")
    if chosen is None and len(names) > 1:
        raise InputError(f"{path}: holds several sweeps; say which with --sweep NAME; allowed {', '.join(names)}")
    name = names[0] if chosen is None else chosen
    if name not in names:
        raise unknown("sweep", name, names, place=str(path), fault="holds no sweep of that name")
    same = [one for one in noted if one.name == name]
    restored = _restored(path, same[-1])
    return OpenedSweep(store=path, sweep=restored, noted=same[-1], n_texts=len(same), damaged=tuple(bad))


def _restored(store: Path, noted: StoredSweep) -> Sweep:
    place = f"{store}: sweep {noted.name}"
    machine = validate_data(noted.machine, MachineSpec, what="machine", name=f"{place}: machine")
    folders = list(dict.fromkeys((store.absolute().parent, Path.cwd())))
    for at, folder in enumerate(folders):
        try:
            return restore_sweep(noted.text, machine, name=place, folder=folder)
        except InputError as error:
            if at + 1 < len(folders):
                continue
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{reason}; where the sweep names files of yours, give its own: --sweep SWEEP.yaml"
            ) from None
    raise AssertionError("a folder was tried")


def stored_rows(
    sweep: Sweep, store: str | Path, *, damaged: OnDamaged | None = None
) -> tuple[Iterator[dict[str, Any]], bool]:
    """The rows of ``sweep`` (:func:`tilewright.search.sweep.run.sweep_rows`), and whether this version's code wrote
    them.

    Where it did not, the latest row of each design, workload and dataflow counts. Of a search, every row of its space
    counts, so that nothing has to be searched again.
    """
    adaptive = sweep.sampling.is_adaptive
    rows = _of_search(sweep, store, damaged) if adaptive else sweep_rows(sweep, store, damaged=damaged)
    first = next(rows, None)
    return (_by_content(sweep, store, damaged), False) if first is None else (chain([first], rows), True)


def _of_search(sweep: Sweep, store: str | Path, damaged: OnDamaged | None) -> Iterator[dict[str, Any]]:
    """The rows of designs that the store has, in as far as today's code wrote them."""
    base = base_values(sweep.machine)
    check = design_check(sweep)
    with ResultsStore(store, create=False, damaged=damaged) as opened:
        mine = (point for point in opened.rows() if _fits(sweep, point) and _passes(check, point))
        designs = {_identity(sweep, point)[2:]: point.parameters for point in mine}
        ordered = ({path: design[path] for path in sweep.paths} for design in designs.values())
        for point in opened.rows((point.key for point in points_of(sweep, ordered)), check=check):
            yield flat_row(sweep, base, point)


def _by_content(sweep: Sweep, store: str | Path, damaged: OnDamaged | None) -> Iterator[dict[str, Any]]:
    base = base_values(sweep.machine)
    check = design_check(sweep)
    with ResultsStore(store, create=False, damaged=damaged) as opened:
        latest: dict[Any, str] = {}
        for point in opened.rows():
            if _fits(sweep, point) and _passes(check, point):
                latest[_identity(sweep, point)] = point.key
        for point in opened.rows():
            if _fits(sweep, point) and _passes(check, point) and latest[_identity(sweep, point)] == point.key:
                yield flat_row(sweep, base, point)


def _fits(sweep: Sweep, point: StoredPoint) -> bool:
    return (
        point.machine == sweep.machine.name
        and point.objective == sweep.objective
        and point.dataflow in sweep.dataflows
        and any(point.workload == layer.name for layer in sweep.layers)
        and set(point.parameters) == set(sweep.paths)
    )


def _passes(check: RowCheck, point: StoredPoint) -> bool:
    try:
        check(point)
    except ValueError:
        return False
    return True


def _identity(sweep: Sweep, point: StoredPoint) -> tuple[Any, ...]:
    return (point.workload, point.dataflow, *(point.parameters[path] for path in sweep.paths))
