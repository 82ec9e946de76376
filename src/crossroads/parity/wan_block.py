"""The Wan tower on its own against diffusers' ``WanTransformer3DModel`` (Apache-2.0).

A case has modes: ``t2v`` (one level per sample), ``ti2v`` (one per token), and ``i2v`` (image tokens in the
cross-attention, conditioning channels beside the latent's own).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossroads.noise import level_from_timestep
from crossroads.parity.alone import Alone
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing, joint_of, load_published
from crossroads.recipes.names import Renamed, wan_ends, wan_image_names, wan_names
from crossroads.towers.wan import Wan

ONE_FORM = {"cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}


def run(case: GoldenCase) -> Produced:
    """What a case records of each mode."""
    modes = modes_of(case)
    return Produced(outputs={name: ours for mode in modes for name, ours in outputs_of(case, mode).items()})


def modes_of(case: GoldenCase) -> tuple[str, ...]:
    """The modes that a case records."""
    return tuple(case.meta["constructor"])


def names_of(case: GoldenCase, mode: str) -> tuple[Renamed, ...]:
    """The names that diffusers gives the weights of one mode."""
    made = case.meta["constructor"][mode]
    return (
        *wan_ends("codecs.video", "towers.video", f"{mode}.", made["patch_size"][1], "diffusers"),
        *wan_names("towers.video", f"{mode}.", made["num_layers"], "diffusers"),
        *(wan_image_names("towers.video", f"{mode}.", made["num_layers"]) if _image_width(made) else ()),
    )


def _image_width(made: Named[Any]) -> int:
    return (made["image_dim"] or 0) if "image_dim" in made else 0


def alone_of(case: GoldenCase, mode: str) -> Alone:
    """The tower at the sizes of one mode."""
    made = case.meta["constructor"][mode]
    patch = made["patch_size"][1]
    made.demand({**ONE_FORM, "patch_size": [1, patch, patch]})
    _, _, frames, rows, columns = case.inputs[f"{mode}.x"].shape
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
        image_width=_image_width(made),
        eps=made["eps"],
    )
    return Alone(
        tower=tower,
        channels=made["out_channels"],
        latents=(frames, rows, columns),
        patch=patch,
        num_words=words.shape[1],
        beside=made["in_channels"] - made["out_channels"],
        num_images=case.inputs[f"{mode}.image_emb"].shape[1] if _image_width(made) else 0,
    )


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
    images = case.inputs[f"{mode}.image_emb"] if alone.num_images else None
    inputs = alone.inputs(net, case.inputs[f"{mode}.x"], level, case.inputs[f"{mode}.text"], images)
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
