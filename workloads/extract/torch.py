"""PyTorch modules as operator streams, by ``torch.export``: shapes alone, no weights needed.

Put the module on the meta device (``with torch.device("meta"): model = Model()``) and give inputs there as well; a
module with weights works too. Nothing is taken apart: attention, convolutions, linear layers and norms stay whole, and
so do the scans of transformers' models (``reference_scans.py``).
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.reference_scans import as_operators
from tilewright.workloads.extract.simplify import simplify
from tilewright.workloads.extract.torch_nodes import GraphReader, writes_into_views
from tilewright.workloads.extract.unknown import Unknown
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    import torch

__all__ = ["first_line", "silence", "stream_from_exported", "stream_from_torch"]

_INSTALL = "reading PyTorch modules needs torch; install it with: pip install 'tilewright[torch]'"


def stream_from_torch(
    module: torch.nn.Module,
    inputs: Sequence[Any],
    *,
    keywords: Mapping[str, Any] | None = None,
    name: str = "",
    caches: Sequence[str] = (),
    n_kept: int = 0,
    unknown: str | Mapping[str, str] = "error",
    fold_batch_norm: bool = True,
) -> OperatorStream:
    """The operator stream of ``module`` called with ``inputs`` and ``keywords`` (tensors on the module's device).

    The module is exported as it is used for inference. ``caches`` names inputs of ``forward`` that are key/value caches
    (tensors, or lists of them); the last ``n_kept`` results are caches as they are afterwards. ``unknown`` says what
    becomes of operators that are not understood: "error" (they are listed with their places), "memory" (each counts
    as the traffic of its inputs and results), or a mapping from operator name (``aten.roll``) to "memory", "view",
    "elementwise:FUNCTION" or "kind:NAME". Raises InputError, one sentence, when torch is not installed, the module
    cannot be exported, or an operator is not understood.
    """
    torch = _torch()
    what = name or type(module).__name__
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), silence(), as_operators(module):
            program = torch.export.export(module, tuple(inputs), dict(keywords or {}), strict=False)
    except Exception as fault:
        # whatever a user's module raises, a person reads one sentence
        raise InputError(f"{what}: this module cannot be exported{_place(fault)} ({first_line(fault)})") from None
    finally:
        module.train(was_training)
    return stream_from_exported(
        program, name=what, caches=caches, n_kept=n_kept, unknown=unknown, fold_batch_norm=fold_batch_norm
    )


def stream_from_exported(
    program: torch.export.ExportedProgram,
    *,
    name: str,
    caches: Sequence[str] = (),
    n_kept: int = 0,
    unknown: str | Mapping[str, str] = "error",
    fold_batch_norm: bool = True,
) -> OperatorStream:
    """As :func:`stream_from_torch`, of a program that ``torch.export`` has made already."""
    torch = _torch()
    draft = Draft(name)
    choice = Unknown(name, unknown)
    draft.masks_as_biases = choice.counts_all
    if writes_into_views(program):
        program = _without_writes(name, program)
    GraphReader(draft, choice, program, caches).read()
    choice.complain()
    draft.n_parameters = sum({id(one): one.numel() for one in program.parameters()}.values()) or None
    for kept in draft.outputs[len(draft.outputs) - n_kept :]:
        if draft.role(kept) == "activation":
            draft.base(kept).role = "cache"
    simplify(draft, fold_batch_norm=fold_batch_norm, as_launched=True)
    return draft.finish(source=f"torch.export, PyTorch {torch.__version__.partition('+')[0]}")


def _without_writes(name: str, program: Any) -> Any:
    """The same program with results in the place of what it writes into parts of tensors."""
    try:
        with silence():
            return program.run_decompositions({})
    except Exception as fault:
        raise InputError(f"{name}: writes into parts of tensors cannot be resolved ({first_line(fault)})") from None


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No warnings and log lines of libraries in between: what went wrong is said in one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _torch() -> Any:
    try:
        import torch
        import torch.export
    except ImportError:
        raise InputError(_INSTALL) from None
    return torch


def first_line(fault: Exception) -> str:
    """The first line of a library's message, cut to a length that fits into a sentence."""
    lines = str(fault).strip().splitlines() or [type(fault).__name__]
    text = f"{lines[0]} {lines[1].strip()}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return text.rstrip(".:")[:200]


def _place(fault: Exception) -> str:
    """The line of the module's own code at which a library gave up, as " at FILE:LINE (CODE)"; empty where unknown."""
    import linecache
    import traceback
    from pathlib import Path

    frames = [frame for frame, _ in traceback.walk_tb(fault.__traceback__)]
    for frame in reversed(frames):
        path = frame.f_code.co_filename
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("torch", "tilewright", "functorch") and not path.startswith("<"):
            code = linecache.getline(path, frame.f_lineno).strip()[:100]
            return f" at {Path(path).name}:{frame.f_lineno}" + (f" ({code})" if code else "")
    return ""
