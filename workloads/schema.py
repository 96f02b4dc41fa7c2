"""What a workload file may hold, checked field by field when it is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from tilewright.errors import InputError
from tilewright.formats import FormatName, tensor_format
from tilewright.workloads.attention import LARGEST_EXTENT, AttentionLayer
from tilewright.workloads.fields import layer_from_fields

__all__ = ["AttentionEntry", "AttentionFile", "NetworksFile"]


Count = Annotated[int, Field(strict=True, ge=1, le=LARGEST_EXTENT)]
Window = Annotated[int, Field(strict=True, ge=0, le=LARGEST_EXTENT)]


SoftCap = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _stored_format(name: str) -> str:
    try:
        tensor_format(name)
    except InputError as error:
        raise ValueError(str(error)) from None
    return name


StoredFormat = Annotated[str, AfterValidator(_stored_format)]


class AttentionEntry(BaseModel):
    """One attention layer in a file; the keys mean what :func:`tilewright.workloads.fields.layer_from_fields` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = ""
    batch: Count | None = None
    heads: Count
    kv_heads: Count | None = None
    seq: Count | None = None
    query_len: Count | None = None
    key_len: Count | None = None
    head_dim: Count | None = None
    value_dim: Count | None = None
    hidden: Count | None = None
    mask: str | None = None
    window_left: Window | None = None
    window_right: Window | None = None
    bias: Literal["none", "keys", "shared", "entry", "head", "full"] | None = None
    bias_batch: Count | None = None
    bias_heads: Count | None = None
    bias_rows: Count | None = None
    sinks: StrictBool | None = None
    soft_cap: StrictBool | SoftCap | None = None
    qkv_format: StoredFormat | None = None
    key_format: StoredFormat | None = None
    value_format: StoredFormat | None = None
    output_format: StoredFormat | None = None
    bias_format: StoredFormat | None = None
    sink_format: StoredFormat | None = None
    score_format: FormatName | None = None
    probability_format: FormatName | None = None
    accumulator_format: FormatName | None = None

    def fields(self) -> dict[str, Any]:
        """The keys that the file gives, without name and source."""
        given = self.model_dump(exclude_none=True, exclude={"name", "source"})
        return given | ({"soft_cap": bool(given["soft_cap"])} if "soft_cap" in given else {})

    @model_validator(mode="after")
    def _fits_together(self) -> AttentionEntry:
        try:
            layer_from_fields("", self.fields())
        except InputError as error:
            raise ValueError(str(error).removeprefix(": ")) from None
        return self


class AttentionFile(AttentionEntry):
    """A workload file of a user: one attention layer with its name."""

    name: Annotated[str, Field(min_length=1)]

    def layer(self) -> AttentionLayer:
        """The layer that the file describes."""
        return layer_from_fields(self.name, self.fields())


class NetworksFile(BaseModel):
    """A file of built-in networks: name to attention layer, each with its source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    networks: dict[str, AttentionEntry]
