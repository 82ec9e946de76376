"""pi0 and pi0.5 as recorded from openpi's PyTorch code (arXiv 2410.24164 and 2504.16054; Apache-2.0).

A case holds one training step at a given level and noise, the prefix cache, and the denoising steps from given noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.spec import Latent
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.net import StreamNet
from crossroads.noise import corrupt, velocity
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import (
    all_valid,
    embedded,
    hearing,
    interpreter,
    joint_of,
    load_published,
    mask_between,
)
from crossroads.recipes import pi0 as pi0_sizes
from crossroads.recipes import pi05_sizes
from crossroads.recipes.names import Renamed, pi0_names, pi05_names
from crossroads.recipes.pi0 import Pi0Size, pi0
from crossroads.recipes.pi05 import pi05
from crossroads.recipes.pi05_sizes import Pi05Size
from crossroads.recipes.smolvla import SmolVlaSize
from crossroads.schedule import Denoise, Leg
from crossroads.solvers import Euler
from crossroads.stage import Stage
from crossroads.streams import Corrupted
from crossroads.towers.gemma import Gemma, GemmaFrame
from crossroads.towers.group import GroupInput
from crossroads.towers.spec import level_sinusoid

PREFIX, SUFFIX = ("image", "text"), ("state", "action")
# The first is tied to the table of words, the second is never run.
UNUSED = frozenset(
    {"paligemma_with_expert.paligemma.lm_head.weight", "paligemma_with_expert.gemma_expert.lm_head.weight"}
)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights; ``latents`` hold the actions at the recorded level."""

    case: GoldenCase
    size: Pi0Size | Pi05Size | SmolVlaSize
    stage: Stage
    net: StreamNet
    latents: Mapping[str, Latent]
    level: Float[Tensor, "b 1"]
    prefix: tuple[str, ...] = PREFIX
    suffix: tuple[str, ...] = SUFFIX

    @property
    def order(self) -> tuple[str, ...]:
        """The groups in the published order."""
        return (*self.prefix, *self.suffix)

    @property
    def pad_mask(self) -> Bool[Tensor, "b n"]:
        return torch.cat([self.latents[name].valid for name in self.order], dim=1)

    def inputs(self, names: tuple[str, ...]) -> dict[str, GroupInput]:
        """Some of the training step's groups as placed tokens."""
        return embedded(self.net, self.latents, {"action": self.level}, names)

    @torch.no_grad()
    def sample(self, legs: tuple[Leg, ...]) -> Float[Tensor, "b n a"]:
        """The actions that a schedule settles from the recorded noise."""
        observed = {name: latent for name, latent in self.latents.items() if name != "action"}
        noise = {"action": all_valid(self.case.inputs["sample_noise"])}
        return interpreter(self.net, observed, noise).run(legs).streams["action"]


def run(case: GoldenCase) -> Produced:
    """Everything that a case records. Padding is read by nobody: its keys, values and positions differ freely."""
    prepared = prepare(case)
    pad, legs = prepared.pad_mask, drifting(prepared.size.denoising_steps)
    prefix = rearrange(torch.cat([prepared.latents[name].valid for name in PREFIX], dim=1), "b n -> b 1 n 1")
    outputs = {
        **stepped(prepared),
        **sampled(prepared, legs),
        **_cached(prepared),
        **masks(prepared),
        **_told(prepared),
    }
    kept = {name: prefix for name in outputs if name.startswith(("prefix_key", "prefix_value"))}
    return Produced(outputs=outputs, counts={**kept, "position_ids": pad})


def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights and the recorded inputs."""
    size, given = size_of(case), case.inputs
    stage = pi05(size).stage if isinstance(size, Pi05Size) else pi0(size).stage
    net = build_net(stage).eval()
    load_published(net, names_of(size), case.weights, unused=UNUSED)
    noisy = corrupt(given["actions"], given["noise"], given["time"][:, None, None])
    latents = {
        "image": pictures_of(case, size.image),
        "text": Latent(values=given["tokens"], valid=given["token_mask"].bool()),
        "action": all_valid(noisy),
    }
    suffix = SUFFIX if isinstance(size, Pi0Size) else ("action",)  # pi0.5 has its state in the prompt
    if "state" in suffix:
        latents["state"] = all_valid(given["state"][:, None])
    level = given["time"][:, None]
    return Prepared(case=case, size=size, stage=stage, net=net, latents=latents, level=level, suffix=suffix)


def pictures_of(case: GoldenCase, image: Patches) -> Latent:
    """The recorded pictures of all cameras; a masked camera's tokens do not count."""
    cameras, given = range(len(image.cameras)), case.inputs
    seen = [repeat(given[f"image_mask_{i}"], "b -> b n", n=image.patches_per_camera) for i in cameras]
    pixels = torch.stack([rearrange(given[f"image_{i}"], "b c h w -> b h w c") for i in cameras], dim=1)
    return Latent(values=(pixels + 1) * 127.5, valid=torch.cat(seen, dim=1).bool())


def names_of(size: Pi0Size | Pi05Size) -> tuple[Renamed, ...]:
    """The published names of a size's weights."""
    return pi05_names(size) if isinstance(size, Pi05Size) else pi0_names(size)


def size_of(case: GoldenCase) -> Pi0Size | Pi05Size:
    """The published size with the numbers of a recorded case."""
    made = case.meta["constructor"]
    made.demand({"pi05": case.system == "pi05", "hidden_activation": "gelu_pytorch_tanh"})
    language, expert = gemma_of(made["vlm_gemma"], made), gemma_of(made["action_expert_gemma"], made)
    num_actions, num = made["action_horizon"], made["action_dim"]
    words, steps = case.inputs["tokens"].shape[1], len(case.outputs["sample_velocities"])
    if case.system == "pi05":
        return replace(
            pi05_sizes.PUBLISHED,
            image=patches_of(case),
            text=replace(pi05_sizes.PUBLISHED.text, vocabulary=vocabulary_of(made), max_tokens=words, num_state=num),
            subtask=None,
            action=replace(pi05_sizes.PUBLISHED.action, num_actions=num_actions, action_size=num),
            language=language,
            expert=replace(expert, adaptive=True),
            denoising_steps=steps,
        )
    return replace(
        pi0_sizes.PUBLISHED,
        image=patches_of(case),
        text=TextTokens(vocabulary=vocabulary_of(made), max_tokens=words, scaled=True),
        state=StateToken(num_state=num),
        action=ActionTokens(num_actions=num_actions, action_size=num, control_hz=50.0, level_in_codec=True),
        language=language,
        expert=expert,
        denoising_steps=steps,
    )


def vocabulary_of(made: Named[Any]) -> PretrainedVocabulary:
    """The published words, as many as were recorded."""
    vocabulary = pi0_sizes.PUBLISHED.text.vocabulary
    assert isinstance(vocabulary, PretrainedVocabulary)
    return replace(vocabulary, size=made["vocab_size"])


def patches_of(case: GoldenCase) -> Patches:
    """The recorded vision model over the cameras of a case."""
    vision = case.meta["constructor"]["siglip"]
    vision.demand({"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6})
    num_cameras = sum(name.startswith("image_mask") for name in case.inputs)
    return Patches(
        cameras=tuple(f"camera_{index}" for index in range(num_cameras)),
        image_hw=(vision["image_size"], vision["image_size"]),
        patch=vision["patch_size"],
        depth=vision["num_hidden_layers"],
        vision_width=vision["hidden_size"],
        vision_mlp=vision["intermediate_size"],
        heads=vision["num_attention_heads"],
    )


def gemma_of(spec: Named[Any], made: Named[Any]) -> Gemma:
    """A recorded decoder."""
    return Gemma(
        width=spec["width"],
        mlp=spec["mlp_dim"],
        depth=spec["depth"],
        heads=spec["num_heads"],
        kv_heads=spec["num_kv_heads"],
        head_dim=spec["head_dim"],
        eps=made["rms_norm_eps"],
        theta=made["rope_theta"],
    )


def drifting(steps: int) -> tuple[Leg, ...]:
    """The recipe's Euler steps at openpi's times, which add -1/steps in float32 and so drift by about 1e-7; the
    fastest wave of pi0's time embedding turns that into 1e-4 rad."""
    times, step = [torch.tensor(1.0)], torch.tensor(-1.0 / steps)
    for _ in range(steps):
        times.append(times[-1] + step)
    return tuple(
        Denoise(streams=("action",), solver=Euler(steps=1, start=start.item(), stop=stop.item()))
        for start, stop in pairwise(times)
    )


@torch.no_grad()
def stepped(prepared: Prepared) -> dict[str, Tensor]:
    """The training step."""
    net, given, latents, level = prepared.net, prepared.case.inputs, prepared.latents, prepared.level
    inputs = prepared.inputs(prepared.order)
    answer = net.codec("action").read(net(inputs, {})["action"].hidden)
    target = velocity(given["actions"], given["noise"])
    noisy = Corrupted(latent=latents["action"].values, level=level, target=target)
    return {
        "train_velocity": answer,
        "train_loss_per_element": (answer - target) ** 2,
        "train_loss_mean": prepared.size.action_flow.loss(answer, noisy, latents["action"].valid).mean(),
        "x_t": latents["action"].values,
        "prefix_embs": torch.cat([inputs[name].tokens for name in prepared.prefix], dim=1),
        "suffix_embs": torch.cat([inputs[name].tokens for name in prepared.suffix], dim=1),
        "time_embedding": level_sinusoid(level, prepared.size.expert.width)[:, 0],
        "position_ids": torch.cat([inputs[name].places.index for name in prepared.order], dim=1),
    }


@torch.no_grad()
def _told(prepared: Prepared) -> dict[str, Tensor]:
    """The embedded level that the norms of pi0.5's expert are given."""
    frame = joint_of(prepared.net, "expert").frames["expert"]
    assert isinstance(frame, GemmaFrame)
    return {"adarms_cond": frame.told(prepared.level)[:, 0]} if frame.spec.adaptive else {}


@torch.no_grad()
def sampled(prepared: Prepared, legs: tuple[Leg, ...]) -> dict[str, Tensor]:
    """Acting from the recorded noise."""
    with hearing(prepared.net.get_submodule("codecs.action.leave")) as heard:
        actions = prepared.sample(legs)
    return {"sample_actions": actions, "sample_velocities": torch.stack(heard)}


@torch.no_grad()
def _cached(prepared: Prepared) -> dict[str, Tensor]:
    """The prefix run once, its keys and values, and the suffix that reads them."""
    net, inputs = prepared.net, prepared.inputs((*PREFIX, *prepared.suffix))
    prefix = net({name: inputs[name] for name in PREFIX}, {})
    suffix = net({name: inputs[name] for name in prepared.suffix}, prefix)
    found = {"cached_velocity": net.codec("action").read(suffix["action"].hidden)}
    for layer in range(prepared.size.language.depth):
        found[f"prefix_key_layer{layer}"] = _heads_first([prefix[name].keys[layer] for name in PREFIX])
        found[f"prefix_value_layer{layer}"] = _heads_first([prefix[name].values[layer] for name in PREFIX])
    return found


def _heads_first(parts: list[Tensor]) -> Tensor:
    return rearrange(torch.cat(parts, dim=1), "b n g d -> b g n d")


def masks(prepared: Prepared) -> dict[str, Tensor]:
    """Who reads whom: as a mask, and as openpi's flags, 1 where the token before does not read this one."""
    num = {name: latent.valid.shape[1] for name, latent in prepared.latents.items()}
    order = [(name, number) for name in prepared.order for number in range(num[name])]
    seen, pad = mask_between(prepared.net.layout, num, order), prepared.pad_mask
    flags = torch.cat([torch.zeros(1).bool(), ~seen.diagonal(offset=1)])
    return {
        "attention_mask": seen & pad[:, None, :] & pad[:, :, None],
        "att_flags": repeat(flags, "n -> b n", b=len(pad)),
        "pad_mask": pad,
    }
