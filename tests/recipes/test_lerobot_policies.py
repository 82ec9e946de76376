"""Policies that LeRobot itself made and wrote are imported here, answer as they did there, and go back to LeRobot.

Set CROSSROADS_LEROBOT_PYTHON to the interpreters of environments that hold LeRobot, separated by colons.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crossroads.net import StreamNet
from crossroads.parity import groot, pi0, pi0_fast, smolvla
from crossroads.parity.case import GoldenCase, Named, load_case
from crossroads.recipes.groot_n1 import groot_n1
from crossroads.recipes.groot_names import groot_names
from crossroads.recipes.names import pi0_fast_names
from crossroads.recipes.pi0 import pi0 as pi0_recipe
from crossroads.recipes.pi0_fast import pi0_fast as pi0_fast_recipe
from crossroads.recipes.pi05 import pi05 as pi05_recipe
from crossroads.recipes.pi05_sizes import Pi05Size
from crossroads.recipes.smolvla import smolvla as smolvla_recipe
from crossroads.recipes.smolvla_names import smolvla_names
from crossroads.recipes.transfer import (
    HEAD,
    TABLE,
    Official,
    export_release,
    import_release,
    official,
    pi0_fast_apart,
)

VARIABLE = "CROSSROADS_LEROBOT_PYTHON"
SCRIPT = Path(__file__).with_name("lerobot_policies.py")
PYTHONS = [python for python in os.environ.get(VARIABLE, "").split(":") if python]
PREFIX = {"groot_n15": "_groot_model.", "groot_n17": "_groot_model."}
CLOSE = 1e-4

SIGLIP = {"hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 1, "num_attention_heads": 2}
SIGLIP |= {"patch_size": 14, "image_size": 28, "projection_dim": 32}
GEMMA = {"depth": 3, "width": 32, "mlp_dim": 40, "num_heads": 8, "num_kv_heads": 2, "head_dim": 6}
PI = {
    "action_dim": 7,
    "action_horizon": 4,
    "vlm_gemma": GEMMA,
    "action_expert_gemma": {**GEMMA, "width": 20, "mlp_dim": 24},
    "siglip": SIGLIP,
    "vocab_size": 83,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
SMOLVLA = {
    "text_config": {
        **{"hidden_size": 40, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "head_dim": 10, "vocab_size": 90, "rms_norm_eps": 1e-5},
        "rope_max_wavelength": 10000,
    },
    "vision_config": {
        **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"image_size": 64, "patch_size": 8},
    },
    "connector_scale_factor": 4,
    **{"num_vlm_layers": 4, "num_expert_layers": 4, "attention_mode": "cross_attn", "self_attn_every_n_layers": 2},
    **{"expert_width_multiplier": 0.75, "expert_hidden_size": 30, "expert_intermediate_size": 256, "prefix_length": -1},
    **{"chunk_size": 5, "max_state_dim": 6, "max_action_dim": 7, "num_steps": 3, "add_image_special_tokens": False},
}
TRUNK = {"positional_embeddings": None, "dropout": 0.0, "final_dropout": True}
GROOT = {
    **{"input_embedding_dim": 24, "backbone_embedding_dim": 32, "hidden_size": 16, "action_horizon": 5},
    **{"max_state_dim": 6, "num_inference_timesteps": 3, "max_num_embodiments": 4, "max_seq_len": 12},
    **{"add_pos_embed": True, "num_timestep_buckets": 1000, "state_history_length": 1},
    "vl_self_attention_cfg": {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 1, **TRUNK},
    "diffusion_model_cfg": {
        **{"num_attention_heads": 3, "attention_head_dim": 8, "output_dim": 16, "num_layers": 4},
        **{"interleave_self_attention": True, "norm_type": "ada_norm", **TRUNK},
    },
}
N17 = {"max_action_dim": 7, "use_alternate_vl_dit": True, "attend_text_every_n_blocks": 2}
N15 = {name: value for name, value in GROOT.items() if name != "state_history_length"}
N15["diffusion_model_cfg"] = {**GROOT["diffusion_model_cfg"], "cross_attention_dim": 32}
MADE: Mapping[str, Mapping[str, Any]] = {
    "pi0": {**PI, "pi05": False},
    "pi05": {**PI, "pi05": True},
    "pi0_fast": {**PI, "gemma": GEMMA, "bos_token_id": 2, "decoding_steps": 5},
    "smolvla": SMOLVLA,
    "groot_n15": {**N15, "action_dim": 7, "num_target_vision_tokens": 3},
    "groot_n17": {**GROOT, **N17},
}

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not PYTHONS, reason=f"no LeRobot: ${VARIABLE} names no interpreter on this machine"),
]


def run(python: str, *words: str | Path, home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    done = subprocess.run(
        [python, str(SCRIPT), *map(str, words)], env=environment, capture_output=True, text=True, timeout=900
    )
    if "refused: " in done.stderr:
        pytest.skip(f"{python}: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-3000:]


def recorded(folder: Path) -> GoldenCase:
    """The case with the weights that LeRobot had, under the names of the network alone."""
    case = load_case(folder / "case")
    prefix = PREFIX.get(case.system, "model.") + ("action_head." if case.system in PREFIX else "")
    state = load_file(folder / "state.safetensors")
    return replace(case, weights=Named({n.removeprefix(prefix): w for n, w in state.items() if prefix in n}, prefix))


def released(case: GoldenCase) -> Official:
    """What is imported, at the size of the case."""
    given = official(case.system)
    if case.system in ("pi0", "pi05"):
        size = pi0.size_of(case)
        recipe = pi05_recipe(size) if isinstance(size, Pi05Size) else pi0_recipe(size)
        return replace(given, recipe=recipe, names=pi0.names_of(size))
    if case.system == "pi0_fast":
        size = pi0_fast.size_of(case)
        size = replace(size, text=replace(size.text, tied=True))
        apart = pi0_fast_apart(size)
        return replace(given, recipe=pi0_fast_recipe(size), names=pi0_fast_names(size), apart=apart)
    if case.system == "smolvla":
        size = smolvla.size_of(case)
        return replace(given, recipe=smolvla_recipe(size), names=smolvla_names(size))
    size = groot.size_of(case)
    return replace(given, recipe=groot_n1(size), names=groot_names(size))


def answers(case: GoldenCase, net: StreamNet, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What ours answers to the recorded inputs, once it is seen to hold what was imported."""
    if case.system in ("pi0", "pi05"):
        prepared = pi0.prepare(case)
        found = {**pi0.stepped(prepared), **pi0.sampled(prepared, pi0.drifting(prepared.size.denoising_steps))}
    elif case.system == "smolvla":
        if not case.meta["upstream"]["transformers"].startswith("4."):  # since 5 each patch has its own place
            monkeypatch.setattr(smolvla, "recorded_places", lambda rows, columns: torch.arange(rows * columns))
        prepared = smolvla.prepare(case)
        found = {**pi0.stepped(prepared), **pi0.sampled(prepared, prepared.stage.schedule)}
        held = dict(prepared.net.named_parameters())
        held["codecs.image.position"] = dict(net.named_parameters())["codecs.image.position"]
        assert all(torch.equal(held[name], weight) for name, weight in net.named_parameters())
        return found
    elif case.system == "pi0_fast":
        prepared = pi0_fast.prepare(case)
        found = dict(pi0_fast.run(case).outputs)
    else:
        prepared = groot.prepare(case)
        found = {**groot.trained(prepared), **groot.acted(prepared)}
    held = dict(prepared.net.named_parameters())
    assert all(torch.equal(held[name], weight) for name, weight in net.named_parameters())
    return found


@pytest.mark.parametrize("system", MADE)
@pytest.mark.parametrize("python", PYTHONS)
def test_what_lerobot_wrote_answers_here_as_it_did_there_and_goes_back(
    python: str, system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"seed": 3, "batch": 2, "num_cameras": 2, "num_tokens": 6, "masked": True, "steps": 3, "num_features": 8}
    spec = {"system": system, "constructor": MADE[system], "tied_weights": [], "notes": [], **asked}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    run(python, "make", tmp_path / "spec.json", tmp_path, home=tmp_path)
    case = recorded(tmp_path)
    given = released(case)
    net = import_release(given, str(tmp_path / "release"), tmp_path / "ours", dtype=torch.float32)
    found = answers(case, net, monkeypatch)
    for name, theirs in case.outputs.items():
        scale = max(1.0, theirs.abs().max().item())
        assert (found[name].double() - theirs.double()).abs().max().item() <= CLOSE * scale, name
    export_release(given, tmp_path / "ours", tmp_path / "back")
    run(python, "load", tmp_path / "back", tmp_path / "spec.json", tmp_path / "again.safetensors", home=tmp_path)
    before, after = load_file(tmp_path / "state.safetensors"), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {path.name for path in (tmp_path / "back").iterdir()} == {
        path.name for path in (tmp_path / "release").iterdir()
    }


@pytest.mark.parametrize("python", PYTHONS)
def test_openpis_layout_differs_by_the_prefix_and_by_which_name_of_a_shared_tensor_is_kept(
    python: str, tmp_path: Path
) -> None:
    asked = {"seed": 3, "batch": 1, "num_cameras": 1, "num_tokens": 4, "masked": False, "steps": 2}
    spec = {"system": "pi0", "constructor": MADE["pi0"], "tied_weights": [], "notes": [], **asked}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    run(python, "make", tmp_path / "spec.json", tmp_path, home=tmp_path)
    given = released(recorded(tmp_path))
    theirs = import_release(given, str(tmp_path / "release"), tmp_path / "theirs", dtype=torch.float32)
    tensors = load_file(tmp_path / "release" / "model.safetensors")
    tensors = {name.removeprefix("model."): value for name, value in tensors.items()}
    tensors[HEAD] = tensors.pop(TABLE)  # openpi's are one tensor, of which safetensors keeps this name
    (tmp_path / "openpi").mkdir()
    save_file(tensors, tmp_path / "openpi" / "model.safetensors")
    ours = import_release(given, str(tmp_path / "openpi"), tmp_path / "ours", dtype=torch.float32)
    for (name, one), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    export_release(given, tmp_path / "ours", tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert all(torch.equal(value, tensors[name]) for name, value in back.items())
    assert tensors.keys() - back.keys() == {"paligemma_with_expert.gemma_expert.lm_head.weight"}  # of no use
