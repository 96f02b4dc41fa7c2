"""What ``tilewright search --over`` can choose: a space each, with an options object of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tilewright.cli.options import unknown_of
from tilewright.cli.outputs import Outputs
from tilewright.cli.progress import patience
from tilewright.errors import InputError
from tilewright.registry import Registry

if TYPE_CHECKING:
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SPACES", "NetworkOptions", "SearchCall", "SearchOptions", "SearchSpace", "count", "network_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """Options of every space: its fields are the options of the command line that mean something to it."""

    machine: str
    set: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions(SearchOptions):
    """Options of spaces whose target is a network."""

    unknown: str | None = None
    map: tuple[str, ...] = ()


O = TypeVar("O", bound=SearchOptions, covariant=True)  # noqa: E741


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCall(Generic[O]):
    """What is asked for."""

    target: str
    options: O
    outputs: Outputs
    command: str


def network_of(call: SearchCall[NetworkOptions]) -> OperatorStream:
    """The network that is asked for, with what is not understood counted as chosen; raises InputError."""
    from tilewright.workloads.network import load_network

    with patience(f"reading {call.target}"):
        return load_network(call.target, unknown=unknown_of(call.options.unknown, call.options.map))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """A space called ``name``: ``run(call)`` searches it, shows and writes what is found. ``options``: a class of
    :class:`SearchOptions`. ``budget``: reads the texts of ``--budget``.
    """

    name: str
    options: type[SearchOptions]
    run: Callable[[SearchCall[Any]], None]
    budget: Callable[[Sequence[str]], object] = tuple

    def read(self, given: dict[str, Any]) -> SearchOptions:
        """Options out of those that were given; raises InputError for one without meaning here or a missing one."""
        allowed = {field.name: field for field in fields(self.options)}
        for name in given:
            if name not in allowed:
                raise InputError(
                    f"--{_dashed(name)}: means nothing to --over {self.name}; allowed --"
                    + ", --".join(map(_dashed, sorted(allowed)))
                )
        if "budget" in given:
            given = {**given, "budget": self.budget(given["budget"])}
        for name, field in allowed.items():
            if field.default is MISSING and name not in given:
                raise InputError(f"--{_dashed(name)}: missing; this search needs it")
        return self.options(**given)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def count(texts: Sequence[str]) -> int:
    """A budget that is a number of plans or runs."""
    text = texts[-1].strip()
    if len(texts) > 1 or not text.isdecimal() or not 1 <= len(text) <= 18 or int(text) < 1:
        raise InputError(f'--budget: not a count; given "{" ".join(texts)}"; allowed a whole number of at least 1')
    return int(text)


_OWN = ("bits", "fusion", "joint", "mask", "pim", "pipeline", "steps", "tiling")
SPACES: Registry[SearchSpace] = Registry("space", rooms=[f"tilewright.cli.search_{name}" for name in _OWN])
