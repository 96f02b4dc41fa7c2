"""Figures of libraries for experts in training, fitted to one part of published rates (SonicMoE's figures, H100)."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.gpu.expert_training import ExpertTraining, TrainedExperts, training_parts

__all__ = ["MOST_TERA_FLOPS", "RatedExperts", "fit_expert_training", "is_fitted", "read_rated_experts"]

#: What long bf16 products reach on an H100 under its power limit.
MOST_TERA_FLOPS = 800.0
_COLUMNS = ("tokens_T", "hidden_d", "expert_intermediate_n", "experts_E", "topk_K")


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedExperts:
    """A published rate of a ``library`` in the pass ``which``."""

    layer: TrainedExperts
    library: str
    which: str
    tera_flops: float


def read_rated_experts(path: str | Path) -> list[RatedExperts]:
    """The rows of SonicMoE's table; raises InputError for a file of other columns."""
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if not {*_COLUMNS, "pass", "kernel", "tflops"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path}: allowed columns {', '.join(_COLUMNS)}, pass, kernel, tflops")
        return [
            RatedExperts(
                layer=TrainedExperts(
                    **dict(
                        zip(
                            ("tokens", "hidden", "inner", "experts", "top_k"),
                            (int(row[name]) for name in _COLUMNS),
                            strict=True,
                        )
                    )
                ),
                library=row["kernel"],
                which=row["pass"],
                tera_flops=float(row["tflops"]),
            )
            for row in reader
        ]


def is_fitted(layer: TrainedExperts) -> bool:
    """Whether a layer belongs to the part that figures are fitted to: odd CRC-32 of its sizes."""
    sizes = (layer.tokens, layer.hidden, layer.inner, layer.experts, layer.top_k)
    return bool(zlib.crc32(",".join(map(str, sizes)).encode()) & 1)


def fit_expert_training(rows: Sequence[RatedExperts], machine: MachineSpec) -> list[ExpertTraining]:
    """The three figures of each library and pass, by least squares of relative times over the part that is fitted."""
    import numpy as np
    from scipy.optimize import lsq_linear

    found = []
    for library, which in dict.fromkeys((row.library, row.which) for row in rows):
        own = [row for row in rows if (row.library, row.which) == (library, which) and is_fitted(row.layer)]
        left, right = [], []
        for row in own:
            flops, passed, rest = training_parts(row.layer, machine, which)
            seconds = row.layer.flops(which) / (row.tera_flops * 1e12)
            left.append((flops * 1e-15 / seconds, passed / seconds, 1e-4 / seconds))
            right.append(1 - rest / seconds)
        least = ([1e3 / MOST_TERA_FLOPS, 0, 0], [np.inf] * 3)
        per_peta, passes, fixed = lsq_linear(np.array(left), np.array(right), bounds=least).x
        found.append(
            ExpertTraining(
                library=library,
                which=which,
                tera_flops=float(f"{1e3 / per_peta:.4g}"),
                row_passes=float(f"{passes:.4g}"),
                fixed_us=float(f"{fixed * 100:.4g}"),
            )
        )
    return found
