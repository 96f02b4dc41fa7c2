"""The points of a sweep for other programs: CSV and Parquet, a row for each point, those without a result too."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.reports.csv_text import write_csv
from tilewright.reports.origin import Origin, layer_facts, network_facts
from tilewright.reports.sweep.case import SweepCase
from tilewright.search.sweep.spec import Sweep
from tilewright.search.sweep.store import DamagedRow
from tilewright.search.sweep.stored import stored_rows
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    import pyarrow

__all__ = ["check_parquet", "sweep_origin", "write_csv_rows", "write_parquet"]

_BATCH = 5000
_INSTALL = 'Parquet files need pyarrow; install it with: pip install "tilewright[analysis]"'


def _known(row: DamagedRow) -> None:
    """Rows that are left out were told when the case was read."""


def write_csv_rows(case: SweepCase, stream: IO[str], *, command: str = "") -> None:
    """Every point as a line; columns as :func:`tilewright.search.sweep.run.sweep_rows` says, empty where unknown.

    Behind them come those that say where the figures are from (:mod:`tilewright.reports.origin`); ``machine_hash`` is
    that of the machine that the designs change.
    """
    rows, _ = stored_rows(case.opened.sweep, case.opened.store, damaged=_known)
    origin = replace(sweep_origin(case.opened.sweep), command=command)
    last = [name for name in origin.completed({"machine": "", "workload": ""}) if name not in case.kinds]
    write_csv((origin.completed(row) for row in rows), [*case.kinds, *last], stream)


def sweep_origin(sweep: Sweep) -> Origin:
    """The machine that the sweep's designs change, and its workloads."""
    workloads = (network_facts(w) if isinstance(w, OperatorStream) else layer_facts(w) for w in sweep.layers)
    return Origin(machines=(sweep.machine,), workloads=tuple(workloads), facts={"sweep": sweep.name})


def check_parquet(path: str | Path) -> None:
    """Raise InputError for a device or pipe, and with what to install where pyarrow is not there."""
    target = Path(path)
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write {path}: Parquet needs a file, and this is a device, a pipe or a folder")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise InputError(_INSTALL) from None


def write_parquet(case: SweepCase, path: str | Path) -> Path:
    """Write every point to a Parquet file with typed columns; the sweep's text, its name and the version stand in the
    metadata (``tilewright.sweep``, ``tilewright.name``, ``tilewright.version``).

    The file appears whole or not at all. Raises InputError where pyarrow is missing or the place cannot be written.
    """
    check_parquet(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(case)
    target = Path(os.path.realpath(path))
    try:
        handle, aside = tempfile.mkstemp(prefix=".tilewright-", suffix=".part", dir=target.parent)
        os.close(handle)
        try:
            with pq.ParquetWriter(aside, schema, compression="zstd") as writer:
                for batch in _batches(case, schema):
                    writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(aside, 0o666 & ~mask)
            os.replace(aside, target)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
    return Path(path)


def _schema(case: SweepCase) -> pyarrow.Schema:
    import pyarrow as pa

    from tilewright import __version__

    sweep = case.opened.sweep
    fields = [(name, _type(kinds)) for name, kinds in case.kinds.items()]
    metadata = {"tilewright.sweep": sweep.text, "tilewright.name": sweep.name, "tilewright.version": __version__}
    return pa.schema(fields, metadata=metadata)


def _type(kinds: frozenset[type]) -> pyarrow.DataType:
    import pyarrow as pa

    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def _batches(case: SweepCase, schema: pyarrow.Schema) -> Iterator[list[dict[str, Any]]]:
    import pyarrow as pa

    change: dict[str, Callable[[Any], Any]] = {}
    for field in schema:
        if field.type == pa.float64():
            change[field.name] = float
        elif field.type == pa.string():
            change[field.name] = str
    some: list[dict[str, Any]] = []
    rows, _ = stored_rows(case.opened.sweep, case.opened.store, damaged=_known)
    for row in rows:
        some.append(_typed(row, change))
        if len(some) == _BATCH:
            yield some
            some = []
    if some:
        yield some


def _typed(row: Mapping[str, Any], change: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {name: change[name](value) if value is not None and name in change else value for name, value in row.items()}
