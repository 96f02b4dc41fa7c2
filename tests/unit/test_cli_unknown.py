"""Operators that are not understood, from the command line: counted, mapped or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tilewright.cli import main

MACHINE = ("-a", "edge-16x16", "--no-cache")
FORMATS = ("--weights", "fp16", "--activations", "fp16")


def run(capsys: pytest.CaptureFixture[str], *texts: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(texts)
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.fixture
def fourier(tmp_path: Path) -> str:
    """A configuration whose model takes Fourier transforms where others have attention."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'tilewright[zoo]'")
    fields = {"model_type": "fnet", "architectures": ["FNetModel"], "hidden_size": 32, "intermediate_size": 64}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields | {"num_hidden_layers": 1, "vocab_size": 99}), encoding="utf-8")
    return f"{path}:seq=16"


@pytest.mark.extras
def test_what_is_not_understood_is_refused_counted_or_mapped(capsys: pytest.CaptureFixture[str], fourier: str) -> None:
    code, _, err = run(capsys, "simulate", fourier, *MACHINE)
    assert code == 2
    assert "operators not understood: aten.fft_fftn at model.encoder.layer.0.fourier.self, aten.real" in err
    assert "--unknown memory" in err
    code, out, err = run(capsys, "simulate", fourier, *MACHINE, *FORMATS, "--unknown", "memory", "--json", "-")
    assert code == 0
    assert "2 operators that are not understood count as memory traffic: aten.fft_fftn, aten.real" in err
    counted = json.loads(out)
    mapping = ("--map", "aten.fft_fftn=elementwise:mul", "--map", "aten.real=view")
    code, out, err = run(capsys, "simulate", fourier, *MACHINE, *FORMATS, *mapping, "--json", "-")
    assert code == 0
    assert "not understood" not in err
    assert json.loads(out)["macs"] == counted["macs"]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["simulate", "resnet-18", *MACHINE, "--unknown", "memory"], "resnet-18: unknown: is for ONNX files and"),
        (["simulate", "resnet-18", *MACHINE, "--unknown", "memori"], '--unknown: unknown choice; given "memori"'),
        (["simulate", "resnet-18", *MACHINE, "--map", "aten.foo"], "--map: not of the form NAME=WHAT"),
        (["simulate", "resnet-18", *MACHINE, "--map", "a=view", "--map", "a=memory"], "--map: a is given twice"),
        (
            ["simulate", "attention:heads=2,seq=8,head_dim=8", "-a", "edge-16x16", "--map", "a=view"],
            "--map: is for whole networks",
        ),
        (["why", "resnet-18", "-a", "edge-16x16", "--unknown", "memory"], "resnet-18: unknown: is for ONNX files"),
        (["compare", "resnet-18", "-a", "edge-16x16", "--unknown", "memory"], "resnet-18: unknown: is for ONNX files"),
        (
            ["search", "resnet-18", "--over", "fusion", "-a", "edge-16x16", "--unknown", "memory"],
            "resnet-18: unknown: is for ONNX files",
        ),
    ],
)
def test_choices_that_mean_nothing_are_refused(capsys: pytest.CaptureFixture[str], texts: list[str], says: str) -> None:
    code, out, err = run(capsys, *texts)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
