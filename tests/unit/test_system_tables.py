"""Tables of language models on whole systems: what is read, what is refused in one sentence, what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tilewright.__main__ import main
from tilewright.errors import InputError
from tilewright.kernels.reading.systems import is_system_table, read_system_table
from tilewright.search.systems.compare import compare_systems

WALL = "model,system,processor,decode_tokens_per_s,peak_wall_power_W\n"
JETSON = "device,runtime,model,precision,batch,prompt_tokens,decode_tokens_per_s\n"
SERVED = "device,system,model,tokens_per_s,status,batch\n"


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(("validate", *arguments))
    text = capsys.readouterr().err
    assert left.value.code == 2 and "Traceback" not in text
    return text


def test_three_kinds_of_columns(tmp_path: Path) -> None:
    wall = read_system_table(table(tmp_path, WALL + "Llama 3.2:3b,Pi 5 - 16GB,CPU,4.88,11.9\n"))
    assert wall.kind == "decode" and wall.rows[0].part == "CPU" and wall.rows[0].watts == 11.9
    jetson = read_system_table(
        table(tmp_path, JETSON + "Jetson AGX Thor,TensorRT Edge-LLM,Qwen3-0.6B,NVFP4,8,2927,1562.4\n")
    )
    assert (jetson.rows[0].batch, jetson.rows[0].prompt, jetson.rows[0].precision) == (8, 2927, "NVFP4")
    served = read_system_table(table(tmp_path, SERVED + "L40S 48GB,TRT-LLM FP16,Yi-34B,,OOM,\n"))
    assert served.kind == "serve" and served.rows[0].tokens_per_s is None
    assert not is_system_table(table(tmp_path, "network,ms\nresnet-50,1\n"))
    assert not is_system_table(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (WALL + "Llama 3.2:3b,Pi 5,CPU,fast,\n", "tokens_per_s: given fast; allowed a number above 0"),
        (WALL + "Llama 3.2:3b,Pi 5,CPU,,\n", "given nothing"),
        (WALL + "Llama 3.2:3b,Pi 5,CPU,-3,\n", "given -3"),
        (WALL + "Llama 3.2:3b,Pi 5,CPU,3,much\n", "power: given much"),
        (JETSON + "Thor,vLLM,x,NVFP4,many,1,5\n", "batch: given many"),
        (WALL, "holds no measured rates"),
    ],
)
def test_faults_of_a_table(tmp_path: Path, text: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fault in told([str(table(tmp_path, text))], capsys)


def test_what_goes_with_such_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(table(tmp_path, WALL + "Llama 3.2:3b,Pi 5 - 16GB,CPU,4.88,11.9\n"))
    other = str(table(tmp_path, "network,ms\nresnet-50,1\n", "other.csv"))
    assert "--machine: tables of whole systems name theirs" in told([path, "-a", "h100"], capsys)
    assert "--set: tables of whole systems name theirs" in told([path, "--set", "n_cores=1"], capsys)
    assert "another kind of table beside one of whole systems" in told([path, other], capsys)
    assert "--machine (-a): needed for tables of networks" in told([other], capsys)


def test_rows_that_are_not_described_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        "Llama 3.2:3b,Pi 5 - 16GB,CPU,4.88,11.9\n"
        "Llama 3.2:3b,An abacus,CPU,0.1,\n"
        "My own model,Pi 5 - 16GB,CPU,4,\n"
        "Llama 3.1:70b,Ryzen 9 7900X (Nvidia 4090),GPU/CPU,3.1,\n"
    )
    path, out = table(tmp_path, WALL + rows), tmp_path / "out.json"
    with pytest.raises(SystemExit) as left:
        main(("validate", str(path), "--json", str(out)))
    assert left.value.code == 0
    text = capsys.readouterr().err
    for part in ("An abacus: not described: no data sheet", "unknown language model", "layers shared between a GPU"):
        assert part in text
    data = json.loads(out.read_text())
    assert len(data["rows"]) == 1 and len(data["left_out"]) == 3
    assert data["rows"][0]["machine"] == "raspberry-pi-5"
    with pytest.raises(InputError, match="no row can be compared"):
        compare_systems([read_system_table(table(tmp_path, WALL + "x,y,CPU,1,\n"))])


def test_served_rows_say_what_fits(tmp_path: Path) -> None:
    rows = (
        "L40S 48GB,TRT-LLM FP16,Yi-34B,,OOM,\n"
        "L40S 48GB,TRT-LLM FP16,Llama-3-8B,,OOM,\n"
        "L40S 48GB,TRT-LLM W8A8,Llama-3-8B,2634,ok,\n"
        "L40S 48GB,TRT-LLM W4A16,Llama-3-8B,1431,ok,64\n"
    )
    found = compare_systems([read_system_table(table(tmp_path, SERVED + rows))])
    remarks = dict(found.remarks)
    assert remarks["what fits into memory"] == "3 of 4 rows as measured"
    assert remarks["order of formats"] == "1 of 1 pairs" and found.rows[1].batch == 64
