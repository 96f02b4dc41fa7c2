"""An operator stream: the operators of a network in an order in which they can run, and the tensors between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError, unknown
from tilewright.formats import element_format, tensor_format
from tilewright.presented import Shown
from tilewright.workloads.operators import Operator, Role, TensorSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OperatorGroup", "OperatorStream"]

Signature = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorGroup:
    """Operators of a stream that are the same but for names: the first of them, and all of them in order."""

    operator: Operator
    members: tuple[Operator, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.members)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OperatorStream(Shown):
    """A network as typed operators with data edges, checked when it is made.

    ``operators`` stand in an order in which they can run; ``inputs`` and ``outputs`` name tensors. ``n_steps`` says how
    often the whole stream is run (steps of a diffusion model); every total below is that of one run. ``n_parameters``
    is the number of trained parameters of the model where that is known: it counts what folding (batch norm into
    convolutions, tables read at fixed places) leaves out of ``n_weights``. ``source`` says where the stream came from.

    Raises InputError that names the stream, the operator or tensor, and what is wrong with it.
    """

    name: str
    tensors: tuple[TensorSpec, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    n_steps: int = 1
    n_parameters: int | None = None
    source: str = ""
    _tensors: Mapping[str, TensorSpec] = field(init=False, repr=False, compare=False)
    _makers: Mapping[str, Operator] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from tilewright.workloads.stream.checks import check_stream

        object.__setattr__(self, "_tensors", {tensor.name: tensor for tensor in self.tensors})
        object.__setattr__(self, "_makers", {name: op for op in self.operators for name in op.outputs})
        check_stream(self)

    # --- looking things up --------------------------------------------------------------------------------------------

    def tensor(self, name: str) -> TensorSpec:
        """The tensor called ``name``; raises InputError, with the nearest name, when there is none."""
        found = self._tensors.get(name)
        if found is None:
            raise unknown("tensor", name, self._tensors, place=self.name, shown="the name of a tensor")
        return found

    def base(self, name: str) -> TensorSpec:
        """The tensor whose memory ``name`` is, or is a view of."""
        tensor = self.tensor(name)
        while tensor.view_of is not None:
            tensor = self.tensor(tensor.view_of)
        return tensor

    def producer(self, name: str) -> Operator | None:
        """The operator that writes the memory of the tensor ``name``; None for inputs, weights and constants."""
        return self._makers.get(self.base(name).name)

    def predecessors(self, operator: Operator) -> tuple[Operator, ...]:
        """The operators whose results ``operator`` reads, each once, in the order of its inputs."""
        found = (self.producer(name) for name in operator.inputs)
        return tuple(dict.fromkeys(maker for maker in found if maker is not None))

    # --- how much work and data ---------------------------------------------------------------------------------------

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all matrix products, convolutions and attentions (what masks leave)."""
        return sum(operator.macs for operator in self.operators)

    @property
    def n_weights(self) -> int:
        """Values of all weights that are read; shared ones count once."""
        return sum(tensor.n_elements for tensor in self._stored("weight"))

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights that are read; shared ones count once."""
        return sum(tensor.n_bytes for tensor in self._stored("weight"))

    @property
    def n_activations(self) -> int:
        """Values of all activations: inputs and results of operators, each once."""
        return sum(tensor.n_elements for tensor in self._stored("activation"))

    @property
    def activation_bytes(self) -> int:
        """Bytes of all activations: inputs and results of operators, each once."""
        return sum(tensor.n_bytes for tensor in self._stored("activation"))

    @property
    def cache_bytes(self) -> int:
        """Bytes of the key/value caches that are read."""
        given = set(self.inputs)
        return sum(tensor.n_bytes for tensor in self._stored("cache") if tensor.name in given)

    def inputs_and_outputs_bytes(self) -> tuple[int, ...]:
        """Bytes of each activation that comes from outside and of each result: what a device and its host exchange."""
        given = [name for name in self.inputs if self.tensor(name).role == "activation"]
        return tuple(self.tensor(name).n_bytes for name in (*given, *self.outputs) if self.tensor(name).role != "cache")

    def _stored(self, role: Role) -> Iterable[TensorSpec]:
        return (tensor for tensor in self.tensors if tensor.role == role and tensor.view_of is None)

    def read_bytes(self, operator: Operator) -> int:
        """Bytes that ``operator`` must read when nothing is kept between operators, each input once.

        A gather reads the rows it needs and its indices; an append only what it appends; an attention the keys and
        values that its mask leaves, and of its bias the entries that are added to one of them; a view at most its
        tensor.
        """
        own = operator.of_kind.read_bytes
        if own is not None:
            return own(operator, self)
        return sum(self.moved_bytes(name) for name in dict.fromkeys(operator.inputs))

    def write_bytes(self, operator: Operator) -> int:
        """Bytes that ``operator`` must write when nothing is kept between operators."""
        own = operator.of_kind.write_bytes
        if own is not None:
            return own(operator, self)
        return sum(self.moved_bytes(name) for name in operator.outputs)

    def moved_bytes(self, name: str) -> int:
        """Bytes that are moved when all of the tensor ``name`` is: of a view, at most what it is a view of."""
        tensor = self.tensor(name)
        smallest = tensor
        while tensor.view_of is not None:
            tensor = self.tensor(tensor.view_of)
            smallest = min(tensor, smallest, key=lambda one: one.n_elements)
        return smallest.n_bytes

    @property
    def counts(self) -> dict[str, int]:
        """How many operators there are of each kind, in the order in which kinds first occur."""
        return dict(Counter(operator.kind for operator in self.operators))

    # --- identical operators ------------------------------------------------------------------------------------------

    def signature(self, operator: Operator) -> Signature:
        """What two operators share when they cost the same: kind, attributes, shape, format and role of each tensor."""
        sides = tuple(
            tuple((spec.shape, spec.number_format, spec.role) for spec in map(self.tensor, names))
            for names in (operator.inputs, operator.outputs)
        )
        return (operator.kind, operator.attributes, sides)

    def distinct(self) -> tuple[OperatorGroup, ...]:
        """Operators grouped by :meth:`signature`, in the order in which each first occurs."""
        groups: dict[Signature, list[Operator]] = {}
        for operator in self.operators:
            groups.setdefault(self.signature(operator), []).append(operator)
        return tuple(OperatorGroup(operator=members[0], members=tuple(members)) for members in groups.values())

    # --- other streams ------------------------------------------------------------------------------------------------

    def with_formats(
        self, *, weights: str | None = None, activations: str | None = None, cache: str | None = None
    ) -> OperatorStream:
        """The same stream in other number formats; None leaves them as they are.

        ``weights`` is for the weights that multiply (second input of a product or convolution), not for biases, norms
        and embedding tables; ``activations`` for every activation but whole-number indices; ``cache`` for key/value
        caches. Raises InputError for an unknown format.
        """
        for part, name in (("weights", weights), ("activations", activations), ("cache", cache)):
            if name is not None:
                _check_format(part, name)
        multiplying = {self.base(op.inputs[1]).name for op in self.operators if op.of_kind.is_product}

        def wanted(spec: TensorSpec) -> str | None:
            base = self.base(spec.name)
            if base.role == "weight":
                return weights if base.name in multiplying else None
            if base.role == "cache":
                return cache
            is_index = element_format(base.number_format) == "int32"
            return activations if base.role == "activation" and not is_index else None

        tensors = tuple(replace(spec, number_format=wanted(spec) or spec.number_format) for spec in self.tensors)
        return replace(self, tensors=tensors)

    def with_weight_density(self, density: float) -> OperatorStream:
        """The same stream with that share of non-zero values in the weights that multiply (products, convolutions)."""
        multiplying = {self.base(op.inputs[1]).name for op in self.operators if op.of_kind.is_product}

        def with_zeros(spec: TensorSpec) -> TensorSpec:
            is_meant = spec.role == "weight" and spec.name in multiplying
            return replace(spec, density=density) if is_meant else spec

        return replace(self, tensors=tuple(map(with_zeros, self.tensors)))

    def with_split_attention(self) -> OperatorStream:
        """The same stream with every attention as two matrix products and a softmax (computed in full, mask or not)."""
        operators: list[Operator] = []
        between: list[TensorSpec] = []
        for operator in self.operators:
            apart = operator.of_kind.parts
            if apart is None:
                operators.append(operator)
                continue
            parts, tensors = apart(operator, self)
            operators += parts
            between += tensors
        return replace(self, operators=tuple(operators), tensors=(*self.tensors, *between))

    # --- as table, file and drawing -----------------------------------------------------------------------------------

    def rows(self, *, distinct: bool = False) -> list[dict[str, Any]]:
        """One row per operator (or per distinct operator, with its count) for tables; see
        ``workloads/stream/table.py``.
        """
        from tilewright.workloads.stream.table import stream_rows

        return stream_rows(self, distinct=distinct)

    def to_frame(self, *, distinct: bool = False) -> pd.DataFrame:
        """:meth:`rows` as a data frame."""
        import pandas as pd

        return pd.DataFrame(self.rows(distinct=distinct))

    def to_json(self) -> str:
        """The stream as JSON text, one tensor or operator a line."""
        from tilewright.workloads.stream.file import stream_to_json

        return stream_to_json(self)

    def save(self, path: str | Path) -> None:
        """Write the stream as a JSON file; raises InputError when the file cannot be written."""
        from tilewright.workloads.stream.file import save_stream

        save_stream(self, path)

    def to_svg(self) -> str:
        """The stream drawn as one SVG image, repeated blocks once."""
        from tilewright.workloads.stream.drawing import draw_stream

        return draw_stream(self)


def _check_format(part: str, name: str) -> None:
    try:
        tensor_format(name)
    except InputError as error:
        raise InputError(f"{part}: {error}") from None
