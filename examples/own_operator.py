"""Add operator kinds of your own: a gated linear recurrence, and a product whose weights are powers of two.

A kind says what its operators must have, how much work they are and how one is written as text. The recurrence is work
of the vector unit, which is what every kind is that says no more; it also says how it is computed on numbers. The
product says that it goes to the matrix unit. Run with: python examples/own_operator.py, or give the file to the command
line, where both have a name then:
tilewright --plugin examples/own_operator.py simulate recurrence:steps=4096,channels=768 -a edge-16x16
"""

import math

import numpy as np

import tilewright
from tilewright.sim.kinds import product_layer, register_lowering, register_values
from tilewright.workloads.kinds import OperatorKind, OperatorText, add_result, always, need_elements, register_kind
from tilewright.workloads.stream.builder import StreamBuilder


def recurrence_sizes(operator, stream):
    """Gates, inputs and results have a value for each step of each channel."""
    for name in (*operator.inputs[:2], operator.outputs[0]):
        need_elements(operator, stream, name, operator.count("steps") * operator.count("channels"))


def recurrence_work(operator):
    """h[t] = a[t] h[t-1] + b[t]."""
    n = operator.count("steps") * operator.count("channels")
    return {"mul": n, "add": n}


def recurrence_of(built, given):
    shape = (given.count("channels"), given.count("steps"))
    inputs = [built.input(name, shape, number_format=given.format("format")) for name in ("gates", "x")]
    attributes = {"channels": shape[0], "steps": shape[1]}
    return add_result(built, given, "recurrence", inputs, shape, attributes)


def recurrence_of_shapes(inputs, shape):
    """For operators of a file that are one by --map NAME=kind:recurrence: the last dimension is time."""
    return {"channels": math.prod(shape[:-1]), "steps": shape[-1]}


register_kind(
    OperatorKind(
        name="recurrence",
        word="a gated linear recurrence",
        attributes={"channels": "count", "steps": "count"},
        least_inputs=2,
        sizes=recurrence_sizes,
        work=recurrence_work,
        by_rows=True,
        of_shapes=recurrence_of_shapes,
        assumptions=("the steps of a recurrence run at the rate of other vector work, channels side by side",),
        text=OperatorText(
            example="recurrence:steps=4096,channels=768",
            keys=("steps", "channels", "format"),
            needed=("steps", "channels"),
            build=recurrence_of,
        ),
    )
)


def recurrence_values(operator, inputs, shape):
    """Step by step, all channels at once."""
    gates, x = inputs
    h = np.zeros(shape)
    for t in range(shape[1]):
        h[:, t] = gates[:, t] * h[:, t - 1] + x[:, t]
    return h


register_values("recurrence", recurrence_values)


def shift_sizes(operator, stream):
    m, k, n = map(operator.count, "mkn")
    for name, n_elements in zip((*operator.inputs[:2], operator.outputs[0]), (m * k, k * n, m * n), strict=True):
        need_elements(operator, stream, name, n_elements)


def shift_macs(operator):
    m, k, n = map(operator.count, "mkn")
    return m * k * n


def shift_layer(stream, chain):
    """On the array, which multiplies in the format of the activations (the wider one)."""
    m, k, n = map(chain[0].count, "mkn")
    return product_layer(stream, chain, name="shift_product", m=m, k=k, n=n)


register_kind(
    OperatorKind(
        name="shift_product",
        word="a product with powers of two",
        attributes=dict.fromkeys("mkn", "count"),
        least_inputs=2,
        sizes=shift_sizes,
        macs=shift_macs,
        on_array=always,
        n_operands=2,
        is_product=True,
        assumptions=("a matrix unit shifts and adds as fast as it multiplies and adds",),
    )
)
register_lowering("shift_product", shift_layer)


def network():
    """Inputs through a product with 4-bit powers of two, a ReLU on its tiles, and the recurrence."""
    built = StreamBuilder("own-operators", activations="int8", weights="int4")
    x, powers = built.input("x", (768, 256)), built.weight("powers", (256, 768))
    y = built.add("shift_product", "up", [x, powers], (768, 768), {"m": 768, "k": 256, "n": 768})
    y = built.add("elementwise", "relu", [y], (768, 768), {"function": "relu", "n_elements": 768 * 768})
    gates = built.input("gates", (768, 768))
    h = built.add("recurrence", "scan", [gates, y], (768, 768), {"channels": 768, "steps": 768})
    return built.finish([h])


if __name__ == "__main__":
    result = tilewright.simulate_network(network(), "edge-16x16")
    for operator in result.operators:
        print(f"{operator.name} ({operator.kind}): {operator.cycles:,} cycles, {operator.dram_bytes:,} bytes")
    print(f"{result.network}: {result.cycles:,} cycles, {result.macs:,} shift-adds")
    print(*(text for text in result.assumptions if "recurrence" in text or "shifts" in text), sep="\n")
