"""Does the package hold what the folders hold, and is it light to import?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tilewright

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tilewright"
HEAVY = (
    "jinja2",
    "matplotlib",
    "ml_dtypes",
    "numba",
    "numpy",
    "ortools",
    "pandas",
    "pydantic",
    "rich",
    "scipy",
    "simpy",
    "torch",
    "typer",
    "yaml",
)
NEVER_IN_HELP = ("matplotlib", "numba", "ortools", "pandas", "scipy", "torch")


def _folders_with_files() -> set[str]:
    names = set()
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        path = Path(folder)
        if "__pycache__" not in path.parts and files:
            names.add(".".join(path.relative_to(PACKAGE.parent).parts))
    return names


def _modules_loaded_by(code: str) -> set[str]:
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nsys.stderr.write(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stderr.split()}


@pytest.fixture(scope="module")
def settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_with_files_is_listed_as_a_package(settings: dict) -> None:
    assert set(settings["tool"]["setuptools"]["packages"]) == _folders_with_files()


def test_the_six_folders_are_mapped_and_linked(settings: dict) -> None:
    mapped = settings["tool"]["setuptools"]["package-dir"]
    for package, folder in mapped.items():
        assert PACKAGE.parent.joinpath(*package.split(".")).resolve() == (ROOT / folder).resolve()
    assert len(mapped) == 7


def test_every_symlink_is_relative_and_resolves() -> None:
    tracked = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode == 0:
        links = [ROOT / line.split("\t", 1)[1] for line in tracked.stdout.splitlines() if line.startswith("120000")]
    else:  # a source archive, without git
        links = [path for path in PACKAGE.iterdir() if path.is_symlink()]
    assert len(links) >= 6
    for link in links:
        assert not os.readlink(link).startswith("/"), link
        assert link.resolve(strict=True).is_relative_to(ROOT)


def test_importing_the_package_is_light() -> None:
    assert not _modules_loaded_by("import tilewright").intersection(HEAVY)


def test_help_loads_no_heavy_library() -> None:
    loaded = _modules_loaded_by("sys.argv = ['tilewright', '--help']; from tilewright.cli import main; main()")
    assert not loaded.intersection(NEVER_IN_HELP)


def test_every_public_name_can_be_had() -> None:
    for name in tilewright.__all__:
        assert getattr(tilewright, name) is not None
        assert name in dir(tilewright)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulte'"):
        _ = tilewright.simulte


def test_constraints_pin_the_core_and_the_tools_exactly_and_leave_torch_out(settings: dict) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in pinned)
    names = {_normal(line.partition("==")[0]) for line in pinned}
    wanted = settings["project"]["dependencies"] + settings["project"]["optional-dependencies"]["dev"]
    assert {_normal(re.split(r"[<>=\[; ]", text)[0]) for text in wanted} <= names
    assert not names & {"torch", "triton", "transformers"}


def test_torch_is_only_ever_an_extra(settings: dict) -> None:
    assert not any(text.startswith("torch") for text in settings["project"]["dependencies"])
    assert any(text.startswith("torch") for text in settings["project"]["optional-dependencies"]["torch"])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
