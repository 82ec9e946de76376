"""X-VLA as recorded from LeRobot's port (Zheng et al. 2025, arXiv 2510.10274; Apache-2.0).

A case holds what Florence-2 says of pictures and words, one training step at given noise, and acting from given noise,
in one of the published action spaces. Published time runs from clean (0) to noise (1), as ours does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from crossroads.build import build_net
from crossroads.codecs.florence import MEAN, STD, FlorencePictures
from crossroads.codecs.handed import HandedStates
from crossroads.codecs.soft_actions import SoftPrompts
from crossroads.codecs.spec import Latent, all_valid
from crossroads.diffusion import Part, Renoise, Straight
from crossroads.errors import InputError, nearest
from crossroads.net import StreamNet
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import by_group, embedded, hearing, joint_of, load_published
from crossroads.recipes.xvla import xvla
from crossroads.recipes.xvla_names import SAME_TABLE, TABLE, UNUSED, xvla_names
from crossroads.recipes.xvla_sizes import EE6D, GRIPPERS, PUBLISHED, READ, XvlaSize, with_views
from crossroads.towers.bart import Bart, Placed
from crossroads.towers.group import GroupInput, GroupState


@dataclass(frozen=True, kw_only=True)
class Space:
    """A published action space: what it adds up to which loss, and which columns are grippers. ``size``: numbers of the
    network's actions; ``real``: those of the robot's (0: all). ``scored``: grippers become sigmoids when acting."""

    size: int
    losses: Mapping[str, tuple[Part, ...]]
    unseen: tuple[int, ...] = ()
    scored: tuple[int, ...] = ()
    real: int = 0


def _columns(*columns: int, weight: float = 1.0, scored: bool = False) -> tuple[Part, ...]:
    return (Part(columns=columns, weight=weight, scored=scored),)


SPACES: Mapping[str, Space] = {
    "ee6d": Space(
        size=20,
        losses={"position_loss": EE6D[:2], "rotate6D_loss": EE6D[2:4], "gripper_loss": EE6D[4:]},
        unseen=GRIPPERS,
        scored=GRIPPERS,
    ),
    "agibot_ee6d": Space(
        size=20,
        losses={
            "position_loss": EE6D[:2],
            "rotate6D_loss": EE6D[2:4],
            "gripper_loss": _columns(*GRIPPERS, weight=10.0),
        },
    ),
    "joint": Space(
        size=14,
        losses={
            "joints_loss": _columns(*range(6), *range(7, 13)),
            "gripper_loss": _columns(6, 13, weight=0.1, scored=True),
        },
        unseen=(6, 13),
        scored=(6, 13),
    ),
    "franka_joint7": Space(size=20, losses={"joints_loss": _columns(*range(7))}, real=7),
    "so101_bimanual": Space(
        size=20,
        losses={
            "joints_loss": _columns(*range(12)),
            "gripper_loss": _columns(5, 11),
            "left_arm_loss": _columns(*range(6)),
            "right_arm_loss": _columns(*range(6, 12)),
        },
        unseen=(5, 11),
        scored=(5, 11),
        real=12,
    ),
}
"""``action_hub.py``."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights, and what Florence-2 says there."""

    case: GoldenCase
    size: XvlaSize
    space: Space
    net: StreamNet
    read: Mapping[str, GroupState]

    @property
    def own(self) -> tuple[str, ...]:
        """The transformer's sequence, in the published order."""
        there = {"seen_others": self.size.seen_others, "prompts": self.size.prompts}
        return ("action", "seen", *(name for name, codec in there.items() if codec))

    def inputs(self, actions: Tensor, level: Float[Tensor, " b"]) -> dict[str, GroupInput]:
        """What the transformer is fed."""
        state = self.case.inputs.get("proprio")
        beside = None if state is None or not state.shape[-1] else state[:, None].expand(-1, actions.shape[1], -1)
        valid = torch.ones(actions.shape[:2], dtype=torch.bool)
        latents = {"action": Latent(values=actions, valid=valid, beside=beside)}
        for name in self.own[1:]:
            num = self.net.group(name).stream.codec.num_tokens("now")
            latents[name] = all_valid(torch.zeros(len(actions), num, 0))
        return embedded(self.net, latents, {"action": level[:, None]}, latents)

    def answer(self, actions: Tensor, level: Float[Tensor, " b"]) -> Float[Tensor, "b n a"]:
        """The clean actions."""
        states = self.net(self.inputs(actions, level), self.read)
        return self.net.codec("action").read(states["action"].hidden)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    seen = torch.cat([prepared.read[name].hidden for name in READ], dim=1)
    others = prepared.read["others"].hidden if prepared.size.others else seen[:, :0]
    outputs = {"vlm_features": seen, "aux_visual_inputs": others, **trained(prepared), **acted(prepared)}
    return Produced(outputs=outputs)


@torch.no_grad()
def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights, and Florence-2 run once; a view that is not there is
    zeros behind the map into the language model, and is read all the same."""
    size, given = size_of(case), case.inputs
    net = build_net(xvla(size).stage).eval()
    unused = {name for name in case.weights if any(re.fullmatch(pattern, name) for pattern in UNUSED)}
    if not size.others:
        unused |= {name for name in case.weights if ".aux_visual_proj." in name}
    table, same = TABLE.format(""), SAME_TABLE.format("")
    weights = dict(case.weights) if table in case.weights else {**case.weights, table: case.weights[same]}
    load_published(net, xvla_names(size), weights, unused=frozenset(unused))
    net.address(tuple(f"domain_{number}" for number in given["domain_id"].tolist()))
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    pixels = (rearrange(given["pixel_values"], "b v c h w -> b v h w c") * std + mean) * 255
    latents = {"image": _pictures(size.image, pixels[:, :1]), "text": all_valid(given["input_ids"])}
    if size.others:
        latents["others"] = _pictures(size.others, pixels[:, 1:])
    inputs = embedded(net, latents, {}, latents)
    there = given["image_mask"].bool()
    for name, views in (("image", there[:, :1]), ("others", there[:, 1:])):
        if name in inputs:
            shown = views.repeat_interleave(size.image.tokens_per_camera, dim=1)[..., None]
            inputs[name] = replace(inputs[name], tokens=inputs[name].tokens * shown)
    return Prepared(case=case, size=size, space=space_of(case), net=net, read=net(inputs, {}))


def _pictures(spec: Any, pixels: Tensor) -> Latent:
    num = spec.num_tokens("now")
    return Latent(values=pixels, valid=torch.ones(len(pixels), num, dtype=torch.bool))


def space_of(case: GoldenCase) -> Space:
    """The action space by its name; ``auto`` takes its size from the inputs."""
    made = case.meta["constructor"]
    mode = str(made["action_mode"]).lower()
    if mode == "auto":
        size = case.inputs["sample_noise"].shape[-1]
        real = int(made.get("real_dim", made.get("real_action_dim", case.inputs["actions"].shape[-1])))
        return Space(size=size, losses={"joints_loss": _columns(*range(real))}, real=real)
    if mode not in SPACES:
        where, known = f"{made.where}.action_mode", {**SPACES, "auto": None}
        expected = f"one of {', '.join(known)}"
        raise InputError(where=where, expected=expected, got=repr(mode), do=nearest(mode, known))
    return SPACES[mode]


def size_of(case: GoldenCase) -> XvlaSize:
    """The published size with the numbers of a recorded case."""
    made, given, space = case.meta["constructor"], case.inputs, space_of(case)
    text, width = made["florence"]["text_config"], made["hidden_size"]
    image = pictures_of(made["florence"]["vision_config"], given["pixel_values"])
    text.demand({"scale_embedding": False, "activation_function": "gelu"})
    domains = tuple(f"domain_{number}" for number in range(made["num_domains"]))
    num, words = image.tokens_per_camera, given["input_ids"].shape[1]
    banks = domains if made.get("use_hetero_proj") else ()
    size = replace(
        PUBLISHED,
        image=image,
        text=replace(
            PUBLISHED.text,
            vocabulary=replace(PUBLISHED.text.vocabulary, size=text["vocab_size"]),  # pyright: ignore
            max_tokens=words,
        ),
        language=Bart(
            width=text["d_model"],
            mlp=text["encoder_ffn_dim"],
            depth=text["encoder_layers"],
            heads=text["encoder_attention_heads"],
            num_places=text["max_position_embeddings"],
        ),
        seen=HandedStates(sources=READ, num=num + words, state_width=image.width, robots=banks),
        prompts=SoftPrompts(num=made["len_soft_prompts"], robots=domains) if made["len_soft_prompts"] else None,
        action=replace(
            PUBLISHED.action,
            num_actions=made["chunk_size"],
            action_size=space.size,
            num_state=given["proprio"].shape[-1],
            waves=made["dim_time"],
            robots=domains,
            unseen=space.unseen,
            scored=space.scored,
        ),
        policy=Placed(
            width=width,
            mlp=int(width * made["mlp_ratio"]),
            depth=made["depth"],
            heads=made["num_heads"],
            num_places=made["max_len_seq"],
        ),
        process=Straight(parts=tuple(part for parts in space.losses.values() for part in parts)),
        denoising_steps=max(1, int(made["steps"])),
    )
    return with_views(size, given["pixel_values"].shape[1] - 1)


def pictures_of(vision: Named[Any], pixels: Tensor) -> FlorencePictures:
    """DaViT with the numbers of a case, in Microsoft's words or in transformers'."""
    places = vision.get("image_pos_embed")
    return FlorencePictures(
        cameras=("image",),
        image_hw=(pixels.shape[-2], pixels.shape[-1]),
        width=vision["projection_dim"],
        patches=tuple(vision["patch_size"]),
        strides=tuple(vision["patch_stride"]),
        paddings=tuple(vision["patch_padding"]),
        norm_first=tuple(vision["patch_prenorm"]),
        widths=tuple(vision.get("dim_embed") or vision["embed_dim"]),
        depths=tuple(vision["depths"]),
        heads=tuple(vision["num_heads"]),
        groups=tuple(vision["num_groups"]),
        window_size=vision["window_size"],
        num_places=places["max_pos_embeddings"] if places else vision["max_position_embeddings"],
    )


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The training step; actions of fewer numbers than the network's are padded with zeros."""
    net, given, space = prepared.net, prepared.case.inputs, prepared.space
    process, actions = prepared.size.process, _padded(given["actions"], space.size)
    level = process.levels(given["time_base"].reshape(1, 1), len(actions))[:, 0]
    noised = process.noised(actions, _padded(given["noise"], space.size), level[:, None, None])
    shown = noised.clone()
    shown[..., list(space.unseen)] = 0.0
    with ExitStack() as stack:
        layers = [stack.enter_context(hearing(layer)) for layer in joint_of(net, "policy").layers]
        entered = stack.enter_context(hearing(net.get_submodule("codecs.action.enter")))
        answer = prepared.answer(noised, level)
    inputs = prepared.inputs(noised, level)

    def in_sequence(x: Tensor) -> Tensor:
        """Our tower holds its groups in the order of their names."""
        parts = by_group(net, inputs, "policy", x)
        return torch.cat([parts[name] for name in prepared.own], dim=1)

    losses = {
        f"train_{name}": sum((part.weight * part.error(answer, actions).mean() for part in parts), torch.zeros(()))
        for name, parts in space.losses.items()
    }
    return {
        **losses,
        "time": level,
        "x_t": noised,
        "x_t_gripper_zeroed": shown,
        "predicted_actions": answer,
        "action_tokens": entered[0],
        **{f"block_{number}": in_sequence(heard[0][0]["policy"]) for number, heard in enumerate(layers)},
    }


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """Acting from given noise."""
    noise, found = prepared.case.inputs["sample_noise"], []
    walk = Renoise(process=prepared.size.process, steps=prepared.size.denoising_steps)

    def asked(flat: Tensor, level: float) -> Tensor:
        found.append(prepared.answer(flat.reshape(noise.shape), torch.full((len(noise),), level)))
        return found[-1].flatten(1)

    ended = walk.solve(noise.flatten(1), asked).reshape(noise.shape)
    actions = prepared.net.get_submodule("codecs.action").decode(ended)  # pyright: ignore
    return {
        "sample_actions": actions[..., : prepared.space.real or actions.shape[-1]],
        "sample_predictions_first_step": found[0],
        "sample_predictions": torch.stack(found),
    }


def _padded(actions: Tensor, size: int) -> Tensor:
    return functional.pad(actions, (0, size - actions.shape[-1]))
