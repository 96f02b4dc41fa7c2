"""Runs from YAML files, and from a network's name with options such as ``llama-3.2-1b:prompt=512,generate=16``."""

from __future__ import annotations

from pathlib import Path

from tilewright.document import validate_document
from tilewright.document_text import read_text
from tilewright.document_yaml import read_yaml
from tilewright.errors import InputError, unknown
from tilewright.workloads.network import network_names, network_options, parse_options, split_options
from tilewright.workloads.runs.kind import RUN_KINDS, RunDescription, RunKind

__all__ = ["is_run", "load_run", "parse_run", "run_of_text"]

_WHAT = "run"


def load_run(source: str | Path) -> RunDescription:
    """The run that a file describes, or a network's name with the options of a run.

    The field ``run`` of a file names its kind, the other fields are those of that kind. Raises InputError, a line for
    each fault, with file, line and field.
    """
    text = str(source)
    if is_run(text):
        return run_of_text(text)
    content = read_text(source, what=_WHAT, allowed="the path of a file in YAML, or NAME:prompt=512,generate=16")
    return parse_run(content, name=text)


def parse_run(text: str, *, name: str) -> RunDescription:
    """As :func:`load_run`, from YAML ``text``; ``name`` stands for the file in error texts."""
    document = read_yaml(text.removeprefix("\ufeff"), _WHAT, name)
    given = document.data.get("run") if isinstance(document.data, dict) else None
    if not isinstance(document.data, dict):
        raise InputError(f"{name}: is no run; allowed a mapping with the field run ({', '.join(RUN_KINDS.names())})")
    if given is None:
        raise InputError(f"{name}: run: this field is missing; allowed {', '.join(RUN_KINDS.names())}")
    if given not in RUN_KINDS.names():
        raise unknown("kind of run", str(given), RUN_KINDS.names(), place=f"{name}: run")
    described: RunDescription = validate_document(
        document, RUN_KINDS.get(str(given)).description, what=_WHAT, name=name
    )
    return described


def is_run(text: str) -> bool:
    """Whether ``text`` is a network's name with an option that only runs have."""
    return _kind_of(text) is not None


def run_of_text(text: str) -> RunDescription:
    """The run that a network's name with options describes; raises InputError for options that do not fit."""
    kind = _kind_of(text)
    if kind is None or kind.of_options is None:
        raise InputError(f"{text}: is no run; allowed NAME:prompt=512,generate=16 or a file in YAML")
    place, options = split_options(text)
    usual = network_options(place) if place in network_names() else ()
    given = parse_options(text, options, own=(*usual, *kind.options))
    own = {key: value for key, value in given.items() if key in kind.options}
    others = ",".join(f"{key}={value}" for key, value in given.items() if key not in kind.options)
    return kind.of_options(f"{place}:{others}" if others else place, own)


def _kind_of(text: str) -> RunKind | None:
    place, options = split_options(text)
    keys = {part.partition("=")[0].strip() for part in options.split(",")} if options and place else set()
    return next((kind for kind in RUN_KINDS.values() if keys & kind.marks), None)
