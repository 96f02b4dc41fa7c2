"""Damaged measurement tables: read, predicted and compared as ``tilewright validate`` does."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from tests.fuzz.damage import NASTY_NUMBERS, NASTY_TEXT, Judge, damaged_bytes, damaged_text
from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.load import load_machine
from tilewright.kernels.reading import read_tables
from tilewright.search.gpu.validate import validate

SAMPLES = Path(__file__).resolve().parents[1] / "validation" / "gpu_samples"
OTHERS = {
    "matmul_A100.csv": "128, 128, 256, 120.5\n4096, 4096, 1024, 90.1\n",
    "softmax_A100.csv": "128, 256, 9e9\n",
    "neusight.csv": "device,op,B,M,N,K,H,latency_ms\nNVIDIA A100-SXM4-40GB,linear,1,128,128,128,,0.01\n"
    "NVIDIA A100-SXM4-40GB,softmax,64,,,,128,0.01\n",
    "tenstorrent.csv": "dtype,fidelity,m,n,k,time_ns\nBFLOAT16,HiFi4,512,512,512,10000\n"
    "BFLOAT8_B,LoFi,512,512,512,5000\n",
}
_N_ROWS = 12


def run(n: int, seed: int) -> None:
    """Read ``n`` tables."""
    chance, judge = random.Random(seed), Judge("csv", seed)
    texts = {path.name: "\n".join(path.read_text().splitlines()[: _N_ROWS + 1]) for path in SAMPLES.glob("*.csv")}
    texts |= OTHERS
    machine = load_machine("h200")
    calibration = calibration_of(machine)
    with tempfile.TemporaryDirectory() as folder:
        for at in range(n):
            name = chance.choice(sorted(texts))
            path = Path(folder) / name
            data = _made(chance, texts[name])
            path.write_bytes(data)
            judge.of(at, data, lambda path=path: validate(machine, calibration, read_tables(path)).rows())
    judge.end()


def _made(chance: random.Random, text: str) -> bytes:
    way = chance.random()
    if way < 0.3:
        return damaged_bytes(chance, text.encode())
    if way < 0.45:
        return damaged_text(chance, text).encode("utf-8", "surrogatepass")
    lines = [line.split(",") for line in text.splitlines()]
    for _ in range(chance.choice((1, 1, 2, 3))):
        line = chance.choice(lines)
        at = chance.randrange(len(line))
        match chance.randrange(4):
            case 0 | 1:
                line[at] = str(chance.choice((*NASTY_NUMBERS, *NASTY_TEXT)))
            case 2:
                line.insert(at, line[at])
            case _ if len(line) > 1:
                del line[at]
    return "\n".join(",".join(line) for line in lines).encode("utf-8", "surrogatepass")
