"""``crossroads parity``: status 0 within tolerance, 1 beyond it, 2 with the reason where a case cannot be run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crossroads import cli
from crossroads.parity.systems import SYSTEMS
from golden import golden_case_folder

pytestmark = pytest.mark.golden


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of a case to spoil."""
    return Path(shutil.copytree(golden_case_folder("fast_wam"), tmp_path / "case", copy_function=shutil.copyfile))


def edit(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Change the tensors of a file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def edit_meta(folder: Path, change: Callable[[dict], object]) -> None:
    """Change meta.json."""
    meta = json.loads((folder / "meta.json").read_text())
    change(meta)
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_system_is_run_and_each_of_its_outputs_gets_a_line(
    system: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = golden_case_folder(system)
    status = cli.main(["parity", str(folder)])
    said = capsys.readouterr().out.splitlines()
    lines = {line.split()[0]: line for line in said if line.strip()}
    outputs = load_file(folder / "outputs.safetensors")
    assert outputs.keys() <= lines.keys()
    failing = {name for name in outputs if "ok" not in lines[name].split() and "ok," not in lines[name].split()}
    assert failing == set()
    assert status == 0
    assert f"{len(outputs)} of {len(outputs)} outputs within tolerance" in said[-1]


def test_a_weight_that_moved_a_little_ends_with_status_1(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def move(weights: dict[str, Tensor]) -> None:
        weights["action_expert.head.weight"][0, 0] += 0.01

    edit(copied / "weights.safetensors", move)
    assert cli.main(["parity", str(copied)]) == 1
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "BEYOND" in lines["train.velocity_action"]
    assert "BEYOND" in lines["infer.action"]
    assert "BEYOND" not in lines["train.velocity_video"]


def test_a_mask_that_was_recorded_otherwise_ends_with_status_1(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def move(outputs: dict[str, Tensor]) -> None:
        outputs["train.attention_mask"][0, -1] ^= 1

    edit(copied / "outputs.safetensors", move)
    assert cli.main(["parity", str(copied)]) == 1
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if "BEYOND" in line] == ["train.attention_mask"]


def test_an_output_that_we_do_not_produce_ends_with_status_1(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(copied / "outputs.safetensors", lambda outputs: outputs.update({"train.block7_video": torch.zeros(2)}))
    assert cli.main(["parity", str(copied)]) == 1
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("train.block7_video")]
    assert line.endswith("not produced")
    assert "16 of 17 outputs within tolerance, 1 not produced" in said


def spoil_weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "weights.safetensors", lambda tensors: (change(tensors), None)[1])


def spoil_inputs(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "inputs.safetensors", lambda tensors: (change(tensors), None)[1])


def spoil_meta(change: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda folder: edit_meta(folder, change)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "nothing there"),
    "no meta.json": (lambda folder: (folder / "meta.json").unlink(), "meta.json"),
    "broken meta.json": (lambda folder: (folder / "meta.json").write_text("{"), "expected JSON"),
    "meta.json is a list": (lambda folder: (folder / "meta.json").write_text("[]"), "expected a JSON object"),
    "no system": (spoil_meta(lambda meta: meta.pop("system")), "expected 'system'"),
    "system is a number": (spoil_meta(lambda meta: meta.update(system=3)), "expected a name"),
    "misspelt system": (spoil_meta(lambda meta: meta.update(system="fast_wan")), "Did you mean 'fast_wam'?"),
    "unknown system": (spoil_meta(lambda meta: meta.update(system="q")), "fast_wam, fast_wam_idm"),
    "no constructor": (spoil_meta(lambda meta: meta.pop("constructor")), "expected 'constructor'"),
    "no width": (spoil_meta(lambda meta: meta["constructor"]["wam"].pop("text_dim")), "wam: expected 'text_dim'"),
    "no tolerance": (spoil_meta(lambda meta: meta.pop("tolerance")), "expected 'tolerance'"),
    "another form": (
        spoil_meta(lambda meta: meta["constructor"]["video_expert"].update(has_image_input=True)),
        "has_image_input: expected False, got True",
    ),
    "another size": (
        spoil_meta(lambda meta: meta["constructor"]["action_expert"].update(hidden_dim=40)),
        "Build the recipe at the size of the weights",
    ),
    "impossible size": (
        spoil_meta(lambda meta: meta["constructor"]["action_expert"].update(num_heads="two")),
        "this one cannot be run",
    ),
    "no outputs file": (lambda folder: (folder / "outputs.safetensors").unlink(), "outputs.safetensors"),
    "no outputs": (
        lambda folder: edit(folder / "outputs.safetensors", lambda outputs: outputs.clear()),
        "expected tensors, got none",
    ),
    "inputs are a folder": (
        lambda folder: ((folder / "inputs.safetensors").unlink(), (folder / "inputs.safetensors").mkdir()),
        "inputs.safetensors: expected",
    ),
    "broken inputs": (lambda folder: (folder / "inputs.safetensors").write_bytes(b"x"), "safetensors format"),
    "no input": (spoil_inputs(lambda inputs: inputs.pop("noise_action")), "expected 'noise_action'"),
    "an input of another size": (
        spoil_inputs(lambda inputs: inputs.update(noise_action=torch.zeros(2, 3, 7))),
        "this one cannot be run",
    ),
    "no weights": (lambda folder: (folder / "weights.safetensors").unlink(), "published weights: expected"),
    "a weight missing": (
        spoil_weights(lambda weights: weights.pop("action_expert.head.bias")),
        "expected action_expert.head.bias",
    ),
    "a weight too many": (
        spoil_weights(lambda weights: weights.update({"action_expert.tail.bias": torch.zeros(1)})),
        "action_expert.tail.bias",
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_case_that_cannot_be_run_ends_with_status_2_and_says_why(
    spoilt: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, reason = SPOILT[spoilt]
    spoil(copied)
    assert cli.main(["parity", str(copied)]) == 2
    said = capsys.readouterr()
    assert reason in said.err
    assert "expected" in said.err
    assert said.out == ""
