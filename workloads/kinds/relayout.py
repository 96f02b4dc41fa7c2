"""``relayout``: words of 32 bits, given as four bytes each, turned so that a product finds what it sums over in lanes.

The values stay as they are. A machine with a unit that crosses lanes says how many words it turns in a cycle
(``vector.rates.relayout``); elsewhere every word is moved by an instruction of ``LANES`` lanes of its own.
"""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import UnitValues

LANES = 128
_WORD_BYTES = 4


def _check(operator: Operator) -> None:
    if operator.count("n_elements") % _WORD_BYTES:
        raise InputError(
            f"{operator.name}: n_elements: given {operator.count('n_elements')}; "
            f"allowed multiples of the {_WORD_BYTES} bytes of a word"
        )


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.inputs[0], operator.count("n_elements"))
    need_elements(operator, stream, operator.outputs[0], operator.count("n_elements"))


def _work(operator: Operator) -> dict[str, int]:
    return {"add": operator.count("n_elements") // _WORD_BYTES * LANES}


def _unit(operator: Operator) -> UnitValues:
    return UnitValues("relayout", operator.count("n_elements") // _WORD_BYTES)


register_kind(
    OperatorKind(
        name="relayout",
        word="words turned between lanes and rows",
        attributes={"n_elements": "count"},
        check=_check,
        sizes=_sizes,
        work=_work,
        unit=_unit,
        colour="#2a9d8f",
        assumptions=(
            "a turned word takes the unit that crosses lanes (vector.rates.relayout), or a vector instruction of "
            f"{LANES} lanes by itself where a machine has none",
        ),
    ),
    rank=18,
)
