"""``generate``: a decoder reads prompts into its cache and writes tokens, one step for each of all requests at a time.

The prompt's step gives the first token; every further one is a step with the token before as its input, behind the
tokens cached so far: token number i of a request with a prompt of p tokens is made behind p + i - 2 cached ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from tilewright.document import STRICT_FIELDS
from tilewright.errors import InputError
from tilewright.formats import tensor_format
from tilewright.workloads.runs.kind import RunKind, register_run

__all__ = ["CacheSpec", "GenerateRun", "PruneSpec", "RequestSpec", "SpeculativeSpec"]

_MOST_TOKENS = 2**31 - 1

Text = Annotated[str, MinLen(1)]
Count = Annotated[int, Ge(1), Le(_MOST_TOKENS)]


def _check_formats(owner: object, *names: str) -> None:
    for name in names:
        given = getattr(owner, name)
        if given is None:
            continue
        try:
            tensor_format(given)
        except InputError as error:
            raise ValueError(f"{name}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """How keys and values are kept: formats of their own (None: as the network has them).

    ``block``: tokens of a block; a sequence holds whole blocks. ``residual``: so many of the newest tokens stay in the
    format that they are made in. ``bucket``: numbers of keys that share a program of attention, which does as many keys
    as the largest of them (None: one each, or so many that there are at most 1,024 programs).
    """

    __pydantic_config__ = STRICT_FIELDS

    keys: Text | None = None
    values: Text | None = None
    block: Count = 1
    residual: Annotated[int, Ge(0), Le(_MOST_TOKENS)] = 0
    bucket: Count | None = None

    def __post_init__(self) -> None:
        _check_formats(self, "keys", "values")


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneSpec:
    """From the token ``after`` on only ``keep`` sequences go on; the others leave with what they alone hold."""

    __pydantic_config__ = STRICT_FIELDS

    after: Count
    keep: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpec:
    """``count`` equal sequences: tokens of the prompt, and tokens to be made.

    ``shared``: so many first tokens of the prompt are the same for all of them; they are read once, and whole blocks of
    them are held once. With the whole prompt shared the sequences are paths of one answer (test-time scaling), which
    ``prune`` makes fewer.
    """

    __pydantic_config__ = STRICT_FIELDS

    prompt: Count
    generate: Count
    count: Count = 1
    shared: Annotated[int, Ge(0), Le(_MOST_TOKENS)] = 0
    prune: tuple[PruneSpec, ...] = ()

    def __post_init__(self) -> None:
        if self.shared > self.prompt:
            raise ValueError(f"shared: more than the prompt; given {self.shared}; allowed 0 to {self.prompt}")
        after, keep = 0, self.count
        for number, one in enumerate(self.prune):
            if not after < one.after < self.generate:
                raise ValueError(f"prune.{number}.after: given {one.after}; allowed {after + 1} to {self.generate - 1}")
            if one.keep >= keep:
                raise ValueError(f"prune.{number}.keep: given {one.keep}; allowed 1 to {keep - 1}")
            after, keep = one.after, one.keep

    def n_alive(self, step: int) -> int:
        """Sequences that take step ``step`` behind the prompt (from 1), which makes token step + 1."""
        if step > self.generate - 1:
            return 0
        return next((one.keep for one in reversed(self.prune) if one.after <= step), self.count)

    @property
    def ends(self) -> set[int]:
        """Steps behind which fewer go on."""
        return {self.generate - 1, *(one.after - 1 for one in self.prune)} - {0}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeSpec:
    """Speculative decoding: ``draft``, a network, guesses ``tokens`` one by one, which the network checks all at once.

    ``acceptance``: the probability that a guess is right; a round then makes (1 - a^(t + 1)) / (1 - a) tokens in the
    mean (Leviathan et al., arXiv 2211.17192, eq. 1).
    """

    __pydantic_config__ = STRICT_FIELDS

    draft: Text
    tokens: Annotated[int, Ge(1), Le(1024)]
    acceptance: Annotated[float, Ge(0), Le(1)]

    @property
    def tokens_per_round(self) -> float:
        """Tokens that a round makes in the mean."""
        a, t = self.acceptance, self.tokens
        return float(t + 1) if a == 1 else (1 - a ** (t + 1)) / (1 - a)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRun:
    """Requests to one decoder, all begun together: their prompts one after the other, then steps for all at once.

    ``network``: a name, a configuration or a name with options other than those of tokens. ``weights`` and
    ``activations``: number formats (None: as the network has them); ``head``: that of the weights of the last product,
    which gives the logits. ``speculative``: another network guesses tokens.
    ``predicted_by``: another network reads the prompt, and products make keys and values of each layer from its own (KV
    prediction, arXiv 2410.08391); the network itself then only makes the first token behind them.
    """

    __pydantic_config__ = STRICT_FIELDS

    run: Literal["generate"] = "generate"
    network: Text
    requests: Annotated[tuple[RequestSpec, ...], MinLen(1)]
    cache: CacheSpec = CacheSpec()
    weights: Text | None = None
    activations: Text | None = None
    head: Text | None = None
    speculative: SpeculativeSpec | None = None
    predicted_by: Text | None = None

    def __post_init__(self) -> None:
        _check_formats(self, "weights", "activations", "head")
        if self.predicted_by is not None and any(request.shared for request in self.requests):
            raise ValueError("predicted_by: reads whole prompts; given together with shared; allowed one of the two")

    @property
    def title(self) -> str:
        """What results call it."""
        return self.network

    @property
    def n_sequences(self) -> int:
        """Requests in all."""
        return sum(request.count for request in self.requests)


_OPTIONS = {
    "prompt": "tokens of the prompt",
    "generate": "tokens to be made, the first of them by the prompt's step",
    "batch": "equal requests at once (1)",
    "kv": "number format of keys and values in the cache",
    "keys": "that of the keys",
    "values": "that of the values",
    "block": "tokens of a block of the cache (1)",
    "residual": "newest tokens that stay in the format they are made in (0)",
    "shared": "first tokens of the prompt that all of the batch share (0)",
    "bucket": "numbers of keys that share a program of attention (1, of more than 1,024 numbers more)",
    "head": "number format of the last product's weights",
}
_NUMBERS = ("prompt", "generate", "batch", "block", "residual", "bucket", "shared")


def _of_options(network: str, options: Mapping[str, str]) -> GenerateRun:
    numbers = {key: _whole(network, key, options[key]) for key in _NUMBERS if key in options}
    for key in ("prompt", "generate"):
        if key not in numbers:
            raise InputError(f"{network}: {key}: missing; a generation is written NAME:prompt=512,generate=16")
    keys, values = (options.get(key, options.get("kv")) for key in ("keys", "values"))
    try:
        return GenerateRun(
            network=network,
            requests=(
                RequestSpec(
                    prompt=numbers["prompt"],
                    generate=numbers["generate"],
                    count=numbers.get("batch", 1),
                    shared=numbers.get("shared", 0),
                ),
            ),
            cache=CacheSpec(
                keys=keys,
                values=values,
                block=numbers.get("block", 1),
                residual=numbers.get("residual", 0),
                bucket=numbers.get("bucket"),
            ),
            head=options.get("head"),
        )
    except ValueError as fault:
        raise InputError(f"{network}: {fault}") from None


def _whole(network: str, key: str, text: str) -> int:
    least = 0 if key in ("residual", "shared") else 1
    if not text.isdecimal() or not least <= int(text) <= _MOST_TOKENS:
        allowed = f"whole numbers from {least} to {_MOST_TOKENS}"
        raise InputError(f'{network}: {key}: must be a whole number; given "{text}"; allowed {allowed}')
    return int(text)


register_run(
    RunKind(
        name="generate",
        summary="a decoder reads prompts and writes tokens",
        description=GenerateRun,
        options=_OPTIONS,
        marks=frozenset({"prompt", "generate"}),
        of_options=_of_options,
    ),
    rank=1,
)
