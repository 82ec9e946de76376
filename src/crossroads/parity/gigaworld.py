"""GigaWorld-Policy 0.5 as recorded from the official class (open-gigaai/giga-world-policy).

A case holds one joint pass over inputs that are noised already, two passes of the actions alone against the kept keys
and values of state and frame of now (``infer.*``), and the mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent
from crossroads.codecs.state import StateToken
from crossroads.codecs.video_autoencoder import TIME_FACTOR
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.noise import level_from_timestep
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import (
    all_valid,
    by_group,
    embedded,
    hearing,
    joint_of,
    load_published,
    mask_between,
)
from crossroads.recipes.gigaworld import PUBLISHED, GigaWorldSize, gigaworld_policy
from crossroads.recipes.names import gigaworld_names
from crossroads.towers.given import Given
from crossroads.towers.wan import Wan

ONE_FORM = {"cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}
SEQUENCE = ("state", "action", "video.now", "video")
"""The published order of self-attention."""
PREFIX = ("text", "state", "video.now")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights, and the latents and levels (per token) that it is fed."""

    case: GoldenCase
    size: GigaWorldSize
    net: StreamNet
    latents: dict[str, Latent]
    levels: dict[str, Tensor]


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    return Produced(outputs={**joined(prepared), **acted(prepared), "mask": mask_of(prepared)})


def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights."""
    size, given = size_of(case), case.inputs
    net = build_net(gigaworld_policy(size).stage).eval()
    load_published(net, gigaworld_names(size), case.weights)
    net.address(tuple(str(index) for index in given["embodiment_id"].tolist()))
    p = size.video.patch
    now, future = (
        rearrange(given[name], "b c t (h p) (w q) -> b (t h w) (p q c)", p=p, q=p)
        for name in ("ref_latents", "noisy_latents")
    )
    latents = {"state": given["state"], "video.now": now, "action": given["action"], "video": future}
    sizes = [part.shape[1] for part in latents.values()]
    # Published timesteps come as [state, ref, actions, future]; level 0 is told to what is clean.
    levels = dict(zip(latents, level_from_timestep(given["timestep"]).split(sizes, dim=1), strict=True))
    latents["text"] = given["text"]
    return Prepared(
        case=case,
        size=size,
        net=net,
        latents={name: all_valid(values) for name, values in latents.items()},
        levels=levels,
    )


def size_of(case: GoldenCase) -> GigaWorldSize:
    """The published size with the numbers of a recorded case."""
    made, given, weights = case.meta["constructor"], case.inputs, case.weights
    patch, head = made["patch_size"][1], made["attention_head_dim"]
    made.demand({**ONE_FORM, "patch_size": [1, patch, patch], "out_action_channels": made["in_action_channels"]})
    _, channels, num_future, rows, columns = given["noisy_latents"].shape
    scale = replace(WanAutoencoder(source="recorded"), channels=channels)
    robots = tuple(str(index) for index in range(made["num_embodiments"]))
    side = head // 6 * 2

    def hidden(part: str) -> tuple[int, int]:
        return weights[f"{part}.mid_proj.weight"].shape[1], weights[f"{part}.mid_proj.weight"].shape[0]

    def wan(width: int, mlp: int, rotary: tuple[int, ...]) -> Wan:
        return Wan(
            width=width,
            mlp=mlp,
            depth=made["num_layers"],
            heads=made["num_attention_heads"],
            head_dim=head,
            rotary=rotary,
            frequency_width=made["freq_dim"],
            context_width=made["text_dim"],
        )

    return replace(
        PUBLISHED,
        text=TextFeatures(source="recorded", width=made["text_dim"], max_tokens=given["text"].shape[1]),
        text_tower=Given(width=made["text_dim"]),
        video=VideoLatents(
            cameras=("front",),
            image_hw=(rows * scale.space_factor, columns * scale.space_factor),
            future_s=tuple(float(step) for step in range(1, 1 + TIME_FACTOR * num_future)),
            autoencoder=scale,
            patch=patch,
        ),
        video_tower=wan(made["num_attention_heads"] * head, made["ffn_dim"], (head - 2 * side, side, side)),
        state=StateToken(num_state=given["state"].shape[2], hidden=hidden("state_encoder"), robots=robots),
        action=ActionTokens(
            num_actions=given["action"].shape[1],
            action_size=made["in_action_channels"],
            control_hz=30.0,
            hidden=hidden("action_encoder"),
            robots=robots,
            first_place=1,
        ),
        expert=wan(made["action_expert_dim"], made["action_ffn_dim"], (head,)),
    )


@torch.no_grad()
def joined(prepared: Prepared) -> dict[str, Tensor]:
    """One pass over everything; the head of the frame of now is read as well, as in the published network."""
    net, p = prepared.net, prepared.size.video.patch
    inputs = embedded(net, prepared.latents, prepared.levels, prepared.latents)
    with hearing(joint_of(net, "video").layers[0]) as heard:
        states = net(inputs, {})
    block = {name: part for tower, x in heard[0][0].items() for name, part in by_group(net, inputs, tower, x).items()}
    answers = {name: net.codec(name).read(states[name].hidden) for name in ("action", "video.now", "video")}
    rows, columns = prepared.size.video.grid_hw
    return {
        "velocity_action": answers["action"],
        "velocity_video": rearrange(
            torch.cat([answers["video.now"], answers["video"]], dim=1),
            "b (t h w) (p q c) -> b c t (h p) (w q)",
            h=rows,
            w=columns,
            p=p,
            q=p,
        ),
        "block0_action_stream": torch.cat([block["state"], block["action"]], dim=1),
        "block0_visual_stream": torch.cat([block["video.now"], block["video"]], dim=1),
    }


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """Actions alone, at each recorded level, against what the prefix left behind."""
    net, given = prepared.net, prepared.case.inputs
    prefix = net(embedded(net, prepared.latents, prepared.levels, PREFIX), {})
    found = {}
    for name in sorted(name for name in given if name.startswith("infer.action")):
        number = name.removeprefix("infer.action")
        latents = {**prepared.latents, "action": all_valid(given[name])}
        levels = {"action": level_from_timestep(given[f"infer.timestep{number}"])[:, None]}
        states = net(embedded(net, latents, levels, ("action",)), prefix)
        found[f"infer.velocity_action{number}"] = net.codec("action").read(states["action"].hidden)
    return found


def mask_of(prepared: Prepared) -> Bool[Tensor, "q k"]:
    """Who reads whom, in the published order."""
    num = {name: prepared.latents[name].valid.shape[1] for name in SEQUENCE}
    order = [(name, number) for name in SEQUENCE for number in range(num[name])]
    return mask_between(prepared.net.layout, num, order)
