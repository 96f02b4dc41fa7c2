"""``serve``: requests that arrive at a server of one language model, and the policy that puts them in steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.document import STRICT_FIELDS
from tilewright.errors import InputError
from tilewright.formats import element_format
from tilewright.workloads.runs.kind import RunKind, register_run

__all__ = ["ArrivalsSpec", "LengthSpec", "LinkSpec", "ParallelSpec", "PolicySpec", "ServeCacheSpec", "ServeRun"]

_MOST_REQUESTS = 1_000_000
_MOST_TOKENS = 10_000_000

Text = Annotated[str, MinLen(1)]
Count: TypeAlias = Annotated[int, Ge(1), Le(_MOST_TOKENS)]
CountOrNone: TypeAlias = Annotated[int, Ge(0), Le(_MOST_TOKENS)]
Scalar: TypeAlias = int | float | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthSpec:
    """Tokens of a prompt or an answer: ``tokens`` always, or a log-normal law by its ``median`` and the value that nine
    of ten stay below, ``p90``; drawn numbers are cut at ``most`` and are at least one.
    """

    __pydantic_config__ = STRICT_FIELDS

    tokens: CountOrNone = 0
    median: Annotated[float, Ge(0), Le(_MOST_TOKENS)] = 0.0
    p90: Annotated[float, Ge(0), Le(_MOST_TOKENS)] = 0.0
    most: Count = 131_072

    def __post_init__(self) -> None:
        if bool(self.tokens) == bool(self.median):
            raise ValueError("tokens: given with a median, or neither; allowed one of the two")
        if self.median and not self.p90 >= self.median:
            raise ValueError(f"p90: given {self.p90:g}; allowed at least the median, {self.median:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalsSpec:
    """Requests: a ``file`` (CSV with ``arrival_s``, ``input_tokens``, ``output_tokens``, and ``hit_tokens`` of the
    prompt that lie in the cache already; ``only`` keeps rows by the value of a column), or ``count`` of them at a
    fixed ``rate``, or at a ``poisson`` rate (a second), or all at once, with lengths by ``prompt`` and ``answer``.

    ``hit_tokens``: of every prompt, where there is no file. ``seed``: of gaps and lengths.
    """

    __pydantic_config__ = STRICT_FIELDS

    file: str = ""
    only: dict[str, str] = field(default_factory=dict)
    count: Annotated[int, Ge(0), Le(_MOST_REQUESTS)] = 0
    rate: Annotated[float, Ge(0), Le(1e9)] = 0.0
    poisson: Annotated[float, Ge(0), Le(1e9)] = 0.0
    seed: Annotated[int, Ge(0)] = 0
    prompt: LengthSpec | None = None
    answer: LengthSpec | None = None
    hit_tokens: CountOrNone = 0

    def __post_init__(self) -> None:
        drawn = {"count": self.count, "rate": self.rate, "poisson": self.poisson, "prompt": self.prompt}
        drawn |= {"answer": self.answer, "hit_tokens": self.hit_tokens}
        given = [name for name, value in drawn.items() if value]
        if self.file and given:
            raise ValueError(f"{given[0]}: given beside a file, which says it itself; allowed without")
        if not self.file:
            if self.only:
                raise ValueError("only: chooses rows of a file; allowed with one")
            missing = [name for name in ("count", "prompt", "answer") if not drawn[name]]
            if missing:
                raise ValueError(f"{missing[0]}: missing; allowed a file, or count, prompt and answer")
            if self.rate and self.poisson:
                raise ValueError("poisson: given beside rate; allowed one of the two")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeCacheSpec:
    """``format`` of keys and values, tokens of a ``block``. ``blocks``: how many there are (0: what the memory holds
    beside the weights, of its ``share`` and less ``working_gb`` of the server's own buffers).

    ``keeps``: what a request leaves in blocks that are given up stays until another takes them, and is found again.
    """

    __pydantic_config__ = STRICT_FIELDS

    format: Text = "bf16"
    block: Annotated[int, Ge(1), Le(65_536)] = 16
    blocks: CountOrNone = 0
    share: Annotated[float, Gt(0), Le(1)] = 0.9
    working_gb: Annotated[float, Ge(0), Le(1e6)] = 1.24
    keeps: bool = False

    def __post_init__(self) -> None:
        try:
            element_format(self.format)
        except InputError as error:
            raise ValueError(f"format: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """A step takes at most ``tokens``, of at most ``running`` requests. ``prefill``: ``chunked`` (what of the budget
    is left goes to prompts), ``whole`` (a prompt in one step, which may be more than the budget), or ``layered``: a
    prompt goes through one group of layers a step, ceil(length / ``group_tokens``) groups.
    """

    __pydantic_config__ = STRICT_FIELDS

    tokens: Count = 2048
    running: Annotated[int, Ge(1), Le(1_000_000)] = 256
    prefill: Literal["chunked", "whole", "layered"] = "chunked"
    group_tokens: Count = 512

    def __post_init__(self) -> None:
        if self.tokens < self.running:
            raise ValueError(
                f"tokens: given {self.tokens} for {self.running} running requests, each of which takes one a step; "
                f"allowed from {self.running}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """``bandwidth_gb_per_s`` that a device sends and receives at, and ``start_us`` of each exchange."""

    __pydantic_config__ = STRICT_FIELDS

    bandwidth_gb_per_s: Annotated[float, Gt(0), Le(1e6)]
    start_us: Annotated[float, Ge(0), Le(1e6)] = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelSpec:
    """``tensor``: devices that share every matrix of an engine; ``engines``: copies with requests of their own, dealt
    out in turn. ``experts``: the engines share the experts and go in step. ``link``: between the devices.
    """

    __pydantic_config__ = STRICT_FIELDS

    tensor: Annotated[int, Ge(1), Le(1024)] = 1
    engines: Annotated[int, Ge(1), Le(1024)] = 1
    experts: bool = False
    link: LinkSpec | None = None

    def __post_init__(self) -> None:
        if self.experts and self.engines == 1:
            raise ValueError("experts: shared by one engine; allowed with engines from 2")
        if (self.tensor > 1 or self.experts) and self.link is None:
            raise ValueError("link: missing; allowed bandwidth_gb_per_s and start_us of what is between the devices")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRun:
    """A server of ``model`` (``tilewright list models``): ``arrivals`` under ``policy``, with blocks of ``cache``.

    ``storage`` of weights, ``runtime`` whose kernels, ``routing`` of experts as in ``decode``;
    ``expert_rows``: rows of an expert for which its weights are loaded once (0: all of a step). ``step_us`` and
    ``sequence_us``: what the server's program takes of every step, and for each request in it (None: the runtime's).
    ``weights_share``: of the memory's bandwidth, at which weights come (None: the card's, or the calibration's).
    ``sweep``: fields by their path (``policy.tokens``), each with values; every combination is run.
    """

    __pydantic_config__ = STRICT_FIELDS

    run: Literal["serve"]
    model: Text
    arrivals: ArrivalsSpec
    policy: PolicySpec = PolicySpec()
    cache: ServeCacheSpec = ServeCacheSpec()
    parallel: ParallelSpec = ParallelSpec()
    storage: Text = "fp16"
    runtime: Text = "vllm"
    routing: Text = "uniform"
    expert_rows: Annotated[int, Ge(0), Le(65_536)] = 0
    step_us: Annotated[float, Ge(0), Le(1e7)] = 0.0
    sequence_us: Annotated[float, Ge(0), Le(1e6)] | None = None
    weights_share: Annotated[float, Gt(0), Le(1)] | None = None
    sweep: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        for path, values in self.sweep.items():
            if not values:
                raise ValueError(f"sweep.{path}: no values; allowed at least one")
            self.changed({path: values[0]})

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name or f"serving of {self.model}"

    def changed(self, values: dict[str, Scalar]) -> ServeRun:
        """The run with other values at some paths, without its sweep. Raises ValueError for a field that is none."""
        from dataclasses import asdict

        from pydantic import TypeAdapter, ValidationError

        plain: dict[str, Any] = {**asdict(self), "sweep": {}}
        for path, value in values.items():
            *places, last = path.split(".")
            at: Any = plain
            for place in places:
                at = at.get(place) if isinstance(at, dict) else None
            if not isinstance(at, dict) or last not in at or path.split(".")[0] in ("sweep", "run", "name"):
                raise ValueError(f"sweep.{path}: names no field of the run; allowed such as policy.tokens")
            if isinstance(at[last], dict | list | tuple):
                raise ValueError(f"sweep.{path}: names a group of fields; allowed one field, such as policy.tokens")
            at[last] = value
        try:
            return TypeAdapter(ServeRun).validate_python(plain)
        except ValidationError as error:
            first = error.errors()[0]
            told = str(first["msg"]).removeprefix("Value error, ")
            raise ValueError(f"sweep.{', '.join(values)}: {told[:1].lower()}{told[1:]}") from None


register_run(
    RunKind(
        name="serve",
        summary="requests that arrive at a server of a language model: batches, blocks of cache, latencies",
        description=ServeRun,
    ),
    rank=5,
)
