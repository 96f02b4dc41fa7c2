"""The compiled schedules that the configurations of a measurement need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tilewright.kernels.measured import MeasuredTable
from tilewright.kernels.reading.own import placed
from tilewright.kernels.suite import Configuration
from tilewright.search.gpu.launches import launches_of, rows_of
from tilewright.search.gpu.schedules import ScheduleKey

__all__ = ["schedule_keys"]


def schedule_keys(configurations: Iterable[Configuration]) -> Iterator[ScheduleKey]:
    """The schedules of the kernels of ours among ``configurations``, some more than once."""
    for each in configurations:
        if not each.kernel.startswith("triton"):
            continue
        operator, family, shape = placed(each)
        columns = shape | {f"tile_{name}": size for name, size in each.tiles.items()}
        table = MeasuredTable(
            name=family,
            operator=operator,
            family=family,
            device="",
            columns={name: np.array([size], dtype=np.int64) for name, size in columns.items()},
            seconds=np.ones(1),
            source="",
        )
        for launch in launches_of(table, rows_of(table)[0]):
            if launch.key is not None:
                yield launch.key
