"""Masks of attention, read from their construction: bands at any length, biases beside them, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.extract import torch_values
from tilewright.workloads.extract.runs import Runs, combine, kept_triangle, runs_of
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[torch]'")

from torch.nn import functional  # noqa: E402

from tilewright.workloads.extract.torch import stream_from_torch  # noqa: E402

pytestmark = pytest.mark.extras

ROWS, KEYS, LONG = 5, 8, 1 << 17
LARGE = float(torch.finfo(torch.float32).min)


class Attention(torch.nn.Module):  # type: ignore[misc]
    """Attention of one head under a mask that ``make`` builds from numbers of queries and keys."""

    def __init__(self, make: Any, *, is_written_out: bool = False) -> None:
        super().__init__()
        self.make = make
        self.is_written_out = is_written_out

    def forward(self, q: Any, k: Any, v: Any, *data: Any) -> Any:
        mask = self.make(q.shape[-2], k.shape[-2], *data)
        if not self.is_written_out:
            return functional.scaled_dot_product_attention(q, k, v, mask)
        return (q @ k.transpose(-1, -2) * 0.5 + mask).softmax(-1) @ v


def stream_of(make: Any, rows: int, keys: int, *data: Any, **options: Any) -> OperatorStream:
    q, k, v = (torch.empty(1, 2, n, 4, device="meta") for n in (rows, keys, keys))
    module = Attention(make, is_written_out=options.pop("is_written_out", False)).to("meta")
    return stream_from_torch(module, [q, k, v, *data], name="net", **options)


def attention(stream: OperatorStream) -> Operator:
    (found,) = [operator for operator in stream.operators if operator.kind == "attention"]
    return found


def positions(rows: int, keys: int) -> tuple[Any, Any]:
    query = torch.arange(rows, device="meta")[:, None] + (keys - rows)
    return query, torch.arange(keys, device="meta")[None]


def added(seen: Any) -> Any:
    return torch.zeros((), device="meta").masked_fill(~seen, float("-inf"))


def causal(rows: int, keys: int) -> Any:
    query, key = positions(rows, keys)
    return key <= query


def window(rows: int, keys: int) -> Any:
    query, key = positions(rows, keys)
    return (key <= query) & (key > query - 3)


def window_of_ids(rows: int, keys: int) -> Any:
    """As transformers builds it, with sequences packed one behind another (here one) and positions looked up."""
    place = torch.arange(keys, device="meta")[None]
    packed = (torch.diff(place, prepend=place[:, :1] - 1, dim=-1) != 1).cumsum(-1)
    batch = torch.arange(1, device="meta")[:, None, None, None]
    query, key = positions(rows, keys)
    query, key = query[None, None], key[None, None]
    same = packed[batch, query] == packed[batch, key]
    near = torch.ones((), dtype=torch.bool, device="meta") & (key > query - 3) & (key <= query)
    return torch.where((same & near).expand(1, -1, rows, keys), torch.zeros((), device="meta"), LARGE)


def both_sides(rows: int, keys: int) -> Any:
    query, key = positions(rows, keys)
    return added((query - key).abs() <= 2)


def chunks(rows: int, keys: int) -> Any:
    query, key = positions(rows, keys)
    return (key // (1 << 20) == query // (1 << 20)) & (key <= query)


def triangle(rows: int, keys: int) -> Any:
    return torch.full((rows, keys), float("-inf"), device="meta").triu(keys - rows + 1)


def triangle_of_ones(rows: int, keys: int) -> Any:
    ones = torch.ones(keys, keys, device="meta").tril()[None, None, keys - rows :, :keys]
    return (1.0 - ones) * -10000.0


def no_mask(rows: int, keys: int) -> Any:
    return torch.ones(rows, keys, dtype=torch.bool, device="meta")


BANDS = (causal, window, window_of_ids, both_sides, chunks, triangle, triangle_of_ones, no_mask)


def scores_of(make: Any, rows: int, keys: int) -> int:
    """What a mask leaves, counted entry by entry on the processor."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("arange", "zeros", "ones", "full"):
            function = getattr(torch, name)
            patch.setattr(
                torch, name, lambda *given, function=function, **more: function(*given, **more | {"device": "cpu"})
            )
        mask = torch.broadcast_to(make(rows, keys), (1, 1, rows, keys))
    return int((mask if mask.dtype == torch.bool else mask > -1e4).sum())


@pytest.mark.parametrize("make", BANDS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("way", ["entries", "runs"])
@pytest.mark.parametrize("rows", [ROWS, KEYS])
def test_a_mask_leaves_the_scores_that_its_entries_show(
    make: Any, way: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "runs":  # nothing but vectors is computed entry by entry
        monkeypatch.setattr(torch_values, "_SMALL", 0)
        monkeypatch.setattr(torch_values, "_LARGEST_KNOWN", KEYS)
    found = attention(stream_of(make, rows, KEYS))
    assert attention_layer(found).n_scores_per_head == scores_of(make, rows, KEYS)
    assert len(found.inputs) == 3


@pytest.mark.parametrize(
    ("make", "scores"),
    [
        (causal, LONG * (LONG + 1) // 2),
        (window, 3 * LONG - 3),
        (window_of_ids, 3 * LONG - 3),
        (both_sides, 5 * LONG - 6),
        (chunks, LONG * (LONG + 1) // 2),
        (triangle, LONG * (LONG + 1) // 2),
        (triangle_of_ones, LONG * (LONG + 1) // 2),
        (no_mask, LONG * LONG),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_masks_of_any_length_are_read(make: Any, scores: int) -> None:
    found = attention(stream_of(make, LONG, LONG))
    assert attention_layer(found).n_scores_per_head == scores


def test_a_written_out_attention_reads_its_mask_the_same_way() -> None:
    found = attention(stream_of(window_of_ids, LONG, LONG, is_written_out=True))
    assert (found.text("mask"), found.count("window_left")) == ("banded", 2)


# --- biases ---------------------------------------------------------------------------------------------------------


def test_a_padding_mask_is_a_bias_of_its_own_shape_beside_the_band() -> None:
    padding = torch.empty(1, 1, 1, KEYS, dtype=torch.bool, device="meta")
    stream = stream_of(lambda rows, keys, seen: causal(rows, keys) & seen, KEYS, KEYS, padding)
    found = attention(stream)
    assert found.text("mask") == "causal"
    assert found.attributes["bias"] is True
    assert stream.tensor(found.inputs[3]).shape == (1, 1, 1, KEYS)
    assert [operator.kind for operator in stream.operators] == ["attention"]


def test_not_of_an_or_is_an_and_of_nots() -> None:
    hidden = torch.empty(1, 1, 1, KEYS, dtype=torch.bool, device="meta")

    def make(rows: int, keys: int, data: Any) -> Any:
        return torch.zeros((), device="meta").masked_fill(~causal(rows, keys) | data, float("-inf"))

    found = attention(stream_of(make, KEYS, KEYS, hidden))
    assert (found.text("mask"), found.attributes["bias"]) == ("causal", True)


@pytest.mark.parametrize("is_written_out", [False, True])
def test_a_bias_under_a_mask_keeps_both(is_written_out: bool) -> None:
    table = torch.empty(2, ROWS, KEYS, device="meta")

    def make(rows: int, keys: int, bias: Any) -> Any:
        return torch.where(window(rows, keys), bias, LARGE)

    stream = stream_of(make, ROWS, KEYS, table, is_written_out=is_written_out)
    found = attention(stream)
    assert (found.text("mask"), found.count("window_left"), found.attributes["bias"]) == ("banded", 2, True)
    assert stream.tensor(found.inputs[3]).shape[-3:] == (2, ROWS, KEYS)
    n_seen, n_scores = ROWS + 2, 3 * ROWS  # keys that some query sees; scores that a bias is added to
    assert stream.read_bytes(found) == 4 * 2 * (ROWS * 4 + 2 * n_seen * 4 + n_scores)


# --- what is refused ------------------------------------------------------------------------------------------------


def blocks(rows: int, keys: int) -> Any:
    query, key = positions(rows, keys)
    return (key // 2 == query // 2) & (key <= query)


def scattered(rows: int, keys: int) -> Any:
    query, key = positions(rows, keys)
    return torch.sin(1.0 * (query * key)) > 0


@pytest.mark.parametrize(
    ("make", "length", "says"),
    [
        (blocks, KEYS, r"net: \S+: attention: its mask of 8 queries and 8 keys is no band; allowed causal"),
        (blocks, LONG, "is no band"),
        (scattered, LONG, r"its mask cannot be understood \(gt at "),
    ],
)
def test_a_mask_that_is_no_band_is_refused_with_its_place(make: Any, length: int, says: str) -> None:
    with pytest.raises(InputError, match=says) as fault:
        stream_of(make, length, length)
    assert "\n" not in str(fault.value)


def test_a_mask_of_a_module_without_numbers_is_refused_and_counted_when_asked_for() -> None:
    class Stored(Attention):
        def __init__(self) -> None:
            super().__init__(lambda rows, keys: self.mask[:rows, :keys])
            self.register_buffer("mask", torch.ones(KEYS, KEYS, dtype=torch.bool).tril())

    inputs = [torch.empty(1, 2, KEYS, 4, device="meta")] * 3
    with pytest.raises(InputError, match='the numbers of "mask" are not there'):
        stream_from_torch(Stored().to("meta"), inputs, name="net")
    found = attention(stream_from_torch(Stored().to("meta"), inputs, name="net", unknown="memory"))
    assert (found.text("mask"), found.attributes["bias"]) == ("none", True)
    there = attention(stream_from_torch(Stored(), [torch.empty(1, 2, KEYS, 4)] * 3, name="net"))
    assert there.text("mask") == "causal"


# --- runs -----------------------------------------------------------------------------------------------------------


def test_runs_of_an_array_show_it_again() -> None:
    chance = np.random.default_rng(1)
    for _ in range(50):
        array = np.sort(chance.integers(0, 4, (2, 3, 11)), axis=-1) % 3
        runs = runs_of(array, 11)
        assert isinstance(runs, Runs)
        assert (runs.dense() == array).all()
        part = runs.part(2, 3, 9)
        assert (part.dense() == array[..., 3:9]).all()
        assert (runs.part(1, 1, 3).dense() == array[:, 1:3]).all()
        other = runs_of(array[:1, :1] * 2, 11)
        assert isinstance(other, Runs)
        joined = combine("mul", [runs, other], (2, 3, 11), lambda given: given[0] * given[1])
        assert isinstance(joined, Runs)
        assert (joined.dense() == array * array[:1, :1] * 2).all()
        kept = kept_triangle(runs, (2, 3, 11), 2, upper=True)
        assert kept is not None
        assert (kept.dense() == np.triu(array, 2)).all()


@pytest.mark.parametrize("function", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_comparisons_of_vectors_are_runs(function: str) -> None:
    compare = {
        "lt": "less",
        "le": "less_equal",
        "gt": "greater",
        "ge": "greater_equal",
        "eq": "equal",
        "ne": "not_equal",
    }
    chance = np.random.default_rng(2)
    for _ in range(30):
        row, key = chance.integers(-3, 9, (6, 1)), np.sort(chance.integers(-2, 8, 9)) * chance.choice([-1, 1])
        for first, second in ((row, key), (key, row)):
            found = combine(function, [first, second], (6, 9), lambda given: given[0])
            assert isinstance(found, Runs)
            assert (found.dense() == getattr(np, compare[function])(first, second)).all()
        difference = combine("sub", [key, row], (6, 9), lambda given: given[0] - given[1])
        assert difference is not None
        distance = combine("abs", [difference], (6, 9), lambda given: np.abs(given[0]))
        assert distance is not None
        limit = np.asarray(int(chance.integers(0, 5)))
        found = combine(function, [distance, limit], (6, 9), lambda given: getattr(np, compare[function])(*given))
        assert isinstance(found, Runs)
        assert (found.dense() == getattr(np, compare[function])(np.abs(key - row), limit)).all()
