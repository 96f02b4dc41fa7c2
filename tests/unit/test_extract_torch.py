"""PyTorch modules: what is read, on the meta device, and what is refused in one clear line."""

from __future__ import annotations

from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.workloads.stream.graph import OperatorStream

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[torch]'")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from tilewright.workloads.extract.torch import stream_from_torch  # noqa: E402

pytestmark = pytest.mark.extras


def extract(module: Any, *shapes: tuple[int, ...], **options: Any) -> OperatorStream:
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    return stream_from_torch(module.to("meta"), inputs, **options)


def functions(stream: OperatorStream) -> list[str]:
    return [f"{op.kind} {op.text('function')}".strip() for op in stream.operators]


class Calls(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Any, **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def test_a_small_network_with_places_and_folded_norm() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    stream = extract(net, (2, 3, 16, 16))
    assert functions(stream) == ["conv", "elementwise relu", "pool max", "reduction mean", "matmul"]
    assert [op.path for op in stream.operators] == ["0", "2", "3", "4", "6"]
    assert stream.macs == 2 * 8 * 64 * 27 + 2 * 40
    assert stream.n_parameters == 8 * 27 + 16 + 45
    assert functions(extract(net, (2, 3, 16, 16), fold_batch_norm=False))[1] == "norm batch"


def test_number_formats_are_those_of_the_module() -> None:
    stream = stream_from_torch(
        nn.Linear(8, 4).to("meta", torch.bfloat16), [torch.empty(2, 8, device="meta").bfloat16()]
    )
    assert {tensor.number_format for tensor in stream.tensors} == {"bf16"}


def test_weights_that_are_shared_count_once() -> None:
    table = nn.Embedding(100, 16)
    net = Calls(lambda m, x: functional.linear(m.table(x.long()), m.table.weight), table=table)
    stream = extract(net, (1, 7))
    assert functions(stream) == ["gather", "matmul"]
    assert stream.n_weights == stream.n_parameters == 1600


def test_results_written_in_place_are_the_ones_read_later() -> None:
    def add_twice(module: Any, x: Any) -> Any:
        y = torch.exp(x)
        y.add_(x)
        return y * 2

    stream = extract(Calls(add_twice), (4, 8))
    assert functions(stream) == ["elementwise exp", "elementwise add", "elementwise mul"]
    assert stream.predecessors(stream.operators[2]) == (stream.operators[1],)


def test_grouped_queries_are_read_once() -> None:
    def attend(module: Any, q: Any, k: Any, v: Any) -> Any:
        wide = [one[:, :, None].expand(1, 2, 4, 6, 8).reshape(1, 8, 6, 8) for one in (k, v)]
        return functional.scaled_dot_product_attention(q, *wide, is_causal=True)

    operator = extract(Calls(attend), (1, 8, 6, 8), (1, 2, 6, 8), (1, 2, 6, 8)).operators[0]
    assert [operator.count(key) for key in ("query_heads", "kv_heads")] == [8, 2]
    assert operator.text("mask") == "causal"


def test_a_written_out_attention_with_a_window_is_one_operator() -> None:
    def attend(module: Any, q: Any, k: Any, v: Any) -> Any:
        place = torch.arange(6, device=q.device)
        near = (place[None] <= place[:, None]) & (place[None] > place[:, None] - 3)
        scores = (q @ k.transpose(-1, -2) * 0.5).masked_fill(~near, float("-inf"))
        return scores.softmax(-1) @ v

    stream = extract(Calls(attend), *[(1, 2, 6, 8)] * 3)
    assert functions(stream) == ["attention"]
    operator = stream.operators[0]
    assert (operator.text("mask"), operator.count("window_left"), operator.attributes["window_right"]) == (
        "banded",
        2,
        0,
    )


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Conv1d(4, 6, 3, padding="same"), (1, 4, 10), 6 * 10 * 12),
        (nn.Conv3d(2, 4, 3), (1, 2, 5, 5, 5), 4 * 27 * 2 * 27),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5), 4 * 25 * 6 * 4),
        (nn.Conv2d(8, 8, 3, groups=8, padding=1), (1, 8, 6, 6), 8 * 36 * 9),
        (nn.MultiheadAttention(16, 2, batch_first=True), None, 4 * 5 * 16 * 16 + 2 * 2 * 5 * 5 * 8),
    ],
)
def test_macs_of_layers(module: Any, shape: tuple[int, ...] | None, macs: int) -> None:
    if shape is None:
        stream = stream_from_torch(
            Calls(lambda m, x: m.part(x, x, x, need_weights=False)[0], part=module).to("meta"),
            [torch.empty(1, 5, 16, device="meta")],
        )
    else:
        stream = extract(module, shape)
    assert stream.macs == macs


def test_a_cache_is_appended_to_and_not_copied() -> None:
    def step(module: Any, q: Any, k: Any, v: Any, cached: Any) -> Any:
        keys, values = torch.cat([cached[0], k], dim=-2), torch.cat([cached[1], v], dim=-2)
        return functional.scaled_dot_product_attention(q, keys, values), keys, values

    class Step(nn.Module):
        def forward(self, q: Any, k: Any, v: Any, cached: Any) -> Any:
            return step(self, q, k, v, cached)

    new = torch.empty(1, 2, 1, 8, device="meta")
    cached = [torch.empty(1, 2, 100, 8, device="meta") for _ in range(2)]
    stream = stream_from_torch(Step(), (new, new, new, cached), caches=("cached",), n_kept=2)
    assert functions(stream) == ["reshape append", "reshape append", "attention"]
    assert stream.cache_bytes == 2 * 100 * 16 * 4
    assert stream.read_bytes(stream.operators[0]) == 16 * 4


# --- what is refused ------------------------------------------------------------------------------------------------


def test_an_operator_that_is_not_understood() -> None:
    net = nn.Sequential(Calls(lambda m, x: torch.linalg.det(x)))
    with pytest.raises(InputError, match=r"operators not understood: aten\.linalg_det at 0"):
        extract(net, (4, 3, 3))
    assert functions(extract(net, (4, 3, 3), unknown="memory")) == ["memory aten.linalg_det"]
    mapped = extract(net, (4, 3, 3), unknown={"aten.linalg_det": "elementwise:mul"})
    assert functions(mapped) == ["elementwise mul"]


def test_a_module_that_cannot_be_exported() -> None:
    net = Calls(lambda m, x: x if x.sum() > 0 else -x)
    with pytest.raises(InputError, match="Calls: this module cannot be exported") as fault:
        extract(net, (4, 3))
    assert "\n" not in str(fault.value)


def test_a_module_that_fails() -> None:
    with pytest.raises(InputError, match="this module cannot be exported"):
        extract(nn.Linear(8, 4), (2, 9))


def test_an_operator_of_another_library_is_named_in_full() -> None:
    from torch import library

    @library.custom_op("tilewright_test::relu", mutates_args=())
    def relu(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @relu.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    with pytest.raises(InputError, match=r"operators not understood: tilewright_test\.relu at"):
        extract(Calls(lambda m, x: relu(x)), (4, 8))


def test_a_tensor_that_is_filled_part_by_part_is_its_parts_joined() -> None:
    def fill(module: Any, x: Any, y: Any) -> Any:
        out = x.new_empty(4, 12)
        out[:, :8] = torch.exp(x)
        out[:, 8:] = y
        return torch.tanh(out)

    stream = extract(Calls(fill), (4, 8), (4, 4))
    assert functions(stream) == ["elementwise exp", "reshape concat", "elementwise tanh"]
    assert stream.read_bytes(stream.operators[1]) == stream.write_bytes(stream.operators[1]) == 4 * 48


def test_what_is_written_into_a_part_is_in_the_whole_that_is_read_later() -> None:
    def change(module: Any, x: Any) -> Any:
        y = torch.exp(x)
        y[:, 0].mul_(torch.tanh(x[:, 1]))
        return torch.relu(y)

    stream = extract(Calls(change), (4, 8))
    assert functions(stream) == [
        "elementwise exp",
        "elementwise tanh",
        "elementwise mul",
        "reshape scatter",
        "elementwise relu",
    ]
    assert stream.predecessors(stream.operators[4]) == (stream.operators[3],)


def test_complex_numbers_are_pairs() -> None:
    def turn(module: Any, x: Any, angle: Any) -> Any:
        pairs = torch.view_as_complex(x.reshape(4, 8, 2))
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(1)

    stream = extract(Calls(turn), (4, 16), (4, 8))
    assert functions(stream) == ["elementwise cos", "elementwise rotary"]
    assert stream.operators[1].count("n_elements") == 64
    assert stream.read_bytes(stream.operators[1]) == 2 * 64 * 4


@pytest.mark.parametrize("rows", [4, 10, 2])
def test_experts_share_rows_as_evenly_as_they_go(rows: int) -> None:
    ends = torch.zeros(4, dtype=torch.int32, device="meta")

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(4, 16, 8))

        def forward(self, x: Any, ends: Any) -> Any:
            return torch.nn.functional.grouped_mm(x, self.weight, offs=ends)

    x = torch.empty(rows, 16, device="meta", dtype=torch.bfloat16)
    stream = stream_from_torch(Experts().to("meta", torch.bfloat16), [x, ends])
    assert stream.macs == rows * 16 * 8
    products = [operator for operator in stream.operators if operator.kind == "matmul"]
    assert sum(operator.count("batch") for operator in products) == min(rows, 4)
    assert sum(stream.read_bytes(operator) for operator in products) == 2 * (rows * 16 + min(rows, 4) * 128)
