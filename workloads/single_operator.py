"""Single operators as text: ``gemm:m=512,n=768,k=768``, ``conv:in=64x56x56,out_channels=64,kernel=3``, ``softmax:...``.

Each becomes a stream of one operator, so it goes the way of a network's operators and costs the same as there.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.errors import InputError, unknown
from tilewright.workloads.compositions import COMPOSITIONS, Composition
from tilewright.workloads.kinds import KINDS, OperatorKind, OperatorText, TextKeys
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["is_operator", "operator_kinds", "operator_stream", "operator_texts"]


def operator_texts() -> Mapping[str, tuple[OperatorKind | Composition, OperatorText]]:
    """What is written how: the kinds of operators that have a text, and compositions of them, by the word before its
    colon.

    Raises InputError where two have the same.
    """
    found: dict[str, tuple[OperatorKind | Composition, OperatorText]] = {}
    for kind in KINDS.values():
        if kind.text is None:
            continue
        word = kind.text.name or kind.name
        if found.setdefault(word, (kind, kind.text))[0] is not kind:
            raise InputError(f'operator kind {kind.name}: text: given "{word}", as for {found[word][0].name}')
    for name, made in COMPOSITIONS.items():
        if name in found:
            raise InputError(f'composition {name}: text: given "{name}", as for {found[name][0].name}')
        found[name] = made, made.text
    return found


def operator_kinds() -> tuple[str, ...]:
    """The operators that can be written as text."""
    return tuple(operator_texts())


def is_operator(text: str) -> bool:
    """Whether ``text`` is a single operator: ``KIND`` or ``KIND:key=value,...`` (whether or not it is a right one)."""
    return text.partition(":")[0].strip() in operator_texts()


def operator_stream(text: str) -> OperatorStream:
    """The stream of one operator that ``text`` describes; its name is the text without blanks.

    gemm: ``m``, ``n``, ``k``, ``batch`` products, ``b=weight`` (default) or ``activation``, ``a_format``, ``b_format``,
    ``out_format``. conv: ``in`` as channels x sizes, ``out_channels``, ``kernel``, ``stride``, ``padding``,
    ``dilation``, ``groups``, ``batch``, ``transposed=yes``. pool: the same sizes, ``function``. softmax, norm and
    reduction: ``rows`` times ``columns``. elementwise: ``n`` values, ``function``. Each takes ``format`` for all its
    tensors.

    Raises InputError that names the text, the key, what was given, what is allowed and the nearest key.
    """
    kind, _, rest = (part.strip() for part in text.partition(":"))
    _, entry = operator_texts()[kind]
    what = f"{kind}:{''.join(rest.split())}".rstrip(":")
    given = TextKeys(what, kind, _fields(what, rest, entry), entry.example)
    for key in entry.needed:
        if key not in given.values:
            raise given.missing(key)
    built = StreamBuilder(what)
    made = entry.build(built, given)
    return built.finish([made] if isinstance(made, str) else made)


def _fields(what: str, text: str, entry: OperatorText) -> dict[str, str]:
    fields: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key or not value:
            raise InputError(f'{what}: expected key=value; given "{item}"; allowed keys {", ".join(entry.keys)}')
        if key not in entry.keys:
            raise unknown("key", key, entry.keys, place=what)
        if key in fields:
            raise InputError(f'{what}: {key}: given twice; given "{fields[key]}" and "{value}"; allowed once')
        fields[key] = value
    return fields
