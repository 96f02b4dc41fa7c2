"""Does the documentation name everything that there is to say?"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

import tilewright
from tilewright.hw_models.field_notes import described_classes
from tilewright.hw_models.spec import MachineSpec

ROOT = Path(__file__).resolve().parents[2]
MACHINES = (ROOT / "docs" / "machines.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("described", described_classes(MachineSpec), ids=lambda one: one.__name__)
def test_every_field_of_a_machine_is_explained(described: type[Any]) -> None:
    rows = [line for line in MACHINES.split("## Every field")[1].splitlines() if line.startswith("|")]
    cells = " ".join(row.split("|")[1] for row in rows)
    lacking = [one.name for one in dataclasses.fields(described) if f"`{one.name}`" not in cells]
    assert not lacking, (
        f"docs/machines.md, Every field: no row for {', '.join(lacking)} of {described.__name__}: add "
        "| `field` | unit | what it is, what is as if left out, which result it moves |"
    )


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    homes = {f"{home}.{name}" for name, home in tilewright._HOME_OF_NAME.items()}
    assert homes - set(re.findall(r"^::: (\S+)$", pages, flags=re.MULTILINE)) == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 2900
