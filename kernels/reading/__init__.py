"""Readers of measured tables: our own files and the public formats of others."""

from __future__ import annotations

from pathlib import Path

from tilewright.document_text import check_regular
from tilewright.errors import InputError
from tilewright.kernels.measured import MeasuredTable

__all__ = ["read_tables"]


def read_tables(path: str | Path) -> list[MeasuredTable]:
    """The tables of the file at ``path``, by its ending, name and header; or of our own measurement of that name.

    JSON of ``tilewright measure``; CSV of NVIDIA aiconfigurator (``h200_gemm_vllm_0.24.0.csv``), LLMCompass
    (``matmul_A100.csv``), NeuSight and Tenstorrent, joules by a board's energy counter (``h100_energy.csv``), wide
    tables of scans, short convolutions, single steps and attention over lists (``gdn_prefill_chunk_ms.csv``).
    Raises :class:`InputError` for another file, or an empty one.
    """
    place = _own_measurement(str(path)) or Path(path)
    check_regular(place, allowed="a CSV table or a JSON measurement file")
    if place.suffix == ".json":
        from tilewright.kernels.reading.own import read_own

        tables = read_own(place)
    else:
        tables = _read_csv(place)
    if not tables or not any(len(table) for table in tables):
        raise InputError(f"{path}: holds no measured times")
    return tables


def _own_measurement(name: str) -> Path | None:
    """The file of the measurement called ``name`` that comes with the package (``h100_own``), if there is one."""
    from importlib.resources import files

    place = Path(str(files("tilewright.kernels").joinpath("measurements", f"{name}.json")))
    return place if name.isidentifier() and place.is_file() and not Path(name).exists() else None


def _read_csv(place: Path) -> list[MeasuredTable]:
    from tilewright.kernels.reading.aiconfigurator import read_aiconfigurator
    from tilewright.kernels.reading.energy_counter import is_energy_counter, read_energy_counter
    from tilewright.kernels.reading.llmcompass import is_llmcompass, read_llmcompass
    from tilewright.kernels.reading.others import read_neusight, read_tenstorrent
    from tilewright.kernels.reading.sequences import is_sequences, read_sequences

    try:
        with place.open(encoding="utf-8") as stream:
            header = stream.readline().strip().split(",")
    except OSError as fault:
        raise InputError(f"{place}: cannot be read ({(fault.strerror or str(fault)).lower()})") from None
    except UnicodeDecodeError:
        raise InputError(f"{place}: not UTF-8 text; allowed a CSV table or a JSON measurement file") from None
    if is_llmcompass(place):
        return read_llmcompass(place)
    if is_energy_counter(header):
        return read_energy_counter(place)
    if is_sequences(header):
        return read_sequences(place)
    if "latency_ms" in header and "device" in header:
        return read_neusight(place)
    if "time_ns" in header and "fidelity" in header:
        return read_tenstorrent(place)
    if "latency_ms" in header or {"latency", "kernel_source"} <= set(header):
        return read_aiconfigurator(place)
    raise InputError(
        f"{place}: not a table that is known here; allowed JSON of tilewright measure, CSV of aiconfigurator, "
        "LLMCompass, NeuSight or Tenstorrent"
    )
