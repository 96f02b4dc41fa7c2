"""The library kernels that scans and short convolutions are on a GPU."""

from __future__ import annotations

from dataclasses import replace

from tilewright.sim.gpu.launches.launch import Launch, SequenceShape
from tilewright.sim.gpu.launches.of_kind import moving_launch, register_launches
from tilewright.workloads.kinds import KINDS
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

_STEPS = ("gdn_step", "gdn_step_vllm", "gdn_step_0510")
_WHOLE_CHUNK = 128  # tokens from which Mamba-2's persistent kernel is taken


def _families(operator: Operator) -> tuple[str, ...]:
    by_channel = operator.attributes.get("gate") == "channel"
    if operator.kind == "delta_rule":
        return ("kda_fla", "gdn_fla") if by_channel else ("gdn_fla", "gdn_trtllm")
    if operator.kind == "ssd":
        persistent = "ssd_trtllm" if operator.count("tokens") >= _WHOLE_CHUNK else "ssd_trtllm_short"
        return (persistent, "chunked_triton")
    return ("chunked_triton_gated",) if by_channel else ("chunked_triton",)


def _scan(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    names = ("batch", "heads", "key_heads", "key_dim", "value_dim")
    columns = tuple((name, operator.count(name)) for name in names)
    if operator.count("tokens") == 1:
        shape = SequenceShape("state_step", _STEPS, columns)
    else:
        shape = SequenceShape("scan", _families(operator), (*columns, ("tokens", operator.count("tokens"))))
    return (_launch(stream, operator, shape),)


def _selective(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    """One kernel, no table of which is known: its bytes, and its work on the CUDA lanes.

    For each token, channel and state: the exponent, its exponential, what is added, and two multiply-adds; for each
    token and channel a softplus and the skip connection.
    """
    batch, tokens, states, channels = (operator.count(key) for key in ("batch", "tokens", "key_dim", "value_dim"))
    values = batch * tokens * channels
    operations = (("add", values), ("exp", values * (states + 2)), ("mul", values * (4 * states + 2)))
    return (replace(moving_launch(stream, operator, "scan"), operations=operations, macs=operator.macs),)


def _conv(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    columns = tuple((name, operator.count(name)) for name in ("batch", "tokens", "channels"))
    update = ("conv_update", "conv_update_vllm", "conv_update_trtllm")
    families = update if operator.count("tokens") == 1 else ("conv_last", "conv_last_vllm", "conv_first")
    return (_launch(stream, operator, SequenceShape("short_conv", families, columns)),)


def _launch(stream: OperatorStream, operator: Operator, shape: SequenceShape) -> Launch:
    macs = KINDS.get(operator.kind).macs(operator)
    return replace(moving_launch(stream, operator, "scan"), sequence=shape, macs=macs)


for _kind in ("ssd", "delta_rule", "linear_attention"):
    register_launches(_kind, _scan)
register_launches("selective_scan", _selective)
register_launches("causal_conv", _conv)
