"""``tilewright schema``: JSON schemas of files, for editors."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tilewright.cli import complete

__all__ = ["schema"]

FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="WHAT", help="machine or hierarchy.", show_default=False, autocompletion=complete.described_files
    ),
]


def schema(what: FileArgument) -> None:
    """Print the JSON schema of machine files, with which editors complete fields, explain them and mark mistakes.

    tilewright schema machine > machine.schema.json; then, as the first line of a machine file:
    # yaml-language-server: $schema=machine.schema.json
    """
    from tilewright.hw_models.machine_schema import schema_of

    print(json.dumps(schema_of(what), indent=2))
