"""Record what AccelForge counts for given mappings, so that the tests can hold our count of traffic to it.

    python tests/validation/record_accelforge.py     # tests/validation/accelforge_traffic.csv, about a minute

AccelForge (``accelforge`` 1.0.467, MIT licence, T. Andrulis and M. Gilbert) needs Python 3.12 or newer, named with
``--python``, and Graphviz's ``dot`` on the path (``apt-get install graphviz``). It is installed into a virtual
environment of its own; ``--environment`` names one to keep. Products and convolutions, memories that pass operands by,
loop orders and tiles are drawn at random, with a fixed seed. Columns:

* ``hierarchy``: two (dram, buffer), three (dram, l2, l1) or four levels (dram, l2, l1 of up to 4 cores, registers of up
  to 8 lanes each), all without limits of capacity.
* ``layer``: extents of the loops as in ``tilewright.sim.hierarchy.nest``, those of 1 left out, stride (``SX``, ``SY``)
  and dilation (``DX``, ``DY``); no padding. A product has the loops OX (m), C (k) and K (n).
* ``mapping``: nodes from outermost to innermost: ``memory.operand`` is a storage node (I, W, O), ``K=4`` a loop in
  steps of 4, ``K:4@l1`` one in space, over copies of l1 and all below.
* ``traffic``: ``memory.operand=reads/writes``, values of each operand at each memory.

The tool's numbers are written as they are, rounded to whole ones where they are within 1e-6 of one.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VERSION = "1.0.467"
N_CASES = 110  # of each hierarchy
HIERARCHIES = {
    "two": (("dram", 1), ("buffer", 1)),
    "three": (("dram", 1), ("l2", 1), ("l1", 1)),
    "four": (("dram", 1), ("l2", 1), ("l1", 4), ("registers", 8)),
}
AXES = "ab"  # of copies of a memory, each over all of them
OPERANDS = {"I": "input", "W": "weight", "O": "output"}
LOOPS = ("K", "C", "OX", "OY", "FX", "FY", "G")

Layer = dict[str, int]
Node = str
Hierarchy = tuple[tuple[str, int], ...]


# -- drawing -----------------------------------------------------------------------------------------------------


def product(draw: random.Random) -> Layer:
    return {name: draw.randint(2, 24) for name in ("K", "C", "OX")}


def convolution(draw: random.Random) -> Layer:
    layer = {name: draw.choice((2, 3, 4, 6, 8, 12)) for name in ("K", "C", "OX", "OY")}
    layer |= {name: draw.choice((1, 2, 3, 5)) for name in ("FX", "FY")}
    if draw.random() < 0.25:
        layer["G"] = draw.choice((2, 3, 4))
        if draw.random() < 0.5:  # depthwise
            layer["K"] = layer["C"] = 1
    for axis in "XY":
        layer[f"S{axis}"] = draw.choice((1, 1, 1, 1, 1, 2, 2, 3))
        layer[f"D{axis}"] = draw.choice((1,) * 9 + (2,))
    return {name: n for name, n in layer.items() if n > 1}


def is_convolution(layer: Layer) -> bool:
    return "OY" in layer


def mapping(draw: random.Random, layer: Layer, hierarchy: Hierarchy) -> list[Node]:
    """Loops and storage nodes. Tiles divide what they are cut from, but for some of the outermost loops over K, C, G
    (and OX of a product): the tool refuses others.
    """
    left = {name: n for name, n in layer.items() if name in LOOPS}
    nodes = [f"{hierarchy[0][0]}.{operand}" for operand in OPERANDS]
    ragged = {name for name in left if name in ("K", "C", "G") or not is_convolution(layer)}
    for memory, fanout in hierarchy[1:]:
        nodes += in_space(draw, left, ragged, memory, fanout)
        names = [name for name, n in left.items() if n > 1 and draw.random() < 0.6]
        draw.shuffle(names)
        section = [step(draw, left, ragged, name) for name in names]
        for operand in OPERANDS:
            if draw.random() < 0.75:
                section.insert(draw.randint(0, len(section)), f"{memory}.{operand}")
        nodes += section
    last = [f"{name}=1" for name, n in left.items() if n > 1]
    draw.shuffle(last)
    return nodes + last


def step(draw: random.Random, left: dict[str, int], ragged: set[str], name: str) -> Node:
    """A loop in time; ``left`` is what it leaves to the loops inside, ``ragged`` the loops that may still be uneven."""
    extent = left[name]
    sizes = [n for n in range(1, extent) if extent % n == 0]
    if name in ragged and extent > 2 and draw.random() < 0.1:
        sizes = list(range(2, extent))
    ragged.discard(name)
    left[name] = draw.choice(sizes)
    return f"{name}={left[name]}"


def in_space(draw: random.Random, left: dict[str, int], ragged: set[str], memory: str, fanout: int) -> list[Node]:
    """One or two loops over at most ``fanout`` copies; none where there is one copy."""
    nodes = []
    for name in draw.sample(list(left), k=min(2, len(left))):
        copies = [n for n in range(2, fanout + 1) if left[name] % n == 0]
        if copies:
            n = draw.choice(copies)
            fanout //= n
            left[name] //= n
            ragged.discard(name)
            nodes.append(f"{name}:{left[name]}@{memory}")
    return nodes


# -- the tool ----------------------------------------------------------------------------------------------------


def projections(layer: Layer) -> list[dict[str, Any]]:
    """How the loops index the operands."""

    def only(names: str) -> dict[str, str]:
        return {f"R{name}": name.lower() for name in names.split() if name in layer}

    maps = {}
    for axis in "XY":
        terms = [(f"o{axis}", f"S{axis}"), (f"f{axis}", f"D{axis}")]
        used = [f"{layer.get(by, 1)}*{name.lower()}" for name, by in terms if name.upper() in layer]
        if used:
            maps[f"R{axis}"] = " + ".join(used).replace("1*", "")
    return [
        {"name": "input", "projection": only("G C") | maps},
        {"name": "weight", "projection": only("G K C FX FY")},
        {"name": "output", "projection": only("G K OX OY"), "output": True},
    ]


def specification(layer: Layer, nodes: list[Node], hierarchy: Hierarchy) -> dict[str, Any]:
    """The tool's input, as YAML would hold it."""
    free = {"leak_power": 0, "area": 0}
    actions = [{"name": name, "energy": 1, "throughput": "inf"} for name in ("read", "write")]
    memories = []
    for place, (name, fanout) in enumerate(hierarchy):
        memory = {"name": name, "size": "inf", **free, "actions": actions}
        memory["tensors"] = {"may_keep" if place else "keep": "All"}
        if fanout > 1:
            memory["spatial"] = [{"name": axis, "fanout": fanout} for axis in AXES]
        memories.append(("Memory", memory))
    compute = {"name": "mac", **free, "actions": [{"name": "compute", "energy": 1, "throughput": 1}]}
    extents = {name.lower(): f"0 <= {name.lower()} < {n}" for name, n in layer.items() if name in LOOPS}
    return {
        "arch": {"nodes": [*memories, ("Compute", compute)]},
        "workload": {
            "iteration_space_shape": extents,
            "bits_per_value": {"All": 1},
            "einsums": [
                {
                    "name": "layer",
                    "tensor_accesses": projections(layer),
                    "renames": {name: name for name in OPERANDS.values()},
                }
            ],
        },
        "mapping": {"nodes": [*tool_nodes(nodes), ("Compute", {"einsum": "layer", "component": "mac"})]},
    }


def tool_nodes(nodes: list[Node]) -> list[tuple[str, dict[str, Any]]]:
    """The nodes in the tool's words."""
    found: list[tuple[str, dict[str, Any]]] = []
    axes: dict[str, int] = {}
    for node in nodes:
        if "." in node:
            memory, operand = node.split(".")
            found.append(("Storage", {"tensors": [OPERANDS[operand]], "component": memory}))
            continue
        name, rest = node[: node.index("=" if "=" in node else ":")], node.replace(":", "=").split("=")[1]
        tile, _, memory = rest.partition("@")
        loop: dict[str, Any] = {"rank_variable": name.lower(), "tile_shape": int(tile)}
        if not memory:
            found.append(("Temporal", loop))
            continue
        found.append(("Spatial", loop | {"name": AXES[axes.get(memory, 0)], "component": memory}))
        axes[memory] = axes.get(memory, 0) + 1
    return found


def text_of(value: Any) -> str:
    """``value`` in YAML's flow style, which is JSON with tags."""
    if isinstance(value, tuple):
        return f"!{value[0]} {text_of(value[1])}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text_of(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return f'"{value}"' if isinstance(value, str) and "<" not in value and not value.isidentifier() else str(value)


def count(layer: Layer, nodes: list[Node], hierarchy: Hierarchy, folder: Path) -> str:
    """What the tool says of one mapping."""
    from accelforge.frontend.mapper.metrics import Metrics  # type: ignore[import-not-found]
    from accelforge.frontend.spec import Spec  # type: ignore[import-not-found]
    from accelforge.model.main import evaluate_mapping  # type: ignore[import-not-found]

    file = folder / "case.yaml"
    file.write_text(text_of(specification(layer, nodes, hierarchy)))
    spec = Spec.from_yaml(str(file))
    spec.model.metrics = Metrics.all_metrics()
    data = evaluate_mapping(spec).data
    found = []
    for node in (node for node in nodes if "." in node):
        memory, operand = node.split(".")
        column = f"layer<SEP>action<SEP>{memory}<SEP>{OPERANDS[operand]}<SEP>"
        reads, writes = (plain(float(data[column + way].iloc[0])) for way in ("read", "write"))
        found.append(f"{node}={reads}/{writes}")
    return " ".join(found)


def plain(number: float) -> str:
    whole = round(number)
    return str(whole) if abs(number - whole) < 1e-6 else repr(number)


def record() -> None:
    """Draw, count and write all cases; what the tool refuses is drawn again and told."""
    from accelforge.util.parallel import set_n_parallel_jobs  # type: ignore[import-not-found]

    set_n_parallel_jobs(1)
    draw, rows, refused = random.Random(20261128), [], 0
    with tempfile.TemporaryDirectory() as text:
        for name, hierarchy in HIERARCHIES.items():
            n = 0
            while n < N_CASES:
                layer = (product if n % 5 < 2 else convolution)(draw)
                nodes = mapping(draw, layer, hierarchy)
                try:
                    counted = count(layer, nodes, hierarchy, Path(text))
                except Exception as error:  # the tool's own classes, asserts and sympy's errors alike
                    print(f"refused: {error!s:.200} {layer} {nodes}")
                    refused += 1
                    continue
                of_layer = " ".join(f"{key}={value}" for key, value in layer.items())
                rows.append({"hierarchy": name, "layer": of_layer, "mapping": " ".join(nodes), "traffic": counted})
                n += 1
    with (HERE / "accelforge_traffic.csv").open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(f"{len(rows)} cases, {refused} refused")


def main() -> None:
    arguments = argparse.ArgumentParser(description="Record what AccelForge counts.")
    arguments.add_argument("--python", default="python3.12", help="an interpreter, 3.12 or newer")
    arguments.add_argument("--environment", type=Path, help="virtual environment to use or to make, and to keep")
    given = arguments.parse_args()
    if "ACCELFORGE_HERE" in os.environ:
        record()
        return
    with tempfile.TemporaryDirectory() as text:
        folder = given.environment or Path(text) / "environment"
        python = folder / "bin" / "python"
        if not python.exists():
            subprocess.run([given.python, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"accelforge=={VERSION}"], check=True)
        subprocess.run([python, __file__], check=True, env={**os.environ, "ACCELFORGE_HERE": "1"})


if __name__ == "__main__":
    sys.exit(main())
