"""``tilewright sweep --check`` and ``--repair``: rows of a store that are not as they were written."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from tilewright.cli.outputs import Outputs, note

if TYPE_CHECKING:
    from tilewright.search.sweep.spec import Sweep
    from tilewright.search.sweep.store import RowCheck, StoredPoint
    from tilewright.search.sweep.store_repair import StoreHealth

__all__ = ["show_health"]

_MOST_SHOWN = 50


def show_health(outputs: Outputs, sweep: Sweep | None, store: str, *, repair: bool) -> bool:
    """Say what is wrong with ``store``, as far as ``sweep`` tells, and with ``repair`` set it aside; whether nothing
    was.
    """
    from tilewright.search.sweep.store_repair import check_store, repair_store

    check = None if sweep is None else _own_check(sweep)
    found = repair_store(store, check) if repair else check_store(store, check)
    if outputs.speaks and not (repair and sweep is not None):
        _table(outputs, store, found)
    if not (repair and sweep is not None):
        rows = [asdict(one) for one in found.damaged]
        outputs.write_csv(rows)
        outputs.write_json({"store": store, "whole_points": found.n_points, "damaged": rows})
    if repair:
        _tell(store, found)
    return not found.damaged


def _own_check(sweep: Sweep) -> RowCheck:
    """Rows that have the key of a point of ``sweep`` are checked to be of it; others are those of other sweeps."""
    from tilewright.search.sweep.rows import design_check
    from tilewright.search.sweep.space import points

    fits = design_check(sweep)
    keys = set() if sweep.sampling.is_adaptive else {point.key for point in points(sweep)}

    def check(point: StoredPoint) -> None:
        if point.key in keys:
            fits(point)

    return check


def _table(outputs: Outputs, store: str, found: StoreHealth) -> None:
    from tilewright.reports.table import catalogue_table

    title = f"{store}: {found.n_points:,} whole points, {len(found.damaged):,} damaged rows"
    cells = [[f"{one.table} {one.row:,}", one.key[:12], one.fault] for one in found.damaged[:_MOST_SHOWN]]
    if len(found.damaged) > _MOST_SHOWN:
        cells.append(["...", "", f"and {len(found.damaged) - _MOST_SHOWN:,} more"])
    outputs.show(catalogue_table(title, ["row", "key", "fault"], cells))


def _tell(store: str, found: StoreHealth) -> None:
    if found.original is not None:
        note(f"{found.n_points:,} points were saved into {store}; the damaged file is kept as {found.original}")
    elif found.damaged:
        rows = "1 row was" if len(found.damaged) == 1 else f"{len(found.damaged):,} rows were"
        note(f"{rows} moved to the table set_aside of {store}; a sweep does their points again")
    else:
        note(f"{store}: nothing to repair")
