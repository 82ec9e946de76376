"""The Cosmos tower on its own against diffusers' ``CosmosTransformer3DModel`` (Apache-2.0).

A case records two settings of the temporal-rotary switch (``fps_none``: latents are counted; ``fps16``: rotary time
runs at 24 / 16), each with one level per sample (``scalar``) and one per latent frame (``per_frame``).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.parity.alone import Alone
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing, joint_of, load_published
from crossroads.recipes.names import Renamed, cosmos_names
from crossroads.towers.cosmos import Cosmos

ONE_FORM = {"concat_padding_mask": True, "extra_pos_embed_type": None}


def run(case: GoldenCase) -> Produced:
    """Every recorded setting of the switch, with both kinds of level."""
    found: dict[str, Tensor] = {}
    for setting in sorted({name.split(".")[0] for name in case.outputs}):
        alone = alone_of(case, setting)
        net = alone.net().eval()
        load_published(net, names_of(case), case.weights)
        for kind in ("scalar", "per_frame"):
            found |= {f"{setting}.{kind}.{name}": value for name, value in outputs_of(case, alone, net, kind).items()}
    return Produced(outputs=found)


def alone_of(case: GoldenCase, setting: str) -> Alone:
    """The tower at the case's sizes; the condition mask is one channel of what goes in, the padding mask another."""
    made = case.meta["constructor"]
    patch = made["patch_size"][1]
    made.demand({**ONE_FORM, "patch_size": [1, patch, patch], "in_channels": made["out_channels"] + 1})
    switch = re.fullmatch(r"fps(?:_none|(\d+))", setting)
    if switch is None:
        raise InputError(
            where=case.outputs.where,
            expected="outputs named fps_none.* or fpsN.* (frames per second)",
            got=repr(setting),
            do="Record the case again.",
        )
    head, heads = made["attention_head_dim"], made["num_attention_heads"]
    side = head // 6 * 2
    _, channels, frames, rows, columns = case.inputs["x"].shape
    tower = Cosmos(
        width=heads * head,
        mlp=int(made["mlp_ratio"] * heads * head),
        depth=made["num_layers"],
        heads=heads,
        head_dim=head,
        rotary=(head - 2 * side, side, side),
        stretch=tuple(made["rope_scale"]),
        video_hz=float(switch[1]) if switch[1] else None,
        modulation_width=made["adaln_lora_dim"],
        context_width=made["text_embed_dim"],
        head_eps=1e-5,  # what diffusers' Attention gives its norms
    )
    return Alone(
        tower=tower,
        channels=channels,
        latents=(frames, rows, columns),
        patch=patch,
        num_words=case.inputs["text"].shape[1],
    )


def names_of(case: GoldenCase) -> tuple[Renamed, ...]:
    """The names that diffusers gives the weights."""
    made = case.meta["constructor"]
    return tuple(
        cosmos_names(
            "codecs.video",
            "towers.video",
            "",
            depth=made["num_layers"],
            patch=made["patch_size"][1],
            dialect="diffusers",
        )
    )


@torch.no_grad()
def outputs_of(case: GoldenCase, alone: Alone, net: StreamNet, kind: str) -> dict[str, Tensor]:
    """The recorded outputs for one kind of level.

    Our codec marks what stands at level 0 as clean; a recording marks frames whatever their level, so that its two
    channels of marks are put in here.
    """
    given = case.inputs
    level = given[f"timestep_{kind}"]
    level = level[:, None] if level.ndim == 1 else level
    frames, rows, columns = alone.latents
    padding = torch.nn.functional.interpolate(given["padding_mask"], size=(rows, columns), mode="nearest")
    padding = padding[:, :, None].expand(len(given["x"]), 1, frames, rows, columns)
    channels = torch.cat([given["x"], given["condition_mask"], padding], dim=1)
    inputs = alone.inputs(net, channels, level, given["text"])
    with hearing(joint_of(net, "video").layers[0]) as first:
        answer = alone.answer(net, inputs)
    return {"output": answer, "block0_out": first[0][0]["video"]}
