"""Does a described file read back as what was written, and is every fault named by file, line and field?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, MinLen
from pydantic import BaseModel, ConfigDict, Field

from tilewright.document import STRICT_FIELDS, load_document, parse_document, validate_data
from tilewright.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    __pydantic_config__ = STRICT_FIELDS
    name: str
    capacity_kib: Annotated[float, Gt(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    __pydantic_config__ = STRICT_FIELDS
    bandwidth_gb_per_s: Annotated[float, Gt(0)]
    detail: Literal["bandwidth", "row_buffer"] = "bandwidth"
    n_banks: Annotated[int, Ge(1)] = 8
    latency_ns: Annotated[float, Ge(0)] | None = None

    def __post_init__(self) -> None:
        if self.n_banks == 7:
            raise ValueError("n_banks: not a power of two")
        if self.n_banks == 6:
            raise ValueError("six banks: that cannot be")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    __pydantic_config__ = STRICT_FIELDS
    name: Annotated[str, MinLen(1)]
    clock_ghz: Annotated[float, Gt(0)]
    memory: Memory
    bins: Annotated[tuple[Bin, ...], MinLen(1)]
    cycles: Mapping[Literal["add", "exp"], Annotated[int, Ge(0)]] = field(default_factory=dict, hash=False)
    fast: bool = False


GOOD = """\
name: toy
clock_ghz: 1e0
memory: {bandwidth_gb_per_s: 30}
bins:
  - name: no
    capacity_kib: 5
cycles: {add: 1, exp: 6}
"""


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_document(text, Box, what="box", name="toy.yaml")
    return str(caught.value)


def test_a_good_file_reads_as_written(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("\ufeff" + GOOD, encoding="utf-8")
    box = load_document(path, Box, what="box")
    assert box == Box(
        name="toy",
        clock_ghz=1.0,
        memory=Memory(bandwidth_gb_per_s=30.0),
        bins=(Bin(name="no", capacity_kib=5.0),),
        cycles={"add": 1, "exp": 6},
    )
    assert isinstance(box.bins[0].capacity_kib, float)


def test_pydantic_models_are_read_by_the_same_door() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        n_heads: int = Field(ge=1)
        sizes: list[int] = Field(default_factory=list)

    assert parse_document("n_heads: 3\nsizes: [1, 2]", Model, what="m", name="m.yaml").sizes == [1, 2]
    with pytest.raises(InputError, match=r'^m\.yaml:1:1: n_hed: unknown field; .* \(did you mean "n_heads"\?\)$'):
        parse_document("n_hed: 3", Model, what="m", name="m.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1_000_000_000),
        ("0x10", 16),
        ("0o17", 15),
        ("-3", -3),
        (".5", 0.5),
        ("2.50", 2.5),
        ("6.", 6),
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("010", 10),
        ("12:30", "12:30"),
        ("'1'", "1"),
        ("true", True),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Anything:
        x: str | int | float | bool | None

    read = parse_document(f"x: {text}", Anything, what="x", name="x").x
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "capacity_kib: 5",
            "capacity_kb: 5",
            "toy.yaml:6:5: bins.0.capacity_kb: unknown field; given 5; allowed name, capacity_kib "
            '(did you mean "capacity_kib"?)',
        ),
        (
            "bandwidth_gb_per_s: 30",
            "bandwidth: 30",
            "toy.yaml:3:10: memory.bandwidth: unknown field; given 30; allowed bandwidth_gb_per_s, detail, n_banks, "
            'latency_ns (did you mean "bandwidth_gb_per_s"?)',
        ),
        (
            "1e0",
            '"1 GHz"',
            'toy.yaml:2:12: clock_ghz: not a number; given "1 GHz"; allowed a number greater than 0 '
            "(write the number alone: its unit is in the name of the field)",
        ),
        ("1e0", '"1"', 'toy.yaml:2:12: clock_ghz: not a number; given "1"; allowed a number greater than 0'),
        ("1e0", "", "toy.yaml:2:11: clock_ghz: not a number; given nothing; allowed a number greater than 0"),
        ("1e0", "true", "toy.yaml:2:12: clock_ghz: not a number; given true; allowed a number greater than 0"),
        ("1e0", ".inf", "toy.yaml:2:12: clock_ghz: not a finite number; given .inf; allowed a number greater than 0"),
        ("1e0", "1e999", "toy.yaml:2:12: clock_ghz: not a finite number; given 1e999; allowed a number greater than 0"),
        (
            "30}",
            "0}",
            "toy.yaml:3:30: memory.bandwidth_gb_per_s: out of range; given 0; allowed a number greater than 0",
        ),
        (
            "30}",
            "30, n_banks: 1.5}",
            "toy.yaml:3:43: memory.n_banks: not a whole number; given 1.5; allowed a whole number of at least 1",
        ),
        (
            "30}",
            "30, latency_ns: -2}",
            "toy.yaml:3:46: memory.latency_ns: out of range; given -2; allowed a number of at least 0",
        ),
        (
            "30}",
            "30, detail: row_bufer}",
            'toy.yaml:3:42: memory.detail: unknown value; given "row_bufer"; allowed bandwidth, row_buffer '
            '(did you mean "row_buffer"?)',
        ),
        ("30}", "30, n_banks: 7}", "toy.yaml:3:43: memory.n_banks: not a power of two"),
        ("30}", "30, n_banks: 6}", "toy.yaml:3:9: memory: six banks: that cannot be"),
        (
            "add: 1",
            "ad: 1",
            'toy.yaml:7:10: cycles.ad: unknown key; given "ad"; allowed add, exp (did you mean "add"?)',
        ),
        (
            "add: 1",
            "add: -1",
            "toy.yaml:7:15: cycles.add: out of range; given -1; allowed a whole number of at least 0",
        ),
        ("cycles: {", "fast: yes #", 'toy.yaml:7:7: fast: not true or false; given "yes"; allowed true or false'),
        (
            "cycles:",
            "name:",
            "toy.yaml:7:1: name: the key is given twice, in line 1 and in line 7; allowed once",
        ),
        ("name: toy", "name: 5", "toy.yaml:1:7: name: not text; given 5; allowed non-empty text"),
        (
            "memory: {bandwidth_gb_per_s: 30}",
            "memory: 30",
            "toy.yaml:3:9: memory: not a mapping of fields; given 30; allowed a mapping with the fields "
            "bandwidth_gb_per_s, detail, n_banks, latency_ns",
        ),
        ("clock_ghz: 1e0\n", "", "toy.yaml:1:1: clock_ghz: this field is missing; allowed a number greater than 0"),
        ("name: toy", "name: !!binary toy", "toy.yaml:1:7: name: a tag is not allowed here; given !!binary"),
        ("name: toy", "? [a]\n: 1", "toy.yaml:1:3: box: a key must be a single word, not a list or a mapping"),
        (
            "name: toy",
            "name: [toy",
            "toy.yaml:2:10: box: not valid YAML; while parsing a flow sequence, expected ',' or ']', but got ':'",
        ),
    ],
)
def test_one_fault_is_one_line(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert refusal(GOOD.replace(old, new, 1)) == expected


def test_all_faults_are_told_in_the_order_of_the_lines() -> None:
    text = GOOD.replace("capacity_kib: 5", "capacity_kib: 0").replace("1e0", "-1").replace("exp: 6", "exp: x")
    assert refusal(text).splitlines() == [
        "toy.yaml:2:12: clock_ghz: out of range; given -1; allowed a number greater than 0",
        "toy.yaml:6:19: bins.0.capacity_kib: out of range; given 0; allowed a number greater than 0",
        'toy.yaml:7:23: cycles.exp: not a whole number; given "x"; allowed a whole number of at least 0',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "toy.yaml:1:1: box: the file is empty; allowed a mapping of fields"),
        ("# only a comment\n", "toy.yaml:1:1: box: the file is empty; allowed a mapping of fields"),
        (
            "- 1",
            "toy.yaml:1:1: box: not a mapping of fields; given a list; allowed a mapping with the fields "
            "name, clock_ghz, memory, bins, cycles, fast",
        ),
        ("a: &x [*x]", "toy.yaml:1:4: a.0: an alias may not contain itself"),
        ("[" * 5000, "toy.yaml: box: not valid; lists or mappings are nested too deeply"),
        (
            "a: 1\n---\nb: 2",
            "toy.yaml:2:1: box: not valid YAML; expected a single document in the stream, but found another document",
        ),
    ],
)
def test_a_text_that_is_no_description(text: str, expected: str) -> None:
    assert refusal(text) == expected


def test_aliases_do_not_multiply_without_end() -> None:
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    assert "too large; allowed at most 100,000 values" in refusal(text)


def test_a_control_character_is_refused() -> None:
    assert refusal("a: \x01").startswith("toy.yaml: box: not valid YAML; unacceptable character")


def test_a_long_value_is_shortened() -> None:
    assert len(refusal(GOOD.replace("1e0", "x" * 5000))) < 200


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(InputError) as caught:
        load_document(missing, Box, what="box")
    assert str(caught.value) == f"{missing}: no such file; allowed the path of a box file in YAML"
    with pytest.raises(InputError) as caught:
        load_document(tmp_path, Box, what="box")
    assert str(caught.value) == f"{tmp_path}: is a folder; allowed the path of a box file in YAML"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: toy\nclock: \xe9\n")
    with pytest.raises(InputError) as caught:
        load_document(latin, Box, what="box")
    assert str(caught.value) == f"{latin}:2:8: box: not UTF-8 text; given byte 0xe9"
    with pytest.raises(InputError, match="cannot be read"):
        load_document("a\0b", Box, what="box")


def test_plain_data_is_checked_alike() -> None:
    assert validate_data({"name": "a", "capacity_kib": 1}, Bin, what="bin", name="given").capacity_kib == 1.0
    with pytest.raises(InputError) as caught:
        validate_data({"name": "a", "capacity_kib": float("inf")}, Bin, what="bin", name="given")
    assert str(caught.value) == (
        "given: capacity_kib: not a finite number; given Infinity; allowed a number greater than 0"
    )
