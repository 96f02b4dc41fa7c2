"""The file between measuring and comparing: which device, which configurations, how long each took.

One JSON file a run of ``tilewright measure``. It names everything that decides about a time, so that it can be compared
with a prediction later, elsewhere, without the device.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt, MinLen

from tilewright.document import STRICT_FIELDS, validate_data
from tilewright.document_text import read_json
from tilewright.errors import InputError

__all__ = ["OPERATORS", "Measurement", "MeasurementDevice", "MeasurementFile", "load_measurements"]

Operator = Literal[
    "gemm", "attention", "block_sparse_attention", "scan", "mlp", "norm_gemm", "elementwise", "softmax", "rmsnorm",
    "network",
]  # fmt: skip
OPERATORS: tuple[str, ...] = (
    "gemm", "attention", "block_sparse_attention", "scan", "mlp", "norm_gemm", "elementwise", "softmax", "rmsnorm",
    "network",
)  # fmt: skip

Text = Annotated[str, MinLen(1)]
Seconds = Annotated[float, Ge(1e-12), Le(1e6)]
Size = Annotated[int, Ge(0), Lt(2**31)]
NotNegative = Annotated[float, Ge(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementDevice:
    """What was measured on. ``kind`` is ``interpreter`` where kernels ran in Triton's interpreter: no GPU's times.

    ``idle_w``: what the board draws with nothing running, its clocks up.
    """

    __pydantic_config__ = STRICT_FIELDS

    name: Text
    kind: Literal["gpu", "interpreter"]
    driver: str = ""
    cuda: str = ""
    torch: str = ""
    triton: str = ""
    n_sm: Annotated[int, Ge(0)] = 0
    memory_bytes: Annotated[int, Ge(0)] = 0
    l2_bytes: Annotated[int, Ge(0)] = 0
    power_limit_w: NotNegative | None = None
    idle_w: NotNegative | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One configuration: ``shape`` and ``formats`` say what is computed, ``kernel`` and ``tiles`` how.

    Shapes by operator: gemm m, n, k (group_size with int4 weights); attention and block_sparse_attention batch, heads,
    kv_heads, query_len, key_len, head_dim, value_dim, causal (0 or 1), window, kept_per_mille; mlp m, width, hidden,
    out_width; norm_gemm m, n, k; elementwise, softmax and rmsnorm rows, columns. Formats: ``a``, ``b``, ``out``.
    network batch, and seq or prefill for text; ``network`` is then its name, as tilewright has it.
    ``median_s``, ``low_s`` and ``high_s`` (10th and 90th percentile) are over ``n_samples`` samples, each the mean of
    ``n_per_sample`` back-to-back calls. ``sm_clock_mhz`` and ``power_w`` were read right behind the last sample.

    Where ``energy`` was wanted: ``joules`` of one call by the board's energy counter over a run of ``energy_s``
    seconds; ``power_w`` is then the mean of that run, and the clock that in the middle of it. Of Triton kernels:
    ``registers`` of a thread, ``spills``, ``shared_bytes`` of a block.
    """

    __pydantic_config__ = STRICT_FIELDS

    operator: Operator
    kernel: Text
    shape: Mapping[str, Size] = field(hash=False)
    formats: Mapping[str, str] = field(hash=False)
    tiles: Mapping[str, Size] = field(default_factory=dict, hash=False)
    median_s: Seconds
    low_s: Seconds
    high_s: Seconds
    n_samples: Annotated[int, Ge(1)]
    n_per_sample: Annotated[int, Ge(1)]
    sm_clock_mhz: NotNegative | None = None
    power_w: NotNegative | None = None
    network: str = ""
    energy: bool = False
    joules: NotNegative | None = None
    energy_s: NotNegative | None = None
    registers: Size | None = None
    spills: Size | None = None
    shared_bytes: Size | None = None

    @property
    def key(self) -> str:
        """What identifies the configuration: everything but what was measured."""
        return configuration_key(
            self.operator,
            self.kernel,
            self.shape,
            self.formats,
            self.tiles,
            network=self.network,
            energy=self.energy,
        )


def configuration_key(
    operator: str,
    kernel: str,
    shape: Mapping[str, int],
    formats: Mapping[str, str],
    tiles: Mapping[str, int],
    *,
    network: str = "",
    energy: bool = False,
) -> str:
    """The key of a configuration that may not have been measured yet."""
    parts: list[Any] = [operator, kernel, dict(shape), dict(formats), dict(tiles)]
    return json.dumps([*parts, *([network] if network else []), *(["energy"] if energy else [])], sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementFile:
    """A device and what was measured on it."""

    __pydantic_config__ = STRICT_FIELDS

    schema: Literal["tilewright-measurements-1"] = "tilewright-measurements-1"
    device: MeasurementDevice
    taken: Text  # the day, as 2026-11-20
    method: str = ""
    measurements: tuple[Measurement, ...] = ()

    def with_measurement(self, measurement: Measurement) -> MeasurementFile:
        """With one more; one of the same configuration is replaced."""
        others = tuple(each for each in self.measurements if each.key != measurement.key)
        return replace(self, measurements=(*others, measurement))

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all, one measurement a line. Raises InputError where it cannot be written."""
        head = {name: value for name, value in asdict(self).items() if name != "measurements"}
        rows = ",\n".join("    " + json.dumps(_without_defaults(asdict(each))) for each in self.measurements)
        text = json.dumps(head, indent=2)[:-2] + f',\n  "measurements": [\n{rows}\n  ]\n}}\n'
        target = Path(path)
        aside = ""
        try:
            with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False, encoding="utf-8") as file:
                aside = file.name
                file.write(text)
            os.chmod(aside, 0o666 & ~_umask())
            os.replace(aside, target)
            aside = ""
        except OSError as fault:
            raise InputError(f"{target}: cannot be written ({(fault.strerror or str(fault)).lower()})") from None
        finally:
            if aside:
                Path(aside).unlink(missing_ok=True)


def load_measurements(path: str | Path) -> MeasurementFile:
    """The measurements in a file. Raises InputError with the field of each fault."""
    name = str(path)
    data = read_json(path, what="measurements", allowed="a file of tilewright measure")
    if not isinstance(data, dict):
        raise InputError(f"{name}: holds no measurements; allowed a file of tilewright measure")
    return validate_data(data, MeasurementFile, what="measurements", name=name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _without_defaults(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value is not None and value != {}}
