"""Does the documentation name everything that there is to say?"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import tilewright
from tilewright.hw_models import spec

ROOT = Path(__file__).resolve().parents[2]
_SPECS = (
    "MachineSpec",
    "MatrixUnitSpec",
    "BlockSpec",
    "StripeSpec",
    "KernelSpec",
    "ScratchpadSpec",
    "VectorUnitSpec",
    "BufferSpec",
    "DramSpec",
    "OverheadsSpec",
    "WeightsSpec",
    "WeightMemorySpec",
    "FallbackSpec",
    "HostLinkSpec",
    "EnergySpec",
    "AreaSpec",
)


@pytest.mark.parametrize("name", _SPECS)
def test_every_field_of_a_machine_is_explained(name: str) -> None:
    page = (ROOT / "docs" / "machines.md").read_text(encoding="utf-8")
    lacking = [one.name for one in dataclasses.fields(getattr(spec, name)) if f"`{one.name}`" not in page]
    assert lacking == []


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    homes = {f"{home}.{name}" for name, home in tilewright._HOME_OF_NAME.items()}
    assert homes - set(re.findall(r"^::: (\S+)$", pages, flags=re.MULTILINE)) == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 2500
