"""Laws of decoding in closed form: a better machine is never slower, more tokens never cheaper in all, parts add up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.systems.steps import DecodedStep, DecodeQuestion, decoded_step
from tilewright.workloads.language.catalogue import language_model, language_model_names
from tilewright.workloads.language.routing import routing_of
from tilewright.workloads.language.runtimes import runtime_named, runtime_names
from tilewright.workloads.language.stored import STORAGES

MACHINES = ("raspberry-pi-5", "apple-m4", "jetson-thor", "rtx4090")
#: Fields of which more is better.
BETTER = ("dram.bandwidth_gb_per_s", "clock_ghz", "n_cores")


def roomy(name: str) -> MachineSpec:
    return load_machine(name).with_(**{"dram.capacity_gib": 4096})


questions = st.builds(
    lambda model, storage, runtime, batch, context, cache, routing: DecodeQuestion(
        model=language_model(model),
        storage=STORAGES[storage],
        runtime=runtime_named(runtime),
        routing=routing_of(routing),
        batch=batch,
        context=context,
        cache_format=cache,
    ),
    st.sampled_from(language_model_names()),
    st.sampled_from(sorted(STORAGES)),
    st.sampled_from(runtime_names()),
    st.integers(1, 64),
    st.integers(0, 20_000),
    st.sampled_from(["fp16", "int8-g32", "int4-g32-asym"]),
    st.sampled_from(["uniform", "balanced"]),
)


def asked(question: DecodeQuestion, machine: MachineSpec) -> DecodedStep:
    found = decoded_step(question, machine)
    time = found.time
    assert time.seconds == pytest.approx(sum(time.seconds_by_part.values())) and time.seconds > 0
    assert time.joules == pytest.approx(time.watts * time.seconds) and min(time.joules_by_part.values()) >= 0
    # Nothing is faster than the bytes allow at the data sheet's bandwidth.
    assert time.seconds >= found.work.n_bytes / (machine.dram.bandwidth_gb_per_s * 1e9)
    return found


@settings(max_examples=40, deadline=None)
@given(question=questions, name=st.sampled_from(MACHINES), field=st.sampled_from(BETTER))
def test_more_of_anything_is_never_slower(question: DecodeQuestion, name: str, field: str) -> None:
    machine = roomy(name)
    value = {"dram.bandwidth_gb_per_s": machine.dram.bandwidth_gb_per_s, "clock_ghz": machine.clock_ghz}
    better = machine.with_(**{field: 2 * value.get(field, machine.n_cores)})
    assert asked(question, better).time.seconds <= asked(question, machine).time.seconds * (1 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(question=questions, name=st.sampled_from(MACHINES))
def test_a_larger_batch_or_cache_reads_more(question: DecodeQuestion, name: str) -> None:
    from dataclasses import replace

    machine = roomy(name)
    one = asked(question, machine).work
    longer = asked(replace(question, context=question.context + 100), machine).work
    assert longer.cache_read >= one.cache_read and longer.weight_bytes == one.weight_bytes
    wider = asked(replace(question, batch=question.batch + 1), machine).work
    assert wider.weight_bytes >= one.weight_bytes * (1 - 1e-12)
    assert wider.weight_bytes <= one.weight_bytes * (1 + 1 / question.batch) * (1 + 1e-12)
    assert wider.cache_read * question.batch == pytest.approx(one.cache_read * (question.batch + 1))
