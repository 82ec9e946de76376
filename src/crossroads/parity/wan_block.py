"""The Wan tower on its own against diffusers' ``WanTransformer3DModel`` (Apache-2.0).

A case has modes: ``t2v`` (one level per sample), ``ti2v`` (one per token), and ``i2v`` (image tokens in the
cross-attention), which no tower of ours carries, so that its outputs are not produced.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossroads.noise import level_from_timestep
from crossroads.parity.alone import Alone
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing, joint_of, load_published
from crossroads.recipes.names import Renamed, wan_ends, wan_names
from crossroads.towers.wan import Wan

MODES = ("t2v", "ti2v")
ONE_FORM = {"cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}


def run(case: GoldenCase) -> Produced:
    """What a case records of the modes that our tower carries."""
    modes = [mode for mode in MODES if mode in case.meta["constructor"]]
    return Produced(outputs={name: ours for mode in modes for name, ours in outputs_of(case, mode).items()})


def names_of(case: GoldenCase, mode: str) -> tuple[Renamed, ...]:
    """The names that diffusers gives the weights of one mode."""
    made = case.meta["constructor"][mode]
    return (
        *wan_ends("codecs.video", "towers.video", f"{mode}.", made["patch_size"][1], "diffusers"),
        *wan_names("towers.video", f"{mode}.", made["num_layers"], "diffusers"),
    )


def alone_of(case: GoldenCase, mode: str) -> Alone:
    """The tower at the sizes of one mode."""
    made = case.meta["constructor"][mode]
    patch = made["patch_size"][1]
    made.demand({**ONE_FORM, "patch_size": [1, patch, patch]})
    _, channels, frames, rows, columns = case.inputs[f"{mode}.x"].shape
    head, words = made["attention_head_dim"], case.inputs[f"{mode}.text"]
    tower = Wan(
        width=made["num_attention_heads"] * head,
        mlp=made["ffn_dim"],
        depth=made["num_layers"],
        heads=made["num_attention_heads"],
        head_dim=head,
        rotary=(head - 4 * (head // 6), 2 * (head // 6), 2 * (head // 6)),
        frequency_width=made["freq_dim"],
        context_width=made["text_dim"],
        eps=made["eps"],
    )
    latents = (frames, rows, columns)
    return Alone(tower=tower, channels=channels, latents=latents, patch=patch, num_words=words.shape[1])


@torch.no_grad()
def outputs_of(case: GoldenCase, mode: str) -> dict[str, Tensor]:
    """The recorded outputs of one mode."""
    alone = alone_of(case, mode)
    net = alone.net().eval()
    own = {name: tensor for name, tensor in case.weights.items() if name.startswith(f"{mode}.")}
    load_published(net, names_of(case, mode), own)
    level = level_from_timestep(case.inputs[f"{mode}.timestep"])  # per sample, or per token
    per_sample = level.ndim == 1
    level = level[:, None] if per_sample else level
    inputs = alone.inputs(net, case.inputs[f"{mode}.x"], level, case.inputs[f"{mode}.text"])
    joint = joint_of(net, "video")
    frame = joint.frames["video"]
    with (
        hearing(joint.layers[0]) as first,
        hearing(frame.get_submodule("level_out")) as told,
        hearing(frame.get_submodule("level_project")) as levels,
        hearing(frame.get_submodule("context_out")) as context,
    ):
        answer = alone.answer(net, inputs)
    found = {
        "velocity": answer,
        "block0_out": first[0][0]["video"],
        "temb": told[0][:, 0] if per_sample else told[0],
        "timestep_proj_slice": (levels[0][:, 0] if per_sample else levels[0])[..., :8],
        "text_embedded": context[0][:, :4],
    }
    return {f"{mode}.{name}": tensor for name, tensor in found.items()}
